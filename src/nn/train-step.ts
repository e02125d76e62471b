// One training step: forward, loss, gradients of the trainable weights, update in place.
import { add } from "../autograd/ops/elementwise.js";
import { backward, detach, toDifferentiate } from "../autograd/tape.js";
import { UsageError } from "../tensor/errors.js";
import { instanceOf, type Rules } from "../tensor/options.js";
import { requireResult, type Tensor } from "../tensor/tensor.js";
import { asLoss, type LossFunction, lossRule } from "./loss.js";
import { LossScaler } from "./loss-scaling.js";
import type { CallOptions, Model, ModelInput } from "./model.js";
import { type Optimizer, optimizerRule } from "./optimizers.js";

export interface TrainStepOptions {
  readonly optimizer: Optimizer;
  /** A loss of `loss`, or any function of prediction and target, see `LossFunction`. */
  readonly loss: LossFunction;
  /**
   * Scales the gradients: for devices of mixed precision, whose float16 has no numbers as small as many gradients are.
   */
  readonly scaler?: LossScaler | undefined;
}

export const trainStepRules: Rules<TrainStepOptions> = {
  optimizer: optimizerRule,
  loss: lossRule,
  scaler: instanceOf(LossScaler, "a LossScaler"),
};

/**
 * What the loss is computed of: logits where the activation of the model's outputs is part of the loss.
 * @throws UsageError where that activation would be applied to probabilities
 */
export function lossInput(model: Model, loss: LossFunction, x: ModelInput, options: CallOptions = {}): Tensor {
  const { includes, lossName } = asLoss(loss);
  const { layer, activation, obstacle } = model.head;
  if (includes === undefined || (activation !== "softmax" && activation !== "sigmoid")) return model.call(x, options);
  if (includes === activation && obstacle === undefined) return model.logits(x, options);
  const other = includes === "softmax" ? "crossEntropyFromProbabilities" : "binaryCrossEntropy";
  const found =
    obstacle === undefined
      ? `layer "${layer}" applies ${activation}`
      : `layer "${layer}" applies ${activation} and "${obstacle.layer}" makes other values of it`;
  throw new UsageError(
    `${lossName}: applies ${includes} itself, so that "${model.name}" must end in it or in logits, but ${found}; use loss.${other}, or another last layer`,
  );
}

/** Loss of a batch with the layers' penalties, and what it was computed of. */
export function lossOf(model: Model, given: LossFunction, x: ModelInput, y: Tensor, options: CallOptions = {}) {
  const loss = asLoss(given);
  const prediction = lossInput(model, loss, x, options);
  const value = loss(prediction, y);
  requireResult(loss.lossName, value, "the loss");
  const penalty = model.penalty();
  return { prediction, loss: penalty === undefined ? value : add(value, penalty) };
}

/** Changes the model's trainable weights by one step. x [N, ...inputShape], y the targets. */
export function trainStep(model: Model, x: ModelInput, y: Tensor, { optimizer, loss, scaler }: TrainStepOptions) {
  const step = toDifferentiate(() => lossOf(model, loss, x, y, { training: true, step: () => optimizer.steps }));
  if (scaler === undefined) {
    backward(step.loss);
    optimizer.step(model.parameters());
  } else {
    backward(step.loss, { gradient: scaler.scale });
    scaler.step(optimizer, model.parameters());
  }
  return { loss: detach(step.loss), prediction: detach(step.prediction) };
}
