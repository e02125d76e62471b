// The area under a curve: of true against false positives (ROC), or of precision against recall (PR), at many
// thresholds. Keras's AUC, with its buckets and interpolation: the device counts predictions per bucket, the host has
// the rest.
import { add, cast, clip, floor, mul, neg, relu, sub } from "../../autograd/ops/elementwise.js";
import { concat } from "../../autograd/ops/transform.js";
import { countKernel } from "../../kernels/count.js";
import { checkOptions, integer, oneOf, type Rules } from "../../tensor/options.js";
import { run } from "../../tensor/tensor.js";
import { type MetricOptions, nameRules } from "./classes.js";
import { ratio, targetsOf, unlessUnknown } from "./counting.js";
import type { Metric } from "./metric.js";

export interface AucOptions extends MetricOptions {
  /** Default "roc". */
  readonly curve?: "roc" | "pr";
  /** How many, evenly from 0 to 1; default 200. */
  readonly thresholds?: number;
}

const rules: Rules<AucOptions> = {
  ...nameRules,
  curve: oneOf("roc", "pr"),
  thresholds: integer({ from: 2 }),
};

/**
 * Area under the curve of probabilities in [0, 1], as a sum over thresholds: 0.5 for guesses (ROC), 1 where a threshold
 * separates all. Predictions [N, ..., C] with class ids [N, ...] or targets of their shape, of which all but 0 are
 * true; all elements are one set. A NaN among them makes it NaN. Figure `auc`.
 */
export function auc(options: AucOptions = {}): Metric {
  const { curve = "roc", thresholds = 200, name = "auc" } = checkOptions("auc", options, rules);
  return {
    name,
    statistics(prediction, target) {
      const { truth, unknown } = targetsOf("auc", prediction, target);
      // Bucket k holds k < p (thresholds - 1) <= k + 1, the first one 0, too. ceil(x) = -floor(-x).
      const upper = neg(floor(mul(clip(prediction, 0, 1), 1 - thresholds)));
      const bucket = cast(relu(sub(upper, 1)), "i32");
      const bins = { shape: [2 * thresholds], dtype: "u32" } as const;
      const counts = run(countKernel, [add(bucket, mul(cast(truth, "i32"), thresholds))], bins, {});
      return concat([cast(counts, "f32"), unknown]);
    },
    result: (totals) =>
      unlessUnknown(totals.at(-1)!, () => {
        const [negatives, positives] = [atLeast(totals.slice(0, thresholds)), atLeast(totals.slice(thresholds, -1))];
        return curve === "roc" ? rocArea(positives, negatives) : prArea(positives, negatives);
      }),
  };
}

/** How many are above each threshold, from how many are in each bucket: sums from the end. */
function atLeast(buckets: readonly number[]): number[] {
  const counts = [...buckets];
  for (let i = counts.length - 2; i >= 0; i--) counts[i]! += counts[i + 1]!;
  return counts;
}

/** Trapezoids of the rate of true positives over that of false ones. */
function rocArea(positives: readonly number[], negatives: readonly number[]): number {
  const rates = (counts: readonly number[]) => counts.map((count) => ratio(count, counts[0]!));
  const [y, x] = [rates(positives), rates(negatives)];
  let area = 0;
  for (let i = 0; i + 1 < x.length; i++) area += ((x[i]! - x[i + 1]!) * (y[i]! + y[i + 1]!)) / 2;
  return area;
}

/**
 * Precision over recall, true positives and all that are named each growing linearly between two thresholds (Davis and
 * Goadrich 2006). Over an interval where the first grow by t and the second by p from P to P + p, with s = t / p and
 * c = (true positives at P) - s P, the integral of precision is s (t + c log((P + p) / P)).
 */
function prArea(positives: readonly number[], negatives: readonly number[]): number {
  let area = 0;
  for (let i = 0; i + 1 < positives.length; i++) {
    const [before, after] = [positives[i + 1]!, positives[i]!];
    const [namedBefore, named] = [before + negatives[i + 1]!, after + negatives[i]!];
    const slope = ratio(after - before, named - namedBefore);
    const intercept = before - slope * namedBefore;
    const growth = named > 0 && namedBefore > 0 ? named / namedBefore : 1;
    area += ratio(slope * (after - before + intercept * Math.log(growth)), positives[0]!);
  }
  return area;
}
