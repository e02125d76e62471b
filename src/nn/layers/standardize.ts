// What batch, layer and group normalisation share: options, and a scale and an offset.
import { add, mul } from "../../autograd/ops/elementwise.js";
import { boolean, number, type Rules } from "../../tensor/options.js";
import type { Tensor } from "../../tensor/tensor.js";
import { initializerSetting, type KerasWords, penaltySetting } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import type { LayerOptions, WeightOptions } from "../layer.js";

/** Options of normalisations; Keras's defaults. */
export interface ScaleOptions extends LayerOptions {
  /** Added to the variance; default 1e-3. */
  readonly epsilon?: number;
  /** Whether an offset beta is added; default true. */
  readonly center?: boolean;
  /** Whether there is a factor gamma; default true. */
  readonly scale?: boolean;
  /** Default "zeros". */
  readonly betaInitializer?: InitializerOption;
  /** Default "ones". */
  readonly gammaInitializer?: InitializerOption;
  /** Adds gammaL2 * sum(gamma^2) to the training loss; default 0. */
  readonly gammaL2?: number;
}

export const scaleRules: Rules<Omit<ScaleOptions, keyof LayerOptions>> = {
  epsilon: number({ from: 0 }),
  center: boolean,
  scale: boolean,
  betaInitializer: initializerRule,
  gammaInitializer: initializerRule,
  gammaL2: number({ from: 0 }),
};

/** Completes the options. */
export function scaleConfig(options: ScaleOptions) {
  const { epsilon = 1e-3, center = true, scale = true, gammaL2 = 0 } = options;
  return {
    ...{ epsilon, center, scale, gammaL2 },
    betaInitializer: initializerOf(options.betaInitializer ?? "zeros"),
    gammaInitializer: initializerOf(options.gammaInitializer ?? "ones"),
  };
}

/** gamma and beta, where there are any. */
export function scaleWeights(config: ReturnType<typeof scaleConfig>, shape: readonly number[]): WeightOptions[] {
  const { center, scale, betaInitializer, gammaInitializer, gammaL2 } = config;
  return [
    ...(scale ? [{ name: "gamma", shape, initializer: gammaInitializer, l2: gammaL2 }] : []),
    ...(center ? [{ name: "beta", shape, initializer: betaInitializer }] : []),
  ];
}

export const scaleSettings: KerasWords["settings"] = {
  ...{ epsilon: "epsilon", center: "center", scale: "scale" },
  betaInitializer: initializerSetting("beta_initializer"),
  gammaInitializer: initializerSetting("gamma_initializer"),
  gammaL2: penaltySetting("gamma_regularizer"),
};

export const scaleWritten = { beta_regularizer: null, gamma_constraint: null, beta_constraint: null };

/** x gamma + beta, where there are any; both are of a shape that broadcasts. */
export function scaled(x: Tensor, gamma: Tensor | undefined, beta: Tensor | undefined): Tensor {
  const y = gamma === undefined ? x : mul(x, gamma);
  return beta === undefined ? y : add(y, beta);
}
