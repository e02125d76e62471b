// One training at a time for a model's weights and for an optimizer.
import { UsageError } from "../../tensor/errors.js";
import type { Model } from "../model.js";
import type { Optimizer } from "../optimizers.js";

/** What a training changes, and what trainings only use: to change what another one uses would mix them up. */
const changing = new Set<object>();
const using = new Map<object, number>();

/**
 * Reserves the optimizer and the weights of a model for one training; gives what ends that.
 * @throws UsageError where another training is under way
 */
export function reserve(model: Model, optimizer: Optimizer): () => void {
  const weights = model.weights();
  const used = weights.map(({ tensor }) => tensor);
  // A layer that is trained may also have running statistics.
  const changed = model.layers.flatMap((layer) => (layer.trainable ? Object.values(layer.weights) : []));
  const taken = weights.find(
    ({ tensor }) => changing.has(tensor) || (changed.includes(tensor) && (using.get(tensor) ?? 0) > 0),
  );
  if (taken !== undefined) {
    throw new UsageError(
      `fit: "${taken.name}" of "${model.name}" is part of another fit that has not ended; await that one first`,
    );
  }
  if (changing.has(optimizer)) {
    throw new UsageError(
      "fit: the optimizer is part of another fit that has not ended; give each an optimizer of its own",
    );
  }
  for (const each of [optimizer, ...changed]) changing.add(each);
  for (const each of used) using.set(each, (using.get(each) ?? 0) + 1);
  return () => {
    for (const each of [optimizer, ...changed]) changing.delete(each);
    for (const each of used) {
      const left = using.get(each)! - 1;
      if (left === 0) using.delete(each);
      else using.set(each, left);
    }
  };
}
