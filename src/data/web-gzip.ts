// Uncompressing gzip up to a limit with the web's streams, which are everywhere: a few kilobytes may announce, or
// become, more than memory holds.
import { DataError } from "../tensor/errors.js";

/** How many bytes uncompressed content may have. */
export interface SizeLimit {
  /** No more than these, whatever the content says. */
  readonly most: number;
  /**
   * What the content's own header says, from its first bytes (as many as a piece has). @throws what ends the reading
   */
  readonly ofHead?: (head: Uint8Array) => number;
}

/** Content that goes on after its limit. */
export class BeyondLimit extends Error {
  constructor(readonly limit: number) {
    super(`it holds more than the ${limit.toLocaleString("en-US")} bytes that it may have`);
  }
}

/** By its magic bytes. */
export const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;

/**
 * Uncompresses gzip, and gives anything else back as it is.
 * @param owner begins messages
 * @throws DataError for what is damaged, or holds more than `most` bytes
 */
export async function gunzip(bytes: Uint8Array, owner: string, most: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const add = (piece: Uint8Array) => {
    length += piece.length;
    if (length > most) throw new BeyondLimit(most);
    pieces.push(piece);
  };
  try {
    if (!isGzip(bytes)) add(bytes);
    else {
      const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("gzip"));
      const reader = stream.getReader();
      try {
        for (let next = await reader.read(); !next.done; next = await reader.read()) add(next.value);
      } finally {
        await reader.cancel().catch(() => {}); // It may have failed already, which is what is reported.
      }
    }
  } catch (cause) {
    if (cause instanceof BeyondLimit) throw new DataError(`${owner}: ${cause.message}`, { cause });
    throw new DataError(`${owner}: is damaged gzip (${(cause as Error).message}) of ${bytes.length} bytes`, { cause });
  }
  if (pieces.length === 1) return pieces[0]!;
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
