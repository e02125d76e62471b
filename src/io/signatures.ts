// What files begin with.
const HDF5 = Uint8Array.of(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a);
/** Of the header before each entry of a zip archive. */
const ZIP = Uint8Array.of(0x50, 0x4b, 0x03, 0x04);
/** Bytes of that header before the name. */
const ZIP_HEADER = 30;

const beginsWith = (bytes: Uint8Array, signature: Uint8Array) => signature.every((byte, i) => bytes[i] === byte);

/** Whether bytes begin as HDF5 does. */
export const isHdf5 = (bytes: Uint8Array): boolean => beginsWith(bytes, HDF5);

/** The name of the first entry, as far as it is there, of bytes that begin as a zip archive; undefined of others. */
export function firstZipEntry(bytes: Uint8Array): string | undefined {
  if (!beginsWith(bytes, ZIP) || bytes.length < ZIP_HEADER) return undefined;
  const length = bytes[26]! + 256 * bytes[27]!;
  return new TextDecoder().decode(bytes.subarray(ZIP_HEADER, ZIP_HEADER + length));
}
