// What this part of the library asks of a model.
import type { Model } from "../nn/model.js";

export type { Model };

/** Beyond any logit; a logit less this is one that no exponential is left of, and no maximum is. */
export const OUT_OF_REACH = 1e30;

/** Models that are frozen now: by how many, and which of their layers were trained before. */
const frozen = new WeakMap<Model, { holders: number; readonly trainable: readonly boolean[] }>();

/**
 * Freezes a model, so that gradients flow through it and none is computed for its weights. Gives what ends that: the
 * last of several that froze it gives its layers back what they had.
 */
export function freeze(model: Model): () => void {
  const state = frozen.get(model) ?? { holders: 0, trainable: model.layers.map(({ trainable }) => trainable) };
  state.holders++;
  frozen.set(model, state);
  model.trainable = false;
  return () => {
    if (--state.holders > 0) return;
    frozen.delete(model);
    for (const [i, layer] of model.layers.entries()) layer.trainable = state.trainable[i]!;
  };
}
