// HDF5 files as trees, read and written by a worker (h5-worker.js) that is ended when it takes too long or too much memory.
import { open, readFile, stat } from "node:fs/promises";
import { DataError } from "../tensor/errors.js";
import { writeFileAtomic } from "./files.js";
import { runGuarded } from "./guarded-worker.js";

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

const SIGNATURE = Uint8Array.of(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a);
/** Node reads no more in one piece. */
const MOST_FILE_BYTES = 2 ** 31 - 1;
const WORKER = new URL("./h5-worker.js", import.meta.url);
/** What the library needs for itself, several times over. */
const LEAST_MEMORY = 256 * 2 ** 20;

const memoryFor = (bytes: number): number => LEAST_MEMORY + 4 * bytes;
const secondsFor = (bytes: number): number => 30 + Math.ceil(bytes / 2 ** 22);

const isHdf5 = (bytes: Uint8Array): boolean => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** Whether a file begins as HDF5 files do; false, too, for what cannot be read, which whoever reads it says. */
export async function isHdf5File(path: string): Promise<boolean> {
  // Opening a pipe waits for somebody who writes.
  const info = await stat(path).catch(() => undefined);
  const file = info?.isFile() ? await open(path).catch(() => undefined) : undefined;
  if (file === undefined) return false;
  try {
    const start = new Uint8Array(SIGNATURE.length);
    await file.read(start);
    return isHdf5(start);
  } catch {
    return false;
  } finally {
    await file.close();
  }
}

/**
 * Reads a file.
 * @throws DataError for one that is missing, no HDF5, cut off or damaged, or that cannot be read in bounded time and memory
 */
export async function readH5(path: string, options: ReadH5Options = {}): Promise<H5Group> {
  const bytes = await bytesOf(path);
  const { length } = bytes;
  if (!isHdf5(bytes)) {
    throw new DataError(
      `${path}: is not HDF5, as Keras writes .h5: it must begin with 89 48 44 46, its ${length} bytes do not`,
    );
  }
  const { skip = [], deadlineSeconds = secondsFor(length), module = WORKER } = options;
  const mostBytes = memoryFor(length);
  const data = { task: "read", content: bytes, mostBytes, skip };
  try {
    return (await runGuarded({ module, data, deadlineSeconds, mostBytes, owner: path })) as H5Group;
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${path}: is HDF5, but cut off or damaged (${length} bytes): ${reason(cause)}`, { cause });
  }
}

async function bytesOf(path: string): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error("it is no regular file");
    if (info.size > MOST_FILE_BYTES) throw new Error(`it has ${info.size} bytes, at most ${MOST_FILE_BYTES} are read`);
    return await readFile(path);
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Writes a file, whole or not at all: it is built in memory first. Arrays must be of float32.
 * @throws KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeH5(path: string, content: H5Group): Promise<void> {
  const bytes = contentBytes(content);
  const [mostBytes, deadlineSeconds] = [memoryFor(bytes), secondsFor(bytes)];
  const data = { task: "write", content, mostBytes, skip: [] };
  const file = await runGuarded({ module: WORKER, data, deadlineSeconds, mostBytes, owner: path });
  await writeFileAtomic(path, file as Uint8Array);
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
