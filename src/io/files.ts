// Files in Node: written whole or not at all, and read where they are regular ones. Knows nothing of what is in them.
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import {
  appendFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve, sep } from "node:path";
import { isAlive } from "../runtime/node-processes.js";
import type { FileContent, OpenFile } from "../runtime/runtime.js";
import { DataError, KilogradError, UsageError } from "../tensor/errors.js";
import { check, type Rule, text } from "../tensor/options.js";
import { toJson } from "./json.js";

const fileContent: Rule = {
  expected: "a string, a Uint8Array, or an iterable of Uint8Arrays",
  accepts: (value) =>
    typeof value === "string" ||
    value instanceof Uint8Array ||
    (typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)),
};

/**
 * Writes `content` to `path` by a temporary file in the same folder, fsync, rename. So other processes, and a later run
 * after a crash, see the old file or the new one and nothing between. Whatever goes wrong, an existing file stays as it
 * was and the temporary one goes. Temporary files that killed processes left of the same path are removed.
 * @throws KilogradError `FILE_WRITE` where the system refuses. Errors thrown by an iterable `content` pass through.
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  check("writeFileAtomic", "path", path, text);
  check("writeFileAtomic", "content", content, fileContent);
  const temporary = temporaryFor(path);
  await refusable(path, () => removeLeftovers(path));
  try {
    const file = await refusable(path, () => open(temporary, "wx"));
    try {
      const whole = typeof content === "string" || content instanceof Uint8Array;
      for await (const piece of whole ? [content] : content) await refusable(path, () => file.writeFile(piece));
      await refusable(path, () => file.sync());
    } finally {
      await file.close();
    }
    await refusable(path, () => rename(temporary, path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}); // The first error is the one to report.
    throw error;
  }
}

/** This machine in a file's name: folders are shared, and another machine's processes have numbers of their own. */
const host = createHash("sha256").update(hostname()).digest("hex").slice(0, 8);

/**
 * A file beside `path`, whose name says which process of which machine writes it. {@link removeLeftovers} removes it
 * where that was killed.
 */
export const temporaryFor = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${host}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`);

/** The name of the file that a process of this machine was writing when it was killed; undefined for other entries. */
export function leftoverOf(entry: string): string | undefined {
  const [, name, of, pid] = /^\.(.+)\.([0-9a-f]{8})\.(\d+)\.[0-9a-f]{8}\.tmp$/s.exec(entry) ?? [];
  return of === host && !isAlive(Number(pid)) ? name : undefined;
}

/**
 * Removes temporary files of this path whose processes on this machine were killed. Others' stay: nobody here can tell.
 */
export async function removeLeftovers(path: string): Promise<void> {
  const entries = await readdir(dirname(path)).catch(() => []); // A missing folder is reported by the writing.
  for (const entry of entries) {
    if (leftoverOf(entry) === basename(path)) await rm(join(dirname(path), entry), { force: true });
  }
}

/** Removes a file, if it is there, and what killed processes left of it. */
export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await removeLeftovers(path);
}

async function refusable<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new KilogradError("FILE_WRITE", `cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Writes text to a file as it is, or adds it to its end. @throws KilogradError `FILE_WRITE` */
export async function logToFile(path: string, text: string, append: boolean): Promise<void> {
  await refusable(path, () => (append ? appendFile : writeFile)(path, text));
}

/** Bytes; Node refuses 2 GiB and more. */
const LARGEST_READ = 2 ** 30;

/**
 * Opens a regular file, hands it over and closes it.
 * @throws DataError for one that is missing, unreadable or no regular file, and where it becomes shorter meanwhile
 */
export async function readOpened<T>(path: string, use: (file: OpenFile) => Promise<T>): Promise<T> {
  // Opening a pipe waits for somebody who writes, and nothing ends that.
  if (!(await readable(path, () => stat(path))).isFile()) {
    throw new DataError(`cannot read ${path}: it is no regular file`);
  }
  await using file = await readable(path, () => open(path));
  const { size } = await readable(path, () => file.stat());
  return await use({ size, read: (target, position) => readAt(file, path, target, position) });
}

/**
 * The path of a file that the file at `path` names, in its folder or below.
 * @throws DataError where there is none, or a link leads out of the folder
 */
export async function besideFile(path: string, name: string): Promise<string> {
  const folder = await readable(path, () => realpath(dirname(path)));
  const beside = join(dirname(path), name);
  const real = await readable(beside, () => realpath(beside));
  if (real.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return real;
  throw new DataError(`${path}: names the file ${beside}, a link that leads out of the folder; copy the file into it`);
}

/**
 * The text of a regular file; undefined where there is none. @throws DataError, also for a folder, a pipe or a device
 */
export async function readTextIfAny(path: string): Promise<string | undefined> {
  try {
    return new TextDecoder().decode(await readOpened(path, ({ size, read }) => read(new Uint8Array(size), 0)));
  } catch (error) {
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
    if (cause?.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Fills `target` from byte `position`; the system may deliver in several pieces. */
async function readAt<T extends Uint8Array>(file: FileHandle, path: string, target: T, position: number): Promise<T> {
  for (let done = 0; done < target.length; ) {
    const length = Math.min(target.length - done, LARGEST_READ);
    const { bytesRead } = await readable(path, () => file.read(target, done, length, position + done));
    if (bytesRead === 0) throw new DataError(`${path}: became shorter while it was read; try again`);
    done += bytesRead;
  }
  return target;
}

async function readable<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new DataError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Makes sure that `path` is a folder that can be written, creating it and its parents where missing, and returns its
 * absolute path. Proved by creating a file, because permission bits say little about read-only mounts, quotas and root.
 * @throws UsageError with the reason and what to do
 */
export async function prepareOutputFolder(path: string): Promise<string> {
  check("out folder", "path", path, text);
  const folder = resolve(path);
  try {
    await makeFolders(folder);
    await removeLeftovers(join(folder, "write-test"));
    const probe = temporaryFor(join(folder, "write-test"));
    await (await open(probe, "wx")).close();
    await rm(probe);
    return folder;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === "ENOTDIR" ? "a part of the path is a file" : message;
    throw new UsageError(`out folder: needs a folder that can be written, given ${path}: ${reason}; name another one`, {
      cause: error,
    });
  }
}

/**
 * As mkdir with `recursive`, which never returns where creating fails with ENOENT although the parent exists, as under
 * /proc.
 */
async function makeFolders(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "ENOENT" || existsSync(dirname(path))) throw error;
    await makeFolders(dirname(path));
    await makeFolders(path);
  }
}

/** Writes {@link toJson} of `value` atomically, with a line break at the end. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${toJson(value)}\n`);
}
