// Loss, accuracy and outputs of a model over a data set, batch by batch. Nothing is recorded for gradients.
import { noGrad } from "../autograd/tape.js";
import type { TypedArray } from "../tensor/dtype.js";
import { checkOptions, instanceOf, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { StepPlan } from "../tensor/step-plan.js";
import { requireResult } from "../tensor/tensor.js";
import { addFigures, type FigureSums, FigureTable, type Metric, MOST_UNREAD, meansOf, metricsRule } from "./figures.js";
import { type Loss, lossRule } from "./losses.js";
import type { Model } from "./model.js";
import { batchSizeRule, type InputData, InputSet, type LabelledData, SampleSet } from "./samples.js";
import { lossInput } from "./train-step.js";

/** Samples at a time; what comes out does not depend on it, apart from rounding. */
const DEFAULT_BATCH = 128;

export interface EvaluateOptions {
  readonly loss: Loss;
  /** Default 128; a matter of memory and speed only. */
  readonly batchSize?: number;
  /** Default: accuracy where the loss is one of classes. */
  readonly metrics?: readonly Metric[];
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
}

export async function evaluate(model: Model, data: LabelledData, options: EvaluateOptions): Promise<Evaluation> {
  const given = checkOptions("evaluate", options, evaluateRules, ["loss"]);
  return evaluateSet(model, new SampleSet(model, data), given);
}

/** @throws the signal's reason when it is raised before the end */
export async function evaluateSet(model: Model, set: SampleSet, options: EvaluateOptions): Promise<Evaluation> {
  const { loss, batchSize = DEFAULT_BATCH, metrics, signal } = options;
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
  const sums: FigureSums = { loss: 0, correct: 0, samples: 0 };
  try {
    for (let start = 0; start < set.count; ) {
      const sizes: number[] = [];
      for (; start < set.count && sizes.length < MOST_UNREAD; start += batchSize) {
        const end = Math.min(start + batchSize, set.count);
        step.run(set.inputRange(start, end), set.targetRange(start, end));
        sizes.push(end - start);
      }
      for (const [i, figures] of (await table.read()).entries()) addFigures(sums, figures, sizes[i]!);
      signal?.throwIfAborted();
    }
    const means = meansOf(sums, table.accuracy !== "none");
    return penalty === undefined ? means : { ...means, loss: means.loss + (await penalty.item()) };
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
