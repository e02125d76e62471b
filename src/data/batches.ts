// Batches on the host: the order of an epoch's samples, and gathering their rows. Uploading them is the caller's work.

import { UsageError } from "../tensor/errors.js";
import { anyOf, check, instanceOf, integer, numbers } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";

/** A GiB of them. */
const countRule = integer({ from: 0, to: 2 ** 28 });
const whole = integer();
const rowsRule = anyOf(instanceOf(Float32Array, "a Float32Array"), instanceOf(Int32Array, "an Int32Array"));

/**
 * The numbers 0 to `count - 1` in an order that depends on seed and epoch only (Fisher-Yates, each order equally
 * likely).
 *
 * @example
 * for (let epoch = 0; epoch < epochs; epoch++) {
 *   const order = shuffledIndices(train.count, seed, epoch);
 *   gatherRows(train.images, 784, order.subarray(0, 32), batch); // the first batch
 * }
 */
export function shuffledIndices(count: number, seed: number, epoch: number): Uint32Array {
  check("shuffledIndices", "count", count, countRule);
  check("shuffledIndices", "seed", seed, whole);
  check("shuffledIndices", "epoch", epoch, whole);
  const random = new RandomStream(seed, `shuffle/${epoch}`);
  const indices = Uint32Array.from({ length: count }, (_, i) => i);
  for (let last = count - 1; last > 0; last--) {
    const other = random.integer(last + 1);
    const index = indices[last]!;
    indices[last] = indices[other]!;
    indices[other] = index;
  }
  return indices;
}

/**
 * Copies the rows `indices` of `source` [rows, rowSize] one after the other into `target`, whose first
 * `indices.length * rowSize` elements are overwritten. For labels, rowSize is 1.
 *
 * @throws UsageError where an index lies outside of `source`, or `target` is too small
 */
export function gatherRows<T extends Float32Array | Int32Array>(
  source: T,
  rowSize: number,
  indices: ArrayLike<number>,
  target: T,
): T {
  check("gatherRows", "source", source, rowsRule);
  check("gatherRows", "rowSize", rowSize, integer({ from: 1 }));
  check("gatherRows", "indices", indices, numbers);
  check("gatherRows", "target", target, rowsRule);
  if (target.length < indices.length * rowSize) {
    throw new UsageError(
      `gatherRows: ${indices.length} rows of ${rowSize} need a target of ${indices.length * rowSize}, given ${target.length}`,
    );
  }
  for (let row = 0; row < indices.length; row++) {
    const start = indices[row]! * rowSize;
    if (!(Number.isInteger(start) && start >= 0 && start + rowSize <= source.length)) {
      throw new UsageError(`gatherRows: row ${indices[row]} asked for, the source has ${source.length / rowSize} rows`);
    }
    target.set(source.subarray(start, start + rowSize), row * rowSize);
  }
  return target;
}
