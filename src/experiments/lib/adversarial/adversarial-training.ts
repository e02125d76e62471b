// Adversarial training (Madry et al., ICLR 2018): every batch is attacked with the weights as they are, and trained on as the
// attack left it. The attack is part of the recorded training step, so `fit` does everything else: order, schedules,
// progress, checkpoints, resuming.
import { concat, slice } from "../../../autograd/ops/transform.js";
import type { Perturb } from "../../../nn/fit.js";
import { UsageError } from "../../../tensor/errors.js";
import type { TrainingPlan } from "../training/experiment-training.js";
import { type Attack, checkAttack, perturbed } from "./attacks.js";

export interface AdversaryOptions {
  /** On each batch: PGD, or FGSM by one step; "fast" training (Wong et al., ICLR 2020) is one of 1.25 and a random start. */
  readonly attack: Attack;
  /** Share of each batch that is left as it is; default 0. */
  readonly cleanShare?: number;
  /** Steps over which epsilon grows from 0 to the attack's; default 0. */
  readonly warmupSteps?: number;
}

/** For `FitOptions.perturb`. @throws UsageError for settings out of range */
export function adversary({ attack, cleanShare = 0, warmupSteps = 0 }: AdversaryOptions): Perturb {
  checkAttack("adversary", attack);
  if (!(cleanShare >= 0 && cleanShare < 1)) {
    throw new UsageError(`adversary: cleanShare must be from 0 to less than 1, got ${cleanShare}`);
  }
  if (!(Number.isSafeInteger(warmupSteps) && warmupSteps >= 0)) {
    throw new UsageError(`adversary: warmupSteps must be a whole number from 0, got ${warmupSteps}`);
  }
  return (x, y, { model, seed, step }) => {
    const clean = Math.floor(cleanShare * x.shape[0]!);
    const rest = [clean, ...x.shape.slice(1).map(() => 0)];
    const [images, classes] =
      clean === 0
        ? [x, y]
        : [slice(x, rest, [x.shape[0]! - clean, ...x.shape.slice(1)]), slice(y, [clean], [y.shape[0]! - clean])];
    const { images: changed, strength } = perturbed(model, images, classes, attack, {
      epsilon: () => attack.epsilon * Math.min(1, (step() + 1) / Math.max(1, warmupSteps)),
      start: () => ({ seed, stream: `adversary/${step()}`, image: 0 }),
    });
    strength.dispose();
    return clean === 0
      ? changed
      : concat(
          [
            slice(
              x,
              rest.map(() => 0),
              [clean, ...x.shape.slice(1)],
            ),
            changed,
          ],
          0,
        );
  };
}

/** A training made adversarial; for `trainPart`, `measureStep` and `trainingSeconds`. */
export function adversarialPlan<Kept>(
  plan: TrainingPlan<Kept>,
  { warmupEpochs = 0, ...options }: Omit<AdversaryOptions, "warmupSteps"> & { readonly warmupEpochs?: number },
): TrainingPlan<Kept> {
  const warmupSteps = Math.round(warmupEpochs * Math.ceil(plan.data.count / plan.batchSize));
  return { ...plan, perturb: adversary({ ...options, warmupSteps }) };
}
