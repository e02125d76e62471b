// Gradient descent on the inputs of a frozen model: which image makes it give this answer, this logit, this channel?
// Five parts, each replaceable: objective, parametrisation, transforms, regularisers, optimizer. All images are one
// batch whose losses are added, so each goes its own way whatever the others are.
import { ones } from "../autograd/ops/create.js";
import { add } from "../autograd/ops/elementwise.js";
import { backward, noGrad, toDifferentiate } from "../autograd/tape.js";
import { storeRowKernel } from "../kernels/copy.js";
import { StepTimer, type Timing } from "../nn/history.js";
import { requireModel } from "../nn/model.js";
import { adam, type Optimizer, optimizerRule } from "../nn/optimizers.js";
import type { Schedule } from "../nn/schedules.js";
import { KilogradError, ShapeError, UsageError } from "../tensor/errors.js";
import {
  array,
  callable,
  check,
  checkOptions,
  instanceOf,
  integer,
  listOf,
  number,
  type Rules,
} from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import { keep, refusePromise, scope } from "../tensor/scope.js";
import { formatShape, type Shape, sameShape, sizeOf } from "../tensor/shape.js";
import { type HostTensor, StepPlan } from "../tensor/step-plan.js";
import { empty, requireTensor, runInto, type Tensor, tensor } from "../tensor/tensor.js";
import { noiseImages } from "./images.js";
import { freeze, type Model } from "./model.js";
import { pixels } from "./parametrisation.js";
import {
  Activations,
  type Objective,
  objectiveRule,
  type Parametrization,
  parametersRule,
  parametrizationRule,
  type Regularizer,
  type Transform,
  transformRule,
} from "./parts.js";

/** Options of {@link optimizeInputs}. */
export interface OptimizeInputsOptions {
  /** What the images are optimised for. */
  readonly objective: Objective;
  /** Images to begin with, [N, ...inputShape] in a row; by default `count` of uniform noise, see `noiseImages`. */
  readonly starts?: Float32Array;
  /** How many images of noise; default 1. */
  readonly count?: number;
  /** Default 200. */
  readonly steps?: number;
  /** What the optimizer changes; default `pixels()`: the values themselves, in [0, 1]. */
  readonly parametrization?: Parametrization;
  /** Applied one after the other before the model sees the images; default none. */
  readonly transforms?: readonly Transform[];
  /** Added to the objective; default none. */
  readonly regularizers?: readonly Regularizer[];
  /**
   * One that has not taken a step; default Adam with a rate of 0.05 that falls in the end, see {@link settlingRate}.
   */
  readonly optimizer?: Optimizer;
  /** Of the noise and the transforms; default 0. */
  readonly seed?: number;
  /** Steps between two snapshots; default 100. */
  readonly snapshotEvery?: number;
  /** After which steps there are snapshots, instead: such as `logarithmicSteps(steps)`. */
  readonly snapshotSteps?: readonly number[];
  /** Ends the optimisation with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told of each snapshot as soon as it is read, the one before the first step included. */
  readonly onSnapshot?: (snapshot: InputSnapshot) => void;
  /** Told every so often; `loss` is the mean over the images before that step. */
  readonly onProgress?: (progress: { readonly step: number; readonly loss: number }) => void;
}

const optimizeRules: Rules<OptimizeInputsOptions> = {
  objective: objectiveRule,
  starts: instanceOf(Float32Array, "a Float32Array"),
  count: integer({ from: 1 }),
  steps: integer({ from: 1 }),
  parametrization: parametrizationRule,
  transforms: listOf(transformRule),
  regularizers: listOf(callable),
  optimizer: optimizerRule,
  seed: integer(),
  snapshotEvery: integer({ from: 1 }),
  snapshotSteps: listOf(integer({ from: 0 })),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  onSnapshot: callable,
  onProgress: callable,
};

/** All images after so many steps. */
export interface InputSnapshot {
  readonly step: number;
  /** [N, ...inputShape], as the parametrisation makes them, without the transforms. */
  readonly images: Float32Array;
  /** What the model says of them, [N, ...outputShape]. */
  readonly outputs: Float32Array;
  /** [N], objective and penalties, without the transforms. */
  readonly loss: Float32Array;
}

/** What an optimisation came to. */
export interface OptimizedInputs {
  /** The images after the last step, [N, ...inputShape] in a row. */
  readonly images: Float32Array;
  /** Theirs. */
  readonly shape: Shape;
  /** Before the first step, after every `snapshotEvery` or those of `snapshotSteps`, and after the last. */
  readonly snapshots: readonly InputSnapshot[];
  /** The objective before each step, and its sum with the penalties; [steps][N]. */
  readonly objective: readonly Float32Array[];
  readonly loss: readonly Float32Array[];
  readonly timing: Timing;
}

/** Steps recorded between two reads. */
export const STEPS_PER_READ = 25;

/**
 * Share of the steps with the full learning rate; over the rest it falls as half a cosine, down to this share of it.
 */
const FULL_RATE_SHARE = 0.6;
const FINAL_RATE_SHARE = 0.002;

/**
 * The learning rate of input optimisation over `steps`: constant, then falling. At a constant rate Adam goes on
 * circling around an answer such as 0.5 and 0.5 by about as far as its steps are long; the end of smaller steps lets it
 * settle.
 */
export function settlingRate(learningRate: number, steps: number): Schedule {
  check("settlingRate", "learningRate", learningRate, number({ from: 0 }));
  check("settlingRate", "steps", steps, integer({ from: 0 }));
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
 * Changes images so that the sum of an objective and of penalties falls. The model is in inference mode and frozen:
 * gradients flow to the images only, no kernel computes those of weights. The same options give the same bits.
 * @throws ShapeError where starts or targets do not fit the model
 * @throws UsageError for options out of range
 * @throws KilogradError `NON_FINITE` where a loss is infinite or NaN
 * @throws the signal's reason when it is aborted
 * @example
 * const { images } = await optimizeInputs(model, {
 *   objective: objectives.logit(3), transforms: [transforms.jitter(2)], regularizers: [regularizers.l2(1e-3)],
 * });
 */
export async function optimizeInputs(model: Model, options: OptimizeInputsOptions): Promise<OptimizedInputs> {
  requireModel("optimizeInputs", model);
  const given = checkOptions("optimizeInputs", options, optimizeRules, ["objective"]);
  const { objective, steps = 200, parametrization = pixels(), transforms = [], regularizers = [] } = given;
  const { seed = 0, snapshotEvery = 100, snapshotSteps, signal, onSnapshot, onProgress } = given;
  if (snapshotSteps !== undefined && given.snapshotEvery !== undefined) {
    throw new UsageError("optimizeInputs: takes snapshotEvery or snapshotSteps, got both");
  }
  /** The next step after `done` that ends with a snapshot. */
  const snapshotAfter = (done: number) =>
    Math.min(
      steps,
      ...(snapshotSteps?.filter((step) => step > done) ?? [(Math.floor(done / snapshotEvery) + 1) * snapshotEvery]),
    );
  const { optimizer = adam({ learningRate: settlingRate(0.05, steps) }) } = given;
  const starts = startsOf(model, given);
  const count = starts.length / sizeOf(model.inputShape);
  const shape = [count, ...model.inputShape];
  if (optimizer.steps !== 0) {
    throw new UsageError(
      `optimizeInputs: the optimizer must be a new one, got one after ${optimizer.steps} steps; make one for each optimisation`,
    );
  }
  const { device } = model;
  const owned: Tensor[] = [];
  const own = (t: Tensor): Tensor => {
    owned.push(keep(t));
    return t;
  };
  const constant = (values: Float32Array | Int32Array, of: Shape) => own(tensor(device, values, { shape: of }));
  const parameter = (values: Float32Array, of: Shape) => {
    const made = constant(values, of);
    made.requiresGrad = true;
    return made;
  };
  const timer = new StepTimer();
  const snapshots: InputSnapshot[] = [];
  const [objectives, losses]: [Float32Array[], Float32Array[]] = [[], []];
  const thaw = freeze(model);
  let plan: StepPlan | undefined;
  try {
    const given = options.starts !== undefined;
    const parameters = parametrization.prepare({ shape, starts, given, parameter, constant });
    check("optimizeInputs", `what parametrisation "${parametrization.name}" gives`, parameters, parametersRule);
    const objectiveOf = objective.prepare({ model, count, constant, hold: own });
    check("optimizeInputs", `what objective "${objective.name}" gives`, objectiveOf, callable);
    const dy = own(ones(device, [count]));
    // Rows: objective and loss of each step since the last read.
    const unread = own(empty(device, [2 * STEPS_PER_READ, count]));
    let unreadRows = 0;

    const imagesNow = () => {
      const images = parameters.images();
      requireShape(`what parametrisation "${parametrization.name}" gives`, images, shape);
      return images;
    };
    const measured = (images: Tensor, seen: Activations) => {
      const value = objectiveOf(seen);
      requireShape(`what objective "${objective.name}" gives`, value, [count]);
      const penalties = regularizers.flatMap((regularizer) => regularizer(images, () => optimizer.iterations));
      for (const penalty of penalties) requireShape("what a regularizer gives", penalty, [count]);
      return {
        value,
        loss:
          penalties.length === 0
            ? value
            : add(
                value,
                penalties.reduce((a, b) => add(a, b)),
              ),
      };
    };
    const names = transforms.map(({ name }, i) => {
      const before = transforms.slice(0, i).filter((other) => other.name === name).length;
      return before === 0 ? name : `${name}.${before}`;
    });
    const draw = (step: number): readonly (readonly HostTensor[])[] =>
      transforms.map((transform, i) => {
        const drawn = transform.draw({ shape, random: new RandomStream(seed, `${names[i]}/${step}`) });
        check("optimizeInputs", `what transform "${transform.name}" draws`, drawn, array);
        return drawn;
      });
    const counts = draw(0).map(({ length }) => length);
    const transformed = (images: Tensor, drawn: readonly Tensor[]) => {
      let [x, first] = [images, 0];
      for (const [i, transform] of transforms.entries()) {
        x = transform.apply(x, drawn.slice(first, first + counts[i]!));
        requireTensor("optimizeInputs", `what transform "${transform.name}" gives`, x);
        first += counts[i]!;
      }
      return x;
    };
    plan = new StepPlan(device, (...drawn) => {
      const images = imagesNow();
      const { value, loss } = toDifferentiate(() =>
        measured(images, new Activations(model, transformed(images, drawn))),
      );
      for (const values of [value, loss]) {
        runInto(storeRowKernel, [values], [unread], () => ({ row: unreadRows }));
        device.everyTime(() => {
          unreadRows++;
        });
      }
      // The gradient of the sum over the batch.
      backward(loss, { gradient: dy });
      optimizer.step(parameters.tensors);
      noGrad(() => parameters.limit?.());
      return [];
    });
    const takeSnapshot = async (step: number) => {
      const parts = noGrad(() =>
        scope(() => {
          const images = imagesNow();
          const seen = new Activations(model, images);
          return [images.alias(), seen.outputs().alias(), measured(images, seen).loss.alias()];
        }),
      );
      const [images, outputs, loss] = await valuesOf(parts);
      const snapshot = { step, images: images!, outputs: outputs!, loss: loss! };
      snapshots.push(snapshot);
      refusePromise("optimizeInputs", onSnapshot?.(snapshot), "onSnapshot", "await after the images are found");
    };

    await takeSnapshot(0);
    for (let done = 0; done < steps; ) {
      signal?.throwIfAborted();
      // The first step alone: it waits for pipelines to be compiled.
      const nextSnapshot = snapshotAfter(done);
      const end = done === 0 ? 1 : Math.min(done + STEPS_PER_READ, nextSnapshot);
      const begun = performance.now();
      for (let step = done; step < end; step++) plan.run(...draw(step).flat());
      const read = Float32Array.from(await unread.data());
      unreadRows = 0;
      timer.add(performance.now() - begun, end - done);
      for (let step = done; step < end; step++) {
        const row = 2 * (step - done) * count;
        objectives.push(read.slice(row, row + count));
        losses.push(read.slice(row + count, row + 2 * count));
        checkFinite(losses.at(-1)!, step);
      }
      const told = onProgress?.({ step: end, loss: losses.at(-1)!.reduce((a, b) => a + b) / count });
      refusePromise("optimizeInputs", told, "onProgress", "await after the images are found");
      if (end === nextSnapshot) await takeSnapshot(end);
      done = end;
    }
  } finally {
    plan?.dispose();
    for (const t of owned) t.dispose();
    thaw();
  }
  const { images } = snapshots.at(-1)!;
  return { images, shape, snapshots, objective: objectives, loss: losses, timing: timer.report() };
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

function startsOf(model: Model, { starts, count, seed = 0 }: OptimizeInputsOptions): Float32Array {
  if (starts === undefined) return noiseImages({ count: count ?? 1, shape: model.inputShape, seed });
  const size = sizeOf(model.inputShape);
  const found = starts.length / size;
  if (count !== undefined && count !== found) {
    throw new UsageError(`optimizeInputs: takes starts or count, got count ${count} and starts of ${found} images`);
  }
  if (Number.isInteger(found) && found > 0) return starts;
  throw new ShapeError(
    `optimizeInputs: needs starts [N, ${model.inputShape.join(", ")}] (${size} values each), got ${starts.length} values`,
  );
}

function requireShape(what: string, value: Tensor, expected: Shape): void {
  requireTensor("optimizeInputs", what, value);
  const { shape, dtype } = value;
  if (sameShape(shape, expected) && dtype === "f32") return;
  throw new ShapeError(
    `optimizeInputs: ${what} must be f32 ${formatShape(expected)}, got ${dtype} ${formatShape(shape)}`,
  );
}

function checkFinite(loss: Float32Array, step: number): void {
  const wrong = loss.findIndex((value) => !Number.isFinite(value));
  if (wrong < 0) return;
  throw new KilogradError(
    "NON_FINITE",
    `optimizeInputs: the loss of image ${wrong} must be finite, got ${loss[wrong]} before step ${step}; use a lower learning rate, or look at the starts and the model's weights`,
  );
}
