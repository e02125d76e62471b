// APGD, PGD that chooses its steps (Croce and Hein, ICML 2020). Steps begin at twice the radius, have momentum, and
// halve where the loss does not rise. The search then goes on from the best point. As AutoAttack has it.
import { checkOptions, integer, oneOf, type Rules } from "../../tensor/options.js";
import { RandomStream } from "../../tensor/random.js";
import { epsilonRule, type Norm, normRule } from "./attack.js";
import { type AttackLoss, type Classifier, differenceRatio, oddsAgainst } from "./classifier.js";
import {
  type HostBatch,
  lengthOf,
  pick,
  project,
  row,
  type SearchAttack,
  type SearchResult,
  searchAttack,
  stepAlong,
} from "./search-attack.js";

/** Options of {@link apgd}. */
export interface ApgdOptions {
  readonly norm: Norm;
  /** Radius of the ball, for values in [0, 1]. */
  readonly epsilon: number;
  /** Default 100. */
  readonly steps?: number;
  /**
   * "ce": the cross-entropy; "dlr-targeted": the difference of logits ratio towards each of the most probable other
   * classes, one run for each. Default "ce".
   */
  readonly loss?: "ce" | "dlr-targeted";
  /** How many classes "dlr-targeted" tries; default 9. */
  readonly targetClasses?: number;
}

const apgdRules: Rules<ApgdOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  steps: integer({ from: 1 }),
  loss: oneOf("ce", "dlr-targeted"),
  targetClasses: integer({ from: 1 }),
};

/** Share of steps since the last look in which the loss has to rise, or steps are halved. */
const RISING_SHARE = 0.75;
/** Share of a step; the rest is the way of the step before. */
const STEP_SHARE = 0.75;

/**
 * PGD without a step length to choose. What is kept of an image is a point that the classifier gets wrong, and where
 * there is none, the one of the highest loss.
 *
 * "ce" is computed as log((1 - p) / p), which has the order and the direction of the cross-entropy, also where it is 0.
 * @throws UsageError naming the option that is out of range
 */
export function apgd(options: ApgdOptions): SearchAttack {
  const given = checkOptions("apgd", options, apgdRules, ["norm", "epsilon"]);
  const { norm, epsilon, steps = 100, loss = "ce", targetClasses = 9 } = given;
  const targeted = loss === "dlr-targeted";
  const name = targeted ? "APGD-T" : "APGD-CE";
  return searchAttack({
    ...{ name, norm, epsilon, passes: (steps + 1) * (targeted ? targetClasses : 1) },
    async search(classifier, batch, seed) {
      const runs = targeted ? Math.min(targetClasses, classifier.classes - 1) : 1;
      const { size } = classifier;
      const images = Float32Array.from(batch.images);
      const before = await classifier.logits(batch.images);
      const wrong = classifier.wrong(before, batch.labels);
      // What is wrong already needs no gradient.
      const withoutGradient = wrong.map((is) => !is);
      let left = remaining(wrong);
      for (let run = 0; run < runs && left.length > 0; run++) {
        const part = pick(batch, left, size);
        const others = Int32Array.from(left, (i) => otherClasses(classifier, before, i, batch.labels[i]!)[run] ?? 0);
        const found = await climb(classifier, part, others, {
          ...{ norm, epsilon, steps, loss: targeted ? differenceRatio : oddsAgainst },
          ...{ seed, stream: `${name}/${run}` },
        });
        for (const [k, i] of left.entries()) {
          if (found.fooled[k] || run === runs - 1) images.set(row(found.images, k, size), i * size);
          if (!found.withoutGradient[k]) withoutGradient[i] = false;
        }
        left = left.filter((_, k) => !found.fooled[k]);
      }
      return { images, withoutGradient };
    },
  });
}

/** Those for which it is not so. */
export const remaining = (done: readonly boolean[]): number[] => done.flatMap((is, i) => (is ? [] : [i]));

/** The classes that an image is not of, the most probable first. */
export function otherClasses(classifier: Classifier, logits: Float64Array, image: number, label: number): number[] {
  return classifier.ranked(logits, image).filter((each) => each !== label);
}

/** One run of APGD. */
async function climb(
  classifier: Classifier,
  batch: HostBatch,
  others: Int32Array,
  options: {
    readonly norm: Norm;
    readonly epsilon: number;
    readonly steps: number;
    readonly loss: AttackLoss;
    readonly seed: number;
    readonly stream: string;
  },
): Promise<SearchResult & { readonly fooled: readonly boolean[] }> {
  const { norm, epsilon, steps } = options;
  const { size } = classifier;
  const { images: x, labels, places } = batch;
  const count = labels.length;
  const evaluate = (at: Float32Array) => classifier.gradients(options.loss, at, labels, others);
  const now = startsIn(norm, batch, epsilon, (place) => new RandomStream(options.seed, `${options.stream}/${place}`));
  const before = Float32Array.from(now);
  let { losses, gradients, logits } = await evaluate(now);
  const fooled = classifier.wrong(logits, labels);
  const adversarial = Float32Array.from(now);
  const best = { images: Float32Array.from(now), gradients: Float32Array.from(gradients), losses: losses.slice() };
  const withoutGradient = places.map((_, i) => row(gradients, i, size).every((value) => value === 0));

  const stepLengths = new Float64Array(count).fill(2 * epsilon);
  const rises = new Int32Array(count);
  const lastCheck = { losses: losses.slice(), halved: new Uint8Array(count).fill(1) };
  let untilCheck = Math.max(1, Math.floor(0.22 * steps));
  let sinceCheck = 0;
  let lastLosses = losses;
  for (let step = 0; step < steps; step++) {
    const share = step > 0 ? STEP_SHARE : 1;
    for (let i = 0; i < count; i++) {
      const [center, current, previous] = [row(x, i, size), row(now, i, size), row(before, i, size)];
      const moved = Float32Array.from(current);
      stepAlong(norm, moved, row(gradients, i, size), stepLengths[i]!);
      project(norm, moved, center, epsilon);
      for (let k = 0; k < size; k++) {
        const here = current[k]!;
        moved[k] = here + (moved[k]! - here) * share + (here - previous[k]!) * (1 - share);
        previous[k] = here;
      }
      project(norm, moved, center, epsilon);
      current.set(moved);
    }
    ({ losses, gradients, logits } = await evaluate(now));
    const wrong = classifier.wrong(logits, labels);
    for (let i = 0; i < count; i++) {
      if (wrong[i]) {
        fooled[i] = true;
        adversarial.set(row(now, i, size), i * size);
      }
      if (row(gradients, i, size).some((value) => value !== 0)) withoutGradient[i] = false;
      if (losses[i]! > lastLosses[i]!) rises[i]!++;
      if (losses[i]! > best.losses[i]!) {
        best.losses[i] = losses[i]!;
        best.images.set(row(now, i, size), i * size);
        best.gradients.set(row(gradients, i, size), i * size);
      }
    }
    lastLosses = losses;
    if (++sinceCheck < untilCheck) continue;
    gradients = Float32Array.from(gradients);
    for (let i = 0; i < count; i++) {
      const oscillates = rises[i]! <= RISING_SHARE * sinceCheck;
      const stands = lastCheck.halved[i] === 0 && lastCheck.losses[i]! >= best.losses[i]!;
      lastCheck.halved[i] = oscillates || stands ? 1 : 0;
      lastCheck.losses[i] = best.losses[i]!;
      rises[i] = 0;
      if (lastCheck.halved[i] === 0) continue;
      stepLengths[i]! /= 2;
      now.set(row(best.images, i, size), i * size);
      gradients.set(row(best.gradients, i, size), i * size);
    }
    untilCheck = Math.max(untilCheck - Math.max(1, Math.floor(0.03 * steps)), Math.max(1, Math.floor(0.06 * steps)));
    sinceCheck = 0;
  }
  for (let i = 0; i < count; i++) if (!fooled[i]) adversarial.set(row(best.images, i, size), i * size);
  return { images: adversarial, withoutGradient, fooled };
}

/** Points on the border of the balls around images: a random direction of full length. */
export function startsIn(
  norm: Norm,
  { images, places }: HostBatch,
  epsilon: number,
  randomOf: (place: number) => RandomStream,
): Float32Array {
  const size = images.length / places.length;
  const starts = Float32Array.from(images);
  for (const [i, place] of places.entries()) {
    const random = randomOf(place);
    const direction = Float64Array.from({ length: size }, () =>
      norm === "l2" ? random.normal() : 2 * random.uniform() - 1,
    );
    const length = lengthOf(norm, direction);
    const start = row(starts, i, size);
    for (let k = 0; k < size; k++) start[k]! += (epsilon * direction[k]!) / length;
    project(norm, start, row(images, i, size), epsilon);
  }
  return starts;
}
