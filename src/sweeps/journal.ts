// The journal of a sweep: a file to which every event is added as a line of JSON with a digest over it and all lines
// before. A sweep goes on from it after anything was killed. What was being written then is the last line, cut off; any
// other damage is an error, for lines that are missing are trials that would be counted wrongly.
import { createHash } from "node:crypto";
import { closeSync, fdatasync, ftruncateSync, openSync, writeSync } from "node:fs";
import {
  array,
  type GenericSchema,
  literal,
  nullable,
  object,
  optional,
  tuple,
  union,
  unknown,
  variant,
} from "valibot";
import { readOpened } from "../io/files.js";
import { anyNumber, anyObject, count, parse, recordOf, ruled, text } from "../io/json.js";
import { DataError, KilogradError } from "../tensor/errors.js";
import { integer } from "../tensor/options.js";
import type { TrialConfig, TrialOutcome } from "./executor.js";

/** What makes a sweep the same one: it goes on with nothing else. */
export interface SweepIdentity {
  readonly name: string;
  readonly space: unknown;
  readonly search: unknown;
  readonly seed: number;
  readonly goal: unknown;
  readonly stopping: unknown;
  /** See `SweepOptions.delay`; null where nothing depends on it. */
  readonly delay: number | null;
  readonly code: string;
}

/** A line of the journal. */
export type SweepEvent =
  | { readonly event: "sweep"; readonly identity: SweepIdentity }
  | { readonly event: "begun"; readonly number: number; readonly config: TrialConfig; readonly seed: number }
  | { readonly event: "checkpoint"; readonly number: number; readonly reference: string }
  | { readonly event: "retried"; readonly number: number; readonly attempt: number; readonly error: string }
  | { readonly event: "ended"; readonly outcome: TrialOutcome };

const attempts = ruled<number>(integer({ from: 1 }));
const identity: GenericSchema<unknown, SweepIdentity> = object(
  {
    ...{ name: text, space: anyObject, search: anyObject, seed: count, goal: unknown(), stopping: unknown() },
    ...{ delay: nullable(count), code: text },
  },
  "an object",
);
const result = object(
  {
    status: union([literal("finished"), literal("stopped")]),
    number: count,
    figures: recordOf(anyNumber),
    series: recordOf(array(tuple([anyNumber, anyNumber]))),
    value: optional(unknown()),
    attempts,
    seconds: anyNumber,
    worker: text,
  },
  "an object",
);
const failure = object({ status: literal("failed"), number: count, error: text, attempts }, "an object");

/** What a worker of elsewhere says of a trial. @throws DataError for anything else */
export const parseOutcome = (value: unknown, owner: string): TrialOutcome =>
  parse(outcomeSchema, value, owner) as TrialOutcome;
const outcomeSchema = variant("status", [result, failure], "an outcome");

const eventSchema = variant(
  "event",
  [
    object({ event: literal("sweep"), identity }, "an object"),
    object({ event: literal("begun"), number: count, config: anyObject, seed: count }, "an object"),
    object({ event: literal("checkpoint"), number: count, reference: text }, "an object"),
    object({ event: literal("retried"), number: count, attempt: attempts, error: text }, "an object"),
    object({ event: literal("ended"), outcome: outcomeSchema }, "an object"),
  ],
  "an event",
);
const lineSchema = object({ digest: text, of: text }, "an object");

/** JSON has no NaN and no infinities, which figures have. */
const toText = (value: unknown) =>
  JSON.stringify(value, (_, part) =>
    typeof part === "number" && !Number.isFinite(part) ? { $number: String(part) } : part,
  );
const fromText = (json: string): unknown =>
  JSON.parse(json, (_, part) =>
    typeof part === "object" && part !== null && typeof part.$number === "string" ? Number(part.$number) : part,
  );

const digestOf = (before: string, json: string) =>
  createHash("sha256").update(`${before}\n${json}`).digest("hex").slice(0, 32);

/** Milliseconds between two requests to the disk to keep what was written. A killed process loses nothing by them. */
const SYNC_EVERY_MS = 1000;

/** A journal that is open for writing. */
export class Journal {
  private digest: string;
  private file: number | undefined;
  private syncing: NodeJS.Timeout | undefined;

  private constructor(
    private readonly path: string,
    digest: string,
  ) {
    this.digest = digest;
  }

  /**
   * Opens a journal, and gives what is in it. A last line that was cut off is taken away.
   * @throws DataError for a journal that is damaged otherwise; KilogradError `FILE_WRITE`
   */
  static async open(path: string): Promise<{ readonly journal: Journal; readonly events: readonly SweepEvent[] }> {
    const { events, digest, bytes } = await readAll(path);
    const journal = new Journal(path, digest);
    journal.written(() => {
      journal.file = openSync(path, "a");
      ftruncateSync(journal.file, bytes);
    });
    return { journal, events };
  }

  /** Events of a journal that another process may be writing; none where there is no journal. @throws DataError */
  static async read(path: string): Promise<readonly SweepEvent[]> {
    return (await readAll(path)).events;
  }

  /** Adds an event; when this returns, a kill of this process loses it no more. */
  add(event: SweepEvent): void {
    const of = toText(event);
    const digest = digestOf(this.digest, of);
    this.written(() => {
      // A short write would be a line cut off in the middle of others.
      const line = Buffer.from(`${JSON.stringify({ digest, of })}\n`);
      for (let at = 0; at < line.length; ) at += writeSync(this.file!, line, at);
    });
    this.digest = digest;
    this.syncing ??= setTimeout(() => {
      this.syncing = undefined;
      if (this.file !== undefined) fdatasync(this.file, () => {});
    }, SYNC_EVERY_MS).unref();
  }

  close(): void {
    clearTimeout(this.syncing);
    if (this.file !== undefined) closeSync(this.file);
    this.file = undefined;
  }

  private written(write: () => void): void {
    try {
      write();
    } catch (error) {
      throw new KilogradError("FILE_WRITE", `cannot write ${this.path}: ${(error as Error).message}`, { cause: error });
    }
  }
}

async function readAll(path: string) {
  const events: SweepEvent[] = [];
  let digest = "";
  let bytes = 0;
  const content = await contentOf(path);
  const lines = content.split("\n");
  const rest = lines.pop()!; // Nothing, or a line that was cut off.
  for (const [index, line] of lines.entries()) {
    const owner = `${path}, line ${index + 1}`;
    const event = eventOf(line, digest, owner);
    digest = event.digest;
    events.push(event.event);
    bytes += Buffer.byteLength(line) + 1;
  }
  return { events, digest, bytes, cutOff: rest !== "" };
}

function eventOf(line: string, before: string, owner: string): { readonly event: SweepEvent; readonly digest: string } {
  const damaged = (why: string) =>
    new DataError(`${owner}: is not as it was written (${why}); begin the sweep anew in another folder`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    throw damaged("no JSON");
  }
  const { digest, of } = parse(lineSchema, parsed, owner);
  if (digest !== digestOf(before, of)) throw damaged("its digest differs, or a line before it is missing");
  return { event: parse(eventSchema, fromText(of), owner) as SweepEvent, digest };
}

async function contentOf(path: string): Promise<string> {
  try {
    return Buffer.from(await readOpened(path, ({ size, read }) => read(new Uint8Array(size), 0))).toString("utf8");
  } catch (error) {
    if (((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return "";
    throw error;
  }
}
