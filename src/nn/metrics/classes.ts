// Metrics of classes: top k, precision, recall, F1. Formulas and defaults are Keras's. But a NaN among predictions or
// targets makes precision, recall and F1 NaN, where Keras takes it for a number below every threshold; for top k, as
// for accuracy, such a sample is wrong.

import { zeros } from "../../autograd/ops/create.js";
import { abs, cast, equal, greater, greaterEqual, less, mul, notEqual, where } from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { argmax, max, sum } from "../../autograd/ops/reduce.js";
import { concat, reshape, slice } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { checkOptions, integer, number, oneOf, type Rules, text } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import { countOf, ratio, targetsOf, unlessUnknown } from "./counting.js";
import { type Metric, meanPerSample } from "./metric.js";

export interface MetricOptions {
  /** Of the figure; by default the metric's. */
  readonly name?: string;
}

export const nameRules: Rules<MetricOptions> = { name: text };

export interface TopKOptions extends MetricOptions {
  /** Default 5. */
  readonly k?: number;
}

/**
 * Share of the samples whose class is among the k most probable ones: fewer than k of the predictions [N, C] are above
 * its own. Targets are class ids i32 [N], or f32 [N, C], of which the largest is the class. Figure `topKAccuracy`.
 */
export function topK(options: TopKOptions = {}): Metric {
  const { k = 5, name = "topKAccuracy" } = checkOptions("topK", options, { ...nameRules, k: integer({ from: 1 }) });
  return meanPerSample(name, (prediction, target) => {
    if (prediction.rank !== 2 || prediction.shape[1] === 0) {
      throw new ShapeError(`topK: needs predictions [N, C] of C > 0 classes, got ${formatShape(prediction.shape)}`);
    }
    // Only for what it refuses: ids and targets of other shapes.
    targetsOf("topK", prediction, target);
    const last = { axes: -1, keepDims: true } as const;
    const soft = target.dtype === "f32";
    // What is no class has no 1 anywhere.
    const own = equal(oneHot(soft ? argmax(target, -1) : target, prediction.shape[1]!), 1);
    const value = sum(where(own, prediction, zeros(prediction.device, [])), last);
    const better = sum(greater(prediction, value), last);
    const unknown = sum(notEqual(prediction, prediction), last);
    const found = mul(mul(less(better, k), equal(unknown, 0)), sum(own, last));
    const known = soft ? mul(found, equal(sum(notEqual(target, target), last), 0)) : found;
    return reshape(cast(known, "f32"), [prediction.shape[0]!]);
  });
}

export interface ThresholdOptions extends MetricOptions {
  /** Predictions above it name a class; default 0.5. */
  readonly threshold?: number;
  /** Counts this one of the classes alone, from 0; by default all of them, together. */
  readonly classId?: number;
}

const thresholdRules: Rules<ThresholdOptions> = {
  ...nameRules,
  threshold: number(),
  classId: integer({ from: 0 }),
};

/** [true positives, what precision or recall divides by, unknown] of predictions above a threshold. */
function counted(op: string, of: "named" | "true", options: ThresholdOptions): Metric {
  const { threshold = 0.5, classId, name = op } = checkOptions(op, options, thresholdRules);
  return {
    name,
    statistics(prediction, target) {
      const { truth, unknown } = targetsOf(op, prediction, target);
      const all = [greater(prediction, threshold), truth];
      const [named, wanted] = classId === undefined ? all : all.map((ones) => oneClass(op, ones, classId));
      return concat([countOf(mul(named!, wanted!)), countOf(of === "named" ? named! : wanted!), unknown]);
    },
    result: ([right, all, unknown]) => unlessUnknown(unknown!, () => ratio(right!, all!)),
  };
}

/** The last axis at one index. */
function oneClass(op: string, x: Tensor, classId: number): Tensor {
  const classes = x.shape.at(-1)!;
  if (classId >= classes) {
    throw new UsageError(`${op}: classId must be below ${classes}, the number of classes, got ${classId}`);
  }
  const begin = x.shape.map((_, axis) => (axis === x.rank - 1 ? classId : 0));
  return slice(x, begin, x.shape.with(-1, 1));
}

/**
 * Of the predictions above the threshold, the share whose target is not 0; 0 where there are none. Predictions
 * [N, ..., C], class ids [N, ...] or targets of their shape. Figure `precision`.
 */
export const precision = (options: ThresholdOptions = {}): Metric => counted("precision", "named", options);

/**
 * Of the targets that are not 0, the share with a prediction above the threshold; 0 where there are none. Otherwise as
 * `precision`. Figure `recall`.
 */
export const recall = (options: ThresholdOptions = {}): Metric => counted("recall", "true", options);

export interface F1Options extends MetricOptions {
  /**
   * "macro" (default): the mean over the classes; "weighted": by how many samples each has; "micro": one score of all
   * classes' counts.
   */
  readonly average?: "macro" | "micro" | "weighted";
  /** Predictions above it name a class; by default a sample's largest one does. */
  readonly threshold?: number;
}

const f1Rules: Rules<F1Options> = {
  ...nameRules,
  average: oneOf("macro", "micro", "weighted"),
  threshold: number({ above: 0, to: 1 }),
};

/** Keras's epsilon, which it adds to what it divides by. */
const EPSILON = 1e-7;

/** 2 precision recall / (precision + recall) of counts. */
function f1Of(right: number, named: number, wanted: number): number {
  const [precision, recall] = [right / (named + EPSILON), right / (wanted + EPSILON)];
  return (2 * precision * recall) / (precision + recall + EPSILON);
}

/**
 * F1 score, 2 precision recall / (precision + recall), of predictions [N, C] with class ids [N] or targets [N, C].
 * Keras's F1Score; there the default average gives one score per class. Figure `f1Score`.
 */
export function f1Score(options: F1Options = {}): Metric {
  const { average = "macro", threshold, name = "f1Score" } = checkOptions("f1Score", options, f1Rules);
  return {
    name,
    statistics(prediction, target) {
      const { truth, unknown } = targetsOf("f1Score", prediction, target);
      if (prediction.rank !== 2) {
        throw new ShapeError(`f1Score: needs predictions [N, C], got ${formatShape(prediction.shape)}`);
      }
      if (prediction.shape[1] === 1 && threshold === undefined) {
        throw new UsageError("f1Score: a single prediction is always the largest; give a threshold, such as 0.5");
      }
      const named =
        threshold === undefined
          ? mul(greaterEqual(prediction, max(prediction, { axes: -1, keepDims: true })), greater(abs(prediction), 1e-9))
          : greater(prediction, threshold);
      const perClass = (ones: Tensor) => cast(sum(ones, 0), "f32");
      return concat([perClass(mul(named, truth)), perClass(named), perClass(truth), unknown]);
    },
    result(totals) {
      return unlessUnknown(totals.at(-1)!, () => {
        const classes = (totals.length - 1) / 3;
        const [right, named, wanted] = [0, 1, 2].map((k) => totals.slice(k * classes, (k + 1) * classes));
        const total = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);
        if (average === "micro") return f1Of(total(right!), total(named!), total(wanted!));
        const weights = wanted!.map((count) =>
          average === "macro" ? 1 / classes : count / (total(wanted!) + EPSILON),
        );
        return total(weights.map((weight, c) => weight * f1Of(right![c]!, named![c]!, wanted![c]!)));
      });
    },
  };
}
