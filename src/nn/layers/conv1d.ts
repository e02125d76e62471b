// Convolution of sequences: y = activation(x * kernel + bias), x [N, L, Cin], kernel [k, Cin / groups, filters].
import { conv1d as conv1dOp } from "../../autograd/ops/conv1d.js";
import { windowAxis } from "../../kernels/conv2d/geometry.js";
import { integer, oneOf } from "../../tensor/options.js";
import { formatShape, sizeOf } from "../../tensor/shape.js";
import { kernelSettings, kernelWritten, onlySize } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { type Affine, affineParts } from "./affine.js";
import { requireGroups } from "./conv2d.js";
import { type KernelOptions, kernelConfig, kernelRules, kernelWeights } from "./dense.js";
import { lengthRule, requireSpatial } from "./window.js";

export interface Conv1dOptions extends KernelOptions {
  /** Number of output channels. */
  readonly filters: number;
  readonly kernelSize: number;
  /** Default 1. */
  readonly strides?: number;
  /** "valid" (default), "same", or "causal": what comes out sees nothing that is behind it. */
  readonly padding?: "valid" | "same" | "causal";
  /** Default 1. */
  readonly dilations?: number;
  /** Groups of channels that see only themselves; default 1. */
  readonly groups?: number;
}

export const Conv1D = defineLayer<Conv1dOptions>({
  className: "Conv1D",
  options: {
    ...kernelRules,
    ...{ filters: integer({ from: 1 }), kernelSize: lengthRule, strides: lengthRule, dilations: lengthRule },
    padding: oneOf("valid", "same", "causal"),
    groups: integer({ from: 1 }),
  },
  required: ["filters", "kernelSize"],
  make({ filters, kernelSize, strides = 1, padding = "valid", dilations = 1, groups = 1, ...options }) {
    const config = kernelConfig(options);
    const convolve: Affine["call"] = (x, { kernel, bias }, activation) =>
      conv1dOp(x, kernel!, { strides, padding, dilations, groups, ...(bias && { bias }), activation });
    return {
      config: { filters, kernelSize, strides, padding, dilations, groups, ...config },
      outputShape(shape) {
        requireSpatial(shape, 1);
        requireGroups(groups, shape[1]!, filters);
        const sizes = { input: shape[0]!, kernel: kernelSize, stride: strides, dilation: dilations };
        const cells = padding === "causal" ? ([dilations * (kernelSize - 1), 0] as const) : padding;
        return [windowAxis(`on ${formatShape(shape)}`, sizes, cells).output, filters];
      },
      weights: (shape) => kernelWeights(config, [kernelSize, shape[1]! / groups, filters]),
      multiplyAdds: (output, input) => (sizeOf(output) * kernelSize * input[1]!) / groups,
      ...affineParts({ call: convolve }, config.activation),
    };
  },
  keras: {
    settings: {
      ...{ filters: "filters", padding: "padding", groups: "groups" },
      ...{ kernelSize: onlySize("kernel_size"), strides: onlySize("strides"), dilations: onlySize("dilation_rate") },
      ...kernelSettings,
    },
    fixed: { data_format: "channels_last" },
    written: kernelWritten,
    turnedByTheano: true,
  },
});

/** Convolution of sequences [N, length, channels]. */
export const conv1d = (options: Conv1dOptions): CallableLayer => Conv1D(options);
