// Batches as fit, evaluate and predict take them in place of data in memory. They are any iterable or async iterable, a
// function that gives one for each epoch, or a BatchSource.
import type { BatchSource } from "../data/batch-source.js";
import { UsageError } from "../tensor/errors.js";
import { callable, describe } from "../tensor/options.js";
import type { Model } from "./model.js";
import { isRows } from "./samples.js";

export type AnyIterable<T> = Iterable<T> | AsyncIterable<T>;

/**
 * Batches of one epoch after the other. An iterable begins anew with each epoch, as an array or an object with a
 * generator method does; an iterator, which can be gone through once, goes on where the last epoch ended. A function is
 * told the number of the epoch, from 0.
 */
export type Batches<T> =
  | AnyIterable<T>
  | BatchSource<T>
  | ((epoch: number) => AnyIterable<T> | Promise<AnyIterable<T>>);

const isSource = (value: object): value is BatchSource<unknown> =>
  callable.accepts((value as BatchSource<unknown>).batches);
const isIterable = (value: unknown): value is AnyIterable<unknown> =>
  typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value);

/** Whether data comes in batches, and is not what a batch is made of. */
export function isBatches<T, D>(model: Model, data: D | Batches<T>): data is Batches<T> {
  if (callable.accepts(data)) return true;
  if (typeof data !== "object" || data === null || isRows(data)) return false;
  if (isSource(data)) return true;
  // A list of a model's inputs, one array for each.
  if (Array.isArray(data) && model.inputs.length > 1 && data.length === model.inputs.length && data.every(isRows)) {
    return false;
  }
  return isIterable(data);
}

/** The batches of an epoch, one after the other. */
export class EpochBatches<T> {
  private iterator: Iterator<T> | AsyncIterator<T> | undefined;
  /** Batches given in this epoch, those that were left out at its beginning included. */
  private given = 0;
  private done = false;

  /** @param owner begins messages */
  constructor(
    private readonly owner: string,
    private readonly batches: Batches<T>,
  ) {}

  /** Batches of every epoch, where that is known before the first. */
  get count(): number | undefined {
    const { batches } = this;
    if (Array.isArray(batches)) return batches.length;
    return typeof batches === "object" && isSource(batches) ? batches.batchCount : undefined;
  }

  /** See BatchSource.identity. */
  get identity(): string | undefined {
    const { batches } = this;
    return typeof batches === "object" && isSource(batches) ? batches.identity : undefined;
  }

  /** Whether it can be gone through once. */
  get isIterator(): boolean {
    const { batches } = this;
    return typeof batches === "object" && !isSource(batches) && "next" in batches;
  }

  /**
   * Begins an epoch, with the batch `from`.
   * @throws UsageError where there is no iterable, or it has fewer batches
   */
  async begin(epoch: number, from = 0): Promise<void> {
    await this.end();
    const { batches } = this;
    this.given = 0;
    this.done = false;
    if (typeof batches === "object" && isSource(batches)) {
      this.iterator = iteratorOf(this.checked(batches.batches(epoch, from)));
      this.given = from;
      return;
    }
    this.iterator = iteratorOf(this.checked(typeof batches === "function" ? await batches(epoch) : batches));
    while (this.given < from) {
      if ((await this.next()) !== undefined) continue;
      throw new UsageError(
        `${this.owner}: epoch ${epoch} must have the ${from} batches that are done as before, ended after ${this.given}`,
      );
    }
  }

  private checked(value: unknown): AnyIterable<T> {
    if (isIterable(value)) return value as AnyIterable<T>;
    throw new UsageError(`${this.owner}: what gives an epoch's batches must give an iterable, got ${describe(value)}`);
  }

  /** The next batch of the epoch; undefined at its end. */
  next(): T | undefined | Promise<T | undefined> {
    if (this.done || this.iterator === undefined) return undefined;
    const result = this.iterator.next();
    return isPromise(result) ? result.then((later) => this.take(later)) : this.take(result);
  }

  private take(result: IteratorResult<T>): T | undefined | Promise<T | undefined> {
    if (result.done) {
      this.done = true;
      return undefined;
    }
    this.given++;
    // An iterable of promises gives what they come to.
    return isPromise(result.value) ? result.value.then((value) => this.present(value)) : this.present(result.value);
  }

  private present(value: T): T {
    if (value !== undefined && value !== null) return value;
    throw new UsageError(`${this.owner}: batch ${this.given - 1} of the epoch must be a batch, got ${describe(value)}`);
  }

  /** @throws UsageError where the epoch had no batch */
  requireSome(): void {
    if (this.given > 0) return;
    throw new UsageError(
      `${this.owner}: needs at least one batch, got none; where an iterable can be gone through only once, give a function that makes one for each epoch`,
    );
  }

  /** Lets go of an epoch that may not have ended. An iterator that others may go on with stays open. */
  async end(): Promise<void> {
    const { iterator } = this;
    this.iterator = undefined;
    if (!this.done && !this.isIterator) await iterator?.return?.();
  }
}

export const isPromise = <T>(value: T | Promise<T>): value is Promise<T> => typeof Object(value).then === "function";

function iteratorOf<T>(iterable: AnyIterable<T>): Iterator<T> | AsyncIterator<T> {
  return Symbol.asyncIterator in iterable ? iterable[Symbol.asyncIterator]() : iterable[Symbol.iterator]();
}
