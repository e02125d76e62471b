/**
 * The safetensors format in memory:
 * - a little-endian u64 header length,
 * - a JSON header `{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}`,
 * - then the tensors' bytes, row-major, little-endian, without holes or overlaps.
 *
 * Runs in Node and in a browser; files on disk are the matter of safetensors-file.ts. Host memory is taken as
 * little-endian, as is every platform with WebGPU.
 */
import { DataError, UsageError } from "../tensor/errors.js";
import {
  anything,
  check,
  checkOptions,
  describe,
  instanceOf,
  integer,
  listOf,
  oneOf,
  type Rule,
  type Rules,
  string,
} from "../tensor/options.js";

const arrayTypes = { F64: Float64Array, F32: Float32Array, I32: Int32Array, U32: Uint32Array, U8: Uint8Array } as const;

/**
 * Bits of an element of every type that the format knows. Types that Kilograd does not store are converted, or skipped.
 */
const bitsOf: Readonly<Record<string, number>> = {
  ...{ F64: 64, F32: 32, F16: 16, BF16: 16, C64: 64 },
  ...{ I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8 },
  ...{ F8_E4M3: 8, F8_E5M2: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F8_E8M0: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
};

/** The element types that Kilograd stores. */
export type StoredDtype = "F64" | "F32" | "I32" | "U32" | "U8";
/** What holds their elements. */
export interface StoredArrays {
  readonly F64: Float64Array;
  readonly F32: Float32Array;
  readonly I32: Int32Array;
  readonly U32: Uint32Array;
  readonly U8: Uint8Array;
}

/** One tensor as it lies in a file. `data` has as many elements as `shape` says, row-major. */
export type StoredTensor = {
  [D in StoredDtype]: { readonly dtype: D; readonly shape: readonly number[]; readonly data: StoredArrays[D] };
}[StoredDtype];

/** A tensor to be stored whose data is fetched only when its turn comes, e.g. from a GPU buffer. */
export type DeferredTensor = {
  [D in StoredDtype]: {
    readonly dtype: D;
    readonly shape: readonly number[];
    readonly data: () => Promise<StoredArrays[D]>;
  };
}[StoredDtype];

/** Everything in a file: tensors by name, and free text by key. */
export interface Safetensors {
  readonly tensors: Map<string, StoredTensor>;
  readonly metadata: Record<string, string>;
  /** Tensors whose type Kilograd has no numbers for, by name: why each was left out. Empty for files that it wrote. */
  readonly skipped: Map<string, string>;
}

/** Where one tensor lies; `begin` and `end` are bytes from the end of the header. */
export interface TensorEntry {
  readonly name: string;
  /** As in the file, which may be a type that Kilograd does not store. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** The bytes in front of the header, which hold its length. */
export const prefixBytes = 8;
/** The format's own cap. */
const headerLimit = 100_000_000;

/**
 * The file's bytes.
 * @throws UsageError where a tensor's data does not fit its shape or a name is not allowed
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { header, ordered } = layOut(tensors, metadata);
  const pieces = [header, ...ordered.map(([name, tensor]) => bytesOf(name, tensor, tensor.data))];
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

/** As {@link encodeSafetensors}, one tensor at a time: the file never lies in memory as a whole. */
export async function* streamSafetensors(
  tensors: ReadonlyMap<string, StoredTensor | DeferredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const { header, ordered } = layOut(tensors, metadata);
  yield header;
  for (const [name, tensor] of ordered) {
    yield bytesOf(name, tensor, typeof tensor.data === "function" ? await tensor.data() : tensor.data);
  }
}

/**
 * The tensors of a file, each copied into an array of its own. Types that Kilograd does not store are converted where
 * that loses nothing: F16 and BF16 to F32, I16 and I8 to I32, U16 to U32, BOOL to U8, I64 and U64 to F64 where all
 * values are within 2^53. Others, such as F8_E4M3, are in `skipped`, so that one of them does not keep the rest from
 * being read.
 * @param source what error messages call the file
 * @throws DataError for everything that is not a complete, well-formed file
 */
export function decodeSafetensors(bytes: Uint8Array, source = "safetensors"): Safetensors {
  check("decodeSafetensors", "bytes", bytes, instanceOf(Uint8Array, "a Uint8Array"));
  check("decodeSafetensors", "source", source, string);
  const dataStart = prefixBytes + headerLength(bytes, bytes.length, source);
  const header = bytes.subarray(prefixBytes, dataStart);
  const { entries, metadata } = parseHeader(header, bytes.length - dataStart, source);
  const found: Safetensors = { tensors: new Map(), metadata, skipped: new Map() };
  for (const entry of entries) {
    addTensor(found, entry, Uint8Array.from(bytes.subarray(dataStart + entry.begin, dataStart + entry.end)).buffer);
  }
  return found;
}

const converted: Readonly<Record<string, (buffer: ArrayBuffer) => Pick<StoredTensor, "dtype" | "data">>> = {
  F16: (buffer) => ({ dtype: "F32", data: Float32Array.from(new Uint16Array(buffer), halfToNumber) }),
  BF16: (buffer) => {
    const data = new Float32Array(buffer.byteLength / 2);
    const bits = new Uint32Array(data.buffer);
    for (const [i, half] of new Uint16Array(buffer).entries()) bits[i] = half << 16;
    return { dtype: "F32", data };
  },
  I16: (buffer) => ({ dtype: "I32", data: Int32Array.from(new Int16Array(buffer)) }),
  I8: (buffer) => ({ dtype: "I32", data: Int32Array.from(new Int8Array(buffer)) }),
  U16: (buffer) => ({ dtype: "U32", data: Uint32Array.from(new Uint16Array(buffer)) }),
  BOOL: (buffer) => ({ dtype: "U8", data: new Uint8Array(buffer) }),
  I64: (buffer) => ({ dtype: "F64", data: Float64Array.from(new BigInt64Array(buffer), Number) }),
  U64: (buffer) => ({ dtype: "F64", data: Float64Array.from(new BigUint64Array(buffer), Number) }),
};

/** An IEEE 754 half, of 5 bits of exponent and 10 of fraction, as a number. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Adds an entry's tensor, which takes over its bytes, to what was found, or the reason why it is skipped. */
export function addTensor(
  { tensors, skipped }: Safetensors,
  { name, dtype, shape }: TensorEntry,
  bytes: ArrayBuffer,
): void {
  if (isStored(dtype)) {
    tensors.set(name, { dtype, shape, data: new arrayTypes[dtype](bytes) } as StoredTensor);
    return;
  }
  const convert = Object.hasOwn(converted, dtype) ? converted[dtype] : undefined;
  if (convert === undefined) {
    skipped.set(name, `elements of type ${dtype} are not read`);
    return;
  }
  const tensor = { ...convert(bytes), shape } as StoredTensor;
  if (dtype.endsWith("64") && !tensor.data.every(Number.isSafeInteger))
    skipped.set(name, `its ${dtype} values go beyond 2^53`);
  else tensors.set(name, tensor);
}

const isStored = (dtype: string): dtype is StoredDtype => Object.hasOwn(arrayTypes, dtype);

/**
 * The length of the JSON header, checked.
 * @param start the first bytes of the file, {@link prefixBytes} + 1 or more where it has them
 * @throws DataError
 */
export function headerLength(start: Uint8Array, fileBytes: number, source: string): number {
  if (fileBytes < prefixBytes + 2) {
    throw new DataError(
      `${source}: a safetensors file has at least ${prefixBytes + 2} bytes, this one has ${fileBytes}`,
    );
  }
  const length = Number(new DataView(start.buffer, start.byteOffset).getBigUint64(0, true));
  if (start[prefixBytes] !== 0x7b) {
    throw new DataError(`${source}: is not a safetensors file${otherFormat(start)}; name one that \`train\` wrote`);
  }
  if (length > headerLimit) {
    throw new DataError(`${source}: a header has at most ${headerLimit} bytes, this one claims ${length}`);
  }
  if (length > fileBytes - prefixBytes) {
    throw new DataError(
      `${source}: is cut short: its header claims ${length} bytes, ${fileBytes - prefixBytes} follow; copy the file again`,
    );
  }
  return length;
}

function otherFormat(start: Uint8Array): string {
  const first = String.fromCharCode(...start.subarray(0, 4));
  if (first === "\x89HDF") return " but HDF5, as Keras writes .h5";
  if (first === "PK\x03\x04") return " but a ZIP archive, as Keras writes .keras and PyTorch .pt";
  return "";
}

/**
 * Reads and checks a header: entries in its order, which tile the `dataBytes` bytes behind it exactly.
 * @throws DataError
 */
export function parseHeader(
  header: Uint8Array,
  dataBytes: number,
  source: string,
): { entries: TensorEntry[]; metadata: Record<string, string> } {
  let fields: Record<string, unknown>;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
    fields = JSON.parse(text);
    const twice = duplicateKey(text);
    if (twice !== undefined) throw new Error(`the name ${JSON.stringify(twice)} occurs twice`);
  } catch (error) {
    throw new DataError(`${source}: the header is damaged: ${(error as Error).message}`, { cause: error });
  }
  const { __metadata__, ...described } = fields;
  const metadata = __metadata__ ?? {}; // Some writers put null.
  if (!isRecord(metadata) || Object.values(metadata).some((text) => typeof text !== "string")) {
    throw new DataError(`${source}: __metadata__ must map texts to texts`);
  }
  const entries = Object.entries(described).map(([name, description]) => parseEntry(name, description, source));
  let end = 0;
  for (const entry of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== end) {
      const fault = entry.begin > end ? "a hole" : "an overlap";
      throw new DataError(`${source}: "${entry.name}" must begin at byte ${end}, begins at ${entry.begin}: ${fault}`);
    }
    end = entry.end;
  }
  if (end > dataBytes) {
    throw new DataError(
      `${source}: is cut short: its tensors need ${end} bytes, ${dataBytes} are there; copy the file again`,
    );
  }
  if (end < dataBytes) throw new DataError(`${source}: ${dataBytes - end} bytes follow that belong to no tensor`);
  return { entries, metadata: metadata as Record<string, string> };
}

function parseEntry(name: string, description: unknown, source: string): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = isRecord(description) ? description : {};
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) >= 0;
  const require = (holds: boolean, requirement: string, given: unknown) => {
    if (!holds) throw new DataError(`${source}: "${name}" must have ${requirement}, has ${shown(given)}`);
  };
  require(typeof dtype === "string" && Object.hasOwn(bitsOf, dtype), `dtype ${knownDtypes}`, dtype);
  require(Array.isArray(shape) && shape.every(isSize), "a shape of whole numbers", shape);
  require(Array.isArray(offsets) && offsets.length === 2 && offsets.every(isSize), "two data_offsets", offsets);
  const [begin, end] = offsets as [number, number];
  const entry: TensorEntry = { name, dtype: dtype as string, shape: shape as number[], begin, end };
  const bytes = byteCount(entry);
  require(end - begin === bytes, `data_offsets ${bytes} bytes apart for ${dtype} of shape [${shape}]`, offsets);
  return entry;
}

const knownDtypes = Object.keys(bitsOf).join(", ");
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
/** A value from a header in few words: a damaged one may be megabytes, or nested thousands deep. */
const shown = (value: unknown): string =>
  Array.isArray(value)
    ? `[${value.slice(0, 8).map((part) => (typeof part === "object" ? "..." : part))}]`
    : typeof value === "object"
      ? "an object"
      : String(value).slice(0, 40);
const byteCount = ({ dtype, shape }: { dtype: string; shape: readonly number[] }) =>
  (shape.reduce((product, size) => product * size, 1) * bitsOf[dtype]!) / 8;

/** A key that some object of valid JSON `text` has twice, which JSON.parse takes in silence. */
function duplicateKey(text: string): string | undefined {
  const keysOfOpenObjects: Set<string>[] = [];
  const colon = /\s*:/y;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "{") keysOfOpenObjects.push(new Set());
    else if (text[at] === "}") keysOfOpenObjects.pop();
    else if (text[at] === '"') {
      const begin = at++;
      while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
      colon.lastIndex = at + 1;
      if (!colon.test(text)) continue;
      const key: string = JSON.parse(text.slice(begin, at + 1));
      const keys = keysOfOpenObjects.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

const texts: Rule = {
  expected: "an object of strings",
  accepts: (value) => isRecord(value) && Object.values(value).every((text) => typeof text === "string"),
};
const tensorRules: Rules<StoredTensor | DeferredTensor> = {
  dtype: oneOf(...(Object.keys(arrayTypes) as StoredDtype[])),
  shape: listOf(integer({ from: 0 })),
  data: anything,
};

/** Header and order of the tensors: wide elements first, so that all are aligned to their element size. */
function layOut<T extends StoredTensor | DeferredTensor>(
  tensors: ReadonlyMap<string, T>,
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array; ordered: [string, T][] } {
  check("safetensors", "tensors", tensors, instanceOf(Map, "a Map of tensors by name"));
  check("safetensors", "metadata", metadata, texts);
  for (const [name, tensor] of tensors) {
    check("safetensors", "the name of a tensor", name, string);
    checkOptions(`safetensors: "${name}"`, tensor, tensorRules, ["dtype", "shape", "data"]);
  }
  const ordered = [...tensors].sort(
    ([, a], [, b]) => arrayTypes[b.dtype].BYTES_PER_ELEMENT - arrayTypes[a.dtype].BYTES_PER_ELEMENT,
  );
  let dataBytes = 0;
  const described: [string, unknown][] = ordered.map(([name, tensor]) => {
    if (name === "__metadata__") throw new UsageError(`safetensors: "__metadata__" cannot be the name of a tensor`);
    const { dtype, shape } = tensor;
    const begin = dataBytes;
    dataBytes += byteCount(tensor);
    return [name, { dtype, shape, data_offsets: [begin, dataBytes] }];
  });
  const text = new TextEncoder().encode(
    JSON.stringify(Object.fromEntries([["__metadata__", metadata] as [string, unknown], ...described])),
  );
  const length = Math.ceil(text.length / 8) * 8;
  const header = new Uint8Array(prefixBytes + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, prefixBytes);
  return { header, ordered };
}

function bytesOf(name: string, tensor: StoredTensor | DeferredTensor, data: StoredTensor["data"]): Uint8Array {
  const type = arrayTypes[tensor.dtype];
  if (!(data instanceof type) || data.byteLength !== byteCount(tensor)) {
    throw new UsageError(
      `safetensors: "${name}" is ${tensor.dtype} of shape [${tensor.shape}] and needs a ${type.name} of ` +
        `${byteCount(tensor) / type.BYTES_PER_ELEMENT} elements, given ${describe(data)}${ArrayBuffer.isView(data) ? ` of ${data.length}` : ""}`,
    );
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
