// What one dispatch of a matrix product is. It stands between the planning in matmul.ts and the two families of WGSL
// (matmul-subgroup.ts for the software profile, matmul-shared.ts for hardware).
import type { TuningProfile } from "../webgpu/family.js";
import type { Binding, GpuCall, GpuView } from "../webgpu/program.js";
import type { FusedActivation } from "./activation.js";
import { type WindowRows, windowSizes } from "./window-rows.js";

/** Of a matrix product as a kernel; see matmul.ts. */
export interface MatmulParams {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly activation: FusedActivation;
}

/** A matrix (or a batch of them) somewhere in a buffer; sizes and offsets in elements. */
export interface Matrix {
  readonly view: GpuView;
  /** Where its first element lies in the view. */
  readonly offset: number;
  /** From one stored row to the next. */
  readonly stride: number;
  /** From one matrix of the batch to the next; 0 where all are the same. */
  readonly batchStride: number;
  /** Stored as its transpose: A as [K, M], B as [N, K]. Never for C. */
  readonly transposed: boolean;
  /** Its rows as stored are windows of images, `stride` does not count; A of the software profile only, no batch. */
  readonly windows?: WindowRows;
}

/** C[m, n] = activation(sum over k of A[m, k] B[k, n] + bias[n]), for every matrix of a batch. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Matrix;
  /** k is cut into this many pieces of `kStep`, each with a C of its own, `splitStride` elements apart. */
  readonly splits: number;
  readonly kStep: number;
  readonly splitStride: number;
  /** bias[biasOffset + n], whole view bound; only with splits = 1. */
  readonly bias: { readonly view: GpuView; readonly offset: number } | undefined;
  readonly activation: FusedActivation;
  /** Gets the sums of B's columns [n]; see ProductFamily.sumsColumns. */
  readonly columnSums?: GpuView | undefined;
}

/** Most pieces of k. */
export const MAX_SPLITS = 64;

export interface ProductFamily {
  /** Pieces into which k should be cut for enough workgroups. */
  splitsFor(
    shape: Pick<Product, "m" | "n" | "k" | "batch"> & { readonly transposedA: boolean },
    profile: TuningProfile,
  ): number;
  /** Whether a product's `columnSums` can come with it. */
  sumsColumns(call: GpuCall<MatmulParams>, product: Product): boolean;
  run(call: GpuCall<MatmulParams>, product: Product): void;
}

/** Whether vec4 loads fit: every row of every matrix begins on a multiple of four elements. */
export function isAligned(matrix: Matrix): boolean {
  return matrix.offset % 4 === 0 && matrix.stride % 4 === 0 && matrix.batchStride % 4 === 0;
}

/** The uniforms of a product, in elements. */
export function productSizes({ m, n, k, a, b, c, splits, kStep, splitStride, bias }: Product): Record<string, number> {
  return {
    m,
    n,
    k,
    kStep,
    splits,
    splitStride,
    aOffset: a.offset,
    aStride: a.stride,
    aBatch: a.batchStride,
    bOffset: b.offset,
    bStride: b.stride,
    bBatch: b.batchStride,
    cOffset: c.offset,
    cStride: c.stride,
    cBatch: c.batchStride,
    biasOffset: bias?.offset ?? 0,
    ...(a.windows && windowSizes(a.windows)),
  };
}

/** What a dispatch binds: vectors where its loads of A and B and its stores of C take four elements. */
export function productBindings(
  { a, b, c, bias }: Product,
  { alignedA, alignedB, vectorStores }: Readonly<Record<"alignedA" | "alignedB" | "vectorStores", boolean>>,
): Binding[] {
  const type = (vector: boolean) => (vector ? "vec4f" : "f32");
  return [
    { name: "a", view: a.view, type: type(alignedA) },
    { name: "b", view: b.view, type: type(alignedB) },
    ...(bias === undefined ? [] : [{ name: "bias", view: bias.view, type: "f32" } as const]),
    { name: "c", view: c.view, type: type(vectorStores), access: "read_write" },
  ];
}

/** WGSL: which matrix of the batch and which piece of k a workgroup has, and where its operands begin. */
export const PRODUCT_PREAMBLE = /* wgsl */ `
  let batch = group.z / u.splits;
  let split = group.z % u.splits;
  let kBegin = split * u.kStep;
  let kEnd = min(kBegin + u.kStep, u.k);
  let aBase = u.aOffset + batch * u.aBatch;
  let bBase = u.bOffset + batch * u.bBatch;
  let cBase = u.cOffset + batch * u.cBatch + split * u.splitStride;
`;
