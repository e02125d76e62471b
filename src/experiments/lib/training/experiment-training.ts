// Training as the experiments do it: a measured step to estimate from, and a model as a part of a run. The model is
// trained with fit. Its progress is told, and its checkpoint kept when the run is interrupted.
import { object } from "valibot";
import { type LabelledImages, splitImages } from "../../../data/dataset.js";
import { parse, ruled } from "../../../io/json.js";
import type { Architecture } from "../../../nn/architecture.js";
import type { Callback } from "../../../nn/callbacks/index.js";
import type { Evaluation } from "../../../nn/evaluate.js";
import type { Timing } from "../../../nn/history.js";
import { crossEntropy } from "../../../nn/losses.js";
import type { Model } from "../../../nn/model.js";
import type { Optimizer } from "../../../nn/optimizers.js";
import type { Samples } from "../../../nn/samples.js";
import type { FitOptions } from "../../../nn/training/options.js";
import { KilogradError, UsageError } from "../../../tensor/errors.js";
import { number } from "../../../tensor/options.js";
import type { ExperimentRun, Job } from "../frame/experiment.js";
import type { PartProgress } from "../frame/experiment-progress.js";
import { liveCurves } from "../frame/live-curves.js";
import { checkMemory } from "../frame/memory-limit.js";
import { checkSteps } from "../frame/setting-rules.js";
import { lossText, percent } from "../report/text.js";

/** Images with their classes, or with other targets, of which it has to be said how many they are. */
export type TrainingData = LabelledImages | (Samples & { readonly count: number });

/** A training: Keras's words, see `FitOptions`. The loss is cross-entropy unless another one is given. */
export interface TrainingPlan<Kept = undefined>
  extends Partial<Pick<FitOptions, "loss" | "augment" | "perturb" | "maxSteps" | "callbacks">> {
  readonly architecture: Architecture;
  /** Of weights, order and dropout; default: the run's. */
  readonly seed?: number;
  readonly data: TrainingData;
  /** Looked at after every epoch. */
  readonly validation?: TrainingData;
  /** Looked at once, after the last step. */
  readonly test?: TrainingData;
  /** @param steps of the whole training, for schedules */
  readonly optimizer: (steps: number) => Optimizer;
  readonly epochs: number;
  readonly batchSize: number;
  /** Steps between two checkpoints, besides one after every epoch. */
  readonly checkpointSteps?: number;
  /** JSON to keep with the model, asked for after training: what the callbacks saw. */
  readonly keep?: () => Kept;
}

/** What a training left, besides the model. */
export type TrainingNotes<Kept = undefined> = {
  /** One value per epoch: loss, accuracy, val_loss, val_accuracy, learning_rate. */
  readonly history: Record<string, number[]>;
  readonly steps: number;
  readonly timing: Timing;
  /** Wall time of this training, in all sessions that it took up to their last checkpoints. */
  readonly seconds: number;
  /** On the plan's test data, by the last step's weights, which the model has. */
  readonly test?: Evaluation;
  /**
   * On the test data, without them on the validation data, by the weights' moving average, where the optimizer keeps
   * one.
   */
  readonly averaged?: Evaluation;
  readonly kept: Kept;
};

/** A forward pass as a share of a training step: of the three matrix products of a layer it has one. */
const FORWARD_SHARE = 1 / 3;
/**
 * A measurement lasts so long, at least 2 steps, because the first compiles; where steps are quick, 4: the second
 * records.
 */
const MEASURED_MS = 1000;
const SLOW_MS = 10_000;

const stepsOf = ({ data, batchSize, epochs, maxSteps = Number.POSITIVE_INFINITY }: TrainingPlan<unknown>) =>
  Math.min(maxSteps, epochs * Math.ceil(data.count / batchSize));

/** @throws UsageError for more steps than are kept, and batches that do not fit into memory */
function checkTraining({ architecture, batchSize, ...plan }: TrainingPlan<unknown>): void {
  checkSteps(stepsOf({ architecture, batchSize, ...plan }));
  checkMemory("batch", { network: architecture, images: Math.min(batchSize, plan.data.count) });
}

/** Trains a throw-away copy for about a second. Gives seconds per step; in a worker, which estimates nothing, 0. */
export async function measureStep(run: ExperimentRun, plan: TrainingPlan<unknown>): Promise<number> {
  checkTraining(plan);
  if (run.serves) return 0;
  const model = plan.architecture.build({ device: run.device, seed: run.seed });
  const optimizer = plan.optimizer(stepsOf(plan));
  const begun = performance.now();
  const enough: Callback = {
    name: "enough",
    onStepEnd({ step }, { stop }) {
      const ms = performance.now() - begun;
      if ((step >= 4 && ms > MEASURED_MS) || (step >= 2 && ms > SLOW_MS)) stop("measured");
    },
  };
  try {
    const { timing } = await model.fit(plan.data, {
      ...fitOptions(plan, optimizer),
      callbacks: [enough],
      signal: run.signal,
    });
    run.signal.throwIfAborted();
    return (timing.stepMsMedian ?? timing.firstStepMs!) / 1000;
  } finally {
    optimizer.dispose();
    model.dispose();
    run.device.trim();
  }
}

/** What a training takes at so many seconds per step, validation after every epoch and the test at the end included. */
export function trainingSeconds(plan: TrainingPlan<unknown>, stepSeconds: number): number {
  const evaluated = plan.epochs * (plan.validation?.count ?? 0) + (plan.test?.count ?? 0);
  return stepSeconds * (stepsOf(plan) + (FORWARD_SHARE * evaluated) / plan.batchSize);
}

/** Share of the training images, their last part, that is held out where a reference validates. */
const HELD_OUT = 0.1;

/** Training images to train on, and others to look at after every epoch. @throws UsageError for fewer than two */
export function heldOut(images: LabelledImages): {
  readonly train: LabelledImages;
  readonly validation: LabelledImages;
} {
  if (images.count < 2) {
    throw new UsageError(`trainImages: needs at least 2 where some are held out for validation, got ${images.count}`);
  }
  const { first, last } = splitImages(images, HELD_OUT);
  return { train: first, validation: last };
}

/**
 * Trains a model as a part of a run, or reads it back. The caller disposes it. @throws KilogradError where the loss
 * diverges
 */
export function trainPart<Kept = undefined>(
  run: ExperimentRun,
  name: string,
  plan: TrainingPlan<Kept>,
): Promise<{ readonly model: Model; readonly notes: TrainingNotes<Kept> }> {
  const { architecture, seed = run.seed } = plan;
  checkTraining(plan);
  return run.model(name, {
    ...{ architecture, seed },
    train: async (model, { progress, checkpoint, started }): Promise<TrainingNotes<Kept>> => {
      const clock = trainingClock();
      const optimizer = plan.optimizer(stepsOf(plan));
      try {
        const { history, steps, timing, interrupted, stopReason } = await model.fit(plan.data, {
          ...fitOptions(plan, optimizer),
          callbacks: [toldProgress(run, name, progress, stepsOf(plan)), clock.callback, ...(plan.callbacks ?? [])],
          checkpoint: { path: checkpoint, ...(plan.checkpointSteps && { everySteps: plan.checkpointSteps }) },
          ...(started && { resume: checkpoint }),
          signal: run.signal,
        });
        if (interrupted) throw run.signal.reason;
        if (stopReason !== undefined && steps !== plan.maxSteps) {
          throw new KilogradError("DIVERGED", `${run.name}: ${name}: ${stopReason}`);
        }
        const test = plan.test && (await model.evaluate(plan.test, evaluationOptions(plan, run.signal)));
        const averaged = optimizer.keepsAverages && (await averagedEvaluation(model, optimizer, plan, run.signal));
        return {
          history,
          steps,
          timing,
          seconds: clock.seconds(),
          ...(test && { test }),
          ...(averaged && { averaged }),
          kept: plan.keep?.() as Kept,
        };
      } finally {
        optimizer.dispose();
      }
    },
  });
}

/** A training of its own, for `ExperimentRun.ahead`: the model is kept as a part. */
export const trainingJob = (run: ExperimentRun, name: string, plan: () => TrainingPlan<unknown>): Job => [
  name,
  async () => (await trainPart(run, name, plan())).model.dispose(),
];

const evaluationOptions = ({ loss = crossEntropy }: TrainingPlan<unknown>, signal: AbortSignal) => ({ loss, signal });

/** The weights' moving average on the test data or the validation data; undefined without such data. */
async function averagedEvaluation(
  model: Model,
  optimizer: Optimizer,
  plan: TrainingPlan<unknown>,
  signal: AbortSignal,
): Promise<Evaluation | undefined> {
  const data = plan.test ?? plan.validation;
  if (data === undefined) return undefined;
  optimizer.swapAverages(model.parameters());
  const evaluation = await model.evaluate(data, evaluationOptions(plan, signal));
  optimizer.swapAverages(model.parameters());
  return evaluation;
}

const storedClock = object({ seconds: ruled<number>(number({ from: 0 })) }, "an object");

/** Seconds of a training over all its sessions: what passed before is in the checkpoints. */
export function trainingClock(): { readonly callback: Callback; seconds(): number } {
  const begun = performance.now();
  let before = 0;
  const seconds = () => before + (performance.now() - begun) / 1000;
  const callback: Callback = {
    name: "trainingClock",
    exportState: () => ({ values: { seconds: seconds() } }),
    importState(values) {
      before = parse(storedClock, values, "trainingClock").seconds;
    },
  };
  return { callback, seconds };
}

/** A plan in the words of `fit`. */
export function fitOptions(
  { epochs, batchSize, maxSteps, validation, augment, perturb, loss }: TrainingPlan<unknown>,
  optimizer: Optimizer,
): FitOptions {
  return {
    ...{ optimizer, loss: loss ?? crossEntropy, epochs, batchSize },
    ...(maxSteps !== undefined && { maxSteps }),
    ...(validation && { validationData: validation }),
    ...(augment && { augment }),
    ...(perturb && { perturb }),
  };
}

/** Tells how far a training is, and ends it at a loss that is not finite. */
function toldProgress(run: ExperimentRun, name: string, progress: PartProgress, steps: number): Callback {
  const curves = liveCurves(run.live, `Loss of ${name}`);
  return {
    name: "toldProgress",
    onEpochEnd: curves.onEpochEnd,
    onStepEnd({ step, epoch, loss, meanLoss, meanAccuracy }, { epochs, stop }) {
      curves.onStepEnd(step, loss);
      run.savable(true);
      if (!Number.isFinite(loss)) stop(`the loss became ${loss} in step ${step}`);
      const accuracy = meanAccuracy === undefined ? "" : `, accuracy ${percent(meanAccuracy, 1)}`;
      progress(step / steps, `epoch ${epoch + 1}/${epochs}, loss ${lossText(meanLoss)}${accuracy}`);
    },
  };
}
