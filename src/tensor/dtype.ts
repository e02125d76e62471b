// Element types. The CPU reference computes `f32` tensors in float64; WebGPU stores what the name says.
import { anyNumber, integer, oneOf, type Rule } from "./options.js";

/** Type of the elements of a tensor. */
export type DType = "f32" | "i32" | "u32";

const DTYPES = ["f32", "i32", "u32"] as const satisfies readonly DType[];

/** What a dtype may be, for checks of arguments. */
export const dtypeRule = oneOf(...DTYPES);

/** What an element of each dtype may be when the host gives it: no value becomes another one. */
export const elementRules: Readonly<Record<DType, Rule>> = {
  f32: anyNumber,
  i32: integer({ from: -(2 ** 31), to: 2 ** 31 - 1 }),
  u32: integer({ from: 0, to: 2 ** 32 - 1 }),
};

/** Host-side elements: Float32Array from WebGPU, Float64Array from the CPU reference. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint32Array;

/** Shape and element type of a tensor that need not exist yet. */
export interface Spec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Every dtype has four bytes on WebGPU; 64-bit types exist on the CPU reference only. */
export const BYTES_PER_ELEMENT = 4;

/** Host array of the dtype as WebGPU stores it. */
export function deviceArray(dtype: DType, values: ArrayLike<number>): Float32Array | Int32Array | Uint32Array {
  switch (dtype) {
    case "f32":
      return values instanceof Float32Array ? values : Float32Array.from(values);
    case "i32":
      return values instanceof Int32Array ? values : Int32Array.from(values);
    case "u32":
      return values instanceof Uint32Array ? values : Uint32Array.from(values);
  }
}

/** Host array of the dtype as the CPU reference stores it. */
export function referenceArray(dtype: DType, length: number): Float64Array | Int32Array | Uint32Array {
  switch (dtype) {
    case "f32":
      return new Float64Array(length);
    case "i32":
      return new Int32Array(length);
    case "u32":
      return new Uint32Array(length);
  }
}
