// Matrix products of the software profile. One subgroup of L lanes (8 on lavapipe) per workgroup holds a register tile
// of C (see subgroup-tile.ts). It reads A and B straight from their buffers and stores the tile once. No shared memory.
//
// Loads are the cost, so each storage order has its own way of filling the registers:
//   A [K, M]: one vec4 per 4 L rows and k.  A [M, K]: one vec4 per L rows and 4 k, rotated.
//   B [K, N]: one vec4 per 4 L columns and k.  B [N, K]: four vec4 per 4 L columns and 4 k, rotated.
// Component i of lane l is then column L i + l of that B [N, K], so C is stored element by element.
// Rows that do not begin on a multiple of four elements are read element by element.
// Rows and columns beyond M and N are computed from whatever lies there and not stored.

import { type SubgroupLanes, subgroupLanes, type TuningProfile } from "../webgpu/family.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { type Choice, tuned } from "../webgpu/tuning.js";
import { activationWgsl } from "./activation.js";
import { packedFits, panelFits, panelSplits, panelSuits, runPanels } from "./matmul-panel.js";
import {
  isAligned,
  type MatmulParams,
  type Matrix,
  PRODUCT_PREAMBLE,
  type Product,
  type ProductFamily,
  productBindings,
  productSizes,
} from "./matmul-product.js";
import {
  accumulators,
  eachAccumulator,
  type LeftLayout,
  leftRegisters,
  multiplyAccumulate,
  repeat,
  rotate,
  type SubgroupTile,
  stepRegister,
  tileColumns,
} from "./subgroup-tile.js";
import { inWindow, NEXT_WINDOW, startWindows } from "./window-rows.js";

/**
 * WGSL by which an operand fills its registers. `quad` runs once per four k, `each` before and `next` after every k.
 * Where `vectors` is set instead, `vectors(step)` lists register and vec4f load for the step'th k from here, and
 * `prepare(steps)` goes before them.
 */
interface Loader {
  readonly start: string;
  readonly quad?: string;
  readonly each?: string;
  readonly prepare?: (steps: number) => string;
  readonly vectors?: (step: number) => readonly (readonly [register: string, load: string])[];
  readonly next: string;
}

/** A [K, M] whose rows are windows of images: where a lane's elements lie in a window is the same for all. */
function windowLoader(registers: number, lanes: SubgroupLanes): Loader {
  return {
    start: `${startWindows("aBase / 4u", "kBegin")}
${repeat(registers, (g) => `let e${g} = ${inWindow(`(m0 / 4u + lane + ${lanes * g}u)`)};`)}`,
    prepare: (steps) => repeat(steps, (step) => `let row${step} = ia; ${NEXT_WINDOW}`),
    vectors: (step) => Array.from({ length: registers }, (_, g) => [`a${g}`, `a[row${step} + e${g}]`]),
    next: "",
  };
}

function leftLoader(tile: SubgroupTile, layout: LeftLayout, aligned: boolean): Loader {
  const registers = leftRegisters(tile, layout);
  const { lanes } = tile;
  if (layout === "k-major") {
    return aligned
      ? {
          start: "var ia = (aBase + kBegin * u.aStride + m0) / 4u + lane; let aStep = u.aStride / 4u;",
          vectors: (step) =>
            Array.from({ length: registers }, (_, g) => [`a${g}`, `a[ia + ${step}u * aStep + ${lanes * g}u]`]),
          next: "ia += aStep;",
        }
      : {
          start: "var ia = aBase + kBegin * u.aStride + m0 + 4u * lane; let aStep = u.aStride;",
          each: repeat(registers, (g) => `let a${g} = ${fourScalars("a", `ia + ${4 * lanes * g}u`, "1u")};`),
          next: "ia += aStep;",
        };
  }
  return aligned
    ? {
        start: `var ia = (aBase + (m0 + lane) * u.aStride + kBegin) / 4u; let aGroup = ${lanes / 4}u * u.aStride;`,
        quad: `${repeat(registers, (g) => `var a${g} = a[ia + ${g}u * aGroup];`)}\nia++;`,
        next: rotate(tile),
      }
    : {
        start: `var ia = aBase + (m0 + lane) * u.aStride + kBegin; let aGroup = ${lanes}u * u.aStride;`,
        each: repeat(registers, (g) => `let a${g} = vec4f(a[ia + ${g}u * aGroup]);`),
        next: "ia++;",
      };
}

function rightLoader({ vectors, lanes }: SubgroupTile, transposed: boolean, aligned: boolean): Loader {
  if (!transposed) {
    return aligned
      ? {
          start: "var ib = (bBase + kBegin * u.bStride + n0) / 4u + lane; let bStep = u.bStride / 4u;",
          vectors: (step) =>
            Array.from({ length: vectors }, (_, v) => [`b${v}`, `b[ib + ${step}u * bStep + ${lanes * v}u]`]),
          next: "ib += bStep;",
        }
      : {
          start: "var ib = bBase + kBegin * u.bStride + n0 + 4u * lane; let bStep = u.bStride;",
          each: repeat(vectors, (v) => `let b${v} = ${fourScalars("b", `ib + ${4 * lanes * v}u`, "1u")};`),
          next: "ib += bStep;",
        };
  }
  return aligned
    ? {
        start: `var ib = (bBase + (n0 + lane) * u.bStride + kBegin) / 4u; let bGroup = ${lanes / 4}u * u.bStride;`,
        quad: `${repeat(4 * vectors, (g) => `var w${g} = b[ib + ${g}u * bGroup];`)}\nib++;`,
        each: repeat(vectors, (v) => `let b${v} = vec4f(${[0, 1, 2, 3].map((i) => `w${4 * v + i}.x`).join(", ")});`),
        next: repeat(4 * vectors, (g) => `w${g} = w${g}.yzwx;`),
      }
    : {
        start: `var ib = bBase + (n0 + lane) * u.bStride + kBegin; let bGroup = ${lanes}u * u.bStride;`,
        each: repeat(vectors, (v) => `let b${v} = ${fourScalars("b", `ib + ${4 * v}u * bGroup`, "bGroup")};`),
        next: "ib++;",
      };
}

function fourScalars(name: string, first: string, step: string): string {
  return `vec4f(${[0, 1, 2, 3].map((i) => `${name}[${first} + ${i}u * ${step}]`).join(", ")})`;
}

/** How many k a trip of the loop takes where both operands are read k by k as vec4s. */
export const TRIP_FORM: Choice<"two k a trip" | "one k a trip"> = {
  name: "matmul, A [K, M] and B [K, N]",
  options: ["two k a trip", "one k a trip"],
};

/** The sums of every k of the piece; with a four-k loader a loop of four inside. */
function mainLoop(
  tile: SubgroupTile,
  layout: LeftLayout,
  left: Loader,
  right: Loader,
  { two, columnSums }: { readonly two: boolean; readonly columnSums: boolean },
): string {
  const addColumns = (steps: number) =>
    columnSums
      ? repeat(steps, (step) => repeat(tile.vectors, (v) => `columnSum${v} += ${stepRegister(`b${v}`, step)};`))
      : "";
  if (two && left.vectors !== undefined && right.vectors !== undefined) {
    const loads = [...left.vectors(0), ...right.vectors(0)].map(([name, load]) => `let ${name} = ${load};`);
    const more = [...left.vectors(1), ...right.vectors(1)].map(
      ([name, load]) => `let ${stepRegister(name, 1)} = select(vec4f(), ${load}, k + 1u < kEnd);`,
    );
    return `for (var k = kBegin; k < kEnd; k += 2u) {
${left.prepare?.(2) ?? ""}
${[...loads, ...more].join("\n")}
${addColumns(2)}
${multiplyAccumulate(tile, layout, 2)}
${left.next} ${left.next} ${right.next} ${right.next}
}`;
  }
  const single = ({ each, prepare, vectors }: Loader) =>
    each ?? [prepare?.(1) ?? "", ...(vectors?.(0).map(([name, load]) => `let ${name} = ${load};`) ?? [])].join("\n");
  const body = [
    ...[single(left), single(right), addColumns(1)],
    ...[multiplyAccumulate(tile, layout), left.next, right.next],
  ].join("\n");
  if (left.quad === undefined && right.quad === undefined) {
    return `for (var k = kBegin; k < kEnd; k++) {\n${body}\n}`;
  }
  return `for (var k = kBegin; k < kEnd; k += 4u) {
${left.quad ?? ""}
${right.quad ?? ""}
for (var inner = 0u; inner < 4u; inner++) {
${body}
}
}`;
}

/**
 * Stores what lies inside C, after bias and activation. The sums pass through an array, so that one row's code serves
 * all. Stores are by far the longest code on lavapipe, and a copy for every row takes seconds to compile. Of a loop
 * that counts from 0 to at most the tile's rows the driver would make such copies.
 */
function epilogue(
  tile: SubgroupTile,
  options: { scattered: boolean; vectorStores: boolean; bias: boolean; columnSums: boolean },
): string {
  const column = (vector: number, component: number) =>
    options.scattered
      ? `n0 + lane + ${tile.lanes * (4 * vector + component)}u`
      : `n0 + 4u * lane + ${4 * tile.lanes * vector + component}u`;
  const bias = (vector: number) =>
    `let bias${vector} = vec4f(${[0, 1, 2, 3].map((i) => `bias[u.biasOffset + ${column(vector, i)}]`).join(", ")});`;
  const store = (vector: number) =>
    options.vectorStores
      ? `if (${column(vector, 0)} < u.n) { c[(at + ${column(vector, 0)}) / 4u] = y; }`
      : [0, 1, 2, 3]
          .map((i) => `if (${column(vector, i)} < u.n) { c[at + ${column(vector, i)}] = y.${"xyzw"[i]}; }`)
          .join(" ");
  return `
${options.bias ? repeat(tile.vectors, bias) : ""}
${
  options.columnSums
    ? `if (group.y == 0u) { ${repeat(tile.vectors, (v) => `if (${column(v, 0)} < u.n) { columnSums[(${column(v, 0)}) / 4u] = columnSum${v}; }`)} }`
    : ""
}
var sums: array<vec4f, ${tile.rows * tile.vectors}>;
${eachAccumulator(tile, ({ row, vector, name }) => `sums[${row * tile.vectors + vector}] = ${name};`)}
var at = cBase + m0 * u.cStride;
let mEnd = min(m0 + ${tile.rows}u, u.m);
for (var m = m0; m < mEnd; m++) {
${repeat(tile.vectors, (vector) => {
  const sum = `sums[(m - m0) * ${tile.vectors}u + ${vector}u]`;
  return `  { let y = activation(${sum}${options.bias ? ` + bias${vector}` : ""}); ${store(vector)} }`;
})}
  at += u.cStride;
}`;
}

/**
 * Workgroups that keep a few cores busy to the end, and the least multiply-adds of a piece of k worth a second pass.
 */
const WANTED_WORKGROUPS = 4;
const LEAST_WORK = 2 ** 20;

/** Sizes from which copying A [K, M] pays, to read it in panels: the copy costs 1.5 ns an element. */
const COLUMNS_FOR_COPY = 128;
const ROWS_FOR_COPY = 256;

function copyPays({ profile }: GpuCall<MatmulParams>, product: Product): boolean {
  const { m, n, batch, splits, a } = product;
  const pays =
    a.transposed &&
    a.windows === undefined &&
    isAligned(a) &&
    batch === 1 &&
    splits === 1 &&
    m >= ROWS_FOR_COPY &&
    n >= COLUMNS_FOR_COPY;
  return pays && packedFits(product, profile) && panelFits({ ...product, a: { ...a, transposed: false } }, profile);
}

type TileShape = Pick<Product, "m" | "n" | "k" | "batch"> & Record<"a" | "b", Pick<Matrix, "transposed">>;

/** Multiply-adds that pay for compiling tiles of two vectors, and of 32 rows. */
const WORK_FOR_VECTORS = 2 ** 21;
const WORK_FOR_ROWS = 2 ** 18;

/**
 * The tile that wastes least: fewer rows for a short C, one vector where two would hang over the edge. Stores by
 * element double the text of a tile (and seconds of compilation), so those tiles are small; for B [N, K] that costs no
 * speed. Two vectors only for A [K, M]: the other way round the panels take over where there are rows enough.
 */
function tileFor({ m, n, k, batch, a, b }: TileShape, vectorStores: boolean, profile: TuningProfile): SubgroupTile {
  const lanes = subgroupLanes(profile);
  const work = m * n * k * batch;
  const padded = (columns: number) => Math.ceil(n / columns) * columns;
  const twoFit = a.transposed && vectorStores && 0.9 * padded(8 * lanes) <= padded(4 * lanes);
  return {
    rows: m <= 8 ? 8 : m <= 16 || b.transposed || work < WORK_FOR_ROWS ? 16 : 32,
    vectors: twoFit && work >= WORK_FOR_VECTORS ? 2 : 1,
    lanes,
  };
}

function runTile(call: GpuCall<MatmulParams>, product: Product): void {
  const { m, n, batch, splits, a, b, c, bias, activation, columnSums } = product;
  const alignedA = isAligned(a);
  const alignedB = isAligned(b);
  const vectorStores = !b.transposed && isAligned(c) && product.splitStride % 4 === 0;
  const tile = tileFor(product, vectorStores, call.profile);
  const layout: LeftLayout = a.transposed ? "k-major" : "row-major";
  const left = a.windows ? windowLoader(leftRegisters(tile, layout), tile.lanes) : leftLoader(tile, layout, alignedA);
  const right = rightLoader(tile, b.transposed, alignedB);
  const two = tuned(call.profile, TRIP_FORM) === "two k a trip";
  call.dispatch({
    key: `${two ? "2 k " : ""}${tile.rows}x${tileColumns(tile)}${a.windows ? " windows" : ""}${columnSums ? " sums" : ""} ${a.transposed ? "T" : "N"}${b.transposed ? "T" : "N"} ${activation}`,
    program: () => ({
      workgroupSize: [tile.lanes],
      subgroups: true,
      declarations: activationWgsl(activation, "vec4f"),
      body: [
        `let m0 = group.y * ${tile.rows}u; let n0 = group.x * ${tileColumns(tile)}u;`,
        PRODUCT_PREAMBLE,
        accumulators(tile),
        left.start,
        right.start,
        columnSums ? repeat(tile.vectors, (v) => `var columnSum${v} = vec4f();`) : "",
        mainLoop(tile, layout, left, right, { two, columnSums: columnSums !== undefined }),
        epilogue(tile, {
          ...{ scattered: b.transposed, vectorStores },
          ...{ bias: bias !== undefined, columnSums: columnSums !== undefined },
        }),
      ].join("\n"),
    }),
    bindings: [
      ...productBindings(product, { alignedA, alignedB, vectorStores }),
      ...(columnSums ? [{ name: "columnSums", view: columnSums, type: "vec4f", access: "read_write" } as const] : []),
    ],
    sizes: productSizes(product),
    workgroups: [Math.ceil(n / tileColumns(tile)), Math.ceil(m / tile.rows), batch * splits],
  });
}

export const subgroupFamily: ProductFamily = {
  splitsFor(shape, profile) {
    const { m, n, k, batch, transposedA } = shape;
    if (!transposedA && panelSuits(shape, profile)) return panelSplits(shape, profile);
    const tile = tileFor(
      { m, n, k, batch, a: { transposed: transposedA }, b: { transposed: false } },
      n % 4 === 0,
      profile,
    );
    const tiles = Math.ceil(m / tile.rows) * Math.ceil(n / tileColumns(tile)) * batch;
    return Math.max(1, Math.min(Math.ceil(WANTED_WORKGROUPS / tiles), Math.floor((m * n * k) / LEAST_WORK)));
  },
  sumsColumns(call, product) {
    const { a, b, batch, splits } = product;
    return a.transposed && !b.transposed && batch === 1 && splits === 1 && !copyPays(call, product);
  },
  run(call: GpuCall<MatmulParams>, product: Product): void {
    // Rows that are windows are read one after the other by panels only.
    const windows = product.a.windows !== undefined && !product.a.transposed;
    if (windows || panelFits(product, call.profile) || copyPays(call, product)) runPanels(call, product);
    else runTile(call, product);
  },
};

/** A matrix as it lies in a tensor. */
export const stored = (view: GpuView, stride: number, transposed = false): Matrix => ({
  ...{ view, offset: 0, stride, batchStride: 0, transposed },
});

/**
 * Runs a product that is one whole: not in pieces of k and, unless it says otherwise, not in a batch nor with anything
 * behind.
 */
export function runWhole<P>(
  call: GpuCall<P>,
  whole: Pick<Product, "m" | "n" | "k" | "a" | "b" | "c"> &
    Partial<Pick<Product, "batch" | "bias" | "activation" | "columnSums">>,
): void {
  const product: Product = {
    ...{ batch: 1, bias: undefined, activation: "linear" },
    ...whole,
    ...{ splits: 1, kStep: Math.ceil(whole.k / 4) * 4, splitStride: 0 },
  };
  const { a, b, activation } = product;
  const params: MatmulParams = { transposeA: a.transposed, transposeB: b.transposed, activation };
  subgroupFamily.run({ ...call, params }, product);
}
