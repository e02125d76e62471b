// Pooling of images [N, H, W, C]: the maximum or mean of windows, or the mean of each whole channel.
import {
  avgPool2d as avgPool2dOp,
  globalAvgPool2d as globalAvgPool2dOp,
  maxPool2d as maxPool2dOp,
} from "../../autograd/ops/pool2d.js";
import { pool2dRules } from "../../kernels/pool2d.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, object, type Rules } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import { paddingSetting } from "../formats/keras-words.js";
import { type CallableLayer, commonConfig, defineLayerClass, type LayerOptions, layerRules } from "../layer.js";
import { type Padding, type Pair, pairOf, slide } from "./window.js";

export interface Pool2dOptions extends LayerOptions {
  readonly poolSize: Pair;
  /** By default the pool size. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
}

const rules: Rules<Pool2dOptions> = { ...layerRules, ...pool2dRules };

/** Pooling of windows is the same but for what a window gives. */
const pooling = (className: string, op: typeof maxPool2dOp) =>
  defineLayerClass({
    className,
    make(given: Pool2dOptions) {
      const options = checkOptions(className, given, rules, ["poolSize"]);
      const { padding = "valid" } = options;
      const poolSize = pairOf(options.poolSize);
      const strides = pairOf(options.strides ?? options.poolSize);
      return {
        config: { poolSize, strides, padding, ...commonConfig(options) },
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

const named = (options: Pair | Pool2dOptions) =>
  (object.accepts(options) ? options : { poolSize: options }) as Pool2dOptions;

/** Maximum of each window; `maxPool2d(2)` is short for `maxPool2d({ poolSize: 2 })`. */
export const maxPool2d = (options: Pair | Pool2dOptions): CallableLayer => MaxPooling2D.make(named(options));

/** Mean of each window, without the cells that padding adds. */
export const avgPool2d = (options: Pair | Pool2dOptions): CallableLayer => AveragePooling2D.make(named(options));

export const GlobalAveragePooling2D = defineLayerClass({
  className: "GlobalAveragePooling2D",
  make: (options: LayerOptions) => ({
    config: commonConfig(checkOptions("GlobalAveragePooling2D", options, layerRules)),
    gives: "summaries",
    outputShape(shape) {
      if (shape.length !== 3) {
        throw new ShapeError(`needs images [height, width, channels], got ${formatShape(shape)}`);
      }
      return [shape[2]!];
    },
    call: (x) => globalAvgPool2dOp(x),
  }),
  keras: { fixed: { data_format: "channels_last", keepdims: false } },
});

/** Mean of each channel: [N, H, W, C] to [N, C]. */
export const globalAvgPool2d = (options: LayerOptions = {}): CallableLayer => GlobalAveragePooling2D.make(options);
