// Depthwise convolution, of every channel by itself, and separable convolution: a depthwise one, then one of 1 x 1
// across channels. x [N, H, W, C], depthwise kernel [kh, kw, C, depthMultiplier], pointwise [1, 1, C depthMultiplier,
// filters].
import { conv2d as conv2dOp } from "../../autograd/ops/conv2d.js";
import { depthwiseConv2d as depthwiseConv2dOp } from "../../autograd/ops/grouped-conv2d.js";
import { conv2dRules, pairRule } from "../../kernels/conv2d/geometry.js";
import { integer, number } from "../../tensor/options.js";
import { type Shape, sizeOf } from "../../tensor/shape.js";
import {
  activationSetting,
  initializerSetting,
  type KerasWords,
  kernelWritten,
  paddingSetting,
  penaltySetting,
} from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { type Affine, affineParts } from "./affine.js";
import { type KernelOptions, kernelConfig, kernelRules } from "./dense.js";
import { type Padding, type Pair, pairOf, slide } from "./window.js";

/** Options of what slides over images with a kernel for each channel; Keras's defaults. */
export interface DepthwiseConv2dOptions extends Omit<KernelOptions, "kernelInitializer" | "kernelL2"> {
  readonly kernelSize: Pair;
  /** Default 1. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
  /** Default 1. */
  readonly dilations?: Pair;
  /** Outputs for each channel; default 1. */
  readonly depthMultiplier?: number;
  /** Default "glorotUniform". */
  readonly depthwiseInitializer?: InitializerOption;
  /** Adds depthwiseL2 * sum(kernel^2) to the training loss; default 0. */
  readonly depthwiseL2?: number;
}

export interface SeparableConv2dOptions extends DepthwiseConv2dOptions {
  /** Number of output channels. */
  readonly filters: number;
  /** Default "glorotUniform". */
  readonly pointwiseInitializer?: InitializerOption;
  /** Adds pointwiseL2 * sum(kernel^2) to the training loss; default 0. */
  readonly pointwiseL2?: number;
}

const { kernelInitializer: _, kernelL2: __, ...commonRules } = kernelRules;
const depthwiseRules = {
  ...commonRules,
  ...conv2dRules,
  kernelSize: pairRule,
  depthMultiplier: integer({ from: 1 }),
  depthwiseInitializer: initializerRule,
  depthwiseL2: number({ from: 0 }),
};

/** Completes the options. */
function depthwiseConfig(options: DepthwiseConv2dOptions) {
  const { padding = "valid", depthMultiplier = 1, depthwiseL2 = 0 } = options;
  const { activation, useBias, biasInitializer } = kernelConfig(options);
  return {
    kernelSize: pairOf(options.kernelSize),
    strides: pairOf(options.strides ?? 1),
    padding,
    dilations: pairOf(options.dilations ?? 1),
    ...{ depthMultiplier, depthwiseL2, activation, useBias, biasInitializer },
    depthwiseInitializer: initializerOf(options.depthwiseInitializer ?? "glorotUniform"),
  };
}

const depthwiseSettings: KerasWords["settings"] = {
  ...{ kernelSize: "kernel_size", strides: "strides", padding: paddingSetting, dilations: "dilation_rate" },
  ...{ depthMultiplier: "depth_multiplier", activation: activationSetting, useBias: "use_bias" },
  depthwiseInitializer: initializerSetting("depthwise_initializer"),
  biasInitializer: initializerSetting("bias_initializer"),
  depthwiseL2: penaltySetting("depthwise_regularizer"),
};
const { kernel_constraint: ___, ...written } = kernelWritten;

export const DepthwiseConv2D = defineLayer<DepthwiseConv2dOptions>({
  className: "DepthwiseConv2D",
  options: depthwiseRules,
  required: ["kernelSize"],
  make(options) {
    const config = depthwiseConfig(options);
    const { kernelSize, strides, padding, dilations, depthMultiplier, activation } = config;
    const channels = (shape: Shape) => shape[2]! * depthMultiplier;
    const convolve = (padding: Padding): Affine => ({
      call: (x, { kernel, bias }, activation) =>
        depthwiseConv2dOp(x, kernel!, { strides, padding, dilations, ...(bias && { bias }), activation }),
    });
    return {
      config,
      outputShape: (shape) => [...slide(shape, { size: kernelSize, strides, padding, dilations }), channels(shape)],
      weights: (shape) => [
        {
          name: "kernel",
          shape: [...kernelSize, shape[2]!, depthMultiplier],
          initializer: config.depthwiseInitializer,
          l2: config.depthwiseL2,
        },
        ...(config.useBias ? [{ name: "bias", shape: [channels(shape)], initializer: config.biasInitializer }] : []),
      ],
      multiplyAdds: (output) => sizeOf(output) * sizeOf(kernelSize),
      ...affineParts(convolve(padding), activation, padding === "valid" ? convolve : undefined),
    };
  },
  keras: {
    settings: depthwiseSettings,
    fixed: { data_format: "channels_last" },
    written: { ...written, depthwise_constraint: null },
  },
});

export const SeparableConv2D = defineLayer<SeparableConv2dOptions>({
  className: "SeparableConv2D",
  options: {
    ...depthwiseRules,
    filters: integer({ from: 1 }),
    pointwiseInitializer: initializerRule,
    pointwiseL2: number({ from: 0 }),
  },
  required: ["filters", "kernelSize"],
  make({ filters, pointwiseL2 = 0, ...options }) {
    const config = depthwiseConfig(options);
    const { kernelSize, strides, padding, dilations, depthMultiplier, activation } = config;
    const pointwiseInitializer = initializerOf(options.pointwiseInitializer ?? "glorotUniform");
    const separable: Affine["call"] = (x, { depthwiseKernel, kernel, bias }, activation) => {
      const channels = depthwiseConv2dOp(x, depthwiseKernel!, { strides, padding, dilations });
      return conv2dOp(channels, kernel!, { ...(bias && { bias }), activation });
    };
    return {
      config: { filters, ...config, pointwiseInitializer, pointwiseL2 },
      outputShape: (shape) => [...slide(shape, { size: kernelSize, strides, padding, dilations }), filters],
      weights: ([, , channels]) => [
        {
          name: "depthwiseKernel",
          shape: [...kernelSize, channels!, depthMultiplier],
          initializer: config.depthwiseInitializer,
          l2: config.depthwiseL2,
        },
        {
          name: "pointwiseKernel",
          shape: [1, 1, channels! * depthMultiplier, filters],
          initializer: pointwiseInitializer,
          l2: pointwiseL2,
        },
        ...(config.useBias ? [{ name: "bias", shape: [filters], initializer: config.biasInitializer }] : []),
      ],
      multiplyAdds(output, input) {
        const each = depthMultiplier * input[2]!;
        return sizeOf(output.slice(0, 2)) * each * (sizeOf(kernelSize) + filters);
      },
      ...affineParts({ call: separable, kernel: "pointwiseKernel" }, activation),
    };
  },
  keras: {
    settings: {
      filters: "filters",
      ...depthwiseSettings,
      pointwiseInitializer: initializerSetting("pointwise_initializer"),
      pointwiseL2: penaltySetting("pointwise_regularizer"),
    },
    fixed: { data_format: "channels_last" },
    written: { ...written, depthwise_constraint: null, pointwise_constraint: null },
    weights: { depthwiseKernel: "depthwise_kernel", pointwiseKernel: "pointwise_kernel" },
  },
});

/** Convolution of every channel of [N, height, width, channels] by itself. */
export const depthwiseConv2d = (options: DepthwiseConv2dOptions): CallableLayer => DepthwiseConv2D(options);

/** Depthwise convolution, then one of 1 x 1 across channels (Chollet 2017). */
export const separableConv2d = (options: SeparableConv2dOptions): CallableLayer => SeparableConv2D(options);
