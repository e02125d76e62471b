// Matrix products of the software profile for tall A: a panel of B, `depth` k by 32 columns, stays in the subgroup's
// private memory while the rows of A go by, one row per trip.
//
//   trip m:  C[m, 0..31] += sum over depth k of A[m, k] B[k, 0..31],  lane l holds the columns 4 l + {0, 1, 2, 3}
//
// Why it is fast on lavapipe: a value carried around a loop costs a load, a select and a store per trip, so here the sums
// of a row begin and end within one trip. An array that is indexed dynamically anywhere stays in memory as one register
// per element, and an element with a constant index is then an operand of the multiplication: one multiplication, one
// addition, nothing else. Per row and 32 k it takes one load; filling the panel costs as much as some 100
// multiply-adds an element, which enough rows pay for. The k of a row are added in two sums, for latency.
//
// Loads stand before all arithmetic, and all sums go into the first vec4 store: where basic blocks lie between them, the
// compiler moves additions past those and spills every product. An activation outside of a branch has that effect, too.
import { type Choice, tuned } from "../tensor/tuning.js";
import type { TuningProfile } from "../tensor/webgpu-profile.js";
import type { GpuCall } from "../tensor/webgpu-program.js";
import { activationWgsl } from "./activation.js";
import { isAligned, type MatmulParams, PRODUCT_PREAMBLE, type Product, productSizes } from "./matmul-product.js";
import { repeat, SUBGROUP_LANES } from "./subgroup-tile.js";
import { inWindow, NEXT_WINDOW, startWindows } from "./window-rows.js";

/** Columns of a panel. */
export const PANEL_COLUMNS = 32;
/**
 * How products with many rows of A [M, K] are computed: in panels of at most so many k (of 128: 16 KiB, half of a
 * first-level cache), or in tiles.
 */
export const TALL_FORM: Choice<"panels of 128" | "panels of 64" | "tiles"> = {
  name: "matmul, A [M, K]",
  options: ["panels of 128", "panels of 64", "tiles"],
};
/** k that one vec4 load of a row of A covers. */
export const LOAD_DEPTH = 4 * SUBGROUP_LANES;

/** Whether the panel form suits a shape: enough rows to pay for filling panels, enough columns to use the lanes. */
export function panelSuits({ m, n, k }: Pick<Product, "m" | "n" | "k">, profile: TuningProfile): boolean {
  return tuned(profile, TALL_FORM) !== "tiles" && m >= 32 && n >= 20 && k > 0 && k % 4 === 0;
}

/** Whether rows of all three matrices can be read and written as vec4s, and A as it lies. */
export function panelFits(product: Product, profile: TuningProfile): boolean {
  const { a, b, c, splitStride } = product;
  return panelSuits(product, profile) && !a.transposed && [a, b, c].every(isAligned) && splitStride % 4 === 0;
}

/** The depth, a multiple of eight, by which k is cut with the least loads and padding. */
export function panelDepth(k: number, profile: TuningProfile): number {
  const panels = Math.ceil(k / (tuned(profile, TALL_FORM) === "panels of 64" ? 64 : 128));
  return Math.ceil(k / panels / 8) * 8;
}

/** What a panel's WGSL depends on. */
interface Panel {
  /** k of the panel. */
  readonly depth: number;
  /** One panel takes all of k: the sums need not be read back. */
  readonly single: boolean;
  readonly transposedB: boolean;
  readonly bias: boolean;
  /** A's rows are windows of images. */
  readonly windows: boolean;
}

/** Declares a panel: b0[k] ... b3[k] are the four columns of a lane. */
export const panelArrays = (depth: number) => repeat(4, (i) => `var b${i}: array<f32, ${depth}>;`);

/** Statements that fill the panel from k0 on, zeros beyond kEnd. */
export function fillPanel(transposedB: boolean): string {
  const put = (at: string, component: (i: number) => string) =>
    `{ let at = ${at}; ${[0, 1, 2, 3].map((i) => `b${i}[at] = ${component(i)};`).join(" ")} }`;
  return transposedB
    ? /* wgsl */ `
    let ib = (bBase + column * u.bStride + k0) / 4u;
    let step = u.bStride / 4u;
    for (var k = 0u; k < u.depth; k += 4u) {
      let inside = k0 + k < kEnd;
      ${repeat(4, (i) => `let v${i} = select(vec4f(), b[ib + ${i}u * step + k / 4u], inside);`)}
      ${repeat(4, (j) => put(`k + ${j}u`, (i) => `v${i}.${"xyzw"[j]}`))}
    }`
    : /* wgsl */ `
    var ib = (bBase + k0 * u.bStride + column) / 4u;
    for (var k = 0u; k < u.depth; k++) {
      let v = select(vec4f(), b[ib], k0 + k < kEnd);
      ${put("k", (i) => `v.${"xyzw"[i]}`)}
      ib += u.bStride / 4u;
    }`;
}

/** Statements that add the products of one row of A, whose loads lie in a0, a1, ..., to \`even\` and \`odd\`. */
export function multiplyRow(depth: number): string {
  // Component i of lane l of a{p} is k = 32 p + 4 l + i. Lane by lane, so that a shuffle's index serves several in a row.
  const lane = (k: number) => (k >> 2) % SUBGROUP_LANES;
  return Array.from({ length: depth }, (_, k) => k)
    .sort((x, y) => lane(x) - lane(y))
    .map((k, step) => {
      const scalar = `subgroupShuffle(a${Math.floor(k / LOAD_DEPTH)}.${"xyzw"[k % 4]}, ${lane(k)}u)`;
      const sum = step % 2 === 0 ? "even" : "odd";
      return `${sum} = fma(vec4f(${scalar}), vec4f(b0[${k}], b1[${k}], b2[${k}], b3[${k}]), ${sum});`;
    })
    .join("\n");
}

function body({ depth, single, transposedB, bias, windows }: Panel): string {
  const loads = Math.ceil(depth / LOAD_DEPTH);
  const at = (p: number) => (windows ? `ia + e${p}` : `ia + ${SUBGROUP_LANES * p}u`);
  return /* wgsl */ `
  ${PRODUCT_PREAMBLE}
  let column = group.x * ${PANEL_COLUMNS}u + 4u * lane;
  let mBegin = group.y * u.rows;
  let mEnd = min(mBegin + u.rows, u.m);
  let stored = column < u.n;
  ${panelArrays(depth)}
  let start = ${bias ? `vec4f(${[0, 1, 2, 3].map((i) => `bias[u.biasOffset + column + ${i}u]`).join(", ")})` : "vec4f()"};
  ${single ? "{ let k0 = kBegin;" : `for (var k0 = kBegin; k0 < kEnd; k0 += ${depth}u) {`}
    ${fillPanel(transposedB)}
    let kLane = k0 + 4u * lane;
    ${
      windows
        ? `${startWindows("aBase / 4u", "mBegin")}
    ${repeat(loads, (p) => `let e${p} = ${inWindow(`kLane / 4u + ${SUBGROUP_LANES * p}u`)};`)}`
        : "var ia = (aBase + mBegin * u.aStride + kLane) / 4u;"
    }
    var ic = (cBase + mBegin * u.cStride + column) / 4u;
    for (var m = mBegin; m < mEnd; m++) {
      ${repeat(loads, (p) => `let a${p} = select(vec4f(), a[${at(p)}], kLane + ${LOAD_DEPTH * p}u < kEnd);`)}
      var even = start;
      var odd = vec4f();
      ${single ? "" : "if (k0 > kBegin) { even = c[ic]; }"}
      ${multiplyRow(depth)}
      var y = even + odd;
      if (k0 + ${depth}u >= kEnd) { y = activation(y); }
      if (stored) { c[ic] = y; }
      ${windows ? NEXT_WINDOW : "ia += u.aStride / 4u;"}
      ic += u.cStride / 4u;
    }
  }`;
}

/** Workgroups that share the work evenly enough between a few cores. */
const WANTED_WORKGROUPS = 8;
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
export function panelSplits({ m, n, k, batch }: Pick<Product, "m" | "n" | "k" | "batch">): number {
  const tiles = Math.ceil(n / PANEL_COLUMNS) * batch;
  const workgroups = tiles * rowBlocks(m, tiles);
  if (workgroups > 1 && m * n * k * batch < LEAST_WORK) return 1;
  return Math.max(1, Math.min(Math.ceil(WANTED_WORKGROUPS / workgroups), Math.floor(k / LEAST_DEPTH)));
}

/** Runs a product that `panelFits`. */
export function runPanels(call: GpuCall<MatmulParams>, product: Product): void {
  const { m, n, k, batch, splits, kStep, a, b, c, bias, activation } = product;
  const depth = panelDepth(Math.min(k, kStep), call.profile);
  const single = kStep <= depth;
  const windows = a.windows !== undefined;
  const rows = Math.ceil(m / rowBlocks(m, Math.ceil(n / PANEL_COLUMNS) * batch));
  call.dispatch({
    key: `panel ${depth}${single ? " single" : ""}${windows ? " windows" : ""} N${b.transposed ? "T" : "N"} ${activation}`,
    program: () => ({
      workgroupSize: [SUBGROUP_LANES],
      subgroups: true,
      declarations: activationWgsl(activation, "vec4f"),
      body: body({ depth, single, transposedB: b.transposed, bias: bias !== undefined, windows }),
    }),
    bindings: [
      { name: "a", view: a.view, type: "vec4f" },
      { name: "b", view: b.view, type: "vec4f" },
      ...(bias === undefined ? [] : [{ name: "bias", view: bias.view, type: "f32" }]),
      { name: "c", view: c.view, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...productSizes(product), rows, depth },
    workgroups: [Math.ceil(n / PANEL_COLUMNS), Math.ceil(m / rows), batch * splits],
  });
}
