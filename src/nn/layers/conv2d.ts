// Convolution of images: y = activation(x * kernel + bias), x [N, H, W, Cin], kernel [kh, kw, Cin / groups, filters].
import { conv2d as conv2dOp } from "../../autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../autograd/ops/conv2d-pool.js";
import { conv2dRules, pairRule } from "../../kernels/conv2d/geometry.js";
import { ShapeError } from "../../tensor/errors.js";
import { integer } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import { kernelSettings, kernelWritten, paddingSetting } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { type Affine, affineParts } from "./affine.js";
import { type KernelOptions, kernelConfig, kernelRules, kernelWeights } from "./dense.js";
import { type Padding, type Pair, pairOf, slide } from "./window.js";

export interface Conv2dOptions extends KernelOptions {
  /** Number of output channels. */
  readonly filters: number;
  readonly kernelSize: Pair;
  /** Default 1. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
  /** Default 1. */
  readonly dilations?: Pair;
  /** Groups of channels that see only themselves; divides both the inputs' and the filters. Default 1. */
  readonly groups?: number;
}

/** @throws ShapeError unless groups divide the channels on both sides */
export function requireGroups(groups: number, channels: number, filters: number): void {
  if (channels % groups === 0 && filters % groups === 0) return;
  throw new ShapeError(`needs channels and filters that ${groups} groups divide, got ${channels} and ${filters}`);
}

export const Conv2D = defineLayer<Conv2dOptions>({
  className: "Conv2D",
  options: {
    ...kernelRules,
    ...conv2dRules,
    filters: integer({ from: 1 }),
    kernelSize: pairRule,
    groups: integer({ from: 1 }),
  },
  required: ["filters", "kernelSize"],
  make(options) {
    const { filters, padding = "valid", groups = 1 } = options;
    const kernelSize = pairOf(options.kernelSize);
    const strides = pairOf(options.strides ?? 1);
    const dilations = pairOf(options.dilations ?? 1);
    const config = kernelConfig(options);
    const convolve = (padding: Padding): Affine => {
      const windows = { strides, padding, dilations };
      return {
        call: (x, { kernel, bias }, activation) =>
          conv2dOp(x, kernel!, { ...windows, groups, ...(bias && { bias }), activation }),
        ...(groups === 1 && {
          pooled: (x, { kernel, bias }, activation, pool) =>
            conv2dMaxPool2d(x, kernel!, { ...windows, ...(bias && { bias }), activation, pool }),
        }),
      };
    };
    return {
      // Only where there are several: earlier versions read the rest.
      config: { filters, kernelSize, strides, padding, dilations, ...(groups > 1 && { groups }), ...config },
      outputShape(shape) {
        const [height, width] = slide(shape, { size: kernelSize, strides, padding, dilations });
        requireGroups(groups, shape[2]!, filters);
        return [height, width, filters];
      },
      weights: (shape) => kernelWeights(config, [...kernelSize, shape[2]! / groups, filters]),
      // Each value of the output takes a window of all input channels of its group.
      multiplyAdds: (output, input) => (sizeOf(output) * sizeOf(kernelSize) * input[2]!) / groups,
      ...affineParts(convolve(padding), config.activation, padding === "valid" ? convolve : undefined),
    };
  },
  keras: {
    settings: {
      ...{ filters: "filters", kernelSize: "kernel_size", dilations: "dilation_rate" },
      ...{ strides: "strides", padding: paddingSetting, groups: "groups" },
      ...kernelSettings,
    },
    fixed: { data_format: "channels_last" },
    written: kernelWritten,
    turnedByTheano: true,
  },
});

/** Convolution of [N, height, width, channels]. */
export const conv2d = (options: Conv2dOptions): CallableLayer => Conv2D(options);
