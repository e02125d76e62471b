// Learning rates as functions of the number of finished optimizer steps.
import { UsageError } from "../tensor/errors.js";

export interface Schedule {
  readonly name: string;
  /** As JSON, for checkpoints. */
  readonly config: Readonly<Record<string, number | boolean>>;
  /** Learning rate after `step` finished steps. */
  at(step: number): number;
}

function checkSteps(owner: string, name: string, value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 1)) {
    throw new UsageError(`${owner}: ${name} must be a whole number from 1, got ${value}`);
  }
}

/** The same rate throughout. */
export function constantRate(learningRate: number): Schedule {
  return { name: "constant", config: { learningRate }, at: () => learningRate };
}

export interface StepDecayOptions {
  readonly learningRate: number;
  /** Steps after which the rate falls, again and again. */
  readonly everySteps: number;
  /** What the rate is multiplied by; default 0.1. */
  readonly factor?: number;
}

/** learningRate * factor^floor(step / everySteps), as PyTorch's StepLR. */
export function stepDecay({ learningRate, everySteps, factor = 0.1 }: StepDecayOptions): Schedule {
  checkSteps("stepDecay", "everySteps", everySteps);
  return {
    name: "stepDecay",
    config: { learningRate, everySteps, factor },
    at: (step) => learningRate * factor ** Math.floor(step / everySteps),
  };
}

export interface ExponentialDecayOptions {
  readonly learningRate: number;
  readonly decaySteps: number;
  /** What the rate is multiplied by over `decaySteps`. */
  readonly decayRate: number;
}

/** learningRate * decayRate^(step / decaySteps), as Keras's ExponentialDecay. */
export function exponentialDecay({ learningRate, decaySteps, decayRate }: ExponentialDecayOptions): Schedule {
  checkSteps("exponentialDecay", "decaySteps", decaySteps);
  return {
    name: "exponentialDecay",
    config: { learningRate, decaySteps, decayRate },
    at: (step) => learningRate * decayRate ** (step / decaySteps),
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

/** Linear warm-up, then learningRate * ((1 - finalShare) (1 + cos(pi t)) / 2 + finalShare), as Keras's CosineDecay. */
export function cosineDecay(options: CosineDecayOptions): Schedule {
  const { learningRate, decaySteps, finalShare = 0, warmupSteps = 0 } = options;
  checkSteps("cosineDecay", "decaySteps", decaySteps);
  return {
    name: "cosineDecay",
    config: { learningRate, decaySteps, finalShare, warmupSteps },
    at(step) {
      if (step < warmupSteps) return (learningRate * step) / warmupSteps;
      const done = Math.min(1, (step - warmupSteps) / decaySteps);
      return learningRate * ((1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * done)) + finalShare);
    },
  };
}
