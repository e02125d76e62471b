// Models of what files hold (checkpoint.ts).
import type { Device } from "../tensor/device.js";
import { DataError } from "../tensor/errors.js";
import { tensor } from "../tensor/tensor.js";
import { architectureFromConfig } from "./from-config.js";
import type { Model } from "./model.js";
import { firstDifference, type ModelFile } from "./model-file.js";
import { storedShape } from "./stored-config.js";

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
