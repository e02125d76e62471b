// Convolution, bias, maximum of 2 x 2 windows and activation, and its gradients.
//
//   z[n, oy, ox, co] = bias[co] + (x * kernel)[n, oy, ox, co], as in conv2d.ts
//   y[n, py, px, co] = act(max over the cells (cy, cx) of z[n, 2 py + cy, 2 px + cx, co]), compared before the bias is added
//   winner[n, py, px, co / 4]: which cell 2 cy + cx was the first maximum or a NaN, two bits for each of four channels
//   dz[n, oy, ox, co] = dy[n, py, px, co] * act'(y) in the cell that won, 0 in the others; dx, dkernel, dbias as in conv2d.ts
//
// x [N, H, W, Cin], kernel [kh, kw, Cin, Cout], Cout % 4 = 0; y, dy [N, PH, PW, Cout]. In one of three ways:
// - Winograd: the pooling and its gradient are part of the transforms (conv2d/winograd.ts).
// - Images of one channel, in one pass. Their convolution's output is by far the largest tensor and its arithmetic the
//   least: it is never stored. An invocation has four channels (a quad), keeps their kernel (or its gradient) in
//   registers, and walks along rows of windows with a patch of (kh + 1) x (kw + 1) pixels, of which two columns are new
//   at each step. Quads run fastest over invocations, so that no lane idles whatever their number.
// - Otherwise the convolution and the pooling one after the other, and back.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import type { TuningProfile } from "../webgpu/family.js";
import { type Binding, type GpuCall, type GpuView, GRID_INDEX, gridOf } from "../webgpu/program.js";
import { activationCpu, activationGradientCpu, activationGradientWgsl, activationWgsl } from "./activation.js";
import { boxLoop } from "./box.js";
import { winogradTiling } from "./conv2d/choice.js";
import { type Conv2dGeometry, convolutionFlops, outputShape, type WindowAxis } from "./conv2d/geometry.js";
import { collectKernelSums, splitRows } from "./conv2d/kernel-sums.js";
import { CELLS, maximumWgsl, PASSED_BACK, partOf } from "./conv2d/pool-cells.js";
import { conv2dReference, inputGradientReference, kernelGradientReference } from "./conv2d/reference.js";
import { keptSpecs, NOTHING_KEPT, namedKept, winogradForward, winogradGradients } from "./conv2d/winograd.js";
import { type Conv2dParams, directForward, directInputGradient, directKernelGradient } from "./conv2d.js";
import { type Pool2dParams, winsWindow } from "./pool2d.js";
import { chosen, repeat } from "./subgroup-tile.js";

/** The geometry is the convolution's, cropped to what the windows read: its output is 2 PH x 2 PW. */
export type ConvPoolParams = Conv2dParams;

/** A kernel and its patch must stay in registers. */
const MOST_TAPS = 9;

/** Whether these kernels compute the convolution (cropped to what the windows read) and the pooling. */
export function fitsConvPool(geometry: Conv2dGeometry, pool: Pool2dParams): boolean {
  const fits = (a: WindowAxis, window: WindowAxis) =>
    window.kernel === 2 && window.stride === 2 && window.padding === 0 && window.output * 2 === a.output;
  return geometry.outputs % 4 === 0 && fits(geometry.y, pool.y) && fits(geometry.x, pool.x);
}

function inOnePass({ inputs, y, x }: Conv2dGeometry): boolean {
  const fits = (a: WindowAxis) =>
    a.stride === 1 && a.dilation === 1 && a.padding === 0 && a.output + a.kernel - 1 <= a.input;
  return inputs === 1 && y.kernel * x.kernel <= MOST_TAPS && fits(y) && fits(x);
}

/** [N, PH, PW, Cout]. */
export function pooledShape({ batch, y, x, outputs }: Conv2dGeometry): Shape {
  return [batch, y.output / 2, x.output / 2, outputs];
}

/** [N, PH, PW, Cout / 4], u32. */
export function winnerShape(geometry: Conv2dGeometry): Shape {
  return [...pooledShape(geometry).slice(0, 3), geometry.outputs / 4];
}

/** Visits each output: its index, that of its window's first cell in z, and where its two bits are. */
function eachWindow(
  geometry: Conv2dGeometry,
  visit: (at: number, cells: readonly number[], word: number, shift: number) => void,
): void {
  const { outputs, x } = geometry;
  const width = x.output / 2;
  const size = sizeOf(pooledShape(geometry));
  for (let i = 0; i < size; i++) {
    const channel = i % outputs;
    const column = Math.floor(i / outputs) % width;
    const row = Math.floor(i / outputs / width);
    const first = (row * 2 * x.output + column * 2) * outputs + channel;
    const below = first + x.output * outputs;
    visit(i, [first, first + outputs, below, below + outputs], i >> 2, 2 * (channel & 3));
  }
}

const temporary = (shape: Shape) =>
  ({ shape, dtype: "f32", size: sizeOf(shape), data: new Float64Array(sizeOf(shape)) }) satisfies CpuView;

/** Inputs: x, kernel and, if there is one, bias. Outputs: y and, if wanted, winner and then the byproducts. */
export const convPoolKernel = defineKernel<ConvPoolParams>({
  name: "convPool",
  flops: ({ geometry }) => convolutionFlops(geometry),
  byproducts: ({ geometry, keeps }, profile) => {
    const tiling = inOnePass(geometry) ? undefined : winogradTiling(profile, geometry);
    return keeps && tiling ? keptSpecs(tiling, keeps) : [];
  },
  cpu({ inputs: [x, kernel, bias], outputs: [y, winner], params: { geometry, activation } }) {
    const z = temporary(outputShape(geometry));
    conv2dReference(geometry, x!, kernel!, undefined, z, (value) => value);
    const act = activationCpu(activation);
    winner?.data.fill(0);
    eachWindow(geometry, (at, cells, word, shift) => {
      const values = cells.map((cell) => z.data[cell]!);
      const won = values.reduce((best, value, k) => (winsWindow(value, values[best]!) ? k : best), 0);
      y!.data[at] = act(values[won]! + (bias?.data[at % geometry.outputs] ?? 0));
      if (winner) winner.data[word]! |= won << shift;
    });
  },
  webgpu(call) {
    const { geometry, activation, keeps = NOTHING_KEPT } = call.params;
    const [x, kernel, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
    const [pooled, winner, ...rest] = call.outputs as readonly [GpuView, GpuView | undefined, ...GpuView[]];
    const kept = namedKept(rest, keeps);
    const tiling = winogradTiling(call.profile, geometry);
    if (inOnePass(geometry)) forwardInOnePass(call);
    else if (tiling) winogradForward(call, tiling, { x, kernel, bias, activation, result: { pooled, winner }, kept });
    else {
      const z = call.scratch({ shape: outputShape(geometry), dtype: "f32" });
      directForward(call, geometry, { x, kernel, bias: undefined, y: z }, "linear");
      pool(call, z, { bias, pooled, winner });
    }
  },
});

/** Which gradients a call computes; its outputs are theirs, in this order. That of the bias only with the kernel's. */
export interface WantedGradients {
  readonly dx: boolean;
  readonly dkernel: boolean;
  readonly dbias: boolean;
}

/**
 * Inputs: x, kernel, dy, y, winner and what was kept (as `keeps` says), if it was. Outputs: dx [N, H, W, Cin], dkernel [kh, kw,
 * Cin, Cout], dbias [Cout], as wanted.
 */
function gradientsKernel(name: string) {
  return defineKernel<ConvPoolParams & { readonly wanted: WantedGradients }>({
    name,
    flops: ({ geometry, wanted }) => (Number(wanted.dx) + Number(wanted.dkernel)) * convolutionFlops(geometry),
    cpu({ inputs: [x, kernel, dy, y, winner], outputs, params }) {
      const { dx, dkernel, dbias } = named(outputs, params.wanted);
      const dz = temporary(outputShape(params.geometry));
      unpoolReference(params, dy!, y!, winner!, dz);
      // A cell that did not win has no part, even of what is infinite.
      const product = (gradient: number, factor: number) => (gradient === 0 ? 0 : gradient * factor);
      if (dx) inputGradientReference(params.geometry, dz, kernel!, dx, product);
      if (dkernel) kernelGradientReference(params.geometry, x!, dz, dkernel, dbias, product);
    },
    webgpu(call) {
      const { geometry, activation, wanted, keeps = NOTHING_KEPT } = call.params;
      const [x, kernel, dy, y, winner] = call.inputs as readonly [GpuView, GpuView, GpuView, GpuView, GpuView];
      const kept = namedKept(call.inputs.slice(5), keeps);
      const { dx, dkernel, dbias } = named(call.outputs, wanted);
      const from = { dy, y, winner };
      const tiling = inOnePass(geometry) ? undefined : winogradTiling(call.profile, geometry);
      if (tiling) {
        winogradGradients(call, tiling, { x, kernel, gradient: { ...from, activation }, dx, dkernel, dbias, kept });
        return;
      }
      const direct = dkernel && inOnePass(geometry);
      if (direct) kernelGradientInOnePass(call, { x, from, dkernel, dbias });
      if (dx || (dkernel && !direct)) {
        const dz = unpool(call, from);
        if (dx) directInputGradient(call, geometry, { dz, kernel, dx });
        if (dkernel && !direct) directKernelGradient(call, geometry, { x, dz, dkernel, dbias });
      }
    },
  });
}

/** One kernel, under the names of what is wanted of it. */
export const convPoolInputGradientKernel = gradientsKernel("convPoolInputGradient");
export const convPoolKernelGradientKernel = gradientsKernel("convPoolKernelGradient");
export const convPoolGradientsKernel = gradientsKernel("convPoolGradients");

/** Outputs by what they are. */
function named<View>(outputs: readonly View[], { dx, dkernel, dbias }: WantedGradients) {
  const rest = [...outputs];
  return {
    dx: dx ? rest.shift() : undefined,
    dkernel: dkernel ? rest.shift() : undefined,
    dbias: dbias ? rest.shift() : undefined,
  };
}

/** The pooled tensors that a gradient comes from. */
interface PooledGradient {
  readonly dy: GpuView;
  readonly y: GpuView;
  readonly winner: GpuView;
}

/** pooled = act(max of the windows of z + bias). */
function pool(
  call: GpuCall<ConvPoolParams>,
  z: GpuView,
  {
    bias,
    pooled,
    winner,
  }: { readonly bias: GpuView | undefined; readonly pooled: GpuView; readonly winner: GpuView | undefined },
): void {
  const { geometry, activation } = call.params;
  const [batch, height, width] = pooledShape(geometry) as [number, number, number];
  const loop = boxLoop(call.profile, [batch * height, width, geometry.outputs / 4]);
  call.dispatch({
    key: `pool ${activation} ${bias !== undefined} ${winner !== undefined}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationWgsl(activation, "vec4f"),
      body: loop.body(/* wgsl */ `
    let first = (c0 * 4u * u.extent1 + c1 * 2u) * u.extent2 + c2;
    ${CELLS.map(({ cy, cx }, k) => `let z${k} = sums[first + (${2 * cy}u * u.extent1 + ${cx}u) * u.extent2];`).join("\n    ")}
    ${maximumWgsl((k) => `z${k}`, { winner: winner !== undefined })}
    pooled[i] = activation(best${bias ? " + bias[c2]" : ""});
    ${winner ? "winner[i] = packed;" : ""}`),
    }),
    bindings: [
      { name: "sums", view: z, type: "vec4f" },
      ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
      { name: "pooled", view: pooled, type: "vec4f", access: "read_write" },
      ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
    ],
    sizes: loop.sizes,
    workgroups: loop.workgroups,
  });
}

/** The forward pass where `inOnePass`. */
function forwardInOnePass(call: GpuCall<ConvPoolParams>): void {
  const { geometry, activation } = call.params;
  const [x, kernel, bias] = call.inputs;
  const [y, winner] = call.outputs;
  const rows = geometry.batch * (geometry.y.output / 2);
  const quads = geometry.outputs / 4;
  const { size, runs, bound } = walk(call.profile, rows, quads);
  const taps = tapsOf(geometry);
  // The bias, equal in all cells, is added to the maximum.
  const sums = CELLS.flatMap(({ cy, cx }, cell) =>
    taps.map(({ ky, kx }, t) => {
      const pixel = `p${cy + ky}_${cx + kx}`;
      return t === 0 ? `var z${cell} = w0 * ${pixel};` : `z${cell} = fma(w${t}, vec4f(${pixel}), z${cell});`;
    }),
  ).join("\n");
  call.dispatch({
    key: `forward ${geometry.y.kernel}x${geometry.x.kernel} ${activation} ${bias !== undefined} ${winner !== undefined}`,
    program: () => ({
      workgroupSize: [size],
      declarations: activationWgsl(activation, "vec4f"),
      body: /* wgsl */ `
let item = ${GRID_INDEX} * ${size}u + lane;
let quad = item % u.quads;
let run = item / u.quads;
var w: array<vec4f, ${taps.length}>;
for (var t = 0u; t < ${bound("u.taps", taps.length)}; t++) { w[t] = weights[t * u.quads + quad]; }
${repeat(taps.length, (t) => `let w${t} = w[${t}];`)}
${bias ? "let shift = bias[quad];" : ""}
${overWindows(
  geometry,
  /* wgsl */ `
    ${sums}
    ${maximumWgsl((k) => `z${k}`, { winner: winner !== undefined })}
    pooled[at] = activation(best${bias ? " + shift" : ""});
    ${winner ? "winner[at] = packed;" : ""}`,
)}`,
    }),
    bindings: [
      { name: "image", view: x!, type: "f32" },
      { name: "weights", view: kernel!, type: "vec4f" },
      ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
      { name: "pooled", view: y!, type: "vec4f", access: "read_write" },
      ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
    ],
    sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows, taps: taps.length },
    workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
  });
}

/** dkernel and, if wanted, dbias where `inOnePass`. */
function kernelGradientInOnePass(
  call: GpuCall<ConvPoolParams>,
  views: {
    readonly x: GpuView;
    readonly from: PooledGradient;
    readonly dkernel: GpuView;
    readonly dbias: GpuView | undefined;
  },
): void {
  const { x, from, dkernel, dbias } = views;
  const { geometry, activation } = call.params;
  const rows = geometry.batch * (geometry.y.output / 2);
  const quads = geometry.outputs / 4;
  const { size, runs, bound } = walk(call.profile, rows, quads);
  const taps = tapsOf(geometry);
  collectKernelSums(
    { ...call, params: geometry, outputs: dbias ? [dkernel, dbias] : [dkernel] },
    runs.count,
    ({ kernelSums, biasSums }) => {
      call.dispatch({
        key: `kernel gradient ${geometry.y.kernel}x${geometry.x.kernel} ${activation} ${biasSums !== undefined}`,
        program: () => ({
          workgroupSize: [size],
          declarations: activationGradientWgsl(activation, "vec4f"),
          body: /* wgsl */ `
let item = ${GRID_INDEX} * ${size}u + lane;
let quad = item % u.quads;
let run = item / u.quads;
${repeat(taps.length, (t) => `var d${t} = vec4f();`)}
${biasSums ? "var biasSum = vec4f();" : ""}
${overWindows(
  geometry,
  /* wgsl */ `
    ${PASSED_BACK}
    ${biasSums ? "biasSum += dz;" : ""}
    // Each channel's winning pixel: first the column, for all rows of the patch, then the row.
    let right = (cell & vec4u(1u)) == vec4u(1u);
    let below = cell >= vec4u(2u);
    ${repeat(geometry.y.kernel + 1, (r) =>
      repeat(geometry.x.kernel, (c) => `let h${r}_${c} = select(vec4f(p${r}_${c}), vec4f(p${r}_${c + 1}), right);`),
    )}
    ${taps.map(({ ky, kx }, t) => `d${t} = fma(dz, select(h${ky}_${kx}, h${ky + 1}_${kx}, below), d${t});`).join("\n")}`,
)}
if (run >= u.runs) { return; }
for (var t = 0u; t < ${bound("u.taps", taps.length)}; t++) {
  kernelSums[(run * u.taps + t) * u.quads + quad] = ${chosen("t", taps.length, (t) => `d${t}`)};
}
${biasSums ? "biasSums[run * u.quads + quad] = biasSum;" : ""}`,
        }),
        bindings: [
          { name: "image", view: x, type: "f32" },
          ...gradientBindings(from),
          { name: "kernelSums", view: kernelSums, type: "vec4f", access: "read_write" },
          ...(biasSums ? [{ name: "biasSums", view: biasSums, type: "vec4f", access: "read_write" } as const] : []),
        ],
        sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows, runs: runs.count, taps: taps.length },
        workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
      });
    },
  );
}

/** dz [N, 2 PH, 2 PW, Cout], zero where a cell did not win. */
function unpool(call: GpuCall<ConvPoolParams>, from: PooledGradient): GpuView {
  const { geometry, activation } = call.params;
  const [batch, height, width] = pooledShape(geometry) as [number, number, number];
  const dz = call.scratch({ shape: outputShape(geometry), dtype: "f32" });
  const loop = boxLoop(call.profile, [batch * height, width, geometry.outputs / 4]);
  call.dispatch({
    key: `unpool ${activation}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationGradientWgsl(activation, "vec4f"),
      body: loop.body(/* wgsl */ `
let at = i;
${PASSED_BACK}
let first = (c0 * 4u * u.extent1 + c1 * 2u) * u.extent2 + c2;
${CELLS.map(
  ({ cy, cx }, cell) => `sums[first + ${2 * cy}u * u.extent1 * u.extent2 + ${cx}u * u.extent2] = ${partOf(cell)};`,
).join("\n    ")}`),
    }),
    bindings: [...gradientBindings(from), { name: "sums", view: dz, type: "vec4f", access: "read_write" }],
    sizes: loop.sizes,
    workgroups: loop.workgroups,
  });
  return dz;
}

function unpoolReference(
  { geometry, activation }: ConvPoolParams,
  dy: CpuView,
  y: CpuView,
  winner: CpuView,
  dz: CpuView,
) {
  const gradient = activationGradientCpu(activation);
  dz.data.fill(0);
  eachWindow(geometry, (at, cells, word, shift) => {
    dz.data[cells[(winner.data[word]! >> shift) & 3]!] = gradient(dy.data[at]!, y.data[at]!);
  });
}

/** Kernel elements in row-major order. */
function tapsOf({ y, x }: Conv2dGeometry) {
  return Array.from({ length: y.kernel * x.kernel }, (_, t) => ({ ky: Math.floor(t / x.kernel), kx: t % x.kernel }));
}

function gradientBindings({ dy, y, winner }: PooledGradient): Binding[] {
  return [
    { name: "gradients", view: dy, type: "vec4f" },
    { name: "values", view: y, type: "vec4f" },
    { name: "winner", view: winner, type: "u32" },
  ];
}

/**
 * Rows of windows (n, py) cut into runs, one invocation per run and quad; and how a loop over taps is bounded: by a number on
 * hardware, which unrolls it, by a parameter on software adapters, where many loads and stores take long to compile.
 */
function walk(profile: TuningProfile, rows: number, quads: number) {
  const software = profile.name === "software";
  return {
    size: software ? 8 : 64,
    runs: splitRows(rows, Math.ceil((software ? 512 : 16384) / quads)),
    bound: (parameter: string, count: number) => (software ? parameter : `${count}u`),
  };
}

const sizesOf = ({ batch, y, x, outputs }: Conv2dGeometry) => ({
  quads: outputs / 4,
  rows: batch * (y.output / 2),
  height: y.output / 2,
  width: x.output / 2,
  imageHeight: y.input,
  imageWidth: x.input,
});

/**
 * WGSL that runs `statement` for each window of the rows of `run`: `at` is the index of its quad in the pooled tensors,
 * `pR_C` (f32) the pixel at row R and column C of its patch.
 */
function overWindows({ y, x }: Conv2dGeometry, statement: string): string {
  const kept = x.kernel - 1;
  const eachRow = (emit: (r: number) => string) => repeat(y.kernel + 1, emit);
  return /* wgsl */ `
  let end = min((run + 1u) * u.rowsPerRun, u.rows);
  for (var row = run * u.rowsPerRun; row < end; row++) {
    var pixel = (row / u.height * u.imageHeight + row % u.height * 2u) * u.imageWidth;
    ${eachRow((r) => repeat(kept, (c) => `var p${r}_${c} = image[pixel + ${r}u * u.imageWidth + ${c}u];`))}
    pixel += ${kept}u;
    var at = row * u.width * u.quads + quad;
    for (var column = 0u; column < u.width; column++) {
      ${eachRow((r) => [0, 1].map((c) => `let p${r}_${kept + c} = image[pixel + ${r}u * u.imageWidth + ${c}u];`).join("\n"))}
      ${statement}
      ${eachRow((r) => repeat(kept, (c) => `p${r}_${c} = p${r}_${c + 2};`))}
      pixel += 2u;
      at += u.quads;
    }
  }`;
}
