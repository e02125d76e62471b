// One process at a time writes into an output folder: a file in it names the process. The lock of one that is gone is
// taken over.
import { rmSync } from "node:fs";
import { link, open, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { beginOf, isAlive } from "../runtime/node-processes.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import { prepareOutputFolder, readTextIfAny, removeLeftovers, temporaryFor } from "./files.js";

const LOCK = ".kilograd.lock";

/** Who holds a folder. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /**
   * When the process began, as the system counts; absent where it does not tell. Numbers of processes are used again.
   */
  readonly begun?: string;
}

function holds({ pid, host, begun }: Holder): boolean {
  if (host !== hostname()) return true; // Nobody here can tell.
  if (!isAlive(pid)) return false;
  const now = beginOf(pid);
  return begun === undefined || now === undefined || now === begun;
}

/** What a lock says; undefined for one that says nothing, such as one whose process was killed before it wrote. */
function holderIn(text: string): Holder | undefined {
  try {
    const { pid, host, begun } = JSON.parse(text);
    if (!Number.isSafeInteger(pid) || pid < 1 || typeof host !== "string") return undefined;
    return { pid, host, ...(typeof begun === "string" && { begun }) };
  } catch {
    return undefined;
  }
}

function refuse(folder: string, { pid, host }: Holder): never {
  const where = host === hostname() ? `process ${pid}` : `process ${pid} of ${host}`;
  throw new UsageError(
    `out folder: ${folder} is being written by ${where}; wait for it, or name another folder` +
      (host === hostname() ? "" : ` (if that process is gone, delete ${join(folder, LOCK)})`),
  );
}

/** @throws UsageError where a process that is alive writes into a folder */
export async function refuseLocked(folder: string): Promise<void> {
  const path = join(folder, LOCK);
  const holder = holderIn((await readTextIfAny(path)) ?? "");
  if (holder !== undefined && holds(holder)) refuse(folder, holder);
}

/** Locks released when the process ends without ceremony, as by a second Ctrl-C. */
const held = new Set<string>();
process.once("exit", () => {
  for (const path of held) rmSync(path, { force: true });
});

/**
 * Takes a folder that exists. Gives what releases it.
 * @throws UsageError where a process that is alive holds it
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, LOCK);
  const begun = beginOf(process.pid);
  await removeLeftovers(path);
  const own = JSON.stringify({ pid: process.pid, host: hostname(), ...(begun !== undefined && { begun }) });
  // Two processes may find the same lock of one that is gone: each attempt takes away at most that one.
  for (let attempt = 0; attempt < 10; attempt++) {
    if (await created(path, own)) {
      held.add(path);
      return async () => {
        held.delete(path);
        await rm(path, { force: true });
      };
    }
    const found = await readTextIfAny(path);
    if (found === undefined) continue; // Released just now.
    const holder = holderIn(found);
    if (holder !== undefined && holds(holder)) refuse(folder, holder);
    await takeAway(path, found);
  }
  throw new KilogradError("LOCK", `out folder: ${folder} cannot be locked: others take ${LOCK} away; try again`);
}

/** Whether the lock was not there and now is. Its content comes with it: a lock without content is nobody's. */
async function created(path: string, content: string): Promise<boolean> {
  const temporary = temporaryFor(path);
  try {
    const file = await open(temporary, "wx");
    await file.writeFile(content).finally(() => file.close());
    await link(temporary, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new KilogradError("FILE_WRITE", `cannot write ${path}: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Takes a lock away that says `expected`. Another one, which came in between, is put back. */
async function takeAway(path: string, expected: string): Promise<void> {
  const aside = temporaryFor(path);
  try {
    await rename(path, aside);
    if ((await readTextIfAny(aside)) !== expected) await link(aside, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EEXIST") throw error; // Somebody else was faster.
  } finally {
    await rm(aside, { force: true });
  }
}

/** Makes sure of a folder that can be written, and keeps other processes out of it while `work` runs. */
export async function withOutputFolder<T>(path: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await prepareOutputFolder(path);
  const release = await lockFolder(folder);
  try {
    return await work(folder);
  } finally {
    await release();
  }
}
