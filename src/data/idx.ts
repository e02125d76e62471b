// The IDX format of the MNIST files: a 4-byte magic (0, 0, element type, rank), one big-endian u32 per dimension, then
// the elements. Only unsigned bytes (type 0x08) are read, the only type the digit data sets use.

import { DataError } from "../tensor/errors.js";
import { hex } from "./hex.js";

/** An IDX file's contents: `data` holds the product of `shape` bytes, row-major. */
export interface IdxArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

interface Expected {
  readonly name: string;
  readonly rank: number;
}

/**
 * Parses uncompressed IDX bytes; the result shares their memory.
 *
 * @throws DataError for a wrong magic, a short file or trailing bytes; `name` tells the user which file
 */
export function parseIdx(bytes: Uint8Array, expected: Expected): IdxArray {
  const { shape, headerBytes, totalBytes } = parseHeader(bytes, expected);
  if (bytes.length !== totalBytes) {
    const difference = Math.abs(bytes.length - totalBytes);
    throw new DataError(
      `idx: ${expected.name} with shape [${shape.join(", ")}] must have ${totalBytes} bytes, has ${bytes.length} ` +
        `(${difference} ${bytes.length < totalBytes ? "are missing" : "too many"}); fetch the file again`,
    );
  }
  return { shape, data: bytes.subarray(headerBytes) };
}

/** What the first bytes of a file say of it. @throws DataError */
export function parseHeader(bytes: Uint8Array, { name, rank }: Expected) {
  const magic = [0, 0, 0x08, rank];
  if (bytes.length < 4 || magic.some((byte, i) => bytes[i] !== byte)) {
    throw new DataError(
      `idx: ${name} is not an IDX file of unsigned bytes with ${rank} dimension${rank === 1 ? "" : "s"}: it must begin with ` +
        `${hex(magic)}, begins with ${hex(bytes.subarray(0, 4))}; were images and labels mixed up?`,
    );
  }
  const headerBytes = 4 + 4 * rank;
  if (bytes.length < headerBytes) {
    throw new DataError(`idx: ${name} ends inside its header: needs ${headerBytes} bytes, has ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  return { shape, headerBytes, totalBytes: headerBytes + shape.reduce((product, size) => product * size, 1) };
}
