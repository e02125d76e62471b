// Safetensors files on disk, written and read tensor by tensor. The format itself is in safetensors.ts.
import { type FileHandle, open, stat } from "node:fs/promises";
import { DataError } from "../tensor/errors.js";
import { check, text } from "../tensor/options.js";
import { writeFileAtomic } from "./files.js";
import {
  addTensor,
  type DeferredTensor,
  headerLength,
  parseHeader,
  prefixBytes,
  type Safetensors,
  type StoredTensor,
  streamSafetensors,
} from "./safetensors.js";

/**
 * Writes a safetensors file atomically. At most one deferred tensor's data is held at a time.
 * @throws UsageError where data and shape differ, KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor | DeferredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, streamSafetensors(tensors, metadata));
}

/**
 * Reads a safetensors file, each tensor straight into its own array; foreign types as {@link decodeSafetensors} says.
 * @throws DataError for a file that is missing, unreadable, foreign, truncated or malformed
 */
export async function readSafetensors(path: string): Promise<Safetensors> {
  check("readSafetensors", "path", path, text);
  // Opening a pipe waits for somebody who writes, and nothing ends that.
  if (!(await readable(path, () => stat(path))).isFile()) {
    throw new DataError(`cannot read ${path}: it is no regular file`);
  }
  await using file = await readable(path, () => open(path));
  const { size } = await readable(path, () => file.stat());
  const start = await readAt(file, path, new Uint8Array(Math.min(size, prefixBytes + 1)), 0);
  const header = new Uint8Array(headerLength(start, size, path));
  await readAt(file, path, header, prefixBytes);
  const dataStart = prefixBytes + header.length;
  const { entries, metadata } = parseHeader(header, size - dataStart, path);
  const found: Safetensors = { tensors: new Map(), metadata, skipped: new Map() };
  for (const entry of entries) {
    const bytes = await readAt(file, path, new Uint8Array(entry.end - entry.begin), dataStart + entry.begin);
    addTensor(found, entry, bytes.buffer);
  }
  return found;
}

/** Bytes; Node refuses 2 GiB and more. */
const largestRead = 2 ** 30;

/** Fills `target` from byte `position`; the system may deliver in several pieces. */
async function readAt<T extends Uint8Array>(file: FileHandle, path: string, target: T, position: number): Promise<T> {
  for (let done = 0; done < target.length; ) {
    const length = Math.min(target.length - done, largestRead);
    const { bytesRead } = await readable(path, () => file.read(target, done, length, position + done));
    if (bytesRead === 0) throw new DataError(`${path}: became shorter while it was read; try again`);
    done += bytesRead;
  }
  return target;
}

async function readable<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new DataError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}
