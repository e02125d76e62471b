// MobileNetV2 (Sandler et al. 2018): blocks that widen, convolve each channel by itself and narrow again, with a
// shortcut between narrow ends. Keras's layers and names.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { relu } from "../nn/layers/advanced-activations.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { depthwiseConv2d } from "../nn/layers/depthwise-conv2d.js";
import { add } from "../nn/layers/merging.js";
import { zeroPadding2d } from "../nn/layers/padding.js";
import {
  type ApplicationOptions,
  alphaRule,
  applicationRules,
  averaged,
  between,
  completed,
  paddingBefore,
  rounded,
} from "./parts.js";

export interface MobileNetV2Options extends ApplicationOptions {
  /** Factor of the channels, which are rounded to multiples of 8; default 1. */
  readonly alpha?: number;
}

/** Channels, blocks, and the first block's stride. The first group does not widen. */
const GROUPS = [
  [16, 1, 1],
  [24, 2, 2],
  [32, 3, 2],
  [64, 4, 2],
  [96, 3, 1],
  [160, 3, 2],
  [320, 1, 1],
] as const;
const EXPANSION = 6;

const norm = (name: string) => batchNorm({ epsilon: 1e-3, momentum: 0.999, name });
const relu6 = (name: string) => relu({ maxValue: 6, name });
const pointwise = (filters: number, name: string) =>
  conv2d({ filters, kernelSize: 1, padding: "same", useBias: false, name });

function block(given: GraphNode, filters: number, strides: number, id: number): GraphNode {
  const channels = given.shape[2]!;
  const prefix = id === 0 ? "expanded_conv" : `block_${id}`;
  let x = given;
  if (id > 0) {
    x = pointwise(EXPANSION * channels, `${prefix}_expand`)(x);
    x = relu6(`${prefix}_expand_relu`)(norm(`${prefix}_expand_BN`)(x));
  }
  if (strides === 2) x = zeroPadding2d({ padding: paddingBefore(x, 3), name: `${prefix}_pad` })(x);
  const padding = strides === 2 ? "valid" : "same";
  x = depthwiseConv2d({ kernelSize: 3, strides, padding, useBias: false, name: `${prefix}_depthwise` })(x);
  x = relu6(`${prefix}_depthwise_relu`)(norm(`${prefix}_depthwise_BN`)(x));
  x = norm(`${prefix}_project_BN`)(pointwise(filters, `${prefix}_project`)(x));
  return channels === filters && strides === 1 ? add({ name: `${prefix}_add` })([given, x]) : x;
}

/**
 * MobileNetV2 for pictures from -1 to 1; 3,538,984 parameters for alpha 1. Keras's weights fit by name.
 * @throws UsageError for options that it does not have, ShapeError for pictures that are too small
 * @example
 * const model = mobileNetV2({ inputShape: [96, 96, 3], alpha: 0.35, classes: 5 }).build({ device, seed: 1 });
 */
export function mobileNetV2(options: MobileNetV2Options = {}): Architecture {
  const published = {
    name: ({ alpha = 1, inputShape }: MobileNetV2Options) =>
      `mobilenetv2_${alpha.toFixed(2)}_${inputShape?.[0] ?? 224}`,
    ...({ inputShape: [224, 224, 3], classes: 1000 } as const),
  };
  const given = completed<MobileNetV2Options>(
    "mobileNetV2",
    options,
    { ...applicationRules, alpha: alphaRule },
    published,
  );
  const { alpha = 1 } = given;
  return between(
    given,
    (picture) => {
      const first = {
        filters: rounded(32 * alpha),
        kernelSize: 3,
        strides: 2,
        padding: "same",
        useBias: false,
      } as const;
      let x = conv2d({ ...first, name: "Conv1" })(picture);
      x = relu6("Conv1_relu")(norm("bn_Conv1")(x));
      let id = 0;
      for (const [filters, blocks, strides] of GROUPS) {
        const channels = rounded(Math.floor(filters * alpha));
        for (let i = 0; i < blocks; i++) x = block(x, channels, i === 0 ? strides : 1, id++);
      }
      const last = alpha > 1 ? rounded(1280 * alpha) : 1280;
      x = conv2d({ filters: last, kernelSize: 1, useBias: false, name: "Conv_1" })(x);
      return relu6("out_relu")(norm("Conv_1_bn")(x));
    },
    averaged(given),
  );
}
