// Operators that reduce axes: sums, means, products, extrema, norms and positions of extrema.

import { full } from "../../../../autograd/ops/create.js";
import { add, cast, log, mul } from "../../../../autograd/ops/elementwise.js";
import { prod } from "../../../../autograd/ops/moments.js";
import { norm } from "../../../../autograd/ops/norm.js";
import { argmax, logSumExp, max, mean, min, sum, sumSquares } from "../../../../autograd/ops/reduce.js";
import { expandDims, flip } from "../../../../autograd/ops/transform.js";
import { sizeOf } from "../../../../tensor/shape.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import { isFloat } from "../value.js";
import type { Operator, Operators } from "./call.js";
import { magnitude, negated } from "./numbers.js";

/** What elements can be. */
const RANGES = {
  f32: { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY },
  i32: { from: -(2 ** 31), to: 2 ** 31 - 1 },
  u32: { from: 0, to: 2 ** 32 - 1 },
};

interface Over {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

/**
 * Axes are an attribute, and an input from operator set `since` on. `nothing` is the result over no elements, where
 * there is one.
 */
function reduction(
  reduce: (x: Tensor, over: Over) => Tensor,
  { since = 18, nothing }: { since?: number; nothing?: number } = {},
): Operator {
  return (call) => {
    const x = call.tensor(0);
    const given = call.list("axes", 1, since) ?? [];
    if (given.length === 0 && call.flag("noop_with_empty_axes")) return call.like(0, single(x, reduce));
    const axes = given.length === 0 ? x.shape.map((_, axis) => axis) : given.map((axis) => call.axis(axis, x.rank));
    const keepDims = call.flag("keepdims", 1);
    const count = sizeOf(axes.map((axis) => x.shape[axis]!));
    if (count === 0 && nothing !== undefined) {
      const shape = x.shape.flatMap((size, axis) => (!axes.includes(axis) ? [size] : keepDims ? [1] : []));
      const { from, to } = RANGES[x.dtype];
      return call.like(0, full(x.device, shape, Math.max(from, Math.min(to, nothing)), x.dtype));
    }
    return call.like(0, reduce(x, { axes, keepDims }));
  };
}

/** Over an axis of size 1 in front: what a reduction makes of single elements. */
const single = (x: Tensor, reduce: (x: Tensor, over: Over) => Tensor): Tensor =>
  reduce(expandDims(x, 0), { axes: [0], keepDims: false });

/** Integers by floats. */
const byFloats =
  (reduce: (x: Tensor, over: Over) => Tensor) =>
  (x: Tensor, over: Over): Tensor =>
    x.dtype === "f32" ? reduce(x, over) : cast(reduce(cast(x, "f32"), over), x.dtype);

/** Positions of the first extremum, or the last. */
const position =
  (least: boolean): Operator =>
  (call) => {
    const { type } = call.value(0);
    const given = call.tensor(0);
    const x = least ? (isFloat(type) ? mul(given, -1) : negated(cast(given, "i32"))) : given;
    const axis = call.axis(call.number("axis", 0), x.rank);
    const keepDims = call.flag("keepdims", 1);
    if (!call.flag("select_last_index")) return call.make("int64", argmax(x, { axis, keepDims }));
    const last = x.shape[axis]! - 1;
    return call.make("int64", add(mul(argmax(flip(x, axis), { axis, keepDims }), -1), last));
  };

const extremum = (reduce: typeof max) => (x: Tensor, over: Over) => reduce(x, over);

export const reductions: Operators = {
  ReduceSum: reduction((x, over) => sum(x, over), { since: 13, nothing: 0 }),
  ReduceMean: reduction(byFloats((x, over) => mean(x, over))),
  ReduceProd: reduction((x, over) => prod(x, over), { nothing: 1 }),
  ReduceMax: reduction(extremum(max), { nothing: Number.NEGATIVE_INFINITY }),
  ReduceMin: reduction(extremum(min), { nothing: Number.POSITIVE_INFINITY }),
  ReduceL1: reduction((x, over) => sum(magnitude(x), over), { nothing: 0 }),
  ReduceL2: reduction(
    byFloats((x, over) => norm(x, over)),
    { nothing: 0 },
  ),
  ReduceSumSquare: reduction((x, over) => (x.dtype === "f32" ? sumSquares(x, over) : sum(mul(x, x), over)), {
    nothing: 0,
  }),
  ReduceLogSum: reduction(
    byFloats((x, over) => log(sum(x, over))),
    { nothing: Number.NEGATIVE_INFINITY },
  ),
  ReduceLogSumExp: reduction(
    byFloats((x, over) => logSumExp(x, over)),
    { nothing: Number.NEGATIVE_INFINITY },
  ),
  ArgMax: position(false),
  ArgMin: position(true),
};
