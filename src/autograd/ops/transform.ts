// Operations that move elements: reshape, squeeze, expandDims (which only rename axes), transpose, slice, pad, flip,
// concat, stack. Any dtype and rank.
import { type Copy, stridedCopyKernel } from "../../kernels/transform.js";
import { type AxesOptions, axesOf, axisOf } from "../../tensor/axes.js";
import { elementRules } from "../../tensor/dtype.js";
import { ShapeError } from "../../tensor/errors.js";
import { check, integer, listOf, type Rule } from "../../tensor/options.js";
import {
  type Axes,
  checkShape,
  formatShape,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sameShape,
  sizeOf,
  stridesOf,
} from "../../tensor/shape.js";
import { requireTensor, requireTensors, run, type Tensor } from "../../tensor/tensor.js";
import { record, renamed } from "../tape.js";

const integers = listOf(integer());

/** A new tensor of `shape` that one copy from x fills, or what it leaves is `fill`. */
function moved(x: Tensor, shape: Shape, copy: Partial<Copy>, fill?: number): Tensor {
  const params: Copy = {
    shape,
    inputOffset: 0,
    inputStrides: stridesOf(x.shape),
    outputOffset: 0,
    outputStrides: stridesOf(shape),
    ...copy,
  };
  return run(
    stridedCopyKernel,
    [x],
    { shape, dtype: x.dtype },
    { copies: [params], ...(fill !== undefined && { fill }) },
  );
}

/** Position of an element in a flat array. */
function offsetOf(position: readonly number[], strides: readonly number[]): number {
  return position.reduce((offset, p, axis) => offset + p * strides[axis]!, 0);
}

/**
 * The same elements, row-major, with another shape. One size may be -1: what remains. Shares memory with x.
 * @example reshape(x, [32, -1]) // [32, 14, 14, 24] to [32, 4704]
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  requireTensor("reshape", "x", x);
  check("reshape", "shape", shape, integers);
  const given = sizeOf(shape.filter((n) => n !== -1));
  const result = shape.map((n) => (n === -1 ? x.size / given : n));
  const inferred = shape.filter((n) => n === -1).length;
  if (inferred > 1 || !result.every((n) => Number.isInteger(n) && n >= 0) || sizeOf(result) !== x.size) {
    throw new ShapeError(
      `reshape: the new shape must have the ${x.size} elements of ${formatShape(x.shape)}, got ${formatShape(shape)}; one size may be -1`,
    );
  }
  checkShape("reshape", result);
  return renamed("reshape", x, result);
}

/** Adds an axis of size 1 before `axis`; negative counts from the end of the result. */
export function expandDims(x: Tensor, axis: number | AxesOptions<number>): Tensor {
  requireTensor("expandDims", "x", x);
  const before = axisOf("expandDims", axis, x.rank + 1);
  return renamed("expandDims", x, x.shape.toSpliced(before, 0, 1));
}

/** Removes axes of size 1: the given ones, or all of them. */
export function squeeze(x: Tensor, given?: Axes | AxesOptions): Tensor {
  requireTensor("squeeze", "x", x);
  const axes = axesOf("squeeze", given);
  const ones = x.shape.flatMap((n, axis) => (n === 1 ? [axis] : []));
  const removed = axes === undefined ? ones : normalizeAxes("squeeze", axes, x.rank);
  if (!removed.every((axis) => x.shape[axis] === 1)) {
    throw new ShapeError(`squeeze: axes must have size 1, got [${removed}] of ${formatShape(x.shape)}`);
  }
  return renamed(
    "squeeze",
    x,
    x.shape.filter((_, axis) => !removed.includes(axis)),
  );
}

/** Axis k of the result is axis axes[k] of x; by default the axes are reversed. */
export function transpose(x: Tensor, given?: readonly number[] | AxesOptions<readonly number[]>): Tensor {
  requireTensor("transpose", "x", x);
  const axes = [axesOf("transpose", given) ?? x.shape.map((_, k) => x.rank - 1 - k)].flat();
  const order = axes.map((axis) => normalizeAxis("transpose", axis, x.rank));
  if (order.length !== x.rank || new Set(order).size !== x.rank) {
    throw new ShapeError(
      `transpose: axes must name every axis of ${formatShape(x.shape)} once, got [${axes}]; e.g. [1, 0] for a matrix`,
    );
  }
  const shape = order.map((axis) => x.shape[axis]!);
  // Where only axes of size 1 change places, elements stay where they are.
  const long = order.filter((axis) => x.shape[axis] !== 1);
  const inPlace = long.every((axis, k) => k === 0 || long[k - 1]! < axis);
  const strides = stridesOf(x.shape);
  const y = inPlace ? x.alias(shape) : moved(x, shape, { inputStrides: order.map((axis) => strides[axis]!) });
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return record(y, {
    op: "transpose",
    inputs: [x],
    backward: (dy) => [() => transpose(dy, inverse)],
    derivable: true,
  });
}

/**
 * The box of `size` elements per axis that starts at `begin`; a size of -1 takes the rest of the axis.
 * @example slice(images, [0, 2, 2, 0], [-1, 24, 24, -1])
 */
export function slice(x: Tensor, begin: readonly number[], size: readonly number[]): Tensor {
  requireTensor("slice", "x", x);
  check("slice", "begin", begin, integers);
  check("slice", "size", size, integers);
  const shape = size.map((n, axis) => (n === -1 ? x.shape[axis]! - begin[axis]! : n));
  const fits = (n: number, axis: number) =>
    Number.isInteger(begin[axis]) &&
    Number.isInteger(n) &&
    begin[axis]! >= 0 &&
    n >= 0 &&
    begin[axis]! + n <= x.shape[axis]!;
  if (begin.length !== x.rank || size.length !== x.rank || !shape.every(fits)) {
    throw new ShapeError(
      `slice: begin and size must lie within ${formatShape(x.shape)}, got begin [${begin}] and size [${size}]; a size of -1 takes the rest`,
    );
  }
  const before = x.shape;
  const y = moved(x, shape, { inputOffset: offsetOf(begin, stridesOf(before)) });
  return record(y, {
    op: "slice",
    inputs: [x],
    backward: (dy) => [
      () =>
        pad(
          dy,
          before.map((n, axis) => [begin[axis]!, n - begin[axis]! - shape[axis]!]),
        ),
    ],
    derivable: true,
  });
}

/**
 * Every `step`-th element of each axis from `begin` on, `size` of them; a negative step walks backwards. All of them
 * must lie within x.
 */
export function strided(x: Tensor, begin: readonly number[], size: Shape, steps: readonly number[]): Tensor {
  const walk = walkOf(x.shape, begin, steps);
  const before = x.shape;
  return record(moved(x, size, { inputOffset: walk.offset, inputStrides: walk.strides }), {
    op: "strided",
    inputs: [x],
    backward: (dy) => [() => spread(dy, begin, before, steps)],
    derivable: true,
  });
}

/** Zeros of `shape` with x at every `step`-th element: what gives the gradient of `strided`. */
function spread(x: Tensor, begin: readonly number[], shape: Shape, steps: readonly number[]): Tensor {
  const walk = walkOf(shape, begin, steps);
  const size = x.shape;
  const copy = { shape: size, outputOffset: walk.offset, outputStrides: walk.strides };
  return record(moved(x, shape, copy, 0), {
    op: "spread",
    inputs: [x],
    backward: (g) => [() => strided(g, begin, size, steps)],
    derivable: true,
  });
}

/** How a flat array of `shape` is walked. */
function walkOf(shape: Shape, begin: readonly number[], steps: readonly number[]) {
  const strides = stridesOf(shape);
  return { offset: offsetOf(begin, strides), strides: strides.map((stride, axis) => stride * steps[axis]!) };
}

const padding: Rule = listOf(listOf(integer()));

/**
 * Adds `value` around x: paddings[axis] = [before, after].
 * @example pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]])
 */
export function pad(x: Tensor, paddings: readonly (readonly number[])[], value = 0): Tensor {
  requireTensor("pad", "x", x);
  check("pad", "paddings", paddings, padding);
  check("pad", "value", value, elementRules[x.dtype]);
  const valid = paddings.every((p) => p.length === 2 && p.every((n) => n >= 0));
  if (!valid || paddings.length !== x.rank) {
    throw new ShapeError(
      `pad: paddings must be one pair [before, after] of non-negative integers per axis of ${formatShape(x.shape)}, got ${JSON.stringify(paddings)}`,
    );
  }
  const inner = x.shape;
  const begin = paddings.map(([before]) => before!);
  const shape = inner.map((n, axis) => n + paddings[axis]![0]! + paddings[axis]![1]!);
  const outputStrides = stridesOf(shape);
  const copy = { shape: inner, outputOffset: offsetOf(begin, outputStrides), outputStrides };
  const y = moved(x, shape, copy, sameShape(inner, shape) ? undefined : value);
  return record(y, { op: "pad", inputs: [x], backward: (dy) => [() => slice(dy, begin, inner)], derivable: true });
}

/** Reverses the order of elements along the axes, by default all. */
export function flip(x: Tensor, axes?: Axes | AxesOptions): Tensor {
  requireTensor("flip", "x", x);
  const flipped = normalizeAxes("flip", axesOf("flip", axes), x.rank);
  const strides = stridesOf(x.shape);
  const y = moved(x, x.shape, {
    inputOffset: flipped.reduce((offset, axis) => offset + (x.shape[axis]! - 1) * strides[axis]!, 0),
    inputStrides: strides.map((stride, axis) => (flipped.includes(axis) ? -stride : stride)),
  });
  return record(y, { op: "flip", inputs: [x], backward: (dy) => [() => flip(dy, flipped)], derivable: true });
}

/** @throws UsageError unless it is an array of tensors, ShapeError for an empty one */
function requireSome(op: string, list: readonly Tensor[]): asserts list is [Tensor, ...Tensor[]] {
  requireTensors(op, "list", list);
  if (list.length === 0) throw new ShapeError(`${op}: needs at least one tensor, got none`);
}

/** Tensors of one dtype, one behind the other along an axis, by default the first; all other sizes must agree. */
export function concat(list: readonly Tensor[], axis: number | AxesOptions<number> = 0): Tensor {
  requireSome("concat", list);
  const [first] = list;
  const along = axisOf("concat", axis, first.rank, 0);
  for (const x of list) {
    if (x.dtype !== first.dtype || !sameShape(x.shape.toSpliced(along, 1), first.shape.toSpliced(along, 1))) {
      throw new ShapeError(
        `concat: tensors must agree in dtype and in every size but that of axis ${along}, got ${first.dtype} ${formatShape(first.shape)} and ${x.dtype} ${formatShape(x.shape)}`,
      );
    }
  }
  const begins: number[] = [];
  let total = 0;
  for (const x of list) {
    begins.push(total);
    total += x.shape[along]!;
  }
  const shape = first.shape.with(along, total);
  const outputStrides = stridesOf(shape);
  const copies = list.map(
    (x, k): Copy => ({
      shape: x.shape,
      inputOffset: 0,
      inputStrides: stridesOf(x.shape),
      outputOffset: begins[k]! * outputStrides[along]!,
      outputStrides,
    }),
  );
  const shapes = list.map((x) => x.shape);
  const origin = shape.map(() => 0);
  return record(run(stridedCopyKernel, list, { shape, dtype: first.dtype }, { copies }), {
    op: "concat",
    inputs: list,
    backward: (dy) => shapes.map((part, k) => () => slice(dy, origin.with(along, begins[k]!), part)),
    derivable: true,
  });
}

/** Tensors of one shape and dtype along a new axis, by default the first. */
export function stack(list: readonly Tensor[], axis: number | AxesOptions<number> = 0): Tensor {
  requireSome("stack", list);
  const [first] = list;
  const along = axisOf("stack", axis, first.rank + 1, 0);
  const differing = list.find((x) => !sameShape(x.shape, first.shape));
  if (differing !== undefined) {
    throw new ShapeError(
      `stack: tensors must have one shape, got ${formatShape(first.shape)} and ${formatShape(differing.shape)}; use concat() along an existing axis`,
    );
  }
  return concat(
    list.map((x) => expandDims(x, along)),
    along,
  );
}
