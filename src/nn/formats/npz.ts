// Weights alone as arrays of NumPy: `.npz`, each array under the name of a weight, such as "conv2d/kernel". Arrays
// without names, as numpy.savez(path, *model.get_weights()) of Keras gives, are taken in their order.
import type { NpyArray } from "../../io/npy.js";
import { encodeNpz, readNpz } from "../../io/npz.js";
import type { StoredTensor } from "../../io/safetensors.js";
import { type FileSource, nameOf, writeAll } from "../../io/source.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import { formatShape, sameShape } from "../../tensor/shape.js";
import { layerClassOf } from "../layers/registry.js";
import type { Model } from "../model.js";
import type { FormatCode, ModelContent, ReadWeightsOptions } from "./format.js";
import { byTheirNames } from "./named-weights.js";

/** What numpy.savez calls an array without a name. */
const nameless = (i: number) => `arr_${i}`;

/** Floats in single precision, whole numbers in 32 bits. */
function stored({ data, shape }: NpyArray): StoredTensor {
  if (data instanceof Float32Array) return { dtype: "F32", shape, data };
  if (data instanceof Float64Array) return { dtype: "F64", shape, data };
  return data instanceof Uint32Array
    ? { dtype: "U32", shape, data }
    : { dtype: "I32", shape, data: Int32Array.from(data) };
}

/** Weights in the order of the layers. @throws UsageError listing what is missing, misshapen or too much */
function inOrder(model: Model, arrays: ReadonlyMap<string, NpyArray>, path: string): Map<string, StoredTensor> {
  const all = model.layers.flatMap(({ name, placed: { layer, weights } }) => [
    ...weights.map((spec) => ({ name: `${name}/${spec.name}`, shape: spec.shape, besides: false })),
    ...Object.keys(layerClassOf(layer.className)?.keras?.besides ?? {}).map((word) => ({
      ...{ name: `${name}/${word}`, shape: [], besides: true },
    })),
  ]);
  const wanted = arrays.size === all.length ? all : all.filter(({ besides }) => !besides);
  const found = new Map<string, StoredTensor>();
  const faults: string[] = [];
  if (arrays.size !== wanted.length) faults.push(`the model has ${wanted.length} weights, the file ${arrays.size}`);
  for (const [i, { name, shape, besides }] of wanted.entries()) {
    const array = arrays.get(nameless(i));
    if (array === undefined) continue;
    if (!sameShape(array.shape, shape)) {
      faults.push(`"${nameless(i)}" for "${name}" should be ${formatShape(shape)}, is ${formatShape(array.shape)}`);
    } else if (!besides) found.set(name, stored(array));
  }
  if (faults.length === 0) return found;
  throw new UsageError(
    `${path}: has arrays without names, which must be the weights of "${model.name}" in their order: ` +
      `${faults.slice(0, 10).join("; ")}; save them by name: numpy.savez(path, **{name: array})`,
  );
}

async function readWeights(
  model: Model,
  source: FileSource,
  { map }: ReadWeightsOptions,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const arrays = await readNpz(source);
  const names = [...arrays.keys()];
  if (map === undefined && names.length > 0 && names.every((_, i) => arrays.has(nameless(i)))) {
    return inOrder(model, arrays, nameOf(source));
  }
  const tensors = new Map([...arrays].map(([name, array]) => [name, stored(array)]));
  return byTheirNames(model, { tensors, skipped: new Map() }, nameOf(source), map);
}

async function bytesOf(owner: string, model: Model, content: ModelContent): Promise<Uint8Array> {
  const { training, slots, callbackTensors, notes, single = false } = content;
  const besides = training !== undefined || slots.length + callbackTensors.length > 0 ? "a training" : "notes";
  if (besides === "a training" || Object.keys(notes).length > 0) {
    throw new UsageError(`${owner}: format "npz" has no place for ${besides}; save it as "safetensors"`);
  }
  const arrays: Record<
    string,
    { data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>; shape: readonly number[] }
  > = {};
  for (const { name, tensor } of model.weights()) {
    const values = await tensor.data();
    const double = values instanceof Float64Array && !single;
    arrays[name] = { data: double ? Float64Array.from(values) : Float32Array.from(values), shape: tensor.shape };
  }
  return encodeNpz(arrays);
}

export const npzFormat: FormatCode = {
  async read(source) {
    throw new DataError(
      `${nameOf(source)}: holds arrays of NumPy, without the layers that they belong to; build the model, then ` +
        "nn.loadWeights(model, path); arrays alone are read by io.readNpz",
    );
  },
  readWeights,
  write: async (path, model, content) => writeAll("saveModel", path, await bytesOf("saveModel", model, content)),
  encode: (model, content) => bytesOf("encodeModel", model, content),
};
