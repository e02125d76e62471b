// Steps on their way. Batches are gathered, and steps are submitted in runs without waiting. Their figures stay on the
// device and are read every so often, which also keeps the host from running far ahead of the device. What a step does
// depends on (seed, epoch, step) alone.
import { detach } from "../../autograd/tape.js";
import { RandomStream } from "../../tensor/random.js";
import { refusePromise } from "../../tensor/scope.js";
import { StepPlan } from "../../tensor/step-plan.js";
import { requireResult, type Tensor } from "../../tensor/tensor.js";
import { isPromise } from "../batches.js";
import { StepTimer } from "../history.js";
import type { Objective, StepBatch } from "../objective.js";
import { OutputFigures } from "../output-figures.js";
import type { StepValues } from "../samples.js";
import { Snapshot } from "../snapshot.js";
import { trainStep } from "../train-step.js";
import { slotsOf, type TrainingParts } from "../training-parts.js";
import type { FitOptions } from "./options.js";
import type { Change, StepSource } from "./step-source.js";

/** Wall time between two reads that steps are gathered to, in milliseconds. */
const READ_EVERY_MS = 150;

/** Turns of the event loop's microtasks within which a batch that is there arrives. */
const QUICK_TURNS = 8;

/** Steps that were submitted one after the other, and whose figures are read together. */
export interface Run {
  /** Steps before it, of the epoch and of all. */
  readonly stepInEpoch: number;
  readonly iterations: number;
  /** Samples of each step. None where the epoch turned out to have ended. */
  readonly samples: readonly number[];
  readonly begun: number;
  readonly read: ReturnType<OutputFigures["readInspected"]>;
  /** Whether weights and slots after it were inspected. */
  readonly inspected: boolean;
  /** State before it; only where a callback asks where a loss stopped being finite. */
  readonly before: Snapshot | undefined;
}

/** What a pipeline takes steps of. */
export interface PipelineOptions {
  readonly parts: TrainingParts;
  readonly objective: Objective;
  readonly source: StepSource;
  /** Of order and augmentation; a resumed training has that of its checkpoint. */
  readonly seed: number;
  readonly options: FitOptions;
}

/** The steps of a training. */
export class StepPipeline {
  readonly parts: TrainingParts;
  readonly objective: Objective;
  readonly table: OutputFigures;
  readonly timer = new StepTimer();
  readonly source: StepSource;
  seed: number;
  private readonly options: FitOptions;
  private readonly plan: StepPlan;
  /** State before the two runs on their way, in turns. */
  private readonly snapshots: readonly [Snapshot, Snapshot] | undefined;
  private runs = 0;
  /** What went wrong on the device while a batch was waited for. */
  private failure: unknown;

  constructor({ parts, objective, source, seed, options }: PipelineOptions) {
    const { model, callbacks } = parts;
    this.parts = parts;
    this.objective = objective;
    this.source = source;
    this.seed = seed;
    this.options = options;
    const guarded = callbacks.some((callback) => callback.stopsOnNonFinite);
    this.snapshots = guarded ? [new Snapshot(), new Snapshot()] : undefined;
    this.table = new OutputFigures(model, objective);
    this.plan = new StepPlan(model.device, (...inputs) => this.compute(this.batchOf(inputs)), {
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

  /** Begins an epoch, with the batch `from`. */
  beginEpoch(epoch: number, from: number): void | Promise<void> {
    return this.source.begin(epoch, this.seed, from);
  }

  /** Submits the steps from this one of the epoch on, which are not waited for; batches may be. */
  async submit(stepInEpoch: number): Promise<Run> {
    const most = this.nextRunLength(stepInEpoch);
    const { steps: iterations } = this.parts.optimizer;
    const samples: number[] = [];
    let before: Snapshot | undefined;
    let begun = performance.now();
    while (samples.length < most) {
      const index = stepInEpoch + samples.length;
      const next = this.source.at(index, this.change);
      const batch = isPromise(next) ? await this.arrived(next) : next;
      if (this.failure !== undefined) throw this.failure;
      if (batch === undefined) break;
      if (samples.length === 0) {
        before = this.snapshots?.[this.runs++ % 2];
        before?.take(this.stateTensors());
        begun = performance.now();
      }
      this.run(batch);
      samples.push(batch.count);
    }
    const ends = this.source.endsAt(stepInEpoch + samples.length) || this.limitReached || this.saves;
    const inspected = before !== undefined || ends;
    if (inspected) this.table.inspect(this.stateTensors().map(([, tensor]) => tensor));
    const read = this.table.readInspected();
    // What goes wrong is raised where they are awaited, which may be after the figures of the run before it.
    read.catch(() => {});
    return { stepInEpoch, iterations, samples, begun, read, inspected, before };
  }

  /** A batch that may still be on its way. The device works meanwhile; how long it has nothing to do is counted. */
  private async arrived(batch: Promise<StepValues | undefined>): Promise<StepValues | undefined> {
    let there = false;
    const done = () => {
      there = true;
    };
    batch.then(done, done);
    for (let turn = 0; turn < QUICK_TURNS && !there; turn++) await undefined;
    if (there) return batch;
    const asked = performance.now();
    let idleSince: number | undefined;
    this.parts.model.device.sync().then(
      () => {
        idleSince = performance.now();
      },
      (error: unknown) => {
        this.failure = error;
      },
    );
    const values = await batch;
    const now = performance.now();
    this.timer.waited(now - asked, idleSince === undefined ? 0 : now - idleSince);
    return values;
  }

  /** Steps until the next read: what fits into READ_EVERY_MS, but not past a limit or a checkpoint. */
  private nextRunLength(stepInEpoch: number): number {
    const { steps: iterations } = this.parts.optimizer;
    const { everySteps } = this;
    const { maxSteps = Number.POSITIVE_INFINITY } = this.options;
    const { recentStepMs } = this.timer;
    const inTime = recentStepMs === undefined ? 1 : Math.max(1, Math.round(READ_EVERY_MS / recentStepMs));
    const toSave = Number.isFinite(everySteps) ? everySteps - (iterations % everySteps) : everySteps;
    return Math.min(
      inTime,
      this.table.mostUnread,
      this.source.stepsPerEpoch - stepInEpoch,
      maxSteps - iterations,
      toSave,
    );
  }

  /** A step of this epoch again, which is not waited for. */
  step(index: number): void {
    this.run(this.again(index));
  }

  private run({ x, y, weights }: StepValues): void {
    this.plan.run(...x, ...y, ...weights);
  }

  /** A batch of this epoch that was not released. */
  again(index: number): StepValues {
    const batch = this.source.at(index, this.change);
    if (batch === undefined || isPromise(batch)) throw new Error(`internal: batch ${index} was released`);
    return batch;
  }

  /** The inputs of a step by what they are. */
  batchOf(inputs: readonly Tensor[]): StepBatch {
    const first = this.parts.model.inputs.length;
    const second = first + this.objective.terms.length;
    return { x: inputs.slice(0, first), y: inputs.slice(first, second), weights: inputs.slice(second) };
  }

  /** Changes the weights and puts the step's figures into the table. */
  private compute(batch: StepBatch): readonly Tensor[] {
    const { model, optimizer, scaler } = this.parts;
    const { objective } = this;
    const step = trainStep(model, this.perturbed(batch), { optimizer, objective, scaler });
    this.table.record(step, batch.y);
    return [];
  }

  /** A batch as steps see it. */
  perturbed(batch: StepBatch): StepBatch {
    const { seed, options } = this;
    const { model, optimizer } = this.parts;
    const { x, y } = batch;
    if (options.perturb === undefined) return { ...batch, x: x.map((input) => detach(input)) };
    const changed: unknown = options.perturb(x[0]!, y[0]!, { model, seed, step: () => optimizer.steps });
    requireResult("fit", changed, "perturb");
    return { ...batch, x: [detach(changed)] };
  }

  /** The augmentation of a batch, where there is one. */
  private get change(): Change | undefined {
    const { augment } = this.options;
    if (augment === undefined) return undefined;
    return (values, count) => {
      const { model, optimizer } = this.parts;
      const done: unknown = augment(values, {
        count,
        shape: model.inputShape,
        random: new RandomStream(this.seed, `augment/${optimizer.steps}`),
      });
      refusePromise("fit", done, "augment", "prepare before fit what has to be awaited");
    };
  }

  /** Weights and optimizer slots by name. */
  stateTensors(): (readonly [string, Tensor])[] {
    return [...this.parts.model.namedTensors(), ...slotsOf(this.parts)];
  }

  async dispose(): Promise<void> {
    try {
      await this.source.end();
    } finally {
      this.plan.dispose();
      this.table.dispose();
      for (const snapshot of this.snapshots ?? []) snapshot.dispose();
    }
  }
}
