// Differentiable two-dimensional convolution with optional bias and activation. y is linear in x and in the kernel. So
// are both gradients in what they are made of. The three passes are each other's derivatives.
//
//   y = conv(x, k)         dx = IG(dy, k)    dk = KG(x, dy)
//   IG(dz, k) for gradient g:   of dz conv(g, k),   of k KG(g, dz)
//   KG(x, dz) for gradient g:   of x IG(dz, g),     of dz conv(x, g)
import {
  activationGradientKernel,
  type FusedActivation,
  fusedActivationRule,
  isLinear,
} from "../../kernels/activation.js";
import {
  type Conv2dGeometry,
  checkConv2dInputs,
  conv2dGeometry,
  conv2dRules,
  inputShape,
  kernelShape,
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
import { checkOptions, integer, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { requireTensor, run, runMany, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { isRecording, record } from "../tape.js";
import { sumTo, throughActivation } from "./elementwise-rows.js";
import { groupedConv2d, withBias } from "./grouped-conv2d.js";
import { split } from "./tile.js";
import { concat } from "./transform.js";

export interface Conv2dOptions extends WindowOptions {
  /**
   * Groups of channels that see only themselves, default 1. The kernel is [kh, kw, Cin / groups, Cout]. Its output
   * channels are those of the first group, then the second, as in Keras and PyTorch.
   */
  readonly groups?: number;
  /** [Cout], added to every position. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<Conv2dOptions> = {
  ...conv2dRules,
  groups: integer({ from: 1 }),
  bias: tensorRule,
  activation: fusedActivationRule,
};

/** Input channels of a group up to which one kernel computes all groups, and each is no convolution of its own. */
const FEW_CHANNELS = 16;

/**
 * Cross-correlation with zero padding: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] -> [N, OH, OW, Cout],
 *
 * y[n, oy, ox, co] = activation(bias[co] + sum of x[n, oy s + ky d - p, ox s + kx d - p, ci] kernel[ky, kx, ci, co])
 *
 * with strides s, dilations d and the padding p before the first row and column, as in Keras. With groups, the kernel
 * is [kh, kw, Cin / groups, Cout], and ci are the channels of the group of co; see depthwiseConv2d.
 *
 * Backward, with dz = dy * activation'(z), each of these is computed only where it is needed:
 * - dx is the transposed convolution of dz,
 * - dkernel the correlation of x with dz,
 * - dbias the sum of dz over all axes but the last.
 *
 * @example conv2d(x, kernel, { padding: "same", bias, activation: "relu" })
 * @throws ShapeError when ranks or channels do not fit, or the kernel is larger than the padded input
 */
export function conv2d(x: Tensor, kernel: Tensor, given: Conv2dOptions = {}): Tensor {
  requireTensor("conv2d", "x", x);
  requireTensor("conv2d", "kernel", kernel);
  const options = checkOptions("conv2d", given, rules);
  const { bias, activation = "linear", groups = 1 } = options;
  const geometry = conv2dGeometry(x.shape, kernel.shape, options, { groups });
  checkConv2dInputs(geometry, x, kernel, bias);
  if (groups > 1) return inGroups(x, kernel, geometry, options);
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
    derivable: (dy, [x, kernel, ...rest]) =>
      convolutionGradients(geometry, x!, kernel!, throughActivation(activation, dy, rest.at(-1))).slice(
        0,
        inputs.length,
      ),
  });
  for (const t of kept) t.dispose();
  return y;
}

function inGroups(x: Tensor, kernel: Tensor, geometry: Conv2dGeometry, given: Conv2dOptions): Tensor {
  const { groups = 1, bias, activation, ...windows } = given;
  return scope(() => {
    if (geometry.inputs <= FEW_CHANNELS) {
      return groupedConv2d(x, kernel, { geometry, groups }, { bias, activation });
    }
    const [images, kernels] = [split(x, groups, 3), split(kernel, groups, 3)];
    const parts = images.map((part, g) => conv2d(part, kernels[g]!, windows));
    return withBias(concat(parts, 3), bias, activation);
  });
}

/** Gradients of x, the kernel and a bias, which have gradients themselves. */
export function convolutionGradients(geometry: Conv2dGeometry, x: Tensor, kernel: Tensor, dz: Tensor) {
  return [
    () => convolutionInputGradient(dz, kernel, geometry),
    () => convolutionKernelGradient(x, dz, geometry),
    () => sumTo(dz, [geometry.outputs]),
  ];
}

/** conv(x, kernel) alone, of a known geometry: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] -> [N, OH, OW, Cout]. */
export function convolution(x: Tensor, kernel: Tensor, geometry: Conv2dGeometry): Tensor {
  const spec = { shape: outputShape(geometry), dtype: "f32" } as const;
  return record(run(conv2dKernel, [x, kernel], spec, { geometry, activation: "linear" }), {
    op: "conv2d",
    inputs: [x, kernel],
    saved: [x, kernel],
    backward: (dz, [x, kernel]) => convolutionGradients(geometry, x!, kernel!, dz).slice(0, 2),
    derivable: true,
  });
}

/**
 * IG(dz, kernel), the transposed convolution: dz [N, OH, OW, Cout], kernel [kh, kw, Cin, Cout] -> [N, H, W, Cin]. The
 * geometry is that of the convolution whose input's gradient it is.
 */
export function convolutionInputGradient(dz: Tensor, kernel: Tensor, geometry: Conv2dGeometry): Tensor {
  const spec = { shape: inputShape(geometry), dtype: "f32" } as const;
  return record(run(conv2dInputGradientKernel, [dz, kernel], spec, { geometry }), {
    op: "the input gradient of conv2d",
    inputs: [dz, kernel],
    saved: [dz, kernel],
    backward: (g, [dz, kernel]) => [
      () => convolution(g, kernel!, geometry),
      () => convolutionKernelGradient(g, dz!, geometry),
    ],
    derivable: true,
  });
}

/** KG(x, dz): x [N, H, W, Cin], dz [N, OH, OW, Cout] -> [kh, kw, Cin, Cout]. */
export function convolutionKernelGradient(x: Tensor, dz: Tensor, geometry: Conv2dGeometry): Tensor {
  const spec = { shape: kernelShape(geometry), dtype: "f32" } as const;
  return record(run(conv2dKernelGradientKernel, [x, dz], spec, { geometry }), {
    op: "the kernel gradient of conv2d",
    inputs: [x, dz],
    saved: [x, dz],
    backward: (g, [x, dz]) => [() => convolutionInputGradient(dz!, g, geometry), () => convolution(x!, g, geometry)],
    derivable: true,
  });
}

/**
 * Runs a convolution, or one with pooling. Its further outputs are what it keeps for its gradients. The kernel's
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
