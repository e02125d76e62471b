// Layers by class name, for models that come from a stored configuration.
import { UsageError } from "../../tensor/errors.js";
import type { Layer, LayerConfig } from "../layer.js";
import { batchNorm } from "./batch-norm.js";
import { conv2d } from "./conv2d.js";
import { activation, dropout, flatten, reshape } from "./core.js";
import { dense } from "./dense.js";
import { add, average, concatenate, maximum, multiply } from "./merging.js";
import { avgPool2d, globalAvgPool2d, maxPool2d } from "./pooling.js";

/** Takes a layer's own configuration, which its factory wrote. */
// biome-ignore lint/suspicious/noExplicitAny: each factory has its own options, checked by the factory itself.
const factories: Readonly<Record<string, (config: any) => Layer>> = {
  Dense: dense,
  Conv2D: conv2d,
  MaxPooling2D: maxPool2d,
  AveragePooling2D: avgPool2d,
  GlobalAveragePooling2D: globalAvgPool2d,
  BatchNormalization: batchNorm,
  Add: add,
  Multiply: multiply,
  Average: average,
  Maximum: maximum,
  Concatenate: concatenate,
  Dropout: dropout,
  Flatten: flatten,
  Reshape: ({ targetShape, ...options }) => reshape(targetShape, options),
  Activation: ({ activation: name, ...options }) => activation(name, options),
};

/** @throws UsageError for an unknown class */
export function layerFromConfig(className: string, config: LayerConfig): Layer {
  const factory = Object.hasOwn(factories, className) ? factories[className] : undefined;
  if (factory === undefined) {
    throw new UsageError(
      `fromConfig: class must be one of ${Object.keys(factories).join(", ")}, got ${JSON.stringify(className)}`,
    );
  }
  return factory(config);
}
