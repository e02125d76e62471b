// Where numbers stopped being finite in a run of steps: they are taken again one by one, from the state before the run.
import { scope } from "../../tensor/scope.js";
import { empty, type Tensor, tensor } from "../../tensor/tensor.js";
import { findNonFinite, nonFiniteState } from "../diagnose.js";
import { Snapshot } from "../snapshot.js";
import { slotsOf } from "../training-parts.js";
import type { Run, StepPipeline } from "./pipeline.js";

/** A step of a run whose loss is not finite. */
export interface Failure {
  /** In the run, from 0. */
  readonly index: number;
  readonly loss: number;
}

/**
 * Finds where numbers stopped being finite in a run: in the step that failed, or in the gradients or the update of the
 * one before; without a failure in any step, after which a weight is not. The model is left as it was before that.
 */
export async function rewind(
  pipeline: StepPipeline,
  run: Run,
  failure?: Failure,
): Promise<{ readonly reason: string | undefined; readonly stepInEpoch: number }> {
  const { optimizer, model } = pipeline.parts;
  const before = run.before!;
  const state = pipeline.stateTensors();
  before.restore(state);
  optimizer.steps = run.iterations;
  const looked = failure === undefined ? 0 : failure.index - 1;
  let { stepInEpoch } = run;
  for (let i = 0; i < run.samples.length; i++, stepInEpoch++) {
    const step = run.iterations + i + 1;
    const where = i >= looked ? await diagnose(pipeline, stepInEpoch) : undefined;
    if (i === failure?.index) {
      const first = where === undefined ? "" : `; first not finite: ${where} in step ${step}`;
      return { reason: `the loss became ${failure.loss} in step ${step}${first}`, stepInEpoch };
    }
    before.take(state);
    pipeline.step(stepInEpoch);
    await pipeline.table.read();
    const after = i >= looked ? await nonFiniteState(model, slotsOf(pipeline.parts)) : undefined;
    if (where === undefined && after === undefined) continue;
    before.restore(state);
    optimizer.steps = step - 1;
    return { reason: `first not finite: ${where ?? `${after} after its update`} in step ${step}`, stepInEpoch };
  }
  return { reason: undefined, stepInEpoch };
}

/** What is not finite first in a step that is next. It changes nothing, running statistics included. */
async function diagnose(pipeline: StepPipeline, stepInEpoch: number): Promise<string | undefined> {
  const before = new Snapshot();
  const weights = pipeline.parts.model.namedTensors();
  before.take(weights);
  try {
    return await inStep(pipeline, stepInEpoch);
  } finally {
    before.restore(weights);
    before.dispose();
  }
}

async function inStep(pipeline: StepPipeline, stepInEpoch: number): Promise<string | undefined> {
  const { model, optimizer } = pipeline.parts;
  const { x, y, weights } = pipeline.again(stepInEpoch);
  const inputs = [...x, ...y, ...weights].map((input): Tensor => {
    if (!("fill" in input)) return tensor(model.device, input.values, { shape: input.shape });
    const copy = empty(model.device, input.shape, input.dtype);
    input.fill(copy);
    return copy;
  });
  try {
    const batch = scope(() => pipeline.perturbed(pipeline.batchOf(inputs)));
    try {
      return await findNonFinite(model, pipeline.objective, batch, optimizer.steps);
    } finally {
      for (const input of batch.x) input.dispose();
    }
  } finally {
    for (const input of inputs) input.dispose();
  }
}
