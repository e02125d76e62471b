// Pooling of images [N, H, W, C] and of sequences [N, L, C]: the maximum or mean of windows, or of each whole channel.
import { avgPool2d as avgPool2dOp, maxPool2d as maxPool2dOp } from "../../autograd/ops/pool2d.js";
import { max, mean } from "../../autograd/ops/reduce.js";
import { expandDims, reshape } from "../../autograd/ops/transform.js";
import { pool2dRules } from "../../kernels/pool2d.js";
import { boolean, oneOf } from "../../tensor/options.js";
import { onlySize, paddingSetting } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { lengthRule, type Padding, type Pair, pairOf, requireSpatial, shortFor, slide } from "./window.js";

export interface Pool2dOptions extends LayerOptions {
  readonly poolSize: Pair;
  /** By default the pool size. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
}

/** Pooling of windows is the same but for what a window gives. */
const pooling = (className: string, op: typeof maxPool2dOp) =>
  defineLayer<Pool2dOptions>({
    className,
    options: pool2dRules,
    required: ["poolSize"],
    make(options) {
      const { padding = "valid" } = options;
      const poolSize = pairOf(options.poolSize);
      const strides = pairOf(options.strides ?? options.poolSize);
      return {
        config: { poolSize, strides, padding },
        gives: "summaries",
        outputShape: (shape) => [...slide(shape, { size: poolSize, strides, padding }), shape[2]!],
        call: (x) => op(x, { poolSize, strides, padding }),
      };
    },
    keras: {
      settings: { poolSize: "pool_size", strides: "strides", padding: paddingSetting },
      fixed: { data_format: "channels_last" },
    },
  });

export const MaxPooling2D = pooling("MaxPooling2D", maxPool2dOp);
export const AveragePooling2D = pooling("AveragePooling2D", avgPool2dOp);

/** Maximum of each window; `maxPool2d(2)` is short for `maxPool2d({ poolSize: 2 })`. */
export const maxPool2d = (options: Pair | Pool2dOptions): CallableLayer => MaxPooling2D(shortFor("poolSize", options));

/** Mean of each window, without the cells that padding adds. */
export const avgPool2d = (options: Pair | Pool2dOptions): CallableLayer =>
  AveragePooling2D(shortFor("poolSize", options));

export interface GlobalPoolOptions extends LayerOptions {
  /** Keeps axes that are pooled, with size 1; default false. */
  readonly keepDims?: boolean;
}

/** Pooling of all positions of a channel, of [N, L, C] or [N, H, W, C]. */
const globalPooling = (className: string, op: typeof mean, positions: 1 | 2) =>
  defineLayer<GlobalPoolOptions>({
    className,
    options: { keepDims: boolean },
    make({ keepDims = false }) {
      const axes = positions === 1 ? [1] : [1, 2];
      return {
        config: { keepDims },
        gives: "summaries",
        outputShape(shape) {
          requireSpatial(shape, positions);
          return keepDims ? shape.map((size, axis) => (axis < positions ? 1 : size)) : shape.slice(-1);
        },
        call: (x) => op(x, { axes, keepDims }),
      };
    },
    keras: { settings: { keepDims: "keepdims" }, fixed: { data_format: "channels_last" } },
  });

export const GlobalAveragePooling1D = globalPooling("GlobalAveragePooling1D", mean, 1);
export const GlobalAveragePooling2D = globalPooling("GlobalAveragePooling2D", mean, 2);
export const GlobalMaxPooling1D = globalPooling("GlobalMaxPooling1D", max, 1);
export const GlobalMaxPooling2D = globalPooling("GlobalMaxPooling2D", max, 2);

/** Mean of each channel: [N, L, C] to [N, C]. */
export const globalAvgPool1d = (options: GlobalPoolOptions = {}): CallableLayer => GlobalAveragePooling1D(options);

/** Mean of each channel: [N, H, W, C] to [N, C]. */
export const globalAvgPool2d = (options: GlobalPoolOptions = {}): CallableLayer => GlobalAveragePooling2D(options);

/** Maximum of each channel: [N, L, C] to [N, C]. Elements that tie share the gradient. */
export const globalMaxPool1d = (options: GlobalPoolOptions = {}): CallableLayer => GlobalMaxPooling1D(options);

/** Maximum of each channel: [N, H, W, C] to [N, C]. Elements that tie share the gradient. */
export const globalMaxPool2d = (options: GlobalPoolOptions = {}): CallableLayer => GlobalMaxPooling2D(options);

export interface Pool1dOptions extends LayerOptions {
  /** Default 2. */
  readonly poolSize?: number;
  /** By default the pool size. */
  readonly strides?: number;
  /** Default "valid". */
  readonly padding?: "valid" | "same";
}

/** As in two dimensions, of images of height 1. */
const pooling1d = (className: string, op: typeof maxPool2dOp) =>
  defineLayer<Pool1dOptions>({
    className,
    options: { poolSize: lengthRule, strides: lengthRule, padding: oneOf("valid", "same") },
    make({ poolSize = 2, strides = poolSize, padding = "valid" }) {
      const windows = { poolSize: [1, poolSize], strides: [1, strides], padding } as const;
      return {
        config: { poolSize, strides, padding },
        gives: "summaries",
        outputShape(shape) {
          requireSpatial(shape, 1);
          const size = windows.poolSize;
          return [slide([1, ...shape], { size, strides: windows.strides, padding })[1], shape[1]!];
        },
        call(x) {
          const y = op(expandDims(x, 1), windows);
          return reshape(y, [y.shape[0]!, y.shape[2]!, y.shape[3]!]);
        },
      };
    },
    keras: {
      settings: { poolSize: onlySize("pool_size"), strides: onlySize("strides"), padding: "padding" },
      fixed: { data_format: "channels_last" },
    },
  });

export const MaxPooling1D = pooling1d("MaxPooling1D", maxPool2dOp);
export const AveragePooling1D = pooling1d("AveragePooling1D", avgPool2dOp);

/** Maximum of each window of [N, L, C]; `maxPool1d(2)` is short for `maxPool1d({ poolSize: 2 })`. */
export const maxPool1d = (options: number | Pool1dOptions = {}): CallableLayer =>
  MaxPooling1D(shortFor("poolSize", options));

/** Mean of each window of [N, L, C], without the cells that padding adds. */
export const avgPool1d = (options: number | Pool1dOptions = {}): CallableLayer =>
  AveragePooling1D(shortFor("poolSize", options));
