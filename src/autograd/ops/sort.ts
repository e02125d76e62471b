// Differentiable sorting: sort, argsort, topK.
import { argsortKernel, putAlongKernel, takeAlongKernel } from "../../kernels/sort.js";
import { type AxesOptions, axesRules, oneAxis, takeAxes } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, check, checkOptions, integer, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { transpose } from "./transform.js";

export type SortOptions = AxesOptions<number> & {
  /** Largest first; default false. */
  readonly descending?: boolean;
};

const sortRules: Rules<SortOptions> = { ...axesRules, descending: boolean };

function sortArguments(op: string, x: Tensor, given: number | SortOptions | undefined, further?: SortOptions) {
  requireTensor(op, "x", x);
  const { axes, options } = takeAxes<SortOptions>(op, given, further, sortRules);
  return { axis: oneAxis(op, axes ?? -1, x.rank), descending: options.descending ?? false };
}

/**
 * x in ascending or descending order along an axis, by default the last; f32, i32 or u32. A NaN is larger than all that
 * is none, as in PyTorch and NumPy; equal elements stay in their order. Gradients go to where elements came from.
 *
 * @example sort(x), sort(x, 0), sort(x, { axis: -1, descending: true })
 */
export function sort(x: Tensor, axis?: number | SortOptions, options?: SortOptions): Tensor {
  const given = sortArguments("sort", x, axis, options);
  return alongLast(x, given.axis, (rows) => take("sort", rows, order(rows, rows.shape.at(-1)!, given.descending)));
}

/**
 * Indices (i32) that sort x along an axis, by default the last; see sort.
 *
 * @example argsort(scores, { descending: true })
 */
export function argsort(x: Tensor, axis?: number | SortOptions, options?: SortOptions): Tensor {
  const given = sortArguments("argsort", x, axis, options);
  return alongLast(x, given.axis, (rows) => order(rows, rows.shape.at(-1)!, given.descending));
}

export interface TopKOptions {
  /** Default -1, the last. */
  readonly axis?: number;
  /** The k smallest where this is false; default true. */
  readonly largest?: boolean;
}

const topKRules: Rules<TopKOptions> = { axis: integer(), largest: boolean };

/**
 * The k largest elements along an axis, in order, and their indices (i32): x [..., n, ...] -> [..., k, ...], as in
 * PyTorch and Keras. NaN is the largest; of equal elements the first come first. Gradients go to where elements came
 * from.
 *
 * @example const { values, indices } = topK(logits, 5);
 * @throws ShapeError where the axis has fewer than k elements
 */
export function topK(x: Tensor, k: number, options: TopKOptions = {}): { values: Tensor; indices: Tensor } {
  requireTensor("topK", "x", x);
  check("topK", "k", k, integer({ from: 0 }));
  const { axis = -1, largest = true } = checkOptions("topK", options, topKRules);
  const along = oneAxis("topK", axis, x.rank);
  if (k > x.shape[along]!) {
    throw new ShapeError(`topK: axis ${along} of ${formatShape(x.shape)} has fewer than ${k} elements`);
  }
  return scope(() => {
    const rows = swapped(x, along);
    const indices = order(rows, k, largest);
    return { values: swapped(take("topK", rows, indices), along), indices: swapped(indices, along) };
  });
}

/** Two axes of x in each other's place: `axis` and the last. */
function swapped(x: Tensor, axis: number): Tensor {
  if (axis === x.rank - 1) return x;
  const axes = x.shape.map((_, k) => k);
  return transpose(x, axes.with(axis, x.rank - 1).with(x.rank - 1, axis));
}

const alongLast = (x: Tensor, axis: number, apply: (rows: Tensor) => Tensor): Tensor =>
  scope(() => swapped(apply(swapped(x, axis)), axis));

/** Indices of the first k elements of each row [..., n] in order: i32 [..., k]. */
const order = (x: Tensor, k: number, descending: boolean): Tensor =>
  run(argsortKernel, [x], { shape: x.shape.with(-1, k), dtype: "i32" }, { descending });

/** Elements of the rows of x [..., n] by indices [..., k] that are distinct in each: [..., k]. */
function take(op: string, x: Tensor, indices: Tensor): Tensor {
  const n = x.shape.at(-1)!;
  return record(run(takeAlongKernel, [x, indices], { shape: indices.shape, dtype: x.dtype }, {}), {
    op,
    inputs: [x, indices],
    saved: [indices],
    backward: (dy, [picked]) => [() => put(op, dy, picked!, n), null],
    derivable: true,
  });
}

/** Rows [..., n] of zeros, with x [..., k] where the indices say. */
function put(op: string, x: Tensor, indices: Tensor, n: number): Tensor {
  return record(run(putAlongKernel, [x, indices], { shape: x.shape.with(-1, n), dtype: x.dtype }, {}), {
    op: `the gradient of ${op}`,
    inputs: [x, indices],
    saved: [indices],
    backward: (g, [picked]) => [() => take(op, g, picked!), null],
    derivable: true,
  });
}
