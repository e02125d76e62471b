// Models out of files, in any of the formats of formats/; what files hold, and writing them, is in model-file.ts.
import { warn } from "../io/paths.js";
import type { FileSource } from "../io/source.js";
import { type Device, deviceRule } from "../tensor/device.js";
import { callable, checkOptions, type Rules } from "../tensor/options.js";
import type { Model } from "./model.js";
import { readModelFile } from "./model-file.js";

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
  // All layers come with it.
  return (await import("./stored-model.js")).buildModel(file, device);
}
