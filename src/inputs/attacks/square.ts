// Square attack (Andriushchenko, Croce, Flammarion, Hein, ECCV 2020): random squares, kept where they help. It asks for
// logits alone, so no gradient can mislead it. As AutoAttack has it, but for where squares lie: each image has its own.
import { ShapeError } from "../../tensor/errors.js";
import { boolean, checkOptions, integer, type Rules } from "../../tensor/options.js";
import { RandomStream } from "../../tensor/random.js";
import { formatShape } from "../../tensor/shape.js";
import { remaining } from "./apgd.js";
import { epsilonRule, type Norm, normRule } from "./attack.js";
import type { Classifier } from "./classifier.js";
import { lengthOf, row, rowsOf, type SearchAttack, searchAttack } from "./search-attack.js";

/** Options of {@link square}. */
export interface SquareOptions {
  readonly norm: Norm;
  /** Radius of the ball, for values in [0, 1]. */
  readonly epsilon: number;
  /** Passes forward for an image at most; default 5000. */
  readonly queries?: number;
  /** Whether squares shrink with the share of queries that are gone, instead of their number; default true. */
  readonly rescaleSchedule?: boolean;
}

const squareRules: Rules<SquareOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  queries: integer({ from: 1 }),
  rescaleSchedule: boolean,
};

/** Share of an image that a square covers at first. */
const FIRST_SHARE = 0.8;
/** After how many queries of 10,000 it halves. */
const HALVINGS = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000] as const;

/**
 * Random squares, for images [H, W, C]; an image that is wrong is left as it is found. Where none is, what is kept is
 * what the classifier is least sure of.
 * @throws UsageError naming the option that is out of range; ShapeError, when it runs, for models of other inputs
 */
export function square(options: SquareOptions): SearchAttack {
  const given = checkOptions("square", options, squareRules, ["norm", "epsilon"]);
  const { norm, epsilon, queries = 5000, rescaleSchedule = true } = given;
  return searchAttack({
    ...{ name: "Square", norm, epsilon, passes: queries / 2 },
    async search(classifier, { images: from, labels, places }, seed) {
      const { size, classes } = classifier;
      const shape = imageShape(classifier);
      const wrongBefore = classifier.wrong(await classifier.logits(from), labels);
      const images = Float32Array.from(from);
      const margins = new Float64Array(labels.length).fill(Number.NEGATIVE_INFINITY);
      const randoms = places.map((place) => new RandomStream(seed, `square/${place}`));
      /** Asks for tries of some images, and keeps what is better. */
      const ask = async (chosen: readonly number[], first: boolean, attempt: (i: number, x: Float32Array) => void) => {
        const tries = rowsOf(images, chosen, size);
        for (const [k, i] of chosen.entries()) attempt(i, row(tries, k, size));
        const logits = await classifier.logits(tries);
        for (const [k, i] of chosen.entries()) {
          const margin = marginOf(logits.subarray(k * classes, (k + 1) * classes), labels[i]!);
          if (!first && margin >= margins[i]! && margin > 0) continue;
          margins[i] = margin;
          images.set(row(tries, k, size), i * size);
        }
      };
      const right = remaining(wrongBefore);
      if (right.length > 0) {
        await ask(right, true, (i, x) => begin(norm, x, row(from, i, size), shape, epsilon, randoms[i]!));
      }
      let left = right.filter((i) => margins[i]! > 0);
      for (let query = 0; query < queries && left.length > 0; query++) {
        const schedule = rescaleSchedule ? Math.floor((query / queries) * 10_000) : query;
        const share = FIRST_SHARE / 2 ** HALVINGS.filter((after) => schedule > after).length;
        await ask(left, false, (i, x) => change[norm](x, row(from, i, size), shape, epsilon, share, randoms[i]!));
        left = left.filter((i) => margins[i]! > 0);
      }
      return { images, withoutGradient: wrongBefore.map(() => false) };
    },
  });
}

type ImageShape = readonly [height: number, width: number, channels: number];

function imageShape({ model }: Classifier): ImageShape {
  const { inputShape } = model;
  if (inputShape.length === 3) return inputShape as unknown as ImageShape;
  throw new ShapeError(`square: needs a model of images [H, W, C], "${model.name}" takes ${formatShape(inputShape)}`);
}

/** The image's own logit less the largest of the others. */
function marginOf(logits: Float64Array, label: number): number {
  let other = Number.NEGATIVE_INFINITY;
  for (const [c, logit] of logits.entries()) if (c !== label) other = Math.max(other, logit);
  return logits[label]! - other;
}

const sign = (random: RandomStream) => (random.uniform() < 0.5 ? -1 : 1);
const inRange = (value: number) => Math.max(0, Math.min(1, value));

/** Stripes of the ball's radius (L-infinity), or a grid of small pyramids (L2), on an image. */
function begin(
  norm: Norm,
  x: Float32Array,
  from: Float32Array,
  shape: ImageShape,
  epsilon: number,
  random: RandomStream,
): void {
  const [height, width, channels] = shape;
  if (norm === "linf") {
    const signs = Float64Array.from({ length: width * channels }, () => sign(random));
    for (let k = 0; k < x.length; k++) x[k] = inRange(from[k]! + epsilon * signs[k % signs.length]!);
    return;
  }
  const side = Math.max(1, Math.floor(Math.min(height, width) / 5));
  const first = Math.floor((Math.min(height, width) - 5 * side) / 2);
  const delta = new Float64Array(x.length);
  for (let top = Math.max(0, first); top + side <= height; top += side) {
    for (let left = Math.max(0, first); left + side <= width; left += side) {
      const shapeOfIt = pyramids(side, random);
      for (let channel = 0; channel < channels; channel++) {
        const by = sign(random);
        for (const [at, value] of shapeOfIt.entries()) {
          delta[indexOf(shape, top + Math.floor(at / side), left + (at % side), channel)] = by * value;
        }
      }
    }
  }
  put(x, from, delta, epsilon);
}

const indexOf = ([, width, channels]: ImageShape, row: number, column: number, channel: number) =>
  (row * width + column) * channels + channel;

/** from + delta of length epsilon, in [0, 1]. */
function put(x: Float32Array, from: Float32Array, delta: Float64Array, epsilon: number): void {
  const length = Math.max(lengthOf("l2", delta), 1e-12);
  for (let k = 0; k < x.length; k++) x[k] = inRange(from[k]! + (epsilon * delta[k]!) / length);
}

/** What a query changes of the best image x so far. */
const change: Record<
  Norm,
  (x: Float32Array, from: Float32Array, shape: ImageShape, epsilon: number, share: number, random: RandomStream) => void
> = {
  /** A square whose channels go to one end of the ball each. */
  linf(x, from, shape, epsilon, share, random) {
    const [height, width, channels] = shape;
    const side = Math.max(1, Math.min(Math.round(Math.sqrt(share * height * width)), height, width));
    const [top, left] = [random.integer(height - side + 1), random.integer(width - side + 1)];
    const by = Array.from({ length: channels }, () => 2 * epsilon * sign(random));
    for (let row = top; row < top + side; row++) {
      for (let column = left; column < left + side; column++) {
        for (let channel = 0; channel < channels; channel++) {
          const k = indexOf(shape, row, column, channel);
          const moved = Math.max(-epsilon, Math.min(epsilon, x[k]! + by[channel]! - from[k]!));
          x[k] = inRange(from[k]! + moved);
        }
      }
    }
  },
  /** The change of one window goes to another, where it takes the form of two pyramids. */
  l2(x, from, shape, epsilon, share, random) {
    const [height, width, channels] = shape;
    let side = Math.max(3, Math.round(Math.sqrt(share * height * width)));
    if (side % 2 === 0) side++;
    side = Math.min(side, height, width);
    const place = () => [random.integer(height - side + 1), random.integer(width - side + 1)] as const;
    const window = ([top, left]: readonly [number, number], channel: number) =>
      Array.from({ length: side * side }, (_, at) =>
        indexOf(shape, top + Math.floor(at / side), left + (at % side), channel),
      );
    const [to, gone] = [place(), place()];
    const delta = Float64Array.from(x, (value, k) => value - from[k]!);
    const all = Array.from({ length: channels }, (_, channel) => channel);
    const both = new Set(all.flatMap((channel) => [...window(to, channel), ...window(gone, channel)]));
    let inWindows = 0;
    for (const k of both) inWindows += delta[k]! ** 2;
    const unused = Math.max(0, epsilon ** 2 - lengthOf("l2", delta) ** 2);
    const form = pyramids(side, random);
    const fresh = all.map((channel) => {
      const old = window(to, channel).map((k) => delta[k]!);
      const by = sign(random);
      const oldLength = lengthOf("l2", old) + 1e-12;
      const wanted = old.map((value, at) => by * form[at]! + value / oldLength);
      const length = Math.sqrt(unused / channels + inWindows) / (lengthOf("l2", wanted) + 1e-12);
      return wanted.map((value) => value * length);
    });
    for (const channel of all) for (const k of window(gone, channel)) delta[k] = 0;
    for (const channel of all) for (const [at, k] of window(to, channel).entries()) delta[k] = fresh[channel]![at]!;
    put(x, from, delta, epsilon);
  },
};

/** A square [side, side] of length 1: a pyramid, and beside it one upside down. */
function pyramids(side: number, random: RandomStream): Float64Array {
  const half = Math.floor(side / 2);
  const form = new Float64Array(side * side);
  const upper = pyramid(half, side);
  const lower = pyramid(side - half, side);
  const across = random.uniform() > 0.5;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const value = row < half ? upper[row * side + column]! : -lower[(row - half) * side + column]!;
      form[across ? column * side + row : row * side + column] = value;
    }
  }
  const length = lengthOf("l2", form);
  return form.map((value) => value / length);
}

/** Frames around the middle of [height, width], each within the next, that add 1, 1/4, 1/9, ...; of length 1. */
function pyramid(height: number, width: number): Float64Array {
  const form = new Float64Array(height * width);
  if (height === 0) return form;
  const [middleRow, middleColumn] = [Math.floor(height / 2), Math.floor(width / 2)];
  for (let k = 0; k < Math.max(middleRow, middleColumn) + 1; k++) {
    for (let row = Math.max(0, middleRow - k); row < Math.min(middleRow + k + 1, height); row++) {
      for (let column = Math.max(0, middleColumn - k); column < Math.min(middleColumn + k + 1, width); column++) {
        form[row * width + column]! += 1 / (k + 1) ** 2;
      }
    }
  }
  const length = lengthOf("l2", form);
  return form.map((value) => value / length);
}
