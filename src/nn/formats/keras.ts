// Configurations of models in Keras's words, translated both ways; the words of each layer are in its own file. What
// Keras cannot say, or Kilograd cannot compute, is an error, never left out.
import { array, looseObject } from "valibot";
import { anyObject, parse, text } from "../../io/json.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import { describe } from "../../tensor/options.js";
import type { Shape } from "../../tensor/shape.js";
import { allClasses, layerClassOf } from "../layers/registry.js";
import type { ModelConfig, StoredLayer } from "../model-config.js";
import type { PlacedLayer } from "../model-shape.js";
import { fromKerasCalls, type KerasEntry, toKerasCalls } from "./keras-graph.js";
import { classNameOf, type Json, type KerasObject, type KerasSetting, Remarks } from "./keras-words.js";

const kerasLayer = looseObject({ class_name: text, config: anyObject }, "an object");
const kerasLayerList = array(kerasLayer, "a list");

/** Keras's names of models of the functional API; until 2.2 it was "Model". */
const FUNCTIONAL = ["Functional", "Model"];

/** The list of layers; before Keras 2.3 the configuration of a chain was the list itself. */
function kerasLayers(model: unknown, source: string): KerasEntry[] {
  const { class_name: className, config } = (model ?? {}) as { class_name?: unknown; config?: unknown };
  const known = className === "Sequential" || FUNCTIONAL.includes(String(className));
  if (!known || typeof config !== "object" || config === null) {
    throw new DataError(`${source}: must hold a Sequential or functional model, holds ${describe(className ?? null)}`);
  }
  return parse(kerasLayerList, Array.isArray(config) ? config : (config as Json)["layers"], `${source}: its layers`);
}

/** A model's configuration in Keras's words. @throws UsageError naming the layer that it has none for */
export function toKerasConfig(config: ModelConfig): KerasObject {
  const { name } = config;
  if (config.className === "Sequential") {
    const input = inputLayer(`${name}_input`, config.inputShape);
    return { class_name: "Sequential", config: { name, layers: [input, ...config.layers.map(toKerasLayer)] } };
  }
  const { inbound, inputLayers, outputLayers } = toKerasCalls(config);
  const entry = (layer: KerasObject) => {
    const layerName = layer.config["name"] as string;
    return { ...layer, name: layerName, inbound_nodes: inbound.get(layerName) ?? [] };
  };
  const layers = [
    ...config.inputs.map((input) => inputLayer(input.name, input.shape)),
    ...config.layers.map(toKerasLayer),
  ];
  return {
    class_name: "Functional",
    config: { name, layers: layers.map(entry), input_layers: inputLayers, output_layers: outputLayers },
  };
}

const inputLayer = (name: string, shape: Shape): KerasObject => ({
  class_name: "InputLayer",
  config: { batch_input_shape: [null, ...shape], dtype: "float32", sparse: false, ragged: false, name },
});

/** A setting whose values are the same in both. */
const plainSetting = (name: string): KerasSetting => ({ name, to: (value) => value, from: (value) => value });

/** A layer in Keras's words. @throws UsageError naming it, where Keras has none */
function toKerasLayer({ className, config }: StoredLayer): KerasObject {
  const where = `keras: layer "${config.name}" (${className})`;
  const words = layerClassOf(className)?.keras;
  if (words === undefined) throw new UsageError(`${where}: Keras has no such layer`);
  const settings = Object.entries(words.settings ?? {}).map(([ours, theirs]) => {
    const { name, to } = typeof theirs === "string" ? plainSetting(theirs) : theirs;
    return [name, to(config[ours], where)];
  });
  const common = { name: config.name, trainable: config.trainable ?? true, dtype: "float32" };
  const written = { ...common, ...Object.fromEntries(settings), ...words.fixed, ...words.written };
  const taken = Object.entries(written).filter(([name]) => !words.refused?.includes(name));
  return { class_name: words.className ?? className, config: Object.fromEntries(taken) };
}

/**
 * Keras's configuration of a model as Kilograd's. What only training needs is left out and told to
 * `remarks`. `version` is Keras's, where it wrote the file.
 * @throws DataError naming `source` and the layer
 */
export function fromKerasConfig(
  model: unknown,
  source: string,
  remarks = new Remarks(source),
  version?: string,
): ModelConfig {
  const layers = kerasLayers(model, source);
  const { config } = model as KerasObject;
  if (layers.length === 0) throw new DataError(`${source}: its model has no layers`);
  const name = (standard: string) =>
    typeof config["name"] === "string" && config["name"] !== "" ? config["name"] : standard;
  const translated = layers
    .filter((layer) => layer.class_name !== "InputLayer")
    .map((layer) => fromKerasLayer(source, layer, remarks, version));
  if (FUNCTIONAL.includes((model as KerasObject).class_name)) {
    const graph = fromKerasCalls(layers, config, source);
    return { className: "Functional", name: name("functional"), layers: translated, ...graph };
  }
  const first = layers[0]!.config;
  const batchShape = first["batch_input_shape"] ?? first["batch_shape"];
  const inputShape = Array.isArray(batchShape) ? batchShape.slice(1) : undefined;
  if (!inputShape?.every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw new DataError(`${source}: needs a fixed input shape, has ${JSON.stringify(batchShape ?? null)}`);
  }
  return { className: "Sequential", name: name("sequential"), inputShape, layers: translated };
}

/** A layer of Keras's words. @throws DataError naming the file and the layer, where it cannot be computed */
function fromKerasLayer(
  source: string,
  { class_name: theirs, registered_name: registered, config: given }: KerasEntry,
  remarks: Remarks,
  version: string | undefined,
): StoredLayer {
  const name = typeof given["name"] === "string" ? given["name"] : theirs;
  const where = `${source}: layer "${name}" (${theirs})`;
  const kerasName = ({ className, keras }: ReturnType<typeof allClasses>[number]) => keras?.className ?? className;
  const known = allClasses().filter(({ keras }) => keras !== undefined);
  const found = known.find((each) => kerasName(each) === theirs || kerasName(each) === registered);
  if (found === undefined) {
    throw new DataError(
      `${where}: the class must be one of ${known.map(kerasName).join(", ")}, or one of nn.defineLayer with Keras's words`,
    );
  }
  const { className } = found;
  const words = found.keras!;
  for (const [key, value] of Object.entries({ ...words.fixed, ...words.fixedIfGiven })) {
    if (given[key] === undefined || given[key] === value) continue;
    throw new DataError(`${where}: ${key} must be ${JSON.stringify(value)}, is ${JSON.stringify(given[key])}`);
  }
  const policy = policyOf(given["dtype"]);
  if (policy !== undefined && policy !== "float32") remarks.computes(name, policy);
  const read = new Set<string>();
  const settings = Object.entries(words.settings ?? {}).flatMap(([ours, setting]) => {
    const { name: current, formerly, from } = typeof setting === "string" ? plainSetting(setting) : setting;
    const key = formerly !== undefined && given[current] === undefined ? formerly : current;
    read.add(key);
    const value = from(given[key], { where, layer: name, remarks, version });
    return value === undefined || value === null ? [] : [[ours, value] as const];
  });
  for (const [key, value] of Object.entries(given).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (read.has(key)) continue;
    if (/_(regularizer|constraint)$/.test(key) && value) remarks.lacks(name, `${key} ${classNameOf(value)}`);
  }
  return {
    className,
    config: {
      ...(typeof given["name"] === "string" && { name }),
      ...(given["trainable"] === false && { trainable: false }),
      ...Object.fromEntries(settings),
    },
  };
}

/** "float32", or the name of a policy: a text, or an object with a name in its configuration. */
function policyOf(dtype: unknown): string | undefined {
  if (typeof dtype === "string") return dtype;
  const name = (dtype as { config?: { name?: unknown } } | null | undefined)?.config?.name;
  return typeof name === "string" ? name : undefined;
}

/** What a file says of layers that only their place in the model shows to be another function. */
export function checkPlaces(modelConfig: unknown, layers: readonly PlacedLayer[], path: string): void {
  const configs = new Map(kerasLayers(modelConfig, path).map(({ config }) => [config["name"], config]));
  for (const placed of layers) {
    const words = layerClassOf(placed.layer.className)?.keras;
    words?.check?.(configs.get(placed.name) ?? {}, placed, `${path}: layer "${placed.name}"`);
  }
}
