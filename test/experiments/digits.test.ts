// Digit recognition with tiny settings: models trained whole and for a stated number of steps, tables and pictures.
import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { experiment } from "../../src/experiments/digits.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
const common = ["data=digits", "trainImages=640", "testImages=60", "epochs=1", "imageSteps=4", 'heldOut=["mlp-64"]'];

test("models beside their references, each with curves, confusion and pictures", { timeout: 120_000 }, async () => {
  const out = runs.at("whole");
  const models = ['models=["small-cnn","mlp-64"]', 'averaged=["small-cnn"]', "emaMomentum=0.5"];
  const set = [...common, ...models, "slowStepMs=0", "replicates=2"];
  const { metrics, report, summary } = await runs.run(experiment, { out, set });
  expect(metrics.models).toHaveLength(2);
  for (const model of metrics.models) {
    // Of mlp-64 the last tenth is held out.
    const [trainImages, validation] = model.model === "mlp-64" ? [576, "last 10 % of the training part"] : [640, null];
    expect(model).toMatchObject({ cutShort: false, trainImages, validation, testImages: 60 });
    expect(model.confusion.flat().reduce((a: number, b: number) => a + b)).toBe(60);
    expect(model.stepLoss).toHaveLength(model.steps);
    // The replicates are other trainings, the first is the one that the report shows.
    expect(model.replicates).toHaveLength(2);
    expect(model.replicates[0]).toBe(model.test.accuracy);
    expect(model.replicates[1]).not.toBe(model.replicates[0]);
  }
  expect(metrics.models.map(({ averaged }: { averaged: number[] }) => averaged.length)).toEqual([2, 0]);
  for (const accuracy of metrics.models[0].averaged) expect(accuracy).toBeGreaterThan(0.2);
  expect(metrics.models[0]).toMatchObject({ parameters: { total: 66_430 }, reference: { testAccuracy: 0.9879 } });
  expect(summary).toMatch(
    /small-cnn .*test [\d.]+ % ± [\d.]+ \(2\), loss [\d.]+ {2}averaged weights [\d.]+ % ± [\d.]+ \(2\) .*reference 98\.79 %/,
  );
  const pictures = ["small-cnn-digits.svg", "small-cnn-mistakes.svg", "mlp-64-digits.svg", "mlp-64-mistakes.svg"];
  expect(readdirSync(out)).toEqual(expect.arrayContaining(pictures));
  expect(metrics.variants.map(({ change }: { change: string }) => change)).toHaveLength(4);
  expect(metrics.questions).toHaveLength(5);
  expect(report).toContain("small-cnn: after 4 steps from noise");
  expect(report).toMatch(/mlp-64: training [\d.]+ %, validation [\d.]+ %, test [\d.]+ % \(mean of 2\)/);
  expect(report).toContain("in all 60,965,224 parameters and ");
  expect(report).toContain("conv2d (Conv2D)");
  expect(/\bNaN\b/.test(report.replace(/base64,[^"]*/g, ""))).toBe(false);
  // Read back from its parts, it says the same.
  const again = await runs.run(experiment, { out, set, resume: true });
  expect(again.metrics.models).toEqual(metrics.models);
});

test("a model whose steps are too slow gets a stated number of them", { timeout: 120_000 }, async () => {
  const set = [...common, 'models=["small-cnn"]', "slowStepMs=0.001", "slowSteps=12", "replicates=2"];
  const { metrics, report, said } = await runs.run(experiment, { out: runs.at("slow"), set });
  expect(said).toMatch(/small-cnn .* a step, so only 12 of them/);
  expect(metrics.models[0]).toMatchObject({ cutShort: true, steps: 12 });
  expect(metrics.models[0].replicates).toHaveLength(1);
  expect(report).toMatch(/It was trained for 12 steps: loss [\d.]+ to [\d.]+/);
});

test("of a model that learns smoothed targets, the losses in tables are those of the classes", async () => {
  const set = ["data=digits", "trainImages=320", "testImages=60", "epochs=2", 'models=["best-cnn"]', "slowStepMs=0"];
  const { metrics, report } = await runs.run(experiment, {
    out: runs.at("smoothed"),
    set: [...set, 'heldOut=["best-cnn"]', "averaged=[]", "imagesOf=[]", "variantEpochs=0"],
  });
  const [{ history, validationFigures }] = metrics.models;
  expect(validationFigures.accuracy).toBeCloseTo(history.val_accuracy.at(-1), 12);
  // A tenth of the loss in training is the mean of -log p over all classes, at least log 10.
  expect(history.val_loss.at(-1)).toBeGreaterThanOrEqual(0.1 * Math.log(10));
  expect(Math.abs(history.val_loss.at(-1) - validationFigures.loss)).toBeGreaterThan(1e-3);
  expect(report).toContain("categorical cross-entropy, of targets of which 10 % is spread over all classes");
  expect(report).toContain("losses in tables are of the classes themselves");
}, 120_000);
