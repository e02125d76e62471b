// The optimizers of `optim`. Formulas, options and defaults are Keras's; the arithmetic is in
// kernels/optimizer-rules.ts.
import {
  adadeltaKernel,
  adagradKernel,
  adamaxKernel,
  adamKernel,
  lionKernel,
  nadamKernel,
  rmspropKernel,
  sgdKernel,
} from "../kernels/optimizer-rules.js";
import { UsageError } from "../tensor/errors.js";
import { boolean, checkOptions, number, type Rules } from "../tensor/options.js";
import { type Complete, Optimizer, type OptimizerOptions, optimizerRules } from "./optimizer.js";
import type { Schedule } from "./schedules.js";

export { Optimizer, type OptimizerConfig, type OptimizerOptions, optimizerRule } from "./optimizer.js";

/** What optimizers with weight decay take. */
export interface WeightDecayOptions extends OptimizerOptions {
  /** Each step first shrinks the parameters by learningRate * weightDecay of themselves; default 0. */
  readonly weightDecay?: number;
}

const share = number({ from: 0, below: 1 });
const above0 = number({ above: 0 });
const decayRules: Rules<WeightDecayOptions> = { ...optimizerRules, weightDecay: number({ from: 0 }) };

/** Checked options with defaults in their places. */
const complete = <Options extends OptimizerOptions>(
  name: string,
  given: Options,
  rules: Rules<Options>,
  defaults: Complete<Options>,
): Complete<Options> => ({ ...defaults, ...checkOptions(name, given, rules) });

export interface SgdOptions extends WeightDecayOptions {
  /** Default 0.01. */
  readonly learningRate?: number | Schedule;
  /** Default 0. */
  readonly momentum?: number;
  /** Default false. */
  readonly nesterov?: boolean;
}

const sgdRules: Rules<SgdOptions> = { ...decayRules, momentum: share, nesterov: boolean };

/** Stochastic gradient descent: w -= learningRate * g, with momentum v <- momentum v - learningRate g, w += v. */
export function sgd(options: SgdOptions = {}): Optimizer {
  const defaults = { learningRate: 0.01, momentum: 0, nesterov: false, weightDecay: 0 };
  const given = complete<SgdOptions>("sgd", options, sgdRules, defaults);
  return new Optimizer({ name: "sgd", slots: given.momentum === 0 ? {} : { momentum: 0 }, kernel: sgdKernel }, given);
}

export interface AdamOptions extends OptimizerOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-7. */
  readonly epsilon?: number;
}

export interface AdamWOptions extends AdamOptions {
  /** Each step first shrinks the parameters by learningRate * weightDecay of themselves; default 0.004. */
  readonly weightDecay?: number;
}

/** Nadam's and Adamax's options. */
export interface AdamVariantOptions extends AdamOptions {
  /** Each step first shrinks the parameters by learningRate * weightDecay of themselves; default 0. */
  readonly weightDecay?: number;
}

const adamDefaults = { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, weightDecay: 0 };
const adamRules: Rules<AdamOptions> = { ...optimizerRules, beta1: share, beta2: share, epsilon: above0 };
const adamDecayRules: Rules<AdamWOptions> = { ...adamRules, ...decayRules };

const adamSlots = { momentum: 0, velocity: 0 };

/** Adam (Kingma, Ba, 2015). */
export function adam(options: AdamOptions = {}): Optimizer {
  if (Object.hasOwn(Object(options), "weightDecay")) {
    throw new UsageError("adam: has no weightDecay; use adamW, whose decay is decoupled from the gradient");
  }
  const given = complete("adam", options, adamRules, adamDefaults);
  return new Optimizer({ name: "adam", slots: adamSlots, kernel: adamKernel }, given);
}

/** Adam with decoupled weight decay (Loshchilov, Hutter, 2019). */
export function adamW(options: AdamWOptions = {}): Optimizer {
  const given = complete("adamW", options, adamDecayRules, { ...adamDefaults, weightDecay: 0.004 });
  return new Optimizer({ name: "adamW", slots: adamSlots, kernel: adamKernel }, given);
}

/** Adam with Nesterov's momentum (Dozat 2016). */
export function nadam(options: AdamVariantOptions = {}): Optimizer {
  const given = complete("nadam", options, adamDecayRules, adamDefaults);
  return new Optimizer({ name: "nadam", slots: adamSlots, kernel: nadamKernel }, given);
}

/** Adam that divides by a maximum of gradients instead of a mean of squares (Kingma, Ba, 2015, section 7.1). */
export function adamax(options: AdamVariantOptions = {}): Optimizer {
  const given = complete("adamax", options, adamDecayRules, adamDefaults);
  return new Optimizer({ name: "adamax", slots: { momentum: 0, norm: 0 }, kernel: adamaxKernel }, given);
}

export interface RmspropOptions extends WeightDecayOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** Share of the mean of squares that each step keeps; default 0.9. */
  readonly rho?: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Default 1e-7. */
  readonly epsilon?: number;
  /** Divides by the gradients' variance instead of their mean square; default false. */
  readonly centered?: boolean;
}

const rmspropRules: Rules<RmspropOptions> = {
  ...{ ...decayRules, rho: share, momentum: share },
  ...{ epsilon: above0, centered: boolean },
};

/** RMSprop (Tieleman, Hinton 2012): steps g / sqrt(v + epsilon), with a moving mean v of g^2. */
export function rmsprop(options: RmspropOptions = {}): Optimizer {
  const given = complete("rmsprop", options, rmspropRules, {
    ...{ learningRate: 0.001, rho: 0.9, momentum: 0, epsilon: 1e-7, centered: false, weightDecay: 0 },
  });
  const slots = {
    velocity: 0,
    ...(given.momentum > 0 && { momentum: 0 }),
    ...(given.centered && { average_gradient: 0 }),
  };
  return new Optimizer({ name: "rmsprop", slots, kernel: rmspropKernel }, given);
}

export interface AdagradOptions extends WeightDecayOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** What the sums of squares begin with; default 0.1. */
  readonly initialAccumulator?: number;
  /** Default 1e-7. */
  readonly epsilon?: number;
}

const adagradRules: Rules<AdagradOptions> = {
  ...decayRules,
  initialAccumulator: number({ from: 0 }),
  epsilon: above0,
};

/** Adagrad (Duchi et al. 2011): steps g / sqrt(v + epsilon), with the sum v of all g^2. */
export function adagrad(options: AdagradOptions = {}): Optimizer {
  const given = complete("adagrad", options, adagradRules, {
    ...{ learningRate: 0.001, initialAccumulator: 0.1, epsilon: 1e-7, weightDecay: 0 },
  });
  const slots = { accumulator: given.initialAccumulator };
  return new Optimizer({ name: "adagrad", slots, kernel: adagradKernel }, given);
}

export interface AdadeltaOptions extends WeightDecayOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** Share of the means of squares that each step keeps; default 0.95. */
  readonly rho?: number;
  /** Default 1e-7. */
  readonly epsilon?: number;
}

const adadeltaRules: Rules<AdadeltaOptions> = { ...decayRules, rho: share, epsilon: above0 };

/** Adadelta (Zeiler 2012): steps as long as the mean of those before, by moving means of squares. */
export function adadelta(options: AdadeltaOptions = {}): Optimizer {
  const given = complete("adadelta", options, adadeltaRules, {
    ...{ learningRate: 0.001, rho: 0.95, epsilon: 1e-7, weightDecay: 0 },
  });
  const slots = { accumulated_grad: 0, accumulated_delta_var: 0 };
  return new Optimizer({ name: "adadelta", slots, kernel: adadeltaKernel }, given);
}

export interface LionOptions extends WeightDecayOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** Share of the mean in a step's direction, above 0; default 0.9. */
  readonly beta1?: number;
  /** Share of the mean that each step keeps; default 0.99. */
  readonly beta2?: number;
}

const lionRules: Rules<LionOptions> = {
  ...{ ...decayRules, beta1: number({ above: 0, to: 1 }) },
  beta2: share,
};

/** Lion (Chen et al. 2023): steps of the same length for every element, along the sign of a mean of gradients. */
export function lion(options: LionOptions = {}): Optimizer {
  const given = complete("lion", options, lionRules, {
    ...{ learningRate: 0.001, beta1: 0.9, beta2: 0.99, weightDecay: 0 },
  });
  return new Optimizer({ name: "lion", slots: { momentum: 0 }, kernel: lionKernel }, given);
}
