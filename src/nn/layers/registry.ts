// The classes of layers, by which stored models find them.
import { UsageError } from "../../tensor/errors.js";
import type { CallableLayer, LayerClass, LayerConfig } from "../layer.js";
import { BatchNormalization } from "./batch-norm.js";
import { Conv2D } from "./conv2d.js";
import { Activation, Dropout, Flatten, Reshape } from "./core.js";
import { Dense } from "./dense.js";
import { Add, Average, Concatenate, Maximum, Multiply } from "./merging.js";
import { AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D } from "./pooling.js";

/** All classes of layers. */
// biome-ignore lint/suspicious/noExplicitAny: each class has its own options, checked by the class itself.
export const layerClasses: readonly LayerClass<any>[] = [
  ...[Dense, Conv2D, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, BatchNormalization],
  ...[Add, Multiply, Average, Maximum, Concatenate, Dropout, Flatten, Reshape, Activation],
];

/** The class of a name, if there is one. */
export const layerClassOf = (className: string) => layerClasses.find((each) => each.className === className);

/** A layer of its own configuration. @throws UsageError for an unknown class */
export function layerFromConfig(className: string, config: LayerConfig): CallableLayer {
  const found = layerClassOf(className);
  if (found !== undefined) return found.make(config);
  throw new UsageError(
    `fromConfig: class must be one of ${layerClasses.map((each) => each.className).join(", ")}, got ${JSON.stringify(className)}`,
  );
}
