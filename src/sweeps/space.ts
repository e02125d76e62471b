// Spaces of parameters: what each may be, and when it is there at all. A space is JSON, so that it can stand in a file
// and in a journal. Every parameter is drawn by one number of [0, 1), which is what searches work with.
import { UsageError } from "../tensor/errors.js";
import {
  array,
  boolean,
  check,
  checkOptions,
  describe,
  integer,
  meantHint,
  number,
  object,
  oneOf,
  type Rule,
  type Rules,
} from "../tensor/options.js";
import type { TrialConfig } from "./executor.js";

/**
 * A parameter is there only where others have one of these values, by name: a value, or a list of them. The others
 * stand before it in the space.
 */
export type When = Readonly<Record<string, unknown>>;

interface Conditional {
  readonly when?: When | undefined;
}
/** One of some values, each as likely. */
export interface Choice extends Conditional {
  readonly kind: "choice";
  readonly values: readonly unknown[];
}
/** A number of [from, to], each as likely. */
export interface Uniform extends Conditional {
  readonly kind: "uniform";
  readonly from: number;
  readonly to: number;
}
/** A number of [from, to], whose logarithm is uniform. */
export interface LogUniform extends Conditional {
  readonly kind: "logUniform";
  readonly from: number;
  readonly to: number;
}
/** A whole number of [from, to], each as likely; with `log`, about as likely as its logarithm is uniform. */
export interface Int extends Conditional {
  readonly kind: "int";
  readonly from: number;
  readonly to: number;
  readonly log?: boolean | undefined;
}
export type Parameter = Choice | Uniform | LogUniform | Int;

/** Parameters by name. */
export type Space = Readonly<Record<string, Parameter>>;

/** Options of parameters. */
export interface ParameterOptions {
  /** Where the parameter is there: values of others that stand before it, e.g. `{ optimizer: "sgd" }`. */
  readonly when?: When;
}
/** Options of {@link int}. */
export interface IntOptions extends ParameterOptions {
  /** Draws the logarithm uniformly. Needs `from` at least 1. */
  readonly log?: boolean;
}

const finite = number();
const whole = integer();
const parameterRules: Rules<ParameterOptions> = { when: object };
const intRules: Rules<IntOptions> = { when: object, log: boolean };

/** Whether JSON has a value as it is. */
const isJson: Rule = {
  expected: "a value that JSON has",
  accepts: (value) => {
    if (value === null || typeof value === "string" || typeof value === "boolean") return true;
    if (typeof value === "number") return Number.isFinite(value);
    try {
      return typeof value === "object" && JSON.stringify(JSON.parse(JSON.stringify(value))) === JSON.stringify(value);
    } catch {
      return false; // It contains itself, or a bigint.
    }
  },
};

/**
 * One of some values.
 * @example choice(["relu", "tanh"])
 * @throws UsageError for no values, for equal ones, and for what JSON does not have
 */
export function choice(values: readonly unknown[], options: ParameterOptions = {}): Choice {
  check("choice", "values", values, array);
  const { when } = checkOptions("choice", options, parameterRules);
  const made: Choice = { kind: "choice", values, ...(when && { when }) };
  checkParameter("choice", "values", made);
  return made;
}

/**
 * A number from `from` to `to`.
 * @example uniform(0, 0.5)
 * @throws UsageError unless from < to
 */
export function uniform(from: number, to: number, options: ParameterOptions = {}): Uniform {
  const { when } = checkOptions("uniform", options, parameterRules);
  const made: Uniform = { kind: "uniform", from, to, ...(when && { when }) };
  checkParameter("uniform", "the range", made);
  return made;
}

/**
 * A number from `from` to `to`, whose logarithm is uniform.
 * @example logUniform(1e-4, 1e-1)
 * @throws UsageError unless 0 < from < to
 */
export function logUniform(from: number, to: number, options: ParameterOptions = {}): LogUniform {
  const { when } = checkOptions("logUniform", options, parameterRules);
  const made: LogUniform = { kind: "logUniform", from, to, ...(when && { when }) };
  checkParameter("logUniform", "the range", made);
  return made;
}

/**
 * A whole number from `from` to `to`.
 * @example int(16, 256, { log: true })
 * @throws UsageError unless from <= to
 */
export function int(from: number, to: number, options: IntOptions = {}): Int {
  const { when, log } = checkOptions("int", options, intRules);
  const made: Int = { kind: "int", from, to, ...(log && { log }), ...(when && { when }) };
  checkParameter("int", "the range", made);
  return made;
}

const kinds = oneOf("choice", "uniform", "logUniform", "int");
const choiceRules: Rules<Choice> = { kind: kinds, values: array, when: object };
const rangeRules: Rules<Uniform | LogUniform> = { kind: kinds, from: finite, to: finite, when: object };
const intRangeRules: Rules<Int> = { kind: kinds, from: whole, to: whole, log: boolean, when: object };

/** @throws UsageError for what is no parameter; messages begin with `owner: name` */
function checkParameter(owner: string, name: string, given: unknown): asserts given is Parameter {
  if (!object.accepts(given)) {
    throw new UsageError(
      `${owner}: ${name} must be a parameter, such as { kind: "uniform", from: 0, to: 1 }, got ${describe(given)}`,
    );
  }
  const parameter = given as Parameter;
  const of = `${owner}: ${name}`;
  check(owner, `kind of ${name}`, parameter.kind, kinds);
  if (parameter.kind === "choice") {
    checkOptions(of, parameter, choiceRules, ["values"]);
    const texts = parameter.values.map((value) => {
      check(owner, `a value of ${name}`, value, isJson);
      return JSON.stringify(value);
    });
    if (texts.length === 0 || new Set(texts).size < texts.length) {
      throw new UsageError(`${of}: must be one value or more, each once, got ${describe(parameter.values)}`);
    }
    return;
  }
  if (parameter.kind === "int") checkOptions(of, parameter, intRangeRules, ["from", "to"]);
  else checkOptions(of, parameter, rangeRules, ["from", "to"]);
  const { from, to } = parameter;
  const isLog = parameter.kind === "logUniform" || (parameter.kind === "int" && parameter.log);
  const orders = parameter.kind === "int" ? from <= to : from < to;
  if (!orders || !Number.isFinite(to - from) || (isLog && from <= 0)) {
    throw new UsageError(
      `${of}: must be from a smaller number${isLog ? " above 0" : ""} to a larger one, got ${from} to ${to}`,
    );
  }
}

/** As many parameters as there are directions of Sobol's sequence here. */
export const MOST_PARAMETERS = 64;

/**
 * A space as given, of code or of JSON.
 * @throws UsageError for an empty one, for what is no parameter, and for conditions on what does not stand before
 */
export function checkSpace(owner: string, space: unknown): Space {
  check(owner, "space", space, object);
  const entries = Object.entries(space as object);
  if (entries.length === 0 || entries.length > MOST_PARAMETERS) {
    throw new UsageError(`${owner}: space must have from 1 to ${MOST_PARAMETERS} parameters, got ${entries.length}`);
  }
  const before: string[] = [];
  for (const [name, parameter] of entries) {
    checkParameter(owner, `space.${name}`, parameter);
    for (const [other, wanted] of Object.entries(parameter.when ?? {})) {
      if (!before.includes(other)) {
        throw new UsageError(
          `${owner}: space.${name}.when must name parameters that stand before it, got ${describe(other)}` +
            meantHint(other, before),
        );
      }
      check(owner, `space.${name}.when.${other}`, wanted, isJson);
    }
    before.push(name);
  }
  return space as Space;
}

/** Whether a parameter is there beside values of those before it. */
export function isActive({ when }: Parameter, config: TrialConfig): boolean {
  return Object.entries(when ?? {}).every(([other, wanted]) => {
    if (!Object.hasOwn(config, other)) return false;
    const value = JSON.stringify(config[other]);
    return (Array.isArray(wanted) ? wanted : [wanted]).some((each) => JSON.stringify(each) === value);
  });
}

/** The value of a parameter at a position of [0, 1]; equal shares of [0, 1) are equally likely. */
export function valueAt(parameter: Parameter, position: number): unknown {
  if (parameter.kind === "choice") {
    const { values } = parameter;
    return values[Math.min(values.length - 1, Math.floor(position * values.length))];
  }
  const { from, to, kind } = parameter;
  const within = (value: number) => Math.min(to, Math.max(from, value));
  if (kind === "uniform") return within(from + position * (to - from));
  if (kind === "logUniform") return within(Math.exp(Math.log(from) + position * (Math.log(to) - Math.log(from))));
  const [low, high] = intEnds(parameter);
  const at = low + position * (high - low);
  return within(Math.round(parameter.log ? Math.exp(at) : at)) + 0; // No -0.
}

/** The position of a value: of ranges of whole numbers and choices the middle of its share. */
export function positionOf(parameter: Parameter, value: unknown): number {
  if (parameter.kind === "choice") {
    const text = JSON.stringify(value);
    return (parameter.values.findIndex((each) => JSON.stringify(each) === text) + 0.5) / parameter.values.length;
  }
  const { from, to, kind } = parameter;
  const x = value as number;
  if (kind === "uniform") return (x - from) / (to - from);
  if (kind === "logUniform") return (Math.log(x) - Math.log(from)) / (Math.log(to) - Math.log(from));
  const [low, high] = intEnds(parameter);
  return ((parameter.log ? Math.log(x) : x) - low) / (high - low);
}

/** Half a unit beyond both ends, so that these are as likely as the others. */
function intEnds({ from, to, log }: Int): readonly [number, number] {
  const ends = [from - 0.5, to + 0.5] as const;
  return log ? [Math.log(ends[0]), Math.log(ends[1])] : ends;
}

/** Parameters at a point of the unit cube, one coordinate for each in order. What is not there has no value. */
export function configAt(space: Space, point: ArrayLike<number>): TrialConfig {
  const config: Record<string, unknown> = {};
  for (const [index, [name, parameter]] of Object.entries(space).entries()) {
    if (isActive(parameter, config)) config[name] = valueAt(parameter, point[index]!);
  }
  return config;
}

/** Whether parameters are some that a space may give. */
export function isInSpace(space: Space, config: TrialConfig): boolean {
  const names = Object.keys(config);
  const expected = Object.entries(space).filter(([, parameter]) => isActive(parameter, config));
  return (
    names.length === expected.length &&
    expected.every(([name, parameter]) => Object.hasOwn(config, name) && holds(parameter, config[name]))
  );
}

function holds(parameter: Parameter, value: unknown): boolean {
  if (parameter.kind === "choice") {
    const text = JSON.stringify(value);
    return parameter.values.some((each) => JSON.stringify(each) === text);
  }
  const { from, to, kind } = parameter;
  return (kind === "int" ? integer({ from, to }) : number({ from, to })).accepts(value);
}
