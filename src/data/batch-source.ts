// What gives batches of data that need not lie in memory as a whole, epoch by epoch.

/** Gives the batches of each epoch; `fit`, `evaluate` and `predict` take it in place of data. */
export interface BatchSource<Batch> {
  /** Batches of an epoch, where that is known before it ends. */
  readonly batchCount?: number;
  /**
   * Says what must be the same for a training to go on with the same batches: where they come from, how many, in which
   * order. Checkpoints keep it, and resuming one with another is an error.
   */
  readonly identity?: string;
  /** The batches of an epoch (from 0) from the batch `from` on, in the same order whenever it is asked. */
  batches(epoch: number, from: number): Iterable<Batch> | AsyncIterable<Batch>;
}
