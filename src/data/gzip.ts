// Uncompressing gzip up to a limit with Node's zlib, whose errors say what is wrong.

import { createGunzip } from "node:zlib";
import { BeyondLimit, isGzip, type SizeLimit } from "./web-gzip.js";

export { BeyondLimit, type SizeLimit };

const PIECE = 256 * 1024;

/**
 * Uncompresses gzip, told by its two magic bytes, and stops at the limit; anything else comes back as it is.
 * @throws BeyondLimit, or zlib's error for what is damaged
 */
export async function inflate(bytes: Uint8Array, { most, ofHead }: SizeLimit): Promise<Uint8Array> {
  if (!isGzip(bytes)) {
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
