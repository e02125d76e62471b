// Norms of vectors, and what is divided by them, of differentiable operations.
import { type AxesOptions, axesRules, takeAxes } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, check, number, type Rule, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { type Axes, formatShape, normalizeAxes, sizeOf } from "../../tensor/shape.js";
import { requireTensor, type Tensor } from "../../tensor/tensor.js";
import { noGrad, record } from "../tape.js";
import { ones, zeros } from "./create.js";
import { abs, cast, div, maximum, mul, notEqual, pow, where } from "./elementwise.js";
import { rootOf } from "./moments.js";
import { max, min, sum, sumSquares } from "./reduce.js";

/** Axes of the vectors, by default all, as `axis` or `axes` where they are not given by position. */
export type NormOptions = AxesOptions & {
  /** Keeps reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
  /**
   * 2 (default): root of the sum of squares. 1: sum of magnitudes. Infinity and -Infinity: largest and smallest
   * magnitude. 0: how many elements are not 0. Another p: the p-th root of the sum of magnitudes to the power p.
   */
  readonly order?: number;
};

const order: Rule = {
  expected: "a number, or an infinity",
  accepts: (value) => typeof value === "number" && !Number.isNaN(value),
};
const normRules: Rules<NormOptions> = { ...axesRules, keepDims: boolean, order };

/**
 * Norm of vectors along axes, as PyTorch's vector_norm. Where it is 0, the gradient is 0. f32.
 *
 * @example norm(x), norm(x, -1), norm(x, { axis: -1, order: 1, keepDims: true })
 * @throws ShapeError for the largest or smallest of no elements
 */
export function norm(x: Tensor, given?: Axes | NormOptions, further?: NormOptions): Tensor {
  requireTensor("norm", "x", x);
  const { axes, options } = takeAxes<NormOptions>("norm", given, further, normRules);
  const { order = 2, keepDims = false } = options;
  return scope(() => normOf("norm", x, order, { axes: normalizeAxes("norm", axes, x.rank), keepDims }));
}

interface Along {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

function normOf(op: string, x: Tensor, order: number, along: Along): Tensor {
  if (x.dtype !== "f32") throw new ShapeError(`${op}: needs an f32 tensor, got ${x.dtype}; use cast(x, "f32")`);
  const nothing = sizeOf(along.axes.map((axis) => x.shape[axis]!)) === 0;
  if (nothing && (Math.abs(order) === Number.POSITIVE_INFINITY || order < 0)) {
    throw new ShapeError(`${op}: order ${order} needs at least one element, got ${formatShape(x.shape)}`);
  }
  if (order === 2) return rootOf(sumSquares(x, along));
  if (order === 1) return sum(abs(x), along);
  if (order === 0) return sum(cast(notEqual(x, 0), "f32"), along);
  if (order === Number.POSITIVE_INFINITY) return max(abs(x), along);
  if (order === Number.NEGATIVE_INFINITY) return min(abs(x), along);
  return powered(sum(powered(abs(x), order), along), 1 / order);
}

/** x to a power, for x from 0; at 0 the gradient is 0, where that of pow may be infinite. */
function powered(input: Tensor, exponent: number): Tensor {
  return record(
    noGrad(() => pow(input, exponent)),
    {
      op: "pow",
      inputs: [input],
      saved: [input],
      backward: (dy, [x]) => [
        () => {
          const [zero, one] = [zeros(dy.device, []), ones(dy.device, [])];
          const positive = notEqual(x!, 0);
          const slope = mul(pow(where(positive, x!, one), exponent - 1), exponent);
          return where(positive, mul(dy, slope), zero);
        },
      ],
      derivable: true,
    },
  );
}

/** The axis of the vectors, by default the last, as `axis` or `axes` where it is not given by position. */
export type NormalizeOptions = AxesOptions & {
  /** That of the norm, default 2. */
  readonly order?: number;
  /** Smallest norm to divide by, default 1e-12. */
  readonly epsilon?: number;
};

const normalizeRules: Rules<NormalizeOptions> = { ...axesRules, order, epsilon: number({ from: 0 }) };

/**
 * x / max(norm(x), epsilon), with norms along an axis, by default the last, as PyTorch's F.normalize. f32.
 *
 * @example normalize(x), normalize(x, { axis: 1, order: 1 })
 */
export function normalize(x: Tensor, given?: Axes | NormalizeOptions, further?: NormalizeOptions): Tensor {
  requireTensor("normalize", "x", x);
  const { axes, options } = takeAxes<NormalizeOptions>("normalize", given, further, normalizeRules);
  const { order = 2, epsilon = 1e-12 } = options;
  const along = { axes: normalizeAxes("normalize", axes ?? -1, x.rank), keepDims: true };
  return scope(() => div(x, maximum(normOf("normalize", x, order, along), epsilon)));
}

/**
 * x, shortened to the norm maxNorm where it is longer, with norms along axes, by default of all of x, as TensorFlow's
 * clip_by_norm: x maxNorm / max(norm(x), maxNorm). f32.
 *
 * @example clipByNorm(gradient, 1), clipByNorm(x, 1, { axes: [1, 2] })
 */
export function clipByNorm(x: Tensor, maxNorm: number, given?: Axes | AxesOptions): Tensor {
  requireTensor("clipByNorm", "x", x);
  check("clipByNorm", "maxNorm", maxNorm, number({ above: 0 }));
  const { axes } = takeAxes<AxesOptions>("clipByNorm", given, undefined, axesRules);
  const along = { axes: normalizeAxes("clipByNorm", axes, x.rank), keepDims: true };
  return scope(() => mul(x, div(maxNorm, maximum(normOf("clipByNorm", x, 2, along), maxNorm))));
}
