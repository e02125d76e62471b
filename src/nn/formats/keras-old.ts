// Entries of Keras's layers in words that Kilograd's layers have: names of classes and settings in Keras 1, classes
// that are another layer with certain settings, layers that do something while training alone, and activations that are
// layers of their own.
import { DataError } from "../../tensor/errors.js";
import { snakeCase } from "../model-shape.js";
import type { KerasEntry } from "./keras-graph.js";
import { entryName } from "./keras-graph.js";
import type { Remarks } from "./keras-remarks.js";
import { classNameOf, type Json, type KerasObject } from "./keras-words.js";

/** A layer in other words. */
export interface ModernLayer {
  readonly entry: KerasEntry;
  /** Layers without weights that follow it: its activation. */
  readonly after: readonly KerasObject[];
  /** Where its weights lie in the newer layout, from its own place on. */
  readonly within?: string;
}

/** Classes that Keras 1 had other names for. */
const renamedClasses = new Map(
  Object.entries({
    ...{ Convolution1D: "Conv1D", Convolution2D: "Conv2D", AtrousConvolution1D: "Conv1D" },
    ...{ AtrousConvolution2D: "Conv2D", SeparableConvolution2D: "SeparableConv2D" },
  }),
);
/** Classes of settings that Keras 1 had other names for. */
const CONVOLUTION = /^(Separable|Depthwise)?Conv[12]D(Transpose)?$/;
const POOLING = /^(Max|Average)Pooling[12]D$/;
const DROPOUT = /^(Spatial|Gaussian|Alpha)?Dropout([12]D)?$/;

/** Settings of all classes, or of some, by their names in Keras 1. */
const renamedSettings: readonly (readonly [given: string, current: string, of?: RegExp])[] = [
  ...([
    ["init", "kernel_initializer"],
    ["bias", "use_bias"],
    ["border_mode", "padding"],
  ] as const),
  ...([
    ["W_regularizer", "kernel_regularizer"],
    ["b_regularizer", "bias_regularizer"],
  ] as const),
  ...([
    ["W_constraint", "kernel_constraint"],
    ["b_constraint", "bias_constraint"],
  ] as const),
  ...([
    ["depthwise_init", "depthwise_initializer"],
    ["pointwise_init", "pointwise_initializer"],
  ] as const),
  ...([
    ["gamma_init", "gamma_initializer"],
    ["beta_init", "beta_initializer"],
  ] as const),
  ...([
    ["nb_filter", "filters"],
    ["filter_length", "kernel_size"],
    ["atrous_rate", "dilation_rate"],
  ] as const),
  ...([
    ["subsample", "strides"],
    ["subsample_length", "strides"],
  ] as const),
  ["output_dim", "units", /^Dense$/],
  ["p", "rate", DROPOUT],
  ["sigma", "stddev", /^GaussianNoise$/],
  ["pool_length", "pool_size", POOLING],
  ["stride", "strides", POOLING],
  ["length", "size", /^UpSampling1D$/],
];

const orders = new Map(Object.entries({ tf: "channels_last", th: "channels_first" }));
/** What two inputs or more become, by its mode in Keras 1. */
const merges = new Map(Object.entries({ sum: "Add", mul: "Multiply", ave: "Average", max: "Maximum" }));

/** Layers that leave their input as it is, but for training. */
const TRAINING_ONLY =
  /^(ActivityRegularization|AlphaDropout|Random(Flip|Rotation|Zoom|Translation|Contrast|Brightness|Shear|Hue|Saturation|Sharpness|Invert|ColorJitter|ColorDegeneration|Grayscale|Erasing|GaussianBlur|Posterization|Perspective|ElasticTransform))$/;
/** Layers that do the same to every position of a sequence. */
const BY_POSITION = /^(Dense|Activation|Dropout|ReLU|LeakyReLU|ELU|BatchNormalization|LayerNormalization)$/;
/** Activations that are layers without weights. */
const ACTIVATIONS = /^(ReLU|LeakyReLU|ELU|Softmax|ThresholdedReLU|Activation)$/;

const refusals: readonly (readonly [RegExp, string])[] = [
  [/^Lambda$/, "holds a function of Python, which is not run"],
  [
    /^(LSTM|GRU|SimpleRNN|RNN|Bidirectional|ConvLSTM[123]D|CuDNN(LSTM|GRU))$/,
    "is recurrent, and Kilograd has no such layer",
  ],
  [/^Masking$/, "leaves out positions, and Kilograd's layers have no masks"],
];

/**
 * An entry in words that Kilograd's layers have.
 * @throws DataError for a layer that has none, with the reason; `where` begins messages
 */
export function modernLayer(given: KerasEntry, where: string, remarks: Remarks, version?: string): ModernLayer {
  const entry = equivalent(keras1(given, where), where, remarks);
  const { entry: layer, within } = entry;
  return { ...withoutActivation(layer, where, version), ...(within !== undefined && { within }) };
}

/** A layer of Keras 1 in the words of Keras 2. */
function keras1(given: KerasEntry, where: string): KerasEntry {
  const className = renamedClasses.get(given.class_name) ?? given.class_name;
  const { nb_row: rows, nb_col: columns, dim_ordering: order, ...rest } = given.config;
  if (className === "Merge") return merged(given, where);
  const config: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest)) {
    const renamed = renamedSettings.find(([name, , of]) => name === key && (of === undefined || of.test(className)));
    config[renamed?.[1] ?? key] = /_regularizer$/.test(key) ? regularizer(value) : value;
  }
  if (rows !== undefined && columns !== undefined && CONVOLUTION.test(className))
    config["kernel_size"] = [rows, columns];
  // "default" was the setting of whoever wrote the file, and stands in none.
  if (typeof order === "string") config["data_format"] = orders.get(order) ?? order;
  if (className === "BatchNormalization" && "mode" in config) {
    if (config["mode"] !== 0) throw new DataError(`${where}: mode must be 0, is ${JSON.stringify(config["mode"])}`);
    delete config["mode"];
  }
  return { ...given, class_name: className, config };
}

/** `{ name: "WeightRegularizer", l1, l2 }` as Keras 2 has it. */
function regularizer(value: unknown): unknown {
  const { class_name: className, l1, l2 } = Object(value) as Json;
  if (className !== undefined || (l1 === undefined && l2 === undefined)) return value;
  return { class_name: "L1L2", config: { l1: l1 ?? 0, l2: l2 ?? 0 } };
}

function merged(given: KerasEntry, where: string): KerasEntry {
  const { mode, concat_axis: axis, mode_type: kind = "raw", dot_axes: axes, name, layers } = given.config as Json;
  const config = { name };
  if (kind === "raw" && !Array.isArray(layers)) {
    if (mode === "concat") return { ...given, class_name: "Concatenate", config: { ...config, axis: axis ?? -1 } };
    if (mode === "dot" || mode === "cos") {
      return { ...given, class_name: "Dot", config: { ...config, axes, normalize: mode === "cos" } };
    }
    const className = merges.get(String(mode));
    if (className !== undefined) return { ...given, class_name: className, config };
  }
  const what = Array.isArray(layers) ? "at the beginning of a chain" : `with the mode ${JSON.stringify(mode)}`;
  throw new DataError(`${where}: a Merge ${what} cannot be read; rebuild the model with nn.input and nn.model`);
}

/** A layer that another one with certain settings is. */
function equivalent(given: KerasEntry, where: string, remarks: Remarks): Pick<ModernLayer, "entry" | "within"> {
  const { class_name: className, config } = given;
  const name = entryName(given);
  const linear = (): KerasEntry => ({ ...given, class_name: "Activation", config: { name, activation: "linear" } });
  if (className === "Identity") return { entry: linear() };
  if (TRAINING_ONLY.test(className)) {
    remarks.lacks(name, className);
    return { entry: linear() };
  }
  if (className === "ThresholdedReLU") {
    return { entry: { ...given, class_name: "ReLU", config: { name, threshold: config["theta"] } } };
  }
  if (className === "TimeDistributed") {
    const { layer } = config as { layer?: KerasObject };
    const inner = Object(layer) as Partial<KerasObject>;
    if (typeof inner.config === "object" && inner.config !== null && BY_POSITION.test(String(inner.class_name))) {
      const entry = { ...given, class_name: inner.class_name!, config: { ...inner.config, name } };
      return { entry: keras1(entry, where), within: "layer" };
    }
    throw new DataError(
      `${where}: of a ${classNameOf(layer ?? {})} cannot be computed; define a layer with nn.defineLayer`,
    );
  }
  const refusal = refusals.find(([classes]) => classes.test(className));
  if (refusal === undefined) return { entry: given };
  throw new DataError(
    `${where}: ${refusal[1]}; write it with nn.defineLayer, and give that Keras's words: { className: "${className}" }`,
  );
}

/** The activation of a layer as layers of their own, where it is no name that Kilograd has. */
function withoutActivation(entry: KerasEntry, where: string, version: string | undefined): ModernLayer {
  const { activation } = entry.config;
  const owner = entryName(entry);
  const after = activationLayers(activation, where, version);
  const plain = functionName(activation);
  if (after === undefined) {
    if (plain === activation) return { entry, after: [] };
    return { entry: { ...entry, config: { ...entry.config, activation: plain } }, after: [] };
  }
  const layers = after.map(({ class_name: className, config }) => ({
    class_name: className,
    config: { ...config, name: `${owner}/${snakeCase(className)}` },
  }));
  return { entry: { ...entry, config: { ...entry.config, activation: "linear" } }, after: layers };
}

/** The name of a function that a file describes as an object. */
function functionName(activation: unknown): unknown {
  const { class_name: className, config } = Object(activation) as { class_name?: unknown; config?: unknown };
  return className === "function" && typeof config === "string" ? config : activation;
}

/** Layers that an activation is; undefined where it is a name, or nothing. */
function activationLayers(given: unknown, where: string, version: string | undefined): KerasObject[] | undefined {
  const activation = functionName(given);
  if (typeof activation === "object" && activation !== null) {
    const { class_name: className, config } = activation as Partial<KerasObject>;
    if (
      typeof className !== "string" ||
      typeof config !== "object" ||
      config === null ||
      !ACTIVATIONS.test(className)
    ) {
      return undefined;
    }
    const { entry, after } = modernLayer({ class_name: className, config }, where, undefined as never, version);
    return [entry, ...after];
  }
  if (activation === "leaky_relu") return [{ class_name: "LeakyReLU", config: { negative_slope: 0.2 } }];
  // Keras 1 and 2: 0.2 x + 0.5 between 0 and 1; that of Keras 3 is Kilograd's.
  if (activation === "hard_sigmoid" && /^[12]\./.test(version ?? "")) {
    return [
      { class_name: "Rescaling", config: { scale: 0.2, offset: 0.5 } },
      { class_name: "ReLU", config: { max_value: 1 } },
    ];
  }
  return undefined;
}
