// What an input optimisation begins with: `--start`. Every start has a label, which ends the names of its pictures.
import type { LabelledImages } from "../../../data/dataset.js";
import { noiseImages } from "../../../inputs/images.js";
import { UsageError } from "../../../tensor/errors.js";
import { RandomStream } from "../../../tensor/random.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import type { Classification } from "../training/classify.js";

/** An image to begin with. */
export interface Start {
  /** "noise0", "real0" or the index of a test image. */
  readonly label: string;
  /** For reports: "a real 3 with noise (test image 18)". */
  readonly text: string;
  /** For captions: "noise", "noisy 3", "a real 8". */
  readonly shortText: string;
  /** [H, W, C], in [0, 1]. */
  readonly image: Float32Array;
}

/** How to begin: uniform noise, a real digit of the target's class with noise on it, or test image INDEX as it is. */
export type StartKind = "noise" | "real" | number;

/** Standard deviation of the noise on real digits. */
const NOISE_ON_REAL = 0.3;

/** @throws UsageError for anything else than `noise`, `real` or a whole number */
export function parseStart(text: string): StartKind {
  if (text === "noise" || text === "real") return text;
  if (/^\d+$/.test(text)) return Number(text);
  throw new UsageError(`start: must be noise, real or the index of a test image, given "${text}"`);
}

/**
 * Starts of the first `count` uniform random images of a seed: the same for every target, so that targets can be
 * compared.
 */
export function noiseStarts(count: number, { seed, shape }: { readonly seed: number; readonly shape: Shape }): Start[] {
  const size = sizeOf(shape);
  const images = noiseImages({ count, shape, seed });
  return Array.from({ length: count }, (_, index) => ({
    ...{ label: `noise${index}`, text: "uniform noise", shortText: "noise" },
    image: images.slice(index * size, (index + 1) * size),
  }));
}

/**
 * The `index`-th image of a digit with Gaussian noise, clipped to [0, 1]. @throws UsageError where there are not so
 * many
 */
export function noisyRealStart(
  index: number,
  { images, digit, seed }: { readonly images: LabelledImages; readonly digit: number; readonly seed: number },
): Start {
  const place = placesOf(images, digit)[index];
  if (place === undefined) {
    throw new UsageError(
      `start: real needs ${index + 1} images of a ${digit}, the test part has ${placesOf(images, digit).length}; use a smaller --count`,
    );
  }
  const random = new RandomStream(seed, `start/real/${place}`);
  const image = imageOf(images, place).map((pixel) =>
    Math.min(1, Math.max(0, pixel + NOISE_ON_REAL * random.normal())),
  );
  const text = `a real ${digit} with noise (test image ${place})`;
  return { label: `real${index}`, text, shortText: `noisy ${digit}`, image };
}

/** Test image `place` as it is. @throws UsageError where there is none */
export function imageStart(images: LabelledImages, place: number): Start {
  if (place >= images.count) {
    throw new UsageError(`start: the test part has images 0 to ${images.count - 1}, given ${place}`);
  }
  return {
    label: String(place),
    text: `a real ${images.labels[place]} (test image ${place})`,
    shortText: `a real ${images.labels[place]}`,
    image: imageOf(images, place),
  };
}

/** Where the images of a digit are. */
export function placesOf({ labels }: LabelledImages, digit: number): number[] {
  return Array.from(labels.keys()).filter((place) => labels[place] === digit);
}

/** The images of a digit that a classifier recognises. */
export function recognisedPlaces(
  { images, predicted }: Pick<Classification, "images" | "predicted">,
  digit: number,
): number[] {
  return placesOf(images, digit).filter((place) => predicted[place] === digit);
}

function imageOf({ images, imageShape }: LabelledImages, place: number): Float32Array {
  const size = imageShape[0] * imageShape[1] * imageShape[2];
  return images.slice(place * size, (place + 1) * size);
}
