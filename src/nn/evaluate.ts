// Loss, accuracy and outputs of a model over a data set, batch by batch. Nothing is recorded for gradients.
import { noGrad } from "../autograd/tape.js";
import type { TypedArray } from "../tensor/dtype.js";
import { checkOptions, instanceOf, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { StepPlan } from "../tensor/step-plan.js";
import { requireResult } from "../tensor/tensor.js";
import { type Figures, FigureTable } from "./figures.js";
import { asLoss, type LossFunction, lossRule } from "./loss.js";
import { type MetricOption, metricsRule } from "./metrics/metric.js";
import type { Model } from "./model.js";
import { batchSizeRule, type InputData, InputSet, type LabelledData, SampleSet } from "./samples.js";
import { lossInput } from "./train-step.js";

/** Samples at a time; what comes out does not depend on it, apart from rounding. */
const DEFAULT_BATCH = 128;

export interface EvaluateOptions {
  /** A loss of `loss`, or any function of prediction and target, see `LossFunction`. */
  readonly loss: LossFunction;
  /** Default 128; a matter of memory and speed only. */
  readonly batchSize?: number;
  /** Default: accuracy where the loss is one of classes. */
  readonly metrics?: readonly MetricOption[];
  /** Ends the evaluation early with the signal's reason. */
  readonly signal?: AbortSignal;
}

const evaluateRules: Rules<EvaluateOptions> = {
  loss: lossRule,
  batchSize: batchSizeRule,
  metrics: metricsRule,
  signal: instanceOf(AbortSignal, "an AbortSignal"),
};

export interface Evaluation {
  /** Mean per sample, with the layers' L2 penalties, as Keras. */
  readonly loss: number;
  /** Share of samples classified correctly, where it is counted. */
  readonly accuracy?: number;
  /** Of metrics, by name. */
  readonly [figure: string]: number | undefined;
}

export async function evaluate(model: Model, data: LabelledData, options: EvaluateOptions): Promise<Evaluation> {
  const given = checkOptions("evaluate", options, evaluateRules, ["loss"]);
  return evaluateSet(model, new SampleSet(model, data), given);
}

/** @throws the signal's reason when it is raised before the end */
export async function evaluateSet(model: Model, set: SampleSet, options: EvaluateOptions): Promise<Figures> {
  const { batchSize = DEFAULT_BATCH, metrics, signal } = options;
  const loss = asLoss(options.loss);
  const table = new FigureTable(model, loss, metrics);
  const penalty = noGrad(() => scope(() => model.penalty()));
  const step = new StepPlan(model.device, (x, target) =>
    noGrad(() => {
      const prediction = lossInput(model, loss, x!);
      const value = loss(prediction, target!);
      requireResult(loss.lossName, value, "the loss");
      table.record(value, prediction, target!);
      return [];
    }),
  );
  const sums = table.noSums();
  try {
    for (let start = 0; start < set.count; ) {
      const sizes: number[] = [];
      for (; start < set.count && sizes.length < table.mostUnread; start += batchSize) {
        const end = Math.min(start + batchSize, set.count);
        step.run(set.inputRange(start, end), set.targetRange(start, end));
        sizes.push(end - start);
      }
      for (const [i, figures] of (await table.read()).entries()) table.add(sums, figures, sizes[i]!);
      signal?.throwIfAborted();
    }
    const figures = table.figuresOf(sums);
    return penalty === undefined ? figures : { ...figures, loss: figures.loss + (await penalty.item()) };
  } finally {
    step.dispose();
    table.dispose();
    penalty?.dispose();
  }
}

export interface PredictOptions {
  /** Default 128; a matter of memory and speed only. */
  readonly batchSize?: number;
}

/** A model's outputs, row-major. */
export interface Predictions {
  readonly data: TypedArray;
  /** [N, ...outputShape] */
  readonly shape: Shape;
}

export async function predict(model: Model, data: InputData, options: PredictOptions = {}): Promise<Predictions> {
  const { batchSize = DEFAULT_BATCH } = checkOptions("predict", options, { batchSize: batchSizeRule });
  const set = new InputSet(model, data);
  const outputSize = sizeOf(model.outputShape);
  const size = set.count * outputSize;
  const all = model.device.kind === "cpu" ? new Float64Array(size) : new Float32Array(size);
  const step = new StepPlan(model.device, (x) => noGrad(() => [model.call(x!)]));
  try {
    for (let start = 0; start < set.count; start += batchSize) {
      const [output] = step.run(set.inputRange(start, Math.min(start + batchSize, set.count)));
      all.set(await output!.data(), start * outputSize);
    }
  } finally {
    step.dispose();
  }
  return { data: all, shape: [set.count, ...model.outputShape] };
}
