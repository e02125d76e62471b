// Constants of ONNX files as host arrays of numbers: integers of 64 bits become numbers, which hold them up to 2^53.
import { DataError } from "../../../tensor/errors.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import { isSmallFloat, smallFloat, unpacked } from "./narrow.js";
import { type TensorProto, type TensorType, tensorValues as valuesOf } from "./proto.js";
import { ELEMENT_TYPES, type ElementType, type Numbers } from "./value.js";

const names: Readonly<Record<TensorType, ElementType>> = {
  ...({ f32: "float32", f16: "float16", bf16: "bfloat16", f64: "float64", bool: "bool" } as const),
  ...({ u8: "uint8", i8: "int8", u16: "uint16", i16: "int16", i32: "int32", i64: "int64" } as const),
};

export interface HostTensor {
  readonly type: ElementType;
  readonly shape: Shape;
  readonly data: Numbers;
}

/** Integers without sign of 32 and 64 bits. */
const UNSIGNED: Readonly<Record<number, "uint32" | "uint64">> = { 12: "uint32", 13: "uint64" };

/** Types of less than 16 bits that lie in bytes, by their numbers: how many bits each has. */
const SMALL: Readonly<Record<number, number>> = { 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 25: 2, 26: 2 };

function smallValues(t: TensorProto, owner: string, bits: number): HostTensor {
  const type = ELEMENT_TYPES[t.dataType]!;
  const packed = Math.ceil(sizeOf(t.dims) / (8 / bits));
  // Their bytes are checked as bytes.
  const { data } = valuesOf({ ...t, dims: [packed], dataType: 2 }, owner);
  const codes = unpacked(data as Uint8Array, sizeOf(t.dims), bits);
  const number = (code: number) => {
    if (isSmallFloat(type)) return smallFloat(type, code);
    return type.startsWith("int") && code >= 2 ** (bits - 1) ? code - 2 ** bits : code;
  };
  return { type, shape: t.dims, data: codes.map(number) };
}

/**
 * The elements of a tensor. `external` are its bytes where they lie in another file.
 * @throws DataError for what is no array of numbers, or does not fill its shape
 */
export function tensorValues(t: TensorProto, owner: string, external?: Uint8Array): HostTensor {
  const within = external === undefined ? t : { ...t, rawData: external, dataLocation: 0 };
  const small = SMALL[within.dataType];
  if (small !== undefined) return smallValues(within, owner, small);
  const wide = UNSIGNED[within.dataType];
  if (wide !== undefined) {
    const bits = wide === "uint32" ? 6 : 7;
    const list = within.rawData?.length
      ? {}
      : { int32Data: Int32Array.from(within.uint64Data, Number), int64Data: BigInt64Array.from(within.uint64Data) };
    const { shape, data } = valuesOf({ ...within, ...list, dataType: bits }, owner);
    const unsigned = Array.from(data as ArrayLike<number | bigint>, (n) =>
      typeof n === "bigint" ? Number(BigInt.asUintN(64, n)) : n >>> 0,
    );
    return { type: wide, shape, data: unsigned };
  }
  const { shape, type, data } = valuesOf(within, owner);
  if (!(data instanceof BigInt64Array)) return { type: names[type], shape, data: data as Numbers };
  return { type: names[type], shape, data: Float64Array.from(data, Number) };
}

/** Where a tensor's bytes are in another file. @throws DataError for words that are no such place */
export function placeOf(
  t: TensorProto,
  owner: string,
): { name: string; offset: number; length: number | undefined } | undefined {
  if (t.dataLocation !== 1) return undefined;
  const words = new Map(t.externalData.map(({ key, value }) => [key, value]));
  const name = words.get("location");
  if (name === undefined) throw new DataError(`${owner}: says that its payload is in another file, and not in which`);
  const number = (key: string) => {
    const text = words.get(key);
    if (text === undefined) return undefined;
    if (/^\d{1,15}$/.test(text)) return Number(text);
    throw new DataError(
      `${owner}: its ${key} must be a whole number of bytes, is ${JSON.stringify(text.slice(0, 40))}`,
    );
  };
  return { name, offset: number("offset") ?? 0, length: number("length") };
}
