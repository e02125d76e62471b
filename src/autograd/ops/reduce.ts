// Differentiable reductions: sum, sumSquares, mean, max, min, logSumExp; and argmax, through which no gradient flows.
import { binaryKernels } from "../../kernels/elementwise.js";
import { argmaxKernel, type Reduction, reduceKernel } from "../../kernels/reduce.js";
import { ShapeError } from "../../tensor/errors.js";
import { scope } from "../../tensor/scope.js";
import { formatShape, normalizeAxes, normalizeAxis, type Shape, sizeOf } from "../../tensor/shape.js";
import { run, type Tensor } from "../../tensor/tensor.js";
import { noGrad, record } from "../tape.js";
import { add, cast, clip, div, equal, exp, log, mul, sub } from "./elementwise.js";

export interface ReduceOptions {
  /** Axes to reduce, negative ones counted from the end; by default all. */
  readonly axes?: number | readonly number[];
  /** Keeps reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
}

function withoutAxes(shape: Shape, axes: readonly number[]): number[] {
  return shape.filter((_, axis) => !axes.includes(axis));
}

/** Untracked reduction, with what its gradient needs: the reduced axes and the shape with them as 1. */
function reduce(op: string, reduction: Reduction, x: Tensor, options: ReduceOptions) {
  const axes = normalizeAxes(op, options.axes, x.rank);
  const kept = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const shape = options.keepDims ? kept : withoutAxes(x.shape, axes);
  const count = sizeOf(axes.map((axis) => x.shape[axis]!));
  if (count === 0 && reduction !== "sum" && reduction !== "sumSquares") {
    throw new ShapeError(
      `${op}: needs at least one element to reduce, got ${formatShape(x.shape)} over axes [${axes}]`,
    );
  }
  if (x.dtype !== "f32" && (reduction === "mean" || reduction === "sumSquares")) {
    throw new ShapeError(`${op}: needs an f32 tensor, got ${x.dtype}; use cast(x, "f32")`);
  }
  return { y: run(reduceKernel, [x], { shape, dtype: x.dtype }, { reduction, axes }), axes, kept, count };
}

/** Sum over axes; f32, i32 or u32 (integer sums wrap). */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  const { y, kept } = reduce("sum", "sum", x, options);
  return record(y, { op: "sum", inputs: [x], backward: (dy) => [() => spread(dy, kept, x.shape, 1)] });
}

/** Sum of the squares over axes, in one pass over x; f32. */
export function sumSquares(input: Tensor, options: ReduceOptions = {}): Tensor {
  const { y, kept } = reduce("sumSquares", "sumSquares", input, options);
  return record(y, {
    op: "sumSquares",
    inputs: [input],
    saved: [input],
    backward: (dy, [x]) => [() => mul(x!, mul(dy.alias(kept), 2))],
  });
}

/** Arithmetic mean over axes; f32. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const { y, kept, count } = reduce("mean", "mean", x, options);
  return record(y, { op: "mean", inputs: [x], backward: (dy) => [() => spread(dy, kept, x.shape, 1 / count)] });
}

/** factor * dy, repeated along the axes that `kept` has as 1. */
function spread(dy: Tensor, kept: readonly number[], shape: readonly number[], factor: number): Tensor {
  return run(binaryKernels.mul.forward, [dy.alias(kept)], { shape, dtype: "f32" }, { b: factor });
}

/** Maximum over axes; f32, i32 or u32. Elements that tie share the gradient equally. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum("max", x, options);
}

/** Minimum over axes; f32, i32 or u32. Elements that tie share the gradient equally. */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum("min", x, options);
}

function extremum(op: "max" | "min", input: Tensor, options: ReduceOptions): Tensor {
  const { y, axes, kept } = reduce(op, op, input, options);
  return record(y, {
    op,
    inputs: [input],
    saved: [input, y],
    backward: (dy, [x, top]) => [
      () => {
        const ties = cast(equal(x!, top!.alias(kept)), "f32");
        return mul(ties, div(dy.alias(kept), sum(ties, { axes, keepDims: true })));
      },
    ],
  });
}

/** log(sum(exp(x))) over axes, without overflow: the maximum is taken out of the exponent. f32. */
export function logSumExp(input: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes("logSumExp", options.axes, input.rank);
  const { y, kept } = noGrad(() =>
    scope(() => {
      const { y: maximum, kept } = reduce("logSumExp", "max", input, { axes, keepDims: true });
      // Finite, so that infinite elements give infinities and not NaN.
      const shift = clip(maximum, -3e38, 3e38);
      const shifted = add(log(sum(exp(sub(input, shift)), { axes, keepDims: true })), shift);
      return { y: options.keepDims ? shifted : shifted.alias(withoutAxes(input.shape, axes)), kept };
    }),
  );
  return record(y, {
    op: "logSumExp",
    inputs: [input],
    saved: [input, y],
    backward: (dy, [x, total]) => [() => mul(exp(sub(x!, total!.alias(kept))), dy.alias(kept))],
  });
}

export interface ArgmaxOptions {
  /** Axis to search; negative counts from the end. */
  readonly axis: number;
  /** Keeps the axis with size 1; default false. */
  readonly keepDims?: boolean;
}

/** Index (i32) of the first maximum along an axis. */
export function argmax(x: Tensor, options: ArgmaxOptions): Tensor {
  const axis = normalizeAxis("argmax", options.axis, x.rank);
  if (x.shape[axis] === 0) {
    throw new ShapeError(
      `argmax: needs at least one element to compare, got ${formatShape(x.shape)} over axis ${axis}`,
    );
  }
  const shape = options.keepDims ? x.shape.with(axis, 1) : withoutAxes(x.shape, [axis]);
  return run(argmaxKernel, [x], { shape, dtype: "i32" }, { axis });
}
