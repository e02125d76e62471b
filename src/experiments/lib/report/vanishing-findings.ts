// What the figures of networks of several depths say, in sentences: pure functions of figures.
import { counted, listed, percent, twoDigits } from "./text.js";

export const activations = ["relu", "tanh", "sigmoid", "lecunTanh"] as const;
export type Activation = (typeof activations)[number];
export const titles = { relu: "ReLU", tanh: "tanh", sigmoid: "sigmoid", lecunTanh: "LeCun" } as const;

/** Mean losses per point of a learning curve: so many steps. */
export const CURVE_STEPS = 75;

/** Above this a network counts as having learned: far beyond always giving one answer. */
export const LEARNED = 0.8;

/** What came of one network. */
export interface DepthFigures {
  /** Hidden layers. */
  readonly depth: number;
  readonly activation: Activation;
  readonly testAccuracy: number;
  /** max |gradient| by layer, before training and after the epoch asked for. */
  readonly untrained: readonly number[];
  readonly trained: readonly number[];
  /** Mean training loss of every CURVE_STEPS steps. */
  readonly curve: readonly number[];
}

/** The first layer's gradient over the output layer's. */
export const ratio = (sizes: readonly number[]) => sizes[0]! / sizes.at(-1)!;

const named = (outcomes: readonly DepthFigures[]) => listed(outcomes.map(({ activation }) => titles[activation]));

/** Which networks learned, by depth. */
export function accuracyRemark(outcomes: readonly DepthFigures[], depths: readonly number[]): string {
  return depths
    .map((depth) => {
      const here = outcomes.filter((outcome) => outcome.depth === depth);
      const learned = here.filter(({ testAccuracy }) => testAccuracy > LEARNED);
      const not = here.filter(({ testAccuracy }) => testAccuracy <= LEARNED);
      const lead = `With ${depth} hidden layers `;
      const threshold = `more than ${percent(LEARNED, 0)} on the test part`;
      if (not.length === 0) return `${lead}every network learned (${threshold}).`;
      return learned.length === 0
        ? `${lead}none learned (${threshold}).`
        : `${lead}${named(learned)} learned (${threshold}), ${named(not)} did not.`;
    })
    .join(" ");
}

/** What reaches the first layer of the deepest networks, and whether it tells who learns. */
export function gradientRemark(
  outcomes: readonly DepthFigures[],
  depths: readonly number[],
  key: "trained" | "untrained",
  when: string,
): string {
  const deepest = outcomes.filter(({ depth }) => depth === depths.at(-1));
  const sorted = deepest.toSorted((a, b) => ratio(a[key]) - ratio(b[key]));
  const [worst, best] = [sorted[0]!, sorted.at(-1)!];
  const zeros = outcomes.filter((outcome) => outcome[key].some((size) => size === 0));
  const text = (outcome: DepthFigures) => `${twoDigits(ratio(outcome[key]))} (${titles[outcome.activation]})`;
  const failed = outcomes.filter(({ testAccuracy }) => testAccuracy <= LEARNED).map((outcome) => ratio(outcome[key]));
  const learned = outcomes.filter(({ testAccuracy }) => testAccuracy > LEARNED).map((outcome) => ratio(outcome[key]));
  const separate =
    failed.length > 0 && learned.length > 0
      ? ` Networks that learned (more than ${percent(LEARNED, 0)} on the test part) have ratios from ${twoDigits(Math.min(...learned))} to ${twoDigits(Math.max(...learned))}, those that did not from ${twoDigits(Math.min(...failed))} to ${twoDigits(Math.max(...failed))}` +
        (Math.max(...failed) < Math.min(...learned) ? ": the two groups do not overlap." : ".")
      : "";
  return (
    `Of ${depths.at(-1)} layers ${when}, the first one's gradient is between ${text(worst)} and ${text(best)} times the output layer's.${separate}` +
    (zeros.length > 0
      ? ` Where a curve ends, the gradient is exactly 0: too small for float32 or stopped by units that are all off (${listed(zeros.map(({ activation, depth }) => `${titles[activation]}, ${depth} layers`))}).`
      : "")
  );
}

/** How LeCun's learning curve runs beside tanh's. */
export function curveRemark(
  of: (depth: number, activation: Activation) => DepthFigures,
  depths: readonly number[],
): string {
  return depths
    .map((depth) => {
      const [plain, lecun] = [of(depth, "tanh").curve, of(depth, "lecunTanh").curve];
      if (plain.length === 0 || lecun.length === 0) return `With ${depth} layers the runs are too short for a curve.`;
      const target = plain.at(-1)!;
      const reached = lecun.findIndex((loss) => loss <= target);
      return reached < 0
        ? `With ${depth} layers LeCun ends at a loss of ${lecun.at(-1)!.toFixed(3)}, above tanh's ${target.toFixed(3)}.`
        : `With ${depth} layers LeCun reaches tanh's last loss (${target.toFixed(3)}) after ${counted((reached + 1) * CURVE_STEPS, "step")} of ${(plain.length * CURVE_STEPS).toLocaleString("en-US")} and ends at ${lecun.at(-1)!.toFixed(3)}.`;
    })
    .join(" ");
}
