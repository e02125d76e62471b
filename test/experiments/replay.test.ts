// Training and input optimisation replay recorded steps. They give the same bits as running every step's JavaScript,
// for every model, and so do steps whose small dispatches were merged.
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { zoo, zooArchitecture } from "../../src/experiments/lib/training/models.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { GpuStep } from "../../src/webgpu/recorded/step.js";

let device: WebGpuDevice;
const { mergeAfter } = GpuStep;
beforeAll(async () => {
  device = (await openDevice("webgpu")) as WebGpuDevice;
  GpuStep.mergeAfter = { cached: 1, uncached: 1 };
});
afterAll(() => {
  GpuStep.mergeAfter = mergeAfter;
  device.destroy();
});

function samples(count: number) {
  const random = new RandomStream(3, "replay");
  return {
    inputs: Float32Array.from({ length: count * 784 }, () => random.uniform()),
    targets: Int32Array.from({ length: count }, () => random.integer(10)),
  };
}

describe.each(zoo.map((model) => [model.name, model] as const))("%s", (name, entry) => {
  // Epochs of three steps, the last one of a smaller batch: each of the two shapes is run, recorded and replayed. Only
  // once through the first where steps take seconds.
  const large = entry.name === "alexnet-plus";
  const batchSize = large ? 2 : 8;
  const data = samples(large ? 3 * batchSize : 2 * batchSize + 1);

  test("training gives the same bits as without replay", { timeout: 300_000 }, async () => {
    const results: Record<string, Float32Array[]> = {};
    const dispatches: Record<string, number> = {};
    for (const run of large ? ["replayed", "eager"] : ["replayed", "merged", "eager"]) {
      // Then the next step that is recorded is merged at once.
      await vi.waitUntil(() => GpuStep.merging === 0, { timeout: 180_000 });
      const before = device.counters.dispatches;
      const model = zooArchitecture(entry).build({ device, seed: 5 });
      const optimizer = entry.optimizer({ learningRate: entry.learningRate }, 10);
      const history = await model.fit(data, {
        optimizer,
        loss: crossEntropy,
        batchSize,
        epochs: large ? 1 : 3,
        runEagerly: run === "eager",
      });
      dispatches[run] = device.counters.dispatches - before;
      const weights: Float32Array[] = [Float32Array.from(history.history["loss"]!)];
      for (const { tensor } of model.weights()) weights.push(Float32Array.from(await tensor.data()));
      results[run] = weights;
      optimizer.dispose();
      model.dispose();
      device.trim();
    }
    const { eager, ...others } = results;
    for (const [run, found] of Object.entries(others)) {
      const same = found.every((values, i) => Buffer.from(values.buffer).equals(Buffer.from(eager![i]!.buffer)));
      expect(same, `${name}, ${run}`).toBe(true);
    }
    if (!large) expect(dispatches["merged"]).toBeLessThan(dispatches["eager"]!);
  });
});
