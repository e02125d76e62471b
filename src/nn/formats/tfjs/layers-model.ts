// Layers models of TensorFlow.js: a configuration in the words of Keras 2, and weights by name.
import type { StoredTensor } from "../../../io/safetensors.js";
import { DataError, UsageError } from "../../../tensor/errors.js";
import { formatShape, sameShape } from "../../../tensor/shape.js";
import { layerClassOf } from "../../layers/registry.js";
import type { Model } from "../../model.js";
import type { ModelConfig } from "../../model-config.js";
import type { PlacedLayer } from "../../model-shape.js";
import { checkedModelConfig, storedShape } from "../../stored-config.js";
import { checkPlaces, fromKerasModel, toKerasConfig } from "../keras.js";
import type { Remarks } from "../keras-remarks.js";
import type { Json, KerasObject } from "../keras-words.js";

/** Whatever Keras wrote the configuration, TensorFlow.js computes as this version, in hardSigmoid for one. */
const KERAS_VERSION = "2.15.0";

/** Names of weights that some version of Keras has another word for. */
const OTHER_WORDS: Readonly<Record<string, readonly string[]>> = {
  DepthwiseConv2D: ["depthwise_kernel"],
};

/** The network of a topology: of Keras's file, or its model alone. */
export function readTopology(topology: unknown, path: string, remarks: Remarks): ModelConfig {
  const { model_config: within } = Object(topology) as { model_config?: unknown };
  const model = within ?? topology;
  const translation = fromKerasModel(model, path, remarks, KERAS_VERSION);
  const config = checkedModelConfig(translation.config, `${path}: its model`);
  checkPlaces(translation, storedShape(config, path), path);
  return config;
}

/**
 * Weights under the names that they have in the model. The names in the file may have a scope more: before the layer's
 * name, or behind it.
 * @throws DataError listing what is missing, misshapen and left over
 */
export function placeByName(
  layers: readonly PlacedLayer[],
  stored: ReadonlyMap<string, StoredTensor>,
  path: string,
): Map<string, StoredTensor> {
  const placed = new Map<string, StoredTensor>();
  const left = new Map(stored);
  const faults: string[] = [];
  const take = (layer: PlacedLayer, words: readonly string[]): StoredTensor | undefined => {
    const found = nameOfWeight(layer, words, left);
    const tensor = found === undefined ? undefined : left.get(found);
    if (found !== undefined) left.delete(found);
    return tensor;
  };
  for (const layer of layers) {
    const { className } = layer.layer;
    const { weights: names = {}, besides = {} } = layerClassOf(className)?.keras ?? {};
    for (const { name, shape } of layer.weights) {
      const theirs = names[name] ?? name;
      const words = name === "kernel" ? [theirs, ...(OTHER_WORDS[className] ?? [])] : [theirs];
      const tensor = take(layer, words);
      if (tensor === undefined) faults.push(`"${layer.name}/${theirs}" ${formatShape(shape)} is missing`);
      else if (tensor.dtype !== "F32") faults.push(`"${layer.name}/${theirs}" must be float32, is ${tensor.dtype}`);
      else if (!sameShape(tensor.shape, shape)) {
        faults.push(`"${layer.name}/${theirs}" should be ${formatShape(shape)}, is ${formatShape(tensor.shape)}`);
      }
      if (tensor !== undefined) placed.set(`${layer.name}/${name}`, tensor);
    }
    for (const theirs of Object.keys(besides)) take(layer, [theirs]);
  }
  for (const name of left.keys()) faults.push(`"${name}" belongs to no layer`);
  if (faults.length === 0) return placed;
  const more = faults.length > 20 ? `, and ${faults.length - 20} more` : "";
  throw new DataError(`${path}: its weights do not fit its layers: ${faults.slice(0, 20).join(", ")}${more}`);
}

function nameOfWeight(
  { name: layer }: PlacedLayer,
  words: readonly string[],
  left: ReadonlyMap<string, StoredTensor>,
): string | undefined {
  // Layers of a model within the model are "model/layer" here, "layer" there.
  const owners = [layer, layer.split("/").at(-1)!];
  for (const owner of owners) {
    for (const word of words) {
      const name = `${owner}/${word}`;
      if (left.has(name)) return name;
      const scoped = [...left.keys()].filter((each) => {
        const bare = each.replace(/:0$/, "");
        return bare === name || bare.endsWith(`/${name}`) || bare.replace(/\/[^/]+(?=\/[^/]+$)/, "") === name;
      });
      if (scoped.length === 1) return scoped[0];
    }
  }
  return undefined;
}

/** What TensorFlow.js 4 has, of the layers that Keras has words for here. */
const KNOWN_LAYERS = new Set(
  [
    "Dense Conv1D Conv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose Embedding MultiHeadAttention",
    "MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D",
    "GlobalAveragePooling1D GlobalAveragePooling2D ZeroPadding2D Cropping2D UpSampling2D Rescaling",
    "BatchNormalization LayerNormalization Add Multiply Average Maximum Minimum Concatenate Dot",
    "Dropout SpatialDropout1D GaussianNoise GaussianDropout AlphaDropout",
    "Flatten Reshape Permute RepeatVector Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax InputLayer",
  ].flatMap((line) => line.split(" ")),
);
const KNOWN_ACTIVATIONS = new Set(
  "linear relu relu6 elu selu sigmoid hard_sigmoid softplus softsign tanh softmax swish mish gelu".split(" "),
);

/** A topology, and weights in the order of the layers. @throws UsageError for what TensorFlow.js lacks */
export async function writeTopology(model: Model) {
  const topology = toKerasConfig(model.config());
  const config = topology.config as { layers: readonly KerasObject[] };
  const layers = config.layers.map(inTheirWords);
  const weights: { name: string; shape: readonly number[]; data: Float32Array }[] = [];
  for (const layer of model.layers) {
    const { weights: names = {} } = layerClassOf(layer.placed.layer.className)?.keras ?? {};
    for (const [name, tensor] of Object.entries(layer.weights)) {
      const word = OTHER_WORDS[layer.placed.layer.className]?.[0];
      const theirs = name === "kernel" && word !== undefined ? word : (names[name] ?? name);
      const data = Float32Array.from(await tensor.data());
      weights.push({ name: `${layer.name}/${theirs}`, shape: tensor.shape, data });
    }
  }
  return { topology: { ...topology, config: { ...config, layers } }, weights };
}

function inTheirWords(layer: KerasObject): KerasObject {
  const { class_name: className, config } = layer;
  const where = `tfjs: layer "${config["name"]}" (${className})`;
  const instead = 'save it in another format, such as "safetensors" or "onnx"';
  if (!KNOWN_LAYERS.has(className)) throw new UsageError(`${where}: TensorFlow.js has no such layer; ${instead}`);
  const activation = config["activation"] === "silu" ? "swish" : config["activation"];
  if (activation !== undefined && !KNOWN_ACTIVATIONS.has(String(activation))) {
    throw new UsageError(`${where}: TensorFlow.js has no activation ${activation}; ${instead}`);
  }
  if (activation === "hard_sigmoid") {
    throw new UsageError(`${where}: TensorFlow.js's hard_sigmoid is 0.2 x + 0.5, not x / 6 + 0.5 as here; ${instead}`);
  }
  if (className === "ReLU" && (config["negative_slope"] !== 0 || config["threshold"] !== 0)) {
    throw new UsageError(`${where}: TensorFlow.js passes over negative_slope and threshold; ${instead}`);
  }
  if (className === "UpSampling2D" && config["interpolation"] === "bilinear") {
    throw new UsageError(
      `${where}: TensorFlow.js interpolates from the pixels' corners, not their centres; ${instead}`,
    );
  }
  return activation === config["activation"] ? layer : { ...layer, config: { ...config, activation } as Json };
}
