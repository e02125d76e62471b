// Generators side by side are the networks of the definition, one input neuron and all; they fool, and move no weight
// of the classifier.
import { afterAll, beforeAll, expect, test } from "vitest";
import { clip } from "../../src/autograd/ops/elementwise.js";
import { noGrad } from "../../src/autograd/tape.js";
import { digits } from "../../src/data/digits.js";
import { classify } from "../../src/experiments/lib/training/classify.js";
import { type GeneratorOptions, generatorAdam, trainGenerators } from "../../src/inputs/generators.js";
import { copyKernel } from "../../src/kernels/copy.js";
import { compose, sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import { reshape } from "../../src/nn/layers/reshape.js";
import { crossEntropy, meanSquaredError } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import { scope } from "../../src/tensor/scope.js";
import { runInto, tensor } from "../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";

const SIZE = 28 * 28;
const { train, test: held } = digits({ seed: 1, trainCount: 1500, testCount: 100 });

let device: WebGpuDevice;
let model: Model;

beforeAll(async () => {
  device = await openDevice("webgpu");
  model = sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
    conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
    maxPool2d(2),
    flatten(),
    dense({ units: 10, activation: "softmax" }),
  ]);
  await model.fit(train, { optimizer: adam({ learningRate: 3e-3 }), loss: crossEntropy, epochs: 2 });
});
afterAll(() => device.destroy());

/** Generators from a test image that the classifier knows, to classes. */
async function options(targets: number[], change: Partial<GeneratorOptions> = {}): Promise<GeneratorOptions> {
  const { predicted } = await classify(model, held);
  const known = held.labels.findIndex((label, i) => label === predicted[i] && !targets.includes(label));
  const samples = new Float32Array(targets.length * SIZE);
  targets.forEach((_, i) => {
    samples.set(held.images.subarray(known * SIZE, (known + 1) * SIZE), i * SIZE);
  });
  const counts = { startSteps: 100, rounds: 20, fitSteps: 4, foolSteps: 8 };
  return {
    samples,
    targets: Int32Array.from(targets),
    seed: 0,
    ...counts,
    learningRate: 0.02,
    confidence: 0.9,
    ...change,
  };
}

test("images are answered with their targets, in [0, 1], closer than where they were first found", async () => {
  const given = await options([2, 5, 8]);
  const { images, confidence, firstRound, distances, course } = await trainGenerators(model, given);
  expect(images.every((pixel) => pixel >= 0 && pixel <= 1)).toBe(true);
  const labels = given.targets;
  const answers = await classify(model, { images, labels, count: 3, imageShape: [28, 28, 1] });
  expect(Array.from(answers.predicted)).toEqual([2, 5, 8]);
  for (const [i, share] of confidence.entries()) {
    expect(share).toBeGreaterThanOrEqual(0.9);
    expect(share).toBeCloseTo(answers.confidence[i]!, 4);
    expect(firstRound[i]).toBeGreaterThanOrEqual(1);
    const squares = images
      .subarray(i * SIZE, (i + 1) * SIZE)
      .reduce((sum, pixel, at) => sum + (pixel - given.samples[at]!) ** 2, 0);
    expect(distances.l2[i]).toBeCloseTo(Math.sqrt(squares), 4);
  }
  expect(course).toHaveLength(20);
  const found = course.findIndex(({ fooled }) => fooled === 3);
  expect(course.at(-1)!.meanL2).toBeLessThan(course[found]!.meanL2);
});

test("a generator is the network of the definition, trained literally", async () => {
  // One round: the classifier's own softmax, without a temperature. f: one input neuron, always 1, a dense layer whose
  // weights are the image. C o f shares its weights.
  const given = await options([7], { startSteps: 12, rounds: 1, foolSteps: 5, confidence: 0.999 });
  const generator = sequential({ device, seed: 0, inputShape: [1], name: "generator" }, [
    dense({
      units: SIZE,
      useBias: false,
      kernelInitializer: { name: "uniform", minimum: 0, maximum: Math.sqrt(6 / 785) },
    }),
    reshape([28, 28, 1]),
  ]);
  const composed = compose([generator, model]);
  const kernel = generator.parameters()[0]!;
  const one = tensor(device, [[1]]);
  const sample = tensor(device, given.samples, { shape: [1, 28, 28, 1] });
  const oneHot = tensor(device, [Array.from({ length: 10 }, (_, i) => (i === 7 ? 1 : 0))]);
  const limit = () => noGrad(() => scope(() => runInto(copyKernel, [clip(kernel, 0, 1)], [kernel], {})));

  // The batched form begins with other random weights; give both the same.
  const { images: begun } = await trainGenerators(model, { ...given, learningRate: 0, startSteps: 0 });
  kernel.assign(begun);
  const fitting = generatorAdam(0.05, 12);
  for (let step = 0; step < 12; step++) {
    generator.trainStep(one, sample, { optimizer: fitting, loss: meanSquaredError }).dispose();
    limit();
  }
  model.trainable = false;
  const fooling = generatorAdam(0.02, 5);
  for (let step = 0; step < 5; step++) {
    composed.trainStep(one, oneHot, { optimizer: fooling, loss: meanSquaredError }).dispose();
    limit();
  }
  model.trainable = true;
  const { images } = await trainGenerators(model, given);
  const literal = await generator.call(one).data();
  expectClose(images, literal, { rtol: 1e-4 });
  // Neither stayed where it was.
  expect(Math.max(...images.map((pixel, i) => Math.abs(pixel - begun[i]!)))).toBeGreaterThan(0.1);
});

test("a classifier that is sure of itself is fooled, too", async () => {
  // Ten times the logits: what was 99 % is 1 up to rounding, and other classes have hardly any gradient.
  const sure = sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
    conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
    maxPool2d(2),
    flatten(),
    dense({ units: 10, activation: "softmax" }),
  ]);
  for (const [i, { tensor: weight }] of sure.weights().entries()) {
    const values = await model.weights()[i]!.tensor.data();
    weight.assign(i < 2 ? values : values.map((value) => 10 * value));
  }
  const { firstRound } = await trainGenerators(sure, await options([1, 2, 3, 5, 8]));
  expect(firstRound.every((round) => round > 0)).toBe(true);
});

test("a generator's way does not depend on the others beside it", async () => {
  const few = { rounds: 2, startSteps: 20, foolSteps: 5 };
  const together = await trainGenerators(model, await options([7, 1, 4], few));
  const again = await trainGenerators(model, await options([7, 1, 4], few));
  expect(again.images).toEqual(together.images);
  const { samples } = await options([7, 1, 4]);
  const alone = await trainGenerators(model, { ...(await options([7], few)), samples: samples.slice(0, SIZE) });
  expectClose(alone.images, together.images.subarray(0, SIZE), { rtol: 1e-3 });
});

test("the classifier's weights cost no gradients and stay as they are; memory is given back", async () => {
  const before = await Promise.all(model.parameters().map((parameter) => parameter.data()));
  const bytes = device.memory().liveBytes;
  device.resetCounters();
  await trainGenerators(model, await options([2, 5], { rounds: 2 }));
  const { byKernel } = device.counters;
  expect(byKernel.get("convPoolInputGradient")).toBeGreaterThanOrEqual(16);
  expect([...byKernel.keys()].filter((name) => /KernelGradient|Gradients/.test(name))).toEqual([]);
  expect(device.memory().liveBytes).toBe(bytes);
  expect(model.parameters()).toHaveLength(4);
  expect(await Promise.all(model.parameters().map((parameter) => parameter.data()))).toEqual(before);
});

test("what does not fit is refused", async () => {
  const given = await options([2]);
  await expect(trainGenerators(model, { ...given, targets: Int32Array.of(10) })).rejects.toThrow("target from 0 to 9");
  await expect(trainGenerators(model, { ...given, samples: new Float32Array(5) })).rejects.toThrow("got 5 values");
  await expect(trainGenerators(model, { ...given, rounds: 0 })).rejects.toThrow("rounds must be");
});
