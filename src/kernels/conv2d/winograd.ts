// Convolutions of 3 x 3, stride 1, by Winograd's minimal filtering (winograd-matrices.ts): outputs are cut into tiles of
// m x m, whose (m + 2)^2 products per pair of channels, instead of 9 m^2, are as many matrix products over tiles. With
// the one-dimensional matrices written on one side only, t a frequency and p a tile:
//   forward          V[t][p] = inputs d      U[t] = kernel g      M[t] = V[t] U[t]         y = outputs M
//   input gradient   N[t][p] = outputs^T dz                       W[t] = N[t] U[t]^T       dx = inputs^T W, added where tiles overlap
//   kernel gradient                                               D[t] = V[t]^T N[t]       dkernel = kernel^T D
// The gradients are the adjoint of the forward pass step by step, so they cost the same multiplications, and padding
// needs no masks but where tiles are read and written.
import type { Spec } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import type { FusedActivation } from "../activation.js";
import type { Matrix } from "../matmul-product.js";
import { runWhole } from "../matmul-subgroup.js";
import type { Tiling } from "./tiling.js";
import {
  planeStride,
  type Result,
  type ResultGradient,
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

/** What a forward pass leaves to its gradients, or may leave: transforms that these would compute again. */
export interface Kept<T> {
  /** V, for the kernel gradient. */
  readonly x: T;
  /** U, for the input gradient. */
  readonly kernel: T;
}

export const NOTHING_KEPT: Kept<boolean> = { x: false, kernel: false };

/** Most elements of a V worth keeping: what has left the caches until it is wanted is as fast computed again. */
const MOST_KEPT = 2 ** 20;

/** Shapes of what is to be kept, in the order of `Kept`; empty where it is not worth it. */
export function keptSpecs(tiling: Tiling, keeps: Kept<boolean>): Spec[] {
  const { inputs, outputs } = tiling.geometry;
  const spectrum = spectrumShape(tiling, inputs);
  const shapes = [
    ...(keeps.x ? [sizeOf(spectrum) <= MOST_KEPT ? spectrum : [0]] : []),
    ...(keeps.kernel ? [[tiling.frequencies * inputs * outputs]] : []),
  ];
  return shapes.map((shape) => ({ shape, dtype: "f32" }));
}

/** What was kept, by name; undefined where nothing was. */
export function namedKept(kept: readonly GpuView[], keeps: Kept<boolean>): Kept<GpuView | undefined> {
  const present = (view: GpuView | undefined) => (view?.size === 0 ? undefined : view);
  return { x: keeps.x ? present(kept[0]) : undefined, kernel: keeps.kernel ? present(kept.at(-1)) : undefined };
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
export function winogradForward<P>(
  call: GpuCall<P>,
  tiling: Tiling,
  views: {
    readonly x: GpuView;
    readonly kernel: GpuView;
    readonly bias: GpuView | undefined;
    readonly activation: FusedActivation;
    readonly result: Result;
    readonly kept?: Kept<GpuView | undefined>;
  },
): void {
  const { inputs, outputs } = tiling.geometry;
  const source = spectrumIn(call, tiling, inputs, views.kept?.x);
  transformInput(call, tiling, views.x, source);
  const factors = transformKernel(call, tiling, views.kernel, views.kept?.kernel);
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
export function winogradGradients<P>(
  call: GpuCall<P>,
  tiling: Tiling,
  views: {
    readonly x?: GpuView | undefined;
    readonly kernel?: GpuView | undefined;
    readonly gradient: ResultGradient;
    readonly dx?: GpuView | undefined;
    readonly dkernel?: GpuView | undefined;
    readonly dbias?: GpuView | undefined;
    readonly kept?: Partial<Kept<GpuView | undefined>>;
  },
): void {
  const { inputs, outputs } = tiling.geometry;
  const { x, kernel, dx, dkernel, dbias, kept = {} } = views;
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
