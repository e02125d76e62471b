// Convolution followed by maximum pooling as one operation: what a classifier's layers do, at a lower price.
//
// maxPool(act(z)) = act(maxPool(z)), because all fused activations increase: the activation and its gradient run on the
// pooled tensor. Convolution results that no pooling window reads are not computed, forward or backward.
import type { FusedActivation } from "../../kernels/activation.js";
import { conv2dGeometry, type Padding, type WindowAxis } from "../../kernels/conv2d/geometry.js";
import { pool2dParams } from "../../kernels/pool2d.js";
import type { Tensor } from "../../tensor/tensor.js";
import { type Conv2dOptions, conv2d } from "./conv2d.js";
import { unary } from "./elementwise.js";
import { maxPool2d, type Pool2dOptions } from "./pool2d.js";

export interface Conv2dMaxPool2dOptions extends Conv2dOptions {
  readonly pool: Pool2dOptions;
}

/**
 * maxPool2d(conv2d(x, kernel, { ...options }), options.pool) and its gradients. x [N, H, W, Cin], kernel
 * [kh, kw, Cin, Cout] -> [N, PH, PW, Cout]. Where several cells of a window are the maximum before the activation, the
 * first in row-major order gets the gradient.
 *
 * @example conv2dMaxPool2d(x, kernel, { bias, activation: "relu", pool: { poolSize: 2 } })
 * @throws ShapeError as conv2d and maxPool2d do
 */
export function conv2dMaxPool2d(x: Tensor, kernel: Tensor, options: Conv2dMaxPool2dOptions): Tensor {
  const { activation = "linear", pool, ...convolution } = options;
  const { y: rows, x: columns } = conv2dGeometry(x.shape, kernel.shape, options);
  const windows = pool2dParams("conv2dMaxPool2d", "max", [rows.output, columns.output], pool);
  const padding: Padding = [croppedPadding(rows, windows.y), croppedPadding(columns, windows.x)];
  const pooled = maxPool2d(conv2d(x, kernel, { ...convolution, padding }), pool);
  return activate(pooled, activation);
}

const activate = (z: Tensor, activation: FusedActivation) => (activation === "linear" ? z : unary(activation, z));

/** Padding of the convolution for which its output ends where the last pooling window does. */
function croppedPadding(convolution: WindowAxis, pool: WindowAxis): [number, number] {
  const { input, kernel, stride, dilation, padding } = convolution;
  const output = Math.min(convolution.output, (pool.output - 1) * pool.stride - pool.padding + pool.kernel);
  return [padding, (output - 1) * stride + dilation * (kernel - 1) + 1 - input - padding];
}
