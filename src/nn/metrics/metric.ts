// What a metric is: numbers of each batch, on the device, and the figure that comes of them. The numbers add up over an
// epoch on the host. So a figure is that of all samples, and no mean of the batches' figures. The numbers are read
// together with the losses, and totals are float64: a training that is resumed goes on with the same ones.
import { mul, sigmoid } from "../../autograd/ops/elementwise.js";
import { sum } from "../../autograd/ops/reduce.js";
import { softmax } from "../../autograd/ops/softmax.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { anyNumber, callable, check, describe, listOf, object, type Rule, text } from "../../tensor/options.js";
import { refusePromise } from "../../tensor/scope.js";
import { formatShape } from "../../tensor/shape.js";
import { requireResult, type Tensor } from "../../tensor/tensor.js";
import type { ActivationName } from "../activations.js";
import { asLoss, type LossFunction } from "../loss.js";

/**
 * A metric, of those in `metric` or a user's own.
 * @example
 * const largestError = {
 *   name: "largestError",
 *   statistics: (prediction, target) => prediction.sub(target).abs().max(),
 *   init: () => [0],
 *   update: (totals, [largest]) => { totals[0] = Math.max(totals[0], largest); },
 *   result: ([largest]) => largest,
 * };
 */
export interface Metric {
  /** Of its figure in logs and history: unique among the metrics of a run. */
  readonly name: string;
  /**
   * Numbers of a batch: an f32 tensor of as many elements for every batch, such as counts. Part of the step, which is
   * recorded and replayed (see `StepPlan`), without gradients. The prediction is what the model gives,
   * [N, ...outputShape]; where the loss applies softmax or sigmoid itself it is after that.
   */
  readonly statistics: (prediction: Tensor, target: Tensor) => Tensor;
  /** Totals before the first batch; default zeros, as many as there are statistics. */
  readonly init?: () => readonly number[];
  /** Takes a batch's statistics into the totals; by default they are added. */
  readonly update?: (totals: number[], statistics: readonly number[]) => void;
  /** The figure of `samples` samples. */
  readonly result: (totals: readonly number[], samples: number) => number;
}

/**
 * "accuracy", a metric of `metric`, a loss, or any function of prediction and target. Such a function gives a number
 * per sample, [N], or the batch's mean, []. Its mean over all samples is a figure of the function's name.
 */
export type MetricOption = "accuracy" | Metric | LossFunction;

const isMetric = (value: unknown): boolean => {
  const { name, statistics, init, update, result } = Object(value) as Partial<Record<keyof Metric, unknown>>;
  const methods = [statistics, result, ...[init, update].filter((method) => method !== undefined)];
  return object.accepts(value) && text.accepts(name) && methods.every(callable.accepts);
};

const metricRule: Rule = {
  expected: '"accuracy", a metric such as metric.topK() or { name, statistics, result }, or a function',
  accepts: (value) => value === "accuracy" || callable.accepts(value) || isMetric(value),
};

export const metricsRule = listOf(metricRule);

/** Names that other figures have. */
const TAKEN: readonly string[] = ["loss", "accuracy", "learning_rate"];
const nameRule: Rule = {
  expected: `a name other than ${TAKEN.join(", ")}, and without val_ at its beginning`,
  accepts: (value) => text.accepts(value) && !TAKEN.includes(value as string) && !(value as string).startsWith("val_"),
};

/** The mean over all samples of a function's numbers. */
function meanOf(given: LossFunction): Metric {
  const { lossName, includes } = asLoss(given);
  if (includes !== undefined) {
    throw new UsageError(
      `metrics: loss.${lossName} applies ${includes}, which the predictions that metrics see have behind them; use the loss of probabilities`,
    );
  }
  if (given.name === "" && !("lossName" in given)) {
    throw new UsageError(
      "metrics: a function needs a name for its figure; give { name, statistics, result }, or name it",
    );
  }
  return meanPerSample(lossName, given);
}

/** The mean over all samples of a function's numbers, which gives one per sample, [N], or a batch's mean. */
export function meanPerSample(name: string, fn: LossFunction): Metric {
  return {
    name,
    statistics(prediction, target) {
      const value: unknown =
        "perSample" in fn ? (fn.perSample as LossFunction)(prediction, target) : fn(prediction, target);
      requireResult(name, value, "the metric");
      const samples = prediction.shape[0]!;
      if (value.dtype === "f32" && value.rank === 0) return mul(value, samples);
      if (value.dtype === "f32" && value.rank === 1 && value.size === samples) return sum(value);
      throw new ShapeError(
        `${name}: a metric must be f32, a scalar or one for each of ${samples} samples, got ${value.dtype} ${formatShape(value.shape)}`,
      );
    },
    result: ([total], samples) => total! / samples,
  };
}

/** The metrics of a run. */
export class MetricSet {
  /** Without accuracy. */
  private readonly metrics: readonly Metric[];

  /** @param includes what the loss applies to the predictions that `statistics` is given */
  constructor(
    given: readonly MetricOption[],
    private readonly includes: ActivationName | undefined,
  ) {
    this.metrics = given.flatMap((option) => {
      if (option === "accuracy") return [];
      if (typeof option === "function") return [meanOf(option)];
      return [option];
    });
    const names = this.names;
    for (const name of names) check("metrics", "a metric's name", name, nameRule);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) {
      throw new UsageError(`metrics: two have the name "${twice}"; give one of them another, such as { name: "b" }`);
    }
  }

  get names(): string[] {
    return this.metrics.map(({ name }) => name);
  }

  /** Numbers of a batch for each metric, of a prediction as the loss takes it. */
  statistics(prediction: Tensor, target: Tensor): Tensor[] {
    if (this.metrics.length === 0) return [];
    const { includes } = this;
    const seen =
      includes === "softmax" ? softmax(prediction) : includes === "sigmoid" ? sigmoid(prediction) : prediction;
    return this.metrics.map((metric) => {
      const { name } = metric;
      const values: unknown = metric.statistics(seen, target);
      requireResult(name, values, "statistics");
      if (values.dtype === "f32" && values.size > 0) return values;
      throw new ShapeError(
        `${name}: statistics must give an f32 tensor that is not empty, got ${values.dtype} ${formatShape(values.shape)}`,
      );
    });
  }

  /** Takes a batch's numbers into the totals. */
  update(totals: MetricTotals, statistics: readonly (readonly number[])[]): void {
    this.metrics.forEach((metric, i) => {
      const { name } = metric;
      const values = statistics[i]!;
      if (totals[name] === undefined) {
        const begun: unknown = metric.init === undefined ? values.map(() => 0) : metric.init();
        refusePromise(name, begun, "init");
        if (!totalsRule.accepts(begun)) {
          throw new UsageError(`${name}: init must give ${totalsRule.expected}, got ${describe(begun)}`);
        }
        totals[name] = [...(begun as readonly number[])];
      }
      const own = totals[name];
      if (metric.update !== undefined) refusePromise(name, metric.update(own, values), "update");
      else for (const [k, value] of values.entries()) own[k]! += value;
    });
  }

  /** The figures by name. */
  results(totals: MetricTotals, samples: number): Record<string, number> {
    return Object.fromEntries(
      this.metrics.map((metric) => {
        const { name } = metric;
        const figure: unknown = metric.result(totals[name] ?? [], samples);
        refusePromise(name, figure, "result");
        if (typeof figure === "number") return [name, figure];
        throw new UsageError(`${name}: result must give a number, got ${describe(figure)}`);
      }),
    );
  }
}

/** Totals by the metrics' names. */
export type MetricTotals = Record<string, number[]>;
const totalsRule = listOf(anyNumber);
