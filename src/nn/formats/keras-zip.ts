// Models as `.keras` files, Keras 3's own format, which tf.keras 2.12 and later have, too: a zip archive of
//
//   metadata.json     keras_version, date_saved; Kilograd's own words in `kilograd`, which Keras passes over
//   config.json       the model in Keras's words
//   model.weights.h5  weights by place (io/keras-h5.ts)
import { object, optional } from "valibot";
import { decodeH5, encodeH5 } from "../../io/h5-files.js";
import { anyObject, parse, parsePythonJson, text } from "../../io/json.js";
import { jsonText } from "../../io/json-text.js";
import { type KerasPlace, type KerasWeights, treeOfPlaces, weightsOf } from "../../io/keras-h5.js";
import { type FileSource, nameOf, readAll, writeAll } from "../../io/source.js";
import { encodeZip, type ZipEntry, zipData, zipEntries } from "../../io/zip.js";
import { DataError } from "../../tensor/errors.js";
import type { KerasExtras } from "../keras-models.js";
import { layerClassOf } from "../layers/registry.js";
import type { Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import { snakeCase } from "../model-shape.js";
import type { FormatCode } from "./format.js";
import { toKerasModel } from "./keras.js";
import { kerasWeightsOf, kilogradWordsOf, plainContent, trainingConfig, translated, weightsFor } from "./keras-h5.js";
import { weightsOfPlaces } from "./keras-weights.js";
import type { Json, KerasObject } from "./keras-words.js";

const [METADATA, CONFIG, WEIGHTS] = ["metadata.json", "config.json", "model.weights.h5"] as const;
/** The version whose layout is written. */
const KERAS_VERSION = "3.0.0";
/** Node reads no more in one piece. */
const MOST_FILE_BYTES = 2 ** 31 - 1;
/** Of a configuration: those of the largest networks have some. */
const MOST_JSON_BYTES = 2 ** 28;

const metadataWords = object({ keras_version: optional(text), kilograd: optional(anyObject) }, "an object");

/** An archive's parts. */
interface Archive {
  readonly path: string;
  json(name: string): Promise<unknown>;
  weights(): Promise<KerasWeights & { readonly kind: "places" }>;
}

async function open(source: FileSource): Promise<Archive> {
  const path = nameOf(source);
  const bytes = await readAll("loadModel", source, MOST_FILE_BYTES);
  const entries = zipEntries(bytes, path);
  const entryOf = (name: string): ZipEntry => {
    const entry = entries.get(name);
    if (entry !== undefined) return entry;
    throw new DataError(
      `${path}: must have "${name}", as Keras writes .keras files, has ${[...entries.keys()].slice(0, 8).join(", ") || "nothing"}`,
    );
  };
  return {
    path,
    async json(name) {
      const entry = entryOf(name);
      if (entry.size > MOST_JSON_BYTES) throw new DataError(`${path}: "${name}" announces ${entry.size} bytes`);
      const data = await zipData(bytes, entry, path);
      try {
        return parsePythonJson(new TextDecoder().decode(data));
      } catch (cause) {
        throw new DataError(`${path}: its ${name} is no JSON: ${(cause as Error).message}`, { cause });
      }
    },
    async weights() {
      if (entries.has("model.weights.npz")) {
        throw new DataError(`${path}: has its weights as .npz; save it with Keras's default, weights_format="h5"`);
      }
      const data = await zipData(bytes, entryOf(WEIGHTS), path);
      const tree = await decodeH5(data, `${path}: ${WEIGHTS}`, { skip: ["optimizer"] });
      const found = weightsOf(tree, `${path}: ${WEIGHTS}`);
      if (found.kind === "places") return found;
      throw new DataError(`${path}: ${WEIGHTS} has the layout of .h5 files, not that of .keras files`);
    },
  };
}

async function read(source: FileSource): Promise<ModelFile> {
  const archive = await open(source);
  const { path } = archive;
  const metadata = parse(metadataWords, await archive.json(METADATA), `${path}: its ${METADATA}`);
  const { keras_version: version, kilograd } = metadata;
  const { translation, layers, file } = translated(await archive.json(CONFIG), kilograd, version, path);
  const { root } = await archive.weights();
  return { ...file, weights: weightsOfPlaces(translation.tree, layers, root, { path, own: true }) };
}

/** The bytes of a file. @throws UsageError naming the layer that Keras has no words for */
export async function kerasArchive(model: Model, { training, notes = {} }: KerasExtras): Promise<Uint8Array> {
  const encoder = new TextEncoder();
  const owner = "saveModel";
  const { config, names } = toKerasModel(model.config());
  const kilograd = kilogradWordsOf(model, notes, names);
  const metadata = {
    keras_version: KERAS_VERSION,
    date_saved: new Date().toISOString().slice(0, 19).replace("T", "@"),
    kilograd,
  };
  const whole = { ...withModules(config), ...(training && { compile_config: trainingConfig(training) }) };
  const weights = await encodeH5(treeOfPlaces(await placesOf(model, names)), owner);
  return encodeZip([
    [METADATA, encoder.encode(jsonText(owner, metadata))],
    [CONFIG, encoder.encode(jsonText(owner, whole))],
    [WEIGHTS, weights],
  ]);
}

/** Writes a file, whole or not at all. @throws UsageError, KilogradError `FILE_WRITE` */
export async function writeKerasArchive(path: string, model: Model, extras: KerasExtras): Promise<void> {
  await writeAll("saveModel", path, await kerasArchive(model, extras));
}

/** Where Keras finds its classes: what a user registered it finds by name. */
function withModules(object: KerasObject): Json {
  const { class_name: className, config, ...rest } = object;
  const { layers } = config as { layers?: readonly KerasObject[] };
  // Of models of the functional API both generations have a class of this name.
  const plain = className === "Functional" ? "Model" : className.split(">").at(-1);
  const module = layers !== undefined ? "keras" : "keras.layers";
  return {
    ...(className.includes(">") ? { module: null, registered_name: className } : { module, registered_name: null }),
    class_name: plain,
    config: layers === undefined ? config : { ...config, layers: layers.map(withModules) },
    ...rest,
  };
}

/** Weights by place: of each class its layers in order, and of layers within a layer its parts. */
async function placesOf(model: Model, names: ReadonlyMap<string, string>): Promise<KerasPlace> {
  const written = new Map([...names].map(([theirs, ours]) => [ours, theirs]));
  const counts = new Map<string, number>();
  const places = new Map<string, KerasPlace>();
  for (const layer of model.layers) {
    const { className } = layer.placed.layer;
    const words = layerClassOf(className)?.keras;
    const base = snakeCase((words?.className ?? className).split(">").at(-1)!);
    const count = counts.get(base) ?? 0;
    counts.set(base, count + 1);
    const name = written.get(layer.name) ?? layer.name;
    const weights = await kerasWeightsOf(layer, name);
    const parts = words?.parts ?? [];
    const place: KerasPlace =
      parts.length === 0 || weights.length === 0
        ? { name, weights, parts: new Map() }
        : { name, weights: [], parts: inParts(parts, weights) };
    places.set(count === 0 ? base : `${base}_${count}`, place);
  }
  return { name: model.name, weights: [], parts: new Map([["layers", { weights: [], parts: places }]]) };
}

/** As many weights in each part. */
function inParts(parts: readonly string[], weights: KerasPlace["weights"]): Map<string, KerasPlace> {
  const each = weights.length / parts.length;
  return new Map(
    parts.map((part, i) => [part, { name: part, weights: weights.slice(i * each, (i + 1) * each), parts: new Map() }]),
  );
}

export const kerasFormat: FormatCode = {
  read,
  async readWeights(model, source) {
    const archive = await open(source);
    return weightsFor(model, await archive.weights(), archive.path);
  },
  async write(path, model, content) {
    await writeKerasArchive(path, model, plainContent("saveModel", "keras", content));
  },
  async encode(model, content) {
    return kerasArchive(model, plainContent("encodeModel", "keras", content));
  },
};
