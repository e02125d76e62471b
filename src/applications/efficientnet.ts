// EfficientNet-B0 (Tan, Le 2019): the blocks of MobileNetV2 with swish, kernels of 3 x 3 and 5 x 5, and a gate for each
// channel (squeeze and excitation). Keras's layers and names; pictures come as bytes, which its first layers prepare.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { activation } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { depthwiseConv2d } from "../nn/layers/depthwise-conv2d.js";
import { dropout } from "../nn/layers/dropout.js";
import { add, multiply } from "../nn/layers/merging.js";
import { zeroPadding2d } from "../nn/layers/padding.js";
import { globalAvgPool2d } from "../nn/layers/pooling.js";
import { normalization, rescaling } from "../nn/layers/preprocessing.js";
import { reshape } from "../nn/layers/reshape.js";
import { number } from "../tensor/options.js";
import {
  type ApplicationOptions,
  alphaRule,
  applicationRules,
  between,
  completed,
  paddingBefore,
  rounded,
} from "./parts.js";

export interface EfficientNetOptions extends ApplicationOptions {
  /** Factor of the channels, which are rounded to multiples of 8; default 1. */
  readonly alpha?: number;
  /** Share that is dropped before the classifier; default 0.2. */
  readonly dropout?: number;
  /** Share of blocks that are left out of a sample while training, of the last block; default 0.2. */
  readonly dropConnect?: number;
}

/** Kernel, blocks, channels, expansion, and the first block's stride. */
const GROUPS = [
  ...[
    [3, 1, 16, 1, 1],
    [3, 2, 24, 6, 2],
    [5, 2, 40, 6, 2],
    [3, 3, 80, 6, 2],
  ],
  ...[
    [5, 3, 112, 6, 1],
    [5, 4, 192, 6, 2],
    [3, 1, 320, 6, 1],
  ],
] as const;

// Keras draws these kernels by their fans out, which Kilograd has no initialiser for.
const kernelInitializer = "heNormal";
const pointwise = (filters: number, name: string) =>
  conv2d({ filters, kernelSize: 1, padding: "same", useBias: false, kernelInitializer, name });
const norm = (name: string) => batchNorm({ name });
const swish = (name: string) => activation("swish", { name });

/** x, each channel times a number from 0 to 1 that comes of all channels' means. */
function gated(x: GraphNode, inner: number, name: string): GraphNode {
  const filters = x.shape[2]!;
  const common = { kernelSize: 1, padding: "same", kernelInitializer } as const;
  let gate = globalAvgPool2d({ name: `${name}se_squeeze` })(x);
  gate = reshape([1, 1, filters], { name: `${name}se_reshape` })(gate);
  gate = conv2d({ ...common, filters: inner, activation: "swish", name: `${name}se_reduce` })(gate);
  gate = conv2d({ ...common, filters, activation: "sigmoid", name: `${name}se_expand` })(gate);
  return multiply({ name: `${name}se_excite` })([x, gate]);
}

interface BlockOptions {
  readonly kernelSize: number;
  readonly filters: number;
  readonly expansion: number;
  readonly strides: number;
  readonly drop: number;
  readonly name: string;
}

function block(given: GraphNode, { kernelSize, filters, expansion, strides, drop, name }: BlockOptions): GraphNode {
  const channels = given.shape[2]!;
  let x = given;
  if (expansion > 1) {
    x = norm(`${name}expand_bn`)(pointwise(channels * expansion, `${name}expand_conv`)(x));
    x = swish(`${name}expand_activation`)(x);
  }
  if (strides === 2) x = zeroPadding2d({ padding: paddingBefore(x, kernelSize), name: `${name}dwconv_pad` })(x);
  const windows = { kernelSize, strides, padding: strides === 2 ? "valid" : "same" } as const;
  const depthwiseInitializer = kernelInitializer;
  x = depthwiseConv2d({ ...windows, useBias: false, depthwiseInitializer, name: `${name}dwconv` })(x);
  x = swish(`${name}activation`)(norm(`${name}bn`)(x));
  x = gated(x, Math.max(1, Math.floor(channels / 4)), name);
  x = norm(`${name}project_bn`)(pointwise(filters, `${name}project_conv`)(x));
  if (strides > 1 || channels !== filters) return x;
  if (drop > 0) x = dropout({ rate: drop, noiseShape: [null, 1, 1, 1], name: `${name}drop` })(x);
  return add({ name: `${name}add` })([x, given]);
}

/**
 * EfficientNet-B0 for pictures from 0 to 255; 5,330,570 parameters, one less than Keras counts, which has a counter in
 * its normalisation.
 * @throws UsageError for options that it does not have, ShapeError for pictures that are too small
 * @example
 * const model = efficientNetB0({ inputShape: [64, 64, 3], classes: 5, alpha: 0.5 }).build({ device, seed: 1 });
 */
export function efficientNetB0(options: EfficientNetOptions = {}): Architecture {
  const published = { name: "efficientnetb0", inputShape: [224, 224, 3], classes: 1000 } as const;
  const share = number({ from: 0, below: 1 });
  const rules = { ...applicationRules, alpha: alphaRule, dropout: share, dropConnect: share };
  const given = completed<EfficientNetOptions>("efficientNetB0", options, rules, published);
  const { alpha = 1, dropout: rate = 0.2, dropConnect = 0.2, classes, classifierActivation } = given;
  const blocks = GROUPS.reduce((sum, [, count]) => sum + count!, 0);
  return between(
    given,
    (picture) => {
      let x = normalization()(rescaling({ scale: 1 / 255 })(picture));
      x = zeroPadding2d({ padding: paddingBefore(x, 3), name: "stem_conv_pad" })(x);
      const first = { filters: rounded(32 * alpha), kernelSize: 3, strides: 2, useBias: false } as const;
      x = conv2d({ ...first, kernelInitializer, name: "stem_conv" })(x);
      x = swish("stem_activation")(norm("stem_bn")(x));
      let number = 0;
      for (const [i, [kernelSize, count, channels, expansion, stride]] of GROUPS.entries()) {
        for (let j = 0; j < count!; j++) {
          x = block(x, {
            ...{ kernelSize: kernelSize!, expansion: expansion!, filters: rounded(channels! * alpha) },
            strides: j === 0 ? stride! : 1,
            drop: (dropConnect * number++) / blocks,
            name: `block${i + 1}${"abcd"[j]}_`,
          });
        }
      }
      return swish("top_activation")(norm("top_bn")(pointwise(rounded(1280 * alpha), "top_conv")(x)));
    },
    (features) => {
      let x = globalAvgPool2d({ name: "avg_pool" })(features);
      if (rate > 0) x = dropout({ rate, name: "top_dropout" })(x);
      return dense({ units: classes, activation: classifierActivation, name: "predictions" })(x);
    },
  );
}
