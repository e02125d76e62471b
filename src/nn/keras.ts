// Models in Keras's words: configurations translated both ways, and `.h5` files in the legacy layout (io/keras-h5.ts), which
// every version of Keras reads. What Keras cannot say, or Kilograd cannot compute, is an error, never left out.

import { array, object, optional } from "valibot";
import { anyObject, parse, ruled, text } from "../io/json.js";
import {
  type KerasH5,
  type KerasLayerWeights,
  type KerasWeight,
  readKerasH5,
  readKerasWeights,
  writeKerasH5,
} from "../io/keras-h5.js";
import type { StoredTensor } from "../io/safetensors.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { boolean, checkOptions, describe, number, object as objectRule, type Rules } from "../tensor/options.js";
import { formatShape } from "../tensor/shape.js";
import type { ActivationName } from "./activations.js";
import { type ModelConfig, type PlacedLayer, snakeCase } from "./architecture.js";
import type { ModelFile } from "./checkpoint.js";
import { requireFiniteState } from "./diagnose.js";
import { type Initializer, scalingInitializers } from "./initializers.js";
import type { LayerConfig } from "./layer.js";
import { type Model, requireModel } from "./model.js";
import type { OptimizerConfig } from "./optimizers.js";
import { checkedModelConfig, storedArchitecture } from "./stored-config.js";

type Json = Readonly<Record<string, unknown>>;
interface KerasLayer {
  readonly class_name: string;
  readonly config: Json;
}

/** What to write besides the model. */
export interface SaveKerasOptions {
  /** How it was trained, so that Keras compiles it when it loads it: `optimizer.config()` and Keras's name of the loss. */
  readonly training?: {
    readonly optimizer: OptimizerConfig;
    readonly loss: string;
    readonly metrics?: readonly string[];
  };
  /** JSON to keep with the model; Keras passes over it. */
  readonly notes?: Readonly<Record<string, unknown>>;
  /** Writes weights that are infinite or NaN, too. Default false: they are an error, and an existing file stays as it is. */
  readonly allowNonFinite?: boolean;
}

const saveRules: Rules<SaveKerasOptions> = { training: objectRule, notes: objectRule, allowNonFinite: boolean };

/**
 * Saves a model as `.h5` in Keras's legacy layout, float32, whole or not at all.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `FILE_WRITE`, or `NON_FINITE` for weights
 * that are infinite or NaN
 * @example
 * await nn.saveKerasModel("model.h5", model); // keras.models.load_model("model.h5")
 */
export async function saveKerasModel(path: string, model: Model, options: SaveKerasOptions = {}): Promise<void> {
  requireModel("saveKerasModel", model);
  const { training, notes = {}, allowNonFinite = false } = checkOptions("saveKerasModel", options, saveRules);
  if (!allowNonFinite) await requireFiniteState("saveKerasModel", model, path);
  const layers: KerasLayerWeights[] = [];
  for (const layer of model.layers) {
    const weights: KerasLayerWeights["weights"][number][] = [];
    for (const [name, tensor] of Object.entries(layer.weights)) {
      const data = Float32Array.from(await tensor.data());
      weights.push({ name: `${layer.name}/${weightNames[name] ?? name}:0`, dtype: "F32", shape: tensor.shape, data });
    }
    layers.push({ name: layer.name, weights });
  }
  await writeKerasH5(path, {
    modelConfig: toKerasConfig(model.config()),
    ...(training && { trainingConfig: trainingConfig(training) }),
    kilograd: { seed: model.seed, notes },
    layers,
  });
}

/**
 * Reads an `.h5` file as a model file; `loadModel` does so by itself. Layers and weights are matched in their order, as
 * Keras does.
 * @throws DataError for a file that is missing, no HDF5, damaged, no sequential Keras model, or of layers that are unknown
 */
export async function readKerasModel(path: string): Promise<ModelFile> {
  return fromKerasH5(await readKerasH5(path), path);
}

/** What a file holds as a model file. @throws DataError as {@link readKerasModel} */
export function fromKerasH5(content: KerasH5, path: string): ModelFile {
  const { modelConfig, kilograd, layers: groups, backend } = content;
  const own = parse(kilogradWords, kilograd ?? {}, `${path}: its kilograd`);
  const remarks = new Remarks(path);
  const config = checkedModelConfig(fromKerasConfig(modelConfig, path, remarks), `${path}: its model`);
  const { layers } = storedArchitecture(config, path);
  checkNormalizedAxes(modelConfig, layers, path);
  return {
    path,
    config,
    seed: own.seed,
    weights: placedInOrder(layers, groups, { path, backend }),
    slots: new Map(),
    callbackTensors: new Map(),
    training: undefined,
    notes: own.notes,
    remarks: remarks.sentences(),
  };
}

const kilogradWords = object(
  { seed: optional(ruled<number>(number()), 0), notes: optional(anyObject, {}) },
  "an object",
);

/**
 * The weights of an `.h5` file, under the names that they have in a model: of a whole model or of weights alone, in the
 * layouts of Keras 1, 2 and 3.
 * @throws DataError for a file that cannot be read, or whose layers are not as many as the model's
 */
export async function readKerasWeightsFor(model: Model, path: string): Promise<Map<string, StoredTensor>> {
  const found = await readKerasWeights(path);
  const layers = model.layers.map(({ placed }) => placed);
  if (found.kind === "layers") return placedInOrder(layers, found.layers, { path, backend: found.backend });
  const weights = new Map<string, StoredTensor>();
  const unclaimed = new Map(found.places);
  const counts = new Map<string, number>();
  for (const { name, layer, weights: specs } of layers) {
    const base = snakeCase(layer.className);
    const count = counts.get(base) ?? 0;
    counts.set(base, count + 1);
    const place = count === 0 ? base : `${base}_${count}`;
    const stored = unclaimed.get(place) ?? [];
    unclaimed.delete(place);
    addWeights(weights, name, specs, stored, path);
  }
  const extra = [...unclaimed].find(([, stored]) => stored.length > 0);
  if (extra !== undefined) throw new DataError(`${path}: has weights of ${extra[0]}, which the model does not have`);
  return weights;
}

/** What does not come over from Keras, layer by layer. Answers are the same without it, or nearly. */
class Remarks {
  private readonly lacking: string[] = [];
  private readonly policies = new Map<string, string>();

  constructor(private readonly path: string) {}

  /** Something that only training needs. */
  lacks(layer: string, what: string): void {
    this.lacking.push(`${what} of layer "${layer}"`);
  }

  /** A precision other than float32. */
  computes(layer: string, policy: string): void {
    this.policies.set(policy, this.policies.get(policy) ?? layer);
  }

  sentences(): string[] {
    const { path, lacking, policies } = this;
    return [
      ...[...policies].map(
        ([policy, layer]) =>
          `${path}: Keras computes its layers in ${policy} ("${layer}" is the first); here they are computed in the device's ` +
          "precision, float32 by default, so that answers differ by rounding",
      ),
      ...(lacking.length === 0
        ? []
        : [`${path}: answers as in Keras, but training it further would lack the ${lacking.join(", the ")}`]),
    ];
  }
}

/** Gives layers with weights the groups with weights, one after the other. */
function placedInOrder(
  layers: readonly PlacedLayer[],
  groups: readonly KerasLayerWeights[],
  { path, backend }: { readonly path: string; readonly backend: string | undefined },
): Map<string, StoredTensor> {
  const weighted = layers.filter(({ weights }) => weights.length > 0);
  const stored = groups.filter(({ weights }) => weights.length > 0);
  if (weighted.length !== stored.length) {
    throw new DataError(
      `${path}: the model has ${weighted.length} layers with weights, the file weights of ${stored.length}`,
    );
  }
  const weights = new Map<string, StoredTensor>();
  for (const [i, { name, layer, weights: specs }] of weighted.entries()) {
    const found = stored[i]!.weights;
    // Theano's convolution turns the kernel around.
    const turned = backend === "theano" && layer.className === "Conv2D";
    addWeights(weights, name, specs, turned ? found.map(turnedKernel) : found, path);
  }
  return weights;
}

function addWeights(
  to: Map<string, StoredTensor>,
  layer: string,
  specs: PlacedLayer["weights"],
  found: readonly KerasWeight[],
  path: string,
): void {
  if (found.length !== specs.length) {
    throw new DataError(
      `${path}: layer "${layer}" must have ${specs.length} weights (${specs.map((spec) => spec.name).join(", ")}), ` +
        `has ${found.length} (${found.map((weight) => `${weight.name} ${formatShape(weight.shape)}`).join(", ")})`,
    );
  }
  for (const [j, { name: _, ...tensor }] of found.entries()) to.set(`${layer}/${specs[j]!.name}`, tensor);
}

/** A kernel [height, width, in, out] with both first axes reversed; biases stay. */
function turnedKernel(weight: KerasWeight): KerasWeight {
  const [height, width, inputs, outputs] = weight.shape;
  if (weight.shape.length !== 4) return weight;
  const size = inputs! * outputs!;
  const data = weight.data.slice();
  for (let cell = 0; cell < height! * width!; cell++) {
    const from = (height! * width! - 1 - cell) * size;
    data.set(weight.data.subarray(from, from + size) as never, cell * size);
  }
  return { ...weight, data } as KerasWeight;
}

/** Batch normalisation of another axis than the last is another function. */
function checkNormalizedAxes(modelConfig: unknown, layers: readonly PlacedLayer[], path: string): void {
  const axes = new Map(kerasLayers(modelConfig, path).map(({ config }) => [config["name"], config["axis"]]));
  for (const { name, inputShape } of layers) {
    const axis = [axes.get(name) ?? -1].flat()[0];
    if (axis === -1 || axis === inputShape.length) continue; // Keras counts the batch axis.
    throw new DataError(`${path}: layer "${name}": axis must be the last, -1 or ${inputShape.length}, is ${axis}`);
  }
}

const kerasLayer = object({ class_name: text, config: anyObject }, "an object");
const kerasLayerList = array(kerasLayer, "a list");

/** The list of layers; before Keras 2.3 the configuration was the list itself. */
function kerasLayers(model: unknown, source: string): KerasLayer[] {
  const { class_name: className, config } = (model ?? {}) as { class_name?: unknown; config?: unknown };
  if (className !== "Sequential" || typeof config !== "object" || config === null) {
    throw new DataError(`${source}: must hold a Sequential model, holds ${describe(className ?? null)}`);
  }
  return parse(kerasLayerList, Array.isArray(config) ? config : (config as Json)["layers"], `${source}: its layers`);
}

/** Kilograd's names of weights where Keras has others. */
const weightNames: Readonly<Record<string, string>> = {
  movingMean: "moving_mean",
  movingVariance: "moving_variance",
};

// Names that mean the same function in both. (Keras's leaky_relu and elu have other slopes by default.)
const activations: readonly (readonly [ActivationName, string])[] = [
  ["linear", "linear"],
  ["softmax", "softmax"],
  ["relu", "relu"],
  ["tanh", "tanh"],
  ["sigmoid", "sigmoid"],
  ["softplus", "softplus"],
  ["gelu", "gelu"],
  ["exp", "exponential"],
];

/** Settings that are kept under another name, by class: [Kilograd's, Keras's]. */
const windowSettings = [
  ["strides", "strides"],
  ["padding", "padding"],
] as const;
const settings: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  Dense: [["units", "units"]],
  Conv2D: [["filters", "filters"], ["kernelSize", "kernel_size"], ["dilations", "dilation_rate"], ...windowSettings],
  MaxPooling2D: [["poolSize", "pool_size"], ...windowSettings],
  AveragePooling2D: [["poolSize", "pool_size"], ...windowSettings],
  GlobalAveragePooling2D: [],
  BatchNormalization: [
    ["momentum", "momentum"],
    ["epsilon", "epsilon"],
  ],
  Dropout: [["rate", "rate"]],
  Flatten: [],
  Reshape: [["targetShape", "target_shape"]],
  Activation: [],
};

/** What Keras writes and Kilograd has one value of. Another value in a file would compute something else. */
const fixed: Readonly<Record<string, Json>> = {
  Conv2D: { data_format: "channels_last", groups: 1 },
  MaxPooling2D: { data_format: "channels_last" },
  AveragePooling2D: { data_format: "channels_last" },
  GlobalAveragePooling2D: { data_format: "channels_last", keepdims: false },
  BatchNormalization: { center: true, scale: true },
  Flatten: { data_format: "channels_last" },
};
const withKernel = new Set(["Dense", "Conv2D"]);

/** A model's configuration in Keras's words. @throws UsageError naming the layer that it has none for */
export function toKerasConfig(config: ModelConfig): KerasLayer {
  if (config.className !== "Sequential") {
    throw new UsageError(`keras: "${config.name}" must be a chain of layers, has branches; use saveModel`);
  }
  const { name, inputShape, layers } = config;
  const input = { batch_input_shape: [null, ...inputShape], dtype: "float32", sparse: false, ragged: false };
  return {
    class_name: "Sequential",
    config: {
      name,
      layers: [
        { class_name: "InputLayer", config: { ...input, name: `${name}_input` } },
        ...layers.map(({ className, config }) => ({ class_name: className, config: toKerasLayer(className, config) })),
      ],
    },
  };
}

function toKerasLayer(className: string, config: LayerConfig): Json {
  const where = `keras: layer "${config.name}" (${className})`;
  if (settings[className] === undefined) throw new UsageError(`${where}: Keras has no such layer`);
  if (config["padding"] !== undefined && typeof config["padding"] !== "string") {
    throw new UsageError(
      `${where}: padding must be "valid" or "same" for Keras, is ${JSON.stringify(config["padding"])}`,
    );
  }
  const activation = config["activation"] as ActivationName | undefined;
  const kernel = withKernel.has(className) && {
    use_bias: config["useBias"],
    kernel_initializer: toKerasInitializer(config["kernelInitializer"] as Initializer),
    bias_initializer: toKerasInitializer(config["biasInitializer"] as Initializer),
    kernel_regularizer: config["kernelL2"] ? { class_name: "L2", config: { l2: config["kernelL2"] } } : null,
    bias_regularizer: null,
    activity_regularizer: null,
    kernel_constraint: null,
    bias_constraint: null,
  };
  return {
    name: config.name,
    trainable: config.trainable ?? true,
    dtype: "float32",
    ...Object.fromEntries(settings[className].map(([ours, keras]) => [keras, config[ours]])),
    ...fixed[className],
    ...(className === "BatchNormalization" && { axis: -1 }),
    ...(activation !== undefined && { activation: translated(where, activation, "toKeras") }),
    ...kernel,
  };
}

function translated(where: string, name: string, direction: "toKeras" | "fromKeras"): string {
  const [from, to] = direction === "toKeras" ? ([0, 1] as const) : ([1, 0] as const);
  const pair = activations.find((candidate) => candidate[from] === name);
  if (pair !== undefined) return pair[to];
  const message = `${where}: activation must be one of ${activations.map((p) => p[from]).join(", ")}, is ${JSON.stringify(name)}`;
  throw direction === "toKeras" ? new UsageError(message) : new DataError(message);
}

const capitalized = (name: string) => name[0]!.toUpperCase() + name.slice(1);

function toKerasInitializer(initializer: Initializer): KerasLayer {
  switch (initializer.name) {
    case "constant":
      return { class_name: "Constant", config: { value: initializer.value } };
    case "uniform":
      return {
        class_name: "RandomUniform",
        config: { minval: initializer.minimum, maxval: initializer.maximum, seed: null },
      };
    case "normal":
      return {
        class_name: "RandomNormal",
        config: { mean: initializer.mean, stddev: initializer.standardDeviation, seed: null },
      };
    default:
      return { class_name: capitalized(initializer.name), config: { seed: null } };
  }
}

/** Kilograd's initialiser of the same distribution, if there is one. */
function fromKerasInitializer(value: unknown): Initializer | undefined {
  // Old files have names such as "glorot_uniform".
  const { class_name: given, config = {} } = (typeof value === "string" ? { class_name: value } : value) as {
    class_name?: unknown;
    config?: Record<string, unknown>;
  };
  const name = typeof given === "string" ? given.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase()) : "";
  const plain = scalingInitializers.find((known) => capitalized(known) === name);
  if (plain !== undefined) return { name: plain };
  const numbers = (...names: string[]) => names.map((key) => config?.[key]).every((part) => Number.isFinite(part));
  if (/^Zeros?$/.test(name)) return { name: "constant", value: 0 };
  if (/^Ones?$/.test(name)) return { name: "constant", value: 1 };
  const { value: constant, minval, maxval, mean, stddev } = config as Record<string, number>;
  if (name === "Constant" && numbers("value")) return { name: "constant", value: constant! };
  if (name === "RandomUniform" && numbers("minval", "maxval")) {
    return { name: "uniform", minimum: minval!, maximum: maxval! };
  }
  if (name === "RandomNormal" && numbers("mean", "stddev")) {
    return { name: "normal", mean: mean!, standardDeviation: stddev! };
  }
  if (name !== "VarianceScaling") return undefined;
  // What Keras 2.0 to 2.3 wrote for the scaling initialisers.
  const scaled: Readonly<Record<string, string>> = { "1 fan_avg": "glorot", "1 fan_in": "lecun", "2 fan_in": "he" };
  const base = scaled[`${config?.["scale"]} ${config?.["mode"]}`];
  const distribution = { uniform: "Uniform", normal: "Normal", truncated_normal: "Normal" }[
    String(config?.["distribution"])
  ];
  return scalingInitializers.flatMap((known) => (known === `${base}${distribution}` ? [{ name: known }] : []))[0];
}

/**
 * Keras's configuration of a sequential model as Kilograd's. What only training needs is left out and told to `remarks`.
 * @throws DataError naming `source` and the layer
 */
export function fromKerasConfig(model: unknown, source: string, remarks = new Remarks(source)): ModelConfig {
  const layers = kerasLayers(model, source);
  const { config } = model as KerasLayer;
  if (layers.length === 0) throw new DataError(`${source}: its model has no layers`);
  const first = layers[0]!.config;
  const batchShape = first["batch_input_shape"] ?? first["batch_shape"];
  const inputShape = Array.isArray(batchShape) ? batchShape.slice(1) : undefined;
  if (!inputShape?.every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw new DataError(`${source}: needs a fixed input shape, has ${JSON.stringify(batchShape ?? null)}`);
  }
  return {
    className: "Sequential",
    name: typeof config["name"] === "string" && config["name"] !== "" ? config["name"] : "sequential",
    inputShape,
    layers: layers
      .filter((layer) => layer.class_name !== "InputLayer")
      .map((layer) => ({ className: layer.class_name, config: fromKerasLayer(source, layer, remarks) })),
  };
}

function fromKerasLayer(
  source: string,
  { class_name: className, config: given }: KerasLayer,
  remarks: Remarks,
): LayerConfig {
  const name = typeof given["name"] === "string" ? given["name"] : className;
  const where = `${source}: layer "${name}" (${className})`;
  const known = Object.hasOwn(settings, className) ? settings[className] : undefined;
  if (known === undefined) {
    throw new DataError(`${where}: the class must be one of ${Object.keys(settings).join(", ")}`);
  }
  for (const [key, value] of Object.entries(fixed[className] ?? {})) {
    if (given[key] === undefined || given[key] === value) continue;
    throw new DataError(`${where}: ${key} must be ${JSON.stringify(value)}, is ${JSON.stringify(given[key])}`);
  }
  const policy = policyOf(given["dtype"]);
  if (policy !== undefined && policy !== "float32") remarks.computes(name, policy);
  // Activations that are objects in the file have names that are not known here.
  const activation =
    given["activation"] === undefined
      ? {}
      : { activation: translated(where, (given["activation"] ?? "linear") as string, "fromKeras") };
  const initializerOf = (key: string, standard: Initializer): Initializer => {
    const value = given[key];
    if (value === undefined || value === null) return standard;
    const found = fromKerasInitializer(value);
    if (found === undefined) remarks.lacks(name, `${key} ${classNameOf(value)}`);
    return found ?? standard;
  };
  const kernel = withKernel.has(className) && {
    useBias: given["use_bias"] ?? true,
    kernelInitializer: initializerOf("kernel_initializer", { name: "glorotUniform" }),
    biasInitializer: initializerOf("bias_initializer", { name: "constant", value: 0 }),
    kernelL2: l2Of(name, given["kernel_regularizer"], remarks),
  };
  for (const [key, value] of Object.entries(given).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (key === "kernel_regularizer" && kernel) continue;
    if (/_(regularizer|constraint)$/.test(key) && value) remarks.lacks(name, `${key} ${classNameOf(value)}`);
  }
  return {
    ...(typeof given["name"] === "string" && { name }),
    ...(given["trainable"] === false && { trainable: false }),
    ...Object.fromEntries(known.flatMap(([ours, keras]) => (given[keras] == null ? [] : [[ours, given[keras]]]))),
    ...activation,
    ...kernel,
  };
}

/** "float32", or the name of a policy: a text, or an object with a name in its configuration. */
function policyOf(dtype: unknown): string | undefined {
  if (typeof dtype === "string") return dtype;
  const name = (dtype as { config?: { name?: unknown } } | null | undefined)?.config?.name;
  return typeof name === "string" ? name : undefined;
}

const classNameOf = (value: unknown): string => {
  const name = (value as { class_name?: unknown }).class_name ?? value;
  return typeof name === "string" ? name : "of its own";
};

/** The penalty on squares; one on magnitudes is told. */
function l2Of(layer: string, regularizer: unknown, remarks: Remarks): number {
  if (!regularizer) return 0;
  const { config } = regularizer as { config?: { l1?: unknown; l2?: unknown } | null };
  const [l1 = 0, l2 = 0] = [config?.l1, config?.l2];
  const known = /^(L2|L1L2)$/.test(classNameOf(regularizer)) && Number.isFinite(l2) && (l2 as number) >= 0;
  if (!known) remarks.lacks(layer, `kernel_regularizer ${classNameOf(regularizer)}`);
  else if (l1) remarks.lacks(layer, `kernel_regularizer's l1 of ${l1}`);
  return known ? (l2 as number) : 0;
}

/** As Keras writes it when a model was compiled; the key loss_weights must be there. */
function trainingConfig({ optimizer, loss, metrics = ["accuracy"] }: NonNullable<SaveKerasOptions["training"]>): Json {
  return {
    loss,
    metrics,
    weighted_metrics: null,
    loss_weights: null,
    sample_weight_mode: null,
    optimizer_config: toKerasOptimizer(optimizer),
  };
}

function toKerasOptimizer({ name, schedule, ...given }: OptimizerConfig): KerasLayer {
  // Of a schedule the first full rate: Keras would begin anew.
  const common = { learning_rate: schedule["learningRate"] };
  if (name === "sgd") {
    const { momentum, nesterov, weightDecay } = given;
    return {
      class_name: "SGD",
      config: { name: "SGD", ...common, momentum, nesterov, weight_decay: weightDecay || null },
    };
  }
  const className = name === "adamW" ? "AdamW" : "Adam";
  const { beta1, beta2, epsilon, weightDecay } = given;
  return {
    class_name: className,
    config: {
      name: className,
      ...common,
      beta_1: beta1,
      beta_2: beta2,
      epsilon,
      amsgrad: false,
      weight_decay: weightDecay || null,
    },
  };
}
