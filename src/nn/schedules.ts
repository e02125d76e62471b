// Learning rates as functions of the number of finished optimizer steps.
import { check, checkOptions, integer, number, type Rule, type Rules } from "../tensor/options.js";

export interface Schedule {
  readonly name: string;
  /** As JSON, for checkpoints. */
  readonly config: Readonly<Record<string, number | boolean>>;
  /** Learning rate after `step` finished steps. */
  at(step: number): number;
}

/** What a learning rate may be besides a number. */
export const scheduleRule: Rule = {
  expected: "a schedule, such as stepDecay gives",
  accepts: (value) =>
    typeof value === "object" && value !== null && typeof (value as Schedule).at === "function" && "config" in value,
};

const rate = number({ from: 0 });

/** The rate after a number of steps, which is checked. */
const rateAfter = (name: string, rateAt: (step: number) => number) => (step: number) => {
  check(name, "step", step, rate);
  return rateAt(step);
};

const steps = integer({ from: 1 });

/** The same rate throughout. */
export function constantRate(learningRate: number): Schedule {
  check("constantRate", "learningRate", learningRate, rate);
  return { name: "constant", config: { learningRate }, at: rateAfter("constantRate", () => learningRate) };
}

export interface StepDecayOptions {
  readonly learningRate: number;
  /** Steps after which the rate falls, again and again. */
  readonly everySteps: number;
  /** What the rate is multiplied by; default 0.1. */
  readonly factor?: number;
}

const stepDecayRules: Rules<StepDecayOptions> = { learningRate: rate, everySteps: steps, factor: number({ from: 0 }) };

/** learningRate * factor^floor(step / everySteps), as PyTorch's StepLR. */
export function stepDecay(options: StepDecayOptions): Schedule {
  const {
    learningRate,
    everySteps,
    factor = 0.1,
  } = checkOptions("stepDecay", options, stepDecayRules, ["learningRate", "everySteps"]);
  return {
    name: "stepDecay",
    config: { learningRate, everySteps, factor },
    at: rateAfter("stepDecay", (step) => learningRate * factor ** Math.floor(step / everySteps)),
  };
}

export interface ExponentialDecayOptions {
  readonly learningRate: number;
  readonly decaySteps: number;
  /** What the rate is multiplied by over `decaySteps`. */
  readonly decayRate: number;
}

const exponentialDecayRules: Rules<ExponentialDecayOptions> = {
  learningRate: rate,
  decaySteps: steps,
  decayRate: number({ from: 0 }),
};

/** learningRate * decayRate^(step / decaySteps), as Keras's ExponentialDecay. */
export function exponentialDecay(options: ExponentialDecayOptions): Schedule {
  const { learningRate, decaySteps, decayRate } = checkOptions("exponentialDecay", options, exponentialDecayRules, [
    "learningRate",
    "decaySteps",
    "decayRate",
  ]);
  return {
    name: "exponentialDecay",
    config: { learningRate, decaySteps, decayRate },
    at: rateAfter("exponentialDecay", (step) => learningRate * decayRate ** (step / decaySteps)),
  };
}

export interface CosineDecayOptions {
  readonly learningRate: number;
  /** Steps of the half cosine, after the warm-up. */
  readonly decaySteps: number;
  /** Share of the rate that is left at the end; default 0. */
  readonly finalShare?: number;
  /** Steps in which the rate first grows linearly from 0; default 0. */
  readonly warmupSteps?: number;
}

const cosineDecayRules: Rules<CosineDecayOptions> = {
  learningRate: rate,
  decaySteps: steps,
  finalShare: number({ from: 0 }),
  warmupSteps: integer({ from: 0 }),
};

/** Linear warm-up, then learningRate * ((1 - finalShare) (1 + cos(pi t)) / 2 + finalShare), as Keras's CosineDecay. */
export function cosineDecay(options: CosineDecayOptions): Schedule {
  const {
    learningRate,
    decaySteps,
    finalShare = 0,
    warmupSteps = 0,
  } = checkOptions("cosineDecay", options, cosineDecayRules, ["learningRate", "decaySteps"]);
  return {
    name: "cosineDecay",
    config: { learningRate, decaySteps, finalShare, warmupSteps },
    at: rateAfter("cosineDecay", (step) => {
      if (step < warmupSteps) return (learningRate * step) / warmupSteps;
      const done = Math.min(1, (step - warmupSteps) / decaySteps);
      return learningRate * ((1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * done)) + finalShare);
    }),
  };
}
