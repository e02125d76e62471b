// Where the content of a file comes from: a path, or bytes that somebody has already.
import { anyOf, instanceOf, text } from "../tensor/options.js";

/** A path, which needs Node, Bun or Deno, or the bytes of a file. */
export type FileSource = string | Uint8Array;

export const sourceRule = anyOf(text, instanceOf(Uint8Array, "a Uint8Array"));

/** What messages call it. */
export const nameOf = (source: FileSource): string => (typeof source === "string" ? source : "the bytes");
