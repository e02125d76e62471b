// Group normalisation: gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of each sample over
// all positions of a group of channels. With one channel a group it is instance normalisation.
import { standardize } from "../../autograd/ops/standardize.js";
import { reshape } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { checkOptions, integer } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import { lastAxisOnly } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, layerRules } from "../layer.js";
import {
  type ScaleOptions,
  scaleConfig,
  scaled,
  scaleRules,
  scaleSettings,
  scaleWeights,
  scaleWritten,
} from "./standardize.js";

export interface GroupNormOptions extends ScaleOptions {
  /** Number of groups, which divides that of the channels; -1: a group for each channel. Default 32. */
  readonly groups?: number;
}

export const GroupNormalization = defineLayer<GroupNormOptions>({
  className: "GroupNormalization",
  options: { ...scaleRules, groups: integer({ from: -1 }) },
  make({ groups = 32, ...options }) {
    if (groups === 0) throw new UsageError("GroupNormalization: groups must be a whole number from 1, or -1, got 0");
    const config = scaleConfig(options);
    const groupsOf = (channels: number) => (groups === -1 ? channels : groups);
    return {
      config: { groups, ...config },
      outputShape(shape) {
        const channels = shape.at(-1);
        if (channels === undefined || channels % groupsOf(channels) !== 0) {
          throw new ShapeError(`needs channels that ${groups} groups divide, got ${formatShape(shape)}`);
        }
        return shape;
      },
      weights: (shape) => scaleWeights(config, shape.slice(-1)),
      call(x, { gamma, beta }) {
        const channels = x.shape.at(-1)!;
        const count = groupsOf(channels);
        const grouped = reshape(x, [...x.shape.slice(0, -1), count, channels / count]);
        const axes = grouped.shape.flatMap((_, axis) => (axis === 0 || axis === grouped.rank - 2 ? [] : [axis]));
        return scaled(reshape(standardize(grouped, axes, config.epsilon), x.shape), gamma, beta);
      },
    };
  },
  keras: {
    settings: { groups: "groups", ...scaleSettings },
    written: { axis: -1, ...scaleWritten },
    check: lastAxisOnly,
  },
});

/** Group normalisation (Wu, He 2018) of [N, ..., C]. */
export const groupNorm = (options: GroupNormOptions = {}): CallableLayer => GroupNormalization(options);

/** Instance normalisation (Ulyanov et al. 2016): group normalisation with a group for each channel. */
export const instanceNorm = (options: ScaleOptions = {}): CallableLayer =>
  GroupNormalization({ ...checkOptions("instanceNorm", options, { ...layerRules, ...scaleRules }), groups: -1 });
