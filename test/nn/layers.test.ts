// Every layer, by the table of layer-cases.ts:
// - Keras's numbers,
// - gradients by finite differences,
// - the same on both devices and both families of kernels,
// - NaN and empty batches,
// - files, freezing, summaries, and Keras's words.
import { afterAll, describe, expect, test } from "vitest";
import { gradcheck, gradgradcheck } from "../../src/autograd/gradcheck.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { backward, noGrad } from "../../src/autograd/tape.js";
import { encodeModel, loadModel } from "../../src/nn/checkpoint.js";
import { toKerasConfig } from "../../src/nn/formats/keras.js";
import { architectureFromConfig, fromConfig } from "../../src/nn/from-config.js";
import { layerClasses } from "../../src/nn/layers/registry.js";
import type { Model } from "../../src/nn/model.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream, randomKey } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, evaluate, expectClose, expectEachClose, type Input } from "../support.js";
import { type LayerCase, layerCases } from "./layer-cases.js";
import { describeDevices } from "./small.js";

const values = (t: Tensor) => t.data().then((data) => Array.from(data));

/** A model of the layer alone, with the weights of the table. */
function built({ model, weightValues }: LayerCase, device: Device): Model {
  const net = fromConfig(model, { device });
  for (const [i, { tensor: weight }] of net.weights().entries()) weight.assign(weightValues[i]![2]);
  return net;
}

const inputsOf = ({ inputs, values }: LayerCase, device: Device): Tensor[] =>
  inputs.map((shape, i) => tensor(device, values[i]!, { shape }));

/** The layer as a function of its inputs and then its trained weights; others are constants. */
function asFunction(layerCase: LayerCase, training: boolean) {
  const { inputs, weightValues } = layerCase;
  const layer = layerCase.make();
  const [first, ...others] = inputs.map((shape) => shape.slice(1));
  const specs = layer.weights(first!, ...others);
  const trained = specs.filter((spec) => spec.trainable);
  return (...tensors: Tensor[]): Tensor => {
    const given = tensors.slice(0, inputs.length);
    const { device } = tensors[0]!;
    const weights = specs.map(({ name, trainable, shape }, i) => [
      name,
      trainable
        ? tensors[inputs.length + trained.findIndex((spec) => spec.name === name)]!
        : tensor(device, weightValues[i]![2], { shape }),
    ]);
    const context = { training, key: () => randomKey(1, "layer"), omitActivation: false, inputs: given };
    return layer.call(given[0]!, Object.fromEntries(weights), context);
  };
}

/** Normal numbers, or ids, then the trained weights. */
function drawn({ inputs, ids, values, weightValues, make, title }: LayerCase): Input[] {
  const random = new RandomStream(5, title);
  const [first, ...others] = inputs.map((shape) => shape.slice(1));
  const trained = make()
    .weights(first!, ...others)
    .map(({ trainable }) => trainable);
  return [
    ...inputs.map((shape, i): Input => {
      const normal = () => Float32Array.from(values[i]!, () => random.normal());
      return { shape, values: ids === undefined ? normal() : values[i]!, dtype: "f32" };
    }),
    ...weightValues.flatMap(([, shape, numbers], i): Input[] =>
      trained[i] ? [{ shape, values: numbers, dtype: "f32" }] : [],
    ),
  ];
}

test("the table has every class of the registry", () => {
  const there = new Set(layerCases.map(({ layer }) => layer));
  expect(layerClasses.map(({ className }) => className).filter((name) => !there.has(name))).toEqual([]);
});

describe("on the reference", () => {
  test.each(layerCases)("$title gives Keras's numbers", async (layerCase) => {
    const net = built(layerCase, cpu);
    const y = noGrad(() => net.callAll(inputsOf(layerCase, cpu))[0]!);
    expect(y.shape).toEqual(layerCase.output.shape);
    expectClose(await values(y), layerCase.output.values, { rtol: 1e-9 });
    net.dispose();
  });

  test.each(layerCases)("gradients of $title", async (layerCase) => {
    for (const training of [false, true]) {
      const leaves = drawn(layerCase);
      // Ids have no gradient: they are constants.
      const fixed = layerCase.ids === undefined ? 0 : layerCase.inputs.length;
      const constants = leaves.slice(0, fixed);
      const fn = asFunction(layerCase, training);
      const given = leaves.slice(fixed);
      await gradcheck(
        (...tensors) =>
          fn(...constants.map(({ values: ids, shape }) => tensor(tensors[0]!.device, ids, { shape })), ...tensors),
        given.map(({ shape, values: numbers }) => ({ shape, values: numbers })),
      );
    }
  });

  test.each(layerCases)("gradients of gradients of $title", async (layerCase) => {
    const leaves = drawn(layerCase);
    const fixed = layerCase.ids === undefined ? 0 : layerCase.inputs.length;
    const constants = leaves.slice(0, fixed);
    const fn = asFunction(layerCase, false);
    await gradgradcheck(
      (...tensors) =>
        fn(...constants.map(({ values: ids, shape }) => tensor(tensors[0]!.device, ids, { shape })), ...tensors),
      leaves.slice(fixed).map(({ shape, values: numbers }) => ({ shape, values: numbers })),
    );
  });

  test.each(layerCases)("$title has Keras's words", ({ config, model, layer }) => {
    const written = toKerasConfig(model).config["layers"] as { class_name: string; config: Record<string, unknown> }[];
    const { class_name: className, config: words } = written.find((each) => each.config["name"] === "layer")!;
    expect(className).toBe(layer);
    for (const [written, value] of Object.entries(words)) {
      // The older name, which every version takes.
      const name = layer === "LeakyReLU" && written === "alpha" ? "negative_slope" : written;
      // Keras names what it knows, nothing included; the axis of attention only once it is built.
      if (["name", "dtype", "trainable", "attention_axes"].includes(name) || (value === null && !(name in config)))
        continue;
      expect(Object.keys(config), `${layer} of Keras has no ${name}`).toContain(name);
      expect(plain(value), `${layer}: ${name}`).toEqual(plain(config[name]));
    }
  });

  test.each(layerCases)("$title is summarised and counted as in Keras", ({ model, weights, layer }) => {
    const net = architectureFromConfig(model);
    const own = weights.filter(([name]) => name !== "count");
    const count = own.reduce((total, [, shape]) => total + shape.reduce((product, size) => product * size, 1), 0);
    expect(net.countParameters().total).toBe(count);
    expect(net.summary()).toContain(`(${layer})`);
    expect(net.layers[0]!.weights.map(({ shape }) => [...shape])).toEqual(own.map(([, shape]) => shape));
  });
});

/** What both libraries write differently for one thing. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 1 ? plain(value[0]) : value.map(plain);
  if (typeof value !== "object" || value === null) return value ?? null;
  const { class_name: className, config } = value as { class_name?: unknown; config?: Record<string, unknown> };
  if (className === undefined) return value;
  // Zeros and Ones are constants.
  if (className === "Zeros") return { className: "Constant", config: { value: 0 } };
  if (className === "Ones") return { className: "Constant", config: { value: 1 } };
  const given = Object.entries(config ?? {}).filter(([, part]) => part !== null);
  return { className, config: Object.fromEntries(given) };
}

describeProfiles((device) => {
  const opened: Model[] = [];
  afterAll(() => {
    for (const net of opened) net.dispose();
  });

  test.each(layerCases)("$title gives Keras's numbers", async (layerCase) => {
    const net = built(layerCase, device());
    opened.push(net);
    const y = scope(() => noGrad(() => net.callAll(inputsOf(layerCase, device()))[0]!));
    expect(y.shape).toEqual(layerCase.output.shape);
    expectClose(await values(y), layerCase.output.values, { rtol: 1e-5 });
  });

  test.each(layerCases)("$title is as on the reference, while training, too", async (layerCase) => {
    for (const training of [false, true]) {
      const fn = asFunction(layerCase, training);
      const [found, expected] = [
        await evaluate(device(), fn, drawn(layerCase)),
        await evaluate(cpu, fn, drawn(layerCase)),
      ];
      const label = training ? "training" : "inference";
      expectEachClose(found.value, expected.value, { rtol: 1e-5, atol: 1e-5, label });
      for (const [i, gradient] of expected.gradients.entries()) {
        expect(found.gradients[i] === undefined).toBe(gradient === undefined);
        if (gradient)
          expectEachClose(found.gradients[i]!, gradient, { rtol: 1e-4, atol: 1e-4, label: `${label} ${i}` });
      }
    }
  });

  test.each(layerCases)("$title lets NaN through", async (layerCase) => {
    const found = [];
    for (const on of [cpu, device()]) {
      const net = built(layerCase, on);
      // In the middle of the first sample, which no cropping leaves out, of the last input.
      const inputs = layerCase.values.map((numbers, i) =>
        i < layerCase.values.length - 1
          ? numbers
          : numbers.with(Math.floor(numbers.length / layerCase.inputs[i]![0]! / 2), Number.NaN),
      );
      const tensors = inputs.map((numbers, i) => tensor(on, numbers, { shape: layerCase.inputs[i]! }));
      const y = scope(() => noGrad(() => net.callAll(tensors)[0]!));
      found.push(await values(y));
      for (const t of new Set([y, ...tensors])) t.dispose();
      net.dispose();
    }
    const [expected, actual] = found as [number[], number[]];
    expect(expected.some(Number.isNaN)).toBe(true);
    expectEachClose(actual, expected, { rtol: 1e-4, atol: 1e-5 });
  });
});

describeDevices((device) => {
  test.each(layerCases)("$title takes an empty batch", async (layerCase) => {
    const net = built(layerCase, device());
    const none = layerCase.inputs.map((shape) => tensor(device(), [], { shape: shape.with(0, 0) }));
    const y = scope(() => noGrad(() => net.callAll(none)[0]!));
    expect(y.shape).toEqual([0, ...net.outputShape]);
    expect(await values(y)).toEqual([]);
    for (const t of new Set([y, ...none])) t.dispose();
    net.dispose();
  });

  test.each(layerCases)("$title is saved, loaded and frozen", async (layerCase) => {
    const net = built(layerCase, device());
    const inputs = inputsOf(layerCase, device());
    const answer = async (of: Model) => {
      const y = scope(() => noGrad(() => of.callAll(inputs)[0]!));
      const found = await values(y);
      if (!inputs.includes(y)) y.dispose();
      return found;
    };
    const expected = await answer(net);
    // Keras drops several axes when it reads .h5, so that format refuses them.
    const { axis } = layerCase.config as { axis?: unknown };
    const severalAxes = Array.isArray(axis) && axis.length > 1;
    for (const format of ["safetensors", severalAxes ? "keras" : "keras-h5"]) {
      const again = await loadModel(await encodeModel(net, { format }), { device: device() });
      expect(await answer(again), format).toEqual(expected);
      expect(again.config()).toEqual(net.config());
      again.dispose();
    }
    net.trainable = false;
    expect(net.parameters()).toEqual([]);
    const frozen = fromConfig(net.config(), { device: device() });
    expect(frozen.trainable).toBe(false);
    if (layerCase.ids === undefined) {
      for (const x of inputs) x.requiresGrad = true;
      scope(() => backward(sum(net.callAll(inputs)[0]!)));
      expect(inputs.map((x) => x.grad === null)).toEqual(inputs.map(() => false));
      expect(net.weights().filter(({ tensor: weight }) => weight.grad !== null)).toEqual([]);
    }
    for (const t of inputs) t.dispose();
    for (const each of [net, frozen]) each.dispose();
  });
});
