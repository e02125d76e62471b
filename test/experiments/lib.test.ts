// The smaller parts of the experiments: distortions, starts, classification, the models, figures as text, run folders.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digits } from "../../src/data/digits.js";
import { errorOf } from "../../src/experiments/doctor.js";
import { photographClassifier } from "../../src/experiments/lib/adversarial/adversarial-models.js";
import { writeResults } from "../../src/experiments/lib/frame/run.js";
import {
  imageStart,
  noiseStarts,
  noisyRealStart,
  parseStart,
  placesOf,
} from "../../src/experiments/lib/inputs/starts.js";
import { duration, listed, milliseconds, percent } from "../../src/experiments/lib/report/text.js";
import { distort, shiftedAndMirrored } from "../../src/experiments/lib/training/augment.js";
import { classify } from "../../src/experiments/lib/training/classify.js";
import { zoo, zooArchitecture, zooModel } from "../../src/experiments/lib/training/models.js";
import { summary } from "../../src/experiments/summary.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { sequential } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";

const SIZE = 28 * 28;
const { train, test: testSet } = digits({ seed: 5, trainCount: 64, testCount: 40 });

describe("models", () => {
  test("have the numbers of parameters that are published", async () => {
    const totals = Object.fromEntries(zoo.map((model) => [model.name, zooArchitecture(model).countParameters().total]));
    expect(totals).toMatchObject({ "small-cnn": 66_430, "mlp-64": 55_050, "alexnet-plus": 62_735_658 });
    expect(await summary("alexnet-plus")).toMatchObject({ total: 62735658, trainable: 62734250, nonTrainable: 1408 });
  });

  test("have the published layers: sgd-cnn", async () => {
    const { layers } = await summary("sgd-cnn");
    expect(layers.map(({ type, outputShape }) => `${type} ${outputShape}`)).toEqual([
      "Conv2D 26,26,32",
      "MaxPooling2D 13,13,32",
      "Conv2D 11,11,64",
      "MaxPooling2D 5,5,64",
      "Flatten 1600",
      "Dense 200",
      "Dense 128",
      "Dropout 128",
      "Dense 10",
    ]);
  });

  test("are found by name only", () => {
    expect(zooModel("small-cnn").epochs).toBe(5);
    expect(() => zooModel("resnet")).toThrow(/must be one of small-cnn, .*, given "resnet"/);
  });
});

describe("distortions", () => {
  const batch = (seed: number, count = 64) => {
    const images = train.images.slice(0, count * SIZE);
    distort(images, { count, shape: [28, 28, 1], random: new RandomStream(seed, "test") });
    return images;
  };

  test("depend on the random stream alone, and change every image in its own way", () => {
    expect(batch(1)).toEqual(batch(1));
    expect(batch(1)).not.toEqual(batch(2));
    expect(batch(1, 3)).toEqual(batch(1).slice(0, 3 * SIZE));
  });

  test("keep pixels in [0, 1] and about as much ink, near where it was", () => {
    const images = batch(3);
    const mass = (values: Float32Array) => values.reduce((a, b) => a + b, 0);
    const centre = (values: Float32Array) => values.reduce((sum, x, i) => sum + x * (i % 28), 0) / mass(values);
    for (let i = 0; i < 64; i++) {
      const [before, after] = [train.images, images].map((all) => all.slice(i * SIZE, (i + 1) * SIZE));
      expect(after!.every((pixel) => pixel >= 0 && pixel <= 1.000001)).toBe(true);
      expect(mass(after!) / mass(before!)).toBeGreaterThan(0.6);
      expect(mass(after!) / mass(before!)).toBeLessThan(1.6);
      expect(Math.abs(centre(after!) - centre(before!))).toBeLessThan(5);
    }
  });
});

describe("photographs are shifted, mirrored, and lose a square", () => {
  const [count, side, cutout] = [100, 32, 8];
  /** What becomes of photographs whose pixels are all 1 in red, 0 in green, and grow from left to right in blue. */
  const changed = (change: Parameters<typeof shiftedAndMirrored>[0], seed = 1) => {
    const images = Float32Array.from({ length: count * side * side * 3 }, (_, i) =>
      i % 3 === 0 ? 1 : i % 3 === 1 ? 0 : (Math.floor(i / 3) % side) / 100,
    );
    const before = images.slice();
    shiftedAndMirrored(change)(images, { count, shape: [side, side, 3], random: new RandomStream(seed, "test") });
    return { before, images };
  };
  /** Of one photograph: the pixels [row, column] that became grey. */
  const grey = (images: Float32Array, image: number) =>
    Array.from({ length: side * side }, (_, pixel) => pixel)
      .filter((pixel) => [0, 1, 2].every((c) => images[(image * side * side + pixel) * 3 + c] === 0.5))
      .map((pixel) => [Math.floor(pixel / side), pixel % side] as const);

  test("the square has the sides that were asked for, less where it reaches beyond an edge", () => {
    const { images } = changed({ shift: 0, cutout });
    const areas = Array.from({ length: count }, (_, image) => {
      const pixels = grey(images, image);
      if (pixels.length === 0) return 0;
      const [rows, columns] = [pixels.map(([row]) => row), pixels.map(([, column]) => column)];
      const [height, width] = [rows, columns].map((along) => Math.max(...along) - Math.min(...along) + 1) as [
        number,
        number,
      ];
      expect(pixels).toHaveLength(height * width);
      expect(Math.max(height, width)).toBeLessThanOrEqual(cutout);
      if (height < cutout) expect([0, side - 1].some((edge) => rows.includes(edge))).toBe(true);
      if (width < cutout) expect([0, side - 1].some((edge) => columns.includes(edge))).toBe(true);
      return pixels.length;
    });
    expect(Math.max(...areas)).toBe(cutout ** 2);
    expect(new Set(areas).size).toBeGreaterThan(3);
  });

  test("without a square and a shift, half are mirrored and nothing else happens", () => {
    const { before, images } = changed({ shift: 0 });
    const size = side * side * 3;
    const kept = Array.from({ length: count }, (_, i) =>
      Buffer.from(images.slice(i * size, (i + 1) * size).buffer).equals(
        Buffer.from(before.slice(i * size, (i + 1) * size).buffer),
      ),
    );
    expect(kept.filter(Boolean).length).toBeGreaterThan(30);
    expect(kept.filter(Boolean).length).toBeLessThan(70);
    expect(images[images.length - 1]).toBeCloseTo(kept.at(-1) ? (side - 1) / 100 : 0, 6);
    expect(grey(images, 0)).toEqual([]);
  });

  test("the random stream alone decides", () => {
    const change = { shift: 4, cutout };
    expect(changed(change).images).toEqual(changed(change).images);
    expect(changed(change).images).not.toEqual(changed(change, 2).images);
  });
});

test("a classifier of photographs has stages of convolutions, each of which halves the picture", () => {
  const { layers } = photographClassifier({ filters: [4, 8, 12], convolutions: [1, 2, 1] });
  expect(layers.map(({ layer, outputShape }) => `${layer.className} ${outputShape}`)).toEqual([
    ...["Conv2D 32,32,4", "MaxPooling2D 16,16,4", "BatchNormalization 16,16,4", "Activation 16,16,4"],
    ...["Conv2D 16,16,8", "BatchNormalization 16,16,8", "Activation 16,16,8"],
    ...["Conv2D 16,16,8", "MaxPooling2D 8,8,8", "BatchNormalization 8,8,8", "Activation 8,8,8"],
    ...["Conv2D 8,8,12", "MaxPooling2D 4,4,12", "BatchNormalization 4,4,12", "Activation 4,4,12"],
    ...["Flatten 192", "Dropout 192", "Dense 10"],
  ]);
  expect(() => photographClassifier({ filters: [4, 8], convolutions: [1] })).toThrow(
    "convolutions must be one number for each of the 2 stages that filters names, given 1",
  );
});

describe("starts", () => {
  test("are written as noise, real or an index", () => {
    expect(["noise", "real", "0", "123"].map(parseStart)).toEqual(["noise", "real", 0, 123]);
    for (const text of ["", "Noise", "-1", "1.5", "real3"]) expect(() => parseStart(text)).toThrow(UsageError);
  });

  test("from noise fill [0, 1) evenly and differ by index and seed", () => {
    const imageAt = (index: number, seed: number) => noiseStarts(4, { seed, shape: [28, 28, 1] })[index]!;
    const { image, label } = imageAt(2, 0);
    expect(label).toBe("noise2");
    expect(Math.abs(image.reduce((a, b) => a + b) / SIZE - 0.5)).toBeLessThan(0.05);
    expect(imageAt(2, 0).image).toEqual(image);
    expect(imageAt(3, 0).image).not.toEqual(image);
    expect(imageAt(2, 1).image).not.toEqual(image);
  });

  test("from a real digit add noise to an image of that class", () => {
    const digit = testSet.labels[0]!;
    const { image, text } = noisyRealStart(0, { images: testSet, digit, seed: 0 });
    expect(text).toBe(`a real ${digit} with noise (test image 0)`);
    const noise = image.map((pixel, i) => pixel - testSet.images[i]!);
    // Where clipping does not cut it off, the noise has a standard deviation of 0.3.
    const inside = noise.filter((_, i) => testSet.images[i]! > 0.4 && testSet.images[i]! < 0.6);
    expect(Math.max(...image)).toBeLessThanOrEqual(1);
    expect(Math.min(...image)).toBeGreaterThanOrEqual(0);
    expect(Math.sqrt(inside.reduce((sum, x) => sum + x * x, 0) / inside.length)).toBeGreaterThan(0.15);
    const count = placesOf(testSet, digit).length;
    expect(() => noisyRealStart(count, { images: testSet, digit, seed: 0 })).toThrow("use a smaller --count");
  });

  test("from a test image are that image", () => {
    const { image, label } = imageStart(testSet, 7);
    expect(label).toBe("7");
    expect(image).toEqual(testSet.images.slice(7 * SIZE, 8 * SIZE));
    expect(() => imageStart(testSet, 40)).toThrow("images 0 to 39, given 40");
  });
});

test("classification agrees with evaluate and predict, whatever the batches", async () => {
  const model = sequential({ device: new CpuDevice(), seed: 1, inputShape: [28, 28, 1] }, [
    flatten(),
    dense({ units: 10, activation: "softmax" }),
  ]);
  const found = await classify(model, train);
  const { loss, accuracy } = await model.evaluate(train, { loss: crossEntropy });
  expect(found.loss).toBeCloseTo(loss, 9);
  expect(found.accuracy).toBeCloseTo(accuracy!, 9);
  const { data } = await model.predict(train);
  expect(Math.max(...found.probabilities.map((p, i) => Math.abs(p - data[i]!)))).toBeLessThan(1e-9);
  expect(found.confusion.flat().reduce((a, b) => a + b)).toBe(train.count);
  expect(found.mistakes.length).toBe(Math.round(train.count * (1 - accuracy!)));
  for (const [i, mistake] of found.mistakes.entries()) {
    expect(found.predicted[mistake]).not.toBe(train.labels[mistake]);
    if (i > 0) expect(found.confidence[mistake]).toBeLessThanOrEqual(found.confidence[found.mistakes[i - 1]!]!);
  }
});

test("the self-test of doctor measures the worst difference, and NaN is one", () => {
  const effect = (loss: number, ...changes: number[][]) => ({
    loss,
    changes: changes.map((c) => Float64Array.from(c)),
  });
  const expected = effect(2, [0.1, -0.4], [0, 0]);
  expect(errorOf(expected, expected)).toBe(0);
  expect(errorOf(effect(2, [0.1, -0.38], [0, 0]), expected)).toBeCloseTo(0.05, 12);
  expect(errorOf(effect(2.2, [0.1, -0.4], [0, 0]), expected)).toBeCloseTo(0.1, 12);
  expect(errorOf(effect(2, [0.1, -0.4], [0, 1e-9]), expected)).toBe(Number.POSITIVE_INFINITY);
  expect(errorOf(effect(2, [0.1, Number.NaN], [0, 0]), expected)).toBeNaN();
  expect(errorOf(effect(Number.NaN, [0.1, -0.4], [0, 0]), expected)).toBeNaN();
});

test("figures are written as people read them", () => {
  expect([percent(0.98765), percent(0.99999), percent(1), percent(0)]).toEqual([
    "98.77 %",
    "99.99 %",
    "100.00 %",
    "0.00 %",
  ]);
  expect([milliseconds(0.4567), milliseconds(12.34), milliseconds(345.6), milliseconds(2345)]).toEqual([
    "0.46 ms",
    "12 ms",
    "346 ms",
    "2.3 s",
  ]);
  expect([duration(42.4), duration(59.7), duration(185)]).toEqual(["42 s", "1 min 00 s", "3 min 05 s"]);
  expect([listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])]).toEqual([
    "",
    "a",
    "a and b",
    "a, b and c",
  ]);
});

describe("run folders", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kilograd-run-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const png = encodeGrayPng([0.5], { width: 1, height: 1 });
  const write = (names: string[]) =>
    writeResults(folder, {
      pictures: new Map(names.map((name) => [name, png])),
      report: "<!doctype html>",
      metrics: { images: names.map((file) => ({ file })) },
    });

  test("hold the last run's pictures only, and keep what is not a run's", async () => {
    await write(["1-noise0.png", "2-noise0.png"]);
    await writeFile(join(folder, "mine.png"), "mine");
    await write(["2-noise0.png", "2+3-noise0.png"]);
    expect((await readdir(folder)).sort()).toEqual([
      "2+3-noise0.png",
      "2-noise0.png",
      "metrics.json",
      "mine.png",
      "report.html",
    ]);
  });

  test("survive a metrics.json that is none", async () => {
    for (const text of ["{", "[]", '{"images":[null,{"file":"../x.png"}]}', '{"images":3}']) {
      await writeFile(join(folder, "metrics.json"), text);
      await write(["2-noise0.png"]);
      expect(JSON.parse(await readFile(join(folder, "metrics.json"), "utf8")).images).toHaveLength(1);
    }
  });
});
