// Models as plain data, JSON through and through: a chain as its layers, other graphs with the calls of their layers.
import type { Shape } from "../tensor/shape.js";
import { type Call, type GraphInput, isChain } from "./graph.js";
import type { LayerConfig } from "./layer.js";

/** A layer as plain data. */
export interface StoredLayer {
  readonly className: string;
  readonly config: LayerConfig;
}

/** Layers one after the other. */
export interface SequentialConfig {
  readonly className: "Sequential";
  readonly name: string;
  readonly inputShape: Shape;
  readonly layers: readonly StoredLayer[];
}

/** A graph. Values are numbered: first the inputs, then what each call gives. */
export interface FunctionalConfig {
  readonly className: "Functional";
  readonly name: string;
  readonly inputs: readonly GraphInput[];
  readonly layers: readonly StoredLayer[];
  /** Each names its layer, and uses inputs and calls before it only. */
  readonly calls: readonly { readonly layer: string; readonly inputs: readonly number[] }[];
  readonly outputs: readonly number[];
}

/** A model without its weights. */
export type ModelConfig = SequentialConfig | FunctionalConfig;

interface Stored {
  readonly name: string;
  readonly inputs: readonly GraphInput[];
  /** With their names. */
  readonly layers: readonly StoredLayer[];
  readonly calls: readonly Call[];
  readonly outputs: readonly number[];
}

/** The configuration of a graph with named layers; that of a chain is as it was before there were graphs. */
export function configOf({ name, inputs, layers, calls, outputs }: Stored): ModelConfig {
  if (isChain({ inputs, layers, calls, outputs })) {
    return { className: "Sequential", name, inputShape: inputs[0]!.shape, layers };
  }
  return {
    className: "Functional",
    name,
    inputs,
    layers,
    calls: calls.map((call) => ({ layer: layers[call.layer]!.config.name!, inputs: call.inputs })),
    outputs,
  };
}
