// One training step: forward, loss, gradients of the trainable weights, update in place.
import { add } from "../autograd/ops/elementwise.js";
import { backward, detach } from "../autograd/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { LossScaler } from "./loss-scaling.js";
import type { Loss } from "./losses.js";
import type { CallOptions, Sequential } from "./model.js";
import type { Optimizer } from "./optimizers.js";

export interface TrainStepOptions {
  readonly optimizer: Optimizer;
  readonly loss: Loss;
  /** Scales the gradients: for devices of mixed precision, whose float16 has no numbers as small as many gradients are. */
  readonly scaler?: LossScaler | undefined;
}

/** What the loss is computed of: logits where the model's last activation is part of the loss. */
export function lossInput(model: Sequential, loss: Loss, x: Tensor, options: CallOptions = {}): Tensor {
  return loss.includes === model.finalActivation ? model.logits(x, options) : model.call(x, options);
}

/** Loss of a batch with the layers' penalties, and what it was computed of. */
export function lossOf(model: Sequential, loss: Loss, x: Tensor, y: Tensor, options: CallOptions = {}) {
  const prediction = lossInput(model, loss, x, options);
  const value = loss(prediction, y);
  const penalty = model.penalty();
  return { prediction, loss: penalty === undefined ? value : add(value, penalty) };
}

/** Changes the model's trainable weights by one step. x [N, ...inputShape], y the targets. */
export function trainStep(model: Sequential, x: Tensor, y: Tensor, { optimizer, loss, scaler }: TrainStepOptions) {
  const step = lossOf(model, loss, x, y, { training: true, step: () => optimizer.iterations });
  if (scaler === undefined) {
    backward(step.loss);
    optimizer.step(model.parameters());
  } else {
    backward(step.loss, { gradient: scaler.scale });
    scaler.step(optimizer, model.parameters());
  }
  return { loss: detach(step.loss), prediction: detach(step.prediction) };
}
