// Attacks that look at what came of each step, on the host: what they do to an image depends on how the classifier
// answered before. They keep what succeeded, and have no place in a recorded training step.
import type { Model } from "../model.js";
import type { Attack, Norm } from "./attack.js";
import { Classifier } from "./classifier.js";

/** Images of a set on the host. */
export interface HostBatch {
  /** [n, ...inputShape] in [0, 1]. */
  readonly images: Float32Array;
  /** [n] */
  readonly labels: Int32Array;
  /** Each one's place in the set, on which its random numbers depend. */
  readonly places: readonly number[];
}

/** What a search found. */
export interface SearchResult {
  /** [n, ...inputShape], what succeeded; else an attempt, or the image as it was. */
  readonly images: Float32Array;
  /** For each image, whether no step had a gradient; all false for searches that use none. */
  readonly withoutGradient: readonly boolean[];
}

/** An attack that decides on the host. */
export interface SearchAttack extends Attack {
  search(classifier: Classifier, batch: HostBatch, seed: number): Promise<SearchResult>;
}

/** An attack of how it searches. */
export function searchAttack(definition: Omit<SearchAttack, "prepare">): SearchAttack {
  return {
    ...definition,
    prepare(model: Model, { seed }) {
      const classifier = new Classifier(model);
      return {
        async attack(x, y, first) {
          const labels = y.values as Int32Array;
          const places = Array.from(labels, (_, i) => first + i);
          const batch = { images: x.values as Float32Array, labels, places };
          const { images, withoutGradient } = await definition.search(classifier, batch, seed);
          return { images, withoutGradient: withoutGradient.filter(Boolean).length };
        },
        dispose: () => classifier.dispose(),
      };
    },
  };
}

/** Some images of a batch. */
export function pick({ images, labels, places }: HostBatch, chosen: readonly number[], size: number): HostBatch {
  return {
    images: rowsOf(images, chosen, size),
    labels: Int32Array.from(chosen, (i) => labels[i]!),
    places: chosen.map((i) => places[i]!),
  };
}

/** Some rows of `size` values. */
export function rowsOf(values: Float32Array, chosen: readonly number[], size: number): Float32Array {
  const rows = new Float32Array(chosen.length * size);
  for (const [to, from] of chosen.entries()) rows.set(row(values, from, size), to * size);
  return rows;
}

/** Row i of rows of `size` values. */
export const row = (values: Float32Array, i: number, size: number): Float32Array =>
  values.subarray(i * size, (i + 1) * size);

/** Length of what is between two rows, or of one. */
export function lengthOf(norm: Norm, a: ArrayLike<number>, b?: ArrayLike<number>): number {
  let found = 0;
  for (let k = 0; k < a.length; k++) {
    const change = b === undefined ? a[k]! : a[k]! - b[k]!;
    found = norm === "l2" ? found + change * change : Math.max(found, Math.abs(change));
  }
  return norm === "l2" ? Math.sqrt(found) : found;
}

/** Puts `x`, moved to the ball of radius epsilon around `center` and to [0, 1], in its own place. */
export function project(norm: Norm, x: Float32Array, center: Float32Array, epsilon: number): void {
  const share = norm === "l2" ? Math.min(1, epsilon / Math.max(lengthOf("l2", x, center), Number.MIN_VALUE)) : 1;
  for (let k = 0; k < x.length; k++) {
    const change = x[k]! - center[k]!;
    const kept = norm === "l2" ? change * share : Math.max(-epsilon, Math.min(epsilon, change));
    x[k] = Math.max(0, Math.min(1, center[k]! + kept));
  }
}

/** Adds the step of length `by` along a gradient: along its sign, or its direction. Nothing where it is 0. */
export function stepAlong(norm: Norm, x: Float32Array, gradient: Float32Array, by: number): void {
  const length = norm === "l2" ? lengthOf("l2", gradient) : 1;
  if (length === 0) return;
  for (let k = 0; k < x.length; k++) {
    x[k]! += norm === "l2" ? (by * gradient[k]!) / length : by * Math.sign(gradient[k]!);
  }
}
