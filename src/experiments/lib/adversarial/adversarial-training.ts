// Trainings of experiments made adversarial: a warm-up that counts in epochs.
import { type AdversaryOptions, adversary } from "../../../inputs/attacks/adversary.js";
import type { TrainingPlan } from "../training/experiment-training.js";

/** A training made adversarial; for `trainPart`, `measureStep` and `trainingSeconds`. */
export function adversarialPlan<Kept>(
  plan: TrainingPlan<Kept>,
  { warmupEpochs = 0, ...options }: Omit<AdversaryOptions, "warmupSteps"> & { readonly warmupEpochs?: number },
): TrainingPlan<Kept> {
  const warmupSteps = Math.round(warmupEpochs * Math.ceil(plan.data.count / plan.batchSize));
  return { ...plan, perturb: adversary({ ...options, warmupSteps }) };
}
