// Batch normalisation over all axes but the last: gamma (x - mean) / sqrt(variance + epsilon) + beta. While training
// with the batch's mean and (biased) variance, else with their running means. A frozen layer always uses the running
// means.
import { batchNorm as batchNormOp } from "../../autograd/ops/batchnorm.js";
import { ShapeError } from "../../tensor/errors.js";
import { number } from "../../tensor/options.js";
import { lastAxisOnly } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

export interface BatchNormOptions extends LayerOptions {
  /** Share of the old running mean that a step keeps; default 0.99. */
  readonly momentum?: number;
  /** Added to the variance; default 1e-3. */
  readonly epsilon?: number;
}

export const BatchNormalization = defineLayer<BatchNormOptions>({
  className: "BatchNormalization",
  options: { momentum: number({ from: 0, to: 1 }), epsilon: number({ from: 0 }) },
  make({ momentum = 0.99, epsilon = 1e-3 }) {
    return {
      config: { momentum, epsilon },
      outputShape(shape) {
        if (shape.length > 0) return shape;
        throw new ShapeError("needs inputs of one axis or more, got []");
      },
      weights(inputShape) {
        const shape = inputShape.slice(-1);
        return [
          { name: "gamma", shape, initializer: "ones" },
          { name: "beta", shape },
          { name: "movingMean", shape, trainable: false },
          { name: "movingVariance", shape, initializer: "ones", trainable: false },
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
    check: lastAxisOnly,
  },
});

/** Batch normalisation over all axes but the last. */
export const batchNorm = (options: BatchNormOptions = {}): CallableLayer => BatchNormalization(options);
