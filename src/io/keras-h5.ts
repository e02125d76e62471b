// Keras's HDF5 layouts (h5-files.ts reads and writes the files). The configuration is JSON in attributes of the root.
// Below /model_weights is one group per layer with the names of its weights. Knows nothing of layers or models; see
// nn/formats/keras.ts.
//
//   /                        attributes model_config, training_config (optional), keras_version, backend: JSON and text
//   /model_weights           attributes layer_names [layers], backend, keras_version
//   /model_weights/LAYER     attribute weight_names [k]: paths of its data sets from here on, in Keras's order
//
// A file of weights alone has what is below /model_weights at the root; that of Keras 3 (NAME.weights.h5) is laid out
// in another way:
//
//   /layers/CLASS[_n]/vars/i CLASS in snake case, n counts a class's layers from the second on, i a layer's weights
//   /layers/CLASS[_n]/PART/vars/i   weights of a layer within the layer
import { DataError, UsageError } from "../tensor/errors.js";
import { encodeH5, type H5Array, type H5Group, readH5, writeH5 } from "./h5-files.js";
import { parsePythonJson } from "./json.js";
import { jsonText } from "./json-text.js";
import { halfToNumber, type StoredTensor } from "./safetensors.js";
import { type FileSource, nameOf } from "./source.js";

/** A layer's group. */
export interface KerasLayerWeights {
  readonly name: string;
  /** In Keras's order; a name such as "conv2d/kernel:0" is a path. */
  readonly weights: readonly KerasWeight[];
}

export type KerasWeight = StoredTensor & { readonly name: string };

/** What a file of a model holds. */
export interface KerasH5 {
  readonly modelConfig: unknown;
  /** Absent, too, where it is no JSON: nothing here needs it. */
  readonly trainingConfig?: unknown;
  /** Kilograd's own words, in an attribute that Keras passes over. */
  readonly kilograd?: unknown;
  /** All layers in order, those without weights, too. */
  readonly layers: readonly KerasLayerWeights[];
  /** What Keras computed with. */
  readonly backend?: string;
  /** Keras's version. */
  readonly version?: string;
}

/**
 * The weights of a file: by layers in their order, or, as Keras 3 writes them, by class and number ("conv2d_1").
 */
export type KerasWeights =
  | { readonly kind: "layers"; readonly layers: readonly KerasLayerWeights[]; readonly backend?: string | undefined }
  | { readonly kind: "places"; readonly root: KerasPlace };

/** A group of the newer layout. */
export interface KerasPlace {
  /** Of the layer that it belongs to; only later versions write it. */
  readonly name?: string;
  /** In order. */
  readonly weights: readonly KerasWeight[];
  /** Groups within it: "layers" of a model, and by their names layers within a layer. */
  readonly parts: ReadonlyMap<string, KerasPlace>;
}

/** The version whose layout is written: names with ":0", as tf.keras wrote them and every later version reads. */
const KERAS_VERSION = "2.15.0";
/** Groups of the root that nobody needs here. */
const SKIPPED = ["optimizer_weights", "optimizer"];

/**
 * Writes a file of a model, whole or not at all: it is built in memory first.
 * @throws UsageError as {@link encodeKerasH5}, KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeKerasH5(path: string, content: Omit<KerasH5, "backend" | "version">): Promise<void> {
  await writeH5(path, treeOf(content));
}

/**
 * The bytes of a file of a model. @throws UsageError for tensors that are not f32 and names that HDF5 has no place for
 */
export async function encodeKerasH5(content: Omit<KerasH5, "backend" | "version">): Promise<Uint8Array> {
  return encodeH5(treeOf(content), "encodeKerasModel");
}

function treeOf(content: Omit<KerasH5, "backend" | "version">): H5Group {
  const { modelConfig, trainingConfig, kilograd, layers } = content;
  const root = emptyGroup();
  const weights = childOf(root, "model_weights");
  for (const { attributes } of [root, weights]) {
    Object.assign(attributes, { keras_version: KERAS_VERSION, backend: "tensorflow" });
  }
  const json = { model_config: modelConfig, training_config: trainingConfig, kilograd };
  for (const [name, value] of Object.entries(json)) {
    if (value !== undefined) root.attributes[name] = jsonText("saveKerasModel", value);
  }
  weights.attributes["layer_names"] = layers.map((layer) => layer.name);
  for (const layer of layers) {
    const group = childOf(weights, layer.name);
    group.attributes["weight_names"] = layer.weights.map((weight) => weight.name);
    for (const weight of layer.weights) {
      const { name } = weight;
      const parent = childOf(group, name.split("/").slice(0, -1).join("/"));
      const own = name.split("/").at(-1)!;
      if (Object.hasOwn(parent.groups, own) || Object.hasOwn(parent.arrays, own)) throw taken(name);
      parent.arrays[own] = arrayOf(weight);
    }
  }
  return root;
}

function arrayOf({ name, dtype, shape, data }: KerasWeight): H5Array {
  if (dtype !== "F32") throw new UsageError(`keras h5: "${name}" must be float32, is ${dtype}`);
  return { kind: "float", bits: 32, shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

const emptyGroup = (): H5Group => ({ attributes: {}, groups: {}, arrays: {} });
const taken = (name: string) => new UsageError(`keras h5: "${name}" is the name of two things; rename a layer`);

/** The group at a path, made where it is missing: slashes in names make groups within groups, as h5py has it. */
function childOf(group: H5Group, path: string): H5Group {
  let at = group;
  for (const part of path === "" ? [] : path.split("/")) {
    if (part === "" || part === "." || part === "__proto__") {
      throw new UsageError(`keras h5: ${JSON.stringify(path)} cannot be the name of a group; rename the layer`);
    }
    if (Object.hasOwn(at.arrays, part)) throw taken(path);
    if (!Object.hasOwn(at.groups, part)) at.groups[part] = emptyGroup();
    at = at.groups[part]!;
  }
  return at;
}

/**
 * Reads a file of a model.
 * @throws DataError for a file that is missing, no HDF5, cut off, damaged, or HDF5 without a Keras model
 */
export async function readKerasH5(source: FileSource): Promise<KerasH5> {
  return modelIn(await readH5(source, { skip: SKIPPED }), nameOf(source));
}

/** The model in a file's tree. @throws DataError where there is none, or not as Keras has it */
export function modelIn(root: H5Group, path: string): KerasH5 {
  const modelConfig = jsonOf(root, "model_config", path);
  if (modelConfig === undefined) {
    const weightsOnly = weightsIn(root, path) !== undefined;
    throw new DataError(
      `${path}: is HDF5, but no Keras model: the root must have the attribute model_config` +
        (weightsOnly ? "; it holds weights alone: give them to a model with nn.loadWeights(model, path)" : ""),
    );
  }
  const { model_weights: group } = root.groups;
  if (group === undefined) {
    throw new DataError(
      `${path}: must have the group model_weights, has ${Object.keys(root.groups).join(", ") || "none"}`,
    );
  }
  const trainingConfig = optionalJson(root, "training_config");
  const kilograd = jsonOf(root, "kilograd", path);
  const backend = textOf(root, "backend");
  const version = textOf(root, "keras_version");
  return {
    modelConfig,
    layers: layersIn(group, path),
    ...(trainingConfig !== undefined && { trainingConfig }),
    ...(kilograd !== undefined && { kilograd }),
    ...(backend !== undefined && { backend }),
    ...(version !== undefined && { version }),
  };
}

/**
 * Reads the weights of a file, of a model or alone.
 * @throws DataError for a file that is missing, no HDF5, cut off, damaged, or HDF5 in another layout
 */
export async function readKerasWeights(source: FileSource): Promise<KerasWeights> {
  return weightsOf(await readH5(source, { skip: SKIPPED }), nameOf(source));
}

/** The weights in a file's tree. @throws DataError where there are none, or not as Keras has them */
export function weightsOf(root: H5Group, path: string): KerasWeights {
  const found = weightsIn(root, path);
  if (found !== undefined) return found;
  throw new DataError(
    `${path}: is HDF5, but holds no weights as Keras writes them: the root must have the attribute layer_names, or the ` +
      `group model_weights or layers; it has ${Object.keys(root.groups).join(", ") || "no groups"}`,
  );
}

function weightsIn(root: H5Group, path: string): KerasWeights | undefined {
  const legacy = root.groups["model_weights"] ?? (namesIn(root, "layer_names") === undefined ? undefined : root);
  if (legacy !== undefined) {
    return { kind: "layers", layers: layersIn(legacy, path), backend: textOf(root, "backend") };
  }
  // tf.keras 2.12 and 2.13 had another name for the group.
  if (!("layers" in root.groups || "_layer_checkpoint_dependencies" in root.groups)) return undefined;
  return { kind: "places", root: placeIn(root, "", path) };
}

/** A group of the newer layout. States of random generators are no weights. */
function placeIn({ groups }: H5Group, at: string, path: string): KerasPlace {
  const vars = Object.hasOwn(groups, "vars") ? groups["vars"]! : emptyGroup();
  const numbers = Object.keys(vars.arrays).sort((a, b) => Number(a) - Number(b));
  const parts = Object.entries(groups).filter(([part]) => part !== "vars" && part !== "seed_generator");
  const name = textOf(vars, "name");
  return {
    ...(name !== undefined && { name }),
    weights: numbers.map((number) => tensorOf(vars.arrays[number]!, `${at}vars/${number}`, path)),
    parts: new Map(parts.map(([part, group]) => [part, placeIn(group, `${at}${part}/`, path)])),
  };
}

/** The tree of a file of weights alone in the newer layout. */
export function treeOfPlaces({ name, weights, parts }: KerasPlace): H5Group {
  const group = emptyGroup();
  const vars = childOf(group, "vars");
  if (name !== undefined) vars.attributes["name"] = name;
  for (const [i, weight] of weights.entries()) vars.arrays[`${i}`] = arrayOf(weight);
  for (const [part, place] of parts) group.groups[part] = treeOfPlaces(place);
  return group;
}

function layersIn(weights: H5Group, path: string): KerasLayerWeights[] {
  return (namesIn(weights, "layer_names") ?? []).map((name): KerasLayerWeights => {
    const group = at(weights, name).group;
    if (group === undefined) throw new DataError(`${path}: names the layer "${name}", but does not have it`);
    const names = namesIn(group, "weight_names") ?? [];
    return {
      name,
      weights: names.map((weight) => {
        const { array } = at(group, weight);
        if (array !== undefined) return tensorOf(array, weight, path);
        throw new DataError(`${path}: layer "${name}" names "${weight}", but does not have it`);
      }),
    };
  });
}

/** A list of names, which Keras splits into NAME0, NAME1, ... where it is long. */
function namesIn({ attributes }: H5Group, attribute: string): string[] | undefined {
  const listOf = (name: string) =>
    Object.hasOwn(attributes, name) ? [attributes[name]!].flat().map((text) => text.replace(/\0+$/, "")) : undefined;
  const whole = listOf(attribute);
  if (whole !== undefined) return whole;
  const names: string[] = [];
  for (let part = 0; ; part++) {
    const some = listOf(`${attribute}${part}`);
    if (some === undefined) return part === 0 ? undefined : names;
    for (const name of some) names.push(name);
  }
}

/** What a path leads to. */
function at(
  group: H5Group,
  path: string,
): { readonly group?: H5Group | undefined; readonly array?: H5Array | undefined } {
  let from: H5Group | undefined = group;
  const parts = path.split("/");
  const last = parts.pop()!;
  for (const part of parts) from = from && Object.hasOwn(from.groups, part) ? from.groups[part] : undefined;
  const inGroup = <T>(members: Readonly<Record<string, T>> | undefined) =>
    members !== undefined && Object.hasOwn(members, last) ? members[last] : undefined;
  return { group: inGroup(from?.groups), array: inGroup(from?.arrays) };
}

function textOf({ attributes }: H5Group, name: string): string | undefined {
  const value = Object.hasOwn(attributes, name) ? attributes[name] : undefined;
  return typeof value === "string" ? value : undefined;
}

function jsonOf(root: H5Group, name: string, path: string): unknown {
  const value = textOf(root, name);
  try {
    return value === undefined ? undefined : parsePythonJson(value);
  } catch (cause) {
    throw new DataError(`${path}: its ${name} is no JSON: ${(cause as Error).message}`, { cause });
  }
}

function optionalJson(root: H5Group, name: string): unknown {
  try {
    return jsonOf(root, name, "");
  } catch {
    return undefined;
  }
}

/** Floats of 16, 32 and 64 bits, and signed integers of 32 and 64, such as counts. */
function tensorOf({ kind, bits, shape, bytes }: H5Array, name: string, path: string): KerasWeight {
  const elements = shape.reduce((product, size) => product * size, 1);
  const integers = kind === "int" && (bits === 32 || bits === 64);
  if (!integers && !(kind === "float" && (bits === 16 || bits === 32 || bits === 64))) {
    throw new DataError(
      `${path}: "${name}" must be an array of float16, float32 or float64, is of ${kind === "other" ? "another kind" : `${kind}${bits}`}`,
    );
  }
  if (bytes.byteLength * 8 !== elements * bits) {
    throw new DataError(
      `${path}: "${name}" of shape [${shape}] must have ${(elements * bits) / 8} bytes, has ${bytes.byteLength}`,
    );
  }
  const { buffer } = Uint8Array.from(bytes); // Aligned.
  if (integers) {
    const data = bits === 32 ? new Int32Array(buffer) : Int32Array.from(new BigInt64Array(buffer), Number);
    return { name, dtype: "I32", shape, data };
  }
  if (bits === 64) return { name, dtype: "F64", shape, data: new Float64Array(buffer) };
  const data = bits === 32 ? new Float32Array(buffer) : Float32Array.from(new Uint16Array(buffer), halfToNumber);
  return { name, dtype: "F32", shape, data };
}
