// What files of models hold, and writing and reading them, in any of the formats of formats/. checkpoint.ts makes
// models of them.
import type { StoredTensor } from "../io/safetensors.js";
import { type FileSource, nameOf, sourceRule } from "../io/source.js";
import type { Precision } from "../tensor/device.js";
import { UsageError } from "../tensor/errors.js";
import {
  anyOf,
  boolean,
  callable,
  check as checkArgument,
  checkOptions,
  object as objectRule,
  type Rule,
  type Rules,
  text as textRule,
} from "../tensor/options.js";
import { formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireFiniteState } from "./diagnose.js";
import type { FigureSums } from "./figures.js";
import type { ModelContent, NameMap } from "./formats/format.js";
import { formatFor, formatOf, formatRule, writerOf } from "./formats/index.js";
import { type Model, requireModel } from "./model.js";
import type { ModelConfig } from "./model-config.js";
import type { OptimizerConfig } from "./optimizers.js";

/** Sums as files have them: those of earlier versions without metrics. */
export type StoredSums = Omit<FigureSums, "metrics"> & Partial<Pick<FigureSums, "metrics">>;

/** Where a training stands, besides its tensors. */
export interface TrainingState {
  readonly seed: number;
  /** Of data in memory. */
  readonly batchSize?: number;
  readonly sampleCount?: number;
  /** Of batches from an iterable, what its `identity` says. */
  readonly source?: string;
  readonly shuffle: boolean;
  /** Of the device; not in files of earlier versions. */
  readonly precision?: Precision;
  /** Epoch in progress, from 0, and its finished steps. */
  readonly epoch: number;
  readonly stepInEpoch: number;
  /** Figures of the finished steps of that epoch. */
  readonly sums: StoredSums;
  /** Those of each output with a loss, where there are several. */
  readonly outputSums?: readonly StoredSums[];
  readonly optimizer: OptimizerConfig;
  readonly learningRate: number;
  /** Changes of the weights, see Optimizer. */
  readonly iterations: number;
  /** Steps whose gradients wait for the next change. */
  readonly gathered?: number;
  /** Why a callback ended the training, where one did. */
  readonly stopReason?: string;
  readonly epochs: readonly number[];
  readonly history: Readonly<Record<string, readonly number[]>>;
  /** By callback name. */
  readonly callbacks: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** What a model file holds. */
export interface ModelFile {
  readonly path: string;
  readonly config: ModelConfig;
  readonly seed: number;
  /** Weights by name. */
  readonly weights: ReadonlyMap<string, StoredTensor>;
  /** Optimizer slots by "WEIGHT/SLOT". */
  readonly slots: ReadonlyMap<string, StoredTensor>;
  /** Tensors of callbacks by "CALLBACK/NAME". */
  readonly callbackTensors: ReadonlyMap<string, StoredTensor>;
  /** Present in checkpoints. */
  readonly training: TrainingState | undefined;
  /** Whatever the writer added. */
  readonly notes: Readonly<Record<string, unknown>>;
  /** What is not as in the library that wrote the file, in sentences: another precision, what training would lack. */
  readonly remarks: readonly string[];
}

/** What to write besides the model. */
export interface SaveOptions {
  readonly training?: TrainingState;
  readonly slots?: Iterable<readonly [string, Tensor]>;
  readonly callbackTensors?: Iterable<readonly [string, Tensor]>;
  /** JSON to keep with the model: figures, the data it was trained on. */
  readonly notes?: Readonly<Record<string, unknown>>;
  /**
   * Writes weights and slots that are infinite or NaN, too. Default false: they are an error, and an existing file
   * stays as it is.
   */
  readonly allowNonFinite?: boolean;
  /**
   * "safetensors", which holds all of this; "keras-h5", which every version of Keras reads; "keras", Keras 3's own;
   * "onnx", which only predicts; "tfjs"; "pytorch", a state dict in safetensors; "npz", weights as arrays of NumPy.
   * Default: what the path's ending stands for (".h5", ".keras", ".onnx", ".npz"), else "safetensors". An ending of
   * another format is an error.
   */
  readonly format?: string;
}

const iterable: Rule = {
  expected: "an iterable of [name, tensor]",
  accepts: (value) => typeof value === "object" && value !== null && Symbol.iterator in value,
};
const saveRules: Rules<SaveOptions> = {
  training: objectRule,
  slots: iterable,
  callbackTensors: iterable,
  notes: objectRule,
  allowNonFinite: boolean,
  format: formatRule,
};

/**
 * Writes a model's configuration, seed and weights, atomically.
 * @throws KilogradError `FILE_WRITE`, or `NON_FINITE` for weights and slots that are infinite or NaN; an existing file
 * is then as it was. UsageError for what the format has no words for
 */
export async function saveModel(path: string, model: Model, options: SaveOptions = {}): Promise<void> {
  checkArgument("saveModel", "path", path, textRule);
  const { writer, content } = await modelContent("saveModel", path, model, options);
  await writer.write(path, model, content);
}

/**
 * What {@link saveModel} writes, as bytes: where there are no files, or for sending.
 * @throws KilogradError `NON_FINITE` for weights that are infinite or NaN
 * @example
 * const bytes = await nn.encodeModel(model);
 * const again = await nn.loadModel(bytes, { device });
 */
export async function encodeModel(model: Model, options: SaveOptions = {}): Promise<Uint8Array> {
  const { writer, content } = await modelContent("encodeModel", undefined, model, options);
  return writer.encode(model, content);
}

/**
 * What {@link saveModel} writes, as bytes by name of the file, the model first. A format of one file gives one.
 * {@link loadModel} takes it.
 * @throws as {@link encodeModel}
 * @example
 * const files = await nn.encodeModelFiles(model, { format: "tfjs" });
 * // { "model.json": ..., "group1-shard1of1.bin": ... }
 * const again = await nn.loadModel(files, { device });
 */
export async function encodeModelFiles(
  model: Model,
  options: SaveOptions = {},
): Promise<Readonly<Record<string, Uint8Array>>> {
  const { format, writer, content } = await modelContent("encodeModelFiles", undefined, model, options);
  if (writer.encodeFiles !== undefined) return writer.encodeFiles(model, content);
  return { [`model${format.endings[0] ?? ""}`]: await writer.encode(model, content) };
}

async function modelContent(owner: string, path: string | undefined, model: Model, options: SaveOptions) {
  requireModel(owner, model);
  const given = checkOptions(owner, options, saveRules);
  const { training, notes = {}, allowNonFinite = false } = given;
  const [slots, callbackTensors] = [[...(given.slots ?? [])], [...(given.callbackTensors ?? [])]];
  for (const entry of [...slots, ...callbackTensors]) {
    checkArgument(owner, "a slot", entry, { expected: "[name, tensor]", accepts: Array.isArray });
    checkArgument(owner, "a slot's name", entry[0], textRule);
    requireTensor(owner, "a slot", entry[1]);
  }
  const format = formatFor(owner, path, given.format);
  if (!allowNonFinite) await requireFiniteState(owner, model, path ?? "the bytes", slots);
  const content: ModelContent = { training, slots, callbackTensors, notes };
  return { format, writer: await writerOf(owner, format), content };
}

/**
 * What a file of a model holds, or its bytes, in any of the formats.
 * @throws DataError for a file that is missing, truncated or foreign
 */
export async function readModelFile(source: FileSource): Promise<ModelFile> {
  checkArgument("readModelFile", "path", source, sourceRule);
  const format = await (await formatOf(source)).load();
  return format.read(source);
}

export interface LoadWeightsOptions {
  /**
   * For files of PyTorch, NumPy and TensorFlow.js: what tensors or modules are called in the model, where names and
   * shapes do not tell. A record `{ "features.0": "conv2d", head: null }`, or a function of a tensor's name. null
   * passes over a tensor.
   */
  readonly map?: NameMap;
}

/** Formats whose weights are matched by names. */
const MAPPED = ["safetensors", "npz", "tfjs", "pytorch"];
const weightsRules: Rules<LoadWeightsOptions> = { map: anyOf(objectRule, callable) };

/**
 * Gives a model the weights of a file, or of its bytes. The file is one of these:
 * - a model that Kilograd, Keras or TensorFlow.js saved,
 * - weights alone as Keras saves them (`model.save_weights`, every version), or a manifest of TensorFlow.js,
 * - a safetensors file with the model's names and shapes,
 * - a `.npz` of NumPy with the model's names and shapes, or without names and in the order of its weights,
 * - a state dict of PyTorch in a safetensors or `.npz` file. Axes are put in the order that they have here.
 *
 * Keras's layers are matched in their order, as it does itself. PyTorch's modules are matched by `map`, by names equal
 * to those of layers, and by shapes where only one layer can be meant.
 * @throws DataError for a file that is missing, damaged or of another layout, UsageError naming what differs: the first
 * tensor, or for PyTorch all that are missing, misshapen or too many
 * @example
 * await nn.loadWeights(model, "model.weights.h5");
 * await nn.loadWeights(model, "resnet.safetensors", { map: { fc: null } });
 */
export async function loadWeights(model: Model, source: FileSource, options: LoadWeightsOptions = {}): Promise<void> {
  requireModel("loadWeights", model);
  checkArgument("loadWeights", "path", source, sourceRule);
  const { map } = checkOptions("loadWeights", options, weightsRules);
  const format = await formatOf(source);
  if (map !== undefined && !MAPPED.includes(format.name)) {
    throw new UsageError(
      `loadWeights: map is for weights by name, in ${MAPPED.join(", ")}; ${nameOf(source)} is "${format.name}"`,
    );
  }
  const code = await format.load();
  assignWeights(model, { path: nameOf(source), weights: await code.readWeights(model, source, { map }) });
}

/**
 * Gives a model the weights of a file.
 * @throws UsageError naming the first tensor that differs when the file is of another architecture
 */
export function assignWeights(model: Model, file: Pick<ModelFile, "path" | "weights">): void {
  const wanted = model.weights().map(({ name, tensor: { shape } }) => ({ name, shape }));
  const difference = firstDifference(wanted, file.weights);
  if (difference !== undefined) {
    throw new UsageError(`${file.path}: is of another architecture than "${model.name}": ${difference}`);
  }
  for (const { name, tensor: t } of model.weights()) t.assign(file.weights.get(name)!.data);
}

/** The first tensor, in the order of the model, that a file lacks or has in another shape; then what it has besides. */
export function firstDifference(
  wanted: readonly { readonly name: string; readonly shape: Shape }[],
  found: ReadonlyMap<string, StoredTensor>,
): string | undefined {
  for (const { name, shape } of wanted) {
    const stored = found.get(name);
    if (stored === undefined) return `"${name}" ${formatShape(shape)} is missing`;
    if (!sameShape(stored.shape, shape)) {
      return `"${name}" should be ${formatShape(shape)}, is ${formatShape(stored.shape)}`;
    }
  }
  const names = new Set(wanted.map(({ name }) => name));
  const extra = [...found.keys()].find((name) => !names.has(name));
  return extra === undefined ? undefined : `"${extra}" is more than the layers have`;
}
