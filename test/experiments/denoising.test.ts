// Denoising with tiny settings on the built-in digits, the noise itself, and codes drawn at random.
import { expect, test } from "vitest";
import { crossing, experiment } from "../../src/experiments/denoising.js";
import { drawCodes, normalCodes } from "../../src/experiments/lib/inputs/random-codes.js";
import { noisyImages, saltAndPepper } from "../../src/experiments/lib/training/noise.js";
import { UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
const tiny = ["data=digits", "trainImages=1024", "testImages=100", "epochs=4", "classifierEpochs=6", "codes=20"];

test("learns to take noise out, judged by level, and decodes codes", { timeout: 180_000 }, async () => {
  const { metrics, report, said } = await runs.run(experiment, { set: [...tiny, 'noise=["fresh","fixed"]'] });
  expect(said).toMatch(/autoencoder .* a step of 64, sgd-cnn .* a step of 128/);
  expect(metrics.autoencoders.map(({ noise }: { noise: string }) => noise)).toEqual(["fresh", "fixed"]);
  for (const { history } of metrics.autoencoders) {
    expect(history.val_loss).toHaveLength(4);
    // Untrained it is ln 2.
    expect(history.val_loss[3]).toBeLessThan(0.5);
    expect(history.val_loss[3]).toBeLessThan(history.val_loss[0]);
  }
  const [fresh, fixed] = metrics.autoencoders;
  expect(fresh.history.loss).not.toEqual(fixed.history.loss);
  // The last tenth of the training images is for validation; the test part is looked at once.
  expect(metrics).toMatchObject({ trainImages: 1024, validationImages: 103, testImages: 100 });
  expect(metrics.testLoss).toBe(fresh.test.loss);
  for (const { history, test } of metrics.autoencoders) expect(test.loss).not.toBe(history.val_loss[3]);
  expect(Object.keys(metrics.classifier.history)).not.toContain("val_accuracy");
  expect(metrics.levels).toEqual([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]);
  // Without noise the noisy test set is the test set; of noise alone nothing can be told.
  expect(metrics.noisy[0]).toBeCloseTo(metrics.classifier.testAccuracy, 6);
  expect(metrics.noisy[0]).toBeGreaterThan(0.4);
  for (const curve of [metrics.noisy, metrics.denoised]) {
    expect(curve).toHaveLength(11);
    expect(curve[10]).toBeLessThan(0.35);
  }
  expect(new Set(metrics.digits.map(({ label }: { label: number }) => label)).size).toBe(4);
  const kinds = ["real codes", "standard normal", "unit by unit", "normal", "normal, one digit"];
  expect(metrics.codes.map(({ kind }: { kind: string }) => kind)).toEqual(kinds);
  for (const { images, predicted, confidence } of metrics.codes) {
    expect(images).toBe(20);
    expect(predicted.reduce((a: number, b: number) => a + b)).toBe(20);
    expect(confidence).toBeGreaterThan(0.1);
  }
  expect(metrics.images.map(({ file }: { file: string }) => file)).toEqual(["digits.svg", "codes.svg"]);
  expect(report.match(/<svg class="kilograd-chart"/g)).toHaveLength(4);
  expect(report.match(/<svg class="kilograd-diagram"/g)).toHaveLength(1);
  expect(metrics.questions).toHaveLength(6);
  expect(report).toContain("The reference figures are those of MNIST");
  // Pictures are random letters, "NaN" among them now and then.
  expect(report.replace(/base64,[^"]*/g, "")).not.toMatch(/NaN|undefined/);
});

test("refuses kinds of noise that there are not", async () => {
  const run = (set: string) => runs.run(experiment, { set: [...tiny, set], out: runs.at("refused") });
  await expect(run('noise=["stale"]')).rejects.toThrow('noise must be a list of fresh and fixed, given ["stale"]');
  await expect(run("noise=[]")).rejects.toBeInstanceOf(UsageError);
  await expect(run("level=1.5")).rejects.toThrow("set: level must be a finite number from 0 to 1, got 1.5");
  await expect(run("codes=0")).rejects.toThrow("set: codes must be a whole number from 1 to 1000000, got 0");
});

test("salt and pepper: a share of 1 - level is kept, the rest is black or white as often", () => {
  const grey = new Float32Array(200_000).fill(0.5);
  saltAndPepper(grey, 0.4, new RandomStream(3, "noise"));
  const share = (value: number) => grey.filter((pixel) => pixel === value).length / grey.length;
  // Three standard deviations are 0.0033 at most.
  expect(Math.abs(share(0.5) - 0.6)).toBeLessThan(0.0035);
  expect(Math.abs(share(0) - 0.2)).toBeLessThan(0.0035);
  expect(Math.abs(share(1) - 0.2)).toBeLessThan(0.0035);
});

test("noisy copies leave the images as they are and depend on seed, name and level", () => {
  const images = new Float32Array(784).fill(0.5);
  const set = { images, labels: Int32Array.of(1), count: 1, imageShape: [28, 28, 1] } as const;
  const noisy = (level: number, seed: number, name: string) => noisyImages(set, level, { seed, name }).images;
  expect(noisy(0, 1, "a")).toEqual(images);
  expect(noisy(1, 1, "a").some((pixel) => pixel === 0.5)).toBe(false);
  expect(noisy(0.5, 1, "a")).toEqual(noisy(0.5, 1, "a"));
  for (const other of [noisy(0.5, 2, "a"), noisy(0.5, 1, "b")]) expect(other).not.toEqual(noisy(0.5, 1, "a"));
  expect(images.every((pixel) => pixel === 0.5)).toBe(true);
});

test("curves cross where their straight lines between two levels do", () => {
  const flat = new Array<number>(11).fill(0.9);
  const falling = flat.map((_, i) => 1 - i / 10);
  // 1, 0.9, 0.8 against 0.84: 0.9 is 0.06 above, 0.8 is 0.04 below.
  expect(crossing({ noisy: falling, denoised: flat.map(() => 0.84) })).toBeCloseTo(0.16, 12);
  expect(crossing({ noisy: falling, denoised: flat.map(() => 1.1) })).toBeUndefined();
  expect(crossing({ noisy: falling, denoised: flat.map(() => -1) })).toBeUndefined();
});

test("normal codes have mean and covariance of the real ones", () => {
  const random = new RandomStream(4, "codes");
  // Two units that move together, far from 0, and one that never does anything.
  const rows = Array.from({ length: 50 }, () => {
    const shared = random.normal();
    return Float32Array.of(20 + shared, 30 + 2 * shared + 0.5 * random.normal(), 0);
  });
  const statistics = (values: readonly Float32Array[]) => {
    const mean = [0, 1].map((unit) => values.reduce((sum, row) => sum + row[unit]!, 0) / values.length);
    const moment = (a: number, b: number) =>
      values.reduce((sum, row) => sum + (row[a]! - mean[a]!) * (row[b]! - mean[b]!), 0) / values.length;
    return [...mean, moment(0, 0), moment(0, 1), moment(1, 1)];
  };
  const drawn = normalCodes(rows, 20_000, random);
  const codes = Array.from({ length: 20_000 }, (_, i) => drawn.subarray(3 * i, 3 * i + 3));
  const [wanted, got] = [statistics(rows), statistics(codes)];
  wanted.forEach((value, i) => {
    expect(Math.abs(got[i]! / value - 1)).toBeLessThan(0.05);
  });
  expect(codes.every((code) => code[2] === 0)).toBe(true);
});

test("codes drawn unit by unit come from real ones, those of one digit from that digit's", () => {
  const rows = [Float32Array.of(1, 2), Float32Array.of(3, 4), Float32Array.of(5, 6)];
  const codes = { rows, labels: [7, 7, 9] };
  const { values } = drawCodes("unit by unit", codes, { count: 100, seed: 1 });
  const pairs = new Set(Array.from({ length: 100 }, (_, i) => `${values[2 * i]},${values[2 * i + 1]}`));
  expect([...pairs].every((pair) => /^[135],[246]$/.test(pair))).toBe(true);
  expect(pairs).toContain("1,6");
  const one = drawCodes("normal, one digit", codes, { count: 4, seed: 1 });
  expect([...one.wanted!]).toEqual([7, 9, 7, 9]);
  // One code has no spread.
  expect([...one.values.subarray(2, 4), ...one.values.subarray(6)]).toEqual([5, 6, 5, 6]);
  expect([...one.values.subarray(0, 2)]).not.toEqual([...one.values.subarray(4, 6)]);
});
