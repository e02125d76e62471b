// What attributions share: which answer of a model is explained, in batches. An attribution says of every value of an
// input how much it counts for that answer. Names, formulas and defaults are Captum's. One file an attribution, listed
// in index.ts.

import { grad } from "../../autograd/differentiate.js";
import { mul } from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { sum } from "../../autograd/ops/reduce.js";
import { reshape } from "../../autograd/ops/transform.js";
import { noGrad } from "../../autograd/tape.js";
import { requireModel } from "../../nn/model.js";
import { type InputData, InputSet } from "../../nn/samples.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { anyOf, instanceOf, integer, listOf, number, oneOf, type Rules } from "../../tensor/options.js";
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
  /** The explained ones among all outputs or logits of the model, [n, ...outputShape] to [n]. */
  chosen(all: Tensor): Tensor;
  /** The number of what the answers are chosen of in the model's graph, and its call without activation. */
  readonly value: number;
  readonly bare: number | undefined;
}

/** What a step gets besides the images: tensors for inputs [start, end) in one of several rounds. */
export type More = (start: number, end: number, round: number) => readonly HostTensor[];

/** What a round gave for inputs [start, end): tensors' values, row after row. */
export type Take = (parts: readonly Float32Array[], at: { start: number; end: number; round: number }) => void;

/**
 * Runs `attribute` on batches of the inputs, within a recorded step, once or in several rounds. It gets x [n,
 * ...inputShape] and what `more` gives; `take` gets what comes of it.
 * @throws UsageError for a target that the model has not, ShapeError where inputs or targets do not fit
 */
export async function explain(
  op: string,
  model: Model,
  data: InputData,
  { target, of = "logits", batchSize = 64, signal }: AttributionOptions,
  step: {
    readonly attribute: (explained: Explained, x: Tensor, more: readonly Tensor[]) => readonly Tensor[];
    readonly rounds?: number;
    readonly more?: More;
    readonly take: Take;
  },
): Promise<void> {
  const set = inputsOf(op, model, data);
  const { count } = set;
  const targets = targetsOf(op, model, count, target);
  const outputs = sizeOf(model.outputShape);
  const { attribute, rounds = 1, more = () => [], take } = step;
  const plan = new StepPlan(model.device, (x, y, ...rest) => {
    const hot = oneHot(y!, outputs);
    const chosen = (all: Tensor) => sum(mul(reshape(all, [all.shape[0]!, outputs]), hot), { axes: 1 });
    const answers = (images: Tensor) => chosen(of === "logits" ? model.logits(images) : model.call(images));
    const gradient = grad((images: Tensor) => sum(answers(images)));
    const [value, bare] = [model.outputs[0]!, of === "logits" ? model.head.index : undefined];
    return noGrad(() => attribute({ answers, gradient, chosen, value, bare }, x!, rest));
  });
  try {
    for (let start = 0; start < count; start += batchSize) {
      const end = Math.min(start + batchSize, count);
      const labels = { values: targets.subarray(start, end), shape: [end - start] };
      for (let round = 0; round < rounds; round++) {
        signal?.throwIfAborted();
        const found = plan.run(set.inputRange(start, end), labels, ...more(start, end, round));
        const parts: Float32Array[] = [];
        for (const part of found) parts.push(Float32Array.from(await part.data()));
        take(parts, { start, end, round });
      }
    }
  } finally {
    plan.dispose();
  }
}

/** As `explain`, in one round: what it gives for all inputs, put together. */
export async function attributed(
  op: string,
  model: Model,
  data: InputData,
  options: AttributionOptions,
  attribute: (explained: Explained, x: Tensor, more: readonly Tensor[]) => readonly Tensor[],
  more: More = () => [],
): Promise<{ readonly shape: Shape; readonly parts: readonly Float32Array[] }> {
  const { count } = inputsOf(op, model, data);
  const parts: Float32Array[] = [];
  await explain(op, model, data, options, {
    attribute,
    more,
    take(found, { start, end }) {
      for (const [i, values] of found.entries()) {
        const size = values.length / (end - start);
        parts[i] ??= new Float32Array(count * size);
        parts[i].set(values, start * size);
      }
    },
  });
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

/** Where something begins, or what is put in a value's place: one value, one input, or one for each. */
export type Baseline = number | Float32Array;

export const baselineRule = anyOf(number(), instanceOf(Float32Array, "a Float32Array"));

/** Baselines of all inputs, [count, ...inputShape]. @throws ShapeError for another number of values */
export function baselinesOf(op: string, model: Model, count: number, baseline: Baseline): Float32Array {
  const size = sizeOf(model.inputShape);
  const all = new Float32Array(count * size);
  if (typeof baseline === "number") return all.fill(baseline);
  if (baseline.length !== size && baseline.length !== all.length) {
    throw new ShapeError(
      `${op}: a baseline must be one input ${formatShape(model.inputShape)} or one for each of ${count}, got ${baseline.length} values`,
    );
  }
  for (let at = 0; at < all.length; at += baseline.length) all.set(baseline, at);
  return all;
}

/** Those of inputs [start, end), for `more`. */
export function baselineBatch(model: Model, all: Float32Array, start: number, end: number): HostTensor {
  const size = sizeOf(model.inputShape);
  return { values: all.subarray(start * size, end * size), shape: [end - start, ...model.inputShape] };
}
