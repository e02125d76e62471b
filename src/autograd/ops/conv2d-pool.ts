// Convolution followed by maximum pooling as one operation: what a classifier's layers do, at a lower price.
//
// maxPool(act(z)) = act(maxPool(z)), because all fused activations increase: the activation and its gradient run on the
// pooled tensor. Convolution results that no pooling window reads are not computed, forward or backward.
import {
  type ConvPoolParams,
  convPoolGradientsKernel,
  convPoolInputGradientKernel,
  convPoolKernel,
  convPoolKernelGradientKernel,
  convPoolWinnersKernel,
  fitsConvPool,
  pooledShape,
  winnerShape,
} from "../../kernels/conv-pool.js";
import {
  checkConv2dInputs,
  conv2dGeometry,
  outputShape,
  type Padding,
  type WindowAxis,
} from "../../kernels/conv2d/geometry.js";
import { type Pool2dParams, pool2dParams } from "../../kernels/pool2d.js";
import { run, runMany, type Tensor } from "../../tensor/tensor.js";
import { isRecording, record } from "../tape.js";
import { type Conv2dOptions, conv2d, convolutionGradients, runKeeping } from "./conv2d.js";
import { throughActivation } from "./elementwise-rows.js";
import { handToWinners, maxPool2d, type Pool2dOptions } from "./pool2d.js";

export interface Conv2dMaxPool2dOptions extends Omit<Conv2dOptions, "groups"> {
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
  const geometry = conv2dGeometry(x.shape, kernel.shape, { ...options, padding });
  if (fitsConvPool(geometry, windows)) return together(x, kernel, options.bias, { geometry, activation }, windows);
  return maxPool2d(conv2d(x, kernel, { ...convolution, padding }), { ...pool, activation });
}

function together(
  x: Tensor,
  kernel: Tensor,
  bias: Tensor | undefined,
  plain: ConvPoolParams,
  windows: Pool2dParams,
): Tensor {
  const { geometry } = plain;
  checkConv2dInputs(geometry, x, kernel, bias);
  const inputs = bias === undefined ? [x, kernel] : [x, kernel, bias];
  const pooled = { shape: pooledShape(geometry), dtype: "f32" } as const;
  // Only the gradients ask which cell won.
  if (!isRecording() || !inputs.some((input) => input.tracked)) return run(convPoolKernel, inputs, pooled, plain);
  const winners = { shape: winnerShape(geometry), dtype: "u32" } as const;
  const { results, keeps } = runKeeping(convPoolKernel, inputs, [pooled, winners], plain);
  const [y, winner, ...kept] = results as [Tensor, Tensor, ...Tensor[]];
  const params = { ...plain, keeps };
  record(y, {
    op: "conv2dMaxPool2d",
    inputs,
    saved: [x, kernel, y, winner, ...kept],
    backward: (dy, [x, kernel, y, winner, ...kept], [dx = false, dkernel = false, dbias = false]) => {
      // All that are needed come out of one kernel.
      const wanted = { dx, dkernel: dkernel || dbias, dbias };
      const from = [...(dx ? [0] : []), ...(wanted.dkernel ? [1] : []), ...(dbias ? [2] : [])];
      const gradientKernel = !wanted.dkernel
        ? convPoolInputGradientKernel
        : dx
          ? convPoolGradientsKernel
          : convPoolKernelGradientKernel;
      let gradients: Tensor[] | undefined;
      const gradient = (input: number) => {
        const specs = from.map((index) => ({ shape: inputs[index]!.shape, dtype: "f32" as const }));
        gradients ??= runMany(gradientKernel, [x!, kernel!, dy, y!, winner!, ...kept], specs, { ...params, wanted });
        return gradients[from.indexOf(input)]!;
      };
      return inputs.map((_, input) => () => gradient(input));
    },
    derivable: (dy, [x, kernel, y, winner]) => {
      const dpooled = throughActivation(plain.activation, dy, y);
      const bytes = run(convPoolWinnersKernel, [winner!], winner!, {});
      // The windows cover what the cropped convolution gives, and no more.
      const all = {
        ...windows,
        y: { ...windows.y, input: geometry.y.output },
        x: { ...windows.x, input: geometry.x.output },
      };
      const dz = handToWinners(dpooled, bytes, outputShape(geometry), all);
      return convolutionGradients(geometry, x!, kernel!, dz).slice(0, inputs.length);
    },
  });
  for (const t of [winner, ...kept]) t.dispose();
  return y;
}

/** Padding of the convolution for which its output ends where the last pooling window does. */
function croppedPadding(convolution: WindowAxis, pool: WindowAxis): [number, number] {
  const { input, kernel, stride, dilation, padding } = convolution;
  const output = Math.min(convolution.output, (pool.output - 1) * pool.stride - pool.padding + pool.kernel);
  return [padding, (output - 1) * stride + dilation * (kernel - 1) + 1 - input - padding];
}
