/**
 * Optimisation of a frozen model's inputs, attacks on it, attributions, generator networks.
 *
 * @module
 */
// What is not listed here is internal.
/// <reference lib="dom" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />

export { type AdversaryOptions, adversary } from "./inputs/attacks/adversary.js";
export type {
  Attack,
  AttackedBatch,
  Norm,
  Perturbed,
  PerturbedOptions,
  PreparedAttack,
  StartStream,
  StepAttack,
} from "./inputs/attacks/attack.js";
export { type Attacked, type AttackOptions, attackImages } from "./inputs/attacks/attack-images.js";
export { type Distances, distancesBetween } from "./inputs/attacks/distances.js";
export * as attacks from "./inputs/attacks/index.js";
export type { Attribution, AttributionOptions } from "./inputs/attribution/attribution.js";
export * as attributions from "./inputs/attribution/index.js";
export { type FilmFrame, type FilmStripOptions, filmStrip, logarithmicSteps } from "./inputs/film.js";
export {
  type GeneratedImages,
  type GeneratorOptions,
  type GeneratorRound,
  trainGenerators,
} from "./inputs/generators.js";
export { type NoiseOptions, noiseImages } from "./inputs/images.js";
export { type LbfgsOptions, lbfgs, type Minimum } from "./inputs/lbfgs.js";
export type { Model } from "./inputs/model.js";
export * as objectives from "./inputs/objective.js";
export {
  type InputSnapshot,
  type OptimizedInputs,
  type OptimizeInputsOptions,
  optimizeInputs,
  settlingRate,
} from "./inputs/optimise.js";
export * as parametrizations from "./inputs/parametrisation.js";
export {
  Activations,
  type Objective,
  type ObjectiveContext,
  type Parameters,
  type Parametrization,
  type ParametrizationContext,
  type Regularizer,
  type Transform,
  type TransformContext,
} from "./inputs/parts.js";
export * as regularizers from "./inputs/regularisers.js";
export * as transforms from "./inputs/transforms.js";
