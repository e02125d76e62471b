// Differentiable reductions: sum, sumSquares, mean, max, min, logSumExp; and argmax, through which no gradient flows.
import { argmaxKernel, type Reduction, reduceKernel } from "../../kernels/reduce.js";
import { type AxesOptions, axesRules, oneAxis, takeAxes } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { type Axes, formatShape, normalizeAxes, type Shape, sizeOf } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { noGrad, record, renamed } from "../tape.js";
import { zeros } from "./create.js";
import { add, cast, clip, div, equal, exp, log, maximum, mul, notEqual, sub, where } from "./elementwise.js";
import { stretch } from "./elementwise-rows.js";

/** Axes to reduce, by default all, as `axis` or `axes` where they are not given by position. */
export type ReduceOptions = AxesOptions & {
  /** Keeps reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
};

const reduceRules: Rules<ReduceOptions> = { ...axesRules, keepDims: boolean };

/** What a reduction is called with: x, then axes, options, or axes and options. */
type ReduceArguments = [x: Tensor, axes?: Axes | ReduceOptions | undefined, options?: ReduceOptions | undefined];

/** Checked arguments of a reduction. */
function argumentsOf(op: string, [x, given, further]: ReduceArguments) {
  requireTensor(op, "x", x);
  const { axes, options } = takeAxes(op, given, further, reduceRules);
  return { axes, keepDims: options.keepDims ?? false };
}

function withoutAxes(shape: Shape, axes: readonly number[]): number[] {
  return shape.filter((_, axis) => !axes.includes(axis));
}

/** Untracked reduction, with what its gradient needs: the reduced axes and the shape with them as 1. */
function reduce(op: string, reduction: Reduction, ...args: ReduceArguments) {
  const [x] = args;
  const options = argumentsOf(op, args);
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
export function sum(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  const { y, kept } = reduce("sum", "sum", x, axes, options);
  return record(y, {
    op: "sum",
    inputs: [x],
    backward: (dy) => [() => stretch(renamed("sum", dy, kept), x.shape, 1)],
    derivable: true,
  });
}

/** Sum of the squares over axes, in one pass over x; f32. */
export function sumSquares(input: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  const { y, kept } = reduce("sumSquares", "sumSquares", input, axes, options);
  return record(y, {
    op: "sumSquares",
    inputs: [input],
    saved: [input],
    backward: (dy, [x]) => [() => mul(x!, mul(renamed("sumSquares", dy, kept), 2))],
    derivable: true,
  });
}

/** Arithmetic mean over axes; f32. */
export function mean(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  const { y, kept, count } = reduce("mean", "mean", x, axes, options);
  return record(y, {
    op: "mean",
    inputs: [x],
    backward: (dy) => [() => stretch(renamed("mean", dy, kept), x.shape, 1 / count)],
    derivable: true,
  });
}

/** Maximum over axes; f32, i32 or u32. Elements that tie share the gradient equally. */
export function max(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  return extremum("max", x, axes, options);
}

/** Minimum over axes; f32, i32 or u32. Elements that tie share the gradient equally. */
export function min(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  return extremum("min", x, axes, options);
}

function extremum(op: "max" | "min", ...args: ReduceArguments): Tensor {
  const [input] = args;
  const { y, axes, kept } = reduce(op, op, ...args);
  return record(y, {
    op,
    inputs: [input],
    saved: [input, y],
    backward: (dy, [x, top]) => [
      () => {
        // The maximum of what holds NaN is NaN, and then it is the NaNs that tie.
        const ties = maximum(equal(x!, top!.alias(kept)), notEqual(x!, x!));
        const count = sum(cast(ties, "f32"), { axes, keepDims: true });
        return where(ties, div(renamed(op, dy, kept), count), zeros(dy.device, []));
      },
    ],
    derivable: true,
  });
}

/** log(sum(exp(x))) over axes, without overflow: the maximum is taken out of the exponent. f32. */
export function logSumExp(input: Tensor, given?: Axes | ReduceOptions, further?: ReduceOptions): Tensor {
  const options = argumentsOf("logSumExp", [input, given, further]);
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
    backward: (dy, [x, total]) => [
      () => mul(exp(sub(x!, renamed("logSumExp", total!, kept))), renamed("logSumExp", dy, kept)),
    ],
    derivable: true,
  });
}

/** The axis to search, where it is not given by position. */
export type ArgmaxOptions = AxesOptions<number> & Pick<ReduceOptions, "keepDims">;

/**
 * Index (i32) of the first maximum, or first NaN, along one axis: `argmax(x, -1)`, `argmax(x, { axis: -1, keepDims:
 * true })`.
 */
export function argmax(x: Tensor, given: number | ArgmaxOptions, further?: ArgmaxOptions): Tensor {
  const options = argumentsOf("argmax", [x, given, further]);
  const axis = oneAxis("argmax", options.axes, x.rank);
  if (x.shape[axis] === 0) {
    throw new ShapeError(
      `argmax: needs at least one element to compare, got ${formatShape(x.shape)} over axis ${axis}`,
    );
  }
  const shape = options.keepDims ? x.shape.with(axis, 1) : withoutAxes(x.shape, [axis]);
  return run(argmaxKernel, [x], { shape, dtype: "i32" }, { axis });
}
