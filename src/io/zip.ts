// Zip archives as bytes: the directory at the end, entries that are stored or deflated, and archives of stored entries.
// Sizes that a file announces are checked before memory is taken.
//
// Layout (little-endian): for each entry a local header, name, extra field and data; the directory, with a header,
// name, extra field and comment for each entry; the end record, which says where the directory is. Archives beyond 4
// GiB have their numbers in extra fields and another end record, which are read and not written.
import { DataError, UsageError } from "../tensor/errors.js";

/** An entry of an archive. */
export interface ZipEntry {
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  /** Of its data in the archive, and uncompressed. */
  readonly compressed: number;
  readonly size: number;
  readonly crc: number;
  /** Of its local header. */
  readonly offset: number;
}

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const [LOCAL_BYTES, CENTRAL_BYTES, END_BYTES, END_64_BYTES, LOCATOR_BYTES] = [30, 46, 22, 56, 20];
/** The end record is the last, but for a comment of at most so many bytes. */
const MOST_COMMENT = 0xffff;
const MOST_ENTRIES = 10_000;
const FULL_16 = 0xffff;
const FULL_32 = 0xffffffff;
/** What deflate makes of one byte at most, and what any stream has besides. */
const [MOST_RATIO, SLACK] = [1032, 1024];
const ENCRYPTED = 1;
const UTF_8 = 0x800;

/**
 * The entries of an archive, by name. Folders are left out.
 * @param owner begins messages: the file
 * @throws DataError for what is no archive, or a damaged one
 */
export function zipEntries(bytes: Uint8Array, owner: string): Map<string, ZipEntry> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const damaged = (what: string) => new DataError(`${owner}: is a zip archive, but cut off or damaged: ${what}`);
  const { count, start, end } = directoryOf(view, damaged);
  if (count > MOST_ENTRIES) throw damaged(`it announces ${count} entries, at most ${MOST_ENTRIES} are read`);
  const entries = new Map<string, ZipEntry>();
  let total = 0;
  let at = start;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL_BYTES > end || view.getUint32(at, true) !== CENTRAL) {
      throw damaged(`its directory ends within entry ${i + 1} of ${count}`);
    }
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true)) as [
      number,
      number,
      number,
    ];
    const nameAt = at + CENTRAL_BYTES;
    const next = nameAt + nameBytes + extraBytes + commentBytes;
    if (next > end) throw damaged(`its directory ends within entry ${i + 1} of ${count}`);
    const name = new TextDecoder().decode(bytes.subarray(nameAt, nameAt + nameBytes));
    const extra = new DataView(bytes.buffer, bytes.byteOffset + nameAt + nameBytes, extraBytes);
    const { compressed, size, offset } = numbersOf(view, at, extra, () => damaged(`"${name}" has no right sizes`));
    // Entries that share their data would make a small archive a large one.
    total += compressed;
    if (total > bytes.length) throw damaged(`its entries announce more than its ${bytes.length} bytes`);
    if (entries.has(name)) throw damaged(`it has two entries "${name}"`);
    if (!name.endsWith("/")) {
      if ((flags & ENCRYPTED) !== 0) throw new DataError(`${owner}: "${name}" is encrypted, which is not read`);
      entries.set(name, { name, method, compressed, size, crc: view.getUint32(at + 16, true), offset });
    }
    at = next;
  }
  return entries;
}

type Damaged = (what: string) => DataError;

/** Where the directory is, and how many entries it has. */
function directoryOf(view: DataView, damaged: Damaged) {
  const last = view.byteLength - END_BYTES;
  let end = last;
  while (end >= 0 && end >= last - MOST_COMMENT && view.getUint32(end, true) !== END) end--;
  if (end < 0 || end < last - MOST_COMMENT) throw damaged("it has no directory at its end");
  let count = view.getUint16(end + 10, true);
  let size = view.getUint32(end + 12, true);
  let start = view.getUint32(end + 16, true);
  if (count === FULL_16 || size === FULL_32 || start === FULL_32) {
    const locator = end - LOCATOR_BYTES;
    const large = locator >= 0 && view.getUint32(locator, true) === LOCATOR_64 ? bigAt(view, locator + 8) : -1;
    if (large < 0 || large + END_64_BYTES > locator || view.getUint32(large, true) !== END_64) {
      throw damaged("its directory is missing");
    }
    [count, size, start] = [bigAt(view, large + 32), bigAt(view, large + 40), bigAt(view, large + 48)];
  }
  if (start + size > end) throw damaged(`its directory of ${size} bytes at ${start} lies beyond its end`);
  return { count, start, end: start + size };
}

const bigAt = (view: DataView, at: number): number => Number(view.getBigUint64(at, true));

/** Sizes and place of an entry: those that do not fit stand in an extra field of kind 1, in this order. */
function numbersOf(view: DataView, at: number, extra: DataView, wrong: () => DataError) {
  let size = view.getUint32(at + 24, true);
  let compressed = view.getUint32(at + 20, true);
  let offset = view.getUint32(at + 42, true);
  for (let from = 0; from + 4 <= extra.byteLength; from += 4 + extra.getUint16(from + 2, true)) {
    if (extra.getUint16(from, true) !== 1) continue;
    let next = from + 4;
    const end = next + extra.getUint16(from + 2, true);
    const large = (given: number): number => {
      if (given !== FULL_32) return given;
      if (next + 8 > Math.min(end, extra.byteLength)) throw wrong();
      next += 8;
      return bigAt(extra, next - 8);
    };
    [size, compressed, offset] = [large(size), large(compressed), large(offset)];
    break;
  }
  if (![size, compressed, offset].every(Number.isSafeInteger)) throw wrong();
  return { size, compressed, offset };
}

/**
 * The data of an entry. Of a stored one it is a part of `bytes`.
 * @throws DataError for damaged data, or announced sizes that it cannot have
 */
export async function zipData(bytes: Uint8Array, entry: ZipEntry, owner: string): Promise<Uint8Array> {
  const { name, method, compressed, size, offset, crc } = entry;
  const damaged = (what: string) => new DataError(`${owner}: "${name}" is damaged: ${what}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (offset + LOCAL_BYTES > bytes.length || view.getUint32(offset, true) !== LOCAL) {
    throw damaged("it is not where the directory says");
  }
  const start = offset + LOCAL_BYTES + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
  if (start + compressed > bytes.length) throw damaged(`its ${compressed} bytes lie beyond the end of the file`);
  const stored = bytes.subarray(start, start + compressed);
  if (method === 0 && size !== compressed) throw damaged(`it announces ${size} bytes, has ${compressed}`);
  if (method !== 0 && method !== 8) {
    throw new DataError(`${owner}: "${name}" is compressed by method ${method}; stored and deflated entries are read`);
  }
  if (method === 8 && size > MOST_RATIO * compressed + SLACK) {
    throw damaged(`it announces ${size} bytes, which ${compressed} cannot be uncompressed to`);
  }
  const data = method === 0 ? stored : await inflated(stored, size, damaged);
  if (crc32(data) !== crc) throw damaged("its checksum is another one");
  return data;
}

async function inflated(stored: Uint8Array, size: number, damaged: Damaged): Promise<Uint8Array> {
  const { inflateSync } = await import("fflate");
  let data: Uint8Array;
  try {
    data = inflateSync(stored, { out: new Uint8Array(size) });
  } catch (cause) {
    throw damaged(`it cannot be uncompressed (${(cause as Error).message})`);
  }
  if (data.length === size) return data;
  throw damaged(`it announces ${size} bytes, has ${data.length}`);
}

/**
 * An archive of stored entries, with the time 1980-01-01.
 * @throws UsageError for more than 4 GiB
 */
export function encodeZip(entries: readonly (readonly [name: string, data: Uint8Array])[]): Uint8Array {
  const named = entries.map(([name, data]) => ({ name: new TextEncoder().encode(name), data, crc: crc32(data) }));
  const sizes = named.map(({ name, data }) => LOCAL_BYTES + CENTRAL_BYTES + 2 * name.length + data.length);
  const total = sizes.reduce((sum, size) => sum + size, END_BYTES);
  if (total >= FULL_32) throw new UsageError(`zip: an archive must have less than 4 GiB, has ${total} bytes`);
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put = (...fields: readonly (readonly [bytes: 2 | 4, value: number])[]) => {
    for (const [width, value] of fields) {
      if (width === 2) view.setUint16(at, value, true);
      else view.setUint32(at, value, true);
      at += width;
    }
  };
  const add = (data: Uint8Array) => {
    bytes.set(data, at);
    at += data.length;
  };
  /** Version 2.0, names in UTF-8, stored, time 0 on 1 January 1980. */
  const common = [
    [2, 20],
    [2, UTF_8],
    [2, 0],
    [2, 0],
    [2, 0x21],
  ] as const;
  const offsets: number[] = [];
  for (const { name, data, crc } of named) {
    offsets.push(at);
    put([4, LOCAL], ...common, [4, crc], [4, data.length], [4, data.length], [2, name.length], [2, 0]);
    add(name);
    add(data);
  }
  const start = at;
  for (const [i, { name, data, crc }] of named.entries()) {
    put([4, CENTRAL], [2, 20], ...common, [4, crc], [4, data.length], [4, data.length], [2, name.length]);
    put([2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offsets[i]!]);
    add(name);
  }
  const length = at - start;
  put([4, END], [2, 0], [2, 0], [2, named.length], [2, named.length], [4, length], [4, start], [2, 0]);
  return bytes;
}

/** Of each byte with the polynomial x^32 + x^26 + ... + 1, reflected. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  return crc;
});

function crc32(bytes: Uint8Array): number {
  let crc = FULL_32;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 255]!;
  return (crc ^ FULL_32) >>> 0;
}
