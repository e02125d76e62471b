// The transforms around the matrix products of a Winograd convolution (winograd.ts), for software adapters. Loads and
// stores are their cost on lavapipe, and more so with many of them in one loop body. So each pass touches every number
// once, four channels at a time. A *spectrum* is [frequencies][tiles][channels]; m is the tile's size, a = m + 2.
import type { Shape } from "../../tensor/shape.js";
import { subgroupLanes } from "../../webgpu/family.js";
import type { Binding, GpuCall, GpuView } from "../../webgpu/program.js";
import { activationGradientWgsl, activationWgsl, type FusedActivation } from "../activation.js";
import { boxLoop } from "../box.js";
import { CHAIN, longLoop, ONE } from "../long-sums.js";
import { rolledLoop } from "../rolled.js";
import { chosen, repeat } from "../subgroup-tile.js";
import type { Conv2dGeometry } from "./geometry.js";
import { maximumWgsl, PASSED_BACK, partOf, pooledGradientBindings } from "./pool-cells.js";
import type { Result, ResultGradient } from "./route.js";
import type { Tiling } from "./tiling.js";
import {
  both,
  type Matrix,
  multiply,
  square,
  type TileSize,
  transposed,
  winogradMatrices,
} from "./winograd-matrices.js";

/** [frequencies][tiles][channels], one plane per frequency. */
export interface Spectrum {
  readonly view: GpuView;
  readonly channels: number;
  /** Elements from one plane to the next. */
  readonly stride: number;
}

/**
 * Elements of a plane: no multiple of a page, or else the planes' lines would meet in the same sets of the cache; three
 * lines apart they do not.
 */
export function planeStride({ tiles }: Tiling, channels: number): number {
  return Math.ceil((tiles * channels) / 1024) * 1024 + 48;
}

export function spectrumShape(tiling: Tiling, channels: number): Shape {
  return [tiling.frequencies * planeStride(tiling, channels)];
}

/** Whether all tiles' inputs lie inside the image. */
function inside({ geometry: { y, x }, m, rows, columns }: Tiling): boolean {
  return y.padding === 0 && x.padding === 0 && rows * m + 2 <= y.input && columns * m + 2 <= x.input;
}

/** Whether tiles end where the output does. */
function whole({ geometry: { y, x }, m, rows, columns }: Tiling): boolean {
  return rows * m === y.output && columns * m === x.output;
}

/**
 * WGSL that stores the frequencies v, a x a, from element `at` of `target` on, `plane` apart. It goes row by row, in a
 * loop that the compiler cannot unroll. A load or store takes long to compile, and in a short loop less time to run.
 */
function storeRows(side: number, { target, at, plane }: Record<"target" | "at" | "plane", string>): string {
  return /* wgsl */ `
    for (var r = 0u; r < u.side; r++) {
      let row = ${at} + r * ${side}u * ${plane};
      ${repeat(side, (c) => `${target}[row + ${c}u * ${plane}] = ${chosen("r", side, (r) => `v${r}_${c}`)};`)}
    }`;
}

/**
 * WGSL that declares y = left M left^T for the frequencies M that are stored as `storeRows` does; row by row as well.
 */
function transformRows(left: Matrix, { source, at, plane }: Record<"source" | "at" | "plane", string>): string {
  const side = left[0]!.length;
  const results = left.length;
  const factor = (i: number) =>
    left[i]!.reduce((other, value, r) => (value === 0 ? other : `select(${other}, ${value}f, r == ${r}u)`), "0f");
  return /* wgsl */ `
    ${square(results, (i, j) => `var y${i}_${j} = vec4f();`)}
    for (var r = 0u; r < u.side; r++) {
      let row = ${at} + r * ${side}u * ${plane};
      ${repeat(side, (c) => `let m${c} = ${source}[row + ${c}u * ${plane}];`)}
      ${multiply(
        left,
        (c) => `m${c}`,
        (j) => `h${j}`,
      )}
      ${repeat(results, (i) => `let f${i} = ${factor(i)};`)}
      ${square(results, (i, j) => `y${i}_${j} += f${i} * h${j};`)}
    }`;
}

/** Sizes that several transforms read. */
function sizesOf({ geometry: { y, x }, rows, columns }: Tiling) {
  return {
    rows,
    columns,
    inputHeight: y.input,
    inputWidth: x.input,
    outputHeight: y.output,
    outputWidth: x.output,
    paddingY: y.padding,
    paddingX: x.padding,
  };
}

/**
 * spectrum = inputs d inputs^T of the tiles d (a x a) of x. An invocation walks along a row of tiles: m columns of a
 * tile are new, two were the tile's before it.
 */
export function transformInput<P>(call: GpuCall<P>, tiling: Tiling, x: GpuView, spectrum: Spectrum): void {
  const { geometry, m, rows } = tiling;
  const quads = geometry.inputs / 4;
  const masked = !inside(tiling);
  const loop = boxLoop(call.profile, [geometry.batch, rows, quads]);
  const side = m + 2;
  const load = (r: number, c: number) => {
    const value = `image[at + (${r}u * u.inputWidth + ${c}u) * u.quads]`;
    const ok = `row${r} && column + ${c}u < u.inputWidth`;
    return `let d${r}_${c + 2} = ${masked ? `select(vec4f(), ${value}, ${ok})` : value};`;
  };
  call.dispatch({
    key: `transform input ${m} ${masked}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    let top = c1 * ${m}u - u.paddingY;
    // u32 arithmetic wraps: a negative position is a huge one.
    var column = 0u - u.paddingX - ${m - 2}u;
    var at = ((c0 * u.inputHeight + top) * u.inputWidth + column) * u.quads + c2;
    var to = (c0 * u.rows + c1) * u.columns * u.quads + c2;
    ${masked ? repeat(side, (r) => `let row${r} = top + ${r}u < u.inputHeight;`) : ""}
    ${repeat(side, (r) => `var d${r}_0 = vec4f(); var d${r}_1 = vec4f();`)}
    for (var step = 0u; step <= u.columns; step++) {
      ${repeat(side, (r) => repeat(m, (c) => load(r, c)))}
      if (step > 0u) {
        ${both(winogradMatrices(m).inputs, "d", "v")}
        ${storeRows(side, { target: "spectrum", at: "to", plane: "u.plane" })}
        to += u.quads;
      }
      ${repeat(side, (r) => `d${r}_0 = d${r}_${m}; d${r}_1 = d${r}_${m + 1};`)}
      at += ${m}u * u.quads;
      column += ${m}u;
    }`),
    }),
    bindings: [
      { name: "image", view: x, type: "vec4f" },
      { name: "spectrum", view: spectrum.view, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...loop.sizes, ...sizesOf(tiling), quads, plane: spectrum.stride / 4, side: m + 2 },
    workgroups: loop.workgroups,
  });
}

/** Windows of 2 x 2 of a tile. */
const windowsOf = (m: TileSize, emit: (wy: number, wx: number) => string) => square(m / 2, emit);

/** y = act(outputs M outputs^T + bias) for every tile M of the spectrum, perhaps pooled. */
export function transformOutput<P>(
  call: GpuCall<P>,
  tiling: Tiling,
  spectrum: Spectrum,
  options: { readonly bias: GpuView | undefined; readonly activation: FusedActivation; readonly result: Result },
): void {
  const { geometry, m, rows, columns } = tiling;
  const { bias, activation, result } = options;
  const quads = spectrum.channels / 4;
  const side = m + 2;
  const loop = boxLoop(call.profile, [geometry.batch, rows, columns, quads]);
  const guarded = !whole(tiling);
  const value = (z: string) => `activation(${z}${bias ? " + shift" : ""})`;
  const guard = (text: string, y: string, x: string) =>
    guarded ? `if (${y} < u.outputHeight && ${x} < u.outputWidth) { ${text} }` : text;
  const winner = "pooled" in result ? result.winner : undefined;
  const store =
    "y" in result
      ? square(m, (r, c) =>
          guard(
            `result[at + (${r}u * u.outputWidth + ${c}u) * u.quads] = ${value(`y${r}_${c}`)};`,
            `c1 * ${m}u + ${r}u`,
            `c2 * ${m}u + ${c}u`,
          ),
        )
      : windowsOf(m, (wy, wx) => {
          const cell = (k: number) => `y${2 * wy + (k >> 1)}_${2 * wx + (k & 1)}`;
          const text = /* wgsl */ `
        ${maximumWgsl(cell, { winner: winner !== undefined })}
        let to = at + (${wy}u * u.outputWidth + ${wx}u) * u.quads;
        result[to] = ${value("best")};
        ${winner ? "winner[to] = packed;" : ""}`;
          const size = m / 2;
          return guard(`{ ${text} }`, `c1 * ${size}u + ${wy}u`, `c2 * ${size}u + ${wx}u`);
        });
  const [size, scale] = "y" in result ? [m, 1] : [m / 2, 2];
  call.dispatch({
    key: `transform output ${m} ${activation} ${"y" in result ? "plain" : "pooled"} ${guarded} ${bias !== undefined} ${winner !== undefined}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationWgsl(activation, "vec4f"),
      body: loop.body(/* wgsl */ `
    ${transformRows(winogradMatrices(m).outputs, { source: "spectrum", at: "i", plane: "u.plane" })}
    ${bias ? "let shift = bias[c3];" : ""}
    let at = ((c0 * u.outputHeight + c1 * ${size}u) * u.outputWidth + c2 * ${size}u) * u.quads + c3;
    ${store}`),
    }),
    bindings: [
      { name: "spectrum", view: spectrum.view, type: "vec4f" },
      ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
      { name: "result", view: "y" in result ? result.y : result.pooled, type: "vec4f", access: "read_write" },
      ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
    ],
    sizes: { ...loop.sizes, ...resultSizes(geometry, spectrum, scale), side },
    workgroups: loop.workgroups,
  });
}

/** The uniforms of a pass over the result, whose windows of scale x scale are one each. */
function resultSizes({ y, x }: Conv2dGeometry, { channels, stride }: Spectrum, scale: number) {
  return {
    quads: channels / 4,
    plane: stride / 4,
    outputHeight: y.output / scale,
    outputWidth: x.output / scale,
  };
}

/** spectrum = outputs^T dz outputs for every tile dz (m x m). */
export function transformResultGradient<P>(
  call: GpuCall<P>,
  tiling: Tiling,
  gradient: ResultGradient,
  spectrum: Spectrum,
): void {
  const { geometry, m, rows, columns } = tiling;
  const quads = spectrum.channels / 4;
  const side = m + 2;
  const loop = boxLoop(call.profile, [geometry.batch, rows, columns, quads]);
  const guarded = !whole(tiling);
  const plain = "dz" in gradient;
  const [size, scale] = plain ? [m, 1] : [m / 2, 2];
  const ok = (r: number, c: number) =>
    `c1 * ${size}u + ${r}u < u.outputHeight && c2 * ${size}u + ${c}u < u.outputWidth`;
  const masked = (value: string, r: number, c: number) => (guarded ? `select(vec4f(), ${value}, ${ok(r, c)})` : value);
  const at = (r: number, c: number) => `first + (${r}u * u.outputWidth + ${c}u) * u.quads`;
  const load = plain
    ? square(m, (r, c) => `let d${r}_${c} = ${masked(`gradients[${at(r, c)}]`, r, c)};`)
    : windowsOf(m, (r, c) => {
        const names = [0, 1, 2, 3].map((k) => `d${2 * r + (k >> 1)}_${2 * c + (k & 1)}`);
        return /* wgsl */ `
    ${names.map((name) => `var ${name} = vec4f();`).join(" ")}
    ${guarded ? `if (${ok(r, c)})` : ""} {
      let at = ${at(r, c)};
      ${PASSED_BACK}
      ${names.map((name, k) => `${name} = ${partOf(k)};`).join(" ")}
    }`;
      });
  const bindings: Binding[] = plain
    ? [{ name: "gradients", view: gradient.dz, type: "vec4f" }]
    : pooledGradientBindings(gradient);
  call.dispatch({
    key: `transform gradient ${m} ${plain ? "plain" : gradient.activation} ${guarded}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      ...(plain ? {} : { declarations: activationGradientWgsl(gradient.activation, "vec4f") }),
      body: loop.body(/* wgsl */ `
    let first = ((c0 * u.outputHeight + c1 * ${size}u) * u.outputWidth + c2 * ${size}u) * u.quads + c3;
    ${load}
    ${both(transposed(winogradMatrices(m).outputs), "d", "v")}
    ${storeRows(side, { target: "spectrum", at: "i", plane: "u.plane" })}`),
    }),
    bindings: [...bindings, { name: "spectrum", view: spectrum.view, type: "vec4f", access: "read_write" }],
    sizes: { ...loop.sizes, ...resultSizes(geometry, spectrum, scale), side },
    workgroups: loop.workgroups,
  });
}

/**
 * dx = sum of inputs^T V inputs over the overlapping tiles V of the spectrum. An invocation has four channels of an
 * image and walks over its tiles row by row. Two columns are carried to the next tile, and two rows are added to what
 * the row of tiles before has stored. Pixels of x that no tile reads get zero.
 */
export function transformInputGradient<P>(call: GpuCall<P>, tiling: Tiling, spectrum: Spectrum, dx: GpuView): void {
  const { geometry, m } = tiling;
  const quads = geometry.inputs / 4;
  const masked = !inside(tiling);
  const [height, width] = [tiling.rows * m + 2 - geometry.y.padding, tiling.columns * m + 2 - geometry.x.padding];
  const unread = height < geometry.y.input || width < geometry.x.input;
  const loop = boxLoop(call.profile, [geometry.batch, quads]);
  const side = m + 2;
  // One store of each in the text: twice as many took twice as long to compile.
  const store = (r: number, c: number) => {
    const at = `at + (${r}u * u.inputWidth + ${c}u) * u.quads`;
    const text =
      r < 2 ? `if (ty > 0u) { sum${r}_${c} += dx[${at}]; } dx[${at}] = sum${r}_${c};` : `dx[${at}] = sum${r}_${c};`;
    return masked ? `if (row${r} && column + ${c}u < u.inputWidth) { ${text} }` : text;
  };
  const zeroBeyond = /* wgsl */ `
    for (var row = 0u; row < u.inputHeight; row++) {
      for (var column = select(0u, u.readWidth, row < u.readHeight); column < u.inputWidth; column++) {
        dx[((c0 * u.inputHeight + row) * u.inputWidth + column) * u.quads + c1] = vec4f();
      }
    }`;
  call.dispatch({
    key: `transform input gradient ${m} ${masked} ${unread}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    for (var ty = 0u; ty < u.rows; ty++) {
      let top = ty * ${m}u - u.paddingY;
      var column = 0u - u.paddingX;
      var at = ((c0 * u.inputHeight + top) * u.inputWidth + column) * u.quads + c1;
      var source = (c0 * u.rows + ty) * u.columns * u.quads + c1;
      ${masked ? repeat(side, (r) => `let row${r} = top + ${r}u < u.inputHeight;`) : ""}
      ${repeat(side, (r) => repeat(2, (c) => `var kept${r}_${c} = vec4f();`))}
      // After the last tile the two columns that are left.
      for (var tx = 0u; tx <= u.columns; tx++) {
        ${repeat(side, (r) => repeat(m, (c) => `var sum${r}_${c} = ${c < 2 ? `kept${r}_${c}` : "vec4f()"};`))}
        if (tx < u.columns) {
          ${transformRows(transposed(winogradMatrices(m).inputs), { source: "spectrum", at: "source", plane: "u.plane" })}
          ${repeat(side, (r) => repeat(m, (c) => `sum${r}_${c} += y${r}_${c};`))}
          ${repeat(side, (r) => repeat(2, (c) => `kept${r}_${c} = y${r}_${m + c};`))}
        }
        ${repeat(side, (r) => repeat(m, (c) => (c < 2 ? store(r, c) : `if (tx < u.columns) { ${store(r, c)} }`)))}
        at += ${m}u * u.quads;
        column += ${m}u;
        source += u.quads;
      }
    }
    ${unread ? zeroBeyond : ""}`),
    }),
    bindings: [
      { name: "spectrum", view: spectrum.view, type: "vec4f" },
      { name: "dx", view: dx, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...{ ...loop.sizes, ...sizesOf(tiling), quads, plane: spectrum.stride / 4, side },
      ...(unread && { readHeight: height, readWidth: width }),
    },
    workgroups: loop.workgroups,
  });
}

/**
 * factors [frequencies][Cin][Cout] = kernel g kernel^T of the taps g (3 x 3) of every pair of channels, in `into` or
 * memory of their own.
 */
export function transformKernel<P>(
  call: GpuCall<P>,
  { geometry: { inputs, outputs }, m, frequencies }: Tiling,
  kernel: GpuView,
  into?: GpuView,
): GpuView {
  const side = m + 2;
  const loop = rolledLoop(call.profile, (inputs * outputs) / 4);
  const factors = into ?? call.scratch({ shape: [frequencies * inputs * outputs], dtype: "f32" });
  call.dispatch({
    key: `transform kernel ${m}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    var g: array<vec4f, 9>;
    for (var t = 0u; t < u.taps; t++) { g[t] = weights[i + t * u.count]; }
    ${square(3, (r, c) => `let g${r}_${c} = g[${3 * r + c}];`)}
    ${both(winogradMatrices(m).kernel, "g", "v")}
    ${storeRows(side, { target: "factors", at: "i", plane: "u.count" })}`),
    }),
    bindings: [
      { name: "weights", view: kernel, type: "vec4f" },
      { name: "factors", view: factors, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...loop.sizes, side, taps: 9 },
    workgroups: loop.workgroups,
  });
  return factors;
}

/** dkernel = kernel^T U kernel for the gradient U [frequencies][Cin][Cout] of the transformed kernel. */
export function transformKernelGradient<P>(
  call: GpuCall<P>,
  { geometry, m }: Tiling,
  factors: GpuView,
  dkernel: GpuView,
): void {
  const side = m + 2;
  const loop = rolledLoop(call.profile, (geometry.inputs * geometry.outputs) / 4);
  call.dispatch({
    key: `transform kernel gradient ${m}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    ${transformRows(transposed(winogradMatrices(m).kernel), { source: "factors", at: "i", plane: "u.count" })}
    for (var t = 0u; t < u.taps; t++) { dkernel[i + t * u.count] = ${chosen("t", 9, (t) => `y${Math.floor(t / 3)}_${t % 3}`)}; }`),
    }),
    bindings: [
      { name: "factors", view: factors, type: "vec4f" },
      { name: "dkernel", view: dkernel, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...loop.sizes, side, taps: 9 },
    workgroups: loop.workgroups,
  });
}

/**
 * dbias = sum of dz, read off the gradient's spectrum: its frequency (1, 1), that of the point 1 on both axes, is the
 * sum over a tile. A subgroup has four channels, its lanes take tiles in turn.
 */
export function sumResultGradient<P>(call: GpuCall<P>, { m, tiles }: Tiling, spectrum: Spectrum, dbias: GpuView): void {
  const quads = spectrum.channels / 4;
  const lanes = subgroupLanes(call.profile);
  const long = tiles / lanes > 2 * CHAIN;
  const walk = { index: "tile", first: "lane", end: "u.tiles", step: lanes };
  const statement = "sum += spectrum[u.first + tile * u.quads + group.x];";
  const { loop, values } = longLoop(["sum"], "vec4f", walk, statement);
  call.dispatch({
    key: long ? "sum gradient long" : "sum gradient",
    program: () => ({
      workgroupSize: [lanes],
      subgroups: true,
      body: /* wgsl */ `
  ${
    long
      ? `${loop}
  let total = subgroupAdd(${values[0]});`
      : `var sum = vec4f();
  for (var tile = lane; tile < u.tiles; tile += ${lanes}u) { ${statement} }
  let total = subgroupAdd(sum);`
  }
  if (lane == 0u) { dbias[group.x] = total; }`,
    }),
    bindings: [
      { name: "spectrum", view: spectrum.view, type: "vec4f" },
      { name: "dbias", view: dbias, type: "vec4f", access: "read_write" },
    ],
    sizes: { tiles, quads, first: ((m + 3) * spectrum.stride) / 4 },
    numbers: long ? ONE : {},
    workgroups: [quads],
  });
}
