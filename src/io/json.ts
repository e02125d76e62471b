// JSON out and in. What comes out of files is checked against schemas (valibot) before anybody uses it; leaves are
// checked by the rules of options (tensor/options.ts), so that messages have the same words.
import {
  array,
  check,
  custom,
  type GenericSchema,
  getDotPath,
  type InferOutput,
  pipe,
  record,
  safeParse,
  string,
} from "valibot";
import { DataError } from "../tensor/errors.js";
import { describe, integer, object as objectRule, type Rule, text as textRule } from "../tensor/options.js";
import { jsonText } from "./json-text.js";

/** A schema of what a rule accepts. */
export const ruled = <T>(rule: Rule) => custom<T>(rule.accepts, rule.expected);

/** A text that is not empty. */
export const text = ruled<string>(textRule);
/** Any object, whatever is in it. */
export const anyObject = ruled<Readonly<Record<string, unknown>>>(objectRule);
/** An object of values that are each as a schema says. */
export const recordOf = <S extends GenericSchema>(schema: S) => pipe(anyObject, record(string(), schema, "an object"));
/** A number that files keep, NaN and the infinities included. */
export const anyNumber = ruled<number>({ expected: "a number", accepts: (value) => typeof value === "number" });
/** How many, from 0. */
export const count = ruled<number>(integer({ from: 0 }));
/** A shape: whole numbers from 1, at most eight. */
export const shape = pipe(
  array(ruled<number>(integer({ from: 1 })), "a list of whole numbers"),
  check((sizes) => sizes.length <= 8, "a list of at most 8 numbers"),
);

/**
 * `value`, if it is as the schema says.
 * @param owner begins the message: the file, and what of it
 * @throws DataError naming the field, what it must be and what it is
 * @example
 * parse(object({ epoch: count }), JSON.parse(text), "run.json") // or throws "run.json: epoch must be ..."
 */
export function parse<S extends GenericSchema>(schema: S, value: unknown, owner: string): InferOutput<S> {
  const result = safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = getDotPath(issue);
  if (issue.input === undefined && field !== null) throw new DataError(`${owner}: ${field} is missing`);
  throw new DataError(`${owner}: ${field ?? "it"} must be ${issue.message}, is ${describe(issue.input)}`);
}

/** {@link parse} of JSON text. @throws DataError, also for text that is no JSON */
export function parseJson<S extends GenericSchema>(schema: S, text: string, owner: string): InferOutput<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${owner}: is no JSON: ${(cause as Error).message}`, { cause });
  }
  return parse(schema, value, owner);
}

/**
 * JSON as Python writes it, which has words for what JSON has none: NaN becomes null, the infinities stay what they
 * are.
 */
export function parsePythonJson(text: string): unknown {
  const words: Readonly<Record<string, string>> = { NaN: "null", Infinity: "1e999", "-Infinity": "-1e999" };
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b/g, (part) => words[part] ?? part));
}

/**
 * `value` as JSON text, two spaces deep, arrays of numbers on one line.
 * NaN and the infinities become `null`, because JSON has no word for them and a diverged run must still leave its
 * figures; typed arrays become arrays.
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
