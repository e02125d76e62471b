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
import { type CallableLayer, defineLayer, type LayerOptions, layerRules } from "../layer.js";
import { commonConfig } from "./dense.js";
import { type Padding, type Pair, pairOf, slide } from "./window.js";

export interface Pool2dOptions extends LayerOptions {
  readonly poolSize: Pair;
  /** By default the pool size. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
}

const rules: Rules<Pool2dOptions> = { ...layerRules, ...pool2dRules };

function pool2d(className: string, op: typeof maxPool2dOp, given: Pair | Pool2dOptions): CallableLayer {
  const named = (object.accepts(given) ? given : { poolSize: given }) as Pool2dOptions;
  const options = checkOptions(className, named, rules, ["poolSize"]);
  const { padding = "valid" } = options;
  const poolSize = pairOf(options.poolSize);
  const strides = pairOf(options.strides ?? options.poolSize);
  return defineLayer({
    className,
    config: { poolSize, strides, padding, ...commonConfig(options) },
    gives: "summaries",
    outputShape: (shape) => [...slide(shape, { size: poolSize, strides, padding }), shape[2]!],
    call: (x) => op(x, { poolSize, strides, padding }),
  });
}

/** Maximum of each window; `maxPool2d(2)` is short for `maxPool2d({ poolSize: 2 })`. */
export function maxPool2d(options: Pair | Pool2dOptions): CallableLayer {
  return pool2d("MaxPooling2D", maxPool2dOp, options);
}

/** Mean of each window, without the cells that padding adds. */
export function avgPool2d(options: Pair | Pool2dOptions): CallableLayer {
  return pool2d("AveragePooling2D", avgPool2dOp, options);
}

/** Mean of each channel: [N, H, W, C] to [N, C]. */
export function globalAvgPool2d(options: LayerOptions = {}): CallableLayer {
  return defineLayer({
    className: "GlobalAveragePooling2D",
    config: commonConfig(checkOptions("GlobalAveragePooling2D", options, layerRules)),
    gives: "summaries",
    outputShape(shape) {
      if (shape.length !== 3) {
        throw new ShapeError(`needs images [height, width, channels], got ${formatShape(shape)}`);
      }
      return [shape[2]!];
    },
    call: (x) => globalAvgPool2dOp(x),
  });
}
