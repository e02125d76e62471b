// The procedural digits: reproducible, quick, learnable, and too hard for a linear model; and the views of a data set.

import { beforeAll, describe, expect, it } from "vitest";
import { shuffledIndices } from "../../src/data/batches.js";
import {
  type ImageDataset,
  type LabelledImages,
  limitImages,
  sliceImages,
  splitImages,
} from "../../src/data/dataset.js";
import { digits } from "../../src/data/digits.js";
import { UsageError } from "../../src/tensor/errors.js";

let set: ImageDataset;
beforeAll(() => {
  set = digits();
});

describe("digits", () => {
  it("are 12,000 images of 28x28 in [0, 1] with ink in each", () => {
    expect([set.train.count, set.test.count]).toEqual([10_000, 2_000]);
    for (const part of [set.train, set.test]) {
      expect(part.images).toHaveLength(part.count * 784);
      expect(part.images.every((value) => value >= 0 && value <= 1)).toBe(true);
      for (let i = 0; i < part.count; i++) {
        // The shortest line of the thinnest pen still covers some 15 pixels' worth of ink.
        expect(part.images.subarray(i * 784, (i + 1) * 784).reduce((sum, value) => sum + value, 0)).toBeGreaterThan(8);
      }
    }
  });

  it("have all classes about equally often", () => {
    const counts = new Array<number>(10).fill(0);
    for (const label of set.train.labels) counts[label]!++;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(130); // 4.3 standard deviations
  });

  it("depend on the seed only, and fewer images are the first ones", () => {
    const few = digits({ trainCount: 50, testCount: 20 });
    expect(few.train.images).toEqual(set.train.images.subarray(0, 50 * 784));
    expect(few.test.labels).toEqual(set.test.labels.subarray(0, 20));
    expect(digits({ seed: 2, trainCount: 50, testCount: 20 }).train.images).not.toEqual(few.train.images);
    expect(few.test.images).not.toEqual(few.train.images.subarray(0, 20 * 784));
    expect(() => digits({ trainCount: 0 })).toThrow(UsageError);
  });

  it("are learnable, but a linear model stays below 97 %", () => {
    const model = trainSoftmaxRegression(limitImages(set.train, 6_000), { epochs: 6, learningRate: 0.02 });
    const accuracy = model(set.test);
    expect(accuracy).toBeGreaterThan(0.8);
    expect(accuracy).toBeLessThan(0.97);
  });
});

describe("views of labelled images", () => {
  it("share memory and keep images with their labels", () => {
    const part = sliceImages(set.train, 10, 14);
    expect(part.count).toBe(4);
    expect(part.labels).toEqual(set.train.labels.slice(10, 14));
    expect(part.images.buffer).toBe(set.train.images.buffer);
    expect(part.images[0]).toBe(set.train.images[10 * 784]);
    expect(limitImages(set.test, 5_000).count).toBe(2_000);
    const { first, last } = splitImages(set.train, 0.1);
    expect([first.count, last.count]).toEqual([9_000, 1_000]);
    expect(last.labels[999]).toBe(set.train.labels[9_999]);
  });

  it("refuse counts and fractions that make no sense", () => {
    for (const count of [0, -1, 1.5, Number.NaN]) expect(() => limitImages(set.test, count)).toThrow(UsageError);
    for (const fraction of [0, 1, -0.1, Number.NaN]) expect(() => splitImages(set.test, fraction)).toThrow(UsageError);
    expect(() => sliceImages(undefined as never, 0)).toThrow("sliceImages: the set must be an object, got undefined");
    expect(() => sliceImages(set.test, 5, 2_001)).toThrow(
      "sliceImages: needs 0 <= start <= end <= 2000, given 5 and 2001",
    );
  });
});

/** Multinomial logistic regression by plain SGD, learning rate / (1 + epoch); returns its accuracy on a set. */
function trainSoftmaxRegression(
  train: LabelledImages,
  { epochs, learningRate }: { epochs: number; learningRate: number },
): (set: LabelledImages) => number {
  const weights = new Float64Array(784 * 10);
  const bias = new Float64Array(10);
  const logits = new Float64Array(10);
  const forward = (image: Float32Array): void => {
    logits.set(bias);
    for (let p = 0; p < 784; p++) {
      const value = image[p]!;
      if (value !== 0) for (let c = 0; c < 10; c++) logits[c]! += value * weights[10 * p + c]!;
    }
  };
  const image = (from: LabelledImages, i: number): Float32Array => from.images.subarray(784 * i, 784 * (i + 1));
  for (let epoch = 0; epoch < epochs; epoch++) {
    const rate = learningRate / (1 + epoch);
    for (const i of shuffledIndices(train.count, 1, epoch)) {
      forward(image(train, i));
      const largest = Math.max(...logits);
      const exponentials = logits.map((logit) => Math.exp(logit - largest));
      const total = exponentials.reduce((a, b) => a + b);
      const gradient = exponentials.map((value, c) => value / total - (c === train.labels[i] ? 1 : 0));
      for (let c = 0; c < 10; c++) bias[c]! -= rate * gradient[c]!;
      image(train, i).forEach((value, p) => {
        if (value !== 0) for (let c = 0; c < 10; c++) weights[10 * p + c]! -= rate * value * gradient[c]!;
      });
    }
  }
  return (test) => {
    let right = 0;
    for (let i = 0; i < test.count; i++) {
      forward(image(test, i));
      if (logits.indexOf(Math.max(...logits)) === test.labels[i]) right++;
    }
    return right / test.count;
  };
}
