// What the figures of an input optimisation say, in sentences: pure functions of figures, beside what others saw.

import type { FoundImage } from "../inputs/optimize-run.js";
import { MIXED_BAR, ONE_HOT_BAR } from "../inputs/optimize-run.js";
import type { Answers } from "../training/classify.js";
import { counted, listed, percent } from "./text.js";

/** What others saw. */
export const seenByOthers = {
  /** B1: steps to 99 % at rate 0.1. */
  stepsTo99: [2, 4],
  /** B3: digits that are mostly recognisable when the start is a noisy real one. */
  recognisable: [1, 2, 6, 8],
  /** B4: after 10 steps, instead of 0.5 each. */
  mixed: "0.29 and 0.71",
  /** B5: 7 is classified 2. */
  change: {
    text: "7 to 2",
    after: new Map([
      [2, 0.93],
      [3, 0.99],
    ]),
  },
  /** B6: almost all noise. */
  noise: { digit: 8, confidence: 0.49 },
} as const;
/** What "almost all" means. */
const ALMOST_ALL = 0.9;

/** The lower of the middle two where there are two; undefined of nothing. */
export const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
export const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** B1: how soon 99 % is reached at the higher rate. */
export function firstStepsRemark({
  stepsTo99,
  steps,
  learningRate,
}: {
  /** Of each image; null where it is not reached. */
  readonly stepsTo99: readonly (number | null)[];
  readonly steps: number;
  readonly learningRate: number;
}): string {
  const [, most] = seenByOthers.stepsTo99;
  const reaching = stepsTo99.flatMap((count) => count ?? []);
  const soon = reaching.filter((count) => count <= most).length;
  const middle = median(reaching);
  const reached =
    middle === undefined
      ? `None of ${stepsTo99.length} images reaches ${percent(ONE_HOT_BAR, 0)} within ${counted(steps, "step")}`
      : `${percent(ONE_HOT_BAR, 0)} is reached by ${reaching.length} of ${stepsTo99.length} images within ${counted(steps, "step")}, in the median after ${middle}, by ${soon} of them within ${most}`;
  return `At learning rate ${learningRate} and without clipping: ${reached}. The reference took ${seenByOthers.stepsTo99.join(" to ")} steps and saw curves and lines, no digits.`;
}

/** What judges make of images, by the share of them that each takes for what they were found for. */
export function transferRemark(rates: Readonly<Record<string, number>>): string {
  const parts = Object.entries(rates).map(([name, rate]) => `${name} in ${percent(rate, 0)}`);
  return `Networks of other architectures see what was asked for: ${listed(parts)} of the images.`;
}

/** Correlations that differ by less count as the same. */
const SAME_CORRELATION = 0.01;

/** A figure at the start and in the end, means over the images. */
interface Change {
  readonly before: number;
  readonly after: number;
}

/** B2: whether the found images are nearer to the digit than their noisy starts were. */
export function structureRemark({
  probability,
  likeness,
}: {
  readonly probability: Change;
  readonly likeness: Change;
}) {
  const { before, after } = likeness;
  const word =
    after > before + SAME_CORRELATION ? "nearer to" : after < before - SAME_CORRELATION ? "further from" : "as near to";
  return `The network gives the digit ${percent(probability.before)} at the start on average and ${percent(probability.after)} before the last step. The correlation with the digit before the noise was ${before.toFixed(2)} at the start and is ${after.toFixed(2)} in the end: the images end ${word} the real digit (up to ${SAME_CORRELATION} counts as the same)${word === "as near to" ? " as they began" : " than they began"}. The reference saw the digit's structure kept and the features of its class strengthened.`;
}

/** Pearson's, of two images. */
export function correlation(a: Float32Array, b: Float32Array): number {
  const [meanA, meanB] = [a, b].map((values) => values.reduce((x, y) => x + y) / values.length) as [number, number];
  let [ab, aa, bb] = [0, 0, 0];
  for (const [i, value] of a.entries()) {
    ab += (value - meanA) * (b[i]! - meanB);
    aa += (value - meanA) ** 2;
    bb += (b[i]! - meanB) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

/** B3: how often each judge sees a digit, by what its images are. */
export interface RecognisedDigit {
  readonly digit: number;
  /** Found from noise; noisy real digits before a step; found from those. */
  readonly noise: readonly number[];
  readonly before: readonly number[];
  readonly real: readonly number[];
}

/** Which digits other networks recognise. */
export function recognisableRemark(rows: readonly RecognisedDigit[]): string {
  const named = (kind: "noise" | "before" | "real") => {
    const digits = rows.filter((row) => row[kind].every((rate) => rate > 0.5)).map(({ digit }) => String(digit));
    return digits.length === 0 ? "none" : listed(digits);
  };
  return `A digit counts as recognisable here where every judge sees it in more than half of its images. From noise: ${named("noise")}. From noisy real digits: ${named("real")}; before a single step: ${named("before")}. A person found ${listed(seenByOthers.recognisable.map(String))} recognisable from noisy real digits in the reference, and hardly any from noise.`;
}

/** How far an image is from the share that it misses most. */
export const largestMiss = ({ target, probabilities }: Pick<FoundImage, "target" | "probabilities">) =>
  Math.max(...probabilities.map((p, digit) => Math.abs(p - target.probabilities[digit]!)));

/** A way to find images of two digits: the largest miss of all its images. */
interface MixedWay {
  readonly steps: number;
  readonly learningRate: number;
  readonly miss: number;
}

/** B4: how near to the shares each way of going about it comes. */
export function mixedRemark({
  few,
  many,
  settled,
}: {
  readonly few: MixedWay;
  readonly many: MixedWay;
  /** With a rate that falls in the end. */
  readonly settled: { readonly miss: number; readonly met: number; readonly count: number };
}): string {
  return (
    `The largest miss of a share is ${few.miss.toPrecision(2)} after ${counted(few.steps, "step")} at rate ${few.learningRate}, ` +
    `${many.miss.toPrecision(2)} after ${many.steps} at ${many.learningRate}, and ${settled.miss.toPrecision(2)} after as many whose rate falls in the end: ` +
    `${settled.met} of ${settled.count} images are within ${MIXED_BAR} of both shares then. The reference ended at ${seenByOthers.mixed} after 10 steps.`
  );
}

/** What a network says to noise. */
export type AnswersToNoise = Pick<Answers, "predicted" | "confidence">;

/** B6: a network's answers to noise, summed up. */
export function noiseFigures({ predicted, confidence }: AnswersToNoise) {
  const counts = Array.from({ length: 10 }, (_, digit) => predicted.reduce((n, p) => n + (p === digit ? 1 : 0), 0));
  const favourite = counts.indexOf(Math.max(...counts));
  const sorted = Float64Array.from(confidence).sort();
  const quantile = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return {
    shares: counts.map((count) => count / predicted.length),
    favourite,
    favouriteShare: counts[favourite]! / predicted.length,
    favouriteConfidence: mean(Array.from(confidence).filter((_, i) => predicted[i] === favourite)),
    confidence: { mean: mean(Array.from(confidence)), low: quantile(0.1), median: quantile(0.5), high: quantile(0.9) },
  };
}

/** Whether the networks agree on what noise is, and with the reference. */
export function noiseRemark(
  networks: readonly { readonly name: string; readonly favourite: number; readonly favouriteShare: number }[],
  { count }: { readonly count: number },
): string {
  const { digit, confidence } = seenByOthers.noise;
  const so = networks.filter(({ favourite, favouriteShare }) => favourite === digit && favouriteShare >= ALMOST_ALL);
  return (
    `${counted(count, "uniform random image")}, only classified. A reference network called almost all noise ${digit}, with about ${percent(confidence, 0)}. ` +
    `Of the ${networks.length} networks here ${so.length === 0 ? "none does" : so.length === networks.length ? "all do" : `${listed(so.map(({ name }) => name))} ${so.length === 1 ? "does" : "do"}`} (at least ${percent(ALMOST_ALL, 0)} of the images): ` +
    `${listed(networks.map(({ name, favourite, favouriteShare }) => `${name} says ${favourite} to ${percent(favouriteShare, 1)}`))}. ` +
    (new Set(networks.map(({ favourite }) => favourite)).size === 1
      ? "They agree on the digit."
      : "Which digit it is depends on the network, not on the noise.")
  );
}
