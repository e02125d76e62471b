// Models as `.h5` files in Keras's legacy layout (io/keras-h5.ts), which every version of Keras reads, and weights of
// the newer layout. Configurations are translated by keras.ts.

import { object, optional } from "valibot";
import { anyObject, parse, ruled } from "../../io/json.js";
import {
  encodeKerasH5,
  type KerasH5,
  type KerasLayerWeights,
  type KerasWeight,
  readKerasH5,
  readKerasWeights,
  writeKerasH5,
} from "../../io/keras-h5.js";
import type { StoredTensor } from "../../io/safetensors.js";
import { type FileSource, nameOf } from "../../io/source.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import { number } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import type { KerasExtras, KerasTraining } from "../keras-models.js";
import { layerClassOf } from "../layers/registry.js";
import type { Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import { type PlacedLayer, snakeCase } from "../model-shape.js";
import type { OptimizerConfig } from "../optimizers.js";
import { checkedModelConfig, storedShape } from "../stored-config.js";
import type { FormatCode, ModelContent } from "./format.js";
import { checkPlaces, fromKerasConfig, toKerasConfig } from "./keras.js";
import { type Json, type KerasObject, Remarks } from "./keras-words.js";

/** What a file of a model holds. @throws UsageError naming the layer that Keras has no words for */
async function contentOf(model: Model, { training, notes = {} }: KerasExtras) {
  const layers: KerasLayerWeights[] = [];
  for (const layer of model.layers) {
    const weights: KerasLayerWeights["weights"][number][] = [];
    const { weights: names = {}, besides = {} } = layerClassOf(layer.placed.layer.className)?.keras ?? {};
    for (const [name, tensor] of Object.entries(layer.weights)) {
      const data = Float32Array.from(await tensor.data());
      weights.push({ name: `${layer.name}/${names[name] ?? name}:0`, dtype: "F32", shape: tensor.shape, data });
    }
    for (const [name, value] of weights.length === 0 ? [] : Object.entries(besides)) {
      weights.push({ name: `${layer.name}/${name}:0`, dtype: "F32", shape: [], data: Float32Array.of(value) });
    }
    layers.push({ name: layer.name, weights });
  }
  return {
    modelConfig: toKerasConfig(model.config()),
    ...(training && { trainingConfig: trainingConfig(training) }),
    kilograd: { seed: model.seed, notes },
    layers,
  };
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
  const own = parse(kilogradWords, kilograd ?? {}, `${path}: its kilograd`);
  const remarks = new Remarks(path);
  const config = checkedModelConfig(
    fromKerasConfig(modelConfig, path, remarks, kilograd === undefined ? version : undefined),
    `${path}: its model`,
  );
  const { layers } = storedShape(config, path);
  checkPlaces(modelConfig, layers, path);
  return {
    path,
    config,
    seed: own.seed,
    weights: placedInOrder(layers, groups, { path, backend, own: true }),
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
 * The weights of an `.h5` file, under the names that they have in a model. The file is of a whole model or of weights
 * alone, in the layouts of Keras 1, 2 and 3.
 * @throws DataError for a file that cannot be read, or whose layers are not as many as the model's
 */
export async function readKerasWeightsFor(model: Model, source: FileSource): Promise<Map<string, StoredTensor>> {
  const found = await readKerasWeights(source);
  const path = nameOf(source);
  const layers = model.layers.map(({ placed }) => placed);
  if (found.kind === "layers") return placedInOrder(layers, found.layers, { path, backend: found.backend, own: false });
  const weights = new Map<string, StoredTensor>();
  const unclaimed = new Map(found.places);
  const counts = new Map<string, number>();
  for (const placed of layers) {
    const { layer } = placed;
    const { keras } = layerClassOf(layer.className) ?? {};
    // Of a class that a user registered the name without the package.
    const base = snakeCase((keras?.className ?? layer.className).split(">").at(-1)!);
    const count = counts.get(base) ?? 0;
    counts.set(base, count + 1);
    const place = count === 0 ? base : `${base}_${count}`;
    const stored = unclaimed.get(place);
    unclaimed.delete(place);
    const parts = keras?.parts ?? [];
    const found = [...(stored?.weights ?? []), ...parts.flatMap((part) => stored?.parts.get(part) ?? [])];
    addWeights(weights, placed, found, path);
  }
  const extra = [...unclaimed].find(([, stored]) => stored.weights.length > 0);
  if (extra !== undefined) throw new DataError(`${path}: has weights of ${extra[0]}, which the model does not have`);
  return weights;
}

/** Gives layers with weights the groups with weights, one after the other. */
function placedInOrder(
  layers: readonly PlacedLayer[],
  groups: readonly KerasLayerWeights[],
  { path, backend, own }: { readonly path: string; readonly backend: string | undefined; readonly own: boolean },
): Map<string, StoredTensor> {
  const weighted = layers.filter(({ weights }) => weights.length > 0);
  const stored = groups.filter(({ weights }) => weights.length > 0);
  if (weighted.length !== stored.length) {
    throw new DataError(
      `${path}: the model has ${weighted.length} layers with weights, the file weights of ${stored.length}`,
    );
  }
  // A file's own layers have its names, and branches may stand in another order.
  const byName = new Map(stored.map((group) => [group.name, group]));
  const named = own && weighted.every(({ name }) => byName.has(name));
  const weights = new Map<string, StoredTensor>();
  for (const [i, placed] of weighted.entries()) {
    const { name, layer } = placed;
    const found = (named ? byName.get(name)! : stored[i]!).weights;
    // Theano's convolution turns the kernel around.
    const turned = backend === "theano" && layerClassOf(layer.className)?.keras?.turnedByTheano === true;
    addWeights(weights, placed, turned ? found.map(turnedKernel) : found, path);
  }
  return weights;
}

function addWeights(
  to: Map<string, StoredTensor>,
  { name: owner, layer, weights: specs }: PlacedLayer,
  found: readonly KerasWeight[],
  path: string,
): void {
  const besides = Object.keys(layerClassOf(layer.className)?.keras?.besides ?? {}).length;
  if (found.length !== specs.length && !(specs.length > 0 && found.length === specs.length + besides)) {
    throw new DataError(
      `${path}: layer "${owner}" must have ${specs.length} weights (${specs.map((spec) => spec.name).join(", ")}), ` +
        `has ${found.length} (${found.map((weight) => `${weight.name} ${formatShape(weight.shape)}`).join(", ")})`,
    );
  }
  for (const [j, { name }] of specs.entries()) {
    const { name: theirs, ...tensor } = found[j]!;
    if (tensor.dtype === "I32") {
      throw new DataError(`${path}: "${theirs}" must be an array of float16, float32 or float64, is of integers`);
    }
    to.set(`${owner}/${name}`, tensor);
  }
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

/** As Keras writes it when a model was compiled; the key loss_weights must be there. */
function trainingConfig({ optimizer, loss, metrics = ["accuracy"] }: KerasTraining): Json {
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
    await writeKerasModel(path, model, plainContent("saveModel", content));
  },
  async encode(model, content) {
    return kerasModelBytes(model, plainContent("encodeModel", content));
  },
};

/** @throws UsageError for a training, which Keras's files have no place for as Kilograd resumes it */
function plainContent(owner: string, { training, slots, callbackTensors, notes }: ModelContent) {
  if (training === undefined && slots.length + callbackTensors.length === 0) return { notes };
  throw new UsageError(`${owner}: format "keras-h5" has no place for a training; save it as "safetensors"`);
}
