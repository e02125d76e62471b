// What a training consists of, and what of it a checkpoint keeps (resume.ts).
import type { Tensor } from "../tensor/tensor.js";
import type { Callback } from "./callbacks/callback.js";
import type { LossScaler } from "./loss-scaling.js";
import type { Model } from "./model.js";
import type { TrainingState } from "./model-file.js";
import type { Optimizer } from "./optimizer.js";

/** What has a state of its own in a training. */
export interface TrainingParts {
  readonly model: Model;
  readonly optimizer: Optimizer;
  readonly callbacks: readonly Callback[];
  readonly scaler: LossScaler | undefined;
}

/** What must be as it was for a training to go on to the same bits. */
export type TrainingSettings = Pick<
  TrainingState,
  "seed" | "batchSize" | "sampleCount" | "source" | "shuffle" | "precision"
>;

/** Where it stands. */
export type TrainingPosition = Pick<
  TrainingState,
  "epoch" | "stepInEpoch" | "sums" | "outputSums" | "epochs" | "history" | "stopReason"
>;

/** An optimizer's slots for the trained weights of a model, by "WEIGHT/SLOT", and the state of a loss scaling. */
export function slotsOf({ model, optimizer, scaler }: TrainingParts): (readonly [string, Tensor])[] {
  const slots = model
    .weights()
    .filter(({ trainable }) => trainable)
    .flatMap(({ name, tensor: parameter }) =>
      optimizer.slotTensors(parameter).map((slot) => [`${name}/${slot.name}`, slot.tensor] as const),
    );
  return [...slots, ...(scaler?.state(optimizer) ?? [])];
}
