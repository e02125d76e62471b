// Where numbers stop being finite: one forward and backward pass over a batch, layer by layer.
import { zeros } from "../autograd/ops/create.js";
import { backward, toDifferentiate } from "../autograd/tape.js";
import { findNonFiniteKernel } from "../kernels/loss-scaling.js";
import { KilogradError } from "../tensor/errors.js";
import { keep, scope } from "../tensor/scope.js";
import { runInto, type Tensor } from "../tensor/tensor.js";
import type { Model } from "./model.js";
import type { Objective, StepBatch } from "./objective.js";
import { lossOf } from "./train-step.js";

async function allFinite(tensor: Tensor): Promise<boolean> {
  return (await tensor.data()).every(Number.isFinite);
}

/** Tensors by name, such as an optimizer's slots by "WEIGHT/SLOT". */
export type NamedTensors = readonly (readonly [name: string, tensor: Tensor])[];

/**
 * What is not finite, in words: a weight of the model, running statistics included, or one of the optimizer's slots.
 */
export async function nonFiniteState(model: Model, slots: NamedTensors = []): Promise<string | undefined> {
  for (const { name, tensor } of model.weights()) if (!(await allFinite(tensor))) return `the weight "${name}"`;
  for (const [name, tensor] of slots) if (!(await allFinite(tensor))) return `the optimizer's "${name}"`;
  return undefined;
}

/** Whether all tensors are finite, by a look on the device: one element is read. */
async function allFiniteOnDevice(tensors: readonly Tensor[]): Promise<boolean> {
  const [first] = tensors;
  if (first === undefined) return true;
  const found = keep(zeros(first.device, [1], "u32"));
  try {
    runInto(findNonFiniteKernel, tensors, [found], {});
    return (await found.item()) === 0;
  } finally {
    found.dispose();
  }
}

/** @throws KilogradError `NON_FINITE` where a weight, or one of the optimizer's slots, is infinite or NaN */
export async function requireFiniteState(
  owner: string,
  model: Model,
  path: string,
  slots: NamedTensors = [],
): Promise<void> {
  const tensors = [...model.weights().map(({ tensor }) => tensor), ...slots.map(([, tensor]) => tensor)];
  if (await allFiniteOnDevice(tensors)) return;
  const found = await nonFiniteState(model, slots);
  throw new KilogradError(
    "NON_FINITE",
    `${owner}: ${found} of "${model.name}" is infinite or NaN, ${path} was not written; pass { allowNonFinite: true } to write it all the same`,
  );
}

/**
 * Names what is not finite first. It is the input, a layer's weights or output, the loss, or (from the last layer back)
 * the gradient of a weight. undefined when everything is finite.
 */
export async function findNonFinite(
  model: Model,
  objective: Objective,
  batch: StepBatch,
  step: number,
): Promise<string | undefined> {
  const { x, weights } = batch;
  for (const [i, input] of x.entries()) {
    if (!(await allFinite(input)))
      return x.length === 1 ? "the batch's inputs" : `the batch's "${model.inputs[i]!.name}"`;
  }
  for (const each of weights) if (!(await allFinite(each))) return "the weights of the batch's samples";
  const outputs = model.layerOutputs(x, { training: true, step });
  try {
    for (const { name, output } of outputs) {
      const { weights } = model.layer(name);
      for (const [weight, tensor] of Object.entries(weights)) {
        if (!(await allFinite(tensor))) return `the ${weight} of layer "${name}"`;
      }
      if (!(await allFinite(output))) return `the output of layer "${name}"`;
    }
  } finally {
    for (const { output } of outputs) output.dispose();
  }
  const value = scope(() => {
    const { loss: value } = toDifferentiate(() => lossOf(model, objective, batch, { training: true, step }));
    backward(value);
    return value.alias();
  });
  try {
    for (const { name, tensor } of model.weights().reverse()) {
      if (tensor.grad !== null && !(await allFinite(tensor.grad))) return `the gradient of "${name}"`;
    }
    return (await allFinite(value)) ? undefined : "the loss";
  } finally {
    value.dispose();
    for (const { tensor } of model.weights()) {
      tensor.grad?.dispose();
      tensor.grad = null;
    }
  }
}
