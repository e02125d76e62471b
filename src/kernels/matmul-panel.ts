// Matrix products of the software profile for tall A. A panel of B, `depth` k by one or two vectors of columns (4 a
// lane: 32 or 64 on lavapipe, of which this file speaks, 16 or 32 in subgroups of four lanes), stays in the
// subgroup's private memory while the rows of A go by, one row per trip.
//
//   trip m:  C[m, 0..31] += sum over depth k of A[m, k] B[k, 0..31],  lane l holds the columns 4 l + {0, 1, 2, 3},
//            and of a wide panel the columns 32 further on, too
//
// Why it is fast on lavapipe: a value carried around a loop costs a load, a select and a store per trip. So here the
// sums of a row begin and end within one trip. An array that is indexed dynamically anywhere stays in memory as one
// register per element. An element with a constant index is then an operand of the multiplication: one multiplication,
// one addition, nothing else. Per row and 32 k it takes one load; filling the panel costs as much as some 100
// multiply-adds an element, which enough rows pay for. A row has eight sums, for latency: of a narrow panel's columns
// each has two, of even and of odd k. A wide panel halves the loads of A, and has twice the text to compile.
//
// Loads stand before all arithmetic, and all sums go into the first vec4 store. Where basic blocks lie between them,
// the compiler moves additions past those and spills every product. An activation outside of a branch has that effect,
// too.

import { type SubgroupLanes, subgroupLanes, type TuningProfile } from "../webgpu/family.js";
import type { Binding, GpuCall } from "../webgpu/program.js";
import { type Choice, tuned } from "../webgpu/tuning.js";
import { activationWgsl } from "./activation.js";
import {
  isAligned,
  type MatmulParams,
  type Matrix,
  PRODUCT_PREAMBLE,
  type Product,
  productSizes,
} from "./matmul-product.js";
import { rolledLoop } from "./rolled.js";
import { repeat } from "./subgroup-tile.js";
import { inWindow, NEXT_WINDOW, startWindows } from "./window-rows.js";

/** Columns of a vector, of which a panel has one or two; and k that one vec4 load of a row of A covers. */
export const vectorWidth = (lanes: SubgroupLanes) => 4 * lanes;
/**
 * How products with many rows of A [M, K] are computed: in panels of at most so many k by so many columns, or in tiles.
 * A panel of 128 by 64 is 32 KiB, most of a first-level cache. Wide panels only where they pay.
 */
export const TALL_FORM: Choice<"panels of 128 by 64" | "panels of 128 by 32" | "panels of 64 by 32" | "tiles"> = {
  name: "matmul, A [M, K]",
  options: ["panels of 128 by 64", "panels of 128 by 32", "panels of 64 by 32", "tiles"],
};

/**
 * Whether the panel form suits a shape: enough rows to pay for filling panels, enough columns to use the lanes.
 * @param least columns that are enough
 */
export function panelSuits({ m, n, k }: Pick<Product, "m" | "n" | "k">, profile: TuningProfile, least = 20): boolean {
  return tuned(profile, TALL_FORM) !== "tiles" && m >= 32 && n >= least && k > 0 && k % 4 === 0;
}

/** Whether rows of all three matrices can be read and written as vec4s, and A as it lies. */
export function panelFits(product: Product, profile: TuningProfile): boolean {
  const { a, b, c, splits, splitStride } = product;
  // Tiles of B [N, K] waste as many lanes, and are slower.
  const suits = panelSuits(product, profile, b.transposed && splits === 1 ? 8 : undefined);
  return suits && !a.transposed && [a, b, c].every(isAligned) && splitStride % 4 === 0;
}

/** The depth, a multiple of eight, by which k is cut with the least loads and padding. */
export function panelDepth(k: number, profile: TuningProfile): number {
  const panels = Math.ceil(k / (tuned(profile, TALL_FORM) === "panels of 64 by 32" ? 64 : 128));
  return Math.ceil(k / panels / 8) * 8;
}

/** Multiply-adds that pay for compiling a wide panel, and for dealing the work out in larger pieces. */
const WIDE_WORK = 2 ** 24;

type Shape = Pick<Product, "m" | "n" | "k" | "batch">;

/** The panel's vectors of 32 columns: two where that pads no more columns and leaves enough workgroups. */
function panelVectors({ m, n, k, batch }: Shape, profile: TuningProfile): 1 | 2 {
  const padded = (columns: number) => Math.ceil(n / columns) * columns;
  const width = vectorWidth(subgroupLanes(profile));
  const wide =
    tuned(profile, TALL_FORM) === "panels of 128 by 64" &&
    0.9 * padded(2 * width) <= padded(width) &&
    m * n * k * batch >= WIDE_WORK &&
    Math.ceil(n / (2 * width)) * batch * Math.floor(m / LEAST_ROWS) >= LEAST_WORKGROUPS;
  return wide ? 2 : 1;
}

/** Of a panel in private memory. */
export interface PanelSize {
  /** Its k. */
  readonly depth: number;
  /** Its columns, in vectors. */
  readonly vectors: 1 | 2;
  readonly lanes: SubgroupLanes;
}

/** What a panel's WGSL depends on. */
interface Panel extends PanelSize {
  /** One panel takes all of k: the sums need not be read back. */
  readonly single: boolean;
  readonly transposedB: boolean;
  readonly bias: boolean;
  /** A's rows are windows of images. */
  readonly windows: boolean;
}

/** Declares a panel: component i of a lane's vector v in row k of it is b{i}[v depth + k]. */
export const panelArrays = ({ depth, vectors }: PanelSize) =>
  repeat(4, (i) => `var b${i}: array<f32, ${vectors * depth}>;`);

/** Statements that fill the panel from k0 on, zeros beyond kEnd. */
export function fillPanel(transposedB: boolean, { vectors, lanes }: PanelSize): string {
  const put = (at: string, component: (i: number) => string) =>
    `{ let at = ${at}; ${[0, 1, 2, 3].map((i) => `b${i}[at] = ${component(i)};`).join(" ")} }`;
  const fill = transposedB
    ? /* wgsl */ `
    let ib = (bBase + (column + beside) * u.bStride + k0) / 4u;
    let step = u.bStride / 4u;
    for (var k = 0u; k < u.depth; k += 4u) {
      let inside = k0 + k < kEnd;
      ${repeat(4, (i) => `let v${i} = select(vec4f(), b[ib + ${i}u * step + k / 4u], inside);`)}
      ${repeat(4, (j) => put(`first + k + ${j}u`, (i) => `v${i}.${"xyzw"[j]}`))}
    }`
    : /* wgsl */ `
    var ib = (bBase + k0 * u.bStride + column + beside) / 4u;
    for (var k = 0u; k < u.depth; k++) {
      let v = select(vec4f(), b[ib], k0 + k < kEnd);
      ${put("first + k", (i) => `v.${"xyzw"[i]}`)}
      ib += u.bStride / 4u;
    }`;
  // A loop with a constant number of trips would be unrolled.
  return vectors === 1
    ? `{ let beside = 0u; let first = 0u; ${fill} }`
    : `for (var v = 0u; v < u.vectors; v++) { let beside = v * ${vectorWidth(lanes)}u; let first = v * u.depth; ${fill} }`;
}

/** Sums of a row for each vector. */
const chains = ({ vectors }: PanelSize) => 2 / vectors;

/** Statements that add the products of one row of A, whose loads lie in a0, a1, ..., to `start(v)`, and give y0, y1. */
export function multiplyRow(size: PanelSize, start: (vector: number) => string): string {
  const { depth, vectors, lanes } = size;
  const width = vectorWidth(lanes);
  // Component i of lane l of a{p} is k = width p + 4 l + i. Lane by lane, so that a shuffle's index serves several in a
  // row.
  const lane = (k: number) => (k >> 2) % lanes;
  const eachSum = (text: (v: number, chain: number) => string) =>
    repeat(vectors, (v) => repeat(chains(size), (chain) => text(v, chain)));
  const products = Array.from({ length: depth }, (_, k) => k)
    .sort((x, y) => lane(x) - lane(y))
    .map((k, step) => {
      const scalar = `subgroupShuffle(a${Math.floor(k / width)}.${"xyzw"[k % 4]}, ${lane(k)}u)`;
      const chain = step % chains(size);
      const add = (v: number, factor: string) => {
        const element = v * depth + k;
        const vector = `vec4f(b0[${element}], b1[${element}], b2[${element}], b3[${element}])`;
        return `s${v}${chain} = fma(vec4f(${factor}), ${vector}, s${v}${chain});`;
      };
      return vectors === 1 ? add(0, scalar) : `{ let s = ${scalar}; ${repeat(vectors, (v) => add(v, "s"))} }`;
    });
  return `${eachSum((v, chain) => `var s${v}${chain} = ${chain === 0 ? start(v) : "vec4f()"};`)}
${products.join("\n")}
${repeat(vectors, (v) => `var y${v} = ${Array.from({ length: chains(size) }, (_, chain) => `s${v}${chain}`).join(" + ")};`)}`;
}

/** The second vector's sums go into the first store, too: never, but the compiler cannot know. By vectors. */
const KEEPS_ORDER = { 1: "", 2: "y0 = select(y0, y1, u.depth == 0u);" };

function body(panel: Panel): string {
  const { depth, vectors, lanes, single, transposedB, bias, windows } = panel;
  const width = vectorWidth(lanes);
  const loads = Math.ceil(depth / width);
  const at = (p: number) => (windows ? `ia + e${p}` : `ia + ${lanes * p}u`);
  const each = (text: (v: number, columns: number) => string) => repeat(vectors, (v) => text(v, v * width));
  return /* wgsl */ `
  ${PRODUCT_PREAMBLE}
  let column = group.x * ${vectors * width}u + 4u * lane;
  let mBegin = group.y * u.rows;
  let mEnd = min(mBegin + u.rows, u.m);
  ${each((v, columns) => `let stored${v} = column + ${columns}u < u.n;`)}
  ${panelArrays(panel)}
  ${each((v, columns) => {
    const biases = [0, 1, 2, 3].map((i) => `bias[u.biasOffset + column + ${columns + i}u]`).join(", ");
    return `let start${v} = ${bias ? `vec4f(${biases})` : "vec4f()"};`;
  })}
  var aPanel = aBase + kBegin + mBegin * u.aStride;
  ${single ? "{ let k0 = kBegin;" : `for (var k0 = kBegin; k0 < kEnd; k0 += ${depth}u) {`}
    ${fillPanel(transposedB, panel)}
    let kLane = k0 + 4u * lane;
    ${
      windows
        ? `${startWindows("aBase / 4u", "mBegin")}
    ${repeat(loads, (p) => `let e${p} = ${inWindow(`kLane / 4u + ${lanes * p}u`)};`)}`
        : "var ia = aPanel / 4u + lane;"
    }
    var ic = (cBase + mBegin * u.cStride + column) / 4u;
    for (var m = mBegin; m < mEnd; m++) {
      ${repeat(loads, (p) => `let a${p} = select(vec4f(), a[${at(p)}], kLane + ${width * p}u < kEnd);`)}
      ${each((v) => `var before${v} = start${v};`)}
      ${single ? "" : `if (k0 > kBegin) { ${each((v, columns) => `before${v} = c[ic + ${columns / 4}u];`)} }`}
      ${multiplyRow(panel, (v) => `before${v}`)}
      if (k0 + ${depth}u >= kEnd) { ${each((v) => `y${v} = activation(y${v});`)} }
      ${KEEPS_ORDER[vectors]}
      ${each((v, columns) => `if (stored${v}) { c[ic + ${columns / 4}u] = y${v}; }`)}
      ${windows ? NEXT_WINDOW : "ia += u.aStride / 4u;"}
      ic += u.cStride / 4u;
    }
    aPanel += u.aPanel;
  }`;
}

/** Workgroups that share the work evenly enough between a few cores, and the least of wide panels. */
const WANTED_WORKGROUPS = 8;
const LEAST_WORKGROUPS = 4;
/** Rows that pay for filling a panel, below which k is cut instead; and the least k for which adding pieces pays. */
const LEAST_ROWS = 128;
const LEAST_DEPTH = 256;
/** Multiply-adds below which the pass that adds the pieces costs more than idle cores. */
const LEAST_WORK = 2 ** 23;

/** Pieces into which the rows are cut. */
function rowBlocks(m: number, tiles: number): number {
  return Math.max(1, Math.min(Math.ceil(WANTED_WORKGROUPS / tiles), Math.floor(m / LEAST_ROWS)));
}

/** Pieces into which k is cut where the rows alone do not make enough workgroups. */
export function panelSplits(shape: Shape, profile: TuningProfile): number {
  const { m, n, k, batch } = shape;
  const tiles = Math.ceil(n / (vectorWidth(subgroupLanes(profile)) * panelVectors(shape, profile))) * batch;
  const workgroups = tiles * rowBlocks(m, tiles);
  if (workgroups > 1 && m * n * k * batch < LEAST_WORK) return 1;
  return Math.max(1, Math.min(Math.ceil(WANTED_WORKGROUPS / workgroups), Math.floor(k / LEAST_DEPTH)));
}

/** Runs a product that `panelFits`, or would if A [K, M] were [M, K]. */
export function runPanels(call: GpuCall<MatmulParams>, product: Product): void {
  const { m, n, k, batch, splits, kStep, b, c, bias, activation } = product;
  const depth = panelDepth(Math.min(k, kStep), call.profile);
  const single = kStep <= depth;
  const vectors = panelVectors(product, call.profile);
  const lanes = subgroupLanes(call.profile);
  const columns = vectorWidth(lanes) * vectors;
  const a = packed(call, product, depth);
  const windows = a.windows !== undefined;
  const rows = Math.ceil(m / rowBlocks(m, Math.ceil(n / columns) * batch));
  const traits = [single && "single", windows && "windows", `N${b.transposed ? "T" : "N"}`, activation];
  call.dispatch({
    key: ["panel", vectors === 2 ? `${depth}x${columns}` : depth, ...traits].filter(Boolean).join(" "),
    program: () => ({
      workgroupSize: [lanes],
      subgroups: true,
      declarations: activationWgsl(activation, "vec4f"),
      body: body({ depth, vectors, lanes, single, transposedB: b.transposed, bias: bias !== undefined, windows }),
    }),
    bindings: [
      { name: "a", view: a.view, type: "vec4f" },
      { name: "b", view: b.view, type: "vec4f" },
      ...(bias === undefined ? [] : [{ name: "bias", view: bias.view, type: "f32" } as const]),
      { name: "c", view: c.view, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...productSizes({ ...product, a }),
      ...{ rows, depth, aPanel: a.panelStride },
      ...(vectors === 2 && { vectors }),
    },
    workgroups: [Math.ceil(n / columns), Math.ceil(m / rows), batch * splits],
  });
}

/** A, and how far apart in it are the panels' k of a row. */
interface PanelRows extends Matrix {
  readonly panelStride: number;
}

/**
 * Elements of A, more than a core's caches hold, and columns of C from which copying A [M, K] pays. A row's part of a
 * panel is short and a page or more away from the next row's. So nothing is fetched before it is asked for.
 */
const ELEMENTS_TO_PACK = 2 ** 19;
const COLUMNS_TO_PACK = 256;

/** Whether a binding holds all of A packed. */
export function packedFits({ m, k }: Pick<Product, "m" | "k">, profile: TuningProfile): boolean {
  const depth = panelDepth(k, profile);
  return 4 * Math.ceil(k / depth) * depth * (m + 3) <= profile.maxBindingBytes;
}

/** A where it lies, or packed: a panel's k of all rows after the other's, [K / depth, M, depth] in scratch memory. */
function packed(call: GpuCall<MatmulParams>, product: Product, depth: number): PanelRows {
  const { m, n, k, batch, splits, a } = product;
  const pays =
    a.windows === undefined &&
    batch === 1 &&
    splits === 1 &&
    k > depth &&
    m * k >= ELEMENTS_TO_PACK &&
    n >= COLUMNS_TO_PACK &&
    packedFits(product, call.profile);
  if (!a.transposed && !pays) return { ...a, panelStride: depth };
  const panels = Math.ceil(k / depth);
  const rows = Math.ceil(m / 4) * 4;
  const view = call.scratch({ shape: [panels, rows, depth], dtype: "f32" });
  const bindings: Binding[] = [
    { name: "a", view: a.view, type: "vec4f" },
    { name: "packed", view, type: "vec4f", access: "read_write" },
  ];
  // In vec4s.
  const sizes = { k: k / 4, depth: depth / 4, rows, aOffset: a.offset / 4, aStride: a.stride / 4 };
  if (a.transposed) {
    // Blocks of 4 x 4.
    const loop = rolledLoop(call.profile, (rows / 4) * (k / 4));
    call.dispatch({
      key: "transpose",
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `
    let row = i / (u.rows / 4u); let column = i % (u.rows / 4u);
    let at = u.aOffset + 4u * row * u.aStride + column;
    let block = transpose(mat4x4f(a[at], a[at + u.aStride], a[at + 2u * u.aStride], a[at + 3u * u.aStride]));
    let to = (row / u.depth * u.rows + 4u * column) * u.depth + row % u.depth;
    ${repeat(4, (j) => `packed[to + ${j}u * u.depth] = block[${j}];`)}`),
      }),
      bindings,
      sizes: { ...loop.sizes, ...sizes },
      workgroups: loop.workgroups,
    });
  } else {
    const step = Math.ceil(m / Math.ceil(WANTED_WORKGROUPS / panels));
    const lanes = subgroupLanes(call.profile);
    call.dispatch({
      key: "pack",
      program: () => ({
        workgroupSize: [lanes],
        subgroups: true,
        body: /* wgsl */ `
  let end = min(u.depth, u.k - group.x * u.depth);
  for (var m = group.y * u.step; m < min(u.m, (group.y + 1u) * u.step); m++) {
    let ia = u.aOffset + m * u.aStride + group.x * u.depth;
    let ip = (group.x * u.rows + m) * u.depth;
    for (var k = lane; k < end; k += ${lanes}u) { packed[ip + k] = a[ia + k]; }
  }`,
      }),
      bindings,
      sizes: { ...sizes, m, step },
      workgroups: [panels, Math.ceil(m / step)],
    });
  }
  return { view, offset: 0, stride: depth, panelStride: rows * depth, batchStride: 0, transposed: false };
}
