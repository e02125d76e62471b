// nn.adapt: mean and variance of data for normalisation layers. The figures of a small example are Keras 3.15.1's.
import { expect, test } from "vitest";
import { adapt } from "../../src/nn/adapt.js";
import { model as graph, sequential } from "../../src/nn/architecture.js";
import { input } from "../../src/nn/graph.js";
import { dense } from "../../src/nn/layers/dense.js";
import { add } from "../../src/nn/layers/merging.js";
import { normalization, rescaling } from "../../src/nn/layers/preprocessing.js";
import type { Model } from "../../src/nn/model.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { expectClose } from "../support.js";
import { formula } from "./formula.js";
import { describeDevices } from "./small.js";

const weight = async (model: Model, layer: string, name: string) =>
  Array.from(await model.layer(layer).weights[name]!.data());

describeDevices((device, kind) => {
  const rtol = kind === "cpu" ? 1e-12 : 1e-6;

  test("finds Keras's mean and variance, and undoes what it does", async () => {
    // keras.layers.Normalization().adapt([[0, 7, 4], [2, 9, 6], [0, 7, 4], [2, 9, 6]])
    const data = Float32Array.of(0, 7, 4, 2, 9, 6, 0, 7, 4, 2, 9, 6);
    for (const invert of [false, true]) {
      const net = sequential({ device: device(), inputShape: [3] }, [normalization({ invert })]);
      await adapt(net, data);
      expect(await weight(net, "normalization", "mean")).toEqual([1, 8, 5]);
      expect(await weight(net, "normalization", "variance")).toEqual([1, 1, 1]);
      const { data: found } = await net.predict(Float32Array.of(1, 2, 3));
      expect(Array.from(found)).toEqual(invert ? [2, 10, 8] : [0, -6, -2]);
      net.dispose();
    }
  });

  test.each<[string, number | number[] | null, number[]]>([
    ["channels", -1, [2]],
    ["all", null, []],
    ["positions", [1, 2], [3, 2]],
  ])("over %s, in batches of any size and kind", async (_, axis, shape) => {
    const values = formula([7, 3, 2], 3, 4).map((value) => value + 100);
    const net = sequential({ device: device(), inputShape: [3, 2] }, [normalization({ axis })]);
    const groups = new Map<number, number[]>();
    const size = shape.reduce((product, n) => product * n, 1);
    for (const [i, value] of values.entries()) groups.set(i % size, [...(groups.get(i % size) ?? []), value]);
    const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    const means = [...groups.values()].map(mean);
    const variances = [...groups.values()].map((list) => mean(list.map((value) => (value - mean(list)) ** 2)));
    const batch = (from: number, to: number) => Float32Array.from(values.slice(6 * from, 6 * to));
    const onDevice = tensor(device(), batch(0, 7), { shape: [7, 3, 2] });
    for (const [data, options] of [
      [batch(0, 7), {}],
      [batch(0, 7), { batchSize: 3 }],
      [[batch(0, 2), batch(2, 6), batch(6, 7)], {}],
      [onDevice, {}],
    ] as const) {
      await adapt(net, data as never, options);
      expect(net.weights().map(({ tensor: { shape: own } }) => [...own])).toEqual([shape, shape]);
      expectClose(await weight(net, "normalization", "mean"), means, { rtol });
      expectClose(await weight(net, "normalization", "variance"), variances, { rtol: 10 * rtol });
    }
    onDevice.dispose();
    net.dispose();
  });

  test("goes through layers before it, one normalisation after the other, and several inputs", async () => {
    const [a, b] = [input({ shape: [2], name: "a" }), input({ shape: [2], name: "b" })];
    const scaled = normalization({ name: "first" })(rescaling({ scale: 2, offset: 1 })(a));
    const second = normalization({ name: "second" })(add()([scaled, b]));
    const net = graph({ device: device(), inputs: [a, b], outputs: dense({ units: 1 })(second) });
    await adapt(net, { a: [1, 2, 3, 4], b: [10, 20, 30, 60] });
    expect(await weight(net, "first", "mean")).toEqual([5, 7]);
    expect(await weight(net, "first", "variance")).toEqual([4, 4]);
    // -1 and 1 of the first, plus b.
    expectClose(await weight(net, "second", "mean"), [20, 40], { rtol });
    expectClose(await weight(net, "second", "variance"), [121, 441], { rtol });
    net.dispose();
  });

  test("refuses what has nothing to adapt, or to adapt to", async () => {
    const net = sequential({ device: device(), inputShape: [2] }, [normalization()]);
    await expect(adapt(net, new Float32Array(0))).rejects.toThrow(UsageError);
    await expect(adapt(net, new Float32Array(3))).rejects.toThrow(ShapeError);
    await expect(adapt(net, [])).rejects.toThrow(UsageError);
    const other = sequential({ device: device(), inputShape: [2] }, [normalization({ mean: 0, variance: 1 })]);
    await expect(adapt(other, new Float32Array(2))).rejects.toThrow(/needs a layer nn.normalization\(\) to adapt/);
    for (const each of [net, other]) each.dispose();
  });
});
