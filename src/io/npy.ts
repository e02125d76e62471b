/**
 * NumPy's `.npy`, an array in a file:
 * - 0x93 "NUMPY", a version, the length of the header (2 bytes in version 1, 4 in 2 and 3, little-endian),
 * - the header, a dictionary of Python: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, padded by
 *   spaces,
 * - the elements, last axis fastest, or first where `fortran_order` is True.
 *
 * The header is matched against these words, never evaluated.
 */
import { DataError, UsageError } from "../tensor/errors.js";
import {
  check,
  checkOptions,
  instanceOf,
  integer,
  listOf,
  type Rule,
  type Rules,
  string,
  text,
} from "../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../tensor/shape.js";
import { halfToNumber } from "./safetensors.js";
import { type FileSource, nameOf, readAll, sourceRule, writeAll } from "./source.js";

/** What arrays of NumPy become. */
export type NpyData =
  | Float64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/** An array of NumPy. */
export interface NpyArray {
  /** Last axis fastest. */
  readonly data: NpyData;
  readonly shape: Shape;
  /** NumPy's word for the elements in the file, such as "<f4". */
  readonly dtype: string;
}

const MAGIC = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59);
/** Bytes before the header, of version 1 and of the others. */
const PREFIX = { 1: 10, 2: 12, 3: 12 } as const;
/** As NumPy: a longer header is an attack on who parses it. */
const MOST_HEADER = 10_000;
const MOST_AXES = 64;

const whole =
  (array: typeof Int32Array | typeof Uint32Array, wide: typeof BigInt64Array | typeof BigUint64Array) =>
  (buffer: ArrayBuffer): NpyData => {
    const values = Float64Array.from(new wide(buffer) as BigInt64Array, Number);
    if (!values.every(Number.isSafeInteger)) throw new RangeError("its values go beyond 2^53");
    const narrow = array.from(values);
    return narrow.every((value, i) => value === values[i]) ? (narrow as Int32Array<ArrayBuffer>) : values;
  };

/** By NumPy's letter and bytes of an element: what its bytes, little-endian, are here. */
const DECODERS: Readonly<Record<string, (buffer: ArrayBuffer) => NpyData>> = {
  f2: (buffer) => Float32Array.from(new Uint16Array(buffer), halfToNumber),
  f4: (buffer) => new Float32Array(buffer),
  f8: (buffer) => new Float64Array(buffer),
  i1: (buffer) => new Int8Array(buffer),
  i2: (buffer) => new Int16Array(buffer),
  i4: (buffer) => new Int32Array(buffer),
  i8: whole(Int32Array, BigInt64Array),
  u1: (buffer) => new Uint8Array(buffer),
  u2: (buffer) => new Uint16Array(buffer),
  u4: (buffer) => new Uint32Array(buffer),
  u8: whole(Uint32Array, BigUint64Array),
  b1: (buffer) => new Uint8Array(buffer),
};

/** NumPy's words for what is written. */
const WRITTEN = new Map<unknown, string>([
  [Float64Array, "<f8"],
  [Float32Array, "<f4"],
  ...([
    [Int32Array, "<i4"],
    [Uint32Array, "<u4"],
    [Int16Array, "<i2"],
    [Uint16Array, "<u2"],
  ] as const),
  [Int8Array, "|i1"],
  [Uint8Array, "|u1"],
  [Uint8ClampedArray, "|u1"],
]);

interface Header {
  readonly descr: string;
  readonly fortran: boolean;
  readonly shape: Shape;
}

/**
 * An array out of a `.npy` file's bytes. Elements become the array of their type, and
 * - float16 a Float32Array, bool a Uint8Array,
 * - int64 an Int32Array where all values fit, such as labels, else a Float64Array; uint64 likewise.
 *
 * Big-endian and Fortran's order are turned around.
 * @param source what error messages call the file
 * @throws DataError for what is no such file, cut short, of objects (which are pickles), texts, dates or complex
 * numbers, and for whole numbers beyond 2^53
 * @example
 * const { data, shape } = io.decodeNpy(new Uint8Array(await response.arrayBuffer()));
 * const x = tensor(device, data, { shape });
 */
export function decodeNpy(bytes: Uint8Array, source = "npy"): NpyArray {
  check("decodeNpy", "bytes", bytes, instanceOf(Uint8Array, "a Uint8Array"));
  check("decodeNpy", "source", source, string);
  if (!MAGIC.every((byte, i) => bytes[i] === byte) || bytes.length < PREFIX[1]) {
    throw new DataError(`${source}: is no .npy file, which begins with 93 4e 55 4d 50 59; save it with numpy.save`);
  }
  const version = bytes[6]!;
  if (version !== 1 && version !== 2 && version !== 3) {
    throw new DataError(`${source}: is of version ${version} of NumPy's format, versions 1 to 3 are read`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < PREFIX[version])
    throw new DataError(`${source}: is cut short within its first ${PREFIX[version]} bytes`);
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const start = PREFIX[version] + length;
  if (length > MOST_HEADER)
    throw new DataError(`${source}: announces a header of ${length} bytes, at most ${MOST_HEADER} are read`);
  if (start > bytes.length)
    throw new DataError(`${source}: is cut short: its header has ${length} bytes; copy the file again`);
  const { descr, fortran, shape } = parseHeader(
    new TextDecoder().decode(bytes.subarray(PREFIX[version], start)),
    source,
  );
  const [, order, kind, width] = /^([<>|=])([a-zA-Z])(\d*)$/.exec(descr) ?? [];
  const decode = DECODERS[`${kind}${width}`];
  if (decode === undefined) {
    const what =
      kind === "O" ? "holds objects of Python, which are pickles and may run any program" : `holds elements "${descr}"`;
    throw new DataError(`${source}: ${what}; numbers of ${Object.keys(DECODERS).join(", ")} are read`);
  }
  const size = Number(width);
  const needed = sizeOf(shape) * size;
  const given = bytes.length - start;
  if (needed !== given) {
    throw new DataError(
      `${source}: an array ${formatShape(shape)} of ${descr} has ${needed} bytes, ${given} are there; ` +
        (needed > given ? "copy the file again" : "one array is read"),
    );
  }
  // A copy, and aligned: slice of a Buffer of Node is none.
  const elements = new Uint8Array(bytes.subarray(start));
  if (order === ">" && size > 1) swap(elements, size);
  try {
    const data = decode(elements.buffer);
    return { data: fortran && shape.length > 1 ? transposed(data, shape) : data, shape, dtype: descr };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new DataError(`${source}: cannot be read as numbers: ${error.message}`, { cause: error });
  }
}

/** The three entries, in any order. */
function parseHeader(header: string, source: string): Header {
  const damaged = () =>
    new DataError(
      `${source}: its header must be a dictionary of descr, fortran_order and shape, is ${JSON.stringify(header.slice(0, 120))}`,
    );
  const inside = /^\s*\{(.*)\}\s*$/s.exec(header)?.[1];
  if (inside === undefined) throw damaged();
  const entry =
    /\s*(['"])(descr|fortran_order|shape)\1\s*:\s*(\[.*\]|\([\d\sL,]*\)|True|False|'[^']*'|"[^"]*")\s*(?:,|$)\s*/sy;
  const found = new Map<string, string>();
  while (entry.lastIndex < inside.length) {
    const match = entry.exec(inside);
    if (match === null || found.has(match[2]!)) throw damaged();
    found.set(match[2]!, match[3]!);
  }
  const [descr, fortran, shape] = ["descr", "fortran_order", "shape"].map((name) => found.get(name));
  if (descr?.startsWith("[")) {
    throw new DataError(`${source}: holds records of several fields; save each field as an array of its own`);
  }
  if (!/^['"]/.test(descr ?? "") || !/^(True|False)$/.test(fortran ?? "") || !shape?.startsWith("(")) throw damaged();
  const sizes = shape
    .slice(1, -1)
    .split(",")
    .map((size) => size.trim().replace(/L$/, ""));
  if (sizes.at(-1) === "") sizes.pop(); // (3,) and ()
  const numbers = sizes.map((size) => (/^\d+$/.test(size) ? Number(size) : Number.NaN));
  if (numbers.length > MOST_AXES || !numbers.every(Number.isSafeInteger)) throw damaged();
  return { descr: descr!.slice(1, -1), fortran: fortran === "True", shape: numbers };
}

/** Turns the bytes of each element around. */
function swap(bytes: Uint8Array, size: number): void {
  for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
}

/** First axis fastest, as last axis fastest. */
function transposed(data: NpyData, shape: Shape): NpyData {
  const result = data.slice();
  const strides = shape.map((_, axis) => sizeOf(shape.slice(0, axis)));
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < result.length; to++) {
    result[to] = data[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      from += strides[axis]!;
      if (index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return result;
}

export interface NpyOptions {
  /** Default [data.length]. */
  readonly shape?: Shape;
}

export const npyDataRule: Rule = {
  expected: "a typed array of numbers",
  accepts: (value) => WRITTEN.has(Object(value).constructor),
};
export const npyRules: Rules<NpyOptions> = { shape: listOf(integer({ from: 0 })) };

/**
 * The bytes of a `.npy` file, which `numpy.load` reads.
 * @throws UsageError for what is no typed array of numbers, and a shape of another size
 * @example
 * const bytes = io.encodeNpy(await y.data(), { shape: y.shape });
 */
export function encodeNpy(data: NpyData | Uint8ClampedArray, options: NpyOptions = {}): Uint8Array {
  check("encodeNpy", "data", data, npyDataRule);
  const { shape = [data.length] } = checkOptions("encodeNpy", options, npyRules);
  if (sizeOf(shape) !== data.length) {
    throw new UsageError(`encodeNpy: shape must have ${data.length} elements, got ${formatShape(shape)}`);
  }
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const words = `{'descr': '${WRITTEN.get(data.constructor)}', 'fortran_order': False, 'shape': (${sizes}), }`;
  // The elements begin at a multiple of 64; the header ends with a line break.
  const length = Math.ceil((PREFIX[1] + words.length + 1) / 64) * 64 - PREFIX[1];
  const bytes = new Uint8Array(PREFIX[1] + length + data.byteLength).fill(0x20, PREFIX[1], PREFIX[1] + length);
  bytes.set(MAGIC);
  bytes.set([1, 0, length & 255, length >> 8], MAGIC.length);
  bytes.set(new TextEncoder().encode(words), PREFIX[1]);
  bytes[PREFIX[1] + length - 1] = 0x0a;
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), PREFIX[1] + length);
  return bytes;
}

/**
 * As {@link decodeNpy}, of a path, or bytes.
 * @throws DataError also for a file that is missing or unreadable
 */
export async function readNpy(path: FileSource): Promise<NpyArray> {
  check("readNpy", "path", path, sourceRule);
  return decodeNpy(await readAll("readNpy", path), nameOf(path));
}

/** Writes {@link encodeNpy}, whole or not at all. @throws KilogradError `FILE_WRITE` */
export async function writeNpy(
  path: string,
  data: NpyData | Uint8ClampedArray,
  options: NpyOptions = {},
): Promise<void> {
  check("writeNpy", "path", path, text);
  await writeAll("writeNpy", path, encodeNpy(data, options));
}
