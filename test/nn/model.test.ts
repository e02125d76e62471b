// Models: calling, logits, composition, gradients of inputs and weights, frozen layers.
import { expect, test } from "vitest";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { conv2d as conv2dOp } from "../../src/autograd/ops/conv2d.js";
import { add, relu, square } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { softmax } from "../../src/autograd/ops/softmax.js";
import { reshape } from "../../src/autograd/ops/transform.js";
import { backward, noGrad } from "../../src/autograd/tape.js";
import { compose, sequential } from "../../src/nn/architecture.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { avgPool2d, globalAvgPool2d, maxPool2d } from "../../src/nn/layers/pooling.js";
import { crossEntropy, meanSquaredError } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";
import { describeDevices, small, stripes, weightsOf } from "./small.js";

const batch = (device: Device, count: number) => tensor(device, stripes(count).inputs, { shape: [count, 6, 6, 1] });
const read = async (t: Tensor) => {
  const values = Array.from(await t.data());
  t.dispose();
  return values;
};

describeDevices((device) => {
  test("is its operations one after the other", async () => {
    const model = sequential({ device: device(), seed: 2, inputShape: [6, 6, 1] }, [
      conv2d({ filters: 3, kernelSize: 3, strides: 2, padding: "same" }),
      activation("relu"),
      flatten(),
      dense({ units: 4, activation: "softmax" }),
    ]);
    const x = batch(device(), 5);
    const [kernel, bias, matrix, offset] = model.weights().map(({ tensor: weight }) => weight);
    const [found, logits, expected] = noGrad(() =>
      scope(() => {
        const hidden = relu(conv2dOp(x, kernel!, { bias: bias!, strides: 2, padding: "same" }));
        const z = matmul(reshape(hidden, [5, 27]), matrix!, { bias: offset! });
        return [model.call(x), model.logits(x), softmax(z)] as const;
      }),
    );
    const values = await read(expected);
    expectClose(await read(found), values, { rtol: 1e-6 });
    const z = await read(logits);
    for (let n = 0; n < 5; n++) {
      const powers = z.slice(4 * n, 4 * n + 4).map(Math.exp);
      const sum = powers.reduce((a, b) => a + b);
      expectClose(
        powers.map((p) => p / sum),
        values.slice(4 * n, 4 * n + 4),
        { rtol: 1e-5 },
      );
    }
    model.dispose();
    x.dispose();
  });

  test("dropout changes with the step while training, and only then", async () => {
    const model = sequential({ device: device(), seed: 2, inputShape: [8] }, [dropout(0.5)]);
    const x = tensor(device(), new Float32Array(32).fill(1), { shape: [4, 8] });
    const at = (step: number) => scope(() => model.call(x, { training: true, step }));
    const [first, again, next] = [await read(at(7)), await read(at(7)), await read(at(8))];
    expect(new Set(first)).toEqual(new Set([0, 2]));
    expect(again).toEqual(first);
    expect(next).not.toEqual(first);
    const other = scope(() => model.call(x, { training: true }));
    const another = scope(() => model.call(x, { training: true }));
    expect(await read(other)).not.toEqual(await read(another));
    const inference = scope(() => model.call(x).alias());
    expect(await read(inference)).toEqual(new Array(32).fill(1));
    x.dispose();
  });

  test("gradients of the input flow through two models, and none to frozen weights", async () => {
    const classifier = small().build({ device: device(), seed: 3 });
    const generator = sequential({ device: device(), seed: 4, inputShape: [5], name: "generator" }, [
      dense({ units: 36, activation: "sigmoid" }),
      activation("tanh"),
    ]);
    const x = tensor(device(), [
      [0.1, -0.3, 0.5, 0.2, 1],
      [1, 0, -1, 0.4, 0.3],
    ]);
    const target = tensor(device(), new Int32Array([1, 3]));
    const loss = (input: Tensor) =>
      crossEntropy(classifier.logits(reshape(generator.call(input), [2, 6, 6, 1])), target);
    classifier.trainable = false;
    expect(classifier.parameters()).toEqual([]);
    generator.trainable = false;
    device().resetCounters();
    const { value, grad } = valueAndGrad(loss)(x);
    const frozen = new Map(device().counters.byKernel);
    expect(frozen.get("conv2dKernelGradient")).toBeUndefined();
    expect(frozen.get("conv2dInputGradient")).toBeGreaterThan(0);
    // Three dense layers forward, each with its input gradient; a weight gradient would be one more.
    expect(frozen.get("matmul")).toBe(6);
    const gradient = await read(grad);
    expect(Math.max(...gradient.map(Math.abs))).toBeGreaterThan(1e-4);
    expect(await read(value)).toEqual([expect.closeTo(1.4, 0)]);

    // The weights of the generator alone.
    generator.trainable = true;
    device().resetCounters();
    scope(() => backward(loss(x)));
    expect(classifier.weights().every(({ tensor: weight }) => weight.grad === null)).toBe(true);
    expect(generator.weights().every(({ tensor: weight }) => weight.grad !== null)).toBe(true);
    expect(device().counters.byKernel.get("conv2dKernelGradient")).toBeUndefined();
    for (const t of [x, target]) t.dispose();
    for (const model of [classifier, generator]) model.dispose();
  });

  test("a frozen batch normalisation keeps its statistics and uses them", async () => {
    const model = sequential({ device: device(), inputShape: [6, 6, 1] }, [batchNorm({ momentum: 0.5 }), flatten()]);
    const x = batch(device(), 3);
    const statistics = async () => (await weightsOf(model))["batch_normalization/movingMean"];
    model.trainable = false;
    const frozen = await read(scope(() => model.call(x, { training: true })));
    expect(await statistics()).toEqual([0]);
    expectClose(
      frozen,
      Array.from(await x.data(), (v) => v / Math.sqrt(1.001)),
      { rtol: 1e-6 },
    );
    model.trainable = true;
    const trained = await read(scope(() => model.call(x, { training: true }).alias()));
    const mean = Array.from(await x.data()).reduce((a, b) => a + b) / x.size;
    expect((await statistics())![0]).toBeCloseTo(mean / 2, 5);
    expect(trained.reduce((a, b) => a + b) / x.size).toBeCloseTo(0, 5);
    expect(model.countParameters()).toEqual({ total: 4, trainable: 2, nonTrainable: 2 });
    x.dispose();
    model.dispose();
  });

  test("composed models share their weights", async () => {
    const device_ = device();
    const first = sequential({ device: device_, seed: 1, inputShape: [2], name: "first" }, [dense({ units: 3 })]);
    const second = sequential({ device: device_, seed: 2, inputShape: [3], name: "second" }, [dense({ units: 1 })]);
    second.trainable = false;
    const both = compose([first, second]);
    expect(both.weights().map(({ name, trainable }) => [name, trainable])).toEqual([
      ["first/dense/kernel", true],
      ["first/dense/bias", true],
      ["second/dense/kernel", false],
      ["second/dense/bias", false],
    ]);
    const before = [await weightsOf(first), await weightsOf(second)];
    const x = tensor(device_, [[1, 2]]);
    const y = tensor(device_, [[5]]);
    const optimizer = sgd({ learningRate: 0.05 });
    const losses: number[] = [];
    for (let i = 0; i < 5; i++)
      losses.push(...(await read(both.trainStep(x, y, { optimizer, loss: meanSquaredError }))));
    expect(losses[4]).toBeLessThan(losses[0]!);
    const after = [await weightsOf(first), await weightsOf(second)];
    expect(after[0]).not.toEqual(before[0]);
    expect(after[1]).toEqual(before[1]);
    for (const t of [x, y]) t.dispose();
    both.dispose();
    expect(() => compose([second, first])).toThrow('"first" needs inputs [2], "second" gives [1]');
  });

  test("layerOutputs shows every layer", async () => {
    const model = small().build({ device: device(), seed: 1 });
    const x = batch(device(), 2);
    const outputs = noGrad(() => model.layerOutputs(x));
    expect(outputs.map(({ name, output }) => [name, output.shape])).toEqual(
      model.layers.map(({ name, placed }) => [name, [2, ...placed.outputShape]]),
    );
    const last = await outputs.at(-1)!.output.data();
    expect(Array.from(last)).toEqual(await read(noGrad(() => model.call(x))));
    for (const t of new Set([x, ...outputs.map(({ output }) => output)])) t.dispose();
    model.dispose();
  });

  test("an activation before a maximum pooling is applied after it, to the same end", async () => {
    const layers = [activation("relu"), maxPool2d(2)];
    const model = sequential({ device: device(), inputShape: [6, 6, 4] }, layers);
    const random = new RandomStream(3, "relu");
    const values = Float32Array.from({ length: 2 * 144 }, () => random.normal());
    const [x, apart] = [0, 1].map(() => tensor(device(), values, { shape: [2, 6, 6, 4] })) as [Tensor, Tensor];
    for (const leaf of [x, apart]) leaf.requiresGrad = true;
    const before = device().counters.dispatches;
    const y = model.call(x, { training: true });
    expect(device().counters.dispatches - before).toBe(1);
    const [, pooled] = model.layerOutputs(apart).map(({ output }) => output);
    for (const output of [y, pooled!]) backward(sum(square(output)));
    expect(await read(y)).toEqual(await read(pooled!));
    expect(await read(x.grad!)).toEqual(await read(apart.grad!));
    for (const t of [x, apart]) t.dispose();
  });

  test("refuses what does not fit", () => {
    const model = small().build({ device: device() });
    const image = tensor(device(), new Float32Array(36), { shape: [6, 6, 1] });
    expect(() => model.call(image)).toThrow(ShapeError);
    expect(() => model.call(image)).toThrow(
      "small: needs inputs [N, 6, 6, 1], got [6, 6, 1]; add the batch axis with reshape([1, 6, 6, 1])",
    );
    expect(() => model.layer("conv")).toThrow(UsageError);
    expect(() => model.layer("conv")).toThrow('has no layer "conv"; it has conv2d, batch_normalization');
    image.dispose();
    model.dispose();
  });
});

test("a whole network's gradients agree with finite differences", async () => {
  const model = sequential({ device: cpu, seed: 5, inputShape: [6, 6, 2] }, [
    conv2d({ filters: 3, kernelSize: 3, activation: "tanh", padding: "same", kernelL2: 0.01 }),
    batchNorm(),
    avgPool2d({ poolSize: 3, strides: 2 }),
    conv2d({ filters: 4, kernelSize: 2, activation: "softplus" }),
    globalAvgPool2d(),
    dense({ units: 5, activation: "gelu" }),
    dense({ units: 3, activation: "softmax" }),
  ]);
  const random = new RandomStream(1, "image");
  const values = Float64Array.from({ length: 4 * 72 }, () => random.normal());
  const target = tensor(cpu, new Int32Array([0, 2, 1, 1]));
  const loss = (x: Tensor) => add(crossEntropy(model.logits(x, { training: true, step: 0 }), target), model.penalty()!);
  const report = await gradcheck(loss, [{ shape: [4, 6, 6, 2], values }], { reference: cpu });
  expect(report.compared).toBe(4 * 72);

  // Weights: every element, by assigning to it.
  const x = tensor(cpu, values, { shape: [4, 6, 6, 2] });
  scope(() => backward(loss(x)));
  const eps = 1e-6;
  for (const { name, tensor: weight, trainable } of model.weights()) {
    if (!trainable) continue;
    const before = (await weight.data()).slice();
    const gradient = await weight.grad!.data();
    const numeric: number[] = [];
    for (let i = 0; i < weight.size; i++) {
      const sides: number[] = [];
      for (const side of [eps, -eps]) {
        weight.assign(before.with(i, before[i]! + side));
        sides.push(...(await read(noGrad(() => scope(() => loss(x))))));
      }
      numeric.push((sides[0]! - sides[1]!) / (2 * eps));
    }
    weight.assign(before);
    for (const [i, expected] of numeric.entries()) {
      expect(Math.abs(gradient[i]! - expected), `${name}[${i}]`).toBeLessThan(1e-5 + 1e-3 * Math.abs(expected));
    }
  }
  for (const t of [x, target]) t.dispose();
  model.dispose();
});
