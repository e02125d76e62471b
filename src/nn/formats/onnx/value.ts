// Values of ONNX graphs: element types, arrays that the host knows, and tensors. What depends on constants alone is
// known on the host; everything else is a tensor.
//
// Floats of all widths are f32. Integers are i32, wide ones without sign u32, and bool is u32 with 0 and 1. int64 is
// checked against the range of i32 where it becomes a tensor. On the host every type is a float64 number, which holds
// integers up to 2^53.

import { cast } from "../../../autograd/ops/elementwise.js";
import { CpuDevice } from "../../../tensor/cpu.js";
import { type Device, Storage } from "../../../tensor/device.js";
import { type DType, deviceArray, elementRules, type TypedArray } from "../../../tensor/dtype.js";
import { DataError } from "../../../tensor/errors.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../tensor/tensor.js";
import type { SmallFloatName, SmallInteger } from "./narrow.js";

/** Names of element types by their numbers in TensorProto.data_type. */
export type ElementType =
  | ("float32" | "float16" | "bfloat16" | "float64")
  | ("int8" | "int16" | "int32" | "int64")
  | ("uint8" | "uint16" | "uint32" | "uint64" | "bool")
  | (SmallFloatName | SmallInteger);
export const ELEMENT_TYPES: Readonly<Record<number, ElementType>> = {
  ...({ 1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool" } as const),
  ...({ 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16" } as const),
  ...({ 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz" } as const),
  ...({ 21: "uint4", 22: "int4", 23: "float4e2m1", 25: "uint2", 26: "int2" } as const),
};

const dtypes: Readonly<Record<ElementType, DType>> = {
  ...({ float16: "f32", bfloat16: "f32", float32: "f32", float64: "f32" } as const),
  ...({ int8: "i32", int16: "i32", int32: "i32", int64: "i32" } as const),
  ...({ uint8: "i32", uint16: "i32", uint32: "u32", uint64: "u32", bool: "u32" } as const),
  ...({ float8e4m3fn: "f32", float8e4m3fnuz: "f32", float8e5m2: "f32", float8e5m2fnuz: "f32" } as const),
  ...({ float4e2m1: "f32", uint4: "i32", int4: "i32", uint2: "i32", int2: "i32" } as const),
};

export const isFloat = (type: ElementType): boolean => dtypes[type] === "f32";

/** Numbers on the host. */
export type Numbers = readonly number[] | TypedArray | Float32Array;

/** Where operators run. On an `exact` place tensors of all types are f32, whose elements are float64. */
export interface Place {
  readonly device: Device;
  readonly exact: boolean;
}

/** Host arrays or tensors, with the element type that ONNX gives them. */
export class Value {
  private constructor(
    readonly type: ElementType,
    readonly shape: Shape,
    /** Known for constants. */
    readonly host: Numbers | undefined,
    private readonly stored: Tensor | undefined,
  ) {}

  /** @throws DataError where the numbers do not fill the shape */
  static of(type: ElementType, shape: Shape, host: Numbers): Value {
    if (sizeOf(shape) !== host.length) {
      throw new DataError(`a constant of shape [${shape}] must have ${sizeOf(shape)} numbers, has ${host.length}`);
    }
    return new Value(type, shape, host, undefined);
  }

  /** A tensor, of the dtype of its type. */
  static ofTensor(type: ElementType, t: Tensor, place: Place): Value {
    return new Value(type, t.shape, undefined, cast(t, place.exact ? "f32" : dtypes[type]));
  }

  /** The tensor, where it is one already. */
  get made(): Tensor | undefined {
    return this.stored;
  }

  get rank(): number {
    return this.shape.length;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** The tensor; a new one of what is known on the host. */
  on(place: Place): Tensor {
    if (this.stored !== undefined) return this.stored;
    const dtype = place.exact ? "f32" : dtypes[this.type];
    const host = this.host!;
    const { accepts, expected } = elementRules[dtype];
    for (let i = 0; dtype !== "f32" && i < host.length; i++) {
      if (!accepts(host[i])) {
        throw new DataError(
          `a constant of ${this.type} must be ${expected} to be computed with, element ${i} is ${host[i]}`,
        );
      }
    }
    return tensor(place.device, host as ArrayLike<number>, { shape: this.shape, dtype });
  }
}

/** The reference, on which constants are folded: every tensor is float64, and can be read at once. */
export class FoldingDevice extends CpuDevice {
  override readonly mostElements: number;
  constructor(mostElements: number) {
    super();
    this.mostElements = mostElements;
  }
}

class NoStorage extends Storage {
  protected free(): void {}
}

/** A device whose tensors have shapes and no memory. Nothing is computed: what is run on it tells shapes. */
export class ShapeDevice extends CpuDevice {
  override readonly mostElements: number = 2 ** 40;
  override allocate(dtype: DType, size: number): Storage {
    return new NoStorage(this, dtype, size);
  }
  override write(): void {}
  override run(): void {}
  override async read(storage: Storage): Promise<TypedArray> {
    return deviceArray(storage.dtype, []);
  }
}
