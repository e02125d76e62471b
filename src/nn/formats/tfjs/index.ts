// Models of TensorFlow.js: model.json, which names its shards of weights. A layers model is read and written, a graph
// model is read: its operations become layers.
import { array, looseObject, optional, unknown } from "valibot";
import { parse } from "../../../io/json.js";
import type { StoredTensor } from "../../../io/safetensors.js";
import { type FileSource, nameOf, readAll, writeAll } from "../../../io/source.js";
import { DataError, UsageError } from "../../../tensor/errors.js";
import type { Model } from "../../model.js";
import type { ModelFile } from "../../model-file.js";
import { storedShape } from "../../stored-config.js";
import type { FormatCode, ModelContent, ReadWeightsOptions } from "../format.js";
import { Remarks } from "../keras-remarks.js";
import { renamed } from "../name-map.js";
import { readGraph } from "./graph-model.js";
import { placeByName, readTopology, writeTopology } from "./layers-model.js";
import { modelText, readManifest, writeManifest } from "./weights.js";

/** Of a model's JSON, without its weights. */
const MOST_JSON_BYTES = 2 ** 28;

const modelJson = looseObject(
  { modelTopology: optional(unknown()), weightsManifest: optional(array(unknown(), "a list of groups"), []) },
  "an object",
);

/** The JSON of a file. @throws DataError for another text */
async function jsonOf(source: FileSource): Promise<unknown> {
  const path = nameOf(source);
  const bytes = await readAll("loadModel", source, MOST_JSON_BYTES);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new DataError(`${path}: is no JSON, as TensorFlow.js writes model.json: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function read(source: FileSource): Promise<ModelFile> {
  const path = nameOf(source);
  const json = await jsonOf(source);
  if (Array.isArray(json)) {
    throw new DataError(
      `${path}: lists weights alone, without the layers they belong to; build the model, then nn.loadWeights(model, path)`,
    );
  }
  const { modelTopology: topology, weightsManifest, ...rest } = parse(modelJson, json, path);
  if (typeof topology !== "object" || topology === null) {
    throw new DataError(
      `${path}: is JSON, but no model of TensorFlow.js: it must have modelTopology and weightsManifest`,
    );
  }
  const remarks = new Remarks(path);
  const isGraph = Object.hasOwn(topology, "node");
  // What is wrong with the layers is told before the weights are read.
  if (isGraph) {
    const stored = await readManifest(source, weightsManifest);
    return { ...readGraph(path, topology, rest, stored), ...empty(path) };
  }
  const config = readTopology(topology, path, remarks);
  const { layers } = storedShape(config, path);
  const weights = placeByName(layers, await readManifest(source, weightsManifest), path);
  return { ...empty(path), config, weights, remarks: remarks.sentences() };
}

const empty = (path: string) => ({
  path,
  seed: 0,
  slots: new Map<string, StoredTensor>(),
  callbackTensors: new Map<string, StoredTensor>(),
  training: undefined,
  notes: {},
  remarks: [] as readonly string[],
});

/** Of a layers model, or of a manifest alone. */
async function readWeights(
  model: Model,
  source: FileSource,
  { map }: ReadWeightsOptions,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const json = await jsonOf(source);
  const manifest = Array.isArray(json) ? json : parse(modelJson, json, nameOf(source)).weightsManifest;
  const stored = renamed(await readManifest(source, manifest), map, nameOf(source));
  const layers = model.layers.map(({ placed }) => placed);
  return placeByName(layers, stored, nameOf(source));
}

/** All files of a model, the JSON first. */
async function filesOf(
  owner: string,
  model: Model,
  content: ModelContent,
  file = "model.json",
): Promise<Record<string, Uint8Array>> {
  const { training, slots, callbackTensors, notes } = content;
  if (training !== undefined || slots.length + callbackTensors.length > 0) {
    throw new UsageError(`${owner}: format "tfjs" has no place for a training; save it as "safetensors"`);
  }
  const { topology, weights } = await writeTopology(model);
  // Another model may lie in the same folder.
  const { manifest, files } = writeManifest(weights, file === "model.json" ? "" : `${file.replace(/\.json$/i, "")}-`);
  const json = {
    format: "layers-model",
    generatedBy: "kilograd",
    convertedBy: null,
    modelTopology: topology,
    weightsManifest: manifest,
    ...(Object.keys(notes).length > 0 && { userDefinedMetadata: notes }),
  };
  const shards = files.map(({ name, bytes }) => [name, bytes] as const);
  return Object.fromEntries([[file, modelText(owner, json)], ...shards]);
}

export const tfjsFormat: FormatCode = {
  read,
  readWeights,
  async write(path, model, content) {
    const file = /[^/\\]*$/.exec(path)![0];
    const folder = path.slice(0, path.length - file.length);
    const { [file]: json, ...shards } = await filesOf("saveModel", model, content, file);
    // The JSON last: where it is, its shards are.
    for (const [name, bytes] of Object.entries(shards)) await writeAll("saveModel", folder + name, bytes);
    await writeAll("saveModel", path, json!);
  },
  encode() {
    throw new UsageError(
      'encodeModel: format "tfjs" has several files; use nn.encodeModelFiles(model, { format: "tfjs" })',
    );
  },
  encodeFiles: (model, content) => filesOf("encodeModelFiles", model, content),
};
