// Steps on their way: batches are gathered, steps are submitted in runs without waiting, and their figures stay on the
// device and are read every so often, which also keeps the host from running far ahead of the device. What a step does
// depends on (seed, epoch, step) alone.
import { detach } from "../../autograd/tape.js";
import { shuffledIndices } from "../../data/batches.js";
import { RandomStream } from "../../tensor/random.js";
import { refusePromise } from "../../tensor/scope.js";
import { type HostTensor, StepPlan } from "../../tensor/step-plan.js";
import { requireResult, type Tensor } from "../../tensor/tensor.js";
import { FigureTable } from "../figures.js";
import { StepTimer } from "../history.js";
import { slotsOf, type TrainingParts } from "../resume.js";
import type { SampleSet } from "../samples.js";
import { Snapshot } from "../snapshot.js";
import { trainStep } from "../train-step.js";
import type { FitOptions } from "./options.js";

/** Wall time between two reads that steps are gathered to, in milliseconds. */
const READ_EVERY_MS = 150;

/** Steps that were submitted one after the other, and whose figures are read together. */
export interface Run {
  /** Steps before it, of the epoch and of all. */
  readonly stepInEpoch: number;
  readonly iterations: number;
  readonly count: number;
  readonly begun: number;
  readonly read: ReturnType<FigureTable["readInspected"]>;
  /** Whether weights and slots after it were inspected. */
  readonly inspected: boolean;
  /** State before it; only where a callback asks where a loss stopped being finite. */
  readonly before: Snapshot | undefined;
}

/** What a pipeline takes steps of. */
export interface PipelineOptions {
  readonly parts: TrainingParts;
  readonly set: SampleSet;
  readonly batchSize: number;
  /** Of order and augmentation; a resumed training has that of its checkpoint. */
  readonly seed: number;
  readonly options: FitOptions;
}

/** The steps of a training. */
export class StepPipeline {
  readonly parts: TrainingParts;
  readonly table: FigureTable;
  readonly timer = new StepTimer();
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  seed: number;
  private readonly set: SampleSet;
  private readonly options: FitOptions;
  private readonly plan: StepPlan;
  private readonly shuffle: boolean;
  private order: Uint32Array = new Uint32Array(0);
  /** State before the two runs on their way, in turns. */
  private readonly snapshots: readonly [Snapshot, Snapshot] | undefined;
  private runs = 0;

  constructor({ parts, set, batchSize, seed, options }: PipelineOptions) {
    const { model, callbacks } = parts;
    this.parts = parts;
    this.set = set;
    this.batchSize = batchSize;
    this.stepsPerEpoch = Math.ceil(set.count / batchSize);
    this.seed = seed;
    this.options = options;
    this.shuffle = options.shuffle ?? true;
    const guarded = callbacks.some((callback) => callback.stopsOnNonFinite);
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
  }

  /** Whether the steps submitted so far are all that there shall be. */
  get limitReached(): boolean {
    return this.parts.optimizer.steps >= (this.options.maxSteps ?? Number.POSITIVE_INFINITY);
  }

  /** Whether a checkpoint follows the steps submitted so far. */
  get saves(): boolean {
    return this.parts.optimizer.steps % this.everySteps === 0;
  }

  private get everySteps(): number {
    return this.options.checkpoint?.everySteps ?? Number.POSITIVE_INFINITY;
  }

  /** Orders the samples as this epoch has them. */
  beginEpoch(epoch: number): void {
    const { count } = this.set;
    this.order = this.shuffle
      ? shuffledIndices(count, this.seed, epoch)
      : Uint32Array.from({ length: count }, (_, i) => i);
  }

  /** Submits the steps from this one of the epoch on, which are not waited for. */
  submit(stepInEpoch: number): Run {
    const count = this.nextRunLength(stepInEpoch);
    const { steps: iterations } = this.parts.optimizer;
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

  /** Steps until the next read: what fits into READ_EVERY_MS, but not past a limit or a checkpoint. */
  private nextRunLength(stepInEpoch: number): number {
    const { steps: iterations } = this.parts.optimizer;
    const { everySteps } = this;
    const { maxSteps = Number.POSITIVE_INFINITY } = this.options;
    const { recentStepMs } = this.timer;
    const inTime = recentStepMs === undefined ? 1 : Math.max(1, Math.round(READ_EVERY_MS / recentStepMs));
    const toSave = Number.isFinite(everySteps) ? everySteps - (iterations % everySteps) : everySteps;
    return Math.min(inTime, this.table.mostUnread, this.stepsPerEpoch - stepInEpoch, maxSteps - iterations, toSave);
  }

  /** A step of this epoch, which is not waited for. */
  step(index: number): void {
    this.plan.run(...this.batch(index));
  }

  /** Changes the weights and puts the step's figures into the table. */
  private compute(x: Tensor, y: Tensor): readonly Tensor[] {
    const { model, optimizer, scaler } = this.parts;
    const { loss, prediction } = trainStep(model, this.perturbed(x, y), y, {
      optimizer,
      loss: this.options.loss,
      scaler,
    });
    this.table.record(loss, prediction, y);
    return [];
  }

  /** A batch as steps see it. */
  perturbed(x: Tensor, y: Tensor): Tensor {
    const { seed, options } = this;
    const { model, optimizer } = this.parts;
    if (options.perturb === undefined) return detach(x);
    const changed: unknown = options.perturb(x, y, { model, seed, step: () => optimizer.steps });
    requireResult("fit", changed, "perturb");
    return detach(changed);
  }

  private indicesOf(index: number): Uint32Array {
    return this.order.subarray(index * this.batchSize, Math.min((index + 1) * this.batchSize, this.set.count));
  }

  /** Samples in a step of this epoch. */
  samplesIn(index: number): number {
    return this.indicesOf(index).length;
  }

  /** The batch of a step of this epoch, augmented. */
  batch(index: number): [x: HostTensor, y: HostTensor] {
    const indices = this.indicesOf(index);
    const { augment } = this.options;
    const { model, optimizer } = this.parts;
    const change = (values: Float32Array) => {
      const done = augment?.(values, {
        count: indices.length,
        shape: model.inputShape,
        random: new RandomStream(this.seed, `augment/${optimizer.steps}`),
      });
      refusePromise("fit", done, "augment", "prepare before fit what has to be awaited");
    };
    return [this.set.inputRows(indices, change), this.set.targetRows(indices)];
  }

  /** Weights and optimizer slots by name. */
  stateTensors(): (readonly [string, Tensor])[] {
    return [...this.parts.model.namedTensors(), ...slotsOf(this.parts)];
  }

  dispose(): void {
    this.plan.dispose();
    this.table.dispose();
    for (const snapshot of this.snapshots ?? []) snapshot.dispose();
  }
}
