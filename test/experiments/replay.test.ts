// Training and input optimisation replay recorded steps: the same bits as running every step's JavaScript, for every model.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { zoo, zooArchitecture } from "../../src/experiments/lib/models.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { openDevice } from "../../src/tensor/open.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { WebGpuDevice } from "../../src/tensor/webgpu.js";

let device: WebGpuDevice;
beforeAll(async () => {
  device = (await openDevice("webgpu")) as WebGpuDevice;
});
afterAll(() => device.destroy());

function samples(count: number) {
  const random = new RandomStream(3, "replay");
  return {
    inputs: Float32Array.from({ length: count * 784 }, () => random.uniform()),
    targets: Int32Array.from({ length: count }, () => random.integer(10)),
  };
}

describe.each(zoo.map((model) => [model.name, model] as const))("%s", (name, entry) => {
  // Epochs of three steps, the last one of a smaller batch: each of the two shapes is run, recorded and replayed. Only once
  // through the first where steps take seconds.
  const large = entry.name === "alexnet-plus";
  const batchSize = large ? 2 : 8;
  const data = samples(large ? 3 * batchSize : 2 * batchSize + 1);

  test("training gives the same bits as without replay", { timeout: 240_000 }, async () => {
    const results: Record<string, Float32Array[]> = {};
    for (const runEagerly of [false, true]) {
      const model = zooArchitecture(entry).build({ device, seed: 5 });
      const optimizer = entry.optimizer({ learningRate: entry.learningRate }, 10);
      const history = await model.fit(data, {
        optimizer,
        loss: crossEntropy,
        batchSize,
        epochs: large ? 1 : 3,
        runEagerly,
      });
      const weights: Float32Array[] = [Float32Array.from(history.history["loss"]!)];
      for (const { tensor } of model.weights()) weights.push(Float32Array.from(await tensor.data()));
      results[String(runEagerly)] = weights;
      optimizer.dispose();
      model.dispose();
      device.trim();
    }
    const same = results["false"]!.every((values, i) =>
      Buffer.from(values.buffer).equals(Buffer.from(results["true"]![i]!.buffer)),
    );
    expect(same, name).toBe(true);
  });
});
