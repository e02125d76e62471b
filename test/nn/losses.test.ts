// Losses against figures from NumPy, in float64:
//   logSoftmax(z) = z - max - log(sum(exp(z - max))); q = clip(p / sum(p), 1e-7, 1 - 1e-7)
//   crossEntropy = -sum(t * logSoftmax(z)); fromProbabilities = -sum(t * log(q))
//   binaryCrossEntropy = -mean(t * log(c) + (1 - t) * log(1 - c)), c = clip(p, 1e-7, 1 - 1e-7)
//   binaryCrossEntropyFromLogits = mean(max(x, 0) - x t + log1p(exp(-|x|))); meanSquaredError = mean((p - t)^2)
import { expect, test } from "vitest";
import { backward } from "../../src/autograd/tape.js";
import * as loss from "../../src/nn/losses.js";
import { ShapeError } from "../../src/tensor/errors.js";
import { scope } from "../../src/tensor/scope.js";
import { type NestedArray, tensor } from "../../src/tensor/tensor.js";
import { describeDevices } from "./small.js";

const ids = new Int32Array([1, 2]);
const soft = [
  [0.2, 0.5, 0.3],
  [0, 0.9, 0.1],
];
const logits = [
  [1, 2, -1],
  [0.5, -0.3, 0.2],
];
const probabilities = [
  [0.2, 0.5, 0.1],
  [0, 2, 2],
];
const binary = [
  [0.9, 0.1, 0],
  [0.3, 0.5, 1],
];
const binaryLogits = [
  [2, -40, 3],
  [0.1, -0.2, 50],
];
const binaryTargets = [
  [1, 0, 1],
  [0, 0.5, 1],
];

type Case = [
  name: string,
  loss: loss.Loss,
  prediction: NestedArray,
  target: NestedArray | Int32Array,
  perSample: number[],
];
const cases: Case[] = [
  ["crossEntropy, ids", loss.crossEntropy, logits, ids, [0.34901221676818633, 1.0839687492408236]],
  ["crossEntropy, soft", loss.crossEntropy, logits, soft, [1.4490122167681863, 1.5339687492408238]],
  [
    "from probabilities, ids",
    loss.crossEntropyFromProbabilities,
    probabilities,
    new Int32Array([1, 0]),
    [0.4700036292457356, 16.11809565095832],
  ],
  ["from probabilities, soft", loss.crossEntropyFromProbabilities, probabilities, soft, [1.1360931493507966, Math.LN2]],
  ["binaryCrossEntropy", loss.binaryCrossEntropy, binary, binaryTargets, [5.442938894091324, 0.34994074149956095]],
  [
    "binaryCrossEntropyFromLogits",
    loss.binaryCrossEntropyFromLogits,
    binaryLogits,
    binaryTargets,
    [0.058505120872238185, 0.48084517648505426],
  ],
  ["meanSquaredError", loss.meanSquaredError, binary, binaryTargets, [0.34, 0.03]],
];

describeDevices((device, kind) => {
  test.each(cases)("%s", async (_, fn, predictionValues, targetValues, expected) => {
    const prediction = tensor(device(), predictionValues);
    const target = tensor(device(), targetValues);
    const digits = kind === "cpu" ? 12 : 5;
    const perSample = scope(() => fn.perSample(prediction, target));
    const found = await perSample.data();
    expect(perSample.shape).toEqual([2]);
    // 1 - 1e-7 is no float32 number: what is clipped there is off by 2e-8.
    for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, digits);
    const mean = fn(prediction, target);
    expect(mean.shape).toEqual([]);
    expect(await mean.item()).toBeCloseTo((expected[0]! + expected[1]!) / 2, digits);
    for (const t of [prediction, target, perSample, mean]) t.dispose();
  });

  test.each(cases)("%s is NaN where its prediction is, and so is the gradient", async (_, fn, values, targetValues) => {
    const [first, second] = values as number[][];
    const prediction = tensor(device(), [[Number.NaN, ...first!.slice(1)], second!]);
    prediction.requiresGrad = true;
    const value = fn(prediction, tensor(device(), targetValues));
    backward(value);
    expect(await value.item()).toBeNaN();
    const gradient = await prediction.grad!.data();
    expect(gradient[0]).toBeNaN();
    expect(Array.from(gradient.slice(first!.length)).every(Number.isFinite)).toBe(true);
  });

  test.each(cases.filter(([name]) => name.endsWith("ids")))(
    "%s is NaN for ids that are no classes",
    async (_, fn, values) => {
      for (const id of [-1, 3, 2 ** 31 - 1]) {
        const prediction = tensor(device(), values);
        prediction.requiresGrad = true;
        const target = tensor(device(), Int32Array.of(1, id));
        const perSample = await fn.perSample(prediction, target).data();
        expect(Array.from(perSample, Number.isNaN)).toEqual([false, true]);
        const value = fn(prediction, target);
        backward(value);
        expect(await value.item()).toBeNaN();
        const gradient = await prediction.grad!.data();
        expect(Array.from(gradient, Number.isNaN)).toEqual([false, false, false, true, true, true]);
      }
    },
  );

  test.each(cases.filter(([, fn]) => !fn.classifies))("%s refuses targets of another shape", (_, fn, prediction) => {
    const wrong = () => scope(() => fn(tensor(device(), prediction), tensor(device(), ids)));
    expect(wrong).toThrow(ShapeError);
    expect(wrong).toThrow("needs an f32 target of the prediction's shape [2, 3], got i32 [2]");
  });
});
