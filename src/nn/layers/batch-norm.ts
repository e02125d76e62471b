// Batch normalisation over all axes but the last: gamma (x - mean) / sqrt(variance + epsilon) + beta. While training with
// the batch's mean and (biased) variance, else with their running means. A frozen layer always uses the running means.
import { batchNorm as batchNormOp } from "../../autograd/ops/batchnorm.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, number, type Rules } from "../../tensor/options.js";
import { type CallableLayer, defineLayer, type LayerOptions, layerRules, weight } from "../layer.js";
import { commonConfig } from "./dense.js";

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

/** Batch normalisation over all axes but the last. */
export function batchNorm(given: BatchNormOptions = {}): CallableLayer {
  const options = checkOptions("BatchNormalization", given, rules);
  const { momentum = 0.99, epsilon = 1e-3 } = options;
  const one = { name: "constant", value: 1 } as const;
  return defineLayer({
    className: "BatchNormalization",
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
  });
}
