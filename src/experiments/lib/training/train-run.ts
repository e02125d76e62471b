// A training of a model of the zoo as a run: its images, fitting with checkpoints, testing, and what came out, as
// figures and text. Where settings come from and where results go is up to the commands.
import { join } from "node:path";
import { type ImageDataset, type LabelledImages, limitImages, splitImages } from "../../../data/dataset.js";
import { adversary } from "../../../inputs/attacks/adversary.js";
import type { StepAttack } from "../../../inputs/attacks/attack.js";
import { pgd } from "../../../inputs/attacks/pgd.js";
import type { Architecture } from "../../../nn/architecture.js";
import { type Callback, progressBar, terminateOnNaN } from "../../../nn/callbacks/index.js";
import type { ModelFile } from "../../../nn/checkpoint.js";
import type { History } from "../../../nn/history.js";
import type { Model } from "../../../nn/model.js";
import type { Optimizer } from "../../../nn/optimizers.js";
import type { Perturb } from "../../../nn/training/options.js";
import { KilogradError, UsageError } from "../../../tensor/errors.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import { liveCurves } from "../frame/live-curves.js";
import { showProgress } from "../frame/progress.js";
import { describeAdapter, type Figures, type RunContext, versions } from "../frame/run.js";
import { checkSteps } from "../frame/setting-rules.js";
import {
  type CommandOptions,
  commandText,
  counted,
  lossText,
  mebibytes,
  milliseconds,
  percent,
} from "../report/text.js";
import { distort } from "./augment.js";
import { type Classification, classify } from "./classify.js";
import { trainingClock } from "./experiment-training.js";
import { type ZooAdversary, type ZooModel, zooArchitecture, zooLoss } from "./models.js";
import { measureCeilings, profiledSteps, profileSteps } from "./profile.js";

/** Everything that fixes a training; `metrics.json` has it as `config`. */
export interface TrainConfig {
  readonly model: string;
  readonly data: string;
  readonly epochs: number;
  readonly steps?: number;
  readonly batch: number;
  readonly limitTrain?: number;
  readonly limitTest?: number;
  readonly lr: number;
  /**
   * Momentum of the weights' moving average, which then is the trained model; without it the last step's weights are.
   */
  readonly ema?: number;
  readonly seed: number;
}

/** The images of a training. */
export interface TrainSets {
  readonly train: LabelledImages;
  /** A part of the training images that is held out; absent where all are trained on. */
  readonly validation?: LabelledImages;
  readonly test: LabelledImages;
  /** What the figures after each epoch are of: "test part" or "last 10 % of the training part". */
  readonly watchedText: string;
}

/**
 * What is looked at after each epoch: the validation images, where there are none the test images. Nothing is chosen by
 * it.
 */
export const watchedImages = ({ validation, test }: TrainSets): LabelledImages => validation ?? test;

/** Figures with the number of images that they are of. */
export interface EvaluatedFigures extends Figures {
  readonly count: number;
}

/** What a training came to. */
export interface TrainRun {
  readonly config: TrainConfig;
  readonly zoo: ZooModel;
  readonly architecture: Architecture;
  readonly dataset: ImageDataset;
  readonly sets: TrainSets;
  /** The caller disposes it. */
  readonly model: Model;
  readonly history: History;
  /** Loss of every step of this run. */
  readonly stepLosses: readonly number[];
  /** Of the trained model on the images it was trained on, undistorted. */
  readonly train: EvaluatedFigures;
  /** Of the held-out part; absent where there is none. */
  readonly validation?: Figures;
  readonly test: Classification;
  /** By the last step's weights on `watchedImages`. */
  readonly watched: Figures;
  /** What all sessions of this training took, up to their last checkpoints, and the tests. */
  readonly seconds: number;
  readonly peakBytes: number;
}

/** Steps between two checkpoints within an epoch. */
const CHECKPOINT_EVERY = 500;
/** With `--steps`, validation and test take as many images as were trained on, but at least so many. */
const LEAST_EVALUATED = 1000;
/**
 * Beyond so many parameters, keeping a copy of the state to find the layer where a loss diverged costs too much memory.
 */
const MOST_GUARDED_PARAMETERS = 10e6;

/** How many images at most validate and test; undefined: all. */
export function evaluatedCount(config: TrainConfig): number | undefined {
  return config.limitTest ?? stepsCount(config);
}

const stepsCount = ({ steps, batch }: TrainConfig): number | undefined =>
  steps === undefined ? undefined : Math.max(LEAST_EVALUATED, steps * batch);

/** @throws UsageError when the batch is larger than the data */
export function setsOf(zoo: ZooModel, config: TrainConfig, dataset: ImageDataset): TrainSets {
  const all = config.limitTrain === undefined ? dataset.train : limitImages(dataset.train, config.limitTrain);
  const split = zoo.validationSplit === undefined ? undefined : splitImages(all, zoo.validationSplit);
  const training = split?.first ?? all;
  if (config.batch > training.count) {
    throw new UsageError(
      `batch: must be from 1 to the ${counted(training.count, "training image")}, given ${config.batch}; use a smaller --batch${
        config.limitTrain === undefined ? "" : " or a larger --limit-train"
      }`,
    );
  }
  const evaluated = evaluatedCount(config);
  checkSteps(
    Math.min(config.steps ?? Number.POSITIVE_INFINITY, config.epochs * Math.ceil(training.count / config.batch)),
  );
  return {
    train: training,
    ...(split && { validation: limited(split.last, evaluated) }),
    test: limited(dataset.test, evaluated),
    watchedText:
      zoo.validationSplit === undefined
        ? "test part"
        : `last ${Math.round(100 * zoo.validationSplit)} % of the training part`,
  };
}

export interface TrainingSetup {
  /** Untrained; trained in place. */
  readonly model: Model;
  readonly zoo: ZooModel;
  readonly config: TrainConfig;
  readonly dataset: ImageDataset;
  readonly sets: TrainSets;
  /** Where the checkpoint is kept, and its name there; default "checkpoint.safetensors". */
  readonly folder: string;
  readonly checkpointName?: string;
  readonly resume?: ModelFile;
  /** Options of `kilograd train` besides --resume that go on with this training; the checkpoint has the others. */
  readonly goOnWith?: CommandOptions;
}

/** Trains and measures. @throws the signal's reason, with a checkpoint written, when it is aborted */
export async function runTraining(setup: TrainingSetup, { signal, savable, say, live }: RunContext): Promise<TrainRun> {
  const { model, zoo, config, dataset, sets, folder, resume, goOnWith } = setup;
  const { checkpointName = "checkpoint.safetensors" } = setup;
  const clock = trainingClock();
  const architecture = zooArchitecture(zoo);
  const parameters = architecture.countParameters().total;
  say(
    `${zoo.name}: ${counted(parameters, "parameter")}, ${counted(sets.train.count, "image")} of ${dataset.name}, ` +
      `${counted(config.epochs, "epoch")}, batch ${config.batch}, ${optimizerText(zoo, config)}`,
  );
  const stepLosses: number[] = [];
  const curves = liveCurves(live, `Loss of ${zoo.name}`, sets.validation === undefined ? "test part" : "validation");
  const allSteps = Math.min(
    config.steps ?? Number.POSITIVE_INFINITY,
    config.epochs * Math.ceil(sets.train.count / config.batch),
  );
  const recorder: Callback = {
    name: "stepLosses",
    onEpochEnd: curves.onEpochEnd,
    onStepEnd({ loss, step, epoch }, { epochs }) {
      stepLosses.push(loss);
      curves.onStepEnd(step, loss);
      live?.progress(`training ${zoo.name}`, step / allSteps, `epoch ${epoch + 1} of ${epochs}`);
      savable?.(true);
    },
  };
  const checkpoint = join(folder, checkpointName);
  const steps = config.epochs * Math.ceil(sets.train.count / config.batch);
  const optimizer = optimizerOf(zoo, config, steps);
  const history = await model
    .fit(sets.train, {
      optimizer,
      loss: zooLoss(zoo),
      epochs: config.epochs,
      batchSize: config.batch,
      ...(config.steps !== undefined && { maxSteps: config.steps }),
      validationData: watchedImages(sets),
      callbacks: [
        ...[clock.callback, recorder, progressBar()],
        parameters > MOST_GUARDED_PARAMETERS ? stopOnNonFinite() : terminateOnNaN(),
      ],
      ...(zoo.augmented && { augment: distort }),
      ...(zoo.adversary && { perturb: adversaryOf(zoo.adversary, steps) }),
      checkpoint: { path: checkpoint, everySteps: CHECKPOINT_EVERY, notes: { config } },
      ...(resume && { resume }),
      signal,
    })
    .then((history) => {
      // Where the first step diverged there is no average.
      const finished = !history.interrupted && history.steps > 0;
      if (optimizer.keepsAverages && finished) optimizer.swapAverages(model.parameters());
      return history;
    })
    .finally(() => optimizer.dispose());
  if (history.interrupted) {
    say(
      `Interrupted after step ${history.steps}. The checkpoint is kept; go on with\n` +
        `  ${commandText(["train", zoo.name], { resume: checkpoint, steps: config.steps, ...goOnWith })}`,
    );
    throw signal.reason;
  }
  if (history.stopReason !== undefined && history.steps !== config.steps) {
    throw new KilogradError("DIVERGED", `train: ${history.stopReason}; use a smaller --lr than ${config.lr}`);
  }
  live?.finished(`training ${zoo.name}`, clock.seconds());
  const last = (name: string) => history.history[name]?.at(-1) ?? Number.NaN;
  const watched = { loss: last("val_loss"), accuracy: last("val_accuracy") };
  const train = await evaluatedOn(model, limited(sets.train, stepsCount(config)), "Training images", signal);
  // By averaged weights the figures after the last epoch are another model's, with smoothed targets another loss.
  const validation =
    sets.validation === undefined || !(optimizer.keepsAverages || zoo.labelSmoothing)
      ? sets.validation && watched
      : await evaluatedOn(model, sets.validation, "Validation", signal);
  const progress = showProgress("Test", sets.test.count);
  try {
    const test = await classify(model, sets.test, { signal, onProgress: (done) => progress.update(done) });
    progress.end(`loss ${lossText(test.loss)}  accuracy ${test.accuracy.toFixed(4)}`);
    return {
      ...{ config, zoo, architecture, dataset, sets, model, history, stepLosses, train, watched, test },
      ...(validation && { validation }),
      seconds: clock.seconds(),
      peakBytes: model.device.memory().peakBytes,
    };
  } finally {
    progress.end();
  }
}

const limited = (set: LabelledImages, count: number | undefined) =>
  count === undefined ? set : limitImages(set, count);

/** Figures of a model on images. */
async function evaluatedOn(
  model: Model,
  images: LabelledImages,
  title: string,
  signal: AbortSignal,
): Promise<EvaluatedFigures> {
  const progress = showProgress(title, images.count);
  try {
    const { loss, accuracy } = await classify(model, images, { signal, onProgress: (done) => progress.update(done) });
    progress.end(`loss ${lossText(loss)}  accuracy ${accuracy.toFixed(4)}`);
    return { loss, accuracy, count: images.count };
  } finally {
    progress.end();
  }
}

function optimizerOf(zoo: ZooModel, { lr, ema }: TrainConfig, steps: number): Optimizer {
  return zoo.optimizer({ learningRate: lr, ...(ema !== undefined && { emaMomentum: ema }) }, steps);
}

/** @param steps of the whole training */
export function adversaryOf({ epsilon, steps: attackSteps, warmup }: ZooAdversary, steps: number): Perturb {
  return adversary({ attack: l2Attack({ epsilon, steps: attackSteps }), warmupSteps: Math.round(warmup * steps) });
}

/** Steps that are twice the radius in all: enough for the other side of the ball. */
export const l2Attack = ({ epsilon, steps }: Pick<ZooAdversary, "epsilon" | "steps">): StepAttack =>
  pgd({ norm: "l2", epsilon, steps, relativeStep: 2 / steps, randomStart: true });

/** The optimizer and its settings, for lists and reports. */
export function optimizerText(zoo: ZooModel, { lr, ema }: TrainConfig): string {
  return `${zoo.optimizerText(lr)}${ema === undefined ? "" : `, weights averaged with momentum ${ema}`}`;
}

/** Profiles steps of the same training; the model changes. */
export async function profileTraining({ model, zoo, config, sets, history }: TrainRun, device: WebGpuDevice) {
  const run = async (count: number) => {
    const optimizer = optimizerOf(zoo, config, count);
    await model
      .fit(sets.train, {
        ...{ optimizer, loss: zooLoss(zoo), batchSize: config.batch },
        ...{ epochs: Number.MAX_SAFE_INTEGER, maxSteps: count },
        ...(zoo.augmented && { augment: distort }),
        ...(zoo.adversary && { perturb: adversaryOf(zoo.adversary, count) }),
      })
      .finally(() => optimizer.dispose());
  };
  const ceilings = await measureCeilings(device);
  return profileSteps(device, { steps: profiledSteps(history.timing.stepMsMedian), run, ceilings });
}

/** Ends training at a loss that is not finite, without looking for the layer. */
function stopOnNonFinite(): Callback {
  return {
    name: "stopOnNonFinite",
    onStepEnd({ loss, step }, { stop }) {
      if (!Number.isFinite(loss)) stop(`the loss became ${loss} in step ${step}`);
    },
  };
}

const figuresOf = ({ loss, accuracy }: Figures): Figures => ({ loss, accuracy });

/** What a model file says of its training; `optimize` reads it. */
export function modelNotes(run: TrainRun): Record<string, unknown> {
  const { config, train, validation, test } = run;
  const { adversary } = run.zoo;
  return {
    ...{ config, train: figuresOf(train), validation: validation ?? null, test: figuresOf(test) },
    ...(adversary && { robust: { attack: "PGD", norm: "l2", ...adversary } }),
  };
}

/** Curves by what they are of: without a validation part, what Keras would call val_accuracy is the test part's. */
export function historyByName(
  curves: Readonly<Record<string, readonly number[]>>,
  { validation }: TrainSets,
): Record<string, readonly number[]> {
  if (validation !== undefined) return { ...curves };
  return Object.fromEntries(Object.entries(curves).map(([name, values]) => [name.replace(/^val_/, "test_"), values]));
}

/** The command that trains the same again. @param more options that are no part of the configuration */
export function trainCommand(config: TrainConfig, more: CommandOptions): string {
  const { model, data, epochs, steps, batch, limitTrain, limitTest, lr, ema, seed } = config;
  const limits = { "limit-train": limitTrain, "limit-test": limitTest };
  return commandText(["train", model], { data, epochs, steps, batch, ...limits, lr, ema, seed, ...more });
}

/** metrics.json of a training. */
export function trainingMetrics(run: TrainRun, device: WebGpuDevice) {
  const { config, zoo, dataset, sets, history, seconds, architecture } = run;
  return {
    command: "train",
    config: {
      ...config,
      optimizer: optimizerText(zoo, config),
      augmented: zoo.augmented ?? false,
      adversary: zoo.adversary ?? null,
      dataSource: dataset.source,
      trainImages: sets.train.count,
      validationImages: sets.validation?.count ?? 0,
      validation: sets.validation === undefined ? null : sets.watchedText,
      testImages: sets.test.count,
    },
    seed: config.seed,
    adapter: describeAdapter(device),
    versions: versions(),
    parameters: architecture.countParameters(),
    history: {
      epoch: history.epoch.map((epoch) => epoch + 1),
      ...historyByName(history.history, sets),
      /** Of this run's steps, with the digits that a float32 mean has to tell. */
      stepLoss: run.stepLosses.map((loss) => Number(loss.toPrecision(6))),
    },
    /** Of the trained model, on the training images. */
    train: run.train,
    validation: run.validation ?? null,
    test: figuresOf(run.test),
    confusion: run.test.confusion,
    timing: { ...history.timing, totalSeconds: seconds },
    steps: history.steps,
    memory: { peakBytes: run.peakBytes },
    ...(zoo.reference && { reference: zoo.reference }),
  };
}

/** Last lines in the terminal. */
export function trainingSummary({ train, validation, test, history, peakBytes, zoo, config, sets }: TrainRun): string {
  const { firstStepMs, stepMsMedian } = history.timing;
  const reference =
    zoo.reference && config.data === "mnist" ? ` (reference ${percent(zoo.reference.testAccuracy)})` : "";
  const row = (name: string, { loss, accuracy }: Figures, remark = "") =>
    `  ${name.padEnd(11)} ${percent(accuracy).padStart(9)}   loss ${lossText(loss)}${remark}`;
  return [
    `${zoo.name}, ${counted(history.steps, "step")} of batch ${config.batch}:`,
    row("train", train, `   ${counted(train.count, "training image")} after training`),
    ...(validation === undefined ? [] : [row("validation", validation, `   ${sets.watchedText}`)]),
    row("test", test, `${config.ema === undefined ? "" : "   averaged weights"}${reference}`),
    `  ${stepMsMedian === undefined ? "" : `${milliseconds(stepMsMedian)} a step, `}first step ${milliseconds(firstStepMs ?? Number.NaN)}, at most ${mebibytes(peakBytes)} on the adapter`,
  ].join("\n");
}
