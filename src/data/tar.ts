// Reading tar archives (POSIX ustar) that lie in memory: the regular files by name. Headers of extensions are passed
// over, because the archives of data sets have short names and small files.

import { DataError } from "../tensor/errors.js";

const BLOCK = 512;

/**
 * The regular files of an archive by their paths; their bytes share its memory.
 * @throws DataError for what is no archive or cut off; `name` tells the user which
 */
export function parseTar(archive: Uint8Array, name: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (let at = 0; ; ) {
    if (at + BLOCK > archive.length) {
      throw new DataError(
        `tar: ${name} is cut off: a header or the end mark must follow at byte ${at} of the uncompressed archive, ` +
          `which has ${archive.length}; fetch the file again`,
      );
    }
    const header = archive.subarray(at, at + BLOCK);
    if (header.every((byte) => byte === 0)) return files; // The end mark.
    checkHeader(header, at, name);
    const begin = at + BLOCK;
    const path = [text(header, 345, 155), text(header, 0, 100)].filter((part) => part !== "").join("/");
    const size = number(header, 124, 12);
    if (size === undefined) {
      throw new DataError(
        `tar: ${name} is damaged: the size of ${path} must be an octal number, is ${JSON.stringify(text(header, 124, 12))}; ` +
          "fetch the file again",
      );
    }
    if (begin + size > archive.length) {
      throw new DataError(
        `tar: ${name} is cut off: ${path} must have ${size} bytes, ${archive.length - begin} are there; fetch the file again`,
      );
    }
    const kind = header[156]!;
    if (kind === 0 || kind === 0x30) files.set(path, archive.subarray(begin, begin + size)); // "\0" or "0": a regular file
    at = begin + Math.ceil(size / BLOCK) * BLOCK;
  }
}

/** The header's own checksum: the sum of its bytes, those of the checksum taken as spaces. */
function checkHeader(header: Uint8Array, at: number, name: string): void {
  const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
  if (sum === number(header, 148, 8)) return;
  throw new DataError(
    at === 0
      ? `tar: ${name} is not a tar archive: its first header has a wrong checksum`
      : `tar: ${name} is damaged: the header at byte ${at} of the uncompressed archive has a wrong checksum; fetch the file again`,
  );
}

function text(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/**
 * A number from 0: octal digits, with spaces before and spaces or zero bytes behind. Where the highest bit is set, it
 * is the rest of the field as big-endian bytes. GNU tar writes sizes from 8 GiB so. undefined for anything else.
 */
function number(header: Uint8Array, start: number, length: number): number | undefined {
  const field = header.subarray(start, start + length);
  if (field[0] === 0x80) {
    const value = field.subarray(1).reduce((total, byte) => total * 256 + byte, 0);
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const digits = /^ *([0-7]+)[ \0]*$/.exec(String.fromCharCode(...field))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}
