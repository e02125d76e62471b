// Convolutions of 3 x 3, stride 1, by Winograd's minimal filtering (winograd-matrices.ts). Outputs are cut into tiles
// of m x m. Their (m + 2)^2 products per pair of channels, instead of 9 m^2, are as many matrix products over tiles.
// The one-dimensional matrices are written on one side only, t is a frequency and p a tile:
//
//   forward          V[t][p] = inputs d      U[t] = kernel g      M[t] = V[t] U[t]         y = outputs M
//   input gradient   N[t][p] = outputs^T dz                       W[t] = N[t] U[t]^T       dx = inputs^T W
//   kernel gradient                                               D[t] = V[t]^T N[t]       dkernel = kernel^T D
//
// Where tiles overlap, dx is added up. The gradients are the adjoint of the forward pass step by step. So they cost the
// same multiplications, and padding needs no masks but where tiles are read and written.
import { sizeOf } from "../../tensor/shape.js";
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import type { Matrix } from "../matmul-product.js";
import { runWhole } from "../matmul-subgroup.js";
import type { ConvolutionRoute, ForwardViews, Result, ResultGradient, Route, WantedGradients } from "./route.js";
import type { Tiling } from "./tiling.js";
import {
  planeStride,
  type Spectrum,
  spectrumShape,
  sumResultGradient,
  transformInput,
  transformInputGradient,
  transformKernel,
  transformKernelGradient,
  transformOutput,
  transformResultGradient,
} from "./winograd-transforms.js";

/** Most elements of a V worth keeping: what has left the caches until it is wanted is as fast computed again. */
const MOST_KEPT = 2 ** 20;

/** All three passes in such tiles. They pool on their way where the result is to be pooled; V and U can be kept. */
export function winogradRoute(tiling: Tiling): ConvolutionRoute {
  const { inputs, outputs } = tiling.geometry;
  const spectrum = spectrumShape(tiling, inputs);
  const gradients = <P>(call: GpuCall<P>, views: WantedGradients<ResultGradient>) =>
    winogradGradients(call, tiling, views);
  const route: Route<Result, ResultGradient> = {
    name: `winograd ${tiling.m}`,
    keeps: {
      x: sizeOf(spectrum) <= MOST_KEPT ? { shape: spectrum, dtype: "f32" } : undefined,
      kernel: { shape: [tiling.frequencies * inputs * outputs], dtype: "f32" },
    },
    forward: (call, views) => winogradForward(call, tiling, views),
    inputGradient: gradients,
    kernelGradient: gradients,
    gradients,
  };
  return { ...route, pooled: route };
}

/** A spectrum in `view`, or in memory of its own. */
function spectrumIn<P>(call: GpuCall<P>, tiling: Tiling, channels: number, view?: GpuView): Spectrum {
  const at = view ?? call.scratch({ shape: spectrumShape(tiling, channels), dtype: "f32" });
  return { view: at, channels, stride: planeStride(tiling, channels) };
}

/** Every tile's row of a spectrum's planes. */
const rowsOf = ({ view, channels, stride }: Spectrum): Matrix => ({
  view,
  offset: 0,
  stride: channels,
  batchStride: stride,
  transposed: false,
});

/** The planes of a transformed kernel. */
const planesOf = (view: GpuView, rows: number, columns: number): Matrix => ({
  view,
  offset: 0,
  stride: columns,
  batchStride: rows * columns,
  transposed: false,
});

/** The forward pass: y = act(x * kernel + bias), perhaps pooled. */
function winogradForward<P>(call: GpuCall<P>, tiling: Tiling, views: ForwardViews<Result>): void {
  const { inputs, outputs } = tiling.geometry;
  const source = spectrumIn(call, tiling, inputs, views.kept.x);
  transformInput(call, tiling, views.x, source);
  const factors = transformKernel(call, tiling, views.kernel, views.kept.kernel);
  const product = spectrumIn(call, tiling, outputs);
  runWhole(call, {
    batch: tiling.frequencies,
    m: tiling.tiles,
    n: outputs,
    k: inputs,
    a: rowsOf(source),
    b: planesOf(factors, inputs, outputs),
    c: rowsOf(product),
  });
  transformOutput(call, tiling, product, views);
}

/** The gradients that are wanted; those of kernel and bias need x, that of x the kernel, or what was kept of them. */
function winogradGradients<P>(call: GpuCall<P>, tiling: Tiling, views: WantedGradients<ResultGradient>): void {
  const { inputs, outputs } = tiling.geometry;
  const { x, kernel, dx, dkernel, dbias, kept } = views;
  const gradient = spectrumIn(call, tiling, outputs);
  transformResultGradient(call, tiling, views.gradient, gradient);
  if (dbias) sumResultGradient(call, tiling, gradient, dbias);
  let source = spectrumIn(call, tiling, inputs, kept.x);
  if (dkernel) {
    if (!kept.x) transformInput(call, tiling, x!, source);
    const factors = call.scratch({ shape: [tiling.frequencies * inputs * outputs], dtype: "f32" });
    runWhole(call, {
      batch: tiling.frequencies,
      m: inputs,
      n: outputs,
      k: tiling.tiles,
      a: { ...rowsOf(source), transposed: true },
      b: rowsOf(gradient),
      c: planesOf(factors, inputs, outputs),
    });
    transformKernelGradient(call, tiling, factors, dkernel);
  }
  if (dx) {
    const factors = kept.kernel ?? transformKernel(call, tiling, kernel!);
    // What was kept belongs to the tape.
    if (kept.x) source = spectrumIn(call, tiling, inputs);
    runWhole(call, {
      batch: tiling.frequencies,
      m: tiling.tiles,
      n: inputs,
      k: outputs,
      a: rowsOf(gradient),
      b: { ...planesOf(factors, inputs, outputs), transposed: true },
      c: rowsOf(source),
    });
    transformInputGradient(call, tiling, source, dx);
  }
}
