// FGSM, the fast gradient sign method (Goodfellow, Shlens, Szegedy, ICLR 2015), untargeted; in the L2 ball along the
// gradient instead of its sign, as Foolbox has it.
import { checkOptions, type Rules } from "../../tensor/options.js";
import { epsilonRule, type Norm, normRule, type StepAttack } from "./attack.js";
import { gradientAttack } from "./pgd.js";

/** Options of {@link fgsm}. */
export interface FgsmOptions {
  readonly norm: Norm;
  /** Length of the step, for values in [0, 1]. */
  readonly epsilon: number;
}

const fgsmRules: Rules<FgsmOptions> = { norm: normRule, epsilon: epsilonRule };

/** One step of length epsilon that begins at the image. @throws UsageError naming the option that is out of range */
export function fgsm(options: FgsmOptions): StepAttack {
  const { norm, epsilon } = checkOptions("fgsm", options, fgsmRules, ["norm", "epsilon"]);
  return gradientAttack("FGSM", { norm, epsilon, steps: 1, relativeStep: 1, randomStart: false });
}
