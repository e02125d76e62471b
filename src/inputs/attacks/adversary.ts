// Adversarial training (Madry et al., ICLR 2018): every batch is attacked with the weights as they are, and trained on
// as the attack left it. The attack is part of the recorded training step, so `fit` does everything else: order,
// schedules, progress, checkpoints, resuming.
import { concat, slice } from "../../autograd/ops/transform.js";
import { requireModel } from "../../nn/model.js";
import type { Perturb } from "../../nn/training/options.js";
import { check, checkOptions, integer, number, object, type Rules } from "../../tensor/options.js";
import { requireTensor } from "../../tensor/tensor.js";
import { type StepAttack, stepAttackRule } from "./attack.js";

/** Options of {@link adversary}. */
export interface AdversaryOptions {
  /**
   * On each batch: PGD, or FGSM by one step; "fast" training (Wong et al., ICLR 2020) is one of 1.25 and a random
   * start.
   */
  readonly attack: StepAttack;
  /** Share of each batch that is left as it is; default 0. */
  readonly cleanShare?: number;
  /** Steps over which epsilon grows from 0 to the attack's; default 0. */
  readonly warmupSteps?: number;
}

const adversaryRules: Rules<AdversaryOptions> = {
  attack: stepAttackRule,
  cleanShare: number({ from: 0, below: 1 }),
  warmupSteps: integer({ from: 0 }),
};

/**
 * For `FitOptions.perturb`: inputs [N, ...inputShape] in [0, 1] with class ids as targets are attacked before a step.
 * @throws UsageError for options out of range
 * @example
 * const perturb = adversary({ attack: attacks.pgd({ norm: "l2", epsilon: 1, steps: 4 }) });
 * await model.fit(train, { loss: loss.crossEntropy, optimizer, perturb });
 */
export function adversary(options: AdversaryOptions): Perturb {
  const { attack, cleanShare = 0, warmupSteps = 0 } = checkOptions("adversary", options, adversaryRules, ["attack"]);
  return (x, y, context) => {
    requireTensor("adversary", "x", x);
    requireTensor("adversary", "y", y);
    check("adversary", "its context", context, object);
    const { model, seed, step } = context;
    requireModel("adversary", model);
    const clean = Math.floor(cleanShare * x.shape[0]!);
    const rest = [clean, ...x.shape.slice(1).map(() => 0)];
    const [images, classes] =
      clean === 0
        ? [x, y]
        : [slice(x, rest, [x.shape[0]! - clean, ...x.shape.slice(1)]), slice(y, [clean], [y.shape[0]! - clean])];
    const { images: changed, strength } = attack.perturb(model, images, classes, {
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
