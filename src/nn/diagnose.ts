// Where numbers stop being finite: one forward and backward pass over a batch, layer by layer.
import { backward } from "../autograd/tape.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Loss } from "./losses.js";
import type { Sequential } from "./model.js";
import { lossOf } from "./train-step.js";

async function allFinite(tensor: Tensor): Promise<boolean> {
  return (await tensor.data()).every(Number.isFinite);
}

/**
 * Names what is not finite first: the input, a layer's weights or output, the loss, or (from the last layer back) the
 * gradient of a weight. undefined when everything is finite.
 */
export async function findNonFinite(
  model: Sequential,
  loss: Loss,
  x: Tensor,
  y: Tensor,
  step: number,
): Promise<string | undefined> {
  if (!(await allFinite(x))) return "the batch's inputs";
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
    const { loss: value } = lossOf(model, loss, x, y, { training: true, step });
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
