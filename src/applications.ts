/**
 * Architectures of published networks. Each gives an `Architecture`, without weights; its `build` makes a model of it,
 * `nn.loadWeights` fills that.
 *
 * @module
 */
// What is not listed here is internal.
/// <reference lib="dom" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />

export { type DenseNetOptions, denseNet121 } from "./applications/densenet.js";
export { type EfficientNetOptions, efficientNetB0 } from "./applications/efficientnet.js";
export { lenet5 } from "./applications/lenet.js";
export { type MiniXceptionOptions, miniXception } from "./applications/mini-xception.js";
export { type MobileNetOptions, mobileNet } from "./applications/mobilenet.js";
export { type MobileNetV2Options, mobileNetV2 } from "./applications/mobilenet-v2.js";
export type { ApplicationOptions } from "./applications/parts.js";
export {
  type ResNet50Options,
  type ResNetOptions,
  resNet8,
  resNet18,
  resNet20,
  resNet50,
} from "./applications/resnet.js";
export { type Vgg16Options, vgg16 } from "./applications/vgg.js";
export {
  classToken,
  positionEmbedding,
  type VisionTransformerOptions,
  visionTransformer,
} from "./applications/vision-transformer.js";
