// From a stored configuration to what a model's shape is made of. Apart from model-shape.ts, since this knows every
// class of the library's layers: the bundle of a program that loads no model has those alone that it calls.
import { UsageError } from "../tensor/errors.js";
import { array, check, checkOptions, integer, object, type Rules, string } from "../tensor/options.js";
import { applyLayer, type GraphNode, input } from "./graph.js";
import type { Layer } from "./layer.js";
import { layerFromConfig } from "./layers/registry.js";
import type { FunctionalConfig, ModelConfig, StoredLayer } from "./model-config.js";
import type { GraphOptions, ModelShape } from "./model-shape.js";

const entryRules: Rules<StoredLayer> = { className: string, config: object };

/** What a ModelShape is made of, from a stored configuration. @throws UsageError for what is none */
export function partsOfConfig(config: ModelConfig): ConstructorParameters<typeof ModelShape> {
  const known =
    config?.className === "Sequential" ? Array.isArray(config.inputShape) : config?.className === "Functional";
  if (!known || !Array.isArray(config.layers)) {
    throw new UsageError('fromConfig: needs a model\'s config(), { className: "Sequential", inputShape, layers }');
  }
  const layers = config.layers.map((entry, i) => {
    const rules = checkOptions(`fromConfig: layers[${i}]`, entry, entryRules, ["className", "config"]);
    return layerFromConfig(rules.className, rules.config);
  });
  if (config.className === "Sequential") {
    return [{ inputShape: config.inputShape, name: config.name }, layers];
  }
  return [functional(config, layers)];
}

/** Calls the layers of a stored graph on nodes. */
function functional(config: FunctionalConfig, layers: readonly Layer[]): GraphOptions {
  const { name, inputs, calls, outputs } = config;
  for (const [key, list] of Object.entries({ inputs, calls, outputs })) check(`fromConfig: ${name}`, key, list, array);
  const values: GraphNode[] = inputs.map(input);
  const byName = new Map(layers.map((layer) => [layer.config.name, layer]));
  const numbered = (owner: string, value: number): GraphNode => {
    check(`fromConfig: ${owner}`, "a value", value, integer({ from: 0, below: values.length }));
    return values[value]!;
  };
  for (const [i, call] of calls.entries()) {
    const layer = byName.get(call.layer);
    if (layer === undefined) {
      throw new UsageError(`fromConfig: calls[${i}] must name a layer of ${name}, names ${JSON.stringify(call.layer)}`);
    }
    values.push(
      applyLayer(
        layer,
        call.inputs.map((value) => numbered(`calls[${i}]`, value)),
      ),
    );
  }
  const ends = outputs.map((value) => numbered("outputs", value));
  return { name, inputs: values.slice(0, inputs.length), outputs: ends };
}
