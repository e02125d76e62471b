// Uncompressing gzip up to a limit: a few kilobytes may announce, or become, more than memory holds.

import { createGunzip } from "node:zlib";

/** How many bytes uncompressed content may have. */
export interface SizeLimit {
  /** No more than these, whatever the content says. */
  readonly most: number;
  /** What the content's own header says, from its first bytes (as many as a piece has). @throws what ends the reading */
  readonly ofHead?: (head: Uint8Array) => number;
}

/** Content that goes on after its limit. */
export class BeyondLimit extends Error {
  constructor(readonly limit: number) {
    super(`it holds more than the ${limit.toLocaleString("en-US")} bytes that it may have`);
  }
}

const PIECE = 256 * 1024;

/**
 * Uncompresses gzip, told by its two magic bytes, and stops at the limit; anything else comes back as it is.
 * @throws BeyondLimit, or zlib's error for what is damaged
 */
export async function inflate(bytes: Uint8Array, { most, ofHead }: SizeLimit): Promise<Uint8Array> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) {
    if (bytes.length > most) throw new BeyondLimit(most);
    return bytes;
  }
  const gunzip = createGunzip({ chunkSize: PIECE });
  gunzip.end(bytes);
  const pieces: Uint8Array[] = [];
  let length = 0;
  let limit = most;
  for await (const piece of gunzip as AsyncIterable<Uint8Array>) {
    if (length === 0 && ofHead !== undefined) limit = Math.min(most, ofHead(piece));
    pieces.push(piece);
    length += piece.length;
    if (length > limit) throw new BeyondLimit(limit);
  }
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}
