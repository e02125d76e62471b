// Transposed convolution of images: every input pixel adds a kernel, times itself, to the output; strides lie between
// those. y = activation(convTranspose2d(x, kernel) + bias), x [N, H, W, Cin], kernel [kh, kw, filters, Cin].
import { convTranspose2d } from "../../autograd/ops/conv-transpose.js";
import { pairRule } from "../../kernels/conv2d/geometry.js";
import { UsageError } from "../../tensor/errors.js";
import { anyOf, integer, oneOf, oneOrPair } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import { activate, splitActivation } from "../activations.js";
import { kernelSettings, kernelWritten } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { type KernelOptions, kernelConfig, kernelRules } from "./dense.js";
import { type Pair, pairOf, requireSpatial } from "./window.js";

export interface Conv2dTransposeOptions extends KernelOptions {
  /** Number of output channels. */
  readonly filters: number;
  readonly kernelSize: Pair;
  /** Default 1. */
  readonly strides?: Pair;
  /** What is cut off: "valid" (default), nothing; "same", so that the output is the input's size times the strides. */
  readonly padding?: "valid" | "same";
  /**
   * Rows and columns more than (size - 1) strides + kernelSize, with "same" than (size - 1) strides + 1 (for an even
   * kernel one less). null (default): as the padding says.
   */
  readonly outputPadding?: Pair | null;
  /** Default 1. */
  readonly dilations?: Pair;
}

export const Conv2DTranspose = defineLayer<Conv2dTransposeOptions>({
  className: "Conv2DTranspose",
  options: {
    ...kernelRules,
    ...{ filters: integer({ from: 1 }), kernelSize: pairRule, strides: pairRule, dilations: pairRule },
    padding: oneOf("valid", "same"),
    outputPadding: {
      ...anyOf(oneOrPair(integer({ from: 0, to: 2 ** 16 })), { expected: "null", accepts: (value) => value === null }),
    },
  },
  required: ["filters", "kernelSize"],
  make(options) {
    const { filters, padding = "valid" } = options;
    const kernelSize = pairOf(options.kernelSize);
    const strides = pairOf(options.strides ?? 1);
    const dilations = pairOf(options.dilations ?? 1);
    const more = options.outputPadding == null ? null : pairOf(options.outputPadding);
    if (more?.some((size, k) => size >= strides[k]!)) {
      throw new UsageError(`Conv2DTranspose: outputPadding must be below the strides [${strides}], got [${more}]`);
    }
    const config = kernelConfig(options);
    const { fused, after } = splitActivation(config.activation);
    /** Of the output along an axis; the op has the same sizes. */
    const length = (size: number, k: 0 | 1) => {
      const extent = dilations[k] * (kernelSize[k] - 1) + 1;
      const between = (size - 1) * strides[k];
      if (padding === "valid") return between + extent + (more?.[k] ?? Math.max(strides[k] - extent, 0));
      return between + (more === null ? strides[k] : (extent % 2) + more[k]);
    };
    return {
      config: { filters, kernelSize, strides, padding, outputPadding: more, dilations, ...config },
      activation: config.activation,
      outputShape(shape) {
        requireSpatial(shape, 2);
        return [length(shape[0]!, 0), length(shape[1]!, 1), filters];
      },
      weights: (shape) => [
        {
          name: "kernel",
          shape: [...kernelSize, filters, shape[2]!],
          initializer: config.kernelInitializer,
          l2: config.kernelL2,
        },
        ...(config.useBias ? [{ name: "bias", shape: [filters], initializer: config.biasInitializer }] : []),
      ],
      multiplyAdds: (_, input) => sizeOf(input) * sizeOf(kernelSize) * filters,
      call(x, { kernel, bias }, { omitActivation }) {
        const sizes = { strides, padding, dilations, ...(more !== null && { outputPadding: more }) };
        const activation = omitActivation ? "linear" : fused;
        const y = convTranspose2d(x, kernel!, { ...sizes, ...(bias && { bias }), activation });
        return omitActivation ? y : activate(y, after);
      },
    };
  },
  keras: {
    settings: {
      ...{ filters: "filters", kernelSize: "kernel_size", dilations: "dilation_rate" },
      ...{ strides: "strides", padding: "padding", outputPadding: "output_padding" },
      ...kernelSettings,
    },
    fixed: { data_format: "channels_last" },
    written: kernelWritten,
    turnedByTheano: true,
  },
});

/** Transposed convolution of [N, height, width, channels], which is as high and wide as the strides make it. */
export const conv2dTranspose = (options: Conv2dTransposeOptions): CallableLayer => Conv2DTranspose(options);
