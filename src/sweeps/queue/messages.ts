// What goes through a queue, as text: written here, and read only through schemas. It is data. Nothing of it is ever
// code, a path or a module's name.
import {
  array,
  boolean,
  exactOptional,
  type GenericSchema,
  type InferOutput,
  literal,
  number as numberSchema,
  object,
  picklist,
  pipe,
  regex,
  string,
  transform,
  tuple,
  union,
  unknown,
  variant,
} from "valibot";
import { anyObject, count, parseJson, recordOf, ruled, text } from "../../io/json.js";
import { UsageError } from "../../tensor/errors.js";
import { describe, integer, type Rule } from "../../tensor/options.js";
import type { TrialOrder, TrialOutcome } from "../executor.js";

/** Of the messages and keys. Workers and coordinators of another one do not talk. */
export const PROTOCOL = 1;
/** Bytes of a message. */
export const MOST_MESSAGE = 2 ** 20;
/** Trials of a sweep: which are counted is kept as bits. */
export const MOST_TRIALS = 2 ** 24;
/** Characters of an error. */
const MOST_ERROR = 2000;

const trialNumber = ruled<number>(integer({ from: 0, below: MOST_TRIALS }));
const attempt = ruled<number>(integer({ from: 1 }));
const digest = pipe(string(), regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits"));
const identity = pipe(string(), regex(/^[\w.:-]{1,200}$/, "a name of letters, digits and . : - _"));
/** JSON has no word for NaN and the infinities. */
const figure = union(
  [numberSchema(), pipe(picklist(["NaN", "Infinity", "-Infinity"]), transform(Number))],
  "a number, or its name",
);
const figures = recordOf(figure);

/** What a coordinator says of its sweep. */
const aboutSchema = object({
  protocol: literal(PROTOCOL, `${PROTOCOL}, the protocol of this version`),
  /** Of the sweep's folder: whoever has it may go on with the sweep. */
  owner: digest,
  code: digest,
  version: text,
  /** Attempts of a trial. */
  attempts: attempt,
  /** Whether trials wait for a decision after each report. */
  answers: boolean("true or false"),
  /** Whether the coordinator has a store, from which it reads outcomes that are too large for Redis. */
  store: boolean("true or false"),
});
export type About = InferOutput<typeof aboutSchema>;

const orderSchema = object({
  sweep: text,
  code: digest,
  number: trialNumber,
  config: anyObject,
  seed: ruled<number>(integer({ from: 0, below: 2 ** 32 })),
  attempt,
  checkpoint: exactOptional(text),
});

const outcomeSchema = variant("status", [
  object({
    status: picklist(["finished", "stopped"]),
    number: trialNumber,
    figures,
    series: recordOf(array(tuple([count, figure]), "a list of steps with values")),
    value: exactOptional(unknown()),
    attempts: attempt,
    seconds: figure,
    worker: text,
  }),
  object({ status: literal("failed"), number: trialNumber, error: string(), attempts: attempt }),
]);

/** Instead of an outcome that is too large for a message: where it is. */
const keptSchema = object({ status: literal("kept"), number: trialNumber, reference: text });
export type KeptOutcome = InferOutput<typeof keptSchema>;

const reportSchema = variant("kind", [
  object({
    kind: literal("report"),
    worker: identity,
    number: trialNumber,
    attempt,
    step: count,
    figures,
  }),
  object({ kind: literal("checkpoint"), number: trialNumber, reference: text }),
  object({ kind: literal("retried"), number: trialNumber, attempt, error: string() }),
]);
export type Report = InferOutput<typeof reportSchema>;

const answerSchema = object({
  number: trialNumber,
  attempt,
  step: count,
  decision: picklist(["continue", "stop"]),
});
export type Answer = InferOutput<typeof answerSchema>;

/** A worker as the list of workers has it. */
const workerSchema = object({ id: identity, name: identity, slots: ruled<number>(integer({ from: 1, to: 1024 })) });
export type WorkerInfo = InferOutput<typeof workerSchema>;

const reader =
  <S extends GenericSchema>(schema: S, what: string) =>
  (given: string): InferOutput<S> =>
    parseJson(schema, given, `queue: ${what}`);

/** @throws DataError, each, for what is no such message */
export const readAbout = reader(aboutSchema, "what a sweep says of itself");
export const readOrder: (text: string) => TrialOrder = reader(orderSchema, "an order");
export const readOutcome: (text: string) => TrialOutcome = reader(outcomeSchema, "an outcome");
export const readOutcomeOrKept: (text: string) => TrialOutcome | KeptOutcome = reader(
  variant("status", [outcomeSchema, keptSchema]),
  "an outcome",
);
export const readReport = reader(reportSchema, "a report");
export const readAnswer = reader(answerSchema, "an answer");
export const readWorker = reader(workerSchema, "a worker");

/** Anything of a message's kind as text, of whatever length. */
export function textOf(message: object): string {
  const named = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
  return JSON.stringify(message, named);
}

/** Whether a text may be a message. */
export const fits = (text: string): boolean => text.length <= MOST_MESSAGE && Buffer.byteLength(text) <= MOST_MESSAGE;

/** A message as text. @throws UsageError for one that is too large */
export function write(owner: string, message: object): string {
  const written = textOf(message);
  if (fits(written)) return written;
  throw new UsageError(
    `${owner}: at most ${MOST_MESSAGE / 2 ** 20} MiB go through the queue, got ${(written.length / 2 ** 20).toFixed(1)}; ` +
      "write what is large to a file, or keep it as a checkpoint",
  );
}

/** An error in one line of bounded length. */
export function lineOf(error: unknown): string {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  const line = (message || name).replace(/\s*\n\s*/g, " ").trim();
  return line.length <= MOST_ERROR ? line : `${line.slice(0, MOST_ERROR - 3)}...`;
}

export const sweepName: Rule = {
  expected: "a name of at most 100 letters, digits and . - _, the first a letter or digit",
  accepts: (value) => typeof value === "string" && /^[A-Za-z0-9][\w.-]{0,99}$/.test(value),
};

/** @throws UsageError for a trial whose number is too large for a queue */
export function checkNumber(number: number): void {
  if (number < MOST_TRIALS) return;
  throw new UsageError(`queue: trials must have numbers below ${MOST_TRIALS}, got ${describe(number)}`);
}
