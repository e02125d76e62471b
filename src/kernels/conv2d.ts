// Two-dimensional convolution (cross-correlation, as in every deep learning library) of NHWC activations with HWIO
// kernels, and its two gradients. With iy = oy * stride - padding + ky * dilation, likewise ix:
//
//   y[n, oy, ox, co]       = act(bias[co] + sum_{ky, kx, ci} x[n, iy, ix, ci] * kernel[ky, kx, ci, co])
//   dx[n, iy, ix, ci]      = sum_{ky, kx, co} dz[n, oy, ox, co] * kernel[ky, kx, ci, co]
//   dkernel[ky, kx, ci, co] = sum_{n, oy, ox} x[n, iy, ix, ci] * dz[n, oy, ox, co],   dbias[co] = sum dz
//
// The reference is in conv2d/reference.ts. On WebGPU the three passes take a route (conv2d/routes.ts):
// - Winograd's minimal filtering (conv2d/winograd.ts, on hardware conv2d/winograd-hardware.ts).
// - Matrix products that read the windows where they lie (conv2d/products.ts).
// - Gathers, where the forward pass and the input gradient are one kernel with two index maps (conv2d/geometry.ts,
//   Gather).
import type { Device } from "../tensor/device.js";
import { defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { empty, run, runMany, type Tensor } from "../tensor/tensor.js";
import type { GpuView } from "../webgpu/program.js";
import { defineTunable } from "../webgpu/tuning.js";
import { activationCpu, type FusedActivation } from "./activation.js";
import { FEW_CHANNELS_FORM, HARDWARE_FORM, MANY_CHANNELS_FORM, WINDOWS_FORM } from "./conv2d/choice.js";
import { type Conv2dGeometry, conv2dGeometry, convolutionFlops } from "./conv2d/geometry.js";
import { conv2dReference, inputGradientReference, kernelGradientReference } from "./conv2d/reference.js";
import { computeGradients, type KeptName, keptByName, keptSpecs } from "./conv2d/route.js";
import { routeOf } from "./conv2d/routes.js";

export interface Conv2dParams {
  readonly geometry: Conv2dGeometry;
  readonly activation: FusedActivation;
  /**
   * What of the forward pass its gradients are to use: further outputs, in this order. See byproducts. Default nothing.
   */
  readonly keeps?: readonly KeptName[];
}

/**
 * Inputs: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] and, if there is one, bias [Cout]. Outputs: y [N, OH, OW, Cout]
 * and what is kept.
 */
export const conv2dKernel = defineKernel<Conv2dParams>({
  name: "conv2d",
  flops: ({ geometry }) => convolutionFlops(geometry),
  byproducts: ({ geometry, keeps }, profile) => (keeps?.length ? keptSpecs(routeOf(profile, geometry), keeps) : {}),
  cpu({ inputs: [x, kernel, bias], outputs: [y], params: { geometry, activation } }) {
    conv2dReference(geometry, x!, kernel!, bias, y!, activationCpu(activation));
  },
  webgpu(call) {
    const { geometry, activation, keeps } = call.params;
    const [x, kernel, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
    const [y, ...kept] = call.outputs as readonly [GpuView, ...GpuView[]];
    const views = { x, kernel, bias, activation, result: { y }, kept: keptByName(keeps, kept) };
    routeOf(call.profile, geometry).forward(call, views);
  },
});

/** Of the gradients: the last inputs are what was kept of the forward pass, by these names. */
export type Conv2dGradientParams = Omit<Conv2dParams, "activation">;

/** Inputs: dz [N, OH, OW, Cout], kernel [kh, kw, Cin, Cout] and what was kept. Output: dx [N, H, W, Cin]. */
export const conv2dInputGradientKernel = defineKernel<Conv2dGradientParams>({
  name: "conv2dInputGradient",
  flops: ({ geometry }) => convolutionFlops(geometry),
  cpu({ inputs: [dz, kernel], outputs: [dx], params: { geometry } }) {
    inputGradientReference(geometry, dz!, kernel!, dx!);
  },
  webgpu(call) {
    const { geometry, keeps } = call.params;
    const [dz, kernel, ...kept] = call.inputs as readonly [GpuView, GpuView, ...GpuView[]];
    const views = { gradient: { dz }, kernel, dx: call.outputs[0]!, kept: keptByName(keeps, kept) };
    routeOf(call.profile, geometry).inputGradient(call, views);
  },
});

/**
 * Inputs: x [N, H, W, Cin], dz [N, OH, OW, Cout] and what was kept. Outputs: dkernel [kh, kw, Cin, Cout] and, if
 * wanted, dbias [Cout].
 */
export const conv2dKernelGradientKernel = defineKernel<Conv2dGradientParams>({
  name: "conv2dKernelGradient",
  flops: ({ geometry }) => convolutionFlops(geometry),
  cpu({ inputs: [x, dz], outputs: [dkernel, dbias], params: { geometry } }) {
    kernelGradientReference(geometry, x!, dz!, dkernel!, dbias);
  },
  webgpu(call) {
    const { geometry, keeps } = call.params;
    const [x, dz, ...kept] = call.inputs as readonly [GpuView, GpuView, ...GpuView[]];
    const [dkernel, dbias] = call.outputs as readonly [GpuView, GpuView | undefined];
    const views = { gradient: { dz }, x, dkernel, dbias, kept: keptByName(keeps, kept) };
    routeOf(call.profile, geometry).kernelGradient(call, views);
  },
});

/**
 * All gradients of one convolution, which may share work. Inputs: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout],
 * dz [N, OH, OW, Cout] and what was kept. Outputs: dx, dkernel and, if wanted, dbias.
 */
export const conv2dGradientsKernel = defineKernel<Conv2dGradientParams>({
  name: "conv2dGradients",
  flops: ({ geometry }) => 2 * convolutionFlops(geometry),
  cpu({ inputs: [x, kernel, dz], outputs: [dx, dkernel, dbias], params: { geometry } }) {
    inputGradientReference(geometry, dz!, kernel!, dx!);
    kernelGradientReference(geometry, x!, dz!, dkernel!, dbias);
  },
  webgpu(call) {
    const { geometry, keeps } = call.params;
    const [x, kernel, dz, ...kept] = call.inputs as readonly [GpuView, GpuView, GpuView, ...GpuView[]];
    const [dx, dkernel, dbias] = call.outputs as readonly [GpuView, GpuView, GpuView | undefined];
    const views = { gradient: { dz }, x, kernel, dx, dkernel, dbias, kept: keptByName(keeps, kept) };
    computeGradients(call, routeOf(call.profile, geometry), views);
  },
});

/** The passes of a 3 x 3 convolution without padding, to time forms of them by. */
const sample =
  ([batch, size, inputs, outputs]: readonly [number, number, number, number]) =>
  (device: Device) => {
    const shapes: Shape[] = [
      [batch, size, size, inputs],
      [3, 3, inputs, outputs],
      [batch, size - 2, size - 2, outputs],
    ];
    const [x, kernel, y] = shapes.map((shape) =>
      empty(device, shape, "f32").assign(new Float32Array(sizeOf(shape)).fill(0.5)),
    ) as [Tensor, Tensor, Tensor];
    const geometry = conv2dGeometry(x.shape, kernel.shape);
    return () => {
      run(conv2dKernel, [x, kernel], y, { geometry, activation: "linear" });
      runMany(conv2dGradientsKernel, [x, kernel, y], [x, kernel], { geometry });
    };
  };
defineTunable({ ...FEW_CHANNELS_FORM, profile: "software", sample: sample([32, 13, 32, 64]) });
defineTunable({ ...MANY_CHANNELS_FORM, profile: "software", sample: sample([4, 28, 96, 96]) });
defineTunable({ ...WINDOWS_FORM, profile: "software", sample: sample([32, 5, 36, 64]) });
defineTunable({ ...HARDWARE_FORM, profile: "hardware", sample: sample([64, 30, 96, 96]) });
