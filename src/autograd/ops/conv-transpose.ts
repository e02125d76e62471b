// Differentiable transposed convolution: the input gradient of a convolution as an operation of its own.
import { type FusedActivation, fusedActivationRule } from "../../kernels/activation.js";
import {
  type Conv2dGeometry,
  type Padding,
  type Pair,
  paddingRule,
  pairRule,
  type WindowAxis,
} from "../../kernels/conv2d/geometry.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, integer, oneOrPair, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape } from "../../tensor/shape.js";
import { checkNewTensor, requireTensor, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { convolutionInputGradient } from "./conv2d.js";
import { withBias } from "./grouped-conv2d.js";

export interface ConvTranspose2dOptions {
  /** Default 1. */
  readonly strides?: Pair;
  /**
   * What is cut off the result. "valid" (default): nothing, H becomes (H - 1) s + max(d (k - 1) + 1, s). "same": H
   * becomes H s. Or explicitly [[top, bottom], [left, right]], as PyTorch's padding.
   */
  readonly padding?: Padding;
  /**
   * Rows and columns that the result has more at the bottom and right than usual, as in Keras and PyTorch. Usual is
   * (H - 1) s + d (k - 1) + 1 less the padding, with "same" (H - 1) s + 1 (for an even kernel one less). By default 0,
   * or what makes up the sizes of "valid" and "same".
   */
  readonly outputPadding?: Pair;
  /** Distance between kernel elements, default 1. */
  readonly dilations?: Pair;
  /** [Cout], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<ConvTranspose2dOptions> = {
  strides: pairRule,
  padding: paddingRule,
  outputPadding: oneOrPair(integer({ from: 0, to: 2 ** 16 })),
  dilations: pairRule,
  bias: tensorRule,
  activation: fusedActivationRule,
};

const pairOf = (value: Pair): readonly [number, number] => (typeof value === "number" ? [value, value] : value);

/** The axis of the convolution whose output is `size` long, and whose input is the result. */
export function transposedAxis(
  size: number,
  { kernel, stride, dilation }: Pick<WindowAxis, "kernel" | "stride" | "dilation">,
  padding: "valid" | "same" | readonly [number, number],
  more: number | undefined,
): WindowAxis {
  const extent = dilation * (kernel - 1) + 1;
  const whole = (size - 1) * stride + extent;
  const axis = { output: size, kernel, stride, dilation };
  if (padding === "valid") return { ...axis, input: whole + (more ?? Math.max(stride - extent, 0)), padding: 0 };
  if (padding !== "same") return { ...axis, input: whole - padding[0] - padding[1] + (more ?? 0), padding: padding[0] };
  // Of zeros around the elements of x, half lies in front, an odd one too.
  const around = more === undefined ? stride + extent - 2 : extent + (extent % 2) - 2 + more;
  const before = Math.min(Math.ceil(around / 2), extent - 1);
  return { ...axis, input: (size - 1) * stride + 2 - extent + around, padding: extent - 1 - before };
}

/**
 * Transposed convolution: x f32 [N, H, W, Cin], kernel f32 [kh, kw, Cout, Cin] -> [N, OH, OW, Cout]. Every element of x
 * adds a kernel, times itself, to the result at its place, and strides lie between those. It is what gives the input
 * gradient of conv2d with that kernel and those options. Kernels and sizes are Keras's.
 *
 * @example convTranspose2d(x, kernel, { strides: 2, padding: "same" }) // twice as high and wide
 * @throws ShapeError when ranks or channels do not fit, or nothing is left of the result
 */
export function convTranspose2d(x: Tensor, kernel: Tensor, given: ConvTranspose2dOptions = {}): Tensor {
  requireTensor("convTranspose2d", "x", x);
  requireTensor("convTranspose2d", "kernel", kernel);
  const options = checkOptions("convTranspose2d", given, rules);
  const { padding = "valid", bias, activation } = options;
  if (x.rank !== 4 || kernel.rank !== 4 || x.shape[3] !== kernel.shape[3] || !kernel.shape.every((n) => n >= 1)) {
    throw new ShapeError(
      `convTranspose2d: needs x [N, H, W, Cin] and kernel [kh, kw, Cout, Cin] with elements, got ${formatShape(x.shape)} and ${formatShape(kernel.shape)}; the last axes must be equal`,
    );
  }
  const outputs = kernel.shape[2]!;
  for (const [name, t] of Object.entries({ x, kernel, bias })) {
    if (t !== undefined && t.dtype !== "f32") {
      throw new ShapeError(`convTranspose2d: ${name} must be f32, got ${t.dtype}; use cast()`);
    }
  }
  if (bias !== undefined && (bias.rank !== 1 || bias.size !== outputs)) {
    throw new ShapeError(
      `convTranspose2d: bias must have shape [${outputs}], one number per output channel, got ${formatShape(bias.shape)}`,
    );
  }
  const [strides, dilations] = [pairOf(options.strides ?? 1), pairOf(options.dilations ?? 1)];
  const more = options.outputPadding === undefined ? undefined : pairOf(options.outputPadding);
  const along = (k: 0 | 1): WindowAxis =>
    transposedAxis(
      x.shape[1 + k]!,
      { kernel: kernel.shape[k]!, stride: strides[k], dilation: dilations[k] },
      typeof padding === "string" ? padding : padding[k],
      more?.[k],
    );
  const geometry: Conv2dGeometry = {
    batch: x.shape[0]!,
    inputs: outputs,
    outputs: x.shape[3]!,
    y: along(0),
    x: along(1),
  };
  for (const [k, { input, output, padding: before }] of [geometry.y, geometry.x].entries()) {
    if (input >= 1 && output >= 1 && before >= 0) continue;
    throw new ShapeError(
      `convTranspose2d: padding must leave rows and columns of the result, and be 0 or more before the first, got ${input} of ${output} along axis ${1 + k}`,
    );
  }
  checkNewTensor("convTranspose2d", x.device, [geometry.batch, geometry.y.input, geometry.x.input, outputs], "f32");
  return scope(() => withBias(convolutionInputGradient(x, kernel, geometry), bias, activation));
}
