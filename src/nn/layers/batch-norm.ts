// Batch normalisation over all axes but the last: gamma (x - mean) / sqrt(variance + epsilon) + beta. While training
// with the batch's mean and (biased) variance, else with their running means. A frozen layer always uses the running
// means.
import { batchNorm as batchNormOp } from "../../autograd/ops/batchnorm.js";
import { DataError, ShapeError } from "../../tensor/errors.js";
import { checkOptions, number, type Rules } from "../../tensor/options.js";
import { type CallableLayer, commonConfig, defineLayerClass, type LayerOptions, layerRules, weight } from "../layer.js";

export interface BatchNormOptions extends LayerOptions {
  /** Share of the old running mean that a step keeps; default 0.99. */
  readonly momentum?: number;
  /** Added to the variance; default 1e-3. */
  readonly epsilon?: number;
}

const rules: Rules<BatchNormOptions> = {
  ...layerRules,
  momentum: number({ from: 0, to: 1 }),
  epsilon: number({ from: 0 }),
};

export const BatchNormalization = defineLayerClass({
  className: "BatchNormalization",
  make(given: BatchNormOptions) {
    const options = checkOptions("BatchNormalization", given, rules);
    const { momentum = 0.99, epsilon = 1e-3 } = options;
    const one = { name: "constant", value: 1 } as const;
    return {
      config: { momentum, epsilon, ...commonConfig(options) },
      outputShape(shape) {
        if (shape.length > 0) return shape;
        throw new ShapeError("needs inputs of one axis or more, got []");
      },
      weights(inputShape) {
        const shape = [inputShape.at(-1)!];
        return [
          weight({ name: "gamma", shape, initializer: one }),
          weight({ name: "beta", shape }),
          weight({ name: "movingMean", shape, trainable: false }),
          weight({ name: "movingVariance", shape, initializer: one, trainable: false }),
        ];
      },
      call: (x, { gamma, beta, movingMean, movingVariance }, { training }) =>
        batchNormOp(x, {
          gamma: gamma!,
          beta: beta!,
          runningMean: movingMean!,
          runningVariance: movingVariance!,
          training,
          momentum,
          epsilon,
        }),
    };
  },
  keras: {
    settings: { momentum: "momentum", epsilon: "epsilon" },
    fixed: { center: true, scale: true },
    written: { axis: -1 },
    weights: { movingMean: "moving_mean", movingVariance: "moving_variance" },
    // Of another axis than the last it is another function. Keras counts the batch axis; tf.keras wrote a list.
    check({ axis: given }, { inputShape }, where) {
      const axis = [given ?? -1].flat()[0];
      if (axis === -1 || axis === inputShape.length) return;
      throw new DataError(`${where}: axis must be the last, -1 or ${inputShape.length}, is ${axis}`);
    },
  },
});

/** Batch normalisation over all axes but the last. */
export const batchNorm = (options: BatchNormOptions = {}): CallableLayer => BatchNormalization.make(options);
