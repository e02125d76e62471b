// How a matrix product is cut into dispatches (matmul.ts): batches, operands larger than a binding, pieces of k. Plain
// data from shapes and limits: no device is asked and nothing is run.
import { broadcastShapes, broadcastStrides, type Shape, sizeOf } from "../tensor/shape.js";
import { MAX_WORKGROUPS } from "../webgpu/program.js";
import { MAX_SPLITS, type MatmulParams, type ProductFamily } from "./matmul-product.js";

/** A run of batch axes along which both operands advance evenly; strides in elements. */
export interface BatchAxis {
  readonly size: number;
  readonly strideA: number;
  readonly strideB: number;
}

/** M, N, K, and the batch axes, outermost first, joined where both operands allow it. Expects shapes that fit. */
export function describe(a: Shape, b: Shape, { transposeA, transposeB }: Omit<MatmulParams, "activation">) {
  const [rowsA, columnsA] = a.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.slice(-2) as [number, number];
  const shape = broadcastShapes("matmul", a.slice(0, -2), b.slice(0, -2));
  const stridesA = broadcastStrides(a.slice(0, -2), shape);
  const stridesB = broadcastStrides(b.slice(0, -2), shape);
  const axes: BatchAxis[] = [];
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i]!;
    const strideA = stridesA[i]! * rowsA * columnsA;
    const strideB = stridesB[i]! * rowsB * columnsB;
    const inner = axes[0];
    if (size === 1) continue;
    if (inner !== undefined && strideA === inner.strideA * inner.size && strideB === inner.strideB * inner.size) {
      axes[0] = { ...inner, size: inner.size * size };
    } else axes.unshift({ size, strideA, strideB });
  }
  return {
    m: transposeA ? columnsA : rowsA,
    k: transposeA ? rowsA : columnsA,
    n: transposeB ? rowsB : columnsB,
    count: sizeOf(shape),
    axes,
  };
}

/** Where in A and B the matrices with linear index `matrix` over `axes` begin. */
export function offsetsOf(axes: readonly BatchAxis[], matrix: number): [number, number] {
  let offsetA = 0;
  let offsetB = 0;
  let remaining = matrix;
  for (const { size, strideA, strideB } of axes.toReversed()) {
    offsetA += (remaining % size) * strideA;
    offsetB += (remaining % size) * strideB;
    remaining = Math.floor(remaining / size);
  }
  return [offsetA, offsetB];
}

/** Where a matrix begins, in elements: in its tensor, or in the slice of it that is bound. */
export interface Region {
  /** First element and length; undefined: all of the tensor. */
  readonly slice: readonly [first: number, count: number] | undefined;
  readonly offset: number;
}

/** One dispatch. */
export interface PlannedProduct {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Region;
  readonly b: Region;
  /** First column of C and of the bias. */
  readonly column: number;
  /** Which of the rows' partial results it begins with; undefined: it gives the result itself. */
  readonly partial: number | undefined;
  /** k is cut into so many pieces of `kStep`, each of which gives a partial result. */
  readonly splits: number;
  readonly kStep: number;
}

/** Rows of C (of every matrix of the batch), by one product or as partial results that are added up. */
export interface PlannedRows {
  readonly c: Region;
  readonly products: readonly PlannedProduct[];
  /**
   * Partial results of `size` elements each, in memory that begins `stride` elements after the one before; 0 for none.
   */
  readonly partials: number;
  readonly size: number;
  readonly stride: number;
}

/** Equal products along one batch axis. */
export interface PlannedPart {
  readonly batch: BatchAxis;
  /** Elements from one stored row to the next. */
  readonly strides: { readonly a: number; readonly b: number; readonly c: number };
  readonly rows: readonly PlannedRows[];
  /** The part is one product, which nothing is cut off from but pieces of k. */
  readonly whole: boolean;
}

/** What a plan depends on besides shapes. */
export interface Limits {
  /** Elements of the largest binding. */
  readonly most: number;
  /** Pieces of k that are wanted. */
  readonly splitsFor: (shape: Parameters<ProductFamily["splitsFor"]>[0]) => number;
}

/** Cuts C = op(A) op(B). */
export function planMatmul(
  a: Shape,
  b: Shape,
  params: Omit<MatmulParams, "activation">,
  limits: Limits,
): readonly PlannedPart[] {
  const { n, k, axes, count, ...rest } = describe(a, b, params);
  let { m } = rest;
  const sizes = { a: sizeOf(a), b: sizeOf(b), c: count * m * n };
  if (sizes.c === 0) return [];
  // Many matrices times one: the rows of all of them are the rows of a single product.
  const last = axes.at(-1);
  if (last !== undefined && last.strideB === 0 && last.strideA === m * k && !params.transposeA) {
    m *= last.size;
    axes.pop();
  }
  // The innermost batch axis goes into the workgroups' third dimension, the others are dispatches of their own.
  const batch = axes.pop() ?? { size: 1, strideA: 0, strideB: 0 };
  const outer = axes.reduce((product, axis) => product * axis.size, 1);
  const most = Math.floor(MAX_WORKGROUPS / MAX_SPLITS);
  const parts: PlannedPart[] = [];
  for (let matrix = 0; matrix < outer; matrix++) {
    const [offsetA, offsetB] = offsetsOf(axes, matrix);
    for (let first = 0; first < batch.size; first += most) {
      const begin = {
        a: offsetA + first * batch.strideA,
        b: offsetB + first * batch.strideB,
        c: (matrix * batch.size + first) * m * n,
      };
      const part = { ...batch, size: Math.min(most, batch.size - first) };
      parts.push(planPart({ m, n, k, batch: part, begin, sizes, ...params }, limits));
    }
  }
  return parts;
}

/** Of the three matrices. */
type OfEach = Readonly<Record<"a" | "b" | "c", number>>;

interface Part extends Omit<MatmulParams, "activation"> {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: BatchAxis;
  /** Where the first matrices begin. */
  readonly begin: OfEach;
  /** Elements of the tensors. */
  readonly sizes: OfEach;
}

/**
 * Products whose operands may exceed the largest binding (only where there is no batch): slices over the rows of C and
 * of A and B as stored. A slice over k gives a partial C, and so does a piece of k that was cut off to fill the device
 * with workgroups; a second pass adds the partial results in a fixed order.
 */
function planPart(part: Part, { most, splitsFor }: Limits): PlannedPart {
  const { m, n, k, batch, begin, sizes, transposeA, transposeB } = part;
  const alone = sizes.c === m * n;
  const tooLarge = (matrix: keyof OfEach) => alone && sizes[matrix] > most;
  const strides = { a: transposeA ? m : k, b: transposeB ? k : n, c: n };
  /** Rows as stored, of which no more than a binding holds are taken at a time. */
  const rowsOf = (matrix: keyof OfEach): Limit[] =>
    tooLarge(matrix) ? [{ length: strides[matrix], most, aligned: true }] : [];
  const nStep = rowsPerSlice(n, transposeB ? rowsOf("b") : []);
  const kSlice = rowsPerSlice(k, [...(transposeA ? rowsOf("a") : []), ...(transposeB ? [] : rowsOf("b"))]);
  const kSlices = Math.max(1, Math.ceil(k / kSlice));
  const partialC = { length: n, most: Math.floor(most / kSlices / 4) * 4, aligned: false };
  const mStep = rowsPerSlice(m, [
    ...(transposeA ? [] : rowsOf("a")),
    ...rowsOf("c"),
    ...(kSlices > 1 ? [partialC] : []),
  ]);
  const whole = kSlices === 1 && mStep >= m && nStep >= n;
  let splits = 1;
  let kStep = kSlice;
  if (whole) {
    const wanted = splitsFor({ m, n, k, batch: batch.size, transposedA: transposeA });
    const affordable = Math.max(1, Math.min(MAX_SPLITS, Math.floor(most / (batch.size * m * n + 3))));
    kStep = Math.max(4, Math.ceil(k / Math.min(wanted, affordable) / 4) * 4);
    splits = Math.max(1, Math.ceil(k / kStep));
  }
  const partials = kSlices * splits;
  /** `count` rows as stored from `row`, and a column. */
  const region = (matrix: keyof OfEach, row: number, count: number, column = 0): Region => {
    const offset = begin[matrix] + column;
    const stride = strides[matrix];
    return tooLarge(matrix)
      ? { slice: [row * stride, count * stride], offset }
      : { slice: undefined, offset: offset + row * stride };
  };
  return {
    batch,
    strides,
    whole,
    rows: steps(m, mStep).map(([m0, rows]) => ({
      c: region("c", m0, rows),
      size: batch.size * rows * n,
      partials: partials > 1 ? partials : 0,
      stride: Math.ceil((batch.size * rows * n) / 4) * 4,
      products: steps(n, nStep).flatMap(([n0, columns]) =>
        steps(k, kSlice).map(([k0, depth]) => ({
          m: rows,
          n: columns,
          k: depth,
          a: transposeA ? region("a", k0, depth, m0) : region("a", m0, rows, k0),
          b: transposeB ? region("b", n0, columns, k0) : region("b", k0, depth, n0),
          column: n0,
          partial: partials > 1 ? Math.floor(k0 / kSlice) : undefined,
          splits,
          kStep: kSlices === 1 ? kStep : depth,
        })),
      ),
    })),
  };
}

/** [start, count] of the pieces of `total`; one empty piece for 0. */
function steps(total: number, step: number): [number, number][] {
  const pieces: [number, number][] = [];
  for (let start = 0; start < total; start += step) pieces.push([start, Math.min(step, total - start)]);
  return pieces.length === 0 ? [[0, 0]] : pieces;
}

/** Matrices whose rows have `length` elements, taken `most` elements at a time; as slices of a tensor if `aligned`. */
interface Limit {
  readonly length: number;
  readonly most: number;
  readonly aligned: boolean;
}

/**
 * Rows to take at a time, at least one. Slices begin where a binding may, on a multiple of 64 elements; where too many
 * rows would be needed for that, they exceed the limit, and the dispatch says so.
 */
function rowsPerSlice(rows: number, limits: readonly Limit[]): number {
  const fitting = Math.min(...limits.map(({ length, most }) => Math.floor(most / length)));
  if (rows <= fitting) return Math.max(1, rows);
  let unit = 4;
  while (limits.some(({ aligned, length }) => aligned && (unit * length) % 64 !== 0)) unit *= 2;
  return Math.max(unit, Math.floor(fitting / unit) * unit);
}
