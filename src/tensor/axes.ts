// How ops are told axes, the same everywhere: by position, a number or a list, `sum(x, 0)`, `sum(x, [0, 1])`; or by
// name, `sum(x, { axis: 0 })`, `sum(x, { axes: [0, 1] })`. The two names mean the same. Negative axes count from the
// end.
import { UsageError } from "./errors.js";
import { anyOf, check, checkOptions, describe, integer, listOf, type Rules } from "./options.js";
import { type Axes, normalizeAxis } from "./shape.js";

export type { Axes } from "./shape.js";

/** Axes by name: `axis` or `axes`, not both. */
export type AxesOptions<A = Axes> =
  | { readonly axis?: A; readonly axes?: never }
  | { readonly axes?: A; readonly axis?: never };

const axesValue = anyOf(integer(), listOf(integer()));

/** For the rules of an op whose options name axes. */
export const axesRules = { axis: axesValue, axes: axesValue };

/** Axes as an op was given them, and its options. */
export interface AxesAndOptions<Options> {
  readonly axes: Axes | undefined;
  readonly options: Options;
}

/**
 * Takes apart `op(x, axes, options)` and `op(x, options)`, in which the options may name the axes.
 * @throws UsageError for axes or options of another kind, and for axes that are given twice
 */
export function takeAxes<Options extends AxesOptions>(
  op: string,
  given: Axes | Options | undefined,
  further: Options | undefined,
  rules: Rules<Options>,
): AxesAndOptions<Options> {
  const positional = typeof given === "number" || Array.isArray(given) ? (given as Axes) : undefined;
  if (positional !== undefined) check(op, "axes", positional, axesValue);
  else if (given !== undefined && further !== undefined) {
    throw new UsageError(`${op}: options are given twice; give axes, then options, or options alone`);
  }
  const unchecked = positional === undefined && given !== undefined ? (given as Options) : further;
  if (unchecked === undefined) return { axes: positional, options: {} as Options };
  const options = checkOptions(op, unchecked, rules);
  const { axis, axes } = options;
  if ([positional, axis, axes].filter((value) => value !== undefined).length > 1) {
    throw new UsageError(`${op}: axes are given twice; give them by position, as axis, or as axes`);
  }
  return { axes: positional ?? axis ?? axes, options };
}

/**
 * The one axis, from 0, of an op that works along one.
 * @throws UsageError without an axis or for several, ShapeError for one that `rank` does not have
 */
export function oneAxis(op: string, axes: Axes | undefined, rank: number): number {
  const list = axes === undefined ? [] : typeof axes === "number" ? [axes] : axes;
  if (list.length !== 1) {
    throw new UsageError(`${op}: needs one axis, got ${describe(axes)}; give it as a number or { axis }`);
  }
  return normalizeAxis(op, list[0]!, rank);
}

/** Axes of an op without other options, by position or by name. */
export function axesOf<A extends Axes>(op: string, given: A | AxesOptions<A> | undefined): Axes | undefined {
  return takeAxes<AxesOptions>(op, given, undefined, axesRules).axes;
}

/** The one axis of an op without other options, from 0; `fallback` where it is given none. */
export function axisOf(op: string, given: number | AxesOptions<number>, rank: number, fallback?: number): number {
  return oneAxis(op, axesOf(op, given) ?? fallback, rank);
}
