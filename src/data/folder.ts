// Where the user says that data lies, and the files in there. Knows nothing of formats.

import { existsSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataError, UsageError } from "../tensor/errors.js";
import { BeyondLimit, inflate, type SizeLimit } from "./gzip.js";
import { hex } from "./hex.js";

/** A folder that the user named. */
export interface NamedFolder {
  readonly path: string;
  /** What named it, for messages: "--data-dir" or "KILOGRAD_DATA_DIR". */
  readonly by: string;
}

/**
 * The folder `dataDir`, else the one in `KILOGRAD_DATA_DIR`; undefined where neither is given.
 * @throws UsageError where it does not exist
 */
export function folderNamedByUser(dataset: string, dataDir: string | undefined): NamedFolder | undefined {
  const path = dataDir ?? (process.env["KILOGRAD_DATA_DIR"] || undefined);
  if (path === undefined) return undefined;
  const by = dataDir === undefined ? "KILOGRAD_DATA_DIR" : "--data-dir";
  if (!existsSync(path)) throw new UsageError(`${dataset}: the folder ${path} (${by}) does not exist`);
  return { path, by };
}

/** The file `name` in a folder, gzip or plain. */
export function findFile(folder: string, name: string): string | undefined {
  const isFile = (path: string) => existsSync(path) && statSync(path).isFile();
  return [join(folder, `${name}.gz`), join(folder, name)].find(isFile);
}

/**
 * A file's bytes, uncompressed where it is gzip. A name that ends in `.gz` must hold gzip.
 * @throws DataError naming the file and its byte count; `format` begins the message
 */
export async function readInflated(path: string, format: string, limit: SizeLimit): Promise<Uint8Array> {
  const raw = await readWithin(path, format, limit.most);
  if (path.endsWith(".gz") && !(raw[0] === 0x1f && raw[1] === 0x8b)) {
    throw new DataError(
      `${format}: ${path} is not gzip: it must begin with the bytes 1f 8b, its ${raw.length} bytes begin with ` +
        `${hex(raw.subarray(0, 2))}; if it is the uncompressed file, remove .gz from its name`,
    );
  }
  return inflate(raw, limit).catch((error: Error) => {
    if (error instanceof DataError) throw error; // What the limit found in the content's header.
    if (error instanceof BeyondLimit) {
      throw new DataError(`${format}: ${path}: ${error.message}; fetch the file again`, { cause: error });
    }
    throw new DataError(
      `${format}: ${path} is damaged gzip (${error.message}) after ${raw.length} bytes; fetch the file again`,
      { cause: error },
    );
  });
}

/**
 * The bytes of a regular file that has no more than `most`: a device or a pipe might never end.
 * @throws DataError naming the file; `format` begins the message
 */
export async function readWithin(path: string, format: string, most: number): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error("it is no regular file");
    if (info.size > most) throw new BeyondLimit(most);
    return await readFile(path);
  } catch (cause) {
    throw new DataError(`${format}: cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}
