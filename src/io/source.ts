// Where the content of a file comes from: a path, or bytes that somebody has already.
import { type FileContent, findFiles } from "../runtime/runtime.js";
import { DataError } from "../tensor/errors.js";
import { anyOf, instanceOf, text } from "../tensor/options.js";

/** A path, which needs Node, Bun or Deno, or the bytes of a file. */
export type FileSource = string | Uint8Array;

export const sourceRule = anyOf(text, instanceOf(Uint8Array, "a Uint8Array"));

/** What messages call it. */
export const nameOf = (source: FileSource): string => (typeof source === "string" ? source : "the bytes");

/** The first bytes, fewer where there are fewer; none of what cannot be read, which whoever reads it says. */
export async function headOf(source: FileSource, length: number): Promise<Uint8Array> {
  if (typeof source !== "string") return source.subarray(0, length);
  const files = await findFiles("headOf");
  return files
    .read(source, (file) => file.read(new Uint8Array(Math.min(file.size, length)), 0))
    .catch((error: unknown) => {
      if (error instanceof DataError) return new Uint8Array(0);
      throw error;
    });
}

/**
 * All bytes of a file of at most `most`. `owner` begins messages.
 * @throws DataError for a file that is missing, unreadable, no regular file or larger
 */
export async function readAll(owner: string, source: FileSource, most = Number.POSITIVE_INFINITY): Promise<Uint8Array> {
  if (typeof source !== "string") return source;
  const files = await findFiles(owner);
  return files.read(source, async (file) => {
    if (file.size <= most) return file.read(new Uint8Array(file.size), 0);
    throw new DataError(`cannot read ${source}: it has ${file.size} bytes, at most ${most} are read`);
  });
}

/** Writes a file whole or not at all. @throws KilogradError `FILE_WRITE`; an existing file is then as it was */
export async function writeAll(owner: string, path: string, content: FileContent): Promise<void> {
  const files = await findFiles(owner);
  await files.write(path, content);
}
