// Differentiable two-dimensional convolution with optional bias and activation.
import {
  activationGradientKernel,
  type FusedActivation,
  fusedActivationRule,
  isLinear,
} from "../../kernels/activation.js";
import {
  checkConv2dInputs,
  conv2dGeometry,
  conv2dRules,
  outputShape,
  type Conv2dOptions as WindowOptions,
} from "../../kernels/conv2d/geometry.js";
import type { KeptName } from "../../kernels/conv2d/route.js";
import {
  type Conv2dParams,
  conv2dGradientsKernel,
  conv2dInputGradientKernel,
  conv2dKernel,
  conv2dKernelGradientKernel,
} from "../../kernels/conv2d.js";
import type { Spec } from "../../tensor/dtype.js";
import type { Kernel } from "../../tensor/kernel.js";
import { checkOptions, type Rules } from "../../tensor/options.js";
import { requireTensor, run, runMany, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { isRecording, record } from "../tape.js";
import { sumTo } from "./elementwise-rows.js";

export interface Conv2dOptions extends WindowOptions {
  /** [Cout], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<Conv2dOptions> = { ...conv2dRules, bias: tensorRule, activation: fusedActivationRule };

/**
 * Cross-correlation with zero padding: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] -> [N, OH, OW, Cout],
 * y[n, oy, ox, co] = activation(bias[co] + sum of x[n, oy s + ky d - p, ox s + kx d - p, ci] kernel[ky, kx, ci, co])
 * with strides s, dilations d and the padding p before the first row and column, as in Keras.
 *
 * Backward, with dz = dy * activation'(z): dx is the transposed convolution of dz, dkernel the correlation of x with
 * dz, dbias the sum of dz over all axes but the last; each is computed only where it is needed.
 *
 * @example conv2d(x, kernel, { padding: "same", bias, activation: "relu" })
 * @throws ShapeError when ranks or channels do not fit, or the kernel is larger than the padded input
 */
export function conv2d(x: Tensor, kernel: Tensor, given: Conv2dOptions = {}): Tensor {
  requireTensor("conv2d", "x", x);
  requireTensor("conv2d", "kernel", kernel);
  const options = checkOptions("conv2d", given, rules);
  const { bias, activation = "linear" } = options;
  const geometry = conv2dGeometry(x.shape, kernel.shape, options);
  checkConv2dInputs(geometry, x, kernel, bias);
  const inputs = bias === undefined ? [x, kernel] : [x, kernel, bias];
  const output = { shape: outputShape(geometry), dtype: "f32" } as const;
  const { results, keeps } = runKeeping(conv2dKernel, inputs, [output], { geometry, activation });
  const [y, ...kept] = results as [Tensor, ...Tensor[]];
  const linear = isLinear(activation);
  const params = { geometry, keeps };
  record(y, {
    op: "conv2d",
    inputs,
    saved: [x, kernel, ...kept, ...(linear ? [] : [y])],
    backward: (dy, [x, kernel, ...rest], [inputNeeded, kernelNeeded]) => {
      const dz = linear ? dy : run(activationGradientKernel, [dy, rest.at(-1)!], dy, { activation });
      const kept = rest.slice(0, keeps.length);
      const specs = [x!, kernel!, ...(bias === undefined ? [] : [bias])].map(({ shape }) => ({
        shape,
        dtype: "f32" as const,
      }));
      // Together they share work, and the bias gradient costs nothing beside the kernel's.
      let all: readonly Tensor[] | undefined;
      const gradients = () => {
        all ??= inputNeeded
          ? runMany(conv2dGradientsKernel, [x!, kernel!, dz, ...kept], specs, params)
          : runMany(conv2dKernelGradientKernel, [x!, dz, ...kept], specs.slice(1), params);
        return all;
      };
      return [
        () =>
          kernelNeeded ? gradients()[0]! : run(conv2dInputGradientKernel, [dz, kernel!, ...kept], specs[0]!, params),
        () => gradients().at(inputNeeded ? 1 : 0)!,
        () => (kernelNeeded ? gradients().at(-1)! : sumTo(dz, [geometry.outputs])),
      ].slice(0, inputs.length);
    },
  });
  for (const t of kept) t.dispose();
  return y;
}

/**
 * Runs a convolution, or one with pooling, whose further outputs are what it keeps for its gradients: the kernel's
 * gradient asks for what became of x, that of x for what became of the kernel. Inputs: x, kernel, perhaps a bias.
 */
export function runKeeping<Params extends Conv2dParams>(
  kernel: Kernel<Params>,
  inputs: readonly Tensor[],
  outputs: readonly Spec[],
  params: Params,
): { readonly results: readonly Tensor[]; readonly keeps: readonly KeptName[] } {
  const [x, ...weights] = inputs as [Tensor, ...Tensor[]];
  const wishes: KeptName[] = [];
  if (isRecording() && weights.some(({ tracked }) => tracked)) wishes.push("x");
  if (isRecording() && x.tracked) wishes.push("kernel");
  const specs = x.device.byproducts(kernel, { ...params, keeps: wishes });
  const keeps = Object.keys(specs) as KeptName[];
  return { results: runMany(kernel, inputs, [...outputs, ...Object.values(specs)], { ...params, keeps }), keeps };
}
