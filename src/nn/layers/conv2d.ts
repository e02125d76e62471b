// Convolution of images: y = activation(x * kernel + bias), x [N, H, W, Cin], kernel [kh, kw, Cin, filters].
import { conv2d as conv2dOp } from "../../autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../autograd/ops/conv2d-pool.js";
import { conv2dRules, pairRule } from "../../kernels/conv2d/geometry.js";
import { integer } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import { activate, splitActivation } from "../activations.js";
import { kernelSettings, kernelWritten, paddingSetting } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { type KernelOptions, kernelConfig, kernelRules, kernelWeights } from "./dense.js";
import { type Padding, type Pair, pairOf, slide, windowsOf } from "./window.js";

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
}

export const Conv2D = defineLayer<Conv2dOptions>({
  className: "Conv2D",
  options: { ...kernelRules, ...conv2dRules, filters: integer({ from: 1 }), kernelSize: pairRule },
  required: ["filters", "kernelSize"],
  make(options) {
    const { filters, padding = "valid" } = options;
    const kernelSize = pairOf(options.kernelSize);
    const strides = pairOf(options.strides ?? 1);
    const dilations = pairOf(options.dilations ?? 1);
    const config = kernelConfig(options);
    const { fused, after } = splitActivation(config.activation);
    return {
      config: { filters, kernelSize, strides, padding, dilations, ...config },
      activation: config.activation,
      outputShape: (shape) => [...slide(shape, { size: kernelSize, strides, padding, dilations }), filters],
      weights: (shape) => kernelWeights(config, [...kernelSize, shape[2]!, filters]),
      // Each value of the output takes a window of all input channels.
      multiplyAdds: (output, input) => sizeOf(output) * sizeOf(kernelSize) * input[2]!,
      call(x, { kernel, bias }, { omitActivation }) {
        const activation = omitActivation ? "linear" : fused;
        const y = conv2dOp(x, kernel!, { strides, padding, dilations, ...(bias && { bias }), activation });
        return omitActivation ? y : activate(y, after);
      },
      fuse(next) {
        // The pooling commutes with the fused activations, which increase.
        if (next.className !== "MaxPooling2D" || after !== "linear") return undefined;
        const pool = windowsOf(next.config);
        return (x, { kernel, bias }) =>
          conv2dMaxPool2d(x, kernel!, { strides, padding, dilations, ...(bias && { bias }), activation: fused, pool });
      },
    };
  },
  keras: {
    settings: {
      ...{ filters: "filters", kernelSize: "kernel_size", dilations: "dilation_rate" },
      ...{ strides: "strides", padding: paddingSetting },
      ...kernelSettings,
    },
    fixed: { data_format: "channels_last", groups: 1 },
    written: kernelWritten,
    turnedByTheano: true,
  },
});

/** Convolution of [N, height, width, channels]. */
export const conv2d = (options: Conv2dOptions): CallableLayer => Conv2D(options);
