// The table of all layers: one case or more for each class, read from layers.json, which Keras 3.15.1 computed. Golden
// values, gradients, parity, special values, files and all else that a layer must do iterate over it. No tests here.
import { readFileSync } from "node:fs";
import { fromKerasConfig } from "../../src/nn/formats/keras.js";
import type { Layer, LayerConfig } from "../../src/nn/layer.js";
import { layerClassOf, layerFromConfig } from "../../src/nn/layers/registry.js";
import type { ModelConfig } from "../../src/nn/model-config.js";
import type { Shape } from "../../src/tensor/shape.js";
import { formula, formulaIds, formulaWeight } from "./formula.js";

/** What layers.py writes. */
interface Stored {
  readonly layer: string;
  readonly what?: string;
  /** Keras's settings. */
  readonly config: Readonly<Record<string, unknown>>;
  /** [N, ...shape] each. */
  readonly inputs: readonly (readonly number[])[];
  /** How many ids there are, where inputs are ids. */
  readonly ids?: number;
  /** Keras's name and shape of each. */
  readonly weights: readonly (readonly [name: string, shape: readonly number[]])[];
  readonly output: { readonly shape: readonly number[]; readonly values: readonly number[] };
}

export interface LayerCase extends Stored {
  readonly title: string;
  /** A model of this layer alone. */
  readonly model: ModelConfig;
  readonly layerConfig: LayerConfig;
  readonly make: () => Layer;
  /** Values of the inputs. */
  readonly values: readonly number[][];
  /** By their names in Kilograd; [name, shape, values]. */
  readonly weightValues: readonly (readonly [name: string, shape: Shape, values: number[]])[];
}

/** A functional model of Keras whose only layer has this configuration. */
function kerasModel({ layer, config, inputs }: Stored): unknown {
  const names = inputs.map((_, i) => `x${i}`);
  const tensors = names.map((name) => [name, 0, 0]);
  const asArguments = layerClassOf(layer)?.keras?.inputs !== undefined;
  const kerasTensor = (history: unknown) => ({ class_name: "__keras_tensor__", config: { keras_history: history } });
  const node = asArguments ? { args: tensors.map(kerasTensor), kwargs: {} } : tensors.map((each) => [...each, {}]);
  return {
    class_name: "Functional",
    config: {
      name: "one",
      layers: [
        ...names.map((name, i) => ({
          class_name: "InputLayer",
          name,
          config: { name, batch_shape: [null, ...inputs[i]!.slice(1)] },
          inbound_nodes: [],
        })),
        { class_name: layer, name: "layer", config: { ...config, name: "layer" }, inbound_nodes: [node] },
      ],
      input_layers: tensors,
      output_layers: [["layer", 0, 0]],
    },
  };
}

const { cases } = JSON.parse(readFileSync(new URL("layers.json", import.meta.url), "utf8")) as { cases: Stored[] };

export const layerCases: readonly LayerCase[] = cases.map((stored): LayerCase => {
  const model = fromKerasConfig(kerasModel(stored), "layers.json");
  const { className, config } = model.layers[0]!;
  const make = () => layerFromConfig(className, config);
  const [first, ...others] = stored.inputs.map((shape) => shape.slice(1));
  const specs = make().weights(first!, ...others);
  return {
    ...stored,
    title: `${stored.layer}${stored.what === undefined ? "" : ` ${stored.what}`}`,
    model,
    layerConfig: config,
    make,
    values: stored.inputs.map((shape, i) =>
      stored.ids === undefined ? formula(shape, i) : formulaIds(shape, i, stored.ids),
    ),
    weightValues: specs.map(({ name, shape }, i) => [name, shape, formulaWeight(name, shape, 10 + i)]),
  };
});
