// Training over a data set: epochs, batches, validation, callbacks, checkpoints. Steps are submitted without waiting; their
// figures stay on the device and are read every so often, which also keeps the host from running far ahead of the device.
// What a step does depends on (seed, epoch, step) alone, so a resumed training ends with the same bits.
import { detach } from "../autograd/tape.js";
import { shuffledIndices } from "../data/batches.js";
import { DeviceError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  boolean,
  callable,
  checkOptions,
  instanceOf,
  integer,
  listOf,
  number,
  object,
  oneOf,
  type Rule,
  type Rules,
  text,
} from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import { refusePromise, scope } from "../tensor/scope.js";
import type { Shape } from "../tensor/shape.js";
import { type HostTensor, StepPlan } from "../tensor/step-plan.js";
import { requireResult, type Tensor, tensor } from "../tensor/tensor.js";
import { atOnce, type Callback, callbackRule, type StepLogs, type TrainingContext } from "./callbacks/callback.js";
import { type ModelFile, readModelFile } from "./checkpoint.js";
import { findNonFinite, nonFiniteState } from "./diagnose.js";
import { evaluateSet } from "./evaluate.js";
import {
  addFigures,
  type BatchFigures,
  type FigureSums,
  FigureTable,
  type Metric,
  MOST_UNREAD,
  meansOf,
  metricsRule,
} from "./figures.js";
import { appendEpoch, emptyHistory, type History, StepTimer } from "./history.js";
import { LossScaler, type LossScalingOptions, lossScalingRules } from "./loss-scaling.js";
import { type Loss, lossRule } from "./losses.js";
import type { Model } from "./model.js";
import { type Optimizer, optimizerRule } from "./optimizers.js";
import {
  restoreTraining,
  saveTraining,
  slotsOf,
  type TrainingParts,
  type TrainingSettings,
  trainingOf,
} from "./resume.js";
import { batchSizeRule, type LabelledData, SampleSet, splitSamples } from "./samples.js";
import { Snapshot } from "./snapshot.js";
import { trainStep } from "./train-step.js";

export type { History } from "./history.js";

/** Where and how often a training is saved. */
export interface CheckpointOptions {
  readonly path: string;
  /** Default 1. */
  readonly everyEpochs?: number;
  /** Also after every so many steps; by default not. */
  readonly everySteps?: number;
  /** JSON to keep in the file, see `ModelFile.notes`. */
  readonly notes?: Readonly<Record<string, unknown>>;
}

/** What an augmentation is told about a batch. */
export interface AugmentContext {
  readonly count: number;
  /** Of one sample. */
  readonly shape: Shape;
  /** Depends on (seed, step) alone. */
  readonly random: RandomStream;
}

/** What a change of a batch on the device is told. */
export interface PerturbContext {
  readonly model: Model;
  /** Of order and augmentation. */
  readonly seed: number;
  /** Optimizer steps done before this one. It changes: ask for it in a kernel's params given as a function. */
  readonly step: () => number;
}

/**
 * Makes of a batch the inputs to train on. Part of the step, which is recorded and replayed (see `StepPlan`); no gradient
 * flows through it.
 */
export type Perturb = (x: Tensor, y: Tensor, context: PerturbContext) => Tensor;

export interface FitOptions {
  readonly optimizer: Optimizer;
  readonly loss: Loss;
  /** Epochs in all, those before a resumed run included; default 1. */
  readonly epochs?: number;
  /** Default 32; fewer samples are one batch. */
  readonly batchSize?: number;
  /** Share of the data, its last part, that is held out for validation. */
  readonly validationSplit?: number;
  readonly validationData?: LabelledData;
  /** A new order in every epoch; default true. */
  readonly shuffle?: boolean;
  /** Of the order and the augmentation; by default the model's. */
  readonly seed?: number;
  readonly callbacks?: readonly Callback[];
  /** Number of the first epoch, from 0; default 0. */
  readonly initialEpoch?: number;
  /** Ends training after this many optimizer steps in all, those before a resumed run included. */
  readonly maxSteps?: number;
  /** Default: accuracy where the loss is one of classes. */
  readonly metrics?: readonly Metric[];
  /** Changes a batch of inputs in place before it is uploaded. */
  readonly augment?: (inputs: Float32Array, context: AugmentContext) => void;
  /** Changes a batch of inputs on the device, such as into adversarial examples for the weights as they are. */
  readonly perturb?: Perturb;
  /** Where the device is of mixed precision, gradients are scaled, by default as PyTorch's GradScaler does; false: not. */
  readonly lossScaling?: LossScalingOptions | false;
  readonly checkpoint?: CheckpointOptions;
  /** Checkpoint to go on from: a path, or the file as read. */
  readonly resume?: string | ModelFile;
  /** Ends training after the steps on their way, with a checkpoint, when it is aborted. */
  readonly signal?: AbortSignal;
  /**
   * Runs the JavaScript of every step instead of recording a step and replaying it. For debugging: results have the same
   * bits, only slower. Default false.
   */
  readonly runEagerly?: boolean;
}

const map = instanceOf(Map, "a Map");
const modelFileRule: Rule = {
  expected: "a model file, as readModelFile gives it",
  accepts: (value) => {
    const { path, config, weights, slots, callbackTensors, notes } = Object(value) as Partial<ModelFile>;
    const maps = [weights, slots, callbackTensors];
    return text.accepts(path) && [config, notes].every(object.accepts) && maps.every(map.accepts);
  },
};

const fitRules: Rules<FitOptions> = {
  optimizer: optimizerRule,
  loss: lossRule,
  epochs: integer({ from: 0 }),
  batchSize: batchSizeRule,
  validationSplit: number({ above: 0, below: 1 }),
  validationData: object,
  shuffle: boolean,
  seed: number(),
  callbacks: listOf(callbackRule),
  initialEpoch: integer({ from: 0 }),
  maxSteps: integer({ from: 0 }),
  metrics: metricsRule,
  augment: callable,
  perturb: callable,
  lossScaling: anyOf(oneOf(false), object),
  checkpoint: object,
  resume: anyOf(text, modelFileRule),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  runEagerly: boolean,
};

const checkpointRules: Rules<CheckpointOptions> = {
  path: text,
  everyEpochs: integer({ from: 1 }),
  everySteps: integer({ from: 1 }),
  notes: object,
};

/** Wall time between two reads that steps are gathered to, in milliseconds. */
const READ_EVERY_MS = 150;

/** Steps that were submitted one after the other, and whose figures are read together. */
interface Run {
  /** Steps before it, of the epoch and of all. */
  readonly stepInEpoch: number;
  readonly iterations: number;
  readonly count: number;
  readonly begun: number;
  readonly read: ReturnType<FigureTable["readInspected"]>;
  /** Whether weights and slots after it were inspected. */
  readonly inspected: boolean;
  /** State before it, see `Training.snapshots`. */
  readonly before: Snapshot | undefined;
}

/** What a training changes, and what trainings only use: to change what another one uses would mix them up. */
const changing = new Set<object>();
const using = new Map<object, number>();

/**
 * Reserves the optimizer and the weights of a model for one training; gives what ends that.
 * @throws UsageError where another training is under way
 */
function reserve(model: Model, optimizer: Optimizer): () => void {
  const weights = model.weights();
  const used = weights.map(({ tensor }) => tensor);
  // A layer that is trained may also have running statistics.
  const changed = model.layers.flatMap((layer) => (layer.trainable ? Object.values(layer.weights) : []));
  const taken = weights.find(
    ({ tensor }) => changing.has(tensor) || (changed.includes(tensor) && (using.get(tensor) ?? 0) > 0),
  );
  if (taken !== undefined) {
    throw new UsageError(
      `fit: "${taken.name}" of "${model.name}" is part of another fit that has not ended; await that one first`,
    );
  }
  if (changing.has(optimizer)) {
    throw new UsageError(
      "fit: the optimizer is part of another fit that has not ended; give each an optimizer of its own",
    );
  }
  for (const each of [optimizer, ...changed]) changing.add(each);
  for (const each of used) using.set(each, (using.get(each) ?? 0) + 1);
  return () => {
    for (const each of [optimizer, ...changed]) changing.delete(each);
    for (const each of used) {
      const left = using.get(each)! - 1;
      if (left === 0) using.delete(each);
      else using.set(each, left);
    }
  };
}

export async function train(model: Model, data: LabelledData, given: FitOptions): Promise<History> {
  const options = checkOptions("fit", given, fitRules, ["optimizer", "loss"]);
  const { checkpoint, lossScaling = false } = options;
  if (checkpoint !== undefined) checkOptions("fit: checkpoint", checkpoint, checkpointRules, ["path"]);
  // Whether this device scales or not.
  if (lossScaling !== false) checkOptions("fit: lossScaling", lossScaling, lossScalingRules);
  const release = reserve(model, options.optimizer);
  try {
    const training = new Training(model, data, options);
    try {
      return await training.run();
    } catch (error) {
      throw training.explain(error);
    } finally {
      await training.dispose();
    }
  } finally {
    release();
  }
}

class Training {
  private readonly set: SampleSet;
  private readonly validation: SampleSet | undefined;
  private readonly batchSize: number;
  private readonly epochs: number;
  private readonly stepsPerEpoch: number;
  private readonly shuffle: boolean;
  private readonly callbacks: readonly Callback[];
  private readonly table: FigureTable;
  private readonly plan: StepPlan;
  private readonly timer = new StepTimer();
  private readonly history: History = emptyHistory();
  private readonly context: TrainingContext;
  private readonly optimizer: Optimizer;
  private readonly parts: TrainingParts;
  private seed: number;
  private epoch: number;
  private stepInEpoch = 0;
  private sums: FigureSums = { loss: 0, correct: 0, samples: 0 };
  private order: Uint32Array = new Uint32Array(0);
  /** State before the two runs on their way, in turns; only for callbacks that ask where a loss stopped being finite. */
  private readonly snapshots: readonly [Snapshot, Snapshot] | undefined;
  private runs = 0;
  private stateFinite = true;
  /** When the figures of the last run came. */
  private lastRead = 0;
  /** Optimizer steps known to be done, and those that the checkpoint holds. */
  private doneSteps: number;
  private savedStep: number | undefined;

  constructor(
    private readonly model: Model,
    data: LabelledData,
    private readonly options: FitOptions,
  ) {
    const { validationSplit, validationData, initialEpoch = 0, epochs = 1, batchSize = 32 } = options;
    if (validationSplit !== undefined && validationData !== undefined) {
      throw new UsageError("fit: takes validationSplit or validationData, got both");
    }
    const [training, held] =
      validationSplit === undefined ? [data, validationData] : splitSamples(model, data, validationSplit);
    this.set = new SampleSet(model, training);
    this.validation = held && new SampleSet(model, held);
    if (model.parameters().length === 0) {
      throw new UsageError(`fit: "${model.name}" has no trainable weights; set trainable = true on a layer`);
    }
    this.batchSize = Math.min(batchSize, this.set.count);
    this.epochs = epochs;
    this.epoch = initialEpoch;
    this.stepsPerEpoch = Math.ceil(this.set.count / this.batchSize);
    this.shuffle = options.shuffle ?? true;
    this.seed = options.seed ?? model.seed;
    this.optimizer = options.optimizer;
    this.doneSteps = this.optimizer.iterations;
    this.callbacks = options.callbacks ?? [];
    const names = this.callbacks.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw new UsageError(`fit: two callbacks have the name "${twice}"; rename one of them`);
    const { lossScaling = {} } = options;
    const scaled = model.device.precision === "mixed" && lossScaling !== false;
    const scaler = scaled ? new LossScaler(model.device, lossScaling) : undefined;
    this.parts = { model, optimizer: this.optimizer, callbacks: this.callbacks, scaler };
    const guarded = this.callbacks.some((callback) => callback.stopsOnNonFinite);
    this.snapshots = guarded ? [new Snapshot(), new Snapshot()] : undefined;
    this.table = new FigureTable(model, options.loss, options.metrics);
    this.plan = new StepPlan(model.device, (x, y) => this.compute(x!, y!), {
      eager: options.runEagerly ?? false,
      variant: () =>
        model
          .weights()
          .map(({ trainable }) => (trainable ? "t" : "f"))
          .join(""),
    });
    this.context = {
      model,
      optimizer: this.optimizer,
      epochs,
      batchSize: this.batchSize,
      stepsPerEpoch: this.stepsPerEpoch,
      history: this.history,
      stop: (reason) => {
        this.history.stopReason ??= reason;
      },
    };
  }

  async run(): Promise<History> {
    const { history, context, callbacks, options } = this;
    for (const callback of callbacks) await callback.onTrainBegin?.(context);
    if (options.resume !== undefined) await this.resume(options.resume);
    while (this.epoch < this.epochs && !this.ended) {
      this.order = this.orderOf(this.epoch);
      for (const callback of callbacks) await callback.onEpochBegin?.(this.epoch, context);
      await this.runSteps();
      if (this.stepInEpoch < this.stepsPerEpoch) {
        // Cut short. A resumed training finishes this epoch, so the file knows nothing of its figures so far.
        await this.save();
        const logs = this.sums.samples === 0 ? undefined : await this.epochLogs();
        if (logs !== undefined) appendEpoch(history, this.epoch, logs);
        break;
      }
      const logs = await this.epochLogs();
      if (logs === undefined) {
        await this.save();
        break;
      }
      appendEpoch(history, this.epoch, logs);
      for (const callback of callbacks) await callback.onEpochEnd?.(this.epoch, logs, context);
      this.epoch++;
      this.stepInEpoch = 0;
      this.sums = { loss: 0, correct: 0, samples: 0 };
      const due = this.epoch % (options.checkpoint?.everyEpochs ?? 1) === 0;
      if (due || this.ended || this.epoch === this.epochs) await this.save();
    }
    history.steps = this.optimizer.iterations;
    history.interrupted = this.aborted && this.epoch < this.epochs;
    history.timing = this.timer.report();
    if (this.limitReached) history.stopReason ??= `the limit of ${options.maxSteps} steps was reached`;
    for (const callback of callbacks) await callback.onTrainEnd?.(history, context);
    return history;
  }

  private get aborted(): boolean {
    return this.options.signal?.aborted ?? false;
  }

  private get limitReached(): boolean {
    return this.optimizer.iterations >= (this.options.maxSteps ?? Number.POSITIVE_INFINITY);
  }

  /** Whether a checkpoint follows the steps submitted so far. */
  private get saves(): boolean {
    return this.optimizer.iterations % (this.options.checkpoint?.everySteps ?? Number.POSITIVE_INFINITY) === 0;
  }

  private get ended(): boolean {
    return this.aborted || this.limitReached || this.history.stopReason !== undefined;
  }

  private orderOf(epoch: number): Uint32Array {
    const { count } = this.set;
    return this.shuffle ? shuffledIndices(count, this.seed, epoch) : Uint32Array.from({ length: count }, (_, i) => i);
  }

  /** The rest of the epoch's steps. A run is submitted before the figures of the last are waited for: the device never idles. */
  private async runSteps(): Promise<void> {
    let submitted = this.stepInEpoch;
    let last: Run | undefined;
    for (;;) {
      let next: Run | undefined;
      if (submitted < this.stepsPerEpoch && !this.ended) {
        next = this.submit(submitted);
        submitted += next.count;
      }
      if (last !== undefined && !(await this.finish(last, next))) return;
      last = next;
      if (last === undefined) return;
      const { saves } = this;
      // The first steps compile, and tell how long one takes; a checkpoint holds what was finished, and no more.
      if (!saves && this.timer.recentStepMs !== undefined) continue;
      if (!(await this.finish(last))) return;
      last = undefined;
      if (saves) await this.save();
    }
  }

  /** Submits the steps from this one of the epoch on, which are not waited for. */
  private submit(stepInEpoch: number): Run {
    const count = this.nextRunLength(stepInEpoch);
    const { iterations } = this.optimizer;
    const before = this.snapshots?.[this.runs++ % 2];
    before?.take(this.stateTensors());
    const begun = performance.now();
    for (let i = 0; i < count; i++) this.step(stepInEpoch + i);
    const ends = stepInEpoch + count === this.stepsPerEpoch || this.limitReached || this.saves;
    const inspected = before !== undefined || ends;
    if (inspected) this.table.inspect(this.stateTensors().map(([, tensor]) => tensor));
    const read = this.table.readInspected();
    // What goes wrong is raised where they are awaited, which may be after the figures of the run before it.
    read.catch(() => {});
    return { stepInEpoch, iterations, count, begun, read, inspected, before };
  }

  /** Waits for a run, while the next one may be on its way. False where that was taken back, with all after it. */
  private async finish(run: Run, next?: Run): Promise<boolean> {
    const { figures, finite } = await run.read;
    const now = performance.now();
    this.timer.add(now - Math.max(run.begun, this.lastRead), run.count);
    this.lastRead = now;
    const failed = this.account(run, figures);
    if (failed === undefined) {
      if (finite || !run.inspected) return true;
      await next?.read;
      if (run.before === undefined) await this.endOnNonFiniteState();
      else await this.rewind(run);
      return run.before === undefined;
    }
    await next?.read;
    await this.rewind(run, failed, figures[failed]!.loss);
    return false;
  }

  /** No further step can mend that. The last checkpoint, if there is one, stays as it is. */
  private async endOnNonFiniteState(): Promise<void> {
    const found = await nonFiniteState(this.model, slotsOf(this.parts));
    if (found === undefined) return;
    this.stateFinite = false;
    this.context.stop(
      `${found} is infinite or NaN after step ${this.optimizer.iterations}; terminateOnNaN() ends before that and finds where it began`,
    );
  }

  /** Steps until the next read: what fits into READ_EVERY_MS, but not past a limit or a checkpoint. */
  private nextRunLength(stepInEpoch: number): number {
    const { iterations } = this.optimizer;
    const { maxSteps = Number.POSITIVE_INFINITY, checkpoint } = this.options;
    const { recentStepMs } = this.timer;
    const inTime = recentStepMs === undefined ? 1 : Math.max(1, Math.round(READ_EVERY_MS / recentStepMs));
    const everySteps = checkpoint?.everySteps ?? Number.POSITIVE_INFINITY;
    const toSave = Number.isFinite(everySteps) ? everySteps - (iterations % everySteps) : everySteps;
    return Math.min(inTime, MOST_UNREAD, this.stepsPerEpoch - stepInEpoch, maxSteps - iterations, toSave);
  }

  /** A step of this epoch, which is not waited for. */
  private step(index: number): void {
    this.plan.run(...this.batch(index));
  }

  /** Changes the weights and puts the step's figures into the table. */
  private compute(x: Tensor, y: Tensor): readonly Tensor[] {
    const { optimizer, scaler } = this.parts;
    const { loss, prediction } = trainStep(this.model, this.perturbed(x, y), y, {
      optimizer,
      loss: this.options.loss,
      scaler,
    });
    this.table.record(loss, prediction, y);
    return [];
  }

  private perturbed(x: Tensor, y: Tensor): Tensor {
    const { model, seed, options, optimizer } = this;
    if (options.perturb === undefined) return detach(x);
    const changed: unknown = options.perturb(x, y, { model, seed, step: () => optimizer.iterations });
    requireResult("fit", changed, "perturb");
    return detach(changed);
  }

  private indicesOf(index: number): Uint32Array {
    return this.order.subarray(index * this.batchSize, Math.min((index + 1) * this.batchSize, this.set.count));
  }

  private batch(index: number): [x: HostTensor, y: HostTensor] {
    const indices = this.indicesOf(index);
    const { augment } = this.options;
    const change = (values: Float32Array) => {
      const done = augment?.(values, {
        count: indices.length,
        shape: this.model.inputShape,
        random: new RandomStream(this.seed, `augment/${this.optimizer.iterations}`),
      });
      refusePromise("fit", done, "augment", "prepare before fit what has to be awaited");
    };
    return [this.set.inputRows(indices, change), this.set.targetRows(indices)];
  }

  /** Takes the figures of a run into the epoch's, up to a loss that is not finite, if that matters: gives which. */
  private account({ iterations, before }: Run, figures: readonly BatchFigures[]): number | undefined {
    for (const [i, batch] of figures.entries()) {
      if (before !== undefined && !Number.isFinite(batch.loss)) return i;
      addFigures(this.sums, batch, this.indicesOf(this.stepInEpoch).length);
      const { loss: meanLoss, accuracy } = meansOf(this.sums, this.table.accuracy !== "none");
      const logs: StepLogs = {
        epoch: this.epoch,
        stepInEpoch: this.stepInEpoch++,
        step: (this.doneSteps = iterations + i + 1),
        loss: batch.loss,
        meanLoss,
        ...(accuracy !== undefined && { meanAccuracy: accuracy }),
      };
      for (const callback of this.callbacks) {
        atOnce(callback, "onStepEnd", callback.onStepEnd?.(logs, this.context));
      }
    }
    return undefined;
  }

  /**
   * Finds where numbers stopped being finite in a run: in step `index`, whose loss is not, or in the gradients or the update of
   * the one before; without an index in any step, after which a weight is not. The model is left as it was before that.
   */
  private async rewind(run: Run, index = Number.POSITIVE_INFINITY, loss?: number): Promise<void> {
    const { optimizer } = this;
    const state = this.stateTensors();
    run.before!.restore(state);
    optimizer.iterations = run.iterations;
    this.stepInEpoch = run.stepInEpoch;
    const looked = index === Number.POSITIVE_INFINITY ? 0 : index - 1;
    for (let i = 0; i < run.count; i++, this.stepInEpoch++) {
      const step = run.iterations + i + 1;
      const where = i >= looked ? await this.diagnose() : undefined;
      if (i === index) {
        const first = where === undefined ? "" : `; first not finite: ${where} in step ${step}`;
        this.context.stop(`the loss became ${loss} in step ${step}${first}`);
        return;
      }
      run.before!.take(state);
      this.step(this.stepInEpoch);
      await this.table.read();
      const after = i >= looked ? await nonFiniteState(this.model, slotsOf(this.parts)) : undefined;
      if (where === undefined && after === undefined) continue;
      run.before!.restore(state);
      optimizer.iterations = step - 1;
      this.context.stop(`first not finite: ${where ?? `${after} after its update`} in step ${step}`);
      return;
    }
  }

  /** What is not finite first in the step of the epoch that is next. It changes nothing, running statistics included. */
  private async diagnose(): Promise<string | undefined> {
    const before = new Snapshot();
    const weights = this.model.namedTensors();
    before.take(weights);
    try {
      return await this.findNonFinite();
    } finally {
      before.restore(weights);
      before.dispose();
    }
  }

  private async findNonFinite(): Promise<string | undefined> {
    const { device } = this.model;
    const [x, y] = this.batch(this.stepInEpoch).map(({ values, shape }) => tensor(device, values, { shape }));
    try {
      const inputs = scope(() => this.perturbed(x!, y!));
      try {
        return await findNonFinite(this.model, this.options.loss, inputs, y!, this.optimizer.iterations);
      } finally {
        inputs.dispose();
      }
    } finally {
      x!.dispose();
      y!.dispose();
    }
  }

  /** Figures of the epoch with validation; undefined when the training is aborted meanwhile. */
  private async epochLogs(): Promise<Record<string, number> | undefined> {
    const { loss, metrics, signal } = this.options;
    if (this.aborted) return undefined;
    const logs: Record<string, number> = { ...meansOf(this.sums, this.table.accuracy !== "none") };
    if (this.validation !== undefined) {
      try {
        const figures = await evaluateSet(this.model, this.validation, {
          loss,
          ...(metrics && { metrics }),
          ...(signal && { signal }),
        });
        for (const [name, value] of Object.entries(figures)) logs[`val_${name}`] = value;
      } catch (error) {
        if (this.aborted && error === signal?.reason) return undefined;
        throw error;
      }
    }
    return { ...logs, learning_rate: this.optimizer.learningRate };
  }

  /** Weights and optimizer slots by name. */
  private stateTensors(): (readonly [string, Tensor])[] {
    return [...this.model.namedTensors(), ...slotsOf(this.parts)];
  }

  /** Writes the checkpoint, where one is asked for. */
  private async save(): Promise<void> {
    const { checkpoint } = this.options;
    if (checkpoint === undefined || !this.stateFinite) return;
    const { epoch: epochs, history, stopReason } = this.history;
    const { epoch, stepInEpoch, sums } = this;
    const position = { epoch, stepInEpoch, sums, epochs, history, ...(stopReason !== undefined && { stopReason }) };
    await saveTraining(checkpoint.path, this.parts, { ...this.settings, ...position }, checkpoint.notes);
    this.savedStep = this.optimizer.iterations;
  }

  /** Goes on where a checkpoint was written. */
  private async resume(source: string | ModelFile): Promise<void> {
    const file = typeof source === "string" ? await readModelFile(source) : source;
    const state = trainingOf(file);
    this.seed = this.options.seed ?? state.seed;
    restoreTraining(file, this.parts, this.settings);
    this.epoch = state.epoch;
    this.stepInEpoch = state.stepInEpoch;
    this.sums = { ...state.sums };
    for (const epoch of state.epochs) this.history.epoch.push(epoch);
    for (const [name, values] of Object.entries(state.history)) this.history.history[name] = [...values];
    if (state.stopReason !== undefined) this.history.stopReason = state.stopReason;
    this.doneSteps = this.savedStep = state.iterations;
  }

  private get settings(): TrainingSettings {
    const { seed, batchSize, shuffle, set } = this;
    return { seed, batchSize, sampleCount: set.count, shuffle };
  }

  /** A lost device is reported with the step, and with what is saved. */
  explain(error: unknown): unknown {
    if (!(error instanceof DeviceError && error.code === "DEVICE_LOST")) return error;
    const { checkpoint } = this.options;
    const saved =
      checkpoint === undefined || this.savedStep === undefined
        ? "nothing was saved; give fit a checkpoint"
        : `${checkpoint.path} holds the training after step ${this.savedStep}; resume it`;
    return new DeviceError(
      "DEVICE_LOST",
      `fit: the device was lost after step ${this.doneSteps}; ${saved} (${error.message})`,
      { cause: error },
    );
  }

  async dispose(): Promise<void> {
    this.plan.dispose();
    this.table.dispose();
    for (const snapshot of this.snapshots ?? []) snapshot.dispose();
    this.parts.scaler?.dispose();
    for (const callback of this.callbacks) await callback.dispose?.();
  }
}
