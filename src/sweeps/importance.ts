// How much each parameter has to do with the figure that a sweep is after.
import { isActive, type Parameter, positionOf, type Space } from "./space.js";
import type { TrialRecord } from "./sweep.js";

/** Groups of the values of a range: equal shares of it. */
const GROUPS = 5;

/**
 * The share of the figure's variance that a parameter explains by itself: epsilon squared (Kelley 1935) of the figures'
 * ranks, (B - (k - 1) W / (n - k)) / T, at least 0. Values are in k groups: those of a choice, or equal parts of a
 * range; a group of their own are trials without the parameter. B, W and T are sums of squares between groups, within
 * them, and in all. Chance alone gives 0 on average. What parameters explain only together is not seen.
 * @param losses of the trials; NaN is left out
 */
export function importances(
  space: Space,
  trials: readonly TrialRecord[],
  losses: readonly number[],
): ReadonlyMap<string, number> {
  const known = trials.flatMap((trial, i) => (Number.isNaN(losses[i]!) ? [] : [{ trial, loss: losses[i]! }]));
  known.sort((a, b) => a.loss - b.loss);
  const ranks = ranksOf(known.map(({ loss }) => loss));
  const found = Object.entries(space).map(([name, parameter]): [string, number] => {
    const groups = new Map<number, number[]>();
    known.forEach(({ trial }, i) => {
      const group = groupOf(parameter, trial.config, name);
      groups.set(group, [...(groups.get(group) ?? []), ranks[i]!]);
    });
    return [name, explained([...groups.values()])];
  });
  return new Map(found);
}

function groupOf(parameter: Parameter, config: TrialRecord["config"], name: string): number {
  if (!Object.hasOwn(config, name) || !isActive(parameter, config)) return -1;
  const parts = parameter.kind === "choice" ? parameter.values.length : GROUPS;
  return Math.min(parts - 1, Math.floor(positionOf(parameter, config[name]) * parts));
}

/** Of sorted values; equal ones share the mean of theirs. */
function ranksOf(sorted: readonly number[]): number[] {
  const ranks: number[] = [];
  for (let from = 0; from < sorted.length; ) {
    let to = from;
    while (to < sorted.length && sorted[to] === sorted[from]) to++;
    for (let i = from; i < to; i++) ranks.push((from + to - 1) / 2);
    from = to;
  }
  return ranks;
}

function explained(groups: readonly (readonly number[])[]): number {
  const all = groups.flat();
  const [n, k] = [all.length, groups.length];
  if (k < 2 || n <= k) return 0;
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const middle = mean(all);
  const total = all.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  if (total === 0) return 0;
  const between = groups.reduce((sum, group) => sum + group.length * (mean(group) - middle) ** 2, 0);
  return Math.max(0, (between - ((k - 1) * (total - between)) / (n - k)) / total);
}
