// Weights of TensorFlow.js: a manifest in JSON, and their bytes in shards beside it.
//
//   [{ paths: [file, ...], weights: [{ name, shape, dtype, quantization? }, ...] }, ...]
//
// The shards of a group are one run of bytes, in which its weights follow each other without gaps; a weight may begin
// in one shard and end in the next. Numbers are little-endian. Quantised weights are q scale + min with whole q, or
// halves.
import { array, exactOptional, looseObject, nullish, optional, pipe, check as require } from "valibot";
import { anyNumber, count, parse, ruled, text } from "../../../io/json.js";
import { jsonText } from "../../../io/json-text.js";
import { halfToNumber, type StoredTensor } from "../../../io/safetensors.js";
import { type FileSource, nameOf, readBeside } from "../../../io/source.js";
import { DataError } from "../../../tensor/errors.js";
import { oneOf } from "../../../tensor/options.js";
import { sizeOf } from "../../../tensor/shape.js";

/** Bytes of an element. */
const BYTES = { float32: 4, int32: 4, bool: 1, float16: 2, uint16: 2, uint8: 1 } as const;
type Stored = keyof typeof BYTES;

const quantization = looseObject(
  {
    dtype: ruled<"uint8" | "uint16" | "float16">(oneOf("uint8", "uint16", "float16")),
    scale: optional(anyNumber, 1),
    min: optional(anyNumber, 0),
  },
  "an object",
);
const weight = looseObject(
  {
    name: text,
    shape: pipe(
      array(count, "a list of whole numbers"),
      require((sizes) => sizes.length <= 8, "a list of at most 8 numbers"),
    ),
    dtype: ruled<"float32" | "int32" | "bool">(oneOf("float32", "int32", "bool")),
    quantization: nullish(quantization),
    /** "optimizer" for what only a training needs. */
    group: exactOptional(text),
  },
  "an object",
);
const group = looseObject(
  { paths: array(text, "a list of files"), weights: array(weight, "a list of weights") },
  "an object",
);
const manifestSchema = array(group, "a list of groups");

interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: "float32" | "int32" | "bool";
  readonly quantization?:
    | { readonly dtype: "uint8" | "uint16" | "float16"; readonly scale: number; readonly min: number }
    | null
    | undefined;
  readonly group?: string;
}

const storedAs = ({ dtype, quantization }: Weight): Stored => quantization?.dtype ?? dtype;
const bytesOf = (weight: Weight): number => sizeOf(weight.shape) * BYTES[storedAs(weight)];

/**
 * The weights that a manifest lists, by name, as float32 or whole numbers; those of an optimizer are left out.
 * @throws DataError naming the file, for a manifest that is none, shards that are missing, too short or too long, and
 * names that occur twice
 */
export async function readManifest(source: FileSource, manifest: unknown): Promise<Map<string, StoredTensor>> {
  const path = nameOf(source);
  const groups = parse(manifestSchema, manifest, `${path}: its weightsManifest`);
  const tensors = new Map<string, StoredTensor>();
  for (const { paths, weights } of groups) {
    const total = weights.reduce((sum, weight) => sum + bytesOf(weight), 0);
    const bytes = await shards(source, paths, total);
    let offset = 0;
    for (const weight of weights) {
      const end = offset + bytesOf(weight);
      if (tensors.has(weight.name)) throw new DataError(`${path}: lists the weight "${weight.name}" twice`);
      // A copy: slice of a Buffer of Node is none.
      const own = new Uint8Array(bytes.subarray(offset, end));
      if (weight.group !== "optimizer") tensors.set(weight.name, decoded(weight, own));
      offset = end;
    }
  }
  return tensors;
}

/** The bytes of a group, which must be `total`. No memory is taken but for what files have. */
async function shards(source: FileSource, paths: readonly string[], total: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let have = 0;
  for (const path of paths) {
    const part = await readBeside("loadModel", source, path, { most: total - have });
    parts.push(part);
    have += part.length;
  }
  if (have !== total) {
    throw new DataError(
      `${nameOf(source)}: its weights need ${total} bytes, ${paths.join(", ") || "no file"} ${paths.length > 1 ? "have" : "has"} ${have}; ` +
        "copy the files again",
    );
  }
  const [only] = parts;
  if (parts.length === 1) return only!;
  const whole = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** A weight of bytes of its own, which are aligned. */
function decoded(weight: Weight, { buffer }: { readonly buffer: ArrayBuffer }): StoredTensor {
  const { shape, dtype, quantization } = weight;
  const whole = dtype !== "float32";
  if (quantization == null) {
    if (dtype === "float32") return { dtype: "F32", shape, data: new Float32Array(buffer) };
    if (dtype === "int32") return { dtype: "I32", shape, data: new Int32Array(buffer) };
    return { dtype: "U8", shape, data: new Uint8Array(buffer) };
  }
  const { scale, min } = quantization;
  // In double, as TensorFlow.js does.
  const values = (stored: ArrayLike<number>) => Float64Array.from(stored, (q) => q * scale + min);
  const numbers =
    quantization.dtype === "float16"
      ? Float64Array.from(new Uint16Array(buffer), halfToNumber)
      : values(quantization.dtype === "uint8" ? new Uint8Array(buffer) : new Uint16Array(buffer));
  return whole
    ? { dtype: "I32", shape, data: Int32Array.from(numbers, Math.round) }
    : { dtype: "F32", shape, data: Float32Array.from(numbers) };
}

/** A shard's size, as TensorFlow.js's own converter has it: browsers keep files of it. */
export const SHARD_BYTES = 4 * 2 ** 20;

/** A manifest of one group, and the shards by name. Weights of other types than float32 are not written. */
export function writeManifest(
  weights: readonly { readonly name: string; readonly shape: readonly number[]; readonly data: Float32Array }[],
  prefix: string,
) {
  const total = weights.reduce((sum, { data }) => sum + data.byteLength, 0);
  const whole = new Uint8Array(total);
  let offset = 0;
  for (const { data } of weights) {
    whole.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += data.byteLength;
  }
  const count = Math.max(1, Math.ceil(total / SHARD_BYTES));
  const files = Array.from({ length: count }, (_, i) => ({
    name: `${prefix}group1-shard${i + 1}of${count}.bin`,
    bytes: whole.subarray(i * SHARD_BYTES, (i + 1) * SHARD_BYTES),
  }));
  const listed = weights.map(({ name, shape }) => ({ name, shape, dtype: "float32" }));
  return { manifest: [{ paths: files.map(({ name }) => name), weights: listed }], files };
}

/** JSON text of a model. */
export const modelText = (owner: string, model: unknown): Uint8Array =>
  new TextEncoder().encode(jsonText(owner, model));
