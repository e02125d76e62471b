// Variance, standard deviation and products along axes, of differentiable operations.
import { type AxesOptions, axesRules, takeAxes } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, number, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { type Axes, formatShape, normalizeAxes, type Shape, sizeOf } from "../../tensor/shape.js";
import { requireTensor, type Tensor } from "../../tensor/tensor.js";
import { noGrad, record } from "../tape.js";
import { full, ones, zeros } from "./create.js";
import { div, mul, notEqual, sqrt, sub, where } from "./elementwise.js";
import { mean, type ReduceOptions, sumSquares } from "./reduce.js";
import { pad, reshape, slice, transpose } from "./transform.js";

/** Axes to reduce, by default all, as `axis` or `axes` where they are not given by position. */
export type VarianceOptions = AxesOptions & {
  /** Keeps reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
  /**
   * What the number of elements is reduced by, as a divisor:
   * - 0 (default, as in NumPy, Keras and TensorFlow) gives the variance of the elements,
   * - 1 (PyTorch's default) gives an unbiased estimate of the variance of what they were drawn from.
   */
  readonly correction?: number;
};

const rules: Rules<VarianceOptions> = { ...axesRules, keepDims: boolean, correction: number({ from: 0 }) };

/**
 * Variance over axes: sum((x - mean(x))²) / (n - correction), of n elements. f32.
 *
 * @example variance(x), variance(x, 0), variance(x, { axes: [0, 1], keepDims: true, correction: 1 })
 * @throws ShapeError where n is not larger than the correction
 */
export function variance(x: Tensor, axes?: Axes | VarianceOptions, options?: VarianceOptions): Tensor {
  return scope(() => varianceOf("variance", x, axes, options));
}

/**
 * Square root of the variance over axes; see there. Where that is 0, the gradient is 0, as in PyTorch. f32.
 *
 * @example std(x, -1), std(x, { axes: [0, 1], correction: 1 })
 */
export function std(x: Tensor, axes?: Axes | VarianceOptions, options?: VarianceOptions): Tensor {
  return scope(() => rootOf(varianceOf("std", x, axes, options)));
}

function varianceOf(op: string, x: Tensor, given?: Axes | VarianceOptions, further?: VarianceOptions): Tensor {
  requireTensor(op, "x", x);
  const { axes: named, options } = takeAxes<VarianceOptions>(op, given, further, rules);
  const { keepDims = false, correction = 0 } = options;
  const axes = normalizeAxes(op, named, x.rank);
  const count = sizeOf(axes.map((axis) => x.shape[axis]!));
  if (x.dtype !== "f32") throw new ShapeError(`${op}: needs an f32 tensor, got ${x.dtype}; use cast(x, "f32")`);
  if (count <= correction) {
    throw new ShapeError(
      `${op}: needs more than ${correction} elements to reduce, got ${formatShape(x.shape)} over axes [${axes}]`,
    );
  }
  const deviations = sub(x, mean(x, { axes, keepDims: true }));
  return mul(sumSquares(deviations, { axes, keepDims }), 1 / (count - correction));
}

/** sqrt(x) for x from 0, whose gradient is 0 where x is 0, as of PyTorch's standard deviations and norms. */
export function rootOf(x: Tensor): Tensor {
  const y = noGrad(() => sqrt(x));
  return record(y, {
    op: "sqrt",
    inputs: [x],
    saved: [y],
    backward: (dy, [root]) => [
      () => {
        const [zero, one] = [zeros(dy.device, []), ones(dy.device, [])];
        const positive = notEqual(root!, 0);
        return where(positive, div(mul(dy, 0.5), where(positive, root!, one)), zero);
      },
    ],
    derivable: true,
  });
}

/**
 * Product over axes, 1 where there is nothing; f32, i32 or u32 (integer products wrap). Its gradient is right where
 * elements are 0, too: halves are multiplied with each other until one is left.
 *
 * @example prod(x), prod(x, 0), prod(x, { axes: [0, 1], keepDims: true })
 */
export function prod(x: Tensor, given?: Axes | ReduceOptions, further?: ReduceOptions): Tensor {
  requireTensor("prod", "x", x);
  const { axes: named, options } = takeAxes<ReduceOptions>("prod", given, further, { ...axesRules, keepDims: boolean });
  const axes = normalizeAxes("prod", named, x.rank);
  const others = x.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
  const outer = others.map((axis) => x.shape[axis]!);
  const shape: Shape = options.keepDims ? x.shape.map((n, axis) => (axes.includes(axis) ? 1 : n)) : outer;
  const count = sizeOf(axes.map((axis) => x.shape[axis]!));
  if (count === 0) return full(x.device, shape, 1, x.dtype);
  const rows = sizeOf(outer);
  return scope(() => {
    let factors = reshape(transpose(x, [...axes, ...others]), [count, rows]);
    for (let n = count; n > 1; n = Math.ceil(n / 2)) {
      const half = Math.ceil(n / 2);
      const [first, second] = [slice(factors, [0, 0], [half, rows]), slice(factors, [half, 0], [n - half, rows])];
      const missing = [0, half - (n - half)];
      factors = mul(first, missing[1] === 0 ? second : pad(second, [missing, [0, 0]], 1));
    }
    return reshape(factors, shape);
  });
}
