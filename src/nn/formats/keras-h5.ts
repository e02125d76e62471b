// Models as `.h5` files in Keras's legacy layout (io/keras-h5.ts), which every version of Keras reads, and weights of
// the newer layout. Configurations are translated by keras.ts.

import { object, optional } from "valibot";
import { anyObject, parse, recordOf, ruled, text } from "../../io/json.js";
import {
  encodeKerasH5,
  type KerasH5,
  type KerasLayerWeights,
  type KerasWeight,
  type KerasWeights,
  readKerasH5,
  readKerasWeights,
  writeKerasH5,
} from "../../io/keras-h5.js";
import type { StoredTensor } from "../../io/safetensors.js";
import { type FileSource, nameOf } from "../../io/source.js";
import { UsageError } from "../../tensor/errors.js";
import { number } from "../../tensor/options.js";
import type { KerasExtras, KerasTraining } from "../keras-models.js";
import { layerClassOf } from "../layers/registry.js";
import type { BoundLayer, Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import type { OptimizerConfig } from "../optimizers.js";
import { checkedModelConfig, storedShape } from "../stored-config.js";
import type { FormatCode, ModelContent } from "./format.js";
import { checkPlaces, fromKerasModel, toKerasModel } from "./keras.js";
import { Remarks } from "./keras-remarks.js";
import {
  classesOfPlaces,
  findsPlaces,
  holdsModels,
  treeOfLayers,
  untold,
  weightsOfGroups,
  weightsOfPlaces,
} from "./keras-weights.js";
import type { Json, KerasObject } from "./keras-words.js";

/**
 * Keras 3 drops a list of several axes when it reads `.h5`, and takes the last; Keras 2 has their weights in another
 * order. @throws UsageError naming the layer
 */
function requireOneAxis({ config }: KerasObject): void {
  for (const { class_name: className, config: given } of config["layers"] as readonly KerasObject[]) {
    const axis = given["axis"];
    if (!Array.isArray(axis) || axis.length <= 1) continue;
    throw new UsageError(
      `keras-h5: layer "${given["name"]}" (${className}): Keras does not read the axes ${axis.join(", ")} from .h5, and would compute something else; save it as "keras"`,
    );
  }
}

/** What a file of a model holds. @throws UsageError naming the layer that Keras has no words for, or does not read */
async function contentOf(model: Model, { training, notes = {} }: KerasExtras) {
  const { config, names } = toKerasModel(model.config());
  requireOneAxis(config);
  const theirs = new Map([...names].map(([written, name]) => [name, written]));
  const layers: KerasLayerWeights[] = [];
  for (const layer of model.layers) {
    const name = theirs.get(layer.name) ?? layer.name;
    layers.push({ name, weights: await kerasWeightsOf(layer, name) });
  }
  return {
    modelConfig: config,
    ...(training && { trainingConfig: trainingConfig(training) }),
    kilograd: kilogradWordsOf(model, notes, names),
    layers,
  };
}

/** What a file says to Kilograd alone. */
export const kilogradWordsOf = (model: Model, notes: Json, names: ReadonlyMap<string, string>): Json => ({
  ...{ seed: model.seed, notes },
  ...(names.size > 0 && { names: Object.fromEntries(names) }),
});

/** A layer's weights as Keras has them, with the name of the layer there. */
export async function kerasWeightsOf(layer: BoundLayer, owner: string): Promise<KerasWeight[]> {
  const weights: KerasWeight[] = [];
  const { weights: names = {}, besides = {} } = layerClassOf(layer.placed.layer.className)?.keras ?? {};
  for (const [name, tensor] of Object.entries(layer.weights)) {
    const data = Float32Array.from(await tensor.data());
    weights.push({ name: `${owner}/${names[name] ?? name}:0`, dtype: "F32", shape: tensor.shape, data });
  }
  for (const [name, value] of weights.length === 0 ? [] : Object.entries(besides)) {
    weights.push({ name: `${owner}/${name}:0`, dtype: "F32", shape: [], data: Float32Array.of(value) });
  }
  return weights;
}

/** Writes a model as `.h5`, whole or not at all. @throws UsageError, KilogradError `FILE_WRITE` */
export async function writeKerasModel(path: string, model: Model, extras: KerasExtras): Promise<void> {
  await writeKerasH5(path, await contentOf(model, extras));
}

/** What {@link writeKerasModel} writes, as bytes. */
export async function kerasModelBytes(model: Model, extras: KerasExtras): Promise<Uint8Array> {
  return encodeKerasH5(await contentOf(model, extras));
}

/**
 * Reads an `.h5` file as a model file; `loadModel` does so by itself. Layers and weights are matched in their order, as
 * Keras does.
 * @throws DataError for a file that is missing, no HDF5, damaged, no sequential Keras model, or of layers that are
 * unknown
 */
export async function readKerasModel(source: FileSource): Promise<ModelFile> {
  return fromKerasH5(await readKerasH5(source), nameOf(source));
}

/** What a file holds as a model file. @throws DataError as {@link readKerasModel} */
export function fromKerasH5(content: KerasH5, path: string): ModelFile {
  const { modelConfig, kilograd, layers: groups, backend, version } = content;
  const { translation, layers, file } = translated(modelConfig, kilograd, version, path);
  return { ...file, weights: weightsOfGroups(translation.tree, layers, groups, { path, backend, own: true }) };
}

/** A model of Keras's words without its weights. */
export function translated(modelConfig: unknown, kilograd: unknown, version: string | undefined, path: string) {
  const own = parse(kilogradWords, kilograd ?? {}, `${path}: its kilograd`);
  const remarks = new Remarks(path);
  // Files that lack their version are of Keras 1, but for Kilograd's own.
  const wrote = kilograd === undefined ? (version ?? "1.0") : undefined;
  const translation = fromKerasModel(modelConfig, path, remarks, wrote, new Map(Object.entries(own.names)));
  const config = checkedModelConfig(translation.config, `${path}: its model`);
  const shape = storedShape(config, path);
  checkPlaces(translation, shape, path);
  const file = {
    ...{ path, config, seed: own.seed, notes: own.notes, remarks: remarks.sentences(), training: undefined },
    ...{ slots: new Map<string, StoredTensor>(), callbackTensors: new Map<string, StoredTensor>() },
  };
  return { translation, layers: shape.layers, file };
}

const kilogradWords = object(
  {
    seed: optional(ruled<number>(number()), 0),
    notes: optional(anyObject, {}),
    names: optional(recordOf(text), {}),
  },
  "an object",
);

/**
 * The weights of an `.h5` file, under the names that they have in a model. The file is of a whole model or of weights
 * alone, in the layouts of Keras 1, 2 and 3.
 * @throws DataError for a file that cannot be read, or whose layers are not as many as the model's
 */
export async function readKerasWeightsFor(model: Model, source: FileSource): Promise<Map<string, StoredTensor>> {
  return weightsFor(model, await readKerasWeights(source), nameOf(source));
}

/** Weights of a file, under the names that they have in a model. @throws DataError as {@link readKerasWeightsFor} */
export function weightsFor(model: Model, found: KerasWeights, path: string): Map<string, StoredTensor> {
  const layers = model.layers.map(({ placed }) => placed);
  if (found.kind === "layers") {
    const { backend } = found;
    const count = found.layers.filter(({ weights }) => weights.length > 0).length;
    const nested = layers.filter(({ weights }) => weights.length > 0).length !== count;
    return weightsOfGroups(treeOfLayers(layers, nested), layers, found.layers, { path, backend, own: false });
  }
  const { root } = found;
  const where = { path, own: false };
  if (!holdsModels(root)) return weightsOfPlaces(treeOfLayers(layers, false), layers, root, where);
  const tree = treeOfLayers(layers, true);
  if (findsPlaces(tree, root, model)) return weightsOfPlaces(classesOfPlaces(tree, root), layers, root, where);
  throw untold(path);
}

/** As Keras writes it when a model was compiled; the key loss_weights must be there. */
export function trainingConfig({ optimizer, loss, metrics = ["accuracy"] }: KerasTraining): Json {
  return {
    loss,
    metrics,
    weighted_metrics: null,
    loss_weights: null,
    sample_weight_mode: null,
    optimizer_config: toKerasOptimizer(optimizer),
  };
}

function toKerasOptimizer({ name, schedule, ...given }: OptimizerConfig): KerasObject {
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

export const kerasH5Format: FormatCode = {
  read: readKerasModel,
  readWeights: readKerasWeightsFor,
  async write(path, model, content) {
    await writeKerasModel(path, model, plainContent("saveModel", "keras-h5", content));
  },
  async encode(model, content) {
    return kerasModelBytes(model, plainContent("encodeModel", "keras-h5", content));
  },
};

/** @throws UsageError for a training, which Keras's files have no place for as Kilograd resumes it */
export function plainContent(owner: string, format: string, given: ModelContent): Pick<ModelContent, "notes"> {
  const { training, slots, callbackTensors, notes } = given;
  if (training === undefined && slots.length + callbackTensors.length === 0) return { notes };
  throw new UsageError(`${owner}: format "${format}" has no place for a training; save it as "safetensors"`);
}
