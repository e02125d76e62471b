// Differentiable convolution and pooling along one axis: those of images of height 1.
import { type FusedActivation, fusedActivationRule } from "../../kernels/activation.js";
import { conv2dGeometry } from "../../kernels/conv2d/geometry.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyOf, checkOptions, integer, listOf, oneOf, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { conv2d } from "./conv2d.js";
import { avgPool2d, maxPool2d, type Pool2dOptions } from "./pool2d.js";
import { expandDims, squeeze } from "./transform.js";

export interface Conv1dOptions {
  /** Default 1. */
  readonly strides?: number;
  /**
   * "valid" (default), "same", or [before, after] zeros. "causal": as many zeros before the first element that results
   * see nothing behind them.
   */
  readonly padding?: "valid" | "same" | "causal" | readonly [number, number];
  /** Distance between kernel elements, default 1. */
  readonly dilations?: number;
  /** Groups of channels that see only themselves, default 1; see conv2d. */
  readonly groups?: number;
  /** [Cout], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const distance = integer({ from: 1, to: 2 ** 16 });
const side = listOf(integer({ from: -(2 ** 16), to: 2 ** 16 }), { from: 2, to: 2 });

const rules: Rules<Conv1dOptions> = {
  strides: distance,
  padding: {
    ...anyOf(oneOf("valid", "same", "causal"), side),
    expected: '"valid", "same", "causal" or [before, after]',
  },
  dilations: distance,
  groups: integer({ from: 1 }),
  bias: tensorRule,
  activation: fusedActivationRule,
};

/** Options of one axis as those of two, of which the first has size 1. */
const alongWidth = <Value>(value: Value): readonly [1, Value] => [1, value];

/**
 * Cross-correlation along an axis with zero padding: x f32 [N, L, Cin], kernel f32 [k, Cin, Cout] -> [N, OL, Cout],
 *
 * y[n, o, co] = activation(bias[co] + sum of x[n, o s + j d - p, ci] kernel[j, ci, co]),
 *
 * with stride s, dilation d and the padding p before the first element, as in Keras. With groups, the kernel is
 * [k, Cin / groups, Cout].
 *
 * @example conv1d(signal, kernel, { padding: "causal", dilations: 2 })
 * @throws ShapeError when ranks or channels do not fit, or the kernel is larger than the padded input
 */
export function conv1d(x: Tensor, kernel: Tensor, given: Conv1dOptions = {}): Tensor {
  requireTensor("conv1d", "x", x);
  requireTensor("conv1d", "kernel", kernel);
  const { strides = 1, dilations = 1, padding = "valid", ...options } = checkOptions("conv1d", given, rules);
  if (x.rank !== 3 || kernel.rank !== 3) {
    throw new ShapeError(
      `conv1d: needs x [N, L, Cin] and kernel [k, Cin, Cout], got ${formatShape(x.shape)} and ${formatShape(kernel.shape)}; reshape the input`,
    );
  }
  const before = padding === "causal" ? ([dilations * (kernel.shape[0]! - 1), 0] as const) : padding;
  const windows = {
    strides: alongWidth(strides),
    dilations: alongWidth(dilations),
    padding: typeof before === "string" ? before : ([[0, 0], before] as const),
  };
  return scope(() => {
    const [images, weights] = [expandDims(x, 1), expandDims(kernel, 0)];
    // Sizes that do not fit are told under this name.
    conv2dGeometry(images.shape, weights.shape, windows, { op: "conv1d", groups: options.groups ?? 1 });
    return squeeze(conv2d(images, weights, { ...options, ...windows }), 1);
  });
}

export interface Pool1dOptions {
  /** Elements of a window. */
  readonly poolSize: number;
  /** Distance between windows; by default the window's size. */
  readonly strides?: number;
  /** "valid" (default), "same", or [before, after] smaller than the window. */
  readonly padding?: "valid" | "same" | readonly [number, number];
}

const poolRules: Rules<Pool1dOptions> = {
  poolSize: distance,
  strides: distance,
  padding: { ...anyOf(oneOf("valid", "same"), side), expected: '"valid", "same" or [before, after]' },
};

/**
 * Maximum over windows along an axis: x f32 [N, L, C] -> [N, OL, C]. Padding never wins; of several maxima the first
 * gets the gradient. A NaN wins its window.
 * @example maxPool1d(signal, { poolSize: 2 })
 */
export function maxPool1d(x: Tensor, options: Pool1dOptions): Tensor {
  return pool("maxPool1d", maxPool2d, x, options);
}

/**
 * Mean over windows along an axis: x f32 [N, L, C] -> [N, OL, C]. Padded elements are not counted, as in Keras on
 * TensorFlow.
 * @example avgPool1d(signal, { poolSize: 3, strides: 1, padding: "same" })
 */
export function avgPool1d(x: Tensor, options: Pool1dOptions): Tensor {
  return pool("avgPool1d", avgPool2d, x, options);
}

function pool(op: string, apply: (x: Tensor, options: Pool2dOptions) => Tensor, x: Tensor, given: Pool1dOptions) {
  requireTensor(op, "x", x);
  const { poolSize, strides = poolSize, padding = "valid" } = checkOptions(op, given, poolRules, ["poolSize"]);
  if (x.rank !== 3 || x.dtype !== "f32") {
    throw new ShapeError(`${op}: needs f32 [N, L, C], got ${x.dtype} ${formatShape(x.shape)}; reshape or cast`);
  }
  const windows: Pool2dOptions = {
    poolSize: alongWidth(poolSize),
    strides: alongWidth(strides),
    padding: typeof padding === "string" ? padding : [[0, 0], padding],
  };
  return scope(() => squeeze(apply(expandDims(x, 1), windows), 1));
}
