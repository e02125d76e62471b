// The contract between a device and a kernel. A kernel is one computation with two implementations: the float64 CPU
// reference and WGSL dispatches. It knows nothing of tensors or gradients: it reads input views and writes output views
// that the caller has allocated.

import type { DType, Spec } from "./dtype.js";

/** A tensor as the CPU reference sees it: contiguous, row-major; f32 data is a Float64Array. */
export interface CpuView extends Spec {
  readonly size: number;
  readonly data: Float64Array | Int32Array | Uint32Array;
}

export interface CpuCall<Params> {
  readonly inputs: readonly CpuView[];
  readonly outputs: readonly CpuView[];
  readonly params: Params;
}

/**
 * What computes a kernel besides the reference: a backend adds its members here (webgpu/kernel.ts), and every kernel
 * has to have them.
 */
// biome-ignore lint/suspicious/noEmptyInterface: backends augment it
// biome-ignore lint/correctness/noUnusedVariables: the parameters are those of a kernel
export interface Implementations<Params> {}

/**
 * One computation on every device. Outputs arrive allocated with undefined content and must be written completely;
 * an output may be the same memory as an input only where a kernel says so (in-place optimizer steps).
 */
export interface Kernel<Params> extends Implementations<Params> {
  /** As it appears in errors, profiles and dispatch counts, e.g. "matmul". */
  readonly name: string;
  readonly cpu: (call: CpuCall<Params>) => void;
  /**
   * Multiplications and additions that the formula asks for, where they and not memory decide the time; for profiles.
   * What a fast algorithm saves counts all the same.
   */
  readonly flops?: (params: Params, inputs: readonly Spec[]) => number;
}

/** Identity with inference: `export const reluKernel = defineKernel<ReluParams>({ ... })`. */
export function defineKernel<Params>(kernel: Kernel<Params>): Kernel<Params> {
  return kernel;
}

/** WGSL element type of a dtype. */
export const WGSL_TYPE = { f32: "f32", i32: "i32", u32: "u32" } as const satisfies Record<DType, string>;
