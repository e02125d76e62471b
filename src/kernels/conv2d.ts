// Two-dimensional convolution (cross-correlation, as in every deep learning library) of NHWC activations with HWIO
// kernels, and its two gradients. With iy = oy * stride - padding + ky * dilation, likewise ix:
//   y[n, oy, ox, co]       = act(bias[co] + sum_{ky, kx, ci} x[n, iy, ix, ci] * kernel[ky, kx, ci, co])
//   dx[n, iy, ix, ci]      = sum_{ky, kx, co} dz[n, oy, ox, co] * kernel[ky, kx, ci, co]
//   dkernel[ky, kx, ci, co] = sum_{n, oy, ox} x[n, iy, ix, ci] * dz[n, oy, ox, co],   dbias[co] = sum dz
// The reference is in conv2d/reference.ts, the two WebGPU families in conv2d/software-*.ts and conv2d/hardware.ts. The
// forward pass and the input gradient are one kernel with two index maps (conv2d/geometry.ts, Gather). Where
// conv2d/choice.ts says so, the three passes go by Winograd's minimal filtering (conv2d/winograd.ts, on hardware
// conv2d/winograd-hardware.ts) or by matrix products that read the windows where they lie (conv2d/products.ts).
import type { Device } from "../tensor/device.js";
import { defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { empty, run, runMany, type Tensor } from "../tensor/tensor.js";
import type { TuningProfile } from "../webgpu/family.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { defineTunable } from "../webgpu/tuning.js";
import { activationCpu, type FusedActivation } from "./activation.js";
import {
  addsWindows,
  FEW_CHANNELS_FORM,
  goesByProducts,
  HARDWARE_FORM,
  hardwareTiling,
  MANY_CHANNELS_FORM,
  WINDOWS_FORM,
  winogradTiling,
} from "./conv2d/choice.js";
import { goesByColumns, inputGradientByColumns } from "./conv2d/columns.js";
import {
  type Conv2dGeometry,
  conv2dGeometry,
  convolutionFlops,
  forwardGather,
  type Gather,
  type GatherViews,
  inputGradientGather,
} from "./conv2d/geometry.js";
import { gatherHardware, kernelGradientHardware } from "./conv2d/hardware.js";
import { forwardByProduct, inputGradientByProduct, kernelGradientByProduct } from "./conv2d/products.js";
import { conv2dReference, inputGradientReference, kernelGradientReference } from "./conv2d/reference.js";
import { gatherSoftware } from "./conv2d/software-gather.js";
import { kernelGradientSoftware } from "./conv2d/software-kernel-gradient.js";
import { imagesOf, imageWindows } from "./conv2d/windows.js";
import {
  type Kept,
  keptSpecs,
  NOTHING_KEPT,
  namedKept,
  winogradForward,
  winogradGradients,
} from "./conv2d/winograd.js";
import {
  type ForwardViews,
  type KernelGradientViews,
  keptSpecsHardware,
  winogradForwardHardware,
  winogradInputGradientHardware,
  winogradKernelGradientHardware,
} from "./conv2d/winograd-hardware.js";
import { SUBGROUP_LANES } from "./subgroup-tile.js";

const software = { gather: gatherSoftware, kernelGradient: kernelGradientSoftware };
const hardware = { gather: gatherHardware, kernelGradient: kernelGradientHardware };

function familyOf({ subgroupSize }: TuningProfile) {
  return subgroupSize === SUBGROUP_LANES ? software : hardware;
}

/** A gather of the profile's family, over as many images at a time as fit its bindings. */
function gatherWindows<P>(call: GpuCall<P>, gather: Gather, views: GatherViews, activation: FusedActivation): void {
  const { batch } = gather;
  const { source, target } = views;
  for (const window of imageWindows(call.profile, batch, [source, target])) {
    const part = { ...views, source: imagesOf(source, batch, window), target: imagesOf(target, batch, window) };
    familyOf(call.profile).gather(call, { ...gather, batch: window.count }, part, activation);
  }
}

/** y = act(x * kernel + bias), without the software family's Winograd. */
export function directForward<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  views: ForwardViews,
  activation: FusedActivation,
): void {
  if (goesByProducts(call.profile, geometry)) {
    forwardByProduct(call, geometry, views, activation);
    return;
  }
  const tiling = hardwareTiling(call.profile, geometry);
  if (tiling) {
    winogradForwardHardware(call, tiling, views, activation);
    return;
  }
  const { x, kernel, bias, y } = views;
  const gathered = { source: x, kernel, target: y, ...(bias ? { bias } : {}) };
  gatherWindows(call, forwardGather(geometry), gathered, activation);
}

/** dx from dz, without the software family's Winograd. */
export function directInputGradient<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  views: { readonly dz: GpuView; readonly kernel: GpuView; readonly dx: GpuView },
): void {
  const { dz, kernel, dx } = views;
  const part = { ...call, params: geometry, inputs: [dz, kernel], outputs: [dx] };
  const tiling = hardwareTiling(call.profile, geometry);
  if (tiling) winogradInputGradientHardware(call, tiling, views);
  else if (addsWindows(call.profile, geometry)) inputGradientByProduct(call, geometry, views);
  else if (goesByColumns(part)) inputGradientByColumns(part, familyOf(call.profile).gather);
  else gatherWindows(part, inputGradientGather(geometry), { source: dz, kernel, target: dx }, "linear");
}

/** dkernel and, if wanted, dbias from x and dz, without the software family's Winograd. */
export function directKernelGradient<P>(call: GpuCall<P>, geometry: Conv2dGeometry, views: KernelGradientViews): void {
  if (goesByProducts(call.profile, geometry)) {
    kernelGradientByProduct(call, geometry, views);
    return;
  }
  const tiling = hardwareTiling(call.profile, geometry);
  if (tiling) {
    winogradKernelGradientHardware(call, tiling, views);
    return;
  }
  const { x, dz, dkernel, dbias } = views;
  const outputs = dbias ? [dkernel, dbias] : [dkernel];
  familyOf(call.profile).kernelGradient({ ...call, params: geometry, inputs: [x, dz], outputs });
}

export interface Conv2dParams {
  readonly geometry: Conv2dGeometry;
  readonly activation: FusedActivation;
  /** What its gradients could use; see byproducts. Default nothing. */
  readonly keeps?: Kept<boolean>;
}

/**
 * Inputs: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout] and, if there is one, bias [Cout]. Outputs: y [N, OH, OW, Cout] and
 * the byproducts.
 */
export const conv2dKernel = defineKernel<Conv2dParams>({
  name: "conv2d",
  flops: ({ geometry }) => convolutionFlops(geometry),
  byproducts: ({ geometry, keeps }, profile) => {
    if (keeps === undefined) return [];
    const tiling = winogradTiling(profile, geometry);
    if (tiling) return keptSpecs(tiling, keeps);
    const onHardware = hardwareTiling(profile, geometry);
    return onHardware ? keptSpecsHardware(onHardware, keeps) : [];
  },
  cpu({ inputs: [x, kernel, bias], outputs: [y], params: { geometry, activation } }) {
    conv2dReference(geometry, x!, kernel!, bias, y!, activationCpu(activation));
  },
  webgpu(call) {
    const { geometry, activation, keeps = NOTHING_KEPT } = call.params;
    const [x, kernel, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
    const [y, ...rest] = call.outputs as readonly [GpuView, ...GpuView[]];
    const tiling = winogradTiling(call.profile, geometry);
    const kept = namedKept(rest, keeps);
    if (tiling) winogradForward(call, tiling, { x, kernel, bias, activation, result: { y }, kept });
    else directForward(call, geometry, { x, kernel, bias, y, kept }, activation);
  },
});

/** Inputs: dz [N, OH, OW, Cout], kernel [kh, kw, Cin, Cout] and what was kept of it, if it was. Output: dx [N, H, W, Cin]. */
export const conv2dInputGradientKernel = defineKernel<Conv2dGeometry>({
  name: "conv2dInputGradient",
  flops: convolutionFlops,
  cpu({ inputs: [dz, kernel], outputs: [dx], params }) {
    inputGradientReference(params, dz!, kernel!, dx!);
  },
  webgpu(call) {
    const [dz, kernel, kept] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
    const dx = call.outputs[0]!;
    const tiling = winogradTiling(call.profile, call.params);
    if (tiling) winogradGradients(call, tiling, { kernel, gradient: { dz }, dx, kept: { kernel: kept } });
    else directInputGradient(call, call.params, { dz, kernel, dx });
  },
});

/**
 * Inputs: x [N, H, W, Cin], dz [N, OH, OW, Cout] and what was kept of x, if it was. Outputs: dkernel [kh, kw, Cin, Cout] and,
 * if wanted, dbias [Cout].
 */
export const conv2dKernelGradientKernel = defineKernel<Conv2dGeometry>({
  name: "conv2dKernelGradient",
  flops: convolutionFlops,
  cpu({ inputs: [x, dz], outputs: [dkernel, dbias], params }) {
    kernelGradientReference(params, x!, dz!, dkernel!, dbias);
  },
  webgpu(call) {
    const [x, dz, ...kept] = call.inputs as readonly [GpuView, GpuView, ...GpuView[]];
    const [dkernel, dbias] = call.outputs as readonly [GpuView, GpuView | undefined];
    const tiling = winogradTiling(call.profile, call.params);
    const named = namedKept(kept, { x: true, kernel: false });
    if (tiling) winogradGradients(call, tiling, { x, gradient: { dz }, dkernel, dbias, kept: named });
    else directKernelGradient(call, call.params, { x, dz, dkernel, dbias, kept: named });
  },
});

/**
 * All gradients of one convolution, which may share work. Inputs: x [N, H, W, Cin], kernel [kh, kw, Cin, Cout],
 * dz [N, OH, OW, Cout] and what was kept of both, if it was. Outputs: dx, dkernel and, if wanted, dbias.
 */
export const conv2dGradientsKernel = defineKernel<Conv2dGeometry>({
  name: "conv2dGradients",
  flops: (geometry) => 2 * convolutionFlops(geometry),
  cpu({ inputs: [x, kernel, dz], outputs: [dx, dkernel, dbias], params }) {
    inputGradientReference(params, dz!, kernel!, dx!);
    kernelGradientReference(params, x!, dz!, dkernel!, dbias);
  },
  webgpu(call) {
    const [x, kernel, dz, ...rest] = call.inputs as readonly [GpuView, GpuView, GpuView, ...GpuView[]];
    const [dx, dkernel, dbias] = call.outputs as readonly [GpuView, GpuView, GpuView | undefined];
    const tiling = winogradTiling(call.profile, call.params);
    const kept = namedKept(rest, { x: true, kernel: rest.length > 1 });
    if (tiling) {
      winogradGradients(call, tiling, { x, kernel, gradient: { dz }, dx, dkernel, dbias, kept });
      return;
    }
    directInputGradient(call, call.params, { dz, kernel, dx });
    directKernelGradient(call, call.params, { x, dz, dkernel, dbias, kept });
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
      runMany(conv2dGradientsKernel, [x, kernel, y], [x, kernel], geometry);
    };
  };
defineTunable({ ...FEW_CHANNELS_FORM, profile: "software", sample: sample([32, 13, 32, 64]) });
defineTunable({ ...MANY_CHANNELS_FORM, profile: "software", sample: sample([4, 28, 96, 96]) });
defineTunable({ ...WINDOWS_FORM, profile: "software", sample: sample([32, 5, 36, 64]) });
defineTunable({ ...HARDWARE_FORM, profile: "hardware", sample: sample([64, 30, 96, 96]) });
