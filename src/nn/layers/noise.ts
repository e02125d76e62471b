// Noise while training: normal noise added to the inputs or multiplied with them, and channels dropped as a whole.

import { ones } from "../../autograd/ops/create.js";
import { dropout } from "../../autograd/ops/dropout.js";
import { add, mul } from "../../autograd/ops/elementwise.js";
import { randomNormal } from "../../autograd/ops/random.js";
import { number } from "../../tensor/options.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { requireSpatial, shortFor } from "./window.js";

export interface GaussianNoiseOptions extends LayerOptions {
  /** Standard deviation of the noise, from 0. */
  readonly stddev: number;
}

export interface RateOptions extends LayerOptions {
  /** Share that is dropped, in [0, 1). */
  readonly rate: number;
}

const rateRule = number({ from: 0, below: 1 });

export const GaussianNoise = defineLayer<GaussianNoiseOptions>({
  className: "GaussianNoise",
  options: { stddev: number({ from: 0 }) },
  required: ["stddev"],
  make: ({ stddev }) => ({
    config: { stddev },
    gives: stddev === 0 ? "elements" : "survivors",
    call: (x, _, { training, key }) =>
      training && stddev > 0 ? add(x, randomNormal(x.device, x.shape, key, { standardDeviation: stddev })) : x,
  }),
  keras: { settings: { stddev: "stddev" } },
});

export const GaussianDropout = defineLayer<RateOptions>({
  className: "GaussianDropout",
  options: { rate: rateRule },
  required: ["rate"],
  make({ rate }) {
    // As much variance as dropout of that rate has.
    const standardDeviation = Math.sqrt(rate / (1 - rate));
    return {
      config: { rate },
      gives: rate === 0 ? "elements" : "survivors",
      call: (x, _, { training, key }) =>
        training && rate > 0 ? mul(x, randomNormal(x.device, x.shape, key, { mean: 1, standardDeviation })) : x,
    };
  },
  keras: { settings: { rate: "rate" } },
});

/** Drops channels; a mask [N, 1, ..., C] of 0 and 1 / (1 - rate) stands for all positions of a channel. */
const spatialDropout = (className: string, axes: number) =>
  defineLayer<RateOptions>({
    className,
    options: { rate: rateRule },
    required: ["rate"],
    make: ({ rate }) => ({
      config: { rate },
      gives: rate === 0 ? "elements" : "survivors",
      outputShape(shape) {
        requireSpatial(shape, axes);
        return shape;
      },
      call(x, _, { training, key }) {
        if (!training || rate === 0) return x;
        const channels = x.shape.map((size, axis) => (axis === 0 || axis === x.rank - 1 ? size : 1));
        return mul(x, dropout(ones(x.device, channels), { rate, key }));
      },
    }),
    keras: {
      settings: { rate: "rate" },
      fixedIfGiven: { data_format: "channels_last" },
      refused: ["trainable"],
    },
  });

export const SpatialDropout1D = spatialDropout("SpatialDropout1D", 1);
export const SpatialDropout2D = spatialDropout("SpatialDropout2D", 2);

/**
 * Adds normal noise while training; `gaussianNoise(0.1)` is short for `gaussianNoise({ stddev: 0.1 })`.
 */
export const gaussianNoise = (options: number | GaussianNoiseOptions): CallableLayer =>
  GaussianNoise(shortFor("stddev", options));

/** Multiplies with normal noise of mean 1 and variance rate / (1 - rate) while training (Srivastava et al. 2014). */
export const gaussianDropout = (options: number | RateOptions): CallableLayer =>
  GaussianDropout(shortFor("rate", options));

/** Drops whole channels of [N, L, C] while training. */
export const spatialDropout1d = (options: number | RateOptions): CallableLayer =>
  SpatialDropout1D(shortFor("rate", options));

/** Drops whole channels of images [N, H, W, C] while training (Tompson et al. 2014). */
export const spatialDropout2d = (options: number | RateOptions): CallableLayer =>
  SpatialDropout2D(shortFor("rate", options));
