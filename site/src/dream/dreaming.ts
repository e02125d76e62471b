// What the page "Dream" computes: images that a frozen network takes for what it is asked for, out of noise.
import type { nn } from "../../../src/index.js";
import { optim } from "../../../src/index.js";
import {
  logarithmicSteps,
  objectives,
  optimizeInputs,
  parametrizations,
  regularizers,
  settlingRate,
  transforms,
} from "../../../src/inputs.js";

export interface DreamSettings {
  /** What the network shall say, for each image: ten shares that sum to 1. */
  readonly targets: readonly (readonly number[])[];
  readonly steps: number;
  readonly seed: number;
}

/** The images after some steps. */
export interface Dream {
  readonly step: number;
  readonly steps: number;
  /** [N, 28, 28] */
  readonly images: Float32Array;
  /** [N, 10] */
  readonly probabilities: Float32Array;
}

/** As `npm start` ends: what speaks for the digit grows more than what speaks for others goes. */
const RIVALS = 0.35;
const PRIORS = { l1: 0.006, l2: 0.01, totalVariation: 0.006, blur: 0.7, jitter: 2 };
const RATE = 0.05;

/**
 * Optimises noise for the targets. Of one digit each by log-odds and with priors on images, as the readable digits of
 * `npm start`; a mixture by its cross-entropy.
 */
export async function dream(
  model: nn.Model,
  { targets, steps, seed }: DreamSettings,
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (dream: Dream) => void },
): Promise<void> {
  const flat = Float32Array.from(targets.flat());
  const single = targets.every((shares) => shares.includes(1));
  const values = parametrizations.pixels();
  await optimizeInputs(model, {
    objective: single ? objectives.logOdds(flat, { rivals: RIVALS }) : objectives.targetProbabilities(flat),
    count: targets.length,
    ...{ steps, seed, signal },
    parametrization: parametrizations.blurred(values, { sigma: PRIORS.blur }),
    transforms: [transforms.jitter(PRIORS.jitter)],
    regularizers: single
      ? [regularizers.l1(PRIORS.l1), regularizers.l2(PRIORS.l2), regularizers.totalVariation(PRIORS.totalVariation)]
      : [],
    optimizer: optim.adam({ learningRate: settlingRate(RATE, steps) }),
    snapshotSteps: logarithmicSteps(steps),
    onSnapshot: ({ step, images, outputs }) => tell({ step, steps, images, probabilities: outputs }),
  });
}
