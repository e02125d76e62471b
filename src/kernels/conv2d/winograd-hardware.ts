// Convolutions of 3 x 3, stride 1, by Winograd's minimal filtering (winograd-matrices.ts) on hardware adapters. An
// invocation transforms one tile of one channel, with all its frequencies in registers. Neighbours have neighbouring
// channels. The one-dimensional matrices are written on one side only, t is a frequency and p a tile of m x m outputs:
//
//   forward          V[t][p] = inputs d        U[t] = kernel g          M[t] = V[t] U[t]          y = outputs M
//   input gradient   the same convolution of dz: taps turned round, channels exchanged, padding 2 - p; no tiles overlap
//   kernel gradient  V[t][p] = inputs d        N[t][p] = outputs^T dz   D[t] = V[t]^T N[t]        dkernel = kernel^T D
//
// The other way to the input gradient, the adjoint step by step (winograd.ts, for software adapters), shares N, but its
// tiles overlap in what they write.
import type { Spec } from "../../tensor/dtype.js";
import { sizeOf } from "../../tensor/shape.js";
import { type GpuCall, type GpuView, sliceOf } from "../../webgpu/program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { boxLoop } from "../box.js";
import { matmulKernel } from "../matmul.js";
import { dispatchReduce } from "../reduce.js";
import { rolledLoop } from "../rolled.js";
import type { Conv2dGeometry, WindowAxis } from "./geometry.js";
import type {
  ConvolutionRoute,
  ForwardViews,
  InputGradientViews,
  KernelGradientViews,
  Plain,
  PlainGradient,
} from "./route.js";
import { type Tiling, tilingOf } from "./tiling.js";
import { both, square, TAPS, transposed, winogradMatrices } from "./winograd-matrices.js";

/** WGSL that stores the frequencies v, or loads m, of the tile and channel (or pair of channels) `i`. */
const storeAll = (side: number, target: string) =>
  square(side, (r, c) => `${target}[i + ${side * r + c}u * u.plane] = v${r}_${c};`);
const loadAll = (side: number, source: string) =>
  square(side, (r, c) => `let m${r}_${c} = ${source}[i + ${side * r + c}u * u.plane];`);

/** Whether the element of a tile at [row, column] lies inside an image of [u.height, u.width]; u32 arithmetic wraps. */
const isInside = (r: number, c: number) => `top + ${r}u < u.height && left + ${c}u < u.width`;
const at = (r: number, c: number) => `at + (${r}u * u.width + ${c}u) * u.channels`;

/** A pass over tiles and channels of images [batch, height, width, channels] whose first tile begins at -padding. */
interface TilePass {
  readonly key: string;
  readonly tiling: Tiling;
  readonly images: { readonly height: number; readonly width: number; readonly channels: number };
  readonly padding: readonly [number, number];
  /** WGSL, made when a program is. */
  readonly body: () => string;
  readonly declarations?: () => string;
  readonly bindings: Readonly<Record<string, GpuView>>;
  readonly output: readonly [name: string, view: GpuView];
}

function dispatchTiles<P>(call: GpuCall<P>, pass: TilePass): void {
  const { tiling, images, padding } = pass;
  const { geometry, m, rows, columns, tiles } = tiling;
  const loop = boxLoop(call.profile, [geometry.batch, rows, columns, images.channels]);
  call.dispatch({
    key: `${pass.key} ${m}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: pass.declarations?.() ?? "",
      body: loop.body(/* wgsl */ `
    let top = c1 * ${m}u - u.paddingY;
    let left = c2 * ${m}u - u.paddingX;
    let at = ((c0 * u.height + top) * u.width + left) * u.channels + c3;
    ${pass.body()}`),
    }),
    bindings: [
      ...Object.entries(pass.bindings).map(([name, view]) => ({ name, view, type: "f32" })),
      { name: pass.output[0], view: pass.output[1], type: "f32", access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      ...images,
      paddingY: padding[0],
      paddingX: padding[1],
      plane: tiles * images.channels,
    },
    workgroups: loop.workgroups,
  });
}

/** [frequencies, tiles, channels] */
const spectrumSpec = ({ frequencies, tiles }: Tiling, channels: number): Spec => ({
  shape: [frequencies, tiles, channels],
  dtype: "f32",
});
const spectrum = <P>(call: GpuCall<P>, tiling: Tiling, channels: number) =>
  call.scratch(spectrumSpec(tiling, channels));

/** Most elements of a V worth keeping for the kernel gradient: 128 MiB. */
const MOST_KEPT = 2 ** 25;

/** All three passes in such tiles. V is kept unless it is too large. */
export function winogradHardwareRoute(tiling: Tiling): ConvolutionRoute {
  const source = spectrumSpec(tiling, tiling.geometry.inputs);
  return {
    name: `winograd ${tiling.m}, hardware`,
    keeps: { x: sizeOf(source.shape) <= MOST_KEPT ? source : undefined },
    forward: (call, views) => forward(call, tiling, views),
    inputGradient: (call, views) => inputGradient(call, tiling, views),
    kernelGradient: (call, views) => kernelGradient(call, tiling, views),
  };
}

/** V = inputs d inputs^T of every tile d (m + 2 square) of x, in `into` or memory of its own. */
function transformInput<P>(call: GpuCall<P>, tiling: Tiling, x: GpuView, into?: GpuView): GpuView {
  const { geometry, m } = tiling;
  const to = into ?? spectrum(call, tiling, geometry.inputs);
  const side = m + 2;
  dispatchTiles(call, {
    key: "transform input",
    tiling,
    images: { height: geometry.y.input, width: geometry.x.input, channels: geometry.inputs },
    padding: [geometry.y.padding, geometry.x.padding],
    body: () => `${square(side, (r, c) => `let d${r}_${c} = select(0f, image[${at(r, c)}], ${isInside(r, c)});`)}
    ${both(winogradMatrices(m).inputs, "d", "v")}
    ${storeAll(side, "spectrum")}`,
    bindings: { image: x },
    output: ["spectrum", to],
  });
  return to;
}

/** y = act(outputs M outputs^T + bias) for every tile M. */
function transformOutput<P>(
  call: GpuCall<P>,
  tiling: Tiling,
  products: GpuView,
  { bias, activation, y }: { bias: GpuView | undefined; activation: FusedActivation; y: GpuView },
): void {
  const { geometry, m } = tiling;
  dispatchTiles(call, {
    key: `transform output ${activation}`,
    tiling,
    images: { height: geometry.y.output, width: geometry.x.output, channels: geometry.outputs },
    padding: [0, 0],
    declarations: () => activationWgsl(activation, "f32"),
    body: () => `${loadAll(m + 2, "spectrum")}
    ${both(winogradMatrices(m).outputs, "m", "y")}
    ${bias ? "let shift = bias[c3];" : ""}
    ${square(m, (r, c) => `if (${isInside(r, c)}) { result[${at(r, c)}] = activation(y${r}_${c}${bias ? " + shift" : ""}); }`)}`,
    bindings: { spectrum: products, ...(bias && { bias }) },
    output: ["result", y],
  });
}

/** N = outputs^T dz outputs for every tile dz (m square). */
function transformGradient<P>(call: GpuCall<P>, tiling: Tiling, dz: GpuView): GpuView {
  const { geometry, m } = tiling;
  const to = spectrum(call, tiling, geometry.outputs);
  dispatchTiles(call, {
    key: "transform gradient",
    tiling,
    images: { height: geometry.y.output, width: geometry.x.output, channels: geometry.outputs },
    padding: [0, 0],
    body: () => `${square(m, (r, c) => `let d${r}_${c} = select(0f, gradients[${at(r, c)}], ${isInside(r, c)});`)}
    ${both(transposed(winogradMatrices(m).outputs), "d", "v")}
    ${storeAll(m + 2, "spectrum")}`,
    bindings: { gradients: dz },
    output: ["spectrum", to],
  });
  return to;
}

/**
 * U [frequencies, Cin, Cout] = kernel g kernel^T of the taps g of every pair of channels, turned round if `reversed`.
 */
function transformKernel<P>(
  call: GpuCall<P>,
  { geometry: { inputs, outputs }, m, frequencies }: Tiling,
  kernel: GpuView,
  reversed: boolean,
): GpuView {
  const loop = rolledLoop(call.profile, inputs * outputs);
  const factors = call.scratch({ shape: [frequencies, inputs, outputs], dtype: "f32" });
  const tap = (r: number, c: number) => (reversed ? TAPS * TAPS - 1 - (TAPS * r + c) : TAPS * r + c);
  call.dispatch({
    key: `transform kernel ${m} ${reversed}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    ${square(TAPS, (r, c) => `let g${r}_${c} = weights[i + ${tap(r, c)}u * u.plane];`)}
    ${both(winogradMatrices(m).kernel, "g", "v")}
    ${storeAll(m + 2, "factors")}`),
    }),
    bindings: [
      { name: "weights", view: kernel, type: "f32" },
      { name: "factors", view: factors, type: "f32", access: "read_write" },
    ],
    sizes: { ...loop.sizes, plane: inputs * outputs },
    workgroups: loop.workgroups,
  });
  return factors;
}

/** dkernel = kernel^T D kernel for the gradient D [frequencies, Cin, Cout] of the transformed kernel. */
function transformKernelGradient<P>(
  call: GpuCall<P>,
  { geometry: { inputs, outputs }, m }: Tiling,
  factors: GpuView,
  dkernel: GpuView,
): void {
  const loop = rolledLoop(call.profile, inputs * outputs);
  call.dispatch({
    key: `transform kernel gradient ${m}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    ${loadAll(m + 2, "factors")}
    ${both(transposed(winogradMatrices(m).kernel), "m", "y")}
    ${square(TAPS, (r, c) => `dkernel[i + ${TAPS * r + c}u * u.plane] = y${r}_${c};`)}`),
    }),
    bindings: [
      { name: "factors", view: factors, type: "f32" },
      { name: "dkernel", view: dkernel, type: "f32", access: "read_write" },
    ],
    sizes: { ...loop.sizes, plane: inputs * outputs },
    workgroups: loop.workgroups,
  });
}

function product<P>(
  call: GpuCall<P>,
  [a, b, c]: readonly [GpuView, GpuView, GpuView],
  transposes: { readonly a?: boolean; readonly b?: boolean } = {},
): void {
  matmulKernel.webgpu({
    ...call,
    inputs: [a, b],
    outputs: [c],
    params: { transposeA: transposes.a ?? false, transposeB: transposes.b ?? false, activation: "linear" },
  });
}

/** y = act(x * kernel + bias). */
function forward<P>(call: GpuCall<P>, tiling: Tiling, views: ForwardViews<Plain>): void {
  const source = transformInput(call, tiling, views.x, views.kept.x);
  const factors = transformKernel(call, tiling, views.kernel, false);
  const products = spectrum(call, tiling, tiling.geometry.outputs);
  product(call, [source, factors, products]);
  transformOutput(call, tiling, products, { ...views, ...views.result });
}

/** The convolution of dz that gives dx. */
function inputGradientGeometry({ batch, inputs, outputs, y, x }: Conv2dGeometry): Conv2dGeometry {
  const axis = (a: WindowAxis): WindowAxis => ({
    ...a,
    input: a.output,
    output: a.input,
    padding: a.kernel - 1 - a.padding,
  });
  return { batch, inputs: outputs, outputs: inputs, y: axis(y), x: axis(x) };
}

function inputGradient<P>(call: GpuCall<P>, tiling: Tiling, views: InputGradientViews<PlainGradient>): void {
  const {
    gradient: { dz },
    kernel,
    dx,
  } = views;
  const gradient = tilingOf(inputGradientGeometry(tiling.geometry), tiling.m);
  const source = transformInput(call, gradient, dz);
  const factors = transformKernel(call, tiling, kernel, true);
  const products = spectrum(call, gradient, gradient.geometry.outputs);
  product(call, [source, factors, products], { b: true });
  transformOutput(call, gradient, products, { bias: undefined, activation: "linear", y: dx });
}

function kernelGradient<P>(call: GpuCall<P>, tiling: Tiling, views: KernelGradientViews<PlainGradient>): void {
  const { inputs, outputs } = tiling.geometry;
  const {
    x,
    gradient: { dz },
    dkernel,
    dbias,
    kept,
  } = views;
  const source = kept.x ?? transformInput(call, tiling, x);
  const gradient = transformGradient(call, tiling, dz);
  const factors = call.scratch({ shape: [tiling.frequencies, inputs, outputs], dtype: "f32" });
  product(call, [source, gradient, factors], { a: true });
  transformKernelGradient(call, tiling, factors, dkernel);
  if (dbias) sumGradient(call, tiling, { dz, gradient, dbias });
}

/**
 * dbias = sum of dz. The frequency (1, 1) of N, that of the point 1 on both axes, is the sum over a tile: m^2 times
 * less to read, where it can be bound.
 */
function sumGradient<P>(
  call: GpuCall<P>,
  { geometry: { outputs }, m, tiles }: Tiling,
  { dz, gradient, dbias }: { readonly dz: GpuView; readonly gradient: GpuView; readonly dbias: GpuView },
): void {
  const plane = tiles * outputs;
  const [from, reduce] =
    plane % 64 === 0 ? [sliceOf(gradient, (m + 3) * plane, plane), tiles] : [dz, dz.size / outputs];
  dispatchReduce(call, "sum", from, dbias, { outer: 1, reduce, inner: outputs });
}
