// The route of a convolution (route.ts): the one place that chooses between Winograd's minimal filtering of each
// family, matrix products over windows, and the gathers. When each is worth it is in choice.ts.
import type { TuningProfile } from "../../webgpu/family.js";
import type { GpuCall } from "../../webgpu/program.js";
import type { FusedActivation } from "../activation.js";
import { goesByPanels, goesByProducts, hardwareTiling, multipliesForInput, winogradTiling } from "./choice.js";
import { goesByColumns, inputGradientByColumns } from "./columns.js";
import { type Conv2dGeometry, forwardGather, type Gather, type GatherViews, inputGradientGather } from "./geometry.js";
import { gatherHardware, kernelGradientHardware } from "./hardware.js";
import { forwardByProduct, inputGradientByProduct, kernelGradientByProduct } from "./products.js";
import type { ConvolutionRoute } from "./route.js";
import { gatherSoftware } from "./software-gather.js";
import { kernelGradientSoftware } from "./software-kernel-gradient.js";
import { kernelGradientPanels } from "./software-panel-gradient.js";
import { gatherPanels } from "./software-panels.js";
import type { Tiling } from "./tiling.js";
import { imagesOf, imageWindows } from "./windows.js";
import { winogradRoute } from "./winograd.js";
import { winogradHardwareRoute } from "./winograd-hardware.js";

/** The gradients and the forward pass of a convolution take the same route. */
export function routeOf(profile: TuningProfile, geometry: Conv2dGeometry): ConvolutionRoute {
  const tiling = winogradTiling(profile, geometry);
  if (goesByPanels(profile, geometry, tiling)) return panelRoute(geometry, tiling);
  if (tiling) return winogradRoute(tiling);
  const onHardware = hardwareTiling(profile, geometry);
  if (onHardware) return winogradHardwareRoute(onHardware);
  const gathers = gatherRoute(profile, geometry);
  return goesByProducts(profile, geometry) ? productRoute(profile, geometry, gathers) : gathers;
}

/** Every convolution on every adapter: a gather is one kernel with two index maps (geometry.ts, Gather). */
function gatherRoute(profile: TuningProfile, geometry: Conv2dGeometry): ConvolutionRoute {
  const software = profile.family === "software";
  const gather = software ? gatherSoftware : gatherHardware;
  const kernelGradient = software ? kernelGradientSoftware : kernelGradientHardware;
  return {
    name: "gather",
    forward(call, { x, kernel, bias, activation, result: { y } }) {
      const views = { source: x, kernel, target: y, ...(bias && { bias }) };
      gatherImages(call, gather, forwardGather(geometry), views, activation);
    },
    inputGradient(call, { gradient: { dz }, kernel, dx }) {
      const part = { ...call, params: geometry, inputs: [dz, kernel], outputs: [dx] };
      if (goesByColumns(part)) inputGradientByColumns(part, gather);
      else gatherImages(part, gather, inputGradientGather(geometry), { source: dz, kernel, target: dx }, "linear");
    },
    kernelGradient(call, { gradient: { dz }, x, dkernel, dbias }) {
      const outputs = dbias ? [dkernel, dbias] : [dkernel];
      kernelGradient({ ...call, params: geometry, inputs: [x, dz], outputs });
    },
  };
}

/** Panels of the kernel. By Winograd go the kernel's gradient and what is pooled, where there are tiles for it. */
function panelRoute(geometry: Conv2dGeometry, tiling: Tiling | undefined): ConvolutionRoute {
  const winograd = tiling && winogradRoute(tiling);
  return {
    name: winograd ? "panels, kernel gradient by winograd" : "panels",
    forward(call, { x, kernel, bias, activation, result: { y } }) {
      const views = { source: x, kernel, target: y, ...(bias && { bias }) };
      gatherImages(call, gatherPanels, forwardGather(geometry), views, activation);
    },
    inputGradient(call, { gradient: { dz }, kernel, dx }) {
      gatherImages(call, gatherPanels, inputGradientGather(geometry), { source: dz, kernel, target: dx }, "linear");
    },
    kernelGradient(call, views) {
      if (winograd) return winograd.kernelGradient(call, views);
      const { gradient, x, dkernel, dbias } = views;
      const outputs = dbias ? [dkernel, dbias] : [dkernel];
      kernelGradientPanels({ ...call, params: geometry, inputs: [x, gradient.dz], outputs });
    },
    ...(winograd?.pooled && { pooled: winograd.pooled }),
  };
}

type GatherKernel = <P>(call: GpuCall<P>, gather: Gather, views: GatherViews, activation: FusedActivation) => void;

/** A gather over as many images at a time as fit its bindings. */
function gatherImages<P>(
  call: GpuCall<P>,
  gatherKernel: GatherKernel,
  gather: Gather,
  views: GatherViews,
  activation: FusedActivation,
): void {
  const { batch } = gather;
  const { source, target } = views;
  for (const window of imageWindows(call.profile, batch, [source, target])) {
    const part = { ...views, source: imagesOf(source, batch, window), target: imagesOf(target, batch, window) };
    gatherKernel(call, { ...gather, batch: window.count }, part, activation);
  }
}

/** Windows that lie whole inside their images, as matrix products (products.ts). */
function productRoute(
  profile: TuningProfile,
  geometry: Conv2dGeometry,
  { inputGradient }: ConvolutionRoute,
): ConvolutionRoute {
  const multiplies = multipliesForInput(profile, geometry);
  return {
    name: multiplies ? "products" : "products, input gradient by gather",
    forward: (call, { result: { y }, ...views }) => forwardByProduct(call, geometry, { ...views, y }),
    inputGradient: multiplies
      ? (call, { gradient: { dz }, kernel, dx }) => inputGradientByProduct(call, geometry, { dz, kernel, dx })
      : inputGradient,
    kernelGradient: (call, { gradient: { dz }, ...views }) => kernelGradientByProduct(call, geometry, { ...views, dz }),
  };
}
