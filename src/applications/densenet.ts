// DenseNet-121 (Huang et al. 2016): within a block, every layer sees the maps of all before it. Keras's layers and
// names.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { activation } from "../nn/layers/core.js";
import { concatenate } from "../nn/layers/merging.js";
import { zeroPadding2d } from "../nn/layers/padding.js";
import { avgPool2d, maxPool2d } from "../nn/layers/pooling.js";
import { type ApplicationOptions, applicationRules, averaged, between, completed, widthRule } from "./parts.js";

export interface DenseNetOptions extends ApplicationOptions {
  /** Maps that a layer adds; default 32. The first layer has twice as many. */
  readonly growth?: number;
}

/** Layers of each block. */
const BLOCKS = [6, 12, 24, 16] as const;

const norm = (name: string) => batchNorm({ epsilon: 1.001e-5, name });
const relu = (name: string) => activation("relu", { name });

function layer(x: GraphNode, growth: number, name: string): GraphNode {
  let y = relu(`${name}_0_relu`)(norm(`${name}_0_bn`)(x));
  y = conv2d({ filters: 4 * growth, kernelSize: 1, useBias: false, name: `${name}_1_conv` })(y);
  y = relu(`${name}_1_relu`)(norm(`${name}_1_bn`)(y));
  y = conv2d({ filters: growth, kernelSize: 3, padding: "same", useBias: false, name: `${name}_2_conv` })(y);
  return concatenate({ name: `${name}_concat` })([x, y]);
}

/** Half the maps, of half the height and width. */
function transition(x: GraphNode, name: string): GraphNode {
  const y = relu(`${name}_relu`)(norm(`${name}_bn`)(x));
  const filters = Math.floor(x.shape[2]! / 2);
  const narrowed = conv2d({ filters, kernelSize: 1, useBias: false, name: `${name}_conv` })(y);
  return avgPool2d({ poolSize: 2, strides: 2, name: `${name}_pool` })(narrowed);
}

/**
 * DenseNet-121 for pictures from 0 to 1, less the means over the deviations of ImageNet's channels; 8,062,504
 * parameters. Keras's weights fit by name.
 * @throws UsageError for options that it does not have, ShapeError for pictures that are too small
 * @example
 * const model = denseNet121({ inputShape: [64, 64, 3], classes: 5, growth: 8 }).build({ device, seed: 1 });
 */
export function denseNet121(options: DenseNetOptions = {}): Architecture {
  const published = { name: "densenet121", inputShape: [224, 224, 3], classes: 1000 } as const;
  const rules = { ...applicationRules, growth: widthRule };
  const given = completed<DenseNetOptions>("denseNet121", options, rules, published);
  const { growth = 32 } = given;
  return between(
    given,
    (picture) => {
      let x = zeroPadding2d(3)(picture);
      x = conv2d({ filters: 2 * growth, kernelSize: 7, strides: 2, useBias: false, name: "conv1_conv" })(x);
      x = relu("conv1_relu")(norm("conv1_bn")(x));
      x = maxPool2d({ poolSize: 3, strides: 2, name: "pool1" })(zeroPadding2d(1)(x));
      for (const [block, layers] of BLOCKS.entries()) {
        if (block > 0) x = transition(x, `pool${block + 1}`);
        for (let i = 1; i <= layers; i++) x = layer(x, growth, `conv${block + 2}_block${i}`);
      }
      return relu("relu")(norm("bn")(x));
    },
    averaged(given, "avg_pool"),
  );
}
