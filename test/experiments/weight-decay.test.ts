// Weight decay with tiny settings: the small network, factors and replicates, and figures that follow from them.
import { expect, test } from "vitest";
import { experiment } from "../../src/experiments/weight-decay.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
const common = ["data=digits", "trainImages=512", "testImages=100", "smallEpochs=2", "epochs=2"];

/** How many of `count` images, in whole ones. */
const expectShare = (share: number, count: number) => expect(share * count).toBeCloseTo(Math.round(share * count), 6);

test("every factor with its replicates, and what they come to", { timeout: 120_000 }, async () => {
  const set = [...common, "factors=[0.000001,0.1]"];
  const { metrics, report, said } = await runs.run(experiment, { set });
  expect(said).toMatch(/2 mlp-64 of .* a step, 4 networks of 8 steps of/);
  expect(metrics.networks).toHaveLength(4);
  const smallFinals = metrics.small.networks.map(({ test }: { test: { accuracy: number } }) => test.accuracy);
  // The last tenth of the training images is for validation, and the test part is looked at once.
  expect(metrics).toMatchObject({ trainImages: 512, validationImages: 52, testImages: 100 });
  for (const { history } of metrics.small.networks) expect(Object.keys(history)).not.toContain("val_accuracy");
  for (const { accuracy, testAccuracy } of metrics.networks) {
    for (const value of accuracy) expectShare(value, 52);
    expectShare(testAccuracy, 100);
  }
  expect(smallFinals).toHaveLength(2);
  expect(metrics.small.testAccuracy.mean).toBeCloseTo((smallFinals[0] + smallFinals[1]) / 2, 12);
  const averaged = metrics.small.networks.map(
    (network: { averaged: { accuracy: number } }) => network.averaged.accuracy,
  );
  expect(averaged).not.toEqual(smallFinals);
  expect(metrics.small.averagedTestAccuracy.mean).toBeCloseTo((averaged[0] + averaged[1]) / 2, 12);
  const [light, heavy] = metrics.factors;
  const accuracies = metrics.networks.slice(0, 2).map(({ accuracy }: { accuracy: number[] }) => accuracy);
  const finals = accuracies.map((accuracy: number[]) => accuracy[1]!);
  expect(light.final.mean).toBeCloseTo((finals[0] + finals[1]) / 2, 12);
  expect(light.final.deviation).toBeCloseTo(Math.abs(finals[0] - finals[1]) / Math.SQRT2, 12);
  expect(light.maximum.mean).toBeCloseTo((Math.max(...accuracies[0]) + Math.max(...accuracies[1])) / 2, 12);
  // Replicates are different networks, and a penalty of 0.1 leaves its mark where one of a millionth does not.
  expect(accuracies[0]).not.toEqual(accuracies[1]);
  expect(heavy.final.mean).not.toBe(light.final.mean);
  for (const { trainAccuracy } of metrics.networks) expectShare(trainAccuracy, 460);
  expect(metrics.convolutional).toMatchObject({ name: "small-cnn", test: { accuracy: expect.any(Number) } });
  expect(metrics.questions).toHaveLength(6);
  expect(report).toContain("55,050 parameters, 91 % of them in the first");
  expect(report).toContain("1e-6");
  expect(report).toContain("Accuracy on 52 validation images, the last of the training part, which are not trained on");
  expect(report).toContain(
    "--set data=digits --set smallEpochs=2 --set &#39;factors=[0.000001,0.1]&#39; --set epochs=2 --set trainImages=512",
  );
  expect(report.match(/<svg class="kilograd-chart"/g)).toHaveLength(8);
});

test("one image cannot be trained on and held out as well", async () => {
  const set = ["data=digits", "trainImages=1", "testImages=100"];
  await expect(runs.run(experiment, { out: runs.at("none"), set })).rejects.toThrow(
    "trainImages: needs at least 2 where some are held out for validation, got 1",
  );
});

test("one replicate has no error bars", { timeout: 120_000 }, async () => {
  const set = [...common, "factors=[0.0001]", "replicates=1"];
  const { metrics, report } = await runs.run(experiment, { out: runs.at("one"), set });
  expect(metrics.factors[0].final.deviation).toBeNull();
  expect(report).toContain("no telling how much of that is chance");
  expect(report).not.toContain("NaN");
});
