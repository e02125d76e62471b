// What a training minimises and what it reports: a loss for each output of a model with its weight, and metrics. The
// loss of a step is their weighted sum, as Keras's.
import { add, mul } from "../autograd/ops/elementwise.js";
import { mean } from "../autograd/ops/reduce.js";
import { UsageError } from "../tensor/errors.js";
import { anyOf, array, check, meantHint, number, object, type Rule, type Rules } from "../tensor/options.js";
import { requireResult, type Tensor } from "../tensor/tensor.js";
import { asLoss, type Loss, type LossFunction, lossRule } from "./loss.js";
import { type MetricOption, metricsRule } from "./metrics/metric.js";
import type { CallOptions, Model } from "./model.js";

/** One for a model's only output; for several a list in their order, or an object by their names. */
export type PerOutput<T> = T | readonly (T | null | undefined)[] | Readonly<Record<string, T | null | undefined>>;

/** What is minimised and reported. */
export interface ObjectiveOptions {
  /**
   * A loss of `loss`, or any function of prediction and target, see `LossFunction`: one of every output; or one for
   * each, as a list or by the outputs' names. An output whose loss is null or not there has none, and needs no targets.
   */
  readonly loss: PerOutput<LossFunction>;
  /** Factors of the losses in their sum, as a list or by the outputs' names; default 1. */
  readonly lossWeights?: readonly number[] | Readonly<Record<string, number>>;
  /**
   * Of the only output; for several a list of lists or an object by their names. Default: accuracy where the loss is
   * one of classes.
   */
  readonly metrics?:
    | readonly MetricOption[]
    | readonly (readonly MetricOption[])[]
    | Readonly<Record<string, readonly MetricOption[]>>;
}

export const objectiveRules: Rules<ObjectiveOptions> = {
  loss: {
    expected: lossRule.expected,
    accepts: (value) => lossRule.accepts(value) || array.accepts(value) || object.accepts(value),
  },
  lossWeights: anyOf(array, object),
  metrics: { expected: metricsRule.expected, accepts: (value) => array.accepts(value) || object.accepts(value) },
};

/** The loss of an output. */
export interface Term {
  /** Which of the model's outputs. */
  readonly output: number;
  readonly name: string;
  readonly loss: Loss;
  /** In the sum. */
  readonly weight: number;
  readonly metrics: readonly MetricOption[] | undefined;
}

/** What a model is trained or judged by. */
export interface Objective {
  readonly terms: readonly Term[];
  /** Whether the model has one output, whose figures need no name. */
  readonly single: boolean;
}

/** Tensors of a batch: all inputs, and targets and weights of the terms. */
export interface StepBatch {
  readonly x: readonly Tensor[];
  /** One for each term. */
  readonly y: readonly Tensor[];
  /** Of samples [N]: none, one for all terms, or one for each. */
  readonly weights: readonly Tensor[];
}

/** What a batch came to. */
export interface StepLosses {
  /** Weighted sum of the terms. */
  readonly loss: Tensor;
  /** Of each term, before its weight. */
  readonly losses: readonly Tensor[];
  /** What each term's loss was computed of. */
  readonly predictions: readonly Tensor[];
}

/** @throws UsageError for what fits no output */
export function objectiveOf(owner: string, model: Model, options: ObjectiveOptions): Objective {
  const names = model.outputNames;
  const { loss, lossWeights, metrics } = options;
  const losses = lossRule.accepts(loss)
    ? names.map(() => loss as LossFunction)
    : eachOf<LossFunction>(owner, "loss", names, loss, lossRule);
  const factors = lossWeights && eachOf<number>(owner, "lossWeights", names, lossWeights, number());
  // Of one output they may stand alone.
  const alone = names.length === 1 && Array.isArray(metrics) && !metrics.some(Array.isArray);
  const found =
    metrics && eachOf<readonly MetricOption[]>(owner, "metrics", names, alone ? [metrics] : metrics, metricsRule);
  const terms = losses.flatMap((loss, output) => {
    if (loss === undefined) return [];
    return [
      { output, name: names[output]!, loss: asLoss(loss), weight: factors?.[output] ?? 1, metrics: found?.[output] },
    ];
  });
  if (terms.length === 0)
    throw new UsageError(`${owner}: needs a loss of at least one output (${names.join(", ")}), got none`);
  const without = found?.findIndex((each, output) => each !== undefined && losses[output] === undefined) ?? -1;
  if (without >= 0) {
    throw new UsageError(`${owner}: metrics of an output need its loss, "${names[without]}" has none; give it a loss`);
  }
  return { terms, single: names.length === 1 };
}

/** What is given for each name, as a list in their order or by name; undefined for what is null or not there. */
function eachOf<T>(
  owner: string,
  what: string,
  names: readonly string[],
  given: unknown,
  rule: Rule,
): (T | undefined)[] {
  const outputs = `${names.length} output${names.length === 1 ? "" : "s"} (${names.join(", ")})`;
  let values: readonly unknown[];
  if (Array.isArray(given)) {
    if (given.length !== names.length) {
      throw new UsageError(`${owner}: ${what} must be one for each of ${outputs}, got ${given.length}`);
    }
    values = given;
  } else {
    const unknown = Object.keys(given as object).find((name) => !names.includes(name));
    if (unknown !== undefined) {
      throw new UsageError(`${owner}: ${what} names "${unknown}", there are ${outputs}${meantHint(unknown, names)}`);
    }
    values = names.map((name) => (given as Readonly<Record<string, unknown>>)[name]);
  }
  return values.map((value, i) => {
    if (value === undefined || value === null) return undefined;
    check(owner, names.length === 1 ? what : `${what} of "${names[i]}"`, value, rule);
    return value as T;
  });
}

/**
 * Whether a loss is computed of an output's logits: where the activation that gives the output is part of it.
 * @throws UsageError where that activation would be applied to probabilities
 */
function takesLogits(model: Model, { loss, output }: Term): boolean {
  const { includes, lossName } = loss;
  const { layer, activation, obstacle } = model.heads[output]!;
  if (includes === undefined || (activation !== "softmax" && activation !== "sigmoid")) return false;
  if (includes === activation && obstacle === undefined) return true;
  const other = includes === "softmax" ? "crossEntropyFromProbabilities" : "binaryCrossEntropy";
  const found =
    obstacle === undefined
      ? `layer "${layer}" applies ${activation}`
      : `layer "${layer}" applies ${activation} and "${obstacle.layer}" makes other values of it`;
  throw new UsageError(
    `${lossName}: applies ${includes} itself, so that "${model.name}" must end in it or in logits, but ${found}; use loss.${other}, or another last layer`,
  );
}

/** What the losses are computed of: logits where the activation of an output is part of its loss. */
export function predictionsOf(
  model: Model,
  terms: readonly Term[],
  x: readonly Tensor[],
  options: CallOptions,
): Tensor[] {
  const logits = model.outputNames.map(() => false);
  for (const term of terms) logits[term.output] = takesLogits(model, term);
  const outputs = model.callAll(x, { ...options, logits });
  return terms.map(({ output }) => outputs[output]!);
}

/**
 * The losses of a batch. With weights of samples w [N] a term is mean(w * perSample), which divides by N whatever
 * their sum is, as Keras does.
 */
export function lossesOf(model: Model, { terms }: Objective, batch: StepBatch, options: CallOptions = {}): StepLosses {
  const predictions = predictionsOf(model, terms, batch.x, options);
  const losses = terms.map(({ loss }, i) => {
    const weights = batch.weights.length > 1 ? batch.weights[i] : batch.weights[0];
    const [prediction, target] = [predictions[i]!, batch.y[i]!];
    if (weights === undefined) {
      const value = loss(prediction, target);
      requireResult(loss.lossName, value, "the loss");
      return value;
    }
    const values = loss.perSample(prediction, target);
    requireResult(loss.lossName, values, "the loss of each sample");
    return mean(mul(values, weights));
  });
  const [first, ...others] = losses.map((value, i) => (terms[i]!.weight === 1 ? value : mul(value, terms[i]!.weight)));
  return { loss: others.reduce((sum, value) => add(sum, value), first!), losses, predictions };
}
