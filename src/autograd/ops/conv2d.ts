// Differentiable two-dimensional convolution with optional bias and activation.
import { activationGradientKernel, type FusedActivation, isLinear } from "../../kernels/activation.js";
import {
  checkConv2dInputs,
  conv2dGeometry,
  inputShape,
  kernelShape,
  outputShape,
  type Conv2dOptions as WindowOptions,
} from "../../kernels/conv2d/geometry.js";
import { conv2dInputGradientKernel, conv2dKernel, conv2dKernelGradientKernel } from "../../kernels/conv2d.js";
import { run, runMany, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { sumTo } from "./elementwise.js";

export interface Conv2dOptions extends WindowOptions {
  /** [Cout], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

/**
 * Cross-correlation with zero padding: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] -> [N, OH, OW, Cout],
 * y[n, oy, ox, co] = activation(bias[co] + sum of x[n, oy s + ky d - p, ox s + kx d - p, ci] kernel[ky, kx, ci, co]) with
 * strides s, dilations d and the padding p before the first row and column, as in Keras.
 *
 * Backward, with dz = dy * activation'(z): dx is the transposed convolution of dz, dkernel the correlation of x with dz,
 * dbias the sum of dz over all axes but the last; each is computed only where it is needed.
 *
 * @example conv2d(x, kernel, { padding: "same", bias, activation: "relu" })
 * @throws ShapeError when ranks or channels do not fit, or the kernel is larger than the padded input
 */
export function conv2d(x: Tensor, kernel: Tensor, options: Conv2dOptions = {}): Tensor {
  const { bias, activation = "linear" } = options;
  const geometry = conv2dGeometry(x.shape, kernel.shape, options);
  const { outputs } = geometry;
  checkConv2dInputs(geometry, x, kernel, bias);
  const inputs = bias === undefined ? [x, kernel] : [x, kernel, bias];
  const y = run(conv2dKernel, inputs, { shape: outputShape(geometry), dtype: "f32" }, { geometry, activation });
  const linear = isLinear(activation);
  return record(y, {
    op: "conv2d",
    inputs,
    saved: linear ? [x, kernel] : [x, kernel, y],
    backward: (dy, [x, kernel, y]) => {
      const dz = linear ? dy : run(activationGradientKernel, [dy, y!], dy, { activation });
      let dbias: Tensor | undefined;
      return [
        () => run(conv2dInputGradientKernel, [dz, kernel!], { shape: inputShape(geometry), dtype: "f32" }, geometry),
        () => {
          // The bias gradient costs nothing in the same loop.
          const shapes = bias === undefined ? [kernelShape(geometry)] : [kernelShape(geometry), [outputs]];
          const specs = shapes.map((shape) => ({ shape, dtype: "f32" as const }));
          const [dkernel, ...rest] = runMany(conv2dKernelGradientKernel, [x!, dz], specs, geometry);
          dbias = rest[0];
          return dkernel!;
        },
        () => dbias ?? sumTo(dz, [outputs]),
      ].slice(0, inputs.length);
    },
  });
}
