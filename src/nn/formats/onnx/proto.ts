// The part of ONNX's protobuf messages (onnx.proto) that models of tensors are made of: reading and writing their
// bytes. A message is a list of fields, each a varint `number << 3 | wire type` and a value: a varint (wire type 0), 8
// bytes (1), a length and as many bytes (2), or 4 bytes (5), little-endian. Fields that are not listed below are passed
// over. Lists of numbers are read packed and one by one, and are written packed.
//
// Files are not trusted: a length is held against the bytes that are left before anything is taken, and what a message
// becomes is at most a constant times its bytes. Payloads of tensors are views into the bytes.
import { halfToNumber } from "../../../io/safetensors.js";
import { DataError, UsageError } from "../../../tensor/errors.js";
import { sizeOf } from "../../../tensor/shape.js";

export interface ModelProto {
  readonly irVersion: number;
  readonly producerName: string;
  readonly producerVersion: string;
  readonly graph?: GraphProto;
  readonly opsetImport: readonly OperatorSetIdProto[];
  readonly metadataProps: readonly StringStringEntryProto[];
  readonly functions: readonly FunctionProto[];
}

/** `domain` "" and "ai.onnx" mean the same. */
export interface OperatorSetIdProto {
  readonly domain: string;
  readonly version: number;
}

export interface StringStringEntryProto {
  readonly key: string;
  readonly value: string;
}

export interface GraphProto {
  readonly node: readonly NodeProto[];
  readonly name: string;
  readonly initializer: readonly TensorProto[];
  readonly sparseInitializer: readonly SparseTensorProto[];
  readonly input: readonly ValueInfoProto[];
  readonly output: readonly ValueInfoProto[];
  readonly valueInfo: readonly ValueInfoProto[];
}

/** An empty name among inputs and outputs stands for none. */
export interface NodeProto {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly opType: string;
  readonly attribute: readonly AttributeProto[];
  readonly domain: string;
}

export interface FunctionProto {
  readonly name: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly attribute: readonly string[];
  readonly node: readonly NodeProto[];
  readonly opsetImport: readonly OperatorSetIdProto[];
  readonly domain: string;
  readonly attributeProto: readonly AttributeProto[];
}

/** Values of `AttributeProto.type`: which of its fields is in use. 0 in files that leave it out. */
export const ATTRIBUTE_TYPE = {
  ...{ FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, GRAPH: 5, SPARSE_TENSOR: 11, TYPE_PROTO: 13 },
  ...{ FLOATS: 6, INTS: 7, STRINGS: 8, TENSORS: 9, GRAPHS: 10, SPARSE_TENSORS: 12, TYPE_PROTOS: 14 },
} as const;

/** Of lists of tensors, graphs and types only `type` tells. */
export interface AttributeProto {
  readonly name: string;
  readonly refAttrName: string;
  readonly type: number;
  readonly f?: number;
  readonly i?: bigint;
  readonly s?: Uint8Array;
  readonly t?: TensorProto;
  readonly g?: GraphProto;
  readonly floats: Float32Array;
  readonly ints: BigInt64Array;
  readonly strings: readonly Uint8Array[];
}

/** `dataLocation` 1: the payload is in another file, which `externalData` names (location, offset, length). */
export interface TensorProto {
  readonly dims: readonly number[];
  /** A value of DATA_TYPE, or another. */
  readonly dataType: number;
  readonly floatData: Float32Array;
  readonly int32Data: Int32Array;
  readonly stringData: readonly Uint8Array[];
  readonly int64Data: BigInt64Array;
  readonly name: string;
  readonly rawData?: Uint8Array;
  readonly doubleData: Float64Array;
  readonly uint64Data: BigUint64Array;
  readonly externalData: readonly StringStringEntryProto[];
  readonly dataLocation: number;
}

export interface SparseTensorProto {
  readonly values?: TensorProto;
  readonly indices?: TensorProto;
  readonly dims: readonly number[];
}

export interface ValueInfoProto {
  readonly name: string;
  readonly type?: TypeProto;
}

/** Without `tensorType` it is a sequence, a map or the like. */
export interface TypeProto {
  readonly tensorType?: TensorTypeProto;
}

/** Without `shape` even the number of axes is unknown. */
export interface TensorTypeProto {
  readonly elemType: number;
  readonly shape?: TensorShapeProto;
}

export interface TensorShapeProto {
  readonly dim: readonly Dimension[];
}

/** A size, a name that stands for one, or neither. */
export interface Dimension {
  readonly dimValue?: number;
  readonly dimParam?: string;
}

/** A message to be written: what is left out is as if it were empty. */
export type Draft<T> = T extends ArrayBufferView | number | string | bigint
  ? T
  : T extends readonly (infer Part)[]
    ? readonly Draft<Part>[]
    : { readonly [K in keyof T]?: Draft<T[K]> | undefined };

/**
 * What a field holds.
 * - int: a varint that must be a safe integer; int64: any.
 * - float: 4 bytes; string: UTF-8; bytes: any, a view.
 * - ints: a list of safe integers; the other lists of numbers are typed arrays.
 */
type NumberList = "float32s" | "float64s" | "int32s" | "int64s" | "uint64s";
type Kind = "int" | "int64" | "float" | "string" | "bytes" | "ints" | NumberList;

interface Field {
  readonly number: number;
  readonly name: string;
  /** A message has `message` instead. */
  readonly kind: Kind | undefined;
  readonly message: MessageName | undefined;
  readonly list: boolean;
}

/** Fields of each message: "number name kind"; a message's name is its kind, and `[]` makes a list of it. */
const texts = {
  ModelProto:
    "1 irVersion int, 2 producerName string, 3 producerVersion string, 7 graph GraphProto, " +
    "8 opsetImport OperatorSetIdProto[], 14 metadataProps StringStringEntryProto[], 25 functions FunctionProto[]",
  OperatorSetIdProto: "1 domain string, 2 version int",
  StringStringEntryProto: "1 key string, 2 value string",
  GraphProto:
    "1 node NodeProto[], 2 name string, 5 initializer TensorProto[], 15 sparseInitializer SparseTensorProto[], " +
    "11 input ValueInfoProto[], 12 output ValueInfoProto[], 13 valueInfo ValueInfoProto[]",
  NodeProto:
    "1 input string[], 2 output string[], 3 name string, 4 opType string, 5 attribute AttributeProto[], 7 domain string",
  FunctionProto:
    "1 name string, 4 input string[], 5 output string[], 6 attribute string[], 7 node NodeProto[], " +
    "9 opsetImport OperatorSetIdProto[], 10 domain string, 11 attributeProto AttributeProto[]",
  AttributeProto:
    "1 name string, 21 refAttrName string, 20 type int, 2 f float, 3 i int64, 4 s bytes, 5 t TensorProto, 6 g GraphProto, " +
    "7 floats float32s, 8 ints int64s, 9 strings bytes[]",
  TensorProto:
    "1 dims ints, 2 dataType int, 4 floatData float32s, 5 int32Data int32s, 6 stringData bytes[], 7 int64Data int64s, " +
    "8 name string, 9 rawData bytes, 10 doubleData float64s, 11 uint64Data uint64s, " +
    "13 externalData StringStringEntryProto[], 14 dataLocation int",
  SparseTensorProto: "1 values TensorProto, 2 indices TensorProto, 3 dims ints",
  ValueInfoProto: "1 name string, 2 type TypeProto",
  TypeProto: "1 tensorType TensorTypeProto",
  TensorTypeProto: "1 elemType int, 2 shape TensorShapeProto",
  TensorShapeProto: "1 dim Dimension[]",
  Dimension: "1 dimValue int, 2 dimParam string",
} as const;
type MessageName = keyof typeof texts;

/** Fields whose presence means something, and messages, have no default. */
const WITHOUT_DEFAULT = new Set(["f", "i", "s", "rawData", "dimValue", "dimParam"]);
const arrays = {
  float32s: Float32Array,
  float64s: Float64Array,
  int32s: Int32Array,
  int64s: BigInt64Array,
  uint64s: BigUint64Array,
} as const;

type Value = number | bigint | string | Uint8Array | Message | readonly unknown[] | NumberArray;
type NumberArray = InstanceType<(typeof arrays)[NumberList]>;
type Message = { [field: string]: Value };

interface MessageClass {
  readonly fields: ReadonlyMap<number, Field>;
  /** Values of fields that a file leaves out. Lists are shared, and frozen where that is possible. */
  readonly defaults: Readonly<Message>;
}

const classes = Object.fromEntries(
  Object.entries(texts).map(([name, text]) => [name, messageClass(text)]),
) as unknown as Readonly<Record<MessageName, MessageClass>>;

function messageClass(text: string): MessageClass {
  const fields = text.split(", ").map((each): Field => {
    const [number, name, type] = each.split(" ") as [string, string, string];
    const message = type.replace("[]", "");
    return {
      ...{ number: Number(number), name, list: type.endsWith("[]") },
      ...(message in texts
        ? { kind: undefined, message: message as MessageName }
        : { kind: message as Kind, message: undefined }),
    };
  });
  const nothing = Object.freeze([]);
  const defaultOf = ({ kind, list, name }: Field): [string, Value][] => {
    if (kind !== undefined && kind in arrays) return [[name, new arrays[kind as NumberList](0)]];
    if (list || kind === "ints") return [[name, nothing]];
    if (kind === undefined || WITHOUT_DEFAULT.has(name)) return [];
    return [[name, kind === "int" ? 0 : ""]];
  };
  return {
    fields: new Map(fields.map((field) => [field.number, field])),
    defaults: Object.fromEntries(fields.flatMap(defaultOf)),
  };
}

/** How many messages may lie in each other: some 25 graphs in graphs. Files nest 12, or 4 more for each such graph. */
const MOST_NESTED = 100;

/**
 * The model of an ONNX file. Payloads of tensors are views into `bytes`, which must not change while they are used.
 * @param source what messages call the file
 * @throws DataError naming the byte and the field, for what is damaged, truncated or no such file
 */
export function decodeModel(bytes: Uint8Array, source = "the bytes"): ModelProto {
  const decoder = new Decoder(bytes, source);
  return decoder.message("ModelProto", bytes.length) as unknown as ModelProto;
}

/** A tensor in a file of its own, as ONNX's test data has them; see {@link decodeModel}. */
export function decodeTensor(bytes: Uint8Array, source = "the bytes"): TensorProto {
  return new Decoder(bytes, source).message("TensorProto", bytes.length) as unknown as TensorProto;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Decoder {
  private at = 0;
  private readonly view: DataView;
  /** Names of the fields that lead to where it is. */
  private readonly path: string[] = [];
  /** The varint just read: its lower and upper 32 bits. */
  private low = 0;
  private high = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly source: string,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** What lies before `end`. A message that is there in two parts is one of both, as protobuf has it. */
  message(name: MessageName, end: number, begun?: Message): Message {
    const { fields, defaults } = classes[name];
    const found: Message = { ...(begun ?? defaults) };
    const lists = new Map<string, Value[]>();
    const numbers = new Map<string, NumberBuffer>();
    if (this.path.length > MOST_NESTED) this.refuse(`at most ${MOST_NESTED} messages may lie in each other`);
    while (this.at < end) {
      const start = this.at;
      const tag = this.integer(end);
      const [number, wire] = [Math.floor(tag / 8), tag % 8];
      const field = fields.get(number);
      if (field === undefined) {
        if (number < 1) this.refuse("field numbers are from 1; this is no such file, or damaged", start);
        this.skip(wire, end, number);
        continue;
      }
      this.path.push(field.name);
      const { kind, name: key, list } = field;
      if (kind !== undefined && (kind === "ints" || kind in arrays)) {
        const given = numbers.get(key) ?? new NumberBuffer(kind as NumberList | "ints", found[key] as never);
        numbers.set(key, given);
        this.numbers(given, wire, end);
      } else {
        const wanted = kind === "int" || kind === "int64" ? 0 : kind === "float" ? 5 : 2;
        if (wire !== wanted) this.refuse(`must be of wire type ${wanted}, is of ${wire}`, start);
        const before = list ? undefined : (found[key] as Message | undefined);
        const value = this.single(field, end, before);
        if (list) {
          const values = lists.get(key) ?? [...(found[key] as readonly Value[])];
          lists.set(key, values);
          values.push(value);
        } else found[key] = value;
      }
      this.path.pop();
    }
    for (const [key, values] of lists) found[key] = values;
    for (const [key, buffer] of numbers) found[key] = buffer.finish();
    return found;
  }

  private single({ kind, message }: Field, end: number, before: Message | undefined): Value {
    if (kind === "int") return this.integer(end);
    if (kind === "int64") return this.int64(end);
    if (kind === "float") {
      this.need(4, end);
      this.at += 4;
      return this.view.getFloat32(this.at - 4, true);
    }
    const length = this.length(end);
    if (message !== undefined) return this.message(message, this.at + length, before);
    const part = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    if (kind === "bytes") return part;
    try {
      return utf8.decode(part);
    } catch (error) {
      return this.refuse("must be UTF-8, is not", this.at - length, error);
    }
  }

  /** Packed numbers, or one. */
  private numbers(into: NumberBuffer, wire: number, end: number): void {
    const width = into.kind === "float32s" ? 4 : into.kind === "float64s" ? 8 : 0;
    const single = width === 4 ? 5 : width === 8 ? 1 : 0;
    if (wire !== 2 && wire !== single) this.refuse(`must be of wire type 2 or ${single}, is of ${wire}`);
    const length = wire === 2 ? this.length(end) : undefined;
    const stop = length === undefined ? end : this.at + length;
    if (width > 0) {
      if (length === undefined) this.need(width, end);
      else if (length % width !== 0) this.refuse(`packed numbers of ${width} bytes cannot have ${length} bytes`);
      const count = (length ?? width) / width;
      into.reserve(count);
      for (let i = 0; i < count; i++, this.at += width) {
        into.add(width === 4 ? this.view.getFloat32(this.at, true) : this.view.getFloat64(this.at, true));
      }
      return;
    }
    let count = 1;
    if (length !== undefined) {
      // Each varint ends with the only byte of it that is below 128.
      count = 0;
      for (let i = this.at; i < stop; i++) if (this.bytes[i]! < 128) count++;
    }
    into.reserve(count);
    while (count-- > 0) into.add(this.varintFor(into.kind, stop));
    if (length !== undefined && this.at < stop) this.refuse("its last number is cut off");
  }

  private varintFor(kind: NumberBuffer["kind"], end: number): number | bigint {
    if (kind === "ints") return this.integer(end);
    if (kind === "int64s") return this.int64(end);
    this.varint(end);
    return kind === "int32s" ? this.low : BigInt.asUintN(64, this.wide());
  }

  private skip(wire: number, end: number, number: number): void {
    if (wire === 0) {
      this.varint(end);
      return;
    }
    if (wire !== 1 && wire !== 2 && wire !== 5) {
      this.refuse(`field ${number} has wire type ${wire}; this is no such file, or damaged`);
    }
    const length = wire === 1 ? 8 : wire === 5 ? 4 : this.length(end);
    this.need(length, end);
    this.at += length;
  }

  private length(end: number): number {
    const length = this.integer(end);
    this.need(length, end);
    return length;
  }

  private need(length: number, end: number): void {
    if (length < 0 || length > end - this.at) this.refuse(`${length} bytes must follow, there are ${end - this.at}`);
  }

  /** At most 10 bytes of 7 bits each, the lowest first. */
  private varint(end: number): void {
    let [low, high] = [0, 0];
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= end) this.refuse("a number is cut off");
      const byte = this.bytes[this.at++]!;
      const bits = byte & 127;
      if (shift < 32) low |= bits << shift;
      if (shift > 28) high |= bits << (shift - 32);
      else if (shift === 28) high |= bits >>> 4;
      if (byte < 128) {
        [this.low, this.high] = [low, high];
        return;
      }
    }
    this.refuse("a number has more than 10 bytes");
  }

  private wide = () => (BigInt(this.high) << 32n) | BigInt(this.low >>> 0);

  private int64(end: number): bigint {
    this.varint(end);
    return this.wide();
  }

  private integer(end: number): number {
    this.varint(end);
    const value = this.high * 2 ** 32 + (this.low >>> 0);
    if (!Number.isSafeInteger(value)) this.refuse(`must be within 2^53, is ${this.wide()}`);
    return value;
  }

  private refuse(problem: string, at = this.at, cause?: unknown): never {
    const where = this.path.length === 0 ? "" : `, in ${this.path.slice(-8).join(".")}`;
    throw new DataError(`${this.source}: byte ${at}${where}: ${problem}`, { cause });
  }
}

/** A list of numbers that grows: of typed arrays at most twice as long as it is. */
class NumberBuffer {
  private values: NumberArray | number[];
  private length: number;

  constructor(
    readonly kind: NumberList | "ints",
    begun: NumberArray | readonly number[],
  ) {
    this.values = kind === "ints" ? [...(begun as readonly number[])] : (begun as NumberArray);
    this.length = begun.length;
  }

  reserve(count: number): void {
    const { kind, values, length } = this;
    if (kind === "ints" || length + count <= values.length) return;
    const longer = new arrays[kind](Math.max(length + count, 2 * length));
    longer.set((values as Float32Array).subarray(0, length) as never);
    this.values = longer;
  }

  add(value: number | bigint): void {
    this.values[this.length++] = value as never;
  }

  finish(): NumberArray | number[] {
    return this.length === this.values.length ? this.values : this.values.slice(0, this.length);
  }
}

/** Element types by their numbers in `dataType`, of which {@link tensorValues} has values. */
export const DATA_TYPE = {
  ...{ f32: 1, u8: 2, i8: 3, u16: 4, i16: 5, i32: 6, i64: 7, bool: 9, f16: 10, f64: 11, bf16: 16 },
} as const;
export type TensorType = keyof typeof DATA_TYPE;

/** What other numbers mean. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  ...{ 0: "undefined", 8: "string", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128" },
  ...{ 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4" },
  ...{ 23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2" },
};

/** Arrays of the elements as they lie in `rawData`, and the list that has them else. Halves lie as their bits. */
const stored = {
  f32: { array: Float32Array, list: "floatData" },
  f64: { array: Float64Array, list: "doubleData" },
  i64: { array: BigInt64Array, list: "int64Data" },
  i32: { array: Int32Array, list: "int32Data" },
  i16: { array: Int16Array, list: "int32Data" },
  u16: { array: Uint16Array, list: "int32Data" },
  i8: { array: Int8Array, list: "int32Data" },
  u8: { array: Uint8Array, list: "int32Data" },
  bool: { array: Uint8Array, list: "int32Data" },
  f16: { array: Uint16Array, list: "int32Data" },
  bf16: { array: Uint16Array, list: "int32Data" },
} as const;

type SmallInts = Int32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

/** Elements of a tensor, row-major: halves as float32, bools as 0 and 1. */
export interface TensorValues {
  readonly shape: readonly number[];
  readonly type: TensorType;
  readonly data: Float32Array | Float64Array | BigInt64Array | SmallInts;
}

/** The element type of a number. @throws DataError for one that is not of DATA_TYPE; `owner` begins the message */
export function elementType(owner: string, dataType: number): TensorType {
  const found = Object.entries(DATA_TYPE).find(([, number]) => number === dataType);
  if (found !== undefined) return found[0] as TensorType;
  const name = OTHER_TYPES[dataType] ?? `number ${dataType}`;
  throw new DataError(`${owner}: its element type must be one of ${Object.keys(DATA_TYPE).join(", ")}, is ${name}`);
}

/**
 * The elements of a tensor, as a view of its payload where that is aligned.
 * @param owner begins messages; default `tensor "NAME"`
 * @throws DataError for other element types, payloads in other files, and ones that do not fit the shape
 */
export function tensorValues(tensor: TensorProto, owner = `tensor "${tensor.name}"`): TensorValues {
  const { dims: shape, rawData, dataLocation } = tensor;
  const type = elementType(owner, tensor.dataType);
  if (dataLocation === 1) throw new DataError(`${owner}: its payload is in another file, which must be read before`);
  const size = sizeOf(shape);
  if (shape.some((each) => each < 0) || !Number.isSafeInteger(size)) {
    throw new DataError(`${owner}: sizes must be whole numbers from 0 of a product within 2^53, are [${shape}]`);
  }
  const { array, list } = stored[type];
  const given = rawData?.length ? undefined : tensor[list];
  const bytes = given === undefined ? rawData!.length : given.length * array.BYTES_PER_ELEMENT;
  if (bytes !== size * array.BYTES_PER_ELEMENT) {
    const [needed, unit] = given === undefined ? [size * array.BYTES_PER_ELEMENT, "bytes"] : [size, "numbers"];
    throw new DataError(
      `${owner}: ${type} [${shape}] needs ${needed} ${unit}, its ${given === undefined ? "rawData" : list} has ${(given ?? rawData!).length}`,
    );
  }
  const data =
    given === undefined ? elementsOf(rawData!, array) : given instanceof array ? given : converted(given, array);
  return { shape, type, data: type === "f16" || type === "bf16" ? widened(data as Uint16Array, type) : data };
}

type ElementArray = TensorValues["data"];
type ArrayClass = (typeof stored)[TensorType]["array"];

function elementsOf({ buffer, byteOffset, length }: Uint8Array, array: ArrayClass): ElementArray {
  const width = array.BYTES_PER_ELEMENT;
  if (byteOffset % width === 0) return new array(buffer as ArrayBuffer, byteOffset, length / width);
  return new array(buffer.slice(byteOffset, byteOffset + length) as ArrayBuffer);
}

const converted = (given: ArrayLike<number | bigint>, array: ArrayClass): ElementArray =>
  (array as Int8ArrayConstructor).from(given as ArrayLike<number>);

/** Halves are as many numbers of float32, all of which it has. */
function widened(halves: Uint16Array, type: "f16" | "bf16"): Float32Array {
  if (type === "f16") return Float32Array.from(halves, halfToNumber);
  return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
}

/** Readers of protobuf take no message beyond. */
const MOST_BYTES = 2 ** 31 - 1;

/**
 * The bytes of a model. @throws UsageError for more than protobuf messages may have, 2 GiB
 * @example
 * encodeModel({ irVersion: 8, opsetImport: [{ domain: "", version: 17 }], graph: { name: "empty" } });
 */
export function encodeModel(model: Draft<ModelProto>): Uint8Array {
  const parts: Uint8Array[] = [];
  const length = append(parts, "ModelProto", model as Readonly<Record<string, unknown>>);
  if (length > MOST_BYTES) {
    throw new UsageError(`ONNX files have at most ${MOST_BYTES} bytes, this one would have ${length}`);
  }
  const bytes = new Uint8Array(length);
  let at = length;
  for (const part of parts) {
    at -= part.length;
    bytes.set(part, at);
  }
  return bytes;
}

/** Puts a message's parts on the list, the last first, so that lengths are known when their turn comes. */
function append(parts: Uint8Array[], name: MessageName, message: Readonly<Record<string, unknown>>): number {
  let length = 0;
  const put = (part: Uint8Array) => {
    parts.push(part);
    length += part.length;
  };
  const fields = [...classes[name].fields.values()].sort((a, b) => b.number - a.number);
  for (const field of fields) {
    const { number, kind, message: inner } = field;
    const value = message[field.name];
    if (value === undefined) continue;
    const tag = (wire: number) => put(varintOf(BigInt(number * 8 + wire)));
    const delimited = (bytes: Uint8Array) => {
      put(bytes);
      put(varintOf(BigInt(bytes.length)));
      tag(2);
    };
    if (kind !== undefined && (kind === "ints" || kind in arrays)) {
      if ((value as ArrayLike<unknown>).length > 0) delimited(packed(kind as NumberList | "ints", value as never));
      continue;
    }
    for (const each of field.list ? (value as readonly unknown[]).toReversed() : [value]) {
      if (inner !== undefined) {
        const size = append(parts, inner, each as Readonly<Record<string, unknown>>);
        length += size;
        put(varintOf(BigInt(size)));
        tag(2);
      } else if (kind === "int" || kind === "int64") {
        put(varintOf(BigInt(each as number | bigint)));
        tag(0);
      } else if (kind === "float") {
        put(new Uint8Array(Float32Array.of(each as number).buffer));
        tag(5);
      } else delimited(typeof each === "string" ? new TextEncoder().encode(each) : (each as Uint8Array));
    }
  }
  return length;
}

function packed(kind: NumberList | "ints", values: NumberArray | readonly number[]): Uint8Array {
  if (kind === "float32s" || kind === "float64s") return bytesOf(values as Float32Array | Float64Array);
  const bytes: number[] = [];
  for (const value of values) for (const byte of varintOf(BigInt(value))) bytes.push(byte);
  return Uint8Array.from(bytes);
}

/** Negative numbers take 10 bytes, as those of 64 bits. */
function varintOf(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let left = BigInt.asUintN(64, value);
  while (left > 127n) {
    bytes.push(Number(left & 127n) | 128);
    left >>= 7n;
  }
  bytes.push(Number(left));
  return Uint8Array.from(bytes);
}

/** Host memory is little-endian, as in every platform with WebGPU. */
export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
