// Time of a whole training step of the experiments' models: upload of a batch, forward, loss, gradients, optimizer.
// `npm run build && npx tsc && node build/bench/steps.js`, with the options of kernels.ts.
import { zooArchitecture, zooModel } from "../src/experiments/lib/models.js";
import { crossEntropy } from "../src/nn/losses.js";
import { RandomStream } from "../src/tensor/random.js";
import { scope } from "../src/tensor/scope.js";
import { tensor } from "../src/tensor/tensor.js";
import type { WebGpuDevice } from "../src/tensor/webgpu.js";
import { median, parseOptions, tableLine, withDevice, writeResults } from "./harness.js";

const MODELS = ["small-cnn", "sgd-cnn", "mlp-64"] as const;

/** Steps that are recorded before the device is waited for, as in `fit`. */
const RUN = 10;

async function elapsed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function measureModel(device: WebGpuDevice, name: (typeof MODELS)[number], quick: boolean) {
  const entry = zooModel(name);
  const model = zooArchitecture(entry).build({ device, seed: 1 });
  const optimizer = entry.optimizer(entry.learningRate, 1000);
  const random = new RandomStream(1, name);
  const batch = entry.batchSize;
  const images = Float32Array.from({ length: batch * 784 }, () => random.uniform());
  const labels = Int32Array.from({ length: batch }, () => random.integer(10));
  const step = () =>
    scope(() => {
      const x = tensor(device, images, { shape: [batch, 28, 28, 1] });
      return model.trainStep(x, tensor(device, labels), { optimizer, loss: crossEntropy });
    });
  const readingLoss = async () => {
    const loss = step();
    await loss.item();
    loss.dispose();
  };
  const run = async () => {
    for (let i = 0; i < RUN; i++) step().dispose();
    await device.sync();
  };

  const firstStepMs = await elapsed(readingLoss);
  await run();
  device.resetCounters();
  step().dispose();
  const { dispatches } = device.counters;
  const recording: number[] = [];
  for (let i = 0; i < RUN; i++) recording.push(await elapsed(async () => step().dispose()));
  await device.sync();
  const runs: number[] = [];
  const single: number[] = [];
  for (let i = 0; i < (quick ? 5 : 25); i++) {
    runs.push((await elapsed(run)) / RUN);
    for (let k = 0; k < 3; k++) single.push(await elapsed(readingLoss));
  }
  // Nothing was trimmed since the first step: what the pool holds now is what the model took at most.
  const { liveBytes, pooledBytes } = device.memory();
  optimizer.dispose();
  model.dispose();
  device.trim();
  return {
    name,
    batch,
    /** Per step, in runs of RUN steps without reading anything. */
    stepMsMedian: median(runs),
    stepMsMin: Math.min(...runs),
    /** With the loss read after every step. */
    stepReadingLossMsMedian: median(single),
    /** Time on the CPU to record a step. */
    recordMsMedian: median(recording),
    firstStepMs,
    dispatches,
    peakBytes: liveBytes + pooledBytes,
  };
}

const options = parseOptions("Times training steps of small-cnn, sgd-cnn and mlp-64.");
const WIDTHS = [16, 9, 9, 12, 9, 9, 10, 9];

await withDevice(options, async (device) => {
  console.log(
    `\n${tableLine(["", "median ms", "least ms", "with loss ms", "record ms", "first ms", "dispatches", "peak MiB"], WIDTHS)}`,
  );
  const results = [];
  for (const name of MODELS.filter((model) => options.filter.test(model))) {
    const result = await measureModel(device, name, options.quick);
    const { stepMsMedian, stepMsMin, stepReadingLossMsMedian, recordMsMedian, firstStepMs, dispatches, peakBytes } =
      result;
    const times = [stepMsMedian, stepMsMin, stepReadingLossMsMedian, recordMsMedian].map((ms) => ms.toFixed(2));
    const rest = [firstStepMs.toFixed(0), dispatches, (peakBytes / 2 ** 20).toFixed(1)];
    console.log(tableLine([`${name} b${result.batch}`, ...times, ...rest], WIDTHS));
    results.push(result);
  }
  await writeResults(device, options, "steps", { results });
});
