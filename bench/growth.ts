// `npm run bench:growth`: how a training step's time grows with batch, side of the images, channels and depth, and an
// epoch's with the data. One number of a series changes at a time. A step is recorded, as `fit` has it, and given its
// batch by the host. The rate is 2 operations for each of the three passes' multiply-adds over the median of several
// rounds, in which the sizes of a series take turns. All rates are shares of the best of them.
// The table and a plot of it go to `--out`.
import { join } from "node:path";
import { backward, detach } from "../src/autograd/tape.js";
import { zooModel } from "../src/experiments/lib/training/models.js";
import { lineChart } from "../src/io/charts.js";
import { prepareOutputFolder, writeFileAtomic } from "../src/io/files.js";
import { type Architecture, architecture } from "../src/nn/architecture.js";
import * as nn from "../src/nn/index.js";
import { crossEntropy } from "../src/nn/losses.js";
import { sgd } from "../src/nn/optimizers.js";
import { RandomStream } from "../src/tensor/random.js";
import { sizeOf } from "../src/tensor/shape.js";
import { StepPlan } from "../src/tensor/step-plan.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { GpuStep } from "../src/webgpu/recorded/step.js";
import { median, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";

interface Size {
  readonly value: number;
  readonly batch: number;
  readonly architecture: Architecture;
}

interface Series {
  readonly name: string;
  /** What `value` counts. */
  readonly unit: string;
  readonly sizes: readonly Size[];
}

const classifier = [nn.globalAvgPool2d(), nn.dense({ units: 10, activation: "softmax" })];
const same = { kernelSize: 3, padding: "same" } as const;
const narrow = () => [nn.conv2d({ ...same, filters: 16, useBias: false }), nn.batchNorm(), nn.activation("relu")];

const series: readonly Series[] = [
  {
    ...{ name: "batch of small-cnn", unit: "images" },
    sizes: [8, 32, 128, 512, 2048].map((value) => ({
      ...{ value, batch: value },
      architecture: architecture({ inputShape: [28, 28, 1] }, zooModel("small-cnn").layers()),
    })),
  },
  {
    ...{ name: "side of images, a stem of 7 x 7 / 2, pooling, 3 x 3, 3 x 3 / 2, 1 x 1", unit: "pixels" },
    sizes: [28, 56, 112, 224].map((value) => ({
      ...{ value, batch: 8 },
      architecture: architecture({ inputShape: [value, value, 3] }, [
        nn.conv2d({ filters: 32, kernelSize: 7, strides: 2, padding: "same", activation: "relu" }),
        nn.maxPool2d(2),
        nn.conv2d({ ...same, filters: 64, activation: "relu" }),
        nn.conv2d({ ...same, filters: 64, strides: 2, activation: "relu" }),
        nn.conv2d({ filters: 128, kernelSize: 1, activation: "relu" }),
        ...classifier,
      ]),
    })),
  },
  {
    ...{ name: "channels of two 3 x 3 on 16 x 16", unit: "channels" },
    sizes: [8, 16, 32, 64, 128, 256, 512].map((value) => ({
      ...{ value, batch: 16 },
      architecture: architecture({ inputShape: [16, 16, value] }, [
        nn.conv2d({ ...same, filters: value, activation: "relu" }),
        nn.conv2d({ ...same, filters: value, activation: "relu" }),
        ...classifier,
      ]),
    })),
  },
  {
    ...{ name: "depth, blocks of 3 x 3, batch normalisation, relu, 16 channels on 32 x 32", unit: "blocks" },
    sizes: [2, 4, 8, 16, 32, 64].map((value) => ({
      ...{ value, batch: 16 },
      architecture: architecture({ inputShape: [32, 32, 16] }, [
        ...Array.from({ length: value }, narrow).flat(),
        ...classifier,
      ]),
    })),
  },
];

/** Three passes, each with two operations a multiply-add. The gradient of the first layer's input counts, too. */
const flopsOf = ({ architecture, batch }: Size) => 6 * architecture.multiplyAdds() * batch;

const ROUNDS = { full: 7, quick: 3 };
/** Time of a size in a round. */
const ROUND_MS = { full: 600, quick: 150 };

/** A model in training: what a step takes, and the memory that it holds. */
async function subjectOf(device: WebGpuDevice, { architecture, batch }: Size) {
  const model = architecture.build({ device, seed: 1 });
  const optimizer = sgd({ learningRate: 0.01 });
  const random = new RandomStream(1, "images");
  const inputShape = architecture.inputs[0]!.shape;
  const values = Float32Array.from({ length: batch * sizeOf(inputShape) }, () => random.uniform());
  const ids = Int32Array.from({ length: batch }, (_, i) => i % 10);
  const plan = new StepPlan(device, (x, y) => {
    const loss = crossEntropy(model.logits(x!, { training: true, step: () => optimizer.iterations }), y!);
    backward(loss);
    optimizer.step(model.parameters());
    return [detach(loss)];
  });
  const step = () => plan.run({ values, shape: [batch, ...inputShape] }, { values: ids, shape: [batch] })[0]!;
  const before = device.memory().liveBytes;
  // The first compiles, the second is recorded; after the third, what can be merged is compiled.
  for (let i = 0; i < GpuStep.mergeAfter.cached + 3; i++) await step().item();
  while (GpuStep.merging > 0) await new Promise((resolve) => setTimeout(resolve, 100));
  return {
    bytes: device.memory().liveBytes - before,
    async run(steps: number): Promise<number> {
      const begun = performance.now();
      for (let i = 1; i < steps; i++) step();
      await step().item();
      return (performance.now() - begun) / steps;
    },
    dispose() {
      plan.dispose();
      optimizer.dispose();
      model.dispose();
      device.trim();
    },
  };
}

interface Row {
  readonly value: number;
  readonly gflop: number;
  readonly medianMs: number;
  readonly leastMs: number;
  /** 1e9 operations a second. */
  readonly rate: number;
  readonly mebibytes: number;
}

async function measureSeries(device: WebGpuDevice, { sizes }: Series, quick: boolean): Promise<Row[]> {
  const mode = quick ? "quick" : "full";
  const subjects = [];
  for (const size of sizes)
    subjects.push({ size, subject: await subjectOf(device, size), times: [] as number[], steps: 1 });
  for (const each of subjects) each.steps = Math.max(1, Math.round(ROUND_MS[mode] / (await each.subject.run(2))));
  for (let round = 0; round < ROUNDS[mode]; round++) {
    for (const each of subjects) each.times.push(await each.subject.run(each.steps));
  }
  return subjects.map(({ size, subject, times }) => {
    subject.dispose();
    const gflop = flopsOf(size) / 1e9;
    const medianMs = median(times);
    const rate = gflop / (medianMs / 1000);
    return {
      value: size.value,
      gflop,
      medianMs,
      leastMs: Math.min(...times),
      rate,
      mebibytes: subject.bytes / 2 ** 20,
    };
  });
}

/** An epoch of `fit` over `images` made images, and what is more in memory at its end. */
async function epoch(device: WebGpuDevice, images: number) {
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, zooModel("small-cnn").layers());
  const random = new RandomStream(1, "data");
  const data = {
    x: Float32Array.from({ length: images * 28 * 28 }, () => random.uniform()),
    y: Int32Array.from({ length: images }, (_, i) => i % 10),
  };
  const options = { loss: crossEntropy, optimizer: sgd(), batchSize: 128 } as const;
  await model.fit(data, { ...options, epochs: 1 });
  const before = device.memory().liveBytes;
  const begun = performance.now();
  await model.fit(data, { ...options, epochs: 1 });
  const ms = performance.now() - begun;
  const bytes = device.memory().liveBytes - before;
  model.dispose();
  return { images, ms, mebibytes: bytes / 2 ** 20 };
}

const WIDTHS = [10, 9, 11, 10, 9, 9, 10];
/** Below that a step is launches more than anything else. */
const LEAST = { gflop: 0.2, channels: 16 };

const options = parseOptions("Times training steps as batch, images, channels, depth and data grow.");
await withDevice(options, async (device) => {
  GpuStep.mergeAfter = { cached: 3, uncached: 3 };
  const write = await resultsFile(device, options, "growth");
  const found: { name: string; unit: string; rows: readonly Row[] }[] = [];
  for (const each of series.filter(({ name }) => options.filter.test(name))) {
    const { name, unit } = each;
    const rows = await measureSeries(device, each, options.quick);
    found.push({ name, unit, rows });
    const counts = ({ value, gflop }: Row) => gflop >= LEAST.gflop && (unit !== "channels" || value >= LEAST.channels);
    const best = Math.max(...rows.filter(counts).map(({ rate }) => rate));
    console.log(`\n${name}`);
    console.log(tableLine([unit, "GFLOP", "median ms", "least ms", "GFLOP/s", "of best", "MiB"], WIDTHS));
    for (const row of rows) {
      const share = `${((100 * row.rate) / best).toFixed(0)} %${counts(row) ? "" : " *"}`;
      const { value, gflop, medianMs, leastMs, rate, mebibytes } = row;
      const cells = [value, gflop.toFixed(3), medianMs.toFixed(2), leastMs.toFixed(2), rate.toFixed(1), share];
      console.log(tableLine([...cells, mebibytes.toFixed(1)], WIDTHS));
    }
    await write({ series: found });
  }
  console.log(`\n* below ${LEAST.gflop} GFLOP a step or ${LEAST.channels} channels: not among those compared`);
  if (options.filter.test("data")) {
    const [few, many] = [await epoch(device, 2_000), await epoch(device, 20_000)];
    const text = ({ images, ms, mebibytes }: typeof few) =>
      `${images} images: ${ms.toFixed(0)} ms an epoch, ${mebibytes.toFixed(2)} MiB more after it`;
    console.log(`\ndata\n${text(few)}\n${text(many)}\n${(many.ms / few.ms).toFixed(2)} times the time`);
    await write({ series: found, data: [few, many] });
  }
  const folder = await prepareOutputFolder(options.out);
  for (const [k, { name, unit, rows }] of found.entries()) {
    const svg = lineChart({
      title: name,
      x: { label: unit, scale: "log" },
      y: { label: "GFLOP/s", min: 0 },
      series: [{ name: "training step", x: rows.map(({ value }) => value), y: rows.map(({ rate }) => rate) }],
    });
    await writeFileAtomic(join(folder, `growth-${k}.svg`), svg);
  }
});
