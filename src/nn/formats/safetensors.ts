// Models and trainings in safetensors files: weights under their names, optimizer slots and callbacks' tensors beside
// them, everything else as JSON in the metadata. A checkpoint is a model file, too.
import { anyObject, parse } from "../../io/json.js";
import { jsonText } from "../../io/json-text.js";
import { type DeferredTensor, encodeSafetensors, type StoredTensor } from "../../io/safetensors.js";
import { readSafetensors, writeSafetensors } from "../../io/safetensors-file.js";
import { type FileSource, nameOf } from "../../io/source.js";
import { DataError } from "../../tensor/errors.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import { checkedModelConfig } from "../stored-config.js";
import { trainingState } from "../stored-training.js";
import type { FormatCode, ModelContent, ReadWeightsOptions } from "./format.js";
import { byTheirNames } from "./named-weights.js";

const FORMAT = "kilograd-model";
const VERSION = "1";
const OPTIMIZER_PREFIX = "optimizer:";
const CALLBACK_PREFIX = "callback:";

function partsOf(model: Model, { training, slots, callbackTensors, notes, single = false }: ModelContent) {
  const tensors = new Map<string, DeferredTensor>();
  for (const [name, t] of model.namedTensors()) tensors.set(name, deferred(t, single));
  for (const [name, t] of slots) tensors.set(OPTIMIZER_PREFIX + name, deferred(t));
  for (const [name, t] of callbackTensors) tensors.set(CALLBACK_PREFIX + name, deferred(t));
  const metadata = {
    format: FORMAT,
    version: VERSION,
    model: toText(model.config()),
    seed: String(model.seed),
    ...(training && { training: toText(training) }),
    notes: toText(notes),
  };
  return { tensors, metadata };
}

/** In the precision of the device, which is float64 on the CPU reference, unless it is to be `single`. */
function deferred(t: Tensor, single = false): DeferredTensor {
  const { shape } = t;
  if (single) return { dtype: "F32", shape, data: async () => Float32Array.from(await t.data()) };
  const data = async () => (await t.data()) as never;
  return { dtype: t.device.kind === "cpu" ? "F64" : "F32", shape, data };
}

/** JSON text that keeps what JSON has no word for. */
function toText(value: unknown): string {
  const words = (_: string, part: unknown) =>
    typeof part === "number" && !Number.isFinite(part) ? { $number: String(part) } : part;
  return jsonText("saveModel", value, words);
}

function fromText(text: string): unknown {
  return JSON.parse(text, (_, part) =>
    typeof part === "object" && part !== null && "$number" in part ? Number(part.$number) : part,
  );
}

async function read(source: FileSource): Promise<ModelFile> {
  const path = nameOf(source);
  const { tensors, metadata } = await readSafetensors(source);
  if (metadata["format"] !== FORMAT) {
    throw new DataError(
      `${path}: is a safetensors file, but not a model that Kilograd wrote; it lacks the model's layers; build the model, then give it the weights by nn.loadWeights(model, path)`,
    );
  }
  if (metadata["version"] !== VERSION) {
    throw new DataError(`${path}: is of version ${metadata["version"]}, this Kilograd reads version ${VERSION}`);
  }
  const part = (key: string): unknown => {
    try {
      return metadata[key] === undefined ? undefined : fromText(metadata[key]);
    } catch (cause) {
      throw new DataError(`${path}: its "${key}" is damaged: ${(cause as Error).message}`, { cause });
    }
  };
  const withPrefix = (prefix: string) =>
    new Map([...tensors].flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : [])));
  const special = (name: string) => name.startsWith(OPTIMIZER_PREFIX) || name.startsWith(CALLBACK_PREFIX);
  const training = part("training");
  const model = part("model");
  // A class of layers that is not there before an ONNX file is read, or what was made of one.
  if (metadata["model"]?.includes('"OnnxGraph"')) await import("./onnx/layer.js");
  const seed = metadata["seed"]?.trim() ? Number(metadata["seed"]) : Number.NaN;
  if (!Number.isFinite(seed)) {
    throw new DataError(`${path}: its seed must be a number, is ${JSON.stringify(metadata["seed"] ?? null)}`);
  }
  return {
    path,
    config: checkedModelConfig(model, `${path}: its model`),
    seed,
    weights: new Map([...tensors].filter(([name]) => !special(name))),
    slots: withPrefix(OPTIMIZER_PREFIX),
    callbackTensors: withPrefix(CALLBACK_PREFIX),
    training: training === undefined ? undefined : parse(trainingState, training, `${path}: its training`),
    notes: parse(anyObject, part("notes") ?? {}, `${path}: its notes`),
    remarks: [],
  };
}

/** Of a model file, of any file with the model's names and shapes, or of a state dict of PyTorch. */
async function readWeights(
  model: Model,
  source: FileSource,
  { map }: ReadWeightsOptions,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const { tensors, metadata, skipped } = await readSafetensors(source);
  if (metadata["format"] === FORMAT && map === undefined) return (await read(source)).weights;
  return byTheirNames(model, { tensors, skipped }, nameOf(source), map);
}

export const safetensorsFormat: FormatCode = {
  read,
  readWeights,
  async write(path, model, content) {
    const { tensors, metadata } = partsOf(model, content);
    await writeSafetensors(path, tensors, metadata);
  },
  async encode(model, content) {
    const { tensors, metadata } = partsOf(model, content);
    const stored = new Map<string, StoredTensor>();
    for (const [name, tensor] of tensors) stored.set(name, { ...tensor, data: await tensor.data() } as StoredTensor);
    return encodeSafetensors(stored, metadata);
  },
};
