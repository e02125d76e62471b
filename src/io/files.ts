// Writing files whole or not at all, and JSON. Knows nothing of what is in the files; reading is left to those who know the format.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { isAlive } from "../runtime/node-processes.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import { check, describe, type Rule, text } from "../tensor/options.js";

/** What {@link writeFileAtomic} can write. An iterable is written piece by piece, so that a large file never lies in memory as one. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

const fileContent: Rule = {
  expected: "a string, a Uint8Array, or an iterable of Uint8Arrays",
  accepts: (value) =>
    typeof value === "string" ||
    value instanceof Uint8Array ||
    (typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)),
};

/**
 * Writes `content` to `path` so that other processes, and a later run after a crash, see the old file or the new one and nothing between:
 * a temporary file in the same folder, fsync, rename. Whatever goes wrong, an existing file stays as it was and the temporary one goes.
 * Temporary files that killed processes left of the same path are removed.
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

/** A file beside `path`, whose name says which process writes it. {@link removeLeftovers} removes it where that was killed. */
export const temporaryFor = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`);

/** Removes temporary files of this path whose processes were killed. */
export async function removeLeftovers(path: string): Promise<void> {
  const prefix = `.${basename(path)}.`;
  const entries = await readdir(dirname(path)).catch(() => []); // A missing folder is reported by the writing.
  for (const entry of entries) {
    const pid = entry.startsWith(prefix)
      ? /^(\d+)\.[0-9a-f]{8}\.tmp$/.exec(entry.slice(prefix.length))?.[1]
      : undefined;
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(dirname(path), entry), { force: true });
  }
}

async function refusable<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new KilogradError("FILE_WRITE", `cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Makes sure that `path` is a folder that can be written, creating it and its parents where missing, and returns its absolute path.
 * Proved by creating a file, because permission bits say little about read-only mounts, quotas and root.
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

/** As mkdir with `recursive`, which never returns where creating fails with ENOENT although the parent exists, as under /proc. */
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

/**
 * `value` as JSON text, two spaces deep, arrays of numbers on one line.
 * NaN and the infinities become `null`, because JSON has no word for them and a diverged run must still leave its figures;
 * typed arrays become arrays.
 * @throws UsageError for what JSON cannot hold: nothing, functions, bigints, and objects that contain themselves
 */
export function toJson(value: unknown): string {
  const plain = (_key: string, part: unknown) => {
    if (ArrayBuffer.isView(part) && !(part instanceof DataView)) return Array.from(part as Uint8Array);
    return typeof part === "number" && !Number.isFinite(part) ? null : part;
  };
  // A raw line break never stands inside a JSON string, so only arrays of numbers and nulls match.
  const numbers = /\[\n([-+.\deE,\snul]*)\n *\]/g;
  return jsonText("toJson", value, plain, 2).replace(
    numbers,
    (_, list: string) => `[${list.trim().replace(/\s+/g, " ")}]`,
  );
}

/** JSON.stringify whose faults are errors of the library. @throws UsageError, whose message begins with `owner` */
export function jsonText(
  owner: string,
  value: unknown,
  replacer?: (key: string, part: unknown) => unknown,
  indent?: number,
): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value, replacer, indent);
  } catch (cause) {
    // Cycles, bigints, nesting beyond the stack, texts beyond what a string holds, and whatever a toJSON() threw.
    throw new UsageError(`${owner}: cannot be written as JSON: ${(cause as Error).message}`, { cause });
  }
  if (json === undefined) throw new UsageError(`${owner}: needs a value that JSON has, got ${describe(value)}`);
  return json;
}

/** Writes {@link toJson} of `value` atomically, with a line break at the end. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${toJson(value)}\n`);
}
