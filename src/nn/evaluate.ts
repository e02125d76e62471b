// Losses, metrics and outputs of a model over a data set, batch by batch. Nothing is recorded for gradients.
import { noGrad } from "../autograd/tape.js";
import type { TypedArray } from "../tensor/dtype.js";
import { UsageError } from "../tensor/errors.js";
import { checkOptions, instanceOf, integer, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { type StepInput, StepPlan } from "../tensor/step-plan.js";
import { type Batches, EpochBatches, isBatches } from "./batches.js";
import type { Figures } from "./figures.js";
import type { Model } from "./model.js";
import { lossesOf, type Objective, type ObjectiveOptions, objectiveOf, objectiveRules } from "./objective.js";
import { OutputFigures } from "./output-figures.js";
import {
  batchSizeRule,
  type InputBatch,
  type InputData,
  InputSet,
  type LabelledBatch,
  type LabelledData,
  SampleSet,
  type StepValues,
} from "./samples.js";

/** Samples at a time; what comes out does not depend on it, apart from rounding. */
const DEFAULT_BATCH = 128;

/** Bytes of batches from an iterable that may be on their way to the device at once. */
const MOST_BYTES_UNREAD = 2 ** 26;

export interface EvaluateOptions extends ObjectiveOptions {
  /** Default 128; a matter of memory and speed only. For data in memory. */
  readonly batchSize?: number;
  /** Takes no more than so many batches of an iterable. */
  readonly steps?: number;
  /** Ends the evaluation early with the signal's reason. */
  readonly signal?: AbortSignal;
}

const evaluateRules: Rules<EvaluateOptions> = {
  ...objectiveRules,
  batchSize: batchSizeRule,
  steps: integer({ from: 1 }),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
};

/** Of a model of several outputs, also the figures of each: "price_loss", "kind_accuracy". */
export interface Evaluation {
  /** Mean per sample, with the layers' L2 penalties, as Keras. Of several outputs the weighted sum of their losses. */
  readonly loss: number;
  /** Share of samples classified correctly, where it is counted. */
  readonly accuracy?: number;
  /** Of metrics, by name. */
  readonly [figure: string]: number | undefined;
}

export async function evaluate(
  model: Model,
  data: LabelledData | Batches<LabelledBatch>,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const given = checkOptions("evaluate", options, evaluateRules, ["loss"]);
  const objective = objectiveOf("evaluate", model, given);
  requireFor("evaluate", isBatches(model, data), given);
  return evaluateData(
    model,
    isBatches(model, data) ? data : new SampleSet(model, data, objective.terms),
    objective,
    given,
  );
}

/** @throws UsageError for an option that the data has no use for */
function requireFor(
  owner: string,
  batches: boolean,
  { batchSize, steps }: Pick<EvaluateOptions, "batchSize" | "steps">,
) {
  if (batches && batchSize !== undefined) {
    throw new UsageError(`${owner}: batchSize is for data in memory, these batches are made already; leave it out`);
  }
  if (!batches && steps !== undefined) {
    throw new UsageError(`${owner}: steps is for batches from an iterable; limit the data itself`);
  }
}

/** @throws the signal's reason when it is raised before the end */
export async function evaluateData(
  model: Model,
  data: SampleSet | Batches<LabelledBatch>,
  objective: Objective,
  options: Pick<EvaluateOptions, "batchSize" | "steps" | "signal">,
): Promise<Figures> {
  const { signal } = options;
  const figures = new OutputFigures(model, objective);
  const penalty = noGrad(() => scope(() => model.penalty()));
  const { inputs } = model;
  const step = new StepPlan(model.device, (...given) =>
    noGrad(() => {
      const [x, rest] = [given.slice(0, inputs.length), given.slice(inputs.length)];
      const { length } = objective.terms;
      const batch = { x, y: rest.slice(0, length), weights: rest.slice(length) };
      figures.record(lossesOf(model, objective, batch), batch.y);
      return [];
    }),
  );
  const sums = figures.noSums();
  let sizes: number[] = [];
  const read = async () => {
    for (const [i, batch] of (await figures.read()).entries()) figures.add(sums, batch, sizes[i]!);
    sizes = [];
    signal?.throwIfAborted();
  };
  try {
    let bytes = 0;
    for await (const { count, x, y, weights } of stepsOf(model, data, objective, options)) {
      step.run(...x, ...y, ...weights);
      sizes.push(count);
      if (!(data instanceof SampleSet)) bytes += bytesOf(x);
      if (sizes.length < figures.mostUnread && bytes < MOST_BYTES_UNREAD) continue;
      await read();
      bytes = 0;
    }
    if (sizes.length > 0) await read();
    const found = figures.figuresOf(sums);
    return penalty === undefined ? found : { ...found, loss: found.loss + (await penalty.item()) };
  } finally {
    step.dispose();
    figures.dispose();
    penalty?.dispose();
  }
}

const bytesOf = (inputs: readonly StepInput[]): number => inputs.reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0);

/** Batches of data in memory, or of an iterable. */
async function* stepsOf(
  model: Model,
  data: SampleSet | Batches<LabelledBatch>,
  { terms }: Objective,
  { batchSize = DEFAULT_BATCH, steps }: Pick<EvaluateOptions, "batchSize" | "steps">,
): AsyncGenerator<StepValues> {
  if (data instanceof SampleSet) {
    for (let start = 0; start < data.count; start += batchSize) {
      yield data.range(start, Math.min(start + batchSize, data.count));
    }
    return;
  }
  for await (const [batch, owner] of batchesOf("evaluate", model, data, steps)) {
    const set = new SampleSet(model, batch, terms, owner);
    yield set.range(0, set.count);
  }
}

/** The batches of an iterable, each with what begins messages about it. */
export async function* batchesOf<T>(
  op: string,
  model: Model,
  data: Batches<T>,
  steps = Number.POSITIVE_INFINITY,
): AsyncGenerator<readonly [T, string]> {
  const batches = new EpochBatches(`${op}: the data of "${model.name}"`, data);
  await batches.begin(0);
  try {
    for (let index = 0; index < steps; index++) {
      const batch = await batches.next();
      if (batch === undefined) break;
      yield [batch, `${model.name}: batch ${index}`];
    }
    batches.requireSome();
  } finally {
    await batches.end();
  }
}

export interface PredictOptions {
  /** Default 128; a matter of memory and speed only. For data in memory. */
  readonly batchSize?: number;
  /** Takes no more than so many batches of an iterable. */
  readonly steps?: number;
}

/** A model's outputs, row-major. */
export interface Predictions {
  readonly data: TypedArray;
  /** [N, ...outputShape] */
  readonly shape: Shape;
}

/** The outputs of a model for data, in the order of the outputs. */
export async function predictAll(
  model: Model,
  data: InputData | Batches<InputBatch>,
  options: PredictOptions = {},
): Promise<Predictions[]> {
  const rules = { batchSize: batchSizeRule, steps: integer({ from: 1 }) };
  const { batchSize = DEFAULT_BATCH, ...given } = checkOptions("predict", options, rules);
  const inBatches = isBatches(model, data);
  requireFor("predict", inBatches, options);
  const step = new StepPlan(model.device, (...x) => noGrad(() => model.callAll(x)));
  const run = (inputs: readonly StepInput[]) => Promise.all(step.run(...inputs).map((output) => output.data()));
  const shapesOf = (count: number) => model.outputShapes.map((shape) => [count, ...shape]);
  const arraysOf = (count: number) =>
    shapesOf(count).map((shape) => new (model.device.kind === "cpu" ? Float64Array : Float32Array)(sizeOf(shape)));
  try {
    if (!inBatches) {
      const set = new InputSet(model, data);
      const all = arraysOf(set.count);
      for (let start = 0; start < set.count; start += batchSize) {
        const parts = await run(set.inputsIn(start, Math.min(start + batchSize, set.count)));
        for (const [i, part] of parts.entries()) all[i]!.set(part, (start * all[i]!.length) / set.count);
      }
      return shapesOf(set.count).map((shape, i) => ({ data: all[i]!, shape }));
    }
    const batches: TypedArray[][] = [];
    let count = 0;
    for await (const [batch, owner] of batchesOf("predict", model, data, given.steps)) {
      const set = new InputSet(model, batch, owner);
      batches.push(await run(set.inputsIn(0, set.count)));
      count += set.count;
    }
    const all = arraysOf(count);
    for (const [i, values] of all.entries()) {
      let start = 0;
      for (const parts of batches) {
        values.set(parts[i]!, start);
        start += parts[i]!.length;
      }
    }
    return shapesOf(count).map((shape, i) => ({ data: all[i]!, shape }));
  } finally {
    step.dispose();
  }
}

/** The only output of a model for data. @throws UsageError for a model of several */
export async function predict(
  model: Model,
  data: InputData | Batches<InputBatch>,
  options?: PredictOptions,
): Promise<Predictions> {
  if (model.outputs.length > 1) {
    throw new UsageError(`predict: "${model.name}" has ${model.outputs.length} outputs; use predictAll`);
  }
  return (await predictAll(model, data, options))[0]!;
}
