// HDF5 files as trees, read and written by a worker (h5-worker.js) that is ended when it takes too long or too much
// memory.
import { findRuntime, type Hdf5Task } from "../runtime/runtime.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { isHdf5 } from "./signatures.js";
import { type FileSource, nameOf, readAll, writeAll } from "./source.js";

/** An array of a file: its elements as little-endian bytes. */
export interface H5Array {
  /** "other": no numbers; then `bytes` are empty. */
  readonly kind: string;
  /** Of an element. */
  readonly bits: number;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A group with what is directly in it, by name. */
export interface H5Group {
  /** Attributes that are texts, or lists of them. */
  readonly attributes: Record<string, string | string[]>;
  readonly groups: Record<string, H5Group>;
  readonly arrays: Record<string, H5Array>;
}

export interface ReadH5Options {
  /** Groups of the root that are not read. */
  readonly skip?: readonly string[];
  /** Default 30 and one more for each 4 MiB. */
  readonly deadlineSeconds?: number;
  /** What runs in the worker; for tests of the guard. */
  readonly module?: URL;
}

/** Node reads no more in one piece. */
const MOST_FILE_BYTES = 2 ** 31 - 1;
/** What the library needs for itself, several times over. */
const LEAST_MEMORY = 256 * 2 ** 20;

const memoryFor = (bytes: number): number => LEAST_MEMORY + 4 * bytes;
const secondsFor = (bytes: number): number => 30 + Math.ceil(bytes / 2 ** 22);

/** @throws UsageError where nothing guards the library */
async function guarded(task: Hdf5Task): Promise<unknown> {
  const { hdf5 } = await findRuntime();
  if (hdf5 !== undefined) return hdf5(task);
  throw new UsageError(
    `${task.owner}: HDF5 needs workers that can be ended, which Node, Bun, Deno and browsers have; use safetensors here`,
  );
}

/**
 * Reads a file, or its bytes.
 * @throws DataError for one that is missing, no HDF5, cut off or damaged, or that cannot be read in bounded time and
 * memory
 */
export async function readH5(path: FileSource, options: ReadH5Options = {}): Promise<H5Group> {
  return decodeH5(await readAll("readH5", path, MOST_FILE_BYTES), nameOf(path), options);
}

/**
 * Reads the bytes of a file.
 * @param owner begins messages: the file, or what the bytes are
 * @throws DataError for what is no HDF5, cut off or damaged, or cannot be read in bounded time and memory
 */
export async function decodeH5(bytes: Uint8Array, owner: string, options: ReadH5Options = {}): Promise<H5Group> {
  const { length } = bytes;
  if (!isHdf5(bytes)) {
    throw new DataError(
      `${owner}: is not HDF5, as Keras writes .h5: it must begin with 89 48 44 46, its ${length} bytes do not`,
    );
  }
  const { skip = [], deadlineSeconds = secondsFor(length), module } = options;
  const mostBytes = memoryFor(length);
  const data = { task: "read", content: bytes, mostBytes, skip };
  try {
    return (await guarded({ module, data, deadlineSeconds, mostBytes, owner })) as H5Group;
  } catch (cause) {
    if (cause instanceof DataError || cause instanceof UsageError) throw cause;
    throw new DataError(`${owner}: is HDF5, but cut off or damaged (${length} bytes): ${reason(cause)}`, { cause });
  }
}

/**
 * Writes a file, whole or not at all: it is built in memory first. Arrays must be of float32.
 * @throws KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeH5(path: string, content: H5Group): Promise<void> {
  await writeAll("writeH5", path, await encodeH5(content, path));
}

/**
 * The bytes of a file. Arrays must be of float32.
 * @param owner begins messages
 */
export async function encodeH5(content: H5Group, owner: string): Promise<Uint8Array> {
  const bytes = contentBytes(content);
  const [mostBytes, deadlineSeconds] = [memoryFor(bytes), secondsFor(bytes)];
  const data = { task: "write", content, mostBytes, skip: [] };
  return (await guarded({ data, deadlineSeconds, mostBytes, owner })) as Uint8Array;
}

function contentBytes({ groups, arrays }: H5Group): number {
  const own = Object.values(arrays).reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  return Object.values(groups).reduce((sum, group) => sum + contentBytes(group), own);
}

/** The innermost message of an HDF5 error stack: "  #006: FILE line 577 in FUNCTION(): MESSAGE". */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return [...message.matchAll(/in \w+\(\): (.*)/g)].at(-1)?.[1] ?? message.split("\n")[0]!;
}
