// Models out of files, in any of the formats of formats/; what files hold, and writing them, is in model-file.ts.
import { warn } from "../io/paths.js";
import type { FileSource } from "../io/source.js";
import { type Device, deviceRule } from "../tensor/device.js";
import { DataError } from "../tensor/errors.js";
import { callable, checkOptions, type Rules } from "../tensor/options.js";
import { tensor } from "../tensor/tensor.js";
import { architectureFromConfig } from "./architecture.js";
import type { Model } from "./model.js";
import { firstDifference, type ModelFile, readModelFile } from "./model-file.js";
import { storedShape } from "./stored-config.js";

export {
  assignWeights,
  encodeModel,
  encodeModelFiles,
  type LoadWeightsOptions,
  loadWeights,
  type ModelFile,
  readModelFile,
  type SaveOptions,
  saveModel,
  type TrainingState,
} from "./model-file.js";

export interface LoadModelOptions {
  readonly device: Device;
  /** Is told what is not as in the library that wrote the file; default a warning of the process, or of the console. */
  readonly onMessage?: (message: string) => void;
}

const loadRules: Rules<LoadModelOptions> = { device: deviceRule, onMessage: callable };

/**
 * A model from a file, or from its bytes, on `device`, with the weights it was saved with.
 * @throws DataError for a file that is missing, truncated, foreign, or whose weights do not fit its layers
 */
export async function loadModel(path: FileSource, options: LoadModelOptions): Promise<Model> {
  const given = checkOptions("loadModel", options, loadRules, ["device"]);
  const { device, onMessage = warn } = given;
  const file = await readModelFile(path);
  for (const remark of file.remarks) await onMessage(remark);
  return buildModel(file, device);
}

/** The model of a file that was read. */
export function buildModel(file: ModelFile, device: Device): Model {
  const { layers } = storedShape(file.config, file.path);
  const difference = firstDifference(
    layers.flatMap(({ name, weights }) => weights.map((spec) => ({ name: `${name}/${spec.name}`, shape: spec.shape }))),
    file.weights,
  );
  if (difference !== undefined) throw new DataError(`${file.path}: its weights do not fit its layers: ${difference}`);
  return architectureFromConfig(file.config).build({
    device,
    seed: file.seed,
    weights: (name, { shape }) => tensor(device, file.weights.get(name)!.data, { shape, dtype: "f32" }),
  });
}
