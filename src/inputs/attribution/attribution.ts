// What attributions share: which answer of a model is explained, in batches. An attribution says of every value of an
// input how much it counts for that answer. Names, formulas and defaults are Captum's. One file an attribution, listed
// in index.ts.
import { mul } from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { sum } from "../../autograd/ops/reduce.js";
import { reshape } from "../../autograd/ops/transform.js";
import { grad, noGrad } from "../../autograd/tape.js";
import { requireModel } from "../../nn/model.js";
import { type InputData, InputSet } from "../../nn/samples.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { anyOf, instanceOf, integer, listOf, oneOf, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type HostTensor, StepPlan } from "../../tensor/step-plan.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Model } from "../model.js";

/** What every attribution takes. */
export interface AttributionOptions {
  /**
   * The output that is explained, such as a class; one for all inputs, or one for each, [N]. Default 0 where there is
   * one.
   */
  readonly target?: number | Int32Array | readonly number[];
  /** Whether what goes into the last activation is explained, or what comes out of it; default "logits". */
  readonly of?: "logits" | "outputs";
  /** Inputs at a time, a matter of memory and speed only; default 64. */
  readonly batchSize?: number;
  /** Ends the work with the signal's reason. */
  readonly signal?: AbortSignal;
}

const index = integer({ from: 0 });
export const attributionRules: Rules<AttributionOptions> = {
  target: anyOf(index, listOf(index), instanceOf(Int32Array, "an Int32Array")),
  of: oneOf("logits", "outputs"),
  batchSize: integer({ from: 1 }),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
};

/** How much every value of the inputs counts. */
export interface Attribution {
  /** [N, ...inputShape] in a row. */
  readonly values: Float32Array;
  readonly shape: Shape;
  /** The answer that is explained, [N]. */
  readonly outputs: Float32Array;
}

/** The explained answer of a batch, for images x [n, ...inputShape]. */
export interface Explained {
  /** [n] */
  answers(x: Tensor): Tensor;
  /** Its gradient, [n, ...inputShape]. Nothing is computed for the weights. */
  gradient(x: Tensor): Tensor;
}

/**
 * Runs `attribute` on batches of the inputs, within a recorded step, and puts together what it gives: tensors whose
 * first axis is that of the batch. `attribute` gets x [n, ...inputShape] and what `more` gives for inputs [start, end).
 * @throws UsageError for a target that the model has not, ShapeError where inputs or targets do not fit
 */
export async function attributed(
  op: string,
  model: Model,
  data: InputData,
  { target, of = "logits", batchSize = 64, signal }: AttributionOptions,
  attribute: (explained: Explained, x: Tensor, more: readonly Tensor[]) => readonly Tensor[],
  more: (start: number, end: number) => readonly HostTensor[] = () => [],
): Promise<{ readonly shape: Shape; readonly parts: readonly Float32Array[] }> {
  const set = inputsOf(op, model, data);
  const { count } = set;
  const targets = targetsOf(op, model, count, target);
  const outputs = sizeOf(model.outputShape);
  const plan = new StepPlan(model.device, (x, y, ...rest) => {
    const hot = oneHot(y!, outputs);
    const answers = (images: Tensor) => {
      const all = of === "logits" ? model.logits(images) : model.call(images);
      return sum(mul(reshape(all, [images.shape[0]!, outputs]), hot), { axes: 1 });
    };
    const gradient = grad((images: Tensor) => sum(answers(images)));
    return noGrad(() => attribute({ answers, gradient }, x!, rest));
  });
  const parts: Float32Array[] = [];
  try {
    for (let start = 0; start < count; start += batchSize) {
      signal?.throwIfAborted();
      const end = Math.min(start + batchSize, count);
      const labels = { values: targets.subarray(start, end), shape: [end - start] };
      for (const [i, found] of plan.run(set.inputRange(start, end), labels, ...more(start, end)).entries()) {
        const size = found.size / (end - start);
        parts[i] ??= new Float32Array(count * size);
        parts[i].set(await found.data(), start * size);
      }
    }
  } finally {
    plan.dispose();
  }
  return { shape: [count, ...model.inputShape], parts };
}

/** @throws UsageError for what is no model, ShapeError for inputs of another shape */
export function inputsOf(op: string, model: Model, data: InputData): InputSet {
  requireModel(op, model);
  const set = new InputSet(model, data);
  if (set.count === 0) throw new UsageError(`${op}: needs at least one input, got none`);
  return set;
}

function targetsOf(op: string, model: Model, count: number, target: AttributionOptions["target"]): Int32Array {
  const outputs = sizeOf(model.outputShape);
  if (target === undefined && outputs !== 1) {
    throw new UsageError(
      `${op}: target is required, one of the outputs 0 to ${outputs - 1} of "${model.name}" ${formatShape(model.outputShape)}`,
    );
  }
  const all = typeof target === "object" ? Int32Array.from(target) : new Int32Array(count).fill(target ?? 0);
  if (all.length !== count) {
    throw new ShapeError(`${op}: needs one target, or one for each of ${count} inputs, got ${all.length}`);
  }
  const wrong = all.find((each) => each < 0 || each >= outputs);
  if (wrong === undefined) return all;
  throw new UsageError(`${op}: target must be an output from 0 to ${outputs - 1}, got ${wrong}`);
}
