// `npm run soak -- [--steps N]`: trains small-cnn for many steps and watches memory. The adapter's must not change once
// steps are replayed. The process's may grow by at most 10 MiB over the second half. Exit code 1 where one does not
// hold.
import { parseArgs } from "node:util";
import { digits } from "../src/data/digits.js";
import { zooArchitecture, zooModel } from "../src/experiments/lib/training/models.js";
import { crossEntropy } from "../src/nn/losses.js";
import { openDevice } from "../src/webgpu/open-device.js";

/** What was seen at a step. */
export interface Sample {
  readonly step: number;
  /** On the adapter: in use, and kept for later use. */
  readonly liveBytes: number;
  readonly pooledBytes: number;
  /** Resident memory of the process. */
  readonly residentBytes: number;
}

export const MOST_GROWTH = 10 * 2 ** 20;

/** Trains for so many steps; gives a sample of every fiftieth part of them. */
export async function soak(steps: number, say: (sample: Sample) => void = () => {}): Promise<Sample[]> {
  const device = await openDevice("webgpu");
  const zoo = zooModel("small-cnn");
  const model = zooArchitecture(zoo).build({ device, seed: 1 });
  const { train } = digits({ seed: 1, trainCount: 3200, testCount: 1 });
  const every = Math.max(1, Math.floor(steps / 50));
  const samples: Sample[] = [];
  const optimizer = zoo.optimizer({ learningRate: zoo.learningRate }, steps);
  try {
    await model.fit(train, {
      ...{ optimizer, loss: crossEntropy, batchSize: zoo.batchSize, epochs: Math.ceil(steps / 100), maxSteps: steps },
      callbacks: [
        {
          name: "memory",
          onStepEnd({ step }) {
            if (step % every !== 0) return;
            // Rubbish is no leak: with --expose-gc it goes first.
            globalThis.gc?.();
            const { liveBytes, pooledBytes } = device.memory();
            const sample = { step, liveBytes, pooledBytes, residentBytes: process.memoryUsage.rss() };
            samples.push(sample);
            say(sample);
          },
        },
      ],
    });
  } finally {
    optimizer.dispose();
    model.dispose();
    device.destroy();
  }
  return samples;
}

/** What is wrong with the memory over a training's second half. */
export function memoryFaults(samples: readonly Sample[]): string[] {
  const half = samples.slice(Math.floor(samples.length / 2));
  const [first, last] = [half[0]!, half.at(-1)!];
  const adapter = half.map(({ liveBytes, pooledBytes }) => liveBytes + pooledBytes);
  const growth = last.residentBytes - first.residentBytes;
  return [
    ...(new Set(adapter).size === 1
      ? []
      : [`bytes on the adapter are from ${Math.min(...adapter)} to ${Math.max(...adapter)} in the second half`]),
    ...(growth <= MOST_GROWTH
      ? []
      : [`the process grew by ${(growth / 2 ** 20).toFixed(1)} MiB from step ${first.step} to ${last.step}`]),
  ];
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { steps: { type: "string" } } });
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  const samples = await soak(Number(values.steps ?? 20_000), ({ step, liveBytes, pooledBytes, residentBytes }) =>
    console.log(
      `step ${step}: ${mebibytes(liveBytes)} MiB live, ${mebibytes(pooledBytes)} pooled on the adapter, process ${mebibytes(residentBytes)} MiB`,
    ),
  );
  const faults = memoryFaults(samples);
  for (const fault of faults) console.log(fault);
  if (faults.length === 0) console.log("memory is flat");
  process.exit(faults.length > 0 ? 1 : 0);
}
