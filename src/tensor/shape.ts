// Shape algebra: sizes, strides, axes, broadcasting. Pure functions on number arrays; no tensors here.
import { ShapeError, UsageError } from "./errors.js";
import { describe } from "./options.js";

/** Sizes of the axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** As many as kernels have parameters for. */
export const MOST_AXES = 32;

/** @throws UsageError for what is no array, ShapeError unless every size is a non-negative integer */
export function checkShape(op: string, shape: Shape): void {
  if (!Array.isArray(shape)) {
    throw new UsageError(`${op}: a shape must be an array of whole numbers, such as [2, 3], got ${describe(shape)}`);
  }
  if (shape.length > MOST_AXES) {
    throw new ShapeError(`${op}: a shape has at most ${MOST_AXES} axes, got ${shape.length}`);
  }
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new ShapeError(`${op}: sizes must be non-negative integers, got ${describe(shape)}`);
  }
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis]!;
  }
  return strides;
}

/** An axis as a non-negative index; negative counts from the end. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ShapeError(`${op}: axis must be an integer in [${-rank}, ${rank - 1}] for rank ${rank}, got ${axis}`);
  }
  return axis < 0 ? axis + rank : axis;
}

/** One axis or several; negative ones count from the end. */
export type Axes = number | readonly number[];

/** Sorted, distinct, non-negative axes; undefined means all of them. */
export function normalizeAxes(op: string, axes: Axes | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === "number" ? [axes] : axes).map((axis) => normalizeAxis(op, axis, rank));
  const sorted = [...new Set(list)].sort((a, b) => a - b);
  if (sorted.length !== list.length) {
    throw new ShapeError(`${op}: axes must be distinct, got [${list.join(", ")}]`);
  }
  return sorted;
}

/** NumPy broadcasting: align at the right, an axis of size 1 stretches. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const result = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new ShapeError(
        `${op}: shapes do not broadcast, ${formatShape(a)} and ${formatShape(b)} differ at axis ${i - rank} (${m} and ${n}); sizes must be equal or 1`,
      );
    }
    result[i] = m === 1 ? n : m;
  }
  return result;
}

/** Strides for reading a tensor of shape `from` as shape `to`: 0 along stretched axes. */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const strides = stridesOf(from);
  const lead = to.length - from.length;
  return to.map((_, i) => (i < lead || from[i - lead] === 1 ? 0 : strides[i - lead]!));
}

/** Axes over which a gradient of shape `to` must be summed to fit an operand of shape `from`. */
export function broadcastAxes(from: Shape, to: Shape): number[] {
  const lead = to.length - from.length;
  const axes: number[] = [];
  for (let i = 0; i < to.length; i++) if (i < lead || (from[i - lead] === 1 && to[i] !== 1)) axes.push(i);
  return axes;
}
