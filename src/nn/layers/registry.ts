// The layers of the library. Those that users define are beside them in what nn/layer.ts keeps by name.
import { UsageError } from "../../tensor/errors.js";
import { type CallableLayer, definedClasses, type LayerClass, type LayerConfig, layerClassOf } from "../layer.js";
import { ELU, LeakyReLU, PReLU, ReLU, Softmax } from "./advanced-activations.js";
import { MultiHeadAttention } from "./attention.js";
import { BatchNormalization } from "./batch-norm.js";
import { Conv1D } from "./conv1d.js";
import { Conv2D } from "./conv2d.js";
import { Conv2DTranspose } from "./conv2d-transpose.js";
import { Activation, Flatten } from "./core.js";
import { Dense } from "./dense.js";
import { DepthwiseConv2D, SeparableConv2D } from "./depthwise-conv2d.js";
import { Dropout } from "./dropout.js";
import { Embedding } from "./embedding.js";
import { GroupNormalization } from "./group-norm.js";
import { LayerNormalization } from "./layer-norm.js";
import { Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Subtract } from "./merging.js";
import { GaussianDropout, GaussianNoise, SpatialDropout1D, SpatialDropout2D } from "./noise.js";
import { Cropping1D, Cropping2D, ZeroPadding1D, ZeroPadding2D } from "./padding.js";
import {
  AveragePooling1D,
  AveragePooling2D,
  GlobalAveragePooling1D,
  GlobalAveragePooling2D,
  GlobalMaxPooling1D,
  GlobalMaxPooling2D,
  MaxPooling1D,
  MaxPooling2D,
} from "./pooling.js";
import { Normalization, Rescaling } from "./preprocessing.js";
import { Permute, RepeatVector, Reshape } from "./reshape.js";
import { Resizing, UpSampling1D, UpSampling2D } from "./resizing.js";

export { layerClassOf } from "../layer.js";

/** The library's classes of layers. */
// biome-ignore lint/suspicious/noExplicitAny: each class has its own options, checked by the class itself.
export const layerClasses: readonly LayerClass<any>[] = [
  ...[Dense, Conv2D, Conv1D, DepthwiseConv2D, SeparableConv2D, Conv2DTranspose, Embedding],
  ...[MaxPooling1D, MaxPooling2D, AveragePooling1D, AveragePooling2D],
  ...[GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalAveragePooling1D, GlobalAveragePooling2D],
  ...[ZeroPadding1D, ZeroPadding2D, Cropping1D, Cropping2D, UpSampling1D, UpSampling2D, Resizing],
  ...[BatchNormalization, LayerNormalization, GroupNormalization, Normalization, Rescaling],
  ...[Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot, MultiHeadAttention],
  ...[Dropout, SpatialDropout1D, SpatialDropout2D, GaussianNoise, GaussianDropout],
  ...[Flatten, Reshape, Permute, RepeatVector],
  ...[Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax],
];

/** All classes that there are: the library's, then those that users defined. */
export const allClasses = () => [...layerClasses, ...definedClasses().filter((each) => !layerClasses.includes(each))];

/** A layer of its own configuration. @throws UsageError for an unknown class */
export function layerFromConfig(className: string, config: LayerConfig): CallableLayer {
  const found = layerClassOf(className);
  if (found !== undefined) return found(config);
  const known = allClasses().map((each) => each.className);
  throw new UsageError(
    `fromConfig: class must be one of ${known.join(", ")}, got ${JSON.stringify(className)}; a layer of your own must be defined by nn.defineLayer before`,
  );
}
