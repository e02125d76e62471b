// Where a training's batches come from: rows of samples in memory, in an order of each epoch's own, or an iterable.
import { shuffledIndices } from "../../data/batches.js";
import { UsageError } from "../../tensor/errors.js";
import { keep } from "../../tensor/scope.js";
import type { StepInput } from "../../tensor/step-plan.js";
import { empty } from "../../tensor/tensor.js";
import type { Batches } from "../batches.js";
import { EpochBatches, isPromise } from "../batches.js";
import type { Model } from "../model.js";
import type { Term } from "../objective.js";
import { type LabelledBatch, SampleSet, type StepValues } from "../samples.js";
import { copyInto } from "../snapshot.js";

/** Alters the values [count, ...inputShape] of a batch in place. */
export type Change = (values: Float32Array, count: number) => void;

/** What a training must have as it was to be resumed. */
export interface SourceSettings {
  readonly batchSize?: number;
  readonly sampleCount?: number;
  readonly source?: string;
}

/** The batches of an epoch by their number in it. */
export interface StepSource {
  /** Infinite where that is not known. */
  readonly stepsPerEpoch: number;
  readonly settings: SourceSettings;
  /** Begins an epoch, with the batch `from`. */
  begin(epoch: number, seed: number, from: number): void | Promise<void>;
  /** A batch, the one after the last or one that was not released; undefined where the epoch has ended before it. */
  at(index: number, change: Change | undefined): StepValues | undefined | Promise<StepValues | undefined>;
  /** Whether an epoch ends after so many batches. */
  endsAt(count: number): boolean;
  /** Batches before this one are not asked for again. */
  release(index: number): void;
  /** Lets go of the epoch. */
  end(): Promise<void>;
}

/** Samples in memory, shuffled or not. */
export class RowSource implements StepSource {
  readonly stepsPerEpoch: number;
  readonly settings: Required<Pick<SourceSettings, "batchSize" | "sampleCount">>;
  private order: Uint32Array = new Uint32Array(0);

  constructor(
    private readonly set: SampleSet,
    batchSize: number,
    private readonly shuffle: boolean,
  ) {
    const { count } = set;
    // Fewer samples are one batch.
    this.settings = { batchSize: Math.min(batchSize, count), sampleCount: count };
    this.stepsPerEpoch = Math.ceil(count / this.settings.batchSize);
  }

  begin(epoch: number, seed: number): void {
    const { count } = this.set;
    this.order = this.shuffle ? shuffledIndices(count, seed, epoch) : Uint32Array.from({ length: count }, (_, i) => i);
  }

  at(index: number, change: Change | undefined): StepValues {
    const { batchSize } = this.settings;
    const indices = this.order.subarray(index * batchSize, Math.min((index + 1) * batchSize, this.set.count));
    return this.set.rows(indices, change && ((values) => change(values, indices.length)));
  }

  endsAt(count: number): boolean {
    return count >= this.stepsPerEpoch;
  }

  release(): void {}

  async end(): Promise<void> {}
}

/** What an iterable's batches are taken for. */
export interface IterableSourceOptions {
  readonly model: Model;
  readonly terms: readonly Term[];
  readonly classWeights: ReadonlyMap<number, number> | undefined;
  /** Ends epochs earlier than the iterable. */
  readonly stepsPerEpoch: number | undefined;
  /** Keeps copies of batches until they are released. */
  readonly keeps: boolean;
}

interface Kept {
  readonly values: StepValues;
  readonly free: () => void;
}

/** Batches of an iterable. Its arrays and tensors are used before it is asked for the next batch, unless kept. */
export class IterableSource implements StepSource {
  readonly settings: SourceSettings;
  private readonly batches: EpochBatches<LabelledBatch>;
  private readonly kept = new Map<number, Kept>();
  /** Batches that the epoch turned out to have. */
  private found = Number.POSITIVE_INFINITY;
  private epoch = 0;

  constructor(
    batches: Batches<LabelledBatch>,
    private readonly options: IterableSourceOptions,
  ) {
    this.batches = new EpochBatches(`fit: the data of "${options.model.name}"`, batches);
    const { identity } = this.batches;
    this.settings = identity === undefined ? {} : { source: identity };
  }

  /** @throws UsageError where what went before it cannot be left out again */
  requireResumable(): void {
    if (!this.batches.isIterator) return;
    throw new UsageError(
      "fit: to resume, batches must begin where an epoch begins, but an iterator can be gone through once; give a function that makes one for each epoch",
    );
  }

  get stepsPerEpoch(): number {
    const { count = Number.POSITIVE_INFINITY } = this.batches;
    return Math.min(this.options.stepsPerEpoch ?? Number.POSITIVE_INFINITY, count);
  }

  async begin(epoch: number, _seed: number, from: number): Promise<void> {
    this.release(Number.POSITIVE_INFINITY);
    this.found = Number.POSITIVE_INFINITY;
    this.epoch = epoch;
    await this.batches.begin(epoch, from);
  }

  at(index: number, change: Change | undefined): StepValues | undefined | Promise<StepValues | undefined> {
    const kept = this.kept.get(index);
    if (kept !== undefined) return kept.values;
    if (this.endsAt(index)) return undefined;
    const batch = this.batches.next();
    return isPromise(batch) ? batch.then((later) => this.take(index, later, change)) : this.take(index, batch, change);
  }

  private take(index: number, batch: LabelledBatch | undefined, change: Change | undefined): StepValues | undefined {
    if (batch === undefined) {
      this.batches.requireSome();
      this.found = index;
      return undefined;
    }
    const { model, terms, classWeights, keeps } = this.options;
    const owner = `${model.name}: batch ${index} of epoch ${this.epoch}`;
    const set = new SampleSet(model, batch, terms, owner);
    if (classWeights !== undefined) set.weigh(classWeights);
    let values = set.range(0, set.count);
    if (change !== undefined) values = changed(owner, values, change);
    if (!keeps) return values;
    const kept = copied(model, values);
    this.kept.set(index, kept);
    return kept.values;
  }

  endsAt(count: number): boolean {
    return count >= Math.min(this.stepsPerEpoch, this.found);
  }

  release(index: number): void {
    for (const [at, { free }] of this.kept) {
      if (at >= index) continue;
      free();
      this.kept.delete(at);
    }
  }

  async end(): Promise<void> {
    this.release(Number.POSITIVE_INFINITY);
    await this.batches.end();
  }
}

/** A batch whose first input is altered, in memory of its own. */
function changed(owner: string, batch: StepValues, change: Change): StepValues {
  const [first, ...others] = batch.x;
  if (first === undefined || "fill" in first) {
    throw new UsageError(`${owner}: augment needs inputs on the host, got a tensor; change it where it is made`);
  }
  const values = (first.values as Float32Array).slice();
  change(values, batch.count);
  return { ...batch, x: [{ ...first, values }, ...others] };
}

/** A copy of a batch that outlives what it was made of. */
function copied(model: Model, { count, x, y, weights }: StepValues): Kept {
  const copies: { dispose(): void }[] = [];
  const copy = (input: StepInput): StepInput => {
    if (!("fill" in input)) return { ...input, values: input.values.slice() };
    const own = keep(empty(model.device, input.shape, input.dtype));
    copies.push(own);
    input.fill(own);
    return { ...input, fill: (target) => copyInto(own, target) };
  };
  const values = { count, x: x.map(copy), y: y.map(copy), weights: weights.map(copy) };
  return {
    values,
    free: () => {
      for (const each of copies) each.dispose();
    },
  };
}
