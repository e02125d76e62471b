// Gradient descent on images for a frozen classifier: which picture makes it give the target's probabilities? All images
// are one batch whose losses are added, so each goes its own way whatever the others are. Which images to begin with and
// what to make of the results is left to the callers.

import { ones } from "../../../autograd/ops/create.js";
import { add, clip } from "../../../autograd/ops/elementwise.js";
import { softmax } from "../../../autograd/ops/softmax.js";
import { backward, noGrad } from "../../../autograd/tape.js";
import { copyKernel, storeRowKernel } from "../../../kernels/copy.js";
import { StepTimer, type Timing } from "../../../nn/history.js";
import { crossEntropy } from "../../../nn/losses.js";
import type { Model } from "../../../nn/model.js";
import { adam } from "../../../nn/optimizers.js";
import type { Schedule } from "../../../nn/schedules.js";
import { ShapeError, UsageError } from "../../../tensor/errors.js";
import { keep, scope } from "../../../tensor/scope.js";
import { formatShape, sizeOf } from "../../../tensor/shape.js";
import { StepPlan } from "../../../tensor/step-plan.js";
import { empty, runInto, type Tensor, tensor } from "../../../tensor/tensor.js";
import { blurred, gaussianKernel, jittered, jitterIndices, penalties, type Regularizers } from "./regularizers.js";

export interface OptimizeInputOptions {
  /** Images to begin with, [N, H, W, C] in a row, in [0, 1]. */
  readonly starts: Float32Array;
  /** Probabilities to reach, [N, classes] in a row. */
  readonly targets: Float32Array;
  readonly steps: number;
  readonly learningRate: number;
  readonly regularizers: Regularizers;
  /** Of the jitter. */
  readonly seed: number;
  /** Whether pixels are clipped to [0, 1] after every step; default true. */
  readonly clipped?: boolean;
  /** Whether the learning rate falls in the end, see {@link settlingRate}; default true. Otherwise it is constant. */
  readonly settling?: boolean;
  /** Steps between two snapshots; default 100. */
  readonly snapshotEvery?: number;
  readonly signal?: AbortSignal;
  /** Told every so often; `loss` is the mean over the images. */
  readonly onProgress?: (progress: { readonly step: number; readonly loss: number }) => void;
}

/** All images after so many steps. */
export interface InputSnapshot {
  readonly step: number;
  /** [N, H, W, C], as the classifier saw them (blurred where a blur is asked for). */
  readonly images: Float32Array;
  /** [N, classes] */
  readonly probabilities: Float32Array;
  /** [N]: cross-entropy and penalties. */
  readonly loss: Float32Array;
}

export interface OptimizedInputs {
  /** Before the first step, after every `snapshotEvery`, and after the last. */
  readonly snapshots: readonly InputSnapshot[];
  /** Cross-entropy before each step, and its sum with the penalties; [steps][N]. */
  readonly crossEntropy: readonly Float32Array[];
  readonly loss: readonly Float32Array[];
  readonly timing: Timing;
}

/** Steps recorded between two reads. */
export const STEPS_PER_READ = 25;

/** Share of the steps with the full learning rate; over the rest it falls as half a cosine, down to this share of it. */
const FULL_RATE_SHARE = 0.6;
const FINAL_RATE_SHARE = 0.002;

/**
 * The learning rate of input optimisation: constant, then falling. At a constant rate Adam goes on circling around an
 * answer such as 0.5 and 0.5 by about as far as its steps are long; the end of smaller steps lets it settle.
 */
export function settlingRate(learningRate: number, steps: number): Schedule {
  const full = Math.floor(FULL_RATE_SHARE * steps);
  return {
    name: "settling",
    config: { learningRate, steps, fullRateShare: FULL_RATE_SHARE, finalRateShare: FINAL_RATE_SHARE },
    at(step) {
      const done = Math.min(1, Math.max(0, step - full) / Math.max(1, steps - full));
      return learningRate * (FINAL_RATE_SHARE + ((1 - FINAL_RATE_SHARE) * (1 + Math.cos(Math.PI * done))) / 2);
    },
  };
}

/**
 * Optimises images by Adam, by default clipped to [0, 1] after every step, for cross-entropy to the target + penalties. The
 * model is frozen meanwhile: gradients flow to the images only, no kernel computes those of weights.
 * @throws ShapeError where starts or targets do not fit the model, UsageError for settings out of range
 */
export async function optimizeInputs(model: Model, options: OptimizeInputOptions): Promise<OptimizedInputs> {
  const { starts, targets, steps, learningRate, regularizers, seed, signal, onProgress } = options;
  const { snapshotEvery = 100, clipped = true, settling = true } = options;
  const count = starts.length / sizeOf(model.inputShape);
  checkOptions(model, options, count);
  const { device } = model;
  const trainable = model.layers.map((layer) => layer.trainable);
  model.trainable = false;

  const owned: Tensor[] = [];
  const own = (t: Tensor): Tensor => {
    owned.push(keep(t));
    return t;
  };
  const x = own(tensor(device, starts, { shape: [count, ...model.inputShape] }));
  x.requiresGrad = true;
  const target = own(tensor(device, targets, { shape: [count, targets.length / count] }));
  const kernel = regularizers.blur > 0 ? own(gaussianKernel(device, regularizers.blur)) : undefined;
  const dy = own(ones(device, [count]));
  const optimizer = adam({ learningRate: settling ? settlingRate(learningRate, steps) : learningRate });
  const timer = new StepTimer();
  const snapshots: InputSnapshot[] = [];
  const [crossEntropies, losses]: [Float32Array[], Float32Array[]] = [[], []];
  // Rows: cross-entropy and loss of each step since the last read.
  const unread = own(empty(device, [2 * STEPS_PER_READ, count]));
  let unreadRows = 0;

  const seen = () => (kernel === undefined ? x : blurred(x, kernel));
  const lossOf = (images: Tensor, entropy: Tensor) => {
    const penalty = penalties(images, regularizers);
    return penalty === undefined ? entropy : add(entropy, penalty);
  };
  const { jitter } = regularizers;
  const plan = new StepPlan(device, (rows, columns) => {
    const images = seen();
    const logits = model.logits(jitter === 0 ? images : jittered(images, jitter, rows!, columns!));
    const entropy = crossEntropy.perSample(logits, target);
    const loss = lossOf(images, entropy);
    for (const values of [entropy, loss]) {
      runInto(storeRowKernel, [values], [unread], () => ({ row: unreadRows }));
      device.everyTime(() => {
        unreadRows++;
      });
    }
    // The gradient of the sum over the batch.
    backward(loss, { gradient: dy });
    optimizer.step([x]);
    if (clipped) noGrad(() => runInto(copyKernel, [clip(x, 0, 1)], [x], {}));
    return [];
  });
  const [height, width] = model.inputShape as [number, number, number];
  const step = (index: number) =>
    plan.run(...(jitter === 0 ? [] : jitterIndices([height, width], jitter, { seed, step: index })));
  const takeSnapshot = async () => {
    const parts = noGrad(() =>
      scope(() => {
        const images = seen();
        const logits = model.logits(images);
        return [images.alias(), softmax(logits), lossOf(images, crossEntropy.perSample(logits, target))];
      }),
    );
    const [images, probabilities, loss] = await valuesOf(parts);
    snapshots.push({ step: optimizer.iterations, images: images!, probabilities: probabilities!, loss: loss! });
  };

  try {
    await takeSnapshot();
    while (optimizer.iterations < steps) {
      signal?.throwIfAborted();
      const done = optimizer.iterations;
      // The first step alone: it waits for pipelines to be compiled.
      const nextSnapshot = Math.min(steps, (Math.floor(done / snapshotEvery) + 1) * snapshotEvery);
      const end = done === 0 ? 1 : Math.min(done + STEPS_PER_READ, nextSnapshot);
      const begun = performance.now();
      for (let index = done; index < end; index++) step(index);
      const read = Float32Array.from(await unread.data());
      unreadRows = 0;
      timer.add(performance.now() - begun, end - done);
      for (let row = 0; row < 2 * (end - done); row++) {
        (row % 2 === 0 ? crossEntropies : losses).push(read.slice(row * count, (row + 1) * count));
      }
      onProgress?.({ step: end, loss: losses.at(-1)!.reduce((a, b) => a + b) / count });
      if (end === nextSnapshot) await takeSnapshot();
    }
  } finally {
    plan.dispose();
    for (const t of owned) t.dispose();
    optimizer.dispose();
    for (const [i, layer] of model.layers.entries()) layer.trainable = trainable[i]!;
  }
  return { snapshots, crossEntropy: crossEntropies, loss: losses, timing: timer.report() };
}

/** Reads f32 tensors and frees them, also when reading fails. */
async function valuesOf(tensors: readonly Tensor[]): Promise<Float32Array[]> {
  try {
    const values: Float32Array[] = [];
    for (const t of tensors) values.push(Float32Array.from(await t.data()));
    return values;
  } finally {
    for (const t of tensors) t.dispose();
  }
}

function checkOptions(model: Model, options: OptimizeInputOptions, count: number): void {
  const classes = sizeOf(model.outputShape);
  if (!(Number.isInteger(count) && count > 0 && options.targets.length === count * classes)) {
    throw new ShapeError(
      `optimizeInputs: needs starts [N, ${model.inputShape.join(", ")}] and targets [N, ${classes}] for one N, got ${options.starts.length} and ${options.targets.length} values; the model gives ${formatShape(model.outputShape)}`,
    );
  }
  const { steps, learningRate, snapshotEvery = 100, regularizers } = options;
  const { jitter } = regularizers;
  for (const [name, value, least] of [
    ["steps", steps, 1],
    ["snapshotEvery", snapshotEvery, 1],
    ["jitter", jitter, 0],
  ] as const) {
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw new UsageError(`optimizeInputs: ${name} must be a whole number from ${least}, got ${value}`);
  }
  for (const [name, value] of Object.entries({ learningRate, ...regularizers })) {
    if (Number.isFinite(value) && value >= 0) continue;
    throw new UsageError(`optimizeInputs: ${name} must be a number from 0, got ${value}`);
  }
}
