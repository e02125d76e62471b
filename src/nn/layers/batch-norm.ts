// Batch normalisation over all axes but the last: gamma (x - mean) / sqrt(variance + epsilon) + beta. While training
// with the batch's mean and (biased) variance, else with their running means. A frozen layer always uses the running
// means. An activation after it is part of the same passes.
import { batchNorm as batchNormOp } from "../../autograd/ops/batchnorm.js";
import type { FusedActivation } from "../../kernels/activation.js";
import { ShapeError } from "../../tensor/errors.js";
import { number } from "../../tensor/options.js";
import type { Tensor } from "../../tensor/tensor.js";
import { lastAxisOnly } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer } from "../layer.js";
import { activationOf } from "./affine.js";
import {
  type ScaleOptions,
  scaleConfig,
  scaleRules,
  scaleSettings,
  scaleWeights,
  scaleWritten,
} from "./standardize.js";

export interface BatchNormOptions extends ScaleOptions {
  /** Share of the old running mean that a step keeps; default 0.99. */
  readonly momentum?: number;
}

export const BatchNormalization = defineLayer<BatchNormOptions>({
  className: "BatchNormalization",
  options: { ...scaleRules, momentum: number({ from: 0, to: 1 }) },
  make({ momentum = 0.99, ...options }) {
    const config = scaleConfig(options);
    const normalise = (
      x: Tensor,
      { gamma, beta, movingMean, movingVariance }: Readonly<Record<string, Tensor>>,
      training: boolean,
      activation: FusedActivation = "linear",
    ) =>
      batchNormOp(x, {
        ...(gamma && { gamma }),
        ...(beta && { beta }),
        ...{ runningMean: movingMean!, runningVariance: movingVariance! },
        ...{ training, momentum, epsilon: config.epsilon, activation },
      });
    return {
      config: { momentum, ...config },
      outputShape(shape) {
        if (shape.length > 0) return shape;
        throw new ShapeError("needs inputs of one axis or more, got []");
      },
      weights(inputShape) {
        const shape = inputShape.slice(-1);
        return [
          ...scaleWeights(config, shape),
          { name: "movingMean", shape, trainable: false },
          { name: "movingVariance", shape, initializer: "ones", trainable: false },
        ];
      },
      call: (x, weights, { training }) => normalise(x, weights, training),
      fuse(next) {
        const activation = activationOf(next);
        return activation && { call: (x, [weights], [training]) => normalise(x, weights!, training!, activation) };
      },
    };
  },
  keras: {
    settings: { momentum: "momentum", ...scaleSettings },
    // Renormalisation has further weights.
    fixedIfGiven: { renorm: false },
    written: { axis: -1, ...scaleWritten },
    weights: { movingMean: "moving_mean", movingVariance: "moving_variance" },
    check: lastAxisOnly,
  },
});

/** Batch normalisation over all axes but the last. */
export const batchNorm = (options: BatchNormOptions = {}): CallableLayer => BatchNormalization(options);
