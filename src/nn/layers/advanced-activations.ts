// Activations that are layers of their own because they have settings or weights. All others are `nn.activation(name)`.

import { zeros } from "../../autograd/ops/create.js";
import {
  clip,
  elu as eluOp,
  leakyRelu as leakyReluOp,
  lessEqual,
  mul,
  prelu as preluOp,
  relu as reluOp,
  sub,
  where,
} from "../../autograd/ops/elementwise.js";
import { softmax as softmaxOp } from "../../autograd/ops/softmax.js";
import { ShapeError } from "../../tensor/errors.js";
import { integer, listOf, number, type Rule } from "../../tensor/options.js";
import { formatShape, normalizeAxis, type Shape } from "../../tensor/shape.js";
import { initializerSetting, type KerasSetting } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { Activation } from "./core.js";
import { shortFor } from "./window.js";

export interface ReluOptions extends LayerOptions {
  /** Largest value; null (default): none. */
  readonly maxValue?: number | null;
  /** Factor of threshold - x below the threshold; default 0. */
  readonly negativeSlope?: number;
  /** Below it is the negative part; default 0. */
  readonly threshold?: number;
}

export interface LeakyReluOptions extends LayerOptions {
  /** Slope for x < 0; default 0.3. */
  readonly negativeSlope?: number;
}

export interface EluOptions extends LayerOptions {
  /** alpha (e^x - 1) for x < 0; default 1. */
  readonly alpha?: number;
}

export interface PreluOptions extends LayerOptions {
  /** Of the slopes alpha; default "zeros". */
  readonly alphaInitializer?: InitializerOption;
  /** Axes of [N, ...shape], from 1, along which there is one slope for all; null (default): none. */
  readonly sharedAxes?: readonly number[] | null;
}

export interface SoftmaxOptions extends LayerOptions {
  /** Axis of [N, ...shape], not that of the batch; default -1. */
  readonly axis?: number;
}

const orNull = (rule: Rule): Rule => ({
  expected: `${rule.expected}, or null`,
  accepts: (value) => value === null || rule.accepts(value),
});

/** A number that only some files have under another name. */
const renamed = (name: string, formerly: string): KerasSetting => ({
  ...{ name, formerly },
  to: (value) => value,
  from: (value) => value ?? undefined,
});

export const ReLU = defineLayer<ReluOptions>({
  className: "ReLU",
  options: {
    maxValue: orNull(number({ from: 0 })),
    negativeSlope: number({ from: 0 }),
    threshold: number({ from: 0 }),
  },
  make({ maxValue = null, negativeSlope = 0, threshold = 0 }) {
    const config = { maxValue, negativeSlope, threshold };
    if ((maxValue === null || maxValue === 6) && negativeSlope === 0 && threshold === 0) {
      const { activation, gives, call, fuse } = Activation({ activation: maxValue === null ? "relu" : "relu6" });
      return { config, activation, gives: gives!, call, fuse: fuse! };
    }
    return {
      config,
      gives: "summaries",
      call(x) {
        // A NaN is not below the threshold.
        const above = threshold === 0 ? reluOp(x) : where(lessEqual(x, threshold), zeros(x.device, []), x);
        const limited = maxValue === null ? above : clip(above, 0, maxValue);
        return negativeSlope === 0 ? limited : sub(limited, mul(reluOp(sub(threshold, x)), negativeSlope));
      },
    };
  },
  keras: { settings: { maxValue: "max_value", negativeSlope: "negative_slope", threshold: "threshold" } },
});

export const LeakyReLU = defineLayer<LeakyReluOptions>({
  className: "LeakyReLU",
  options: { negativeSlope: number({ from: 0 }) },
  make: ({ negativeSlope = 0.3 }) => ({
    config: { negativeSlope },
    gives: "summaries",
    call: (x) => leakyReluOp(x, { negativeSlope }),
  }),
  // Keras 3 has another name, and takes the older one, too.
  keras: { settings: { negativeSlope: renamed("alpha", "negative_slope") } },
});

export const ELU = defineLayer<EluOptions>({
  className: "ELU",
  options: { alpha: number() },
  make: ({ alpha = 1 }) => ({ config: { alpha }, gives: "summaries", call: (x) => eluOp(x, { alpha }) }),
  keras: { settings: { alpha: "alpha" } },
});

export const PReLU = defineLayer<PreluOptions>({
  className: "PReLU",
  options: { alphaInitializer: initializerRule, sharedAxes: orNull(listOf(integer({ from: 1 }))) },
  make({ alphaInitializer = "zeros", sharedAxes = null }) {
    const initializer = initializerOf(alphaInitializer);
    return {
      config: { alphaInitializer: initializer, sharedAxes },
      outputShape(shape) {
        const missing = sharedAxes?.find((axis) => axis > shape.length);
        if (missing === undefined) return shape;
        throw new ShapeError(`needs the shared axis ${missing}, got ${formatShape(shape)}; axes count from 1`);
      },
      weights: (shape) => [
        { name: "alpha", shape: shape.map((size, i) => (sharedAxes?.includes(i + 1) ? 1 : size)), initializer },
      ],
      call: (x, { alpha }) => preluOp(x, alpha!),
    };
  },
  keras: {
    settings: { alphaInitializer: initializerSetting("alpha_initializer"), sharedAxes: "shared_axes" },
    written: { alpha_regularizer: null, alpha_constraint: null },
  },
});

export const Softmax = defineLayer<SoftmaxOptions>({
  className: "Softmax",
  options: { axis: integer() },
  make({ axis = -1 }) {
    return {
      config: { axis },
      activation: "softmax",
      gives: "elements",
      softmaxAxis: axis,
      outputShape(shape: Shape) {
        if (normalizeAxis("axis", axis, shape.length + 1) !== 0) return shape;
        throw new ShapeError(`needs an axis besides that of the batch, 0, got ${axis} for ${formatShape(shape)}`);
      },
      call: (x, _, { omitActivation }) => (omitActivation ? x : softmaxOp(x, axis)),
    };
  },
  keras: { settings: { axis: "axis" } },
});

/** max(x, 0), with a largest value, a slope below and a threshold where they are given. */
export const relu = (options: ReluOptions = {}): CallableLayer => ReLU(options);

/** x for x > 0, else negativeSlope x; `leakyRelu(0.1)` is short for `leakyRelu({ negativeSlope: 0.1 })`. */
export const leakyRelu = (options: number | LeakyReluOptions = {}): CallableLayer =>
  LeakyReLU(shortFor("negativeSlope", options));

/** x for x > 0, else alpha (e^x - 1) (Clevert et al. 2015). */
export const elu = (options: EluOptions = {}): CallableLayer => ELU(options);

/** x for x > 0, else alpha x, with slopes alpha that are weights (He et al. 2015). */
export const prelu = (options: PreluOptions = {}): CallableLayer => PReLU(options);

/** Softmax along an axis. */
export const softmax = (options: SoftmaxOptions = {}): CallableLayer => Softmax(options);
