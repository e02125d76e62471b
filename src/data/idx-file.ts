// IDX files on disk; the format itself is in idx.ts.
import { readInflated } from "./folder.js";
import { type IdxArray, parseHeader, parseIdx } from "./idx.js";

/** Bytes of the largest file that is read: twenty times MNIST's. */
const MOST_BYTES = 2 ** 30;

/**
 * Reads an IDX file, gzip or plain. A name that ends in `.gz` must hold gzip. No more is uncompressed than the header
 * says.
 *
 * @param rank the number of dimensions that the caller expects: 3 for images, 1 for labels
 * @throws DataError naming the file and the byte counts for anything malformed
 */
export async function readIdx(path: string, rank: number): Promise<IdxArray> {
  const expected = { name: path, rank };
  // A head that is cut short is so because the file is, which is for its reader to say.
  const ofHead = (head: Uint8Array) =>
    head.length < 4 + 4 * rank ? head.length : parseHeader(head, expected).totalBytes;
  return parseIdx(await readInflated(path, "idx", { most: MOST_BYTES, ofHead }), expected);
}
