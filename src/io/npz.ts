// NumPy's `.npz`: a zip archive of `.npy` arrays, each under its name with that ending, as numpy.savez and
// numpy.savez_compressed write it. An array without a name is "arr_0", "arr_1" and so on.
import { DataError, UsageError } from "../tensor/errors.js";
import { check, checkOptions, instanceOf, object, type Rules, string, text } from "../tensor/options.js";
import type { Shape } from "../tensor/shape.js";
import { decodeNpy, encodeNpy, type NpyArray, type NpyData, npyDataRule, npyRules } from "./npy.js";
import { type FileSource, nameOf, readAll, sourceRule, writeAll } from "./source.js";
import { encodeZip, zipData, zipEntries } from "./zip.js";

/** An array to be written, such as one that was read. */
export interface NpzEntry {
  readonly data: NpyData | Uint8ClampedArray;
  /** Default [data.length]. */
  readonly shape?: Shape;
  /** What the array was in a file; it is written as the numbers that `data` has. */
  readonly dtype?: string;
}

const ENDING = ".npy";
/** A zip archive without entries begins with the record of its end. */
const isArchive = (bytes: Uint8Array) => bytes[0] === 0x50 && bytes[1] === 0x4b;

/**
 * The arrays of a `.npz` file by their names, in the file's order, each as {@link decodeNpy} gives it.
 * @param source what error messages call the file
 * @throws DataError for what is no such file, damaged, or holds something else than arrays of numbers
 * @example
 * const arrays = await io.decodeNpz(new Uint8Array(await response.arrayBuffer()));
 * const x = tensor(device, arrays.get("x_test").data, { shape: arrays.get("x_test").shape });
 */
export async function decodeNpz(bytes: Uint8Array, source = "npz"): Promise<Map<string, NpyArray>> {
  check("decodeNpz", "bytes", bytes, instanceOf(Uint8Array, "a Uint8Array"));
  check("decodeNpz", "source", source, string);
  if (!isArchive(bytes)) {
    throw new DataError(`${source}: is no .npz file, which is a zip archive; save it with numpy.savez`);
  }
  const arrays = new Map<string, NpyArray>();
  for (const [path, entry] of zipEntries(bytes, source)) {
    if (!path.endsWith(ENDING)) {
      throw new DataError(`${source}: holds "${path.slice(0, 200)}", which is no array: those end in ${ENDING}`);
    }
    const data = await zipData(bytes, entry, source);
    arrays.set(path.slice(0, -ENDING.length), decodeNpy(data, `${source}: "${path.slice(0, 200)}"`));
  }
  return arrays;
}

const entryRules: Rules<NpzEntry> = { data: npyDataRule, ...npyRules, dtype: text };

/**
 * The bytes of a `.npz` file, not compressed, which `numpy.load` reads.
 * @param arrays by their names: typed arrays, or objects of elements and their shape
 * @throws UsageError for what is no typed array of numbers, and a shape of another size
 * @example
 * const bytes = io.encodeNpz({ images: { data: await x.data(), shape: x.shape }, labels: Int32Array.of(3, 1) });
 */
export function encodeNpz(arrays: Readonly<Record<string, NpyData | Uint8ClampedArray | NpzEntry>>): Uint8Array {
  check("encodeNpz", "arrays", arrays, object);
  return encodeZip(
    Object.entries(arrays).map(([name, given]) => {
      const where = `encodeNpz: arrays[${JSON.stringify(name)}]`;
      if (name === "" || name.endsWith("/")) throw new UsageError(`${where} must have a name that is no folder's`);
      const entry = ArrayBuffer.isView(given) ? { data: given } : given;
      const { data, shape } = checkOptions(where, entry as NpzEntry, entryRules, ["data"]);
      return [`${name}${ENDING}`, encodeNpy(data, shape === undefined ? {} : { shape })] as const;
    }),
  );
}

/**
 * As {@link decodeNpz}, of a path, or bytes.
 * @throws DataError also for a file that is missing or unreadable
 */
export async function readNpz(path: FileSource): Promise<Map<string, NpyArray>> {
  check("readNpz", "path", path, sourceRule);
  return decodeNpz(await readAll("readNpz", path), nameOf(path));
}

/** Writes {@link encodeNpz}, whole or not at all. @throws KilogradError `FILE_WRITE` */
export async function writeNpz(
  path: string,
  arrays: Readonly<Record<string, NpyData | Uint8ClampedArray | NpzEntry>>,
): Promise<void> {
  check("writeNpz", "path", path, text);
  await writeAll("writeNpz", path, encodeNpz(arrays));
}
