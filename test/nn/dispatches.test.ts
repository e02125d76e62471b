// How many dispatches the training steps of the benchmarked models take, recorded and merged. What fuses, merges and is
// left out is decided while a step is recorded. A lost decision shows here, not in a time.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { makeTask, workloads } from "../../bench/workloads.js";
import { fromConfig } from "../../src/nn/from-config.js";
import { binaryCrossEntropyFromLogits, crossEntropy } from "../../src/nn/losses.js";
import { objectiveOf } from "../../src/nn/objective.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import { OutputFigures } from "../../src/nn/output-figures.js";
import { trainStep } from "../../src/nn/train-step.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { GpuStep } from "../../src/webgpu/recorded/step.js";

let device: WebGpuDevice;
const { mergeAfter } = GpuStep;
beforeAll(async () => {
  GpuStep.mergeAfter = { cached: 3, uncached: 4 };
  device = await openDevice("webgpu", { profile: "software" });
});
afterAll(() => {
  GpuStep.mergeAfter = mergeAfter;
  device.destroy();
});

test.each([
  ["mlp-64", 128, 13, 4],
  ["small-cnn", 32, 27, 8],
  ["sgd-cnn", 16, 30, 8],
  ["autoencoder", 64, 27, 6],
])("%s, batch %i: %i dispatches a step, merged %i", { timeout: 120_000 }, async (zoo, batch, recorded, merged) => {
  const workload = { ...workloads.find(({ name }) => name.startsWith(`${zoo} `))!, batch, steps: 1 };
  const { spec, inputs, targets } = makeTask(workload, { dropout: true });
  const model = fromConfig(spec.model, { device, seed: 1 });
  const optimizer = (spec.optimizer.name === "adam" ? adam : sgd)();
  const loss = spec.loss === "softmax" ? crossEntropy : binaryCrossEntropyFromLogits;
  const objective = objectiveOf("test", model, { loss });
  const table = new OutputFigures(model, objective);
  const plan = new StepPlan(device, (x, y) => {
    const batch = { x: [x!], y: [y!], weights: [] };
    table.record(trainStep(model, batch, { optimizer, objective, scaler: undefined }), batch.y);
    return [];
  });
  const counts: number[] = [];
  const rows = spec.loss === "softmax" ? [spec.batch] : [spec.batch, ...model.outputShape];
  for (let i = 0; i < 9; i++) {
    if (i === 7) await vi.waitUntil(() => GpuStep.merging === 0, { timeout: 60_000 });
    const before = device.counters.dispatches;
    plan.run(
      { values: inputs, shape: [spec.batch, ...model.inputShape] },
      { values: targets as Float32Array, shape: rows },
    );
    await table.read();
    counts.push(device.counters.dispatches - before);
  }
  expect([counts[2], counts.at(-1)]).toEqual([recorded, merged]);
  plan.dispose();
  table.dispose();
  optimizer.dispose();
  model.dispose();
});
