// The folder of an experiment's run: which run it belongs to, and the finished parts of it, so that an interrupted run
// can go on. A part is one safetensors file in parts/. Typed arrays are tensors; everything else is JSON in its
// metadata, with a digest of both. So what is read back is what the same version of the program wrote.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { boolean, exactOptional, type GenericSchema, object, optional, string } from "valibot";
import { prepareOutputFolder, readTextIfAny, writeJson } from "../../../io/files.js";
import { lockFolder, refuseLocked } from "../../../io/folder-lock.js";
import { anyNumber, anyObject, parseJson, ruled, text } from "../../../io/json.js";
import type { StoredTensor } from "../../../io/safetensors.js";
import { readSafetensors, writeSafetensors } from "../../../io/safetensors-file.js";
import { DataError, UsageError } from "../../../tensor/errors.js";
import { number } from "../../../tensor/options.js";

/** What a folder's results are of. Parts of one run are never used for another. */
export interface RunIdentity {
  readonly experiment: string;
  readonly preset: string;
  readonly seed: number;
  readonly precision: string;
  /** Of Kilograd: another one may keep other things of a part. */
  readonly version: string;
  readonly settings: Readonly<Record<string, unknown>>;
}

interface RunFile extends RunIdentity {
  readonly finished: boolean;
  /** What all sessions of the run took so far. */
  readonly seconds?: number;
}

const runFile: GenericSchema<unknown, RunFile> = object(
  {
    experiment: text,
    preset: optional(string("a text"), ""),
    seed: optional(anyNumber, 0),
    precision: optional(text, "float32"),
    version: optional(string("a text"), ""),
    settings: optional(anyObject, {}),
    finished: boolean("true or false"),
    seconds: exactOptional(ruled<number>(number({ from: 0 }))),
  },
  "an object",
);

const dtypes = {
  Float64Array: "F64",
  Float32Array: "F32",
  Int32Array: "I32",
  Uint32Array: "U32",
  Uint8Array: "U8",
} as const;

/** The folder of one run. Paths are absolute. */
export class WorkFolder {
  private begun = false;

  private constructor(
    readonly path: string,
    private readonly identity: RunIdentity,
    private readonly resume: boolean,
    /** What earlier sessions of this run took. */
    readonly earlierSeconds: number,
    /** Lets other processes in again. */
    readonly release: () => Promise<void>,
    /** Of a process that computes parts for the one that holds the folder. */
    private readonly isShared = false,
  ) {
    this.begun = isShared;
  }

  /** The folder of a run that another process holds, for which this one computes parts. */
  static shared(path: string): WorkFolder {
    const nobody = { experiment: "", preset: "", seed: 0, precision: "", version: "", settings: {} };
    return new WorkFolder(path, nobody, true, 0, async () => {}, true);
  }

  /**
   * Takes a folder for a run. What is in it stays as it is until the run begins.
   * @throws UsageError for a folder that another process writes, that holds other results, or an unfinished run that
   * would be lost
   * @throws UsageError, with `resume`, for nothing to go on with or a run of other settings
   */
  static async open(path: string, identity: RunIdentity, options: { readonly resume: boolean }): Promise<WorkFolder> {
    await refuseLocked(path);
    await checkFolder(path, identity, options);
    const folder = await prepareOutputFolder(path);
    const release = await lockFolder(folder);
    try {
      // Once more: another process may have been at work before the folder was taken.
      const earlier = await checkFolder(folder, identity, options);
      const seconds = options.resume ? (earlier?.seconds ?? 0) : 0;
      return new WorkFolder(folder, identity, options.resume, seconds, release);
    } catch (error) {
      await release();
      throw error;
    }
  }

  /**
   * Before the first part is computed: makes the folder this run's; what a finished run left in parts/ goes.
   * Idempotent.
   */
  async begin(): Promise<void> {
    if (this.begun) return;
    this.begun = true;
    if (!this.resume) await rm(join(this.path, "parts"), { recursive: true, force: true });
    await mkdir(join(this.path, "parts"), { recursive: true });
    await this.mark({ finished: false, seconds: this.earlierSeconds });
  }

  /** Where a part of this name is, or a file that belongs to one. */
  pathOf(name: string, suffix = ".safetensors"): string {
    return join(this.path, "parts", `${name.replace(/[^\w.+-]+/g, "_")}${suffix}`);
  }

  has(name: string): boolean {
    return (this.resume || this.begun) && existsSync(this.pathOf(name));
  }

  /** Stores a part whole or not at all. `value` is JSON with typed arrays and non-finite numbers anywhere in it. */
  async write(name: string, value: unknown): Promise<void> {
    const tensors = new Map<string, StoredTensor>();
    const json = JSON.stringify({ value }, (_, part) => {
      if (typeof part === "number" && !Number.isFinite(part)) return { $number: String(part) };
      if (!ArrayBuffer.isView(part)) return part;
      const tensor = `tensor${tensors.size}`;
      const dtype = dtypes[part.constructor.name as keyof typeof dtypes];
      tensors.set(tensor, { dtype, shape: [(part as Float32Array).length], data: part } as unknown as StoredTensor);
      return { $tensor: tensor };
    });
    await writeSafetensors(this.pathOf(name), tensors, { json, digest: digestOf(json, tensors) });
  }

  /** What `write` was given, of the type it had there. @throws DataError for a file that is not as it was written */
  async read<T>(name: string): Promise<T> {
    const path = this.pathOf(name);
    const { tensors, metadata } = await readSafetensors(path);
    const { json, digest } = metadata;
    if (json === undefined) throw new DataError(`${path}: is no part of a run; delete it and go on`);
    if (digest !== digestOf(json, tensors)) {
      throw new DataError(`${path}: is not as it was written; delete it and go on`);
    }
    const replaced = (_: string, part: unknown): unknown => {
      if (typeof part !== "object" || part === null) return part;
      if ("$number" in part) return Number(part.$number);
      if (!("$tensor" in part)) return part;
      const stored = tensors.get(String(part.$tensor));
      if (stored === undefined) throw new DataError(`${path}: lacks its "${part.$tensor}"; delete it and go on`);
      return stored.data;
    };
    return JSON.parse(json, replaced).value as T;
  }

  /** Says what the run has taken so far. */
  async note(seconds: number): Promise<void> {
    if (this.begun) await this.mark({ finished: false, seconds });
  }

  /** Says that the run came to its end, and what it took. */
  async finish(seconds: number): Promise<void> {
    await this.mark({ finished: true, seconds });
  }

  private async mark(state: Pick<RunFile, "finished" | "seconds">): Promise<void> {
    if (this.isShared) return;
    await writeJson(join(this.path, "run.json"), { ...this.identity, ...state });
  }
}

/** SHA-256 of a part's JSON and of its tensors' bytes, in the order of their names. */
function digestOf(json: string, tensors: ReadonlyMap<string, StoredTensor>): string {
  const hash = createHash("sha256").update(json);
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, data } = tensors.get(name)!;
    const { buffer, byteOffset, byteLength } = data;
    hash.update(`\n${name} ${dtype} ${byteLength}\n`).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}

/** What run.json says, or, where results lie without one, whose they are. */
async function runFileOf(folder: string): Promise<RunFile | undefined> {
  const read = async <T>(name: string, schema: GenericSchema<unknown, T>): Promise<T | undefined> => {
    const path = join(folder, name);
    try {
      const json = await readTextIfAny(path);
      return json === undefined ? undefined : parseJson(schema, json, path);
    } catch (cause) {
      throw new UsageError(`out folder: ${(cause as Error).message}; name another folder`, { cause });
    }
  };
  const run = await read("run.json", runFile);
  if (run !== undefined) return run;
  const results = await read("metrics.json", object({ command: text }, "an object"));
  if (results === undefined) return undefined;
  return {
    experiment: `\`kilograd ${results.command}\``,
    preset: "",
    seed: 0,
    precision: "",
    version: "",
    settings: {},
    finished: true,
  };
}

/** What run.json says, if the folder is fit for a run. @throws UsageError, see `WorkFolder.open` */
async function checkFolder(
  path: string,
  identity: RunIdentity,
  { resume }: { readonly resume: boolean },
): Promise<RunFile | undefined> {
  const earlier = existsSync(path) ? await runFileOf(path) : undefined;
  if (resume) checkResumable(path, identity, earlier);
  else if (earlier !== undefined && !earlier.finished && (await partsIn(path)).length > 0) {
    throw new UsageError(
      `out folder: ${path} holds an unfinished run of ${earlier.experiment}; go on with --resume, or name another folder`,
    );
  }
  if (earlier !== undefined && earlier.experiment !== identity.experiment) {
    throw new UsageError(
      `out folder: ${path} holds the results of ${earlier.experiment}, not of ${identity.experiment}; name another folder`,
    );
  }
  return earlier;
}

function checkResumable(path: string, identity: RunIdentity, earlier: RunFile | undefined): void {
  if (earlier === undefined) {
    throw new UsageError(`resume: ${path} holds no run to go on with; leave out --resume`);
  }
  const flat = ({ settings, experiment, preset, seed, precision, version }: RunIdentity) => ({
    ...{ experiment, preset, seed, precision, version, ...settings },
  });
  const before: Record<string, unknown> = flat(earlier);
  for (const [name, value] of Object.entries(flat(identity))) {
    const [now, then] = [JSON.stringify(value), JSON.stringify(before[name])];
    if (now === then) continue;
    throw new UsageError(
      `resume: ${name} must be as in ${path}, ${then}, given ${now}; leave out --resume, or name another folder`,
    );
  }
}

async function partsIn(folder: string): Promise<string[]> {
  const parts = join(folder, "parts");
  return existsSync(parts) ? (await readdir(parts)).filter((name) => name.endsWith(".safetensors")) : [];
}
