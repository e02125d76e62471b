// DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016): steps to the nearest boundary as if the classifier were
// linear. As Foolbox has it.
import { checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { otherClasses } from "./apgd.js";
import { epsilonRule, type Norm, normRule } from "./attack.js";
import { towardsOther } from "./classifier.js";
import { lengthOf, row, type SearchAttack, searchAttack } from "./search-attack.js";

/** Options of {@link deepFool}. */
export interface DeepFoolOptions {
  readonly norm: Norm;
  /** Changes that are larger are given up; default: none is. */
  readonly epsilon?: number;
  /** At most; default 50. */
  readonly steps?: number;
  /** Classes whose boundaries are looked at: the image's own and the most probable others; default 10. */
  readonly candidates?: number;
  /** By how much of the way it goes further than the boundary; default 0.02. */
  readonly overshoot?: number;
}

const deepFoolRules: Rules<DeepFoolOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  steps: integer({ from: 1 }),
  candidates: integer({ from: 2 }),
  overshoot: number({ from: 0 }),
};

/** What is added to the distance from a boundary; Foolbox's. */
const FURTHER = 1e-4;

/**
 * Small changes that the classifier is wrong about. An image is done as soon as it is taken for another class. Images
 * for which nothing is found within `epsilon` stay as they are.
 * @throws UsageError naming the option that is out of range
 */
export function deepFool(options: DeepFoolOptions): SearchAttack {
  const given = checkOptions("deepFool", options, deepFoolRules, ["norm"]);
  const { norm, epsilon = Number.POSITIVE_INFINITY, steps = 50, candidates = 10, overshoot = 0.02 } = given;
  return searchAttack({
    ...{ name: "DeepFool", norm, epsilon: given.epsilon, passes: steps * (candidates - 1) },
    async search(classifier, { images: from, labels }) {
      const { size } = classifier;
      const count = labels.length;
      const now = Float32Array.from(from);
      const total = new Float64Array(from.length);
      const logits = await classifier.logits(from);
      let wrong = classifier.wrong(logits, labels);
      const withoutGradient = wrong.map((is) => !is);
      const others = Array.from(labels, (label, i) => otherClasses(classifier, logits, i, label));
      const tried = Math.min(candidates, classifier.classes) - 1;
      for (let step = 0; step < steps && wrong.includes(false); step++) {
        const nearest = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
        const slopes = new Float32Array(from.length);
        for (let k = 0; k < tried; k++) {
          const towards = Int32Array.from(others, (classes) => classes[k]!);
          const { losses, gradients } = await classifier.gradients(towardsOther, now, labels, towards);
          for (let i = 0; i < count; i++) {
            const slope = row(gradients, i, size);
            const distance = Math.abs(losses[i]!) / steepness(norm, slope);
            if (!(distance < nearest[i]!)) continue;
            nearest[i] = distance;
            slopes.set(slope, i * size);
          }
        }
        for (let i = 0; i < count; i++) {
          if (wrong[i] || nearest[i] === Number.POSITIVE_INFINITY) continue;
          withoutGradient[i] = false;
          const slope = row(slopes, i, size);
          const [by, length] = [nearest[i]! + FURTHER, norm === "l2" ? lengthOf("l2", slope) : 1];
          for (let k = 0; k < size; k++) {
            const at = i * size + k;
            total[at]! += (by * (norm === "l2" ? slope[k]! : Math.sign(slope[k]!))) / length;
            now[at] = Math.max(0, Math.min(1, from[at]! + (1 + overshoot) * total[at]!));
          }
        }
        wrong = classifier.wrong(await classifier.logits(now), labels);
      }
      for (let i = 0; i < count; i++) {
        const [center, found] = [row(from, i, size), row(now, i, size)];
        if (!wrong[i] || lengthOf(norm, found, center) > epsilon) found.set(center);
      }
      return { images: now, withoutGradient };
    },
  });
}

/** By how much a linear function rises over a step of length 1 of the norm: the dual norm of its gradient. */
function steepness(norm: Norm, gradient: Float32Array): number {
  return norm === "l2" ? lengthOf("l2", gradient) : gradient.reduce((sum, value) => sum + Math.abs(value), 0);
}
