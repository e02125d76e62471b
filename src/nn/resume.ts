// A training in a file, and back: what fit writes into a checkpoint besides the weights, and going on from one.
import { parse } from "../io/json.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { type Tensor, tensor } from "../tensor/tensor.js";
import { atOnce } from "./callbacks/callback.js";
import type { Model } from "./model.js";
import { assignWeights, type ModelFile, saveModel, type TrainingState } from "./model-file.js";
import type { OptimizerConfig } from "./optimizer.js";
import { trainingState } from "./stored-training.js";
import { slotsOf, type TrainingParts, type TrainingPosition, type TrainingSettings } from "./training-parts.js";

/** Writes model, optimizer, callbacks and position, atomically. */
export async function saveTraining(
  path: string,
  parts: TrainingParts,
  state: TrainingSettings & TrainingPosition,
  notes: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const { model, optimizer, callbacks } = parts;
  if (optimizer.averagesInUse(model.parameters())) {
    throw new UsageError(
      `fit: a checkpoint needs the parameters themselves, but "${model.name}" has their averages; call swapAverages again before ${path} is written`,
    );
  }
  const states = callbacks.flatMap((callback) => {
    const exported = atOnce(callback, "exportState", callback.exportState?.());
    return exported === undefined ? [] : [{ name: callback.name, ...exported }];
  });
  await saveModel(path, model, {
    training: {
      ...state,
      optimizer: optimizer.config(),
      learningRate: optimizer.learningRate,
      iterations: optimizer.iterations,
      ...(optimizer.gathered > 0 && { gathered: optimizer.gathered }),
      callbacks: Object.fromEntries(states.map(({ name, values }) => [name, values])),
    },
    slots: slotsOf(parts),
    callbackTensors: states.flatMap(({ name, tensors = [] }) =>
      [...tensors].map(([key, value]) => [`${name}/${key}`, value] as const),
    ),
    notes,
  });
}

/** The training of a checkpoint. @throws UsageError for a file that holds a model alone */
export function trainingOf({ training, path }: ModelFile): TrainingState {
  // A file that was not read but made: it is checked as one that was.
  if (training !== undefined) return parse(trainingState, training, `${path}: its training`);
  throw new UsageError(`${path}: holds a model but no training to resume; load it with loadModel and train anew`);
}

/**
 * Gives model, optimizer and callbacks the state of a checkpoint.
 * @throws UsageError naming what is not as it was, DataError naming what no training writes
 */
export function restoreTraining(file: ModelFile, parts: TrainingParts, settings: TrainingSettings): void {
  const { model, optimizer, callbacks } = parts;
  const { path } = file;
  const state = trainingOf(file);
  const kindOf = ({ sampleCount }: TrainingSettings) =>
    sampleCount === undefined ? "batches of an iterable" : "samples in memory";
  const sourceOf = ({ source }: TrainingSettings) => source ?? "one without an identity";
  const same: [name: string, given: unknown, stored: unknown][] = [
    ["the data", kindOf(settings), kindOf(state)],
    ["the source of batches", sourceOf(settings), sourceOf(state)],
    ["the model's seed", model.seed, file.seed],
    ["seed", settings.seed, state.seed],
    ["batchSize", settings.batchSize, state.batchSize],
    ["the number of training samples", settings.sampleCount, state.sampleCount],
    ["shuffle", settings.shuffle, state.shuffle],
    // Files of earlier versions do not say it.
    ["the device's precision", settings.precision, state.precision ?? settings.precision],
    ["the optimizer", settingsText(optimizer.config()), settingsText(state.optimizer)],
  ];
  for (const [name, given, stored] of same) {
    if (given === stored) continue;
    throw new UsageError(`${path}: to resume it, ${name} must be as before, ${stored}, got ${given}`);
  }
  const slots = slotsOf(parts);
  const names = new Set(slots.map(([name]) => name));
  const besides = [...file.slots.keys()].find((name) => !names.has(name));
  if (besides !== undefined) {
    throw new UsageError(
      `${path}: holds the optimizer's "${besides}", which this training has no use for; resume with the same layers trainable, and the same lossScaling`,
    );
  }
  assignWeights(model, file);
  for (const [name, slot] of slots) {
    const stored = file.slots.get(name);
    if (stored === undefined) {
      throw new UsageError(
        `${path}: lacks the optimizer's "${name}"; resume with the same layers trainable, in the same precision`,
      );
    }
    if (!sameShape(stored.shape, slot.shape)) {
      throw new DataError(
        `${path}: the optimizer's "${name}" must be ${formatShape(slot.shape)}, is ${formatShape(stored.shape)}`,
      );
    }
    slot.assign(stored.data);
  }
  const { iterations, gathered = 0 } = state;
  optimizer.resumeAt(iterations * optimizer.gradientAccumulationSteps + gathered, state.learningRate);
  for (const callback of callbacks) {
    const values = state.callbacks[callback.name];
    if (values === undefined) continue;
    try {
      scope(() => {
        const tensors = callbackTensors(file, callback.name, model);
        atOnce(callback, "importState", callback.importState?.(values, tensors));
      });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      throw new DataError(`${path}: its training.callbacks: ${error.message}`, { cause: error });
    }
  }
}

/** Settings as text, whatever order they were given in. */
const settingsText = (config: OptimizerConfig) =>
  JSON.stringify(Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))));

function callbackTensors(file: ModelFile, callback: string, model: Model): Map<string, Tensor> {
  const { device } = model;
  const prefix = `${callback}/`;
  const found = [...file.callbackTensors].filter(([name]) => name.startsWith(prefix));
  const shapes = new Map(model.namedTensors().map(([name, { shape }]) => [name, shape]));
  return new Map(
    found.map(([stored, { shape, data }]) => {
      const name = stored.slice(prefix.length);
      const wanted = shapes.get(name);
      if (wanted !== undefined && !sameShape(wanted, shape)) {
        throw new DataError(`"${stored}" must be ${formatShape(wanted)}, is ${formatShape(shape)}`);
      }
      return [name, tensor(device, data, { shape, dtype: "f32" })];
    }),
  );
}
