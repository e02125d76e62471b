// Training over a data set: epochs, validation, callbacks, checkpoints. Steps are taken by pipeline.ts. A resumed
// training ends with the same bits.
import { DeviceError, UsageError } from "../../tensor/errors.js";
import { checkOptions } from "../../tensor/options.js";
import { atOnce, type Callback, type StepLogs, type TrainingContext } from "../callbacks/callback.js";
import { nonFiniteState } from "../diagnose.js";
import { evaluateSet } from "../evaluate.js";
import type { BatchFigures, FigureSums } from "../figures.js";
import { appendEpoch, emptyHistory, type History } from "../history.js";
import { LossScaler, lossScalingRules } from "../loss-scaling.js";
import type { Model } from "../model.js";
import { type ModelFile, readModelFile } from "../model-file.js";
import type { Optimizer } from "../optimizers.js";
import {
  restoreTraining,
  saveTraining,
  slotsOf,
  type TrainingParts,
  type TrainingSettings,
  trainingOf,
} from "../resume.js";
import { type LabelledData, SampleSet, splitSamples } from "../samples.js";
import { checkpointRules, type FitOptions, fitRules } from "./options.js";
import { type Run, StepPipeline } from "./pipeline.js";
import { reserve } from "./reserve.js";
import { type Failure, rewind } from "./rewind.js";

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
  private readonly epochs: number;
  private readonly callbacks: readonly Callback[];
  private readonly pipeline: StepPipeline;
  private readonly history: History = emptyHistory();
  private readonly context: TrainingContext;
  private readonly optimizer: Optimizer;
  private readonly parts: TrainingParts;
  private epoch: number;
  private stepInEpoch = 0;
  private sums: FigureSums;
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
    this.pipeline = new StepPipeline({
      ...{ parts: this.parts, set: this.set, options },
      batchSize: Math.min(batchSize, this.set.count),
      seed: options.seed ?? model.seed,
    });
    this.sums = this.pipeline.table.noSums();
    this.context = {
      model,
      optimizer: this.optimizer,
      epochs,
      batchSize: this.pipeline.batchSize,
      stepsPerEpoch: this.pipeline.stepsPerEpoch,
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
      this.pipeline.beginEpoch(this.epoch);
      for (const callback of callbacks) await callback.onEpochBegin?.(this.epoch, context);
      await this.runSteps();
      if (this.stepInEpoch < this.pipeline.stepsPerEpoch) {
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
      if (submitted < pipeline.stepsPerEpoch && !this.ended) {
        next = pipeline.submit(submitted);
        submitted += next.count;
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
    this.pipeline.timer.add(now - Math.max(run.begun, this.lastRead), run.count);
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
    await this.rewind(run, { index: failed, loss: figures[failed]!.loss });
    return false;
  }

  /** No further step can mend that. The last checkpoint, if there is one, stays as it is. */
  private async endOnNonFiniteState(): Promise<void> {
    const found = await nonFiniteState(this.model, slotsOf(this.parts));
    if (found === undefined) return;
    this.stateFinite = false;
    this.context.stop(
      `${found} is infinite or NaN after step ${this.optimizer.steps}; terminateOnNaN() ends before that and finds where it began`,
    );
  }

  /** Takes the figures of a run into the epoch's, up to a loss that is not finite, if that matters: gives which. */
  private account({ iterations, before }: Run, figures: readonly BatchFigures[]): number | undefined {
    for (const [i, batch] of figures.entries()) {
      if (before !== undefined && !Number.isFinite(batch.loss)) return i;
      const { table } = this.pipeline;
      table.add(this.sums, batch, this.pipeline.samplesIn(this.stepInEpoch));
      const { loss: meanLoss, accuracy, ...metrics } = table.figuresOf(this.sums);
      const logs: StepLogs = {
        epoch: this.epoch,
        stepInEpoch: this.stepInEpoch++,
        step: (this.doneSteps = iterations + i + 1),
        loss: batch.loss,
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
    const { reason, stepInEpoch } = await rewind(this.pipeline, run, this.options.loss, failure);
    this.stepInEpoch = stepInEpoch;
    if (reason !== undefined) this.context.stop(reason);
  }

  /** Figures of the epoch with validation; undefined when the training is aborted meanwhile. */
  private async epochLogs(): Promise<Record<string, number> | undefined> {
    const { loss, metrics, signal } = this.options;
    if (this.aborted) return undefined;
    const logs: Record<string, number> = this.pipeline.table.figuresOf(this.sums);
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

  /** Writes the checkpoint, where one is asked for. */
  private async save(): Promise<void> {
    const { checkpoint } = this.options;
    if (checkpoint === undefined || !this.stateFinite) return;
    const { epoch: epochs, history, stopReason } = this.history;
    const { epoch, stepInEpoch, sums } = this;
    const position = { epoch, stepInEpoch, sums, epochs, history, ...(stopReason !== undefined && { stopReason }) };
    await saveTraining(checkpoint.path, this.parts, { ...this.settings, ...position }, checkpoint.notes);
    this.savedStep = this.optimizer.steps;
  }

  /** Goes on where a checkpoint was written. */
  private async resume(source: string | ModelFile): Promise<void> {
    const file = typeof source === "string" ? await readModelFile(source) : source;
    const state = trainingOf(file);
    this.pipeline.seed = this.options.seed ?? state.seed;
    restoreTraining(file, this.parts, this.settings);
    this.epoch = state.epoch;
    this.stepInEpoch = state.stepInEpoch;
    this.sums = this.pipeline.table.resumed(state.sums, file.path);
    for (const epoch of state.epochs) this.history.epoch.push(epoch);
    for (const [name, values] of Object.entries(state.history)) this.history.history[name] = [...values];
    if (state.stopReason !== undefined) this.history.stopReason = state.stopReason;
    this.doneSteps = this.savedStep = this.optimizer.steps;
  }

  private get settings(): TrainingSettings {
    const { seed, batchSize } = this.pipeline;
    return { seed, batchSize, sampleCount: this.set.count, shuffle: this.options.shuffle ?? true };
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
    this.pipeline.dispose();
    this.parts.scaler?.dispose();
    for (const callback of this.callbacks) await callback.dispose?.();
  }
}
