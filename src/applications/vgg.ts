// VGG16 (Simonyan, Zisserman 2014): convolutions of 3 x 3 in five blocks, then dense layers. Keras's layers and names.
import type { Architecture } from "../nn/architecture.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { maxPool2d } from "../nn/layers/pooling.js";
import { type ApplicationOptions, alphaRule, applicationRules, between, completed } from "./parts.js";

export interface Vgg16Options extends ApplicationOptions {
  /** Factor of the channels and of the dense layers' units; default 1. */
  readonly alpha?: number;
}

/** Channels and convolutions of each block. */
const BLOCKS = [
  [64, 2],
  [128, 2],
  [256, 3],
  [512, 3],
  [512, 3],
] as const;

/**
 * VGG16 for BGR pictures less their channels' means; 138,357,544 parameters, 14,714,688 without the classifier.
 * @throws UsageError for options that it does not have
 * @example
 * const features = vgg16({ inputShape: [64, 64, 3], includeTop: false, pooling: "avg" });
 */
export function vgg16(options: Vgg16Options = {}): Architecture {
  const published = { name: "vgg16", inputShape: [224, 224, 3], classes: 1000 } as const;
  const given = completed<Vgg16Options>("vgg16", options, { ...applicationRules, alpha: alphaRule }, published);
  const { alpha = 1, classes, classifierActivation } = given;
  const scaled = (channels: number) => Math.max(1, Math.floor(channels * alpha));
  return between(
    given,
    (picture) => {
      let x = picture;
      for (const [i, [channels, convolutions]] of BLOCKS.entries()) {
        const common = { filters: scaled(channels), kernelSize: 3, padding: "same", activation: "relu" } as const;
        for (let j = 1; j <= convolutions; j++) x = conv2d({ ...common, name: `block${i + 1}_conv${j}` })(x);
        x = maxPool2d({ poolSize: 2, strides: 2, name: `block${i + 1}_pool` })(x);
      }
      return x;
    },
    (features) => {
      let x = flatten({ name: "flatten" })(features);
      x = dense({ units: scaled(4096), activation: "relu", name: "fc1" })(x);
      x = dense({ units: scaled(4096), activation: "relu", name: "fc2" })(x);
      return dense({ units: classes, activation: classifierActivation, name: "predictions" })(x);
    },
  );
}
