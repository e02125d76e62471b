// Where the content of a file comes from: a path, bytes that somebody has already, or several files by name, of which
// the first is the one that names the others.
import { type FileContent, findFiles } from "../runtime/runtime.js";
import { DataError } from "../tensor/errors.js";
import { anyOf, instanceOf, type Rule, text } from "../tensor/options.js";

/** Files that belong together, each under its name. The first is the model, which names the others. */
export type FilesByName = Readonly<Record<string, Uint8Array>>;

/**
 * A path, which needs Node, Bun or Deno, or the bytes of a file. Where a file names others beside it, all of them:
 * `{ "model.json": bytes, "group1-shard1of1.bin": bytes }`.
 */
export type FileSource = string | Uint8Array | FilesByName;

const filesByName: Rule = {
  expected: "an object of Uint8Arrays by name",
  accepts(value) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) return false;
    const files = Object.values(value);
    return files.length > 0 && files.every((file) => file instanceof Uint8Array);
  },
};

export const sourceRule = anyOf(text, instanceOf(Uint8Array, "a Uint8Array"), filesByName);

/** What messages call it. */
export const nameOf = (source: FileSource): string => {
  if (typeof source === "string") return source;
  return source instanceof Uint8Array ? "the bytes" : Object.keys(source)[0]!;
};

/** The bytes of a source that is no path: those of the first file. */
export const bytesIn = (source: Exclude<FileSource, string>): Uint8Array =>
  source instanceof Uint8Array ? source : Object.values(source)[0]!;

/** The first bytes, fewer where there are fewer; none of what cannot be read, which whoever reads it says. */
export async function headOf(source: FileSource, length: number): Promise<Uint8Array> {
  if (typeof source !== "string") return bytesIn(source).subarray(0, length);
  const files = await findFiles("headOf");
  return files
    .read(source, (file) => file.read(new Uint8Array(Math.min(file.size, length)), 0))
    .catch((error: unknown) => {
      if (error instanceof DataError) return new Uint8Array(0);
      throw error;
    });
}

/**
 * All bytes of a file of at most `most`. `owner` begins messages.
 * @throws DataError for a file that is missing, unreadable, no regular file or larger
 */
export async function readAll(owner: string, source: FileSource, most = Number.POSITIVE_INFINITY): Promise<Uint8Array> {
  if (typeof source !== "string") return bytesIn(source);
  const files = await findFiles(owner);
  return files.read(source, async (file) => {
    if (file.size <= most) return file.read(new Uint8Array(file.size), 0);
    throw new DataError(`cannot read ${source}: it has ${file.size} bytes, at most ${most} are read`);
  });
}

/** Which part of a file beside another one is read; sizes in bytes. */
export interface BesideOptions {
  /** Default 0. */
  readonly offset?: number;
  /** Default up to the end. */
  readonly length?: number;
  /** More is an error. Default any number. */
  readonly most?: number;
}

/**
 * Bytes of a file that `source` names, in its folder or below it. They are a copy, or a view of what was given.
 * Sizes are checked before memory is taken. `owner` begins messages.
 * @throws DataError naming the file: for a name that leads out of the folder, a file that is missing or unreadable, and
 * a part that the file does not have
 */
export async function readBeside(
  owner: string,
  source: FileSource,
  name: string,
  options: BesideOptions = {},
): Promise<Uint8Array> {
  const from = nameOf(source);
  const named = `${from}: names the file ${JSON.stringify(name.slice(0, 200))} beside it`;
  if (!isBelow(name)) {
    throw new DataError(`${named}; such a name must be relative, with "/", and stay within the folder`);
  }
  const partOf = (size: number): readonly [offset: number, length: number] => {
    const { offset = 0, length = Math.max(0, size - offset), most = Number.POSITIVE_INFINITY } = options;
    if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
      throw new DataError(`${named}, of which it needs ${length} bytes from byte ${offset} on; it has ${size}`);
    }
    if (length > most) throw new DataError(`${named}; it has ${length} bytes, at most ${most} are read`);
    return [offset, length];
  };
  if (source instanceof Uint8Array) {
    throw new DataError(`${named}; give a path, or an object of all files: { "model": bytes, "${name}": bytes }`);
  }
  if (typeof source === "object") {
    const bytes = Object.hasOwn(source, name) ? source[name] : undefined;
    if (bytes === undefined) {
      throw new DataError(`${named}, which was not given; given are ${Object.keys(source).slice(0, 8).join(", ")}`);
    }
    const [offset, length] = partOf(bytes.length);
    return bytes.subarray(offset, offset + length);
  }
  const files = await findFiles(owner);
  const path = await files.beside(source, name);
  return files.read(path, (file) => {
    const [offset, length] = partOf(file.size);
    return file.read(new Uint8Array(length), offset);
  });
}

/** Whether a relative name stays within its folder by its words; links are looked at where files are opened. */
const isBelow = (name: string): boolean =>
  !/[\\:\0]/.test(name) && name.split("/").every((part) => part !== "" && part !== "." && part !== "..");

/** Writes a file whole or not at all. @throws KilogradError `FILE_WRITE`; an existing file is then as it was */
export async function writeAll(owner: string, path: string, content: FileContent): Promise<void> {
  const files = await findFiles(owner);
  await files.write(path, content);
}
