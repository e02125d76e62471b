// Layer normalisation: gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of each sample (at
// each position) along some axes, by default the channels.
import { standardize } from "../../autograd/ops/standardize.js";
import { reshape } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyOf, integer, listOf } from "../../tensor/options.js";
import { formatShape, normalizeAxes, type Shape } from "../../tensor/shape.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import {
  type ScaleOptions,
  scaleConfig,
  scaled,
  scaleRules,
  scaleSettings,
  scaleWeights,
  scaleWritten,
} from "./standardize.js";

export interface LayerNormOptions extends ScaleOptions {
  /** Axis or axes of [N, ...shape], not that of the batch; default -1. */
  readonly axis?: number | readonly number[];
}

export const LayerNormalization = defineLayer<LayerNormOptions>({
  className: "LayerNormalization",
  options: { ...scaleRules, axis: anyOf(integer(), listOf(integer(), { from: 1 })) },
  make({ axis = -1, ...options }) {
    const config = scaleConfig(options);
    /** Sorted axes of [N, ...shape]. */
    const axesOf = (shape: Shape): number[] => {
      const axes = [...normalizeAxes("axis", [axis].flat(), shape.length + 1)].sort((a, b) => a - b);
      if (axes[0] === 0) {
        throw new ShapeError(`needs axes besides that of the batch, 0, got ${[axis].flat()} for ${formatShape(shape)}`);
      }
      return axes;
    };
    /** Of gamma and beta: in the order of Keras, which sorts negative axes before the others. */
    const sizesOf = (shape: Shape) =>
      [axis]
        .flat()
        .sort((a, b) => a - b)
        .map((each) => shape.at(each < 0 ? each : each - 1)!);
    return {
      config: { axis, ...config },
      outputShape(shape) {
        axesOf(shape);
        return shape;
      },
      weights: (shape) => scaleWeights(config, sizesOf(shape)),
      call(x, { gamma, beta }) {
        const axes = axesOf(x.shape.slice(1));
        const kept = x.shape.map((size, each) => (axes.includes(each) ? size : 1));
        const spread = (weight: typeof gamma) => weight && reshape(weight, kept);
        return scaled(standardize(x, axes, config.epsilon), spread(gamma), spread(beta));
      },
    };
  },
  keras: {
    settings: { axis: "axis", ...scaleSettings },
    fixedIfGiven: { rms_scaling: false },
    written: scaleWritten,
  },
});

/** Layer normalisation (Ba et al. 2016) along the channels, or other axes. */
export const layerNorm = (options: LayerNormOptions = {}): CallableLayer => LayerNormalization(options);
