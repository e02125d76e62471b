// Configurations of models that come out of files, checked before a model is made of them.
import { array, exactOptional, type GenericSchema, literal, looseObject, object, picklist, variant } from "valibot";
import { count, parse, ruled, shape, text } from "../io/json.js";
import { DataError, ShapeError, UsageError } from "../tensor/errors.js";
import { boolean, number } from "../tensor/options.js";
import { scalingInitializers } from "./initializers.js";
import type { ModelConfig } from "./model-config.js";
import { ModelShape } from "./model-shape.js";
import { partsOfConfig } from "./stored-parts.js";

const finite = ruled<number>(number());
const initializer = variant(
  "name",
  [
    object({ name: literal("constant"), value: finite }),
    object({ name: literal("uniform"), minimum: finite, maximum: finite }),
    object({ name: literal("normal"), mean: finite, standardDeviation: finite }),
    object({ name: picklist(scalingInitializers) }),
  ],
  "an initialiser's name and parameters",
);
/** What the layers' own factories do not check; they do the rest. */
const layerConfig = looseObject(
  {
    name: exactOptional(text),
    trainable: exactOptional(ruled<boolean>(boolean)),
    kernelInitializer: exactOptional(initializer),
    biasInitializer: exactOptional(initializer),
    kernelL2: exactOptional(ruled<number>(number({ from: 0 }))),
  },
  "an object",
);

const layers = array(object({ className: text, config: layerConfig }, "an object"), "a list");
const values = array(count, "a list of whole numbers");

const modelConfig: GenericSchema<unknown, ModelConfig> = variant(
  "className",
  [
    object({ className: literal("Sequential"), name: text, inputShape: shape, layers }),
    object({
      className: literal("Functional"),
      name: text,
      inputs: array(object({ name: text, shape }, "an object"), "a list"),
      layers,
      calls: array(object({ layer: text, inputs: values }, "an object"), "a list"),
      outputs: values,
    }),
  ],
  ({ path }) => (path === undefined ? "an object" : '"Sequential" or "Functional"'),
);

/**
 * A model's configuration that came out of a file.
 * @throws DataError naming the file and the field, or the layer and what is wrong with its settings
 */
export function checkedModelConfig(value: unknown, owner: string): ModelConfig {
  const config = parse(modelConfig, value, owner);
  storedShape(config, owner);
  return config;
}

/** The layers of a stored configuration. @throws DataError naming the file and what its layers refuse */
export function storedShape(config: ModelConfig, owner: string): ModelShape {
  try {
    return new ModelShape(...partsOfConfig(config));
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof ShapeError)) throw error;
    throw new DataError(`${owner}: ${error.message}`, { cause: error });
  }
}
