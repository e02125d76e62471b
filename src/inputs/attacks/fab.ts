// FAB, the fast adaptive boundary attack (Croce and Hein, ICML 2020), targeted. It looks for the nearest point beyond
// the boundary to each of the most probable other classes. As AutoAttack has it.
import { checkOptions, integer, type Rules } from "../../tensor/options.js";
import { otherClasses, remaining } from "./apgd.js";
import { epsilonRule, type Norm, normRule } from "./attack.js";
import { type Classifier, towardsOther } from "./classifier.js";
import { type HostBatch, lengthOf, pick, row, type SearchAttack, searchAttack } from "./search-attack.js";

/** Options of {@link fab}. */
export interface FabOptions {
  readonly norm: Norm;
  /** Changes that are larger are given up; default: none is. */
  readonly epsilon?: number;
  /** Towards each class; default 100. */
  readonly steps?: number;
  /** How many classes are tried; default 9. */
  readonly targetClasses?: number;
}

const fabRules: Rules<FabOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  steps: integer({ from: 1 }),
  targetClasses: integer({ from: 1 }),
};

/** AutoAttack's: largest share of the way that is taken from the image, overshoot, and how far back after a success. */
const [MOST_BIAS, OVERSHOOT, BACKWARD] = [0.1, 1.05, 0.9];
/** What a length is taken for at least, where something is divided by it. */
const LEAST_LENGTH = 1e-8;

/**
 * At each step the difference of two logits is taken for linear. Two points in [0, 1] of the plane where it is 0 are
 * found: the nearest to where the search is, and the nearest to the image. The next point is between. Images for which
 * nothing is found within `epsilon` stay as they are.
 * @throws UsageError naming the option that is out of range
 */
export function fab(options: FabOptions): SearchAttack {
  const given = checkOptions("fab", options, fabRules, ["norm"]);
  const { norm, epsilon, steps = 100, targetClasses = 9 } = given;
  return searchAttack({
    ...{ name: "FAB-T", norm, epsilon, passes: 1.5 * steps * targetClasses },
    async search(classifier, batch) {
      const { size } = classifier;
      const images = Float32Array.from(batch.images);
      const before = await classifier.logits(batch.images);
      const wrong = classifier.wrong(before, batch.labels);
      const withoutGradient = wrong.map((is) => !is);
      const distances = new Float64Array(batch.labels.length).fill(epsilon ?? Number.POSITIVE_INFINITY);
      // Within a ball, what succeeded once is done; without one, all classes are tried for a smaller change.
      let left = remaining(wrong);
      for (let run = 0; run < Math.min(targetClasses, classifier.classes - 1) && left.length > 0; run++) {
        const others = Int32Array.from(left, (i) => otherClasses(classifier, before, i, batch.labels[i]!)[run]!);
        const found = await nearest(classifier, pick(batch, left, size), others, norm, steps);
        const succeeded = left.map((i, k) => found.distances[k]! <= distances[i]!);
        for (const [k, i] of left.entries()) {
          if (!found.withoutGradient[k]) withoutGradient[i] = false;
          if (!succeeded[k]) continue;
          distances[i] = found.distances[k]!;
          images.set(row(found.images, k, size), i * size);
        }
        if (epsilon !== undefined) left = left.filter((_, k) => !succeeded[k]);
      }
      return { images, withoutGradient };
    },
  });
}

/** The nearest images of another class that a run finds, and how far they are: Infinity where there are none. */
async function nearest(classifier: Classifier, batch: HostBatch, others: Int32Array, norm: Norm, steps: number) {
  const { size } = classifier;
  const { images: from, labels } = batch;
  const now = Float32Array.from(from);
  const best = Float32Array.from(from);
  const distances = new Float64Array(labels.length).fill(Number.POSITIVE_INFINITY);
  const withoutGradient = new Array<boolean>(labels.length).fill(true);
  const [here, there] = [new Float64Array(size), new Float64Array(size)];
  for (let step = 0; step < steps; step++) {
    const { losses, gradients } = await classifier.gradients(towardsOther, now, labels, others);
    for (const [i] of labels.entries()) {
      const [center, at, slope] = [row(from, i, size), row(now, i, size), row(gradients, i, size)];
      const length = lengthOf("linf", slope);
      if (length === 0 || !Number.isFinite(length)) continue;
      withoutGradient[i] = false;
      let offset = -losses[i]!;
      for (let k = 0; k < size; k++) offset += slope[k]! * at[k]!;
      toPlane(norm, at, slope, offset, here);
      toPlane(norm, center, slope, offset, there);
      const [near, far] = [lengthOf(norm, here), lengthOf(norm, there)].map((l) => Math.max(l, LEAST_LENGTH));
      const bias = Math.min(near! / (near! + far!), MOST_BIAS);
      for (let k = 0; k < size; k++) {
        const moved = (at[k]! + OVERSHOOT * here[k]!) * (1 - bias) + (center[k]! + OVERSHOOT * there[k]!) * bias;
        at[k] = Math.max(0, Math.min(1, moved));
      }
    }
    const wrong = classifier.wrong(await classifier.logits(now), labels);
    for (const [i, is] of wrong.entries()) {
      if (!is) continue;
      const [center, at] = [row(from, i, size), row(now, i, size)];
      const distance = lengthOf(norm, at, center);
      if (distance < distances[i]!) {
        distances[i] = distance;
        best.set(at, i * size);
      }
      for (let k = 0; k < size; k++) at[k] = center[k]! + (at[k]! - center[k]!) * BACKWARD;
    }
  }
  return { images: best, distances, withoutGradient };
}

/** Rounds of Newton's method at most; it ends after the few pieces that a sum is linear on. */
const MOST_ROUNDS = 100;

/**
 * The shortest way `d` from t to the plane {z: w z = b} that stays in [0, 1], or as far towards it as there is room.
 *
 * Along each value it goes against w's sign by min(m, room) in the L-infinity norm, by min(m |w|, room) in L2, for one
 * m. What w d comes to is concave and linear in pieces as a function of m. So Newton's method from 0 finds the m that
 * is asked for after finitely many rounds.
 */
export function toPlane(norm: Norm, t: Float32Array, w: Float32Array, b: number, d: Float64Array): void {
  let above = -b;
  for (let k = 0; k < t.length; k++) above += w[k]! * t[k]!;
  const side = above >= 0 ? 1 : -1;
  const wanted = Math.abs(above);
  const room = (k: number) => (side * w[k]! > 0 ? t[k]! : 1 - t[k]!);
  const pace = (weight: number) => (norm === "l2" ? weight : 1);
  let m = 0;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    let [reached, slope] = [0, 0];
    for (let k = 0; k < t.length; k++) {
      const weight = Math.abs(w[k]!);
      const [by, most] = [m * pace(weight), room(k)];
      reached += weight * Math.min(by, most);
      if (by < most) slope += weight * pace(weight);
    }
    if (slope === 0 || reached >= wanted * (1 - 1e-12)) break;
    m += (wanted - reached) / slope;
  }
  for (let k = 0; k < t.length; k++) {
    const weight = Math.abs(w[k]!);
    d[k] = weight === 0 ? 0 : -Math.sign(side * w[k]!) * Math.min(m * pace(weight), room(k));
  }
}
