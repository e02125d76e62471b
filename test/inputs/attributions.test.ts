// Attributions: Captum's numbers, completeness, and nothing computed for weights.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as listed from "../../src/inputs/attribution/index.js";
import {
  deletionCurve,
  gradCam,
  guidedBackprop,
  inputTimesGradient,
  integratedGradients,
  interpolate,
  occlusion,
  saliency,
  smoothGrad,
} from "../../src/inputs/attribution/index.js";
import { gaussLegendre } from "../../src/inputs/attribution/integrated-gradients.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Model } from "../../src/nn/model.js";
import type { Device } from "../../src/tensor/device.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { cpu, describeProfiles, expectClose } from "../support.js";

type Golden = Readonly<Record<string, readonly number[]>>;
const golden: Golden = JSON.parse(readFileSync(new URL("captum-attributions.json", import.meta.url), "utf8"));

/** As captum-attributions.py makes them: sin(a i + b) / c. */
const sines = (shape: readonly number[], [a, b, c]: readonly [number, number, number]) =>
  Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(a * i + b) / c);

const x = sines([2, 5, 5, 2], [0.37, 0.7, 1]);
const baseline = sines([5, 5, 2], [0.53, 0.9, 2]);
const target = [1, 2];

/** Gives the weights the values that captum-attributions.py gives them. */
function fillWithSines(model: Model): void {
  const formulas = [
    [1.3, 0.1, 1.5],
    [0.7, 0.2, 4],
    [0.9, 0.3, 2],
    [1.1, 0.4, 3],
    [1.7, 0.5, 1],
    [0.6, 0.6, 2],
  ] as const;
  for (const [i, { tensor }] of model.weights().entries()) tensor.assign(sines(tensor.shape, formulas[i]!));
}

function network(device: Device, last: "linear" | "softmax" = "linear"): Model {
  const model = sequential({ device, inputShape: [5, 5, 2] }, [
    conv2d({ filters: 3, kernelSize: 3, activation: "tanh" }),
    flatten(),
    dense({ units: 4, activation: "tanh" }),
    dense({ units: 3, activation: last }),
  ]);
  fillWithSines(model);
  return model;
}

/** Of ReLUs, one of them a layer of its own. */
function rectified(device: Device): Model {
  const model = sequential({ device, inputShape: [5, 5, 2] }, [
    conv2d({ filters: 3, kernelSize: 3, activation: "relu", name: "first" }),
    conv2d({ filters: 4, kernelSize: 2, name: "second" }),
    activation("relu"),
    flatten(),
    dense({ units: 3, activation: "softmax" }),
  ]);
  fillWithSines(model);
  return model;
}

function sameAsCaptum(device: () => Device, rtol: number) {
  const close = (actual: Float32Array, name: string) => expectClose(actual, golden[name]!, { rtol, label: name });

  test("saliency, with and without the sign, of logits and of what the softmax gives", async () => {
    const model = network(device());
    const found = await saliency(model, x, { target });
    expect(found.shape).toEqual([2, 5, 5, 2]);
    close(found.values, "saliency");
    expectClose(found.outputs, [golden["logits"]![1]!, golden["logits"]![5]!], { rtol });
    close((await saliency(model, x, { target: Int32Array.from(target), absolute: false })).values, "signedSaliency");
    const soft = network(device(), "softmax");
    close((await saliency(soft, x, { target })).values, "saliency");
    close((await saliency(soft, x, { target, of: "outputs" })).values, "saliencyOfOutputs");
  });

  test("input times gradient", async () => {
    close((await inputTimesGradient(network(device()), x, { target })).values, "inputTimesGradient");
  });

  test("integrated gradients, from a baseline, and with too few steps", async () => {
    const model = network(device());
    const found = await integratedGradients(model, x, { target, baseline });
    close(found.values, "integratedGradients");
    for (const delta of found.delta) expect(Math.abs(delta)).toBeLessThan(1e-4);
    const few = await integratedGradients(model, { inputs: x }, { target, steps: 1, batchSize: 1 });
    close(few.values, "oneStep");
    // What is wrong with one step is wrong by as much as with Captum, and far more than rounding.
    expectClose(few.delta, golden["oneStepDelta"]!, { rtol: 0.02 });
    expect(Math.max(...few.delta.map(Math.abs))).toBeGreaterThan(1e-3);
    expect([found.incomplete, few.incomplete]).toEqual([[], [0, 1]]);
  });

  test("guided backpropagation, through ReLUs of layers and as layers", async () => {
    const found = await guidedBackprop(rectified(device()), x, { target });
    expect(found.shape).toEqual([2, 5, 5, 2]);
    close(found.values, "guidedBackprop");
  });

  test("Grad-CAM of a layer in the middle, and enlarged", async () => {
    const model = rectified(device());
    const found = await gradCam(model, x, { target, layer: "first" });
    expect(found.shape).toEqual([2, 3, 3, 1]);
    close(found.values, "gradCam");
    close((await gradCam(model, x, { target, layer: "first", relu: true, batchSize: 1 })).values, "gradCamRelu");
    const large = interpolate(found, { size: [7, 5] });
    expect(large.shape).toEqual([2, 7, 5, 1]);
    close(large.values, "nearest");
    close(interpolate(found, { size: [7, 5], mode: "bilinear" }).values, "bilinear");
  });

  test("occlusion, with and without strides and a baseline", async () => {
    const model = network(device());
    close((await occlusion(model, x, { target, slidingWindowShape: [2, 2, 1] })).values, "occlusion");
    const options = { target, slidingWindowShape: [3, 2, 2], strides: [2, 2, 1], baseline, batchSize: 1 };
    close((await occlusion(model, x, options)).values, "occlusionWithStrides");
  });
}

describe("the reference", () => sameAsCaptum(() => cpu, 1e-5));
describeProfiles((device) => sameAsCaptum(device, 1e-4));

describe("SmoothGrad", () => {
  test("is Captum's, its mean square and its variance too", async () => {
    const model = network(cpu);
    // The standard error of 3,000 samples, against Captum's 20,000.
    const options = { target, samples: 3000, standardDeviation: 0.3 };
    for (const [kind, name] of [
      ["smoothgrad", "smoothGrad"],
      ["smoothgrad_sq", "smoothGradSquared"],
      ["vargrad", "varGrad"],
    ] as const) {
      const found = await smoothGrad(model, x, { ...options, kind });
      expectClose(found.values, golden[name]!, { rtol: 0.07, label: name });
      expectClose(found.outputs, [golden["logits"]![1]!, golden["logits"]![5]!], { rtol: 1e-5 });
    }
  });

  test("is the saliency without noise, and with it depends on the seed and the image's place alone", async () => {
    const model = network(cpu);
    const { values } = await saliency(model, x, { target });
    expectClose((await smoothGrad(model, x, { target, standardDeviation: 0 })).values, values, { rtol: 1e-6 });
    const noisy = await smoothGrad(model, x, { target, seed: 3, batchSize: 2 });
    expect((await smoothGrad(model, x, { target, seed: 3, batchSize: 1 })).values).toEqual(noisy.values);
    expect((await smoothGrad(model, x, { target, seed: 4 })).values).not.toEqual(noisy.values);
    const twice = Float32Array.from([...x.subarray(0, 50), ...x.subarray(0, 50)]);
    const { values: both } = await smoothGrad(model, twice, { target: 1 });
    expect(both.subarray(0, 50)).not.toEqual(both.subarray(50));
  });
});

describe("deletion curves", () => {
  // The answer is 3 a + 2 b + c.
  const sum = () => {
    const model = sequential({ device: cpu, inputShape: [1, 3, 1] }, [flatten(), dense({ units: 1 })]);
    model.weights()[0]!.tensor.assign(Float32Array.of(3, 2, 1));
    return model;
  };
  const inputs = new Float32Array(6).fill(1);

  test("take away what counts most first, each input by its own attribution", async () => {
    const attribution = Float32Array.of(3, 2, 1, 1, 2, 3);
    const found = await deletionCurve(sum(), inputs, { attribution, steps: 3, of: "logits" });
    expectClose(found.deleted, [0, 1 / 3, 2 / 3, 1], { rtol: 1e-6 });
    expect(Array.from(found.answers)).toEqual([6, 3, 1, 0, 6, 5, 3, 0]);
    expectClose(found.areas, [(3 + 3 + 1) / 3, (3 + 5 + 3) / 3], { rtol: 1e-6 });
    const batches = await deletionCurve(sum(), inputs, { attribution, steps: 3, of: "logits", batchSize: 1 });
    expect(batches).toEqual(found);
    const replaced = await deletionCurve(sum(), inputs, { attribution, steps: 1, of: "logits", baseline: 2 });
    expect(Array.from(replaced.answers)).toEqual([6, 12, 6, 12]);
  });

  test("fall sooner by attributions of the model than by their opposite, for probabilities", async () => {
    const model = rectified(cpu);
    const { values } = await occlusion(model, x, { target, slidingWindowShape: [2, 2, 2] });
    const best = await deletionCurve(model, x, { target, attribution: values });
    const worst = await deletionCurve(model, x, { target, attribution: values.map((value) => -value) });
    for (const image of [0, 1]) expect(best.areas[image]).toBeLessThan(worst.areas[image]!);
    expect(best.answers.every((p) => p >= 0 && p <= 1)).toBe(true);
    const map = await gradCam(model, x, { target, layer: "first" });
    const enlarged = interpolate(map, { size: [5, 5] });
    expect((await deletionCurve(model, x, { target, attribution: enlarged.values, steps: 4 })).answers).toHaveLength(
      10,
    );
    await expect(deletionCurve(model, x, { target, attribution: map.values })).rejects.toThrow(
      "an attribution must have 100 values [N, 5, 5, 2], or 50 for whole pixels, got 18",
    );
  });
});

test("every listed attribution is tried on both kernel families, or said to need none", () => {
  const withoutModel = ["interpolate"];
  const tried = [saliency, inputTimesGradient, integratedGradients, guidedBackprop, gradCam, occlusion];
  const onTheReference = [smoothGrad, deletionCurve];
  const names = [...tried, ...onTheReference].map(({ name }) => name);
  expect([...names, ...withoutModel].sort()).toEqual(Object.keys(listed).sort());
});

test("completeness: attributions sum to the difference of the answers, whatever the baseline", async () => {
  const model = network(cpu);
  const each = Float32Array.from({ length: 100 }, (_, i) => Math.cos(i));
  for (const from of [0, 0.7, baseline, each]) {
    const { values, outputs, delta } = await integratedGradients(model, x, { target, baseline: from });
    const starts = typeof from === "number" ? new Float32Array(100).fill(from) : from;
    const two = starts.length === 100 ? starts : Float32Array.from([...starts, ...starts]);
    const { outputs: before } = await saliency(model, two, { target });
    for (const image of [0, 1]) {
      const sum = values.subarray(50 * image, 50 * (image + 1)).reduce((a, b) => a + b, 0);
      expect(sum).toBeCloseTo(outputs[image]! - before[image]!, 4);
      expect(delta[image]).toBeCloseTo(0, 4);
    }
  }
});

test("of a linear model all are its weights, times the inputs", async () => {
  const model = sequential({ device: cpu, inputShape: [3] }, [dense({ units: 1 })]);
  model.weights()[0]!.tensor.assign(Float32Array.of(2, -1, 0.5));
  const inputs = Float32Array.of(1, 2, 3);
  // A model of one output needs no target.
  expect(Array.from((await saliency(model, inputs)).values)).toEqual([2, 1, 0.5]);
  expect(Array.from((await inputTimesGradient(model, inputs)).values)).toEqual([2, -2, 1.5]);
  expectClose((await integratedGradients(model, inputs, { steps: 1 })).values, [2, -2, 1.5], { rtol: 1e-6 });
});

test("weights cost no gradients, stay trainable, and memory is given back", async () => {
  const model = network(cpu);
  cpu.resetCounters();
  const before = cpu.memory().liveBytes;
  await integratedGradients(model, x, { target, steps: 4 });
  expect([...cpu.counters.byKernel.keys()].filter((name) => /KernelGradient/.test(name))).toEqual([]);
  // To its input each: three layers forward and back at four points, and forward at both ends.
  expect(cpu.counters.byKernel.get("conv2dInputGradient")).toBe(4);
  expect(cpu.counters.byKernel.get("conv2d")).toBe(6);
  expect(model.parameters()).toHaveLength(6);
  expect(cpu.memory().liveBytes).toBe(before);
});

test("Gauss and Legendre's rule is exact for polynomials up to degree 2n - 1", () => {
  for (const n of [1, 2, 3, 10, 50, 300]) {
    const { nodes, weights } = gaussLegendre(n);
    expect(nodes.every((node, i) => node > (nodes[i - 1] ?? 0) && node < 1)).toBe(true);
    for (const degree of [0, 1, Math.min(2 * n - 1, 40)]) {
      const integral = nodes.reduce((sum, node, i) => sum + weights[i]! * node ** degree, 0);
      expect(integral, `${n} points, x^${degree}`).toBeCloseTo(1 / (degree + 1), 13);
    }
  }
  // The rule of two points, in closed form.
  expectClose(gaussLegendre(2).nodes, [0.5 - 0.5 / Math.sqrt(3), 0.5 + 0.5 / Math.sqrt(3)], { rtol: 1e-15 });
});

test("what does not fit is refused", async () => {
  const model = network(cpu);
  await expect(saliency(model, x)).rejects.toThrow("target is required, one of the outputs 0 to 2");
  await expect(saliency(model, x, { target: 3 })).rejects.toThrow("target must be an output from 0 to 2, got 3");
  await expect(saliency(model, x, { target: [0, 1, 2] })).rejects.toThrow("one for each of 2 inputs, got 3");
  await expect(saliency(model, new Float32Array(7), { target: 0 })).rejects.toThrow("got 7 values");
  await expect(saliency(model, x, { target: 0, abs: false } as never)).rejects.toThrow("abs");
  await expect(inputTimesGradient({} as Model, x, { target: 0 })).rejects.toThrow("must be a model");
  await expect(integratedGradients(model, x, { target: 0, steps: 0 })).rejects.toThrow("steps must be");
  await expect(gradCam(model, x, { target: 0, layer: "nowhere" })).rejects.toThrow('has no layer "nowhere"');
  await expect(occlusion(model, x, { target: 0, slidingWindowShape: [2, 2] })).rejects.toThrow("needs a window within");
  await expect(occlusion(model, x, { target: 0, slidingWindowShape: [2, 2, 2], strides: 3 })).rejects.toThrow(
    "strides must not be longer than the window",
  );
  await expect(smoothGrad(model, x, { target: 0, samples: 0 })).rejects.toThrow("samples must be");
  await expect(integratedGradients(model, x, { target: 0, baseline: new Float32Array(3) })).rejects.toThrow(
    "a baseline must be one input [5, 5, 2] or one for each of 2, got 3 values",
  );
});
