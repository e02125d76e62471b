// Keras's legacy HDF5 layout, written and read through h5wasm: the configuration as JSON in attributes of the root, one group
// per layer below /model_weights with the names of its weights. Knows nothing of layers or models; see nn/keras.ts.
//
//   /                        attributes model_config, training_config (optional), keras_version, backend: JSON and text
//   /model_weights           attributes layer_names [layers], backend, keras_version
//   /model_weights/LAYER     attribute weight_names [k]: paths of the data sets relative to this group, in Keras's order

import { open, readFile } from "node:fs/promises";
import type * as H5 from "h5wasm";
import { DataError, UsageError } from "../tensor/errors.js";
import { writeFileAtomic } from "./files.js";
import type { StoredTensor } from "./safetensors.js";

/** A layer's group. */
export interface KerasLayerWeights {
  readonly name: string;
  /** In Keras's order; a name such as "conv2d/kernel:0" is a path. */
  readonly weights: readonly (StoredTensor & { readonly name: string })[];
}

/** What a file of the layout holds. */
export interface KerasH5 {
  readonly modelConfig: unknown;
  readonly trainingConfig?: unknown;
  /** Kilograd's own words, in an attribute that Keras passes over. */
  readonly kilograd?: unknown;
  /** All layers in order, those without weights, too. */
  readonly layers: readonly KerasLayerWeights[];
}

/** The version whose layout is written: names with ":0", as tf.keras wrote them and every later version reads. */
const KERAS_VERSION = "2.15.0";
const SIGNATURE = Uint8Array.of(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a);

const isHdf5 = (bytes: Uint8Array): boolean => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** Whether a file begins as HDF5 files do; false, too, for one that cannot be read. */
export async function isHdf5File(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return false;
  try {
    const start = new Uint8Array(SIGNATURE.length);
    await file.read(start);
    return isHdf5(start);
  } catch {
    return false; // A folder, say; whoever reads it says so.
  } finally {
    await file.close();
  }
}

/**
 * Writes a file of the layout, whole or not at all: it is built in memory first.
 * @throws UsageError for tensors that are not f32, KilogradError `FILE_WRITE`; an existing file is then as it was
 */
export async function writeKerasH5(path: string, content: KerasH5): Promise<void> {
  const h5 = await library();
  await writeFileAtomic(
    path,
    h5.inMemory((name) => {
      const file = new h5.File(name, "w");
      try {
        writeContent(file, content);
      } finally {
        file.close();
      }
      return h5.files.readFile(name);
    }),
  );
}

function writeContent(file: H5.File, { modelConfig, trainingConfig, kilograd, layers }: KerasH5): void {
  const weights = file.create_group("model_weights");
  for (const group of [file, weights]) {
    group.create_attribute("keras_version", KERAS_VERSION);
    group.create_attribute("backend", "tensorflow");
  }
  const json = { model_config: modelConfig, training_config: trainingConfig, kilograd };
  for (const [name, value] of Object.entries(json)) {
    if (value !== undefined) file.create_attribute(name, JSON.stringify(value));
  }
  writeNames(
    weights,
    "layer_names",
    layers.map((layer) => layer.name),
  );
  for (const layer of layers) {
    const group = weights.create_group(layer.name);
    writeNames(
      group,
      "weight_names",
      layer.weights.map((weight) => weight.name),
    );
    for (const { name, dtype, shape, data } of layer.weights) {
      if (dtype !== "F32") throw new UsageError(`keras h5: "${name}" must be float32, is ${dtype}`);
      const folders = name.split("/").slice(0, -1);
      let parent: H5.Group = group;
      for (const folder of folders) {
        const existing = parent.keys().includes(folder) ? (parent.get(folder) as H5.Group) : undefined;
        parent = existing ?? parent.create_group(folder);
      }
      parent.create_dataset({ name: name.split("/").at(-1)!, data, shape: [...shape], dtype: "<f" });
    }
  }
}

/** Fixed-length texts, as h5py wrote them for Keras; an empty list is an empty attribute of numbers, as there. */
function writeNames(group: H5.Group, attribute: string, names: readonly string[]): void {
  const longest = Math.max(...names.map((name) => new TextEncoder().encode(name).length));
  if (names.length === 0) group.create_attribute(attribute, new Float64Array(0), [0]);
  else group.create_attribute(attribute, [...names], [names.length], `S${longest}`);
}

/**
 * Reads a file of the layout.
 * @throws DataError for a file that is missing, no HDF5, cut off, damaged, or HDF5 without a Keras model
 */
export async function readKerasH5(path: string): Promise<KerasH5> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new DataError(`cannot read ${path}: ${error.message}`, { cause: error });
  });
  if (!isHdf5(bytes)) {
    throw new DataError(
      `${path}: is not HDF5, as Keras writes .h5: it must begin with 89 48 44 46, its ${bytes.length} bytes do not`,
    );
  }
  const h5 = await library();
  return h5.inMemory((name) => {
    h5.files.writeFile(name, bytes);
    let file: H5.File | undefined;
    try {
      file = new h5.File(name, "r");
      return readContent(file, path);
    } catch (error) {
      if (error instanceof DataError) throw error;
      throw new DataError(`${path}: is HDF5, but cut off or damaged (${bytes.length} bytes): ${reason(error)}`, {
        cause: error,
      });
    } finally {
      file?.close();
    }
  });
}

function readContent(file: H5.File, path: string): KerasH5 {
  const json = (name: string): unknown => {
    const value = file.attrs[name]?.value;
    if (value === undefined) return undefined;
    try {
      return JSON.parse(String(value));
    } catch (cause) {
      throw new DataError(`${path}: its ${name} is no JSON: ${(cause as Error).message}`, { cause });
    }
  };
  const modelConfig = json("model_config");
  if (modelConfig === undefined) {
    const other = file.keys().includes("layer_names") || "layer_names" in file.attrs || file.keys().includes("layers");
    throw new DataError(
      `${path}: is HDF5, but no Keras model: the root must have the attribute model_config` +
        (other ? "; it holds weights alone: save the whole model, model.save(...)" : ""),
    );
  }
  if (!file.keys().includes("model_weights")) {
    throw new DataError(`${path}: must have the group model_weights, has ${file.keys().join(", ") || "none"}`);
  }
  const weights = file.get("model_weights") as H5.Group;
  const layers = readNames(weights, "layer_names").map((name): KerasLayerWeights => {
    const group = member(weights, name, path);
    return { name, weights: readNames(group, "weight_names").map((weight) => readWeight(group, weight, path)) };
  });
  const trainingConfig = json("training_config");
  const kilograd = json("kilograd");
  return {
    modelConfig,
    layers,
    ...(trainingConfig !== undefined && { trainingConfig }),
    ...(kilograd !== undefined && { kilograd }),
  };
}

/** A list of names, which Keras splits into NAME0, NAME1, ... where it is long; absent means none. */
function readNames(group: H5.Group, attribute: string): string[] {
  const attributes = group.attrs;
  if (attribute in attributes) return textsOf(attributes[attribute]!.value);
  const names: string[] = [];
  for (let part = 0; `${attribute}${part}` in attributes; part++) {
    names.push(...textsOf(attributes[`${attribute}${part}`]!.value));
  }
  return names;
}

const textsOf = (value: unknown): string[] =>
  Array.isArray(value) ? value.map(String) : typeof value === "string" ? [value] : [];

/** What a path of a group leads to. */
function member(group: H5.Group, path: string, file: string): H5.Group {
  let at = group;
  for (const name of path.split("/")) {
    if (typeof at.keys !== "function" || !at.keys().includes(name)) {
      throw new DataError(`${file}: ${group.path} names "${path}", but does not have it`);
    }
    at = at.get(name) as H5.Group;
  }
  return at;
}

function readWeight(group: H5.Group, name: string, path: string): StoredTensor & { readonly name: string } {
  const dataset = member(group, name, path) as unknown as H5.Dataset;
  const { value, shape, dtype } = dataset;
  if (shape && value instanceof Float32Array)
    return { name, dtype: "F32", shape, data: value as Float32Array<ArrayBuffer> };
  if (shape && value instanceof Float64Array)
    return { name, dtype: "F64", shape, data: value as Float64Array<ArrayBuffer> };
  throw new DataError(`${path}: "${name}" must be an array of float32, is of type ${JSON.stringify(dtype)}`);
}

/** The innermost message of an HDF5 error stack: "  #006: FILE line 577 in FUNCTION(): MESSAGE". */
function reason(error: unknown): string {
  const messages = [...String((error as Error).message).matchAll(/in \w+\(\): (.*)/g)];
  return messages.at(-1)?.[1] ?? String((error as Error).message);
}

let loading: ReturnType<typeof load> | undefined;

/** h5wasm is loaded when first needed: 4 MB of WebAssembly. */
function library(): ReturnType<typeof load> {
  return (loading ??= load());
}

async function load() {
  const { default: h5wasm, FS } = await import("h5wasm");
  const module = await h5wasm.ready;
  module.activate_throwing_error_handler(); // Instead of printing to stderr and going on.
  const files = FS ?? (module as unknown as { FS: NonNullable<typeof FS> }).FS;
  let count = 0;
  return {
    File: h5wasm.File,
    files,
    /** Runs `use` with the name of a file in the library's own memory, which goes afterwards. */
    inMemory<T>(use: (name: string) => T): T {
      const name = `kilograd${count++}.h5`;
      try {
        return use(name);
      } finally {
        if (files.analyzePath(name, true).exists) files.unlink(name);
      }
    },
  };
}
