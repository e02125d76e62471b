// Models in Keras's words: configurations translated both ways, and `.h5` files in the legacy layout (io/keras-h5.ts), which
// every version of Keras reads. What Keras cannot say, or Kilograd cannot compute, is an error, never left out.

import { type KerasLayerWeights, readKerasH5, writeKerasH5 } from "../io/keras-h5.js";
import type { StoredTensor } from "../io/safetensors.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { formatShape } from "../tensor/shape.js";
import type { ActivationName } from "./activations.js";
import { architectureFromConfig, type ModelConfig, type PlacedLayer } from "./architecture.js";
import type { ModelFile } from "./checkpoint.js";
import { requireFiniteWeights } from "./diagnose.js";
import type { Initializer } from "./initializers.js";
import type { LayerConfig } from "./layer.js";
import type { Sequential } from "./model.js";
import type { OptimizerConfig } from "./optimizers.js";

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

/**
 * Saves a model as `.h5` in Keras's legacy layout, float32, whole or not at all.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `FILE_WRITE`, or `NON_FINITE` for weights
 * that are infinite or NaN
 * @example
 * await nn.saveKerasModel("model.h5", model); // keras.models.load_model("model.h5")
 */
export async function saveKerasModel(path: string, model: Sequential, options: SaveKerasOptions = {}): Promise<void> {
  const { training, notes = {}, allowNonFinite = false } = options;
  if (!allowNonFinite) await requireFiniteWeights("saveKerasModel", model, path);
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
  const { modelConfig, kilograd, layers: groups } = await readKerasH5(path);
  const { seed = 0, notes = {} } = (kilograd ?? {}) as { seed?: number; notes?: Record<string, unknown> };
  const config = fromKerasConfig(modelConfig, path);
  const { layers } = architectureFromConfig(config);
  checkNormalizedAxes(modelConfig, layers, path);
  const weighted = layers.filter(({ weights }) => weights.length > 0);
  const stored = groups.filter(({ weights }) => weights.length > 0);
  if (weighted.length !== stored.length) {
    throw new DataError(
      `${path}: has ${weighted.length} layers with weights in its configuration, but weights of ${stored.length}`,
    );
  }
  const weights = new Map<string, StoredTensor>();
  for (const [i, { name, weights: specs }] of weighted.entries()) {
    const found = stored[i]!.weights;
    if (found.length !== specs.length) {
      throw new DataError(
        `${path}: layer "${name}" must have ${specs.length} weights (${specs.map((spec) => spec.name).join(", ")}), ` +
          `has ${found.length} (${found.map((weight) => `${weight.name} ${formatShape(weight.shape)}`).join(", ")})`,
      );
    }
    for (const [j, { name: _, ...tensor }] of found.entries()) weights.set(`${name}/${specs[j]!.name}`, tensor);
  }
  return { path, config, seed, weights, slots: new Map(), callbackTensors: new Map(), training: undefined, notes };
}

/** Batch normalisation of another axis than the last is another function. */
function checkNormalizedAxes(modelConfig: unknown, layers: readonly PlacedLayer[], path: string): void {
  const axes = new Map(kerasLayers(modelConfig as KerasLayer).map(({ config }) => [config["name"], config["axis"]]));
  for (const { name, inputShape } of layers) {
    const axis = [axes.get(name) ?? -1].flat()[0];
    if (axis === -1 || axis === inputShape.length) continue; // Keras counts the batch axis.
    throw new DataError(`${path}: layer "${name}": axis must be the last, -1 or ${inputShape.length}, is ${axis}`);
  }
}

/** The list of layers; before Keras 2.3 the configuration was the list itself. */
function kerasLayers({ config }: KerasLayer): KerasLayer[] {
  const layers = Array.isArray(config) ? config : config["layers"];
  return Array.isArray(layers) ? layers : [];
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
export function toKerasConfig({ name, inputShape, layers }: ModelConfig): KerasLayer {
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

/** Fan-scaling initialisers, by Keras's class names. */
const scalingInitializers = ["GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"];

function fromKerasInitializer(where: string, value: unknown): Initializer {
  const { class_name: name, config = {} } = (value ?? {}) as { class_name?: string; config?: Record<string, number> };
  if (name === undefined) return { name: "glorotUniform" };
  if (scalingInitializers.includes(name)) {
    return { name: `${name[0]!.toLowerCase()}${name.slice(1)}` } as Initializer;
  }
  if (name === "Zeros") return { name: "constant", value: 0 };
  if (name === "Ones") return { name: "constant", value: 1 };
  if (name === "Constant") return { name: "constant", value: config["value"]! };
  if (name === "RandomUniform") return { name: "uniform", minimum: config["minval"]!, maximum: config["maxval"]! };
  if (name === "RandomNormal") return { name: "normal", mean: config["mean"]!, standardDeviation: config["stddev"]! };
  throw new DataError(`${where}: initialiser ${JSON.stringify(name)} is not known`);
}

/** Keras's configuration of a sequential model as Kilograd's. @throws DataError naming `source` and the layer */
export function fromKerasConfig(model: unknown, source: string): ModelConfig {
  const { class_name: className, config } = (model ?? {}) as { class_name?: string; config?: Json };
  if (className !== "Sequential" || config === undefined) {
    throw new DataError(`${source}: must hold a Sequential model, holds ${JSON.stringify(className ?? null)}`);
  }
  const layers = kerasLayers(model as KerasLayer);
  if (layers.length === 0) throw new DataError(`${source}: its model has no layers`);
  const first = layers[0]!.config;
  const batchShape = first["batch_input_shape"] ?? first["batch_shape"];
  const inputShape = Array.isArray(batchShape) ? batchShape.slice(1) : undefined;
  if (!inputShape?.every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw new DataError(`${source}: needs a fixed input shape, has ${JSON.stringify(batchShape ?? null)}`);
  }
  return {
    className: "Sequential",
    name: typeof config["name"] === "string" ? config["name"] : "sequential",
    inputShape,
    layers: layers
      .filter((layer) => layer.class_name !== "InputLayer")
      .map(({ class_name: name, config: given }) => ({
        className: name,
        config: fromKerasLayer(`${source}: layer "${given["name"]}" (${name})`, name, given),
      })),
  };
}

function fromKerasLayer(where: string, className: string, given: Json): LayerConfig {
  const known = Object.hasOwn(settings, className) ? settings[className] : undefined;
  if (known === undefined) {
    throw new DataError(`${where}: the class must be one of ${Object.keys(settings).join(", ")}`);
  }
  for (const [name, value] of Object.entries(fixed[className] ?? {})) {
    if (given[name] === undefined || given[name] === value) continue;
    throw new DataError(`${where}: ${name} must be ${JSON.stringify(value)}, is ${JSON.stringify(given[name])}`);
  }
  // Activations that are objects in the file have names that are not known here.
  const activation =
    given["activation"] === undefined
      ? {}
      : { activation: translated(where, (given["activation"] ?? "linear") as string, "fromKeras") };
  const kernel = withKernel.has(className) && {
    useBias: given["use_bias"] ?? true,
    kernelInitializer: fromKerasInitializer(where, given["kernel_initializer"]),
    biasInitializer: fromKerasInitializer(where, given["bias_initializer"] ?? { class_name: "Zeros" }),
    kernelL2: l2Of(where, given["kernel_regularizer"]),
  };
  for (const name of ["bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint"]) {
    if (given[name]) throw new DataError(`${where}: ${name} is not known, must be null`);
  }
  return {
    name: String(given["name"]),
    ...(given["trainable"] === false && { trainable: false }),
    ...Object.fromEntries(known.flatMap(([ours, keras]) => (given[keras] == null ? [] : [[ours, given[keras]]]))),
    ...activation,
    ...kernel,
  };
}

function l2Of(where: string, regularizer: unknown): number {
  if (regularizer == null) return 0;
  const { class_name: name, config = {} } = regularizer as { class_name?: string; config?: Record<string, number> };
  if (/^(L2|L1L2)$/.test(name ?? "") && !config["l1"]) return config["l2"] ?? 0;
  throw new DataError(`${where}: kernel_regularizer must be L2 or null, is ${JSON.stringify(regularizer)}`);
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
