// Which activation a model's outputs have. Losses that apply softmax or sigmoid themselves are computed on logits: what
// goes into that activation, which need not be the last layer's.
import type { ActivationName } from "./activations.js";
import type { BoundLayer } from "./model.js";
import type { PlacedCall } from "./model-shape.js";

/** Where the activation of an output is. */
export interface Head {
  /** Of the call that applies it; -1 for an output that is an input. */
  readonly index: number;
  readonly layer: string;
  readonly activation: ActivationName;
  /** Why what goes into the activation is not what a loss of logits takes; undefined where it is. */
  readonly obstacle: { readonly layer: string; readonly atInference: boolean } | undefined;
}

/** What `headOf` looks at of a model. */
interface Calls {
  readonly inputs: readonly { readonly name: string }[];
  readonly layers: readonly BoundLayer[];
  readonly calls: readonly PlacedCall[];
  readonly outputs: readonly number[];
}

/**
 * The first softmax or sigmoid that an output comes from by way of layers without weights; else the activation of the
 * layer that gives the output.
 */
export function headOf({ inputs, layers, calls, outputs }: Calls, output: number): Head {
  const last = outputs[output]! - inputs.length;
  if (last < 0) {
    return { index: -1, layer: inputs[outputs[output]!]!.name, activation: "linear", obstacle: undefined };
  }
  const lastLayer = layers[calls[last]!.layer]!;
  let head: Head = {
    index: last,
    layer: lastLayer.name,
    activation: lastLayer.placed.layer.activation,
    obstacle: undefined,
  };
  const seen = new Set<number>();
  /** Follows a value back; `next` is the activation that comes next behind it, in a layer of its own. */
  const follow = (value: number, obstacle: Head["obstacle"], next: ActivationName): void => {
    for (let index = value - inputs.length; index >= 0 && !seen.has(index); ) {
      seen.add(index);
      const call = calls[index]!;
      const { name, placed } = layers[call.layer]!;
      const { layer } = placed;
      const { activation, gives } = layer;
      if (activation === "softmax" || activation === "sigmoid") {
        // The softmax of log-probabilities is the probabilities: the logarithms are logits.
        if (activation === "softmax" && next === "log") return;
        // Softmax runs over the last axis: one distribution, or several that are then in one row.
        const several = activation === "softmax" && index < last && call.shape.slice(0, -1).some((size) => size !== 1);
        const { softmaxAxis = -1 } = layer;
        const lastAxis = softmaxAxis === -1 || softmaxAxis === call.shape.length;
        const whole = several || !lastAxis ? { layer: name, atInference: true } : undefined;
        head = { index, layer: name, activation, obstacle: obstacle ?? whole };
      }
      if (activation !== "linear") {
        if (gives === undefined) return;
        next = activation;
        if (!obstacle?.atInference) obstacle = { layer: name, atInference: true };
      } else if (gives === undefined) {
        return;
      } else if (gives !== "elements" && !obstacle?.atInference) {
        obstacle = { layer: name, atInference: gives === "summaries" };
      }
      const [first, ...others] = call.inputs;
      for (const each of others) follow(each, obstacle, next);
      index = first! - inputs.length;
    }
  };
  follow(outputs[output]!, undefined, "linear");
  return head;
}
