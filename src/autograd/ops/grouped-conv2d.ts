// Differentiable convolution in groups of few channels, and depthwise convolution. Its three passes are linear in each
// operand, and each other's gradients.
import { type FusedActivation, fusedActivationRule, isLinear } from "../../kernels/activation.js";
import {
  checkConv2dInputs,
  conv2dGeometry,
  conv2dRules,
  outputShape,
  type Conv2dOptions as WindowOptions,
} from "../../kernels/conv2d/geometry.js";
import {
  type GroupedConv2dParams,
  groupedConv2dKernel,
  groupedInputGradientKernel,
  groupedKernelGradientKernel,
} from "../../kernels/grouped-conv2d.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { binary, sumTo, throughActivation, unary } from "./elementwise-rows.js";
import { reshape } from "./transform.js";

const floats = (shape: readonly number[]) => ({ shape, dtype: "f32" as const });

/** What a convolution does with its sums. */
export interface Ending {
  /** [Cout], added to every position. */
  readonly bias?: Tensor | undefined;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation | undefined;
}

/** y [N, OH, OW, Cout] of x [N, H, W, groups I] and kernel [kh, kw, I, Cout], by kernels for small I. */
export function groupedConv2d(x: Tensor, kernel: Tensor, params: GroupedConv2dParams, ending: Ending = {}): Tensor {
  const { bias, activation = "linear" } = ending;
  const inputs = bias === undefined ? [x, kernel] : [x, kernel, bias];
  const y = run(groupedConv2dKernel, inputs, floats(outputShape(params.geometry)), { ...params, activation });
  return record(y, {
    op: "conv2d",
    inputs,
    saved: [x, kernel, ...(isLinear(activation) ? [] : [y])],
    backward(dy, [x, kernel, y]) {
      const dz = throughActivation(activation, dy, y);
      return [
        () => inputGradient(dz, kernel!, params),
        () => kernelGradient(x!, dz, params),
        () => sumTo(dz, bias!.shape),
      ].slice(0, inputs.length);
    },
    derivable: true,
  });
}

function inputGradient(dy: Tensor, kernel: Tensor, params: GroupedConv2dParams): Tensor {
  const { geometry, groups } = params;
  const shape = [geometry.batch, geometry.y.input, geometry.x.input, groups * geometry.inputs];
  return record(run(groupedInputGradientKernel, [dy, kernel], floats(shape), params), {
    op: "the input gradient of conv2d",
    inputs: [dy, kernel],
    saved: [dy, kernel],
    backward: (g, [dy, kernel]) => [() => groupedConv2d(g, kernel!, params), () => kernelGradient(g, dy!, params)],
    derivable: true,
  });
}

function kernelGradient(x: Tensor, dy: Tensor, params: GroupedConv2dParams): Tensor {
  const { y, x: columns, inputs, outputs } = params.geometry;
  const shape = [y.kernel, columns.kernel, inputs, outputs];
  return record(run(groupedKernelGradientKernel, [x, dy], floats(shape), params), {
    op: "the kernel gradient of conv2d",
    inputs: [x, dy],
    saved: [x, dy],
    backward: (g, [x, dy]) => [() => inputGradient(dy!, g, params), () => groupedConv2d(x!, g, params)],
    derivable: true,
  });
}

/** activation(y + bias), for convolutions whose kernels compute neither. */
export function withBias(y: Tensor, bias: Tensor | undefined, activation: FusedActivation = "linear"): Tensor {
  const z = bias === undefined ? y : binary("add", y, bias);
  return isLinear(activation) ? z : unary(activation as Exclude<FusedActivation, "linear">, z);
}

export interface DepthwiseConv2dOptions extends WindowOptions {
  /** [C multiplier], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<DepthwiseConv2dOptions> = { ...conv2dRules, bias: tensorRule, activation: fusedActivationRule };

/**
 * Convolution of every channel by itself: x [N, H, W, C], kernel [kh, kw, C, multiplier] -> [N, OH, OW, C multiplier],
 *
 * y[n, oy, ox, c multiplier + m] = activation(bias + sum of x[n, oy s + ky d - p, ox s + kx d - p, c] kernel[ky, kx, c,
 * m]),
 *
 * with strides s, dilations d and the padding p as in conv2d, and kernels as Keras's.
 *
 * @example depthwiseConv2d(images, kernel, { padding: "same" }) // f32 [N, 32, 32, 16] and [3, 3, 16, 1]
 * @throws ShapeError when ranks or channels do not fit, or the kernel is larger than the padded input
 */
export function depthwiseConv2d(x: Tensor, kernel: Tensor, given: DepthwiseConv2dOptions = {}): Tensor {
  requireTensor("depthwiseConv2d", "x", x);
  requireTensor("depthwiseConv2d", "kernel", kernel);
  const { bias, activation, ...options } = checkOptions("depthwiseConv2d", given, rules);
  const channels = x.shape[3];
  if (x.rank !== 4 || kernel.rank !== 4 || kernel.shape[2] !== channels) {
    throw new ShapeError(
      `depthwiseConv2d: needs x [N, H, W, C] and kernel [kh, kw, C, multiplier], got ${formatShape(x.shape)} and ${formatShape(kernel.shape)}; the last axis of x must equal the kernel's third`,
    );
  }
  const [kernelHeight, kernelWidth, , multiplier] = kernel.shape as [number, number, number, number];
  const laidOut = [kernelHeight, kernelWidth, 1, channels! * multiplier];
  const geometry = conv2dGeometry(x.shape, laidOut, options, { op: "depthwiseConv2d", groups: channels! });
  checkConv2dInputs(geometry, x, kernel, bias, "depthwiseConv2d");
  return scope(() => {
    return groupedConv2d(x, reshape(kernel, laidOut), { geometry, groups: channels! }, { bias, activation });
  });
}
