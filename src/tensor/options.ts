// Checks of what callers give, for every public function. Unknown names, wrong types and values out of range are errors
// that name the option, what it may be, and what was given. An explicit undefined is an option that was left out.
import { UsageError } from "./errors.js";

/** What a value may be: words for the message, and the test. */
export interface Rule {
  /** Completes "must be ...", e.g. "a whole number from 1". */
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

/** Bounds of a number. */
export interface Bounds {
  /** Smallest value that is allowed. */
  readonly from?: number;
  /** Largest value that is allowed. */
  readonly to?: number;
  /** Values must be larger than this. */
  readonly above?: number;
  /** Values must be smaller than this. */
  readonly below?: number;
}

function boundsOf({ from, to, above, below }: Bounds): string {
  if (from !== undefined && to !== undefined) return ` from ${from} to ${to}`;
  if (from !== undefined && below !== undefined) return ` in [${from}, ${below})`;
  if (above !== undefined && to !== undefined) return ` in (${above}, ${to}]`;
  if (above !== undefined && below !== undefined) return ` between ${above} and ${below}, both excluded`;
  if (from !== undefined) return ` from ${from}`;
  if (to !== undefined) return ` up to ${to}`;
  if (above !== undefined) return ` above ${above}`;
  if (below !== undefined) return ` below ${below}`;
  return "";
}

function within(value: number, { from, to, above, below }: Bounds): boolean {
  return (
    !(from !== undefined && value < from) &&
    !(to !== undefined && value > to) &&
    !(above !== undefined && value <= above) &&
    !(below !== undefined && value >= below)
  );
}

/** A finite number within bounds. */
export const number = (bounds: Bounds = {}): Rule => ({
  expected: `a finite number${boundsOf(bounds)}`,
  accepts: (value) => typeof value === "number" && Number.isFinite(value) && within(value, bounds),
});

/** Any number, NaN and the infinities included. */
export const anyNumber: Rule = { expected: "a number", accepts: (value) => typeof value === "number" };

/** A safe integer within bounds. */
export const integer = (bounds: Bounds = {}): Rule => ({
  expected: `a whole number${boundsOf(bounds)}`,
  accepts: (value) => Number.isSafeInteger(value) && within(value as number, bounds),
});

export const boolean: Rule = { expected: "true or false", accepts: (value) => typeof value === "boolean" };
export const string: Rule = { expected: "a string", accepts: (value) => typeof value === "string" };
export const text: Rule = {
  expected: "a string that is not empty",
  accepts: (value) => typeof value === "string" && value !== "",
};
/** Classes, which cannot be called without new, have a prototype that cannot be replaced. */
const isClass = (value: object) => Object.getOwnPropertyDescriptor(value, "prototype")?.writable === false;
export const callable: Rule = {
  expected: "a function",
  accepts: (value) => typeof value === "function" && !isClass(value),
};
export const object: Rule = {
  expected: "an object",
  accepts: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};
/** For objects that are told by what they can do: a class's, a function with members, or one written by hand. */
export const havingMethod = (name: string, expected: string): Rule => ({
  expected,
  accepts: (value) => typeof Object(value)[name] === "function",
});
/** For lists whose values other checks look at. */
export const array: Rule = { expected: "an array", accepts: Array.isArray };
/** For what other checks look at. */
export const anything: Rule = { expected: "given", accepts: () => true };

/** One of some values, as they stand in the message. */
export const oneOf = (...values: readonly (string | number | boolean)[]): Rule => ({
  expected: `one of ${values.map((value) => JSON.stringify(value)).join(", ")}`,
  accepts: (value) => (values as readonly unknown[]).includes(value),
});

/** An instance of a class. */
// biome-ignore lint/suspicious/noExplicitAny: constructors of any arguments, abstract ones too.
export const instanceOf = (type: abstract new (...args: any[]) => unknown, expected: string): Rule => ({
  expected,
  accepts: (value) => value instanceof type,
});

/** What one of several rules accepts. */
export const anyOf = (...rules: readonly Rule[]): Rule => ({
  expected: rules.map((rule) => rule.expected).join(" or "),
  accepts: (value) => rules.some((rule) => rule.accepts(value)),
});

/** An array of values that a rule accepts, of a length within bounds. */
export const listOf = (rule: Rule, length: Bounds = {}): Rule => ({
  expected: `a list of values, each ${rule.expected}${boundsOf(length) && `; its length${boundsOf(length)}`}`,
  accepts: (value) => Array.isArray(value) && within(value.length, length) && value.every(rule.accepts),
});

/** An array, or a typed array, of numbers; NaN and the infinities included. */
export const numbers: Rule = {
  expected: "an array of numbers",
  accepts: (value) =>
    Array.isArray(value)
      ? value.every((part) => typeof part === "number")
      : ArrayBuffer.isView(value) &&
        !(value instanceof DataView || value instanceof BigInt64Array || value instanceof BigUint64Array),
};

/** A value that a rule accepts, or two of them, such as [height, width]. */
export const oneOrPair = (rule: Rule): Rule => {
  const pair = listOf(rule, { from: 2, to: 2 });
  return {
    expected: `${rule.expected}, or a pair of them`,
    accepts: (value) => rule.accepts(value) || pair.accepts(value),
  };
};

/** A value in words for a message: short, never throwing. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "function") return value.name ? `the function ${value.name}` : "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) {
    const shown = value.slice(0, 8).map((part) => (Array.isArray(part) ? "[...]" : describe(part)));
    return `[${shown.join(", ")}${value.length > 8 ? `, ... ${value.length} values` : ""}]`;
  }
  if (typeof value !== "object" || value === null) return String(value);
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === "string" && name !== "Object" && name !== ""
    ? `${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}`
    : `an object of ${Object.keys(value).slice(0, 8).join(", ") || "nothing"}`;
}

/** @throws UsageError unless `rule` accepts `value` */
export function check(owner: string, name: string, value: unknown, rule: Rule): void {
  if (!rule.accepts(value)) {
    throw new UsageError(`${owner}: ${name} must be ${rule.expected}, got ${describe(value)}`);
  }
}

/** The rules of each option of `Options`. A name that is missing or too many does not compile. */
export type Rules<Options> = { readonly [Name in keyof Required<Options>]: Rule };

/** Letters of two names that differ, by Levenshtein's distance, in which two that are swapped count once. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = least;
    }
  }
  return rows[a.length]![b.length]!;
}

/** The known name that `name` was probably meant to be. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, far: distance(name.toLowerCase(), other.toLowerCase()) }))
    .filter(({ other, far }) => far <= Math.max(1, Math.floor(other.length / 3)) || other.startsWith(name))
    .sort((a, b) => a.far - b.far);
  return best?.other;
}

/** "; did you mean mnist?" for the end of a message about an unknown name; nothing where no known name is near. */
export function meantHint(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  return meant === undefined ? "" : `; did you mean ${meant}?`;
}

/** Other libraries' names of options, for hints. */
const SYNONYMS: Readonly<Record<string, string>> = {
  lr: "learningRate",
  stride: "strides",
  dilation: "dilations",
  axis: "axes",
  axes: "axis",
  keepdim: "keepDims",
  keepdims: "keepDims",
  dim: "axis",
  betas: "beta1",
  eps: "epsilon",
};

/**
 * Options as given, without those that are undefined.
 * @param required names of options without a default
 * @throws UsageError for what is no object, for unknown names, for values that a rule does not accept, and for
 * `required` ones that are not there
 * @example const { strides = 1 } = checkOptions("maxPool2d", options, rules);
 */
export function checkOptions<Options extends object>(
  owner: string,
  options: Options,
  rules: Rules<Options>,
  required: readonly (keyof Options & string)[] = [],
): Options {
  if (!object.accepts(options)) {
    const known = Object.keys(rules).join(", ");
    throw new UsageError(`${owner}: options must be an object of ${known}, got ${describe(options)}`);
  }
  let complete = true;
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? (rules as Readonly<Record<string, Rule>>)[name]! : undefined;
    if (rule === undefined) throw unknownOption(owner, name, Object.keys(rules));
    if (value === undefined) complete = false;
    else check(owner, name, value, rule);
  }
  const missing = required.find((name) => options[name] === undefined);
  if (missing !== undefined) {
    throw new UsageError(`${owner}: ${missing} is required, ${rules[missing].expected}`);
  }
  if (complete) return options;
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
}

/** Those of the options that are among the rules' names: for what hands options on to one of several. */
export function onlyOptions<Options extends object>(options: Options, rules: Rules<Options>): Options {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(rules, name))) as Options;
}

function unknownOption(owner: string, name: string, known: readonly string[]): UsageError {
  const synonym = SYNONYMS[name];
  const meant = synonym !== undefined && known.includes(synonym) ? synonym : nearest(name, known);
  const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
  const exist = known.length === 0 ? "it takes none" : `options are ${known.join(", ")}`;
  return new UsageError(`${owner}: unknown option ${name}${hint || `; ${exist}`}${hint && ` (${exist})`}`);
}
