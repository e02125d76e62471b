// Carlini and Wagner's attack in the L2 norm (IEEE S&P 2017): Adam on |change|^2 + c max(margin, 0), with the c of each
// image found by bisection. Images are tanh of what moves, so they stay in [0, 1]. As Foolbox has it.
import { checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { epsilonRule } from "./attack.js";
import { marginLoss } from "./classifier.js";
import { lengthOf, row, type SearchAttack, searchAttack } from "./search-attack.js";

/** Options of {@link carliniWagner}. */
export interface CarliniWagnerOptions {
  /** Changes that are larger are given up; default: none is. */
  readonly epsilon?: number;
  /** How often c is chosen; default 9. */
  readonly binarySearchSteps?: number;
  /** Steps of Adam for each c, at most; default 10,000. */
  readonly steps?: number;
  /** Of Adam; default 0.01. */
  readonly stepSize?: number;
  /** By how much another logit is to exceed the image's own; default 0. */
  readonly confidence?: number;
  /** The first c; default 0.001. */
  readonly initialConstant?: number;
}

const carliniWagnerRules: Rules<CarliniWagnerOptions> = {
  epsilon: epsilonRule,
  binarySearchSteps: integer({ from: 1 }),
  steps: integer({ from: 1 }),
  stepSize: number({ above: 0 }),
  confidence: number({ from: 0 }),
  initialConstant: number({ above: 0 }),
};

/** A c ends early where its loss fell by less than this share over a tenth of the steps. */
const LEAST_FALL = 1e-4;
/** Keeps the inverse of tanh finite for values of 0 and 1. */
const INSIDE = 0.999999;
const [BETA1, BETA2, STABILISER] = [0.9, 0.999, 1e-8];
/** Largest c, where none succeeded before. */
const LARGEST = 1e10;

/**
 * The smallest changes in L2 that succeed. Each image stops by itself where its loss no longer falls. Images for which
 * nothing is found within `epsilon` stay as they are.
 * @throws UsageError naming the option that is out of range
 */
export function carliniWagner(options: CarliniWagnerOptions = {}): SearchAttack {
  const given = checkOptions("carliniWagner", options, carliniWagnerRules);
  const { epsilon = Number.POSITIVE_INFINITY, binarySearchSteps = 9, steps = 10_000, stepSize = 0.01 } = given;
  const { confidence = 0, initialConstant = 1e-3 } = given;
  return searchAttack({
    ...{ name: "Carlini-Wagner", norm: "l2", epsilon: given.epsilon, passes: binarySearchSteps * steps },
    async search(classifier, { images: from, labels }) {
      const { size } = classifier;
      const count = labels.length;
      const begin = Float64Array.from(from, (value) => Math.atanh((2 * value - 1) * INSIDE));
      // The image that stands for no change: not quite the given one.
      const origin = Float64Array.from(begin, (at) => (1 + Math.tanh(at)) / 2);
      const wrongBefore = classifier.wrong(await classifier.logits(from), labels);
      const images = Float32Array.from(from);
      const nearest = Float64Array.from(wrongBefore, (is) => (is ? 0 : Number.POSITIVE_INFINITY));
      const withoutGradient = wrongBefore.map((is) => !is);
      const constants = new Float64Array(count).fill(initialConstant);
      const [lower, upper] = [new Float64Array(count), new Float64Array(count).fill(Number.POSITIVE_INFINITY)];
      for (let round = 0; round < binarySearchSteps; round++) {
        const [moved, first, second] = [0, 1, 2].map(() => new Float64Array(from.length)) as [
          Float64Array,
          Float64Array,
          Float64Array,
        ];
        const now = Float32Array.from(origin);
        const inner = Float64Array.from(begin, Math.tanh);
        const succeeded = new Uint8Array(count);
        const done = wrongBefore.map((is) => is);
        const lastCheck = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
        for (let step = 0; step < steps && done.includes(false); step++) {
          const { losses, gradients, logits } = await classifier.gradients(marginLoss, now, labels);
          const wrong = classifier.wrong(logits, labels);
          for (let i = 0; i < count; i++) {
            if (done[i]) continue;
            const [at, center, slope] = [row(now, i, size), row(from, i, size), row(gradients, i, size)];
            if (slope.some((value) => value !== 0)) withoutGradient[i] = false;
            if (wrong[i] && losses[i]! >= confidence) {
              succeeded[i] = 1;
              const distance = lengthOf("l2", at, center);
              if (distance < nearest[i]!) {
                nearest[i] = distance;
                images.set(at, i * size);
              }
            }
            // The hinge: how far the margin is from what is asked.
            const missing = confidence - losses[i]!;
            let loss = constants[i]! * Math.max(0, missing);
            for (let k = i * size; k < (i + 1) * size; k++) loss += ((1 + inner[k]!) / 2 - origin[k]!) ** 2;
            if (step % Math.ceil(steps / 10) === 0) {
              if (!(loss <= (1 - LEAST_FALL) * lastCheck[i]!)) {
                done[i] = true;
                continue;
              }
              lastCheck[i] = loss;
            }
            for (let k = 0; k < size; k++) {
              const place = i * size + k;
              // d image / d moved is (1 - tanh^2) / 2.
              const [value, towards] = [inner[place]!, missing > 0 ? -constants[i]! * slope[k]! : 0];
              const gradient = ((1 + value - 2 * origin[place]! + towards) * (1 - value * value)) / 2;
              first[place] = BETA1 * first[place]! + (1 - BETA1) * gradient;
              second[place] = BETA2 * second[place]! + (1 - BETA2) * gradient * gradient;
              const mean = first[place]! / (1 - BETA1 ** (step + 1));
              const spread = Math.sqrt(second[place]! / (1 - BETA2 ** (step + 1)));
              moved[place]! -= (stepSize * mean) / (spread + STABILISER);
              inner[place] = Math.tanh(begin[place]! + moved[place]!);
              at[k] = (1 + inner[place]!) / 2;
            }
          }
        }
        for (let i = 0; i < count; i++) {
          if (succeeded[i]) upper[i] = constants[i]!;
          else lower[i] = constants[i]!;
          constants[i] =
            upper[i] === Number.POSITIVE_INFINITY ? Math.min(10 * constants[i]!, LARGEST) : (lower[i]! + upper[i]!) / 2;
        }
      }
      for (let i = 0; i < count; i++) {
        if (nearest[i]! > epsilon || nearest[i] === Number.POSITIVE_INFINITY) {
          images.set(row(from, i, size), i * size);
        }
      }
      return { images, withoutGradient };
    },
  });
}
