// One training step: forward, loss, gradients of the trainable weights, update in place.
import { add } from "../autograd/ops/elementwise.js";
import { backward, detach, toDifferentiate } from "../autograd/tape.js";
import { instanceOf, type Rules } from "../tensor/options.js";
import type { Tensor } from "../tensor/tensor.js";
import type { LossFunction } from "./loss.js";
import { LossScaler } from "./loss-scaling.js";
import type { CallOptions, Model } from "./model.js";
import {
  lossesOf,
  type Objective,
  objectiveRules,
  type PerOutput,
  type StepBatch,
  type StepLosses,
} from "./objective.js";
import { type Optimizer, optimizerRule } from "./optimizers.js";

export interface TrainStepOptions {
  readonly optimizer: Optimizer;
  /** A loss of every output; or one for each, as a list or by the outputs' names. */
  readonly loss: PerOutput<LossFunction>;
  /** Factors of the losses in their sum, as a list or by the outputs' names; default 1. */
  readonly lossWeights?: readonly number[] | Readonly<Record<string, number>>;
  /**
   * Scales the gradients: for devices of mixed precision, whose float16 has no numbers as small as many gradients are.
   */
  readonly scaler?: LossScaler | undefined;
}

export const trainStepRules: Rules<TrainStepOptions> = {
  optimizer: optimizerRule,
  loss: objectiveRules.loss,
  lossWeights: objectiveRules.lossWeights,
  scaler: instanceOf(LossScaler, "a LossScaler"),
};

/** Loss of a batch with the layers' penalties, and what it was computed of. */
export function lossOf(model: Model, objective: Objective, batch: StepBatch, options: CallOptions = {}): StepLosses {
  const step = lossesOf(model, objective, batch, options);
  const penalty = model.penalty();
  return penalty === undefined ? step : { ...step, loss: add(step.loss, penalty) };
}

/** What takes a step. */
export interface StepParts {
  readonly optimizer: Optimizer;
  readonly objective: Objective;
  readonly scaler: LossScaler | undefined;
}

/** Changes the model's trainable weights by one step. */
export function trainStep(model: Model, batch: StepBatch, { optimizer, objective, scaler }: StepParts): StepLosses {
  const step = toDifferentiate(() => lossOf(model, objective, batch, { training: true, step: () => optimizer.steps }));
  if (scaler === undefined) {
    backward(step.loss);
    optimizer.step(model.parameters());
  } else {
    backward(step.loss, { gradient: scaler.scale });
    scaler.step(optimizer, model.parameters());
  }
  const detached = (tensors: readonly Tensor[]) => tensors.map((tensor) => detach(tensor));
  return { loss: detach(step.loss), losses: detached(step.losses), predictions: detached(step.predictions) };
}
