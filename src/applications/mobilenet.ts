// MobileNet (Howard et al. 2017): depthwise convolutions of 3 x 3, each before one of 1 x 1. Keras's layers and names.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { relu } from "../nn/layers/advanced-activations.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { activation } from "../nn/layers/core.js";
import { depthwiseConv2d } from "../nn/layers/depthwise-conv2d.js";
import { dropout } from "../nn/layers/dropout.js";
import { zeroPadding2d } from "../nn/layers/padding.js";
import { globalAvgPool2d } from "../nn/layers/pooling.js";
import { reshape } from "../nn/layers/reshape.js";
import { number } from "../tensor/options.js";
import { type ApplicationOptions, alphaRule, applicationRules, between, completed } from "./parts.js";

export interface MobileNetOptions extends ApplicationOptions {
  /** Factor of all channels; default 1. */
  readonly alpha?: number;
  /** Share that is dropped before the classifier; default 0.001. */
  readonly dropout?: number;
}

/** Channels and stride of each block. */
const BLOCKS = [
  ...[
    [64, 1],
    [128, 2],
    [128, 1],
    [256, 2],
    [256, 1],
    [512, 2],
  ],
  ...[
    [512, 1],
    [512, 1],
    [512, 1],
    [512, 1],
    [512, 1],
    [1024, 2],
    [1024, 1],
  ],
] as const;

function block(given: GraphNode, filters: number, strides: number, id: number): GraphNode {
  let x = given;
  if (strides === 2)
    x = zeroPadding2d({
      padding: [
        [0, 1],
        [0, 1],
      ],
      name: `conv_pad_${id}`,
    })(x);
  const padding = strides === 2 ? "valid" : "same";
  x = depthwiseConv2d({ kernelSize: 3, strides, padding, useBias: false, name: `conv_dw_${id}` })(x);
  x = batchNorm({ name: `conv_dw_${id}_bn` })(x);
  x = relu({ maxValue: 6, name: `conv_dw_${id}_relu` })(x);
  x = conv2d({ filters, kernelSize: 1, padding: "same", useBias: false, name: `conv_pw_${id}` })(x);
  x = batchNorm({ name: `conv_pw_${id}_bn` })(x);
  return relu({ maxValue: 6, name: `conv_pw_${id}_relu` })(x);
}

/**
 * MobileNet for pictures from -1 to 1; 4,253,864 parameters for alpha 1. Keras's weights fit by name.
 * @throws UsageError for options that it does not have, ShapeError for pictures that are too small
 * @example
 * const model = mobileNet({ inputShape: [96, 96, 3], alpha: 0.25, classes: 5 }).build({ device, seed: 1 });
 */
export function mobileNet(options: MobileNetOptions = {}): Architecture {
  const published = {
    name: ({ alpha = 1, inputShape }: MobileNetOptions) => `mobilenet_${alpha.toFixed(2)}_${inputShape?.[0] ?? 224}`,
    ...({ inputShape: [224, 224, 3], classes: 1000 } as const),
  };
  const rules = { ...applicationRules, alpha: alphaRule, dropout: number({ from: 0, below: 1 }) };
  const given = completed<MobileNetOptions>("mobileNet", options, rules, published);
  const { alpha = 1 } = given;
  const channels = (filters: number) => Math.floor(filters * alpha);
  return between(
    given,
    (picture) => {
      const first = { filters: channels(32), kernelSize: 3, strides: 2, padding: "same", useBias: false } as const;
      let x = conv2d({ ...first, name: "conv1" })(picture);
      x = batchNorm({ name: "conv1_bn" })(x);
      x = relu({ maxValue: 6, name: "conv1_relu" })(x);
      for (const [i, [filters, strides]] of BLOCKS.entries()) x = block(x, channels(filters!), strides!, i + 1);
      return x;
    },
    (features) => {
      let x = globalAvgPool2d({ keepDims: true })(features);
      x = dropout({ rate: given.dropout ?? 1e-3, name: "dropout" })(x);
      x = conv2d({ filters: given.classes, kernelSize: 1, padding: "same", name: "conv_preds" })(x);
      x = reshape([given.classes], { name: "reshape_2" })(x);
      return activation(given.classifierActivation, { name: "predictions" })(x);
    },
  );
}
