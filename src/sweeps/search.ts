// Searches: which parameters a trial gets. Grid, random and Sobol's points depend on the trial's number alone. What
// learns from outcomes is in tpe.ts.
import { UsageError } from "../tensor/errors.js";
import { anyOf, check, checkOptions, integer, object, type Rules } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import type { Series, TrialConfig } from "./executor.js";
import { trialSeed } from "./seeds.js";
import { sobolPoint, sobolShift } from "./sobol.js";
import { configAt, isActive, type Parameter, type Space, valueAt } from "./space.js";

/** A trial that ended, as searches and early stopping see it. */
export interface PastTrial {
  readonly number: number;
  readonly config: TrialConfig;
  /** What the sweep is after, the smaller the better: negated where it is maximised; NaN for a trial that failed. */
  readonly loss: number;
  readonly status: "finished" | "stopped" | "failed";
  readonly series: Series;
}

/** Which trial is to get parameters. */
export interface Proposal {
  readonly space: Space;
  /** Of the sweep. */
  readonly seed: number;
  readonly number: number;
  /** By number. None for a search that does not learn. */
  readonly past: readonly PastTrial[];
}

/** A way to search a space. */
export interface Search {
  readonly name: string;
  /** JSON that tells two of them apart. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Whether `propose` looks at outcomes. */
  readonly learns: boolean;
  /** How many trials there are; undefined where there is no end. */
  count(space: Space): number | undefined;
  propose(proposal: Proposal): TrialConfig;
}

/**
 * Every parameter independent of the others, each by its distribution.
 * @example random()
 */
export function random(): Search {
  return {
    ...{ name: "random", options: {}, learns: false },
    count: () => undefined,
    propose: ({ space, seed, number }) => configAt(space, randomPoint(seed, number, Object.keys(space).length)),
  };
}

/** Coordinates of [0, 1) for a trial. */
export function randomPoint(seed: number, number: number, dimensions: number): number[] {
  const stream = new RandomStream(trialSeed(seed, number, "parameters"));
  return Array.from({ length: dimensions }, () => stream.bits() / 2 ** 32);
}

/**
 * Points of Sobol's sequence, which fill the space more evenly than random ones. Powers of two of them are the evenest.
 * @example sobol()
 */
export function sobol(): Search {
  return {
    ...{ name: "sobol", options: {}, learns: false },
    count: () => undefined,
    propose({ space, seed, number }) {
      const dimensions = Object.keys(space).length;
      return configAt(space, sobolPoint(number, dimensions, sobolShift(seed, dimensions)));
    },
  };
}

/** Options of {@link grid}. */
export interface GridSearchOptions {
  /**
   * Values of a range, evenly spaced, both ends among them; default 5. A number for all, or by name of the parameter.
   * A range of fewer whole numbers has them all.
   */
  readonly points?: number | Readonly<Record<string, number>>;
}

const pointsRule = integer({ from: 1, to: 10_000 });
const gridSearchRules: Rules<GridSearchOptions> = { points: anyOf(pointsRule, object) };
const DEFAULT_POINTS = 5;
/** Trials of a grid at most. */
const MOST_POINTS = 1_000_000;

/**
 * Every combination of values, the last parameter changing fastest.
 * @example grid({ points: { learningRate: 7 } })
 * @throws UsageError for numbers of points below 1
 */
export function grid(options: GridSearchOptions = {}): Search {
  const { points = DEFAULT_POINTS } = checkOptions("grid", options, gridSearchRules);
  if (typeof points !== "number") {
    for (const [name, value] of Object.entries(points)) check("grid", `points of ${name}`, value, pointsRule);
  }
  const made = new WeakMap<Space, readonly TrialConfig[]>();
  const all = (space: Space): readonly TrialConfig[] => {
    let configs = made.get(space);
    if (configs === undefined) made.set(space, (configs = combinations(space, points)));
    return configs;
  };
  return {
    ...{ name: "grid", options: { points }, learns: false },
    count: (space) => all(space).length,
    propose: ({ space, number }) => all(space)[number]!,
  };
}

/** @throws UsageError for points of unknown parameters, and for more combinations than there may be trials */
function combinations(space: Space, points: number | Readonly<Record<string, number>>): TrialConfig[] {
  if (typeof points !== "number") {
    const unknown = Object.keys(points).find((name) => !Object.hasOwn(space, name));
    if (unknown !== undefined) {
      throw new UsageError(
        `grid: points must name parameters of the space, given ${unknown}; there are ${Object.keys(space).join(", ")}`,
      );
    }
  }
  let configs: Record<string, unknown>[] = [{}];
  for (const [name, parameter] of Object.entries(space)) {
    const values = gridValues(parameter, typeof points === "number" ? points : (points[name] ?? DEFAULT_POINTS));
    const active = configs.filter((config) => isActive(parameter, config)).length;
    if (configs.length + active * (values.length - 1) > MOST_POINTS) {
      throw new UsageError(
        `grid: may have ${MOST_POINTS.toLocaleString("en-US")} combinations, this space has more; use fewer points, or another search`,
      );
    }
    configs = configs.flatMap((config) =>
      isActive(parameter, config) ? values.map((value) => ({ ...config, [name]: value })) : [config],
    );
  }
  return configs;
}

/** Evenly spaced in what the parameter is uniform in. */
function gridValues(parameter: Parameter, points: number): unknown[] {
  if (parameter.kind === "choice") return [...parameter.values];
  const { from, to } = parameter;
  const count = parameter.kind === "int" ? Math.min(points, to - from + 1) : points;
  if (count === 1) return [valueAt(parameter, 0.5)];
  const isLog = parameter.kind === "logUniform" || (parameter.kind === "int" && parameter.log);
  const values = Array.from({ length: count }, (_, i) => {
    if (i === 0) return from;
    if (i === count - 1) return to;
    const share = i / (count - 1);
    const value = isLog ? from * (to / from) ** share : from + share * (to - from);
    return parameter.kind === "int" ? Math.round(value) : value;
  });
  return [...new Set(values)];
}
