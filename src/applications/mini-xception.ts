// mini-Xception (Arriaga et al. 2017), for emotions of faces: four blocks of separable convolutions, each beside a
// convolution of 1 x 1. Layers are those of the public model of FER2013.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { activation } from "../nn/layers/core.js";
import { separableConv2d } from "../nn/layers/depthwise-conv2d.js";
import { add } from "../nn/layers/merging.js";
import { globalAvgPool2d, maxPool2d } from "../nn/layers/pooling.js";
import { type ApplicationOptions, applicationRules, between, completed, widthRule } from "./parts.js";

export interface MiniXceptionOptions extends ApplicationOptions {
  /** Channels of the first block, which every block doubles; default 16. */
  readonly width?: number;
}

const L2 = 0.01;

function block(x: GraphNode, filters: number): GraphNode {
  const shortcut = batchNorm()(conv2d({ filters, kernelSize: 1, strides: 2, padding: "same", useBias: false })(x));
  const separable = { filters, kernelSize: 3, padding: "same", useBias: false, depthwiseL2: L2 } as const;
  let y = activation("relu")(batchNorm()(separableConv2d(separable)(x)));
  y = batchNorm()(separableConv2d(separable)(y));
  y = maxPool2d({ poolSize: 3, strides: 2, padding: "same" })(y);
  return add()([y, shortcut]);
}

/**
 * mini-Xception for grey faces [64, 64, 1] from -1 to 1; 58,423 parameters.
 * @throws UsageError for options that it does not have
 * @example
 * const model = miniXception({ inputShape: [48, 48, 1] }).build({ device, seed: 1 });
 */
export function miniXception(options: MiniXceptionOptions = {}): Architecture {
  const published = { name: "mini_xception", inputShape: [64, 64, 1], classes: 7 } as const;
  const rules = { ...applicationRules, width: widthRule };
  const given = completed<MiniXceptionOptions>("miniXception", options, rules, published);
  const { width = 16, classes, classifierActivation } = given;
  return between(
    given,
    (picture) => {
      let x = picture;
      for (let i = 0; i < 2; i++) {
        x = conv2d({ filters: Math.ceil(width / 2), kernelSize: 3, useBias: false, kernelL2: L2 })(x);
        x = activation("relu")(batchNorm()(x));
      }
      for (let i = 0; i < 4; i++) x = block(x, width * 2 ** i);
      return x;
    },
    (features) => {
      const maps = conv2d({ filters: classes, kernelSize: 3, padding: "same" })(features);
      return activation(classifierActivation, { name: "predictions" })(globalAvgPool2d()(maps));
    },
  );
}
