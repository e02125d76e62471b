// Where the content of a file comes from: a path, or bytes that somebody has already.
import { findFiles } from "../runtime/runtime.js";
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
