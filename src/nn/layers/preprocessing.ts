// Preparation of inputs within a model: rescaling, and normalisation by mean and variance of the data, which `adapt`
// finds.
import { add, div, maximum, mul, sqrt, sub } from "../../autograd/ops/elementwise.js";
import { reshape } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { anyOf, array, boolean, integer, listOf, number, type Rule } from "../../tensor/options.js";
import { formatShape, normalizeAxes, type Shape, sizeOf } from "../../tensor/shape.js";
import { type NestedArray, type Tensor, tensor } from "../../tensor/tensor.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

export interface RescalingOptions extends LayerOptions {
  /** Such as 1 / 255. */
  readonly scale: number;
  /** Default 0. */
  readonly offset?: number;
}

export const Rescaling = defineLayer<RescalingOptions>({
  className: "Rescaling",
  options: { scale: number(), offset: number() },
  required: ["scale"],
  make: ({ scale, offset = 0 }) => ({
    config: { scale, offset },
    gives: "summaries",
    call(x) {
      const y = mul(x, scale);
      return offset === 0 ? y : add(y, offset);
    },
  }),
  keras: { settings: { scale: "scale", offset: "offset" } },
});

export interface NormalizationOptions extends LayerOptions {
  /** Axis or axes of [N, ...shape] that have statistics of their own; null: one for all. Default -1. */
  readonly axis?: number | readonly number[] | null;
  /** Where it is known: a number, or one for each position along the axes. Then there are no weights. */
  readonly mean?: NestedArray;
  /** As the mean; both or none. */
  readonly variance?: NestedArray;
  /** Undoes the normalisation instead; default false. */
  readonly invert?: boolean;
}

/** Below it a standard deviation counts as this, as in Keras. */
const LEAST_DEVIATION = 1e-7;

const finite = number();
const nested: Rule = {
  expected: "a number, or lists of numbers",
  accepts: (value) => finite.accepts(value) || (array.accepts(value) && flat(value).every(finite.accepts)),
};
const flat = (value: unknown): unknown[] => (Array.isArray(value) ? value.flat(8) : [value]);
const axisRule: Rule = {
  expected: "a whole number, a list of them, or null",
  accepts: (value) => value === null || anyOf(integer(), listOf(integer())).accepts(value),
};

/** Axes of [N, ...shape] with statistics of their own, and their sizes. @throws ShapeError for others */
export function statisticsAxes(axis: number | readonly number[] | null, shape: Shape) {
  const axes = [...normalizeAxes("axis", axis === null ? [] : [axis].flat(), shape.length + 1)].sort((a, b) => a - b);
  if (axes[0] === 0) {
    throw new ShapeError(`needs axes besides that of the batch, 0, got ${axis} for ${formatShape(shape)}`);
  }
  return { axes, sizes: axes.map((each) => shape[each - 1]!) };
}

export const Normalization = defineLayer<NormalizationOptions>({
  className: "Normalization",
  options: { axis: axisRule, mean: nested, variance: nested, invert: boolean },
  make({ axis = -1, mean, variance, invert = false }) {
    const [means, variances] = [mean, variance].map((each) =>
      each === undefined ? undefined : (flat(each) as number[]),
    );
    if (means?.length !== variances?.length) {
      throw new UsageError("Normalization: mean and variance must both be given, with as many numbers, or neither");
    }
    if (variances?.some((each) => each < 0)) throw new UsageError("Normalization: variance must be from 0");
    return {
      config: { axis, ...(mean !== undefined && { mean, variance }), invert },
      gives: "summaries",
      outputShape(shape) {
        const { sizes } = statisticsAxes(axis, shape);
        if (means === undefined || means.length === 1 || means.length === sizeOf(sizes)) return shape;
        throw new ShapeError(`needs ${sizeOf(sizes)} means for ${formatShape(shape)}, or one, has ${means.length}`);
      },
      weights(shape) {
        const { sizes } = statisticsAxes(axis, shape);
        if (means !== undefined) return [];
        return [
          { name: "mean", shape: sizes, trainable: false },
          { name: "variance", shape: sizes, initializer: "ones", trainable: false },
        ];
      },
      call(x, weights) {
        const { axes } = statisticsAxes(axis, x.shape.slice(1));
        const kept = x.shape.map((size, each) => (axes.includes(each) ? size : 1));
        const along = (given: readonly number[] | undefined, weight: Tensor | undefined): Tensor => {
          const values =
            weight ?? tensor(x.device, Float64Array.from(given!), { shape: [given!.length], dtype: "f32" });
          return reshape(values, values.size === sizeOf(kept) ? kept : x.shape.map(() => 1));
        };
        const centre = along(means, weights["mean"]);
        const deviation = maximum(sqrt(along(variances, weights["variance"])), LEAST_DEVIATION);
        return invert ? add(mul(x, deviation), centre) : div(sub(x, centre), deviation);
      },
    };
  },
  keras: {
    settings: { axis: "axis", mean: "mean", variance: "variance", invert: "invert" },
    besides: { count: 0 },
  },
});

/**
 * x scale + offset; `rescaling({ scale: 1 / 255 })` makes bytes numbers from 0 to 1.
 */
export const rescaling = (options: RescalingOptions): CallableLayer => Rescaling(options);

/**
 * (x - mean) / sqrt(variance), with a mean and a variance for each channel, or for other axes. They are given, or
 * weights that `nn.adapt(model, data)` finds and no training changes.
 * @example
 * const layers = [nn.normalization(), nn.flatten(), nn.dense({ units: 10 })];
 * const model = nn.sequential({ device, inputShape: [28, 28, 1] }, layers);
 * await nn.adapt(model, train);
 */
export const normalization = (options: NormalizationOptions = {}): CallableLayer => Normalization(options);
