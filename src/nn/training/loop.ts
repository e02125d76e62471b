// Training over a data set: epochs, validation, callbacks, checkpoints. Steps are taken by pipeline.ts. A resumed
// training ends with the same bits.
import { DeviceError, UsageError } from "../../tensor/errors.js";
import { check, checkOptions, number } from "../../tensor/options.js";
import { type Batches, isBatches } from "../batches.js";
import { atOnce, type Callback, type StepLogs, type TrainingContext } from "../callbacks/callback.js";
import { evaluateData } from "../evaluate.js";
import type { FigureSums } from "../figures.js";
import { appendEpoch, emptyHistory, type History } from "../history.js";
import { LossScaler, lossScalingRules } from "../loss-scaling.js";
import type { Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import { type Objective, objectiveOf } from "../objective.js";
import type { Optimizer } from "../optimizers.js";
import type { OutputBatchFigures } from "../output-figures.js";
import { type LabelledBatch, type LabelledData, SampleSet } from "../samples.js";
import { slotsOf, type TrainingParts, type TrainingSettings } from "../training-parts.js";
import { checkpointRules, type FitOptions, fitRules } from "./options.js";
import { type Run, StepPipeline } from "./pipeline.js";
import { reserve } from "./reserve.js";
import type { Failure } from "./rewind.js";
import { IterableSource, RowSource, type StepSource } from "./step-source.js";

/** What a model is trained on. */
export type TrainingData = LabelledData | Batches<LabelledBatch>;

export async function train(model: Model, data: TrainingData, given: FitOptions): Promise<History> {
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
  private readonly objective: Objective;
  private readonly validation: SampleSet | Batches<LabelledBatch> | undefined;
  private readonly epochs: number;
  private readonly callbacks: readonly Callback[];
  private readonly pipeline: StepPipeline;
  private readonly history: History = emptyHistory();
  private readonly context: TrainingContext;
  private readonly optimizer: Optimizer;
  private readonly parts: TrainingParts;
  private epoch: number;
  private stepInEpoch = 0;
  private sums: FigureSums[];
  private stateFinite = true;
  /** When the figures of the last run came. */
  private lastRead = 0;
  /** Optimizer steps known to be done, and those that the checkpoint holds. */
  private doneSteps: number;
  private savedStep: number | undefined;

  constructor(
    private readonly model: Model,
    data: TrainingData,
    private readonly options: FitOptions,
  ) {
    const { validationSplit, validationData, initialEpoch = 0, epochs = 1 } = options;
    if (validationSplit !== undefined && validationData !== undefined) {
      throw new UsageError("fit: takes validationSplit or validationData, got both");
    }
    this.objective = objectiveOf("fit", model, options);
    const [source, held] = isBatches(model, data) ? [this.iterable(data), undefined] : this.rows(data);
    this.validation = held ?? this.validationOf(validationData);
    if (model.parameters().length === 0) {
      throw new UsageError(`fit: "${model.name}" has no trainable weights; set trainable = true on a layer`);
    }
    if (options.perturb !== undefined && (model.inputs.length > 1 || this.objective.terms.length > 1)) {
      throw new UsageError("fit: perturb is for models of one input and output; let a layer change the inputs");
    }
    if (options.augment !== undefined && model.inputs.length > 1) {
      throw new UsageError("fit: augment is for models of one input; change batches where they are made");
    }
    this.epochs = epochs;
    this.epoch = initialEpoch;
    this.optimizer = options.optimizer;
    this.doneSteps = this.optimizer.steps;
    this.callbacks = options.callbacks ?? [];
    const names = this.callbacks.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw new UsageError(`fit: two callbacks have the name "${twice}"; rename one of them`);
    const { lossScaling = {} } = options;
    const scaled = model.device.precision === "mixed" && lossScaling !== false;
    const scaler = scaled ? new LossScaler(model.device, lossScaling) : undefined;
    this.parts = { model, optimizer: this.optimizer, callbacks: this.callbacks, scaler };
    const { objective } = this;
    this.pipeline = new StepPipeline({
      parts: this.parts,
      objective,
      source,
      options,
      seed: options.seed ?? model.seed,
    });
    this.sums = this.pipeline.table.noSums();
    const { history, optimizer } = this;
    this.context = {
      ...{ model, optimizer, epochs, history },
      batchSize: source.settings.batchSize,
      get stepsPerEpoch() {
        return Number.isFinite(source.stepsPerEpoch) ? source.stepsPerEpoch : undefined;
      },
      stop: (reason) => {
        history.stopReason ??= reason;
      },
    };
  }

  /** Samples in memory, and those of them that are held out. */
  private rows(data: LabelledData): [StepSource, SampleSet | undefined] {
    const { batchSize = 32, validationSplit, shuffle = true, stepsPerEpoch } = this.options;
    if (stepsPerEpoch !== undefined) {
      throw new UsageError(
        "fit: stepsPerEpoch is for batches from an iterable; of data in memory an epoch is all of it",
      );
    }
    const whole = new SampleSet(this.model, data, this.objective.terms);
    const [set, held] = validationSplit === undefined ? [whole, undefined] : whole.split(validationSplit);
    const weights = this.classWeights;
    return [new RowSource(weights === undefined ? set : set.weigh(weights), batchSize, shuffle), held];
  }

  private iterable(data: Batches<LabelledBatch>): StepSource {
    const { model, options, classWeights } = this;
    const { batchSize, shuffle, validationSplit, stepsPerEpoch, callbacks = [], resume } = options;
    for (const [name, value] of Object.entries({ batchSize, shuffle: shuffle || undefined, validationSplit })) {
      if (value === undefined) continue;
      throw new UsageError(`fit: ${name} is for data in memory, these batches are made already; leave it out`);
    }
    const keeps = callbacks.some((callback) => callback.stopsOnNonFinite);
    const { terms } = this.objective;
    const source = new IterableSource(data, { model, terms, classWeights, stepsPerEpoch, keeps });
    if (resume !== undefined) source.requireResumable();
    return source;
  }

  /** Weights of classes by their numbers. */
  private get classWeights(): ReadonlyMap<number, number> | undefined {
    const { classWeight } = this.options;
    if (classWeight === undefined) return undefined;
    const { terms } = this.objective;
    const outputs = this.model.outputShapes[terms[0]!.output]!.at(-1) ?? 1;
    const classes = Math.max(2, outputs);
    return new Map(
      Object.entries(classWeight).map(([name, weight]) => {
        check("fit", `classWeight of ${name}`, weight, number());
        const label = Number(name);
        if (Number.isInteger(label) && label >= 0 && label < classes) return [label, weight];
        throw new UsageError(`fit: classWeight must name classes from 0 to ${classes - 1}, names ${name}`);
      }),
    );
  }

  private validationOf(data: TrainingData | undefined): SampleSet | Batches<LabelledBatch> | undefined {
    if (data === undefined || isBatches(this.model, data)) return data;
    return new SampleSet(this.model, data, this.objective.terms);
  }

  async run(): Promise<History> {
    const { history, context, callbacks, options } = this;
    for (const callback of callbacks) await callback.onTrainBegin?.(context);
    if (options.resume !== undefined) await this.resume(options.resume);
    while (this.epoch < this.epochs && !this.ended) {
      await this.pipeline.beginEpoch(this.epoch, this.stepInEpoch);
      for (const callback of callbacks) await callback.onEpochBegin?.(this.epoch, context);
      await this.runSteps();
      if (!this.pipeline.source.endsAt(this.stepInEpoch)) {
        // Cut short. A resumed training finishes this epoch, so the file knows nothing of its figures so far.
        await this.save();
        const logs = this.sums[0]!.samples === 0 ? undefined : await this.epochLogs();
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
      this.sums = this.pipeline.table.noSums();
      const due = this.epoch % (options.checkpoint?.everyEpochs ?? 1) === 0;
      if (due || this.ended || this.epoch === this.epochs) await this.save();
    }
    history.steps = this.optimizer.steps;
    history.interrupted = this.aborted && this.epoch < this.epochs;
    history.timing = this.pipeline.timer.report();
    if (this.pipeline.limitReached) history.stopReason ??= `the limit of ${options.maxSteps} steps was reached`;
    for (const callback of callbacks) await callback.onTrainEnd?.(history, context);
    return history;
  }

  private get aborted(): boolean {
    return this.options.signal?.aborted ?? false;
  }

  private get ended(): boolean {
    return this.aborted || this.pipeline.limitReached || this.history.stopReason !== undefined;
  }

  /**
   * The rest of the epoch's steps. A run is submitted before the figures of the last are waited for: the device never
   * idles.
   */
  private async runSteps(): Promise<void> {
    const { pipeline } = this;
    let submitted = this.stepInEpoch;
    let last: Run | undefined;
    for (;;) {
      let next: Run | undefined;
      if (!pipeline.source.endsAt(submitted) && !this.ended) {
        next = await pipeline.submit(submitted);
        submitted += next.samples.length;
      }
      if (last !== undefined && !(await this.finish(last, next))) return;
      last = next;
      if (last === undefined) return;
      const { saves } = pipeline;
      // The first steps compile, and tell how long one takes; a checkpoint holds what was finished, and no more.
      if (!saves && pipeline.timer.recentStepMs !== undefined) continue;
      if (!(await this.finish(last))) return;
      last = undefined;
      if (saves) await this.save();
    }
  }

  /** Waits for a run, while the next one may be on its way. False where that was taken back, with all after it. */
  private async finish(run: Run, next?: Run): Promise<boolean> {
    const { figures, finite } = await run.read;
    const now = performance.now();
    if (run.samples.length > 0) this.pipeline.timer.add(now - Math.max(run.begun, this.lastRead), run.samples.length);
    this.lastRead = now;
    const failed = this.account(run, figures);
    if (failed === undefined) {
      if (finite || !run.inspected) {
        this.pipeline.source.release(run.stepInEpoch + run.samples.length);
        return true;
      }
      await next?.read;
      if (run.before === undefined) await this.endOnNonFiniteState();
      else await this.rewind(run);
      return run.before === undefined;
    }
    await next?.read;
    await this.rewind(run, { index: failed, loss: figures[failed]![0]!.loss });
    return false;
  }

  /** No further step can mend that. The last checkpoint, if there is one, stays as it is. */
  private async endOnNonFiniteState(): Promise<void> {
    const { nonFiniteState } = await import("../diagnose.js");
    const found = await nonFiniteState(this.model, slotsOf(this.parts));
    if (found === undefined) return;
    this.stateFinite = false;
    this.context.stop(
      `${found} is infinite or NaN after step ${this.optimizer.steps}; terminateOnNaN() ends before that and finds where it began`,
    );
  }

  /** Takes the figures of a run into the epoch's, up to a loss that is not finite, if that matters: gives which. */
  private account({ iterations, before, samples }: Run, figures: readonly OutputBatchFigures[]): number | undefined {
    const { table } = this.pipeline;
    for (const [i, batch] of figures.entries()) {
      const { loss } = batch[0]!;
      if (before !== undefined && !Number.isFinite(loss)) return i;
      table.add(this.sums, batch, samples[i]!);
      const { loss: meanLoss, accuracy, ...metrics } = table.figuresOf(this.sums);
      const logs: StepLogs = {
        epoch: this.epoch,
        stepInEpoch: this.stepInEpoch++,
        step: (this.doneSteps = iterations + i + 1),
        loss,
        meanLoss,
        ...(accuracy !== undefined && { meanAccuracy: accuracy }),
        metrics,
      };
      for (const callback of this.callbacks) {
        atOnce(callback, "onStepEnd", callback.onStepEnd?.(logs, this.context));
      }
    }
    return undefined;
  }

  /** Goes back to where numbers were finite, and ends with the reason. */
  private async rewind(run: Run, failure?: Failure): Promise<void> {
    const { rewind } = await import("./rewind.js");
    const { reason, stepInEpoch } = await rewind(this.pipeline, run, failure);
    this.stepInEpoch = stepInEpoch;
    if (reason !== undefined) this.context.stop(reason);
  }

  /** Figures of the epoch with validation; undefined when the training is aborted meanwhile. */
  private async epochLogs(): Promise<Record<string, number> | undefined> {
    const { signal, validationSteps: steps } = this.options;
    if (this.aborted) return undefined;
    const logs: Record<string, number> = { ...this.pipeline.table.figuresOf(this.sums) };
    if (this.validation !== undefined) {
      try {
        const options = { ...(signal && { signal }), ...(steps !== undefined && { steps }) };
        const figures = await evaluateData(this.model, this.validation, this.objective, options);
        for (const [name, value] of Object.entries(figures)) logs[`val_${name}`] = value;
      } catch (error) {
        if (this.aborted && error === signal?.reason) return undefined;
        throw error;
      }
    }
    return { ...logs, learning_rate: this.optimizer.learningRate };
  }

  /** Writes the checkpoint, where one is asked for. */
  private async save(): Promise<void> {
    const { checkpoint } = this.options;
    if (checkpoint === undefined || !this.stateFinite) return;
    const { epoch: epochs, history, stopReason } = this.history;
    const { epoch, stepInEpoch } = this;
    const [sums, ...outputSums] = this.sums;
    const position = {
      ...{ epoch, stepInEpoch, sums: sums!, epochs, history },
      ...(outputSums.length > 0 && { outputSums }),
      ...(stopReason !== undefined && { stopReason }),
    };
    const { saveTraining } = await import("../resume.js");
    await saveTraining(checkpoint.path, this.parts, { ...this.settings, ...position }, checkpoint.notes);
    this.savedStep = this.optimizer.steps;
  }

  /** Goes on where a checkpoint was written. */
  private async resume(source: string | ModelFile): Promise<void> {
    // Files and their checks come when they are needed.
    const { restoreTraining, trainingOf } = await import("../resume.js");
    const file = typeof source === "string" ? await (await import("../model-file.js")).readModelFile(source) : source;
    const state = trainingOf(file);
    this.pipeline.seed = this.options.seed ?? state.seed;
    restoreTraining(file, this.parts, this.settings);
    this.epoch = state.epoch;
    this.stepInEpoch = state.stepInEpoch;
    this.sums = this.pipeline.table.resumed([state.sums, ...(state.outputSums ?? [])], file.path);
    for (const epoch of state.epochs) this.history.epoch.push(epoch);
    for (const [name, values] of Object.entries(state.history)) this.history.history[name] = [...values];
    if (state.stopReason !== undefined) this.history.stopReason = state.stopReason;
    this.doneSteps = this.savedStep = this.optimizer.steps;
  }

  private get settings(): TrainingSettings {
    const { seed, source } = this.pipeline;
    const shuffle = source instanceof RowSource && (this.options.shuffle ?? true);
    return { seed, ...source.settings, shuffle, precision: this.model.device.precision };
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
    try {
      await this.pipeline.dispose();
    } finally {
      this.parts.scaler?.dispose();
      for (const callback of this.callbacks) await callback.dispose?.();
    }
  }
}
