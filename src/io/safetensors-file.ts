// Safetensors files on disk, written and read tensor by tensor. The format itself is in safetensors.ts.
import { findFiles } from "../runtime/runtime.js";
import { check, text } from "../tensor/options.js";
import {
  addTensor,
  type DeferredTensor,
  decodeSafetensors,
  headerLength,
  parseHeader,
  prefixBytes,
  type Safetensors,
  type StoredTensor,
  streamSafetensors,
} from "./safetensors.js";
import { bytesIn, type FileSource, nameOf, sourceRule, writeAll } from "./source.js";

/**
 * Writes a safetensors file atomically. At most one deferred tensor's data is held at a time.
 * @throws UsageError where data and shape differ, KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor | DeferredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  check("writeSafetensors", "path", path, text);
  await writeAll("writeSafetensors", path, streamSafetensors(tensors, metadata));
}

/**
 * Reads a safetensors file, or its bytes, each tensor straight into its own array; foreign types as {@link
 * decodeSafetensors} says.
 * @throws DataError for a file that is missing, unreadable, foreign, truncated or malformed
 */
export async function readSafetensors(path: FileSource): Promise<Safetensors> {
  check("readSafetensors", "path", path, sourceRule);
  if (typeof path !== "string") return decodeSafetensors(bytesIn(path), nameOf(path));
  const files = await findFiles("readSafetensors");
  return files.read(path, async (file) => {
    const { size } = file;
    const start = await file.read(new Uint8Array(Math.min(size, prefixBytes + 1)), 0);
    const header = new Uint8Array(headerLength(start, size, path));
    await file.read(header, prefixBytes);
    const dataStart = prefixBytes + header.length;
    const { entries, metadata } = parseHeader(header, size - dataStart, path);
    const found: Safetensors = { tensors: new Map(), metadata, skipped: new Map() };
    for (const entry of entries) {
      const bytes = await file.read(new Uint8Array(entry.end - entry.begin), dataStart + entry.begin);
      addTensor(found, entry, bytes.buffer);
    }
    return found;
  });
}
