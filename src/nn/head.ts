// Which activation a model's outputs have. Losses that apply softmax or sigmoid themselves are computed on logits: what goes
// into that activation, which need not be the last layer's.
import type { ActivationName } from "./activations.js";
import type { BoundLayer } from "./model.js";

/** Where the activation of a model's outputs is. */
export interface Head {
  /** Of the layer that applies it. */
  readonly index: number;
  readonly layer: string;
  readonly activation: ActivationName;
  /** Why what goes into the activation is not what a loss of logits takes; undefined where it is. */
  readonly obstacle: { readonly layer: string; readonly atInference: boolean } | undefined;
}

/** Layers that give every element of their input once, in the same order. */
const ARRANGING: ReadonlySet<string> = new Set(["Flatten", "Reshape"]);
/** Layers that give means, maxima or zeros in place of elements: probabilities stay probabilities, logits are others. */
const REDUCING: ReadonlySet<string> = new Set([
  "Dropout",
  "MaxPooling2D",
  "AveragePooling2D",
  "GlobalAveragePooling2D",
]);

/**
 * The first softmax or sigmoid that a model's outputs come from by way of layers without weights; else the last layer's own
 * activation.
 */
export function headOf(layers: readonly BoundLayer[]): Head {
  const last = layers.length - 1;
  const { name, placed } = layers[last]!;
  let head: Head = { index: last, layer: name, activation: placed.layer.activation, obstacle: undefined };
  let obstacle: Head["obstacle"];
  /** The activation that comes next behind the layer that is looked at, in a layer of its own. */
  let next: ActivationName = "linear";
  for (let index = last; index >= 0; index--) {
    const { name, placed } = layers[index]!;
    const { layer, outputShape } = placed;
    const { activation, className } = layer;
    if (activation === "softmax" || activation === "sigmoid") {
      // The softmax of log-probabilities is the probabilities: the logarithms are logits.
      if (activation === "softmax" && next === "log") break;
      // Softmax runs over the last axis: one distribution, or several that are then in one row.
      const several = activation === "softmax" && index < last && outputShape.slice(0, -1).some((size) => size !== 1);
      const whole = several ? { layer: name, atInference: true } : undefined;
      head = { index, layer: name, activation, obstacle: obstacle ?? whole };
    }
    if (activation !== "linear") {
      if (className !== "Activation") break;
      next = activation;
      if (!obstacle?.atInference) obstacle = { layer: name, atInference: true };
      continue;
    }
    if (ARRANGING.has(className) || className === "Activation" || layer.config["rate"] === 0) continue;
    if (!REDUCING.has(className)) break;
    if (!obstacle?.atInference) obstacle = { layer: name, atInference: className !== "Dropout" };
  }
  return head;
}
