// Labelled images in plain typed arrays, and the data sets known by name. No tensors and no devices here: batches are
// gathered on the host (see batches.ts) and uploaded by whoever trains.

import { UsageError } from "../tensor/errors.js";
import { check, describe, instanceOf, integer, listOf, number, object, type Rules } from "../tensor/options.js";

/** `count` images with their labels. */
export interface LabelledImages {
  /** [count, height, width, channels], values in [0, 1]. */
  readonly images: Float32Array;
  /** [count], class indices from 0. */
  readonly labels: Int32Array;
  readonly count: number;
  /** [height, width, channels] */
  readonly imageShape: readonly [number, number, number];
}

/** A data set with its two published parts. */
export interface ImageDataset {
  readonly name: DatasetName | "cifar-10" | "fer2013";
  readonly train: LabelledImages;
  readonly test: LabelledImages;
  readonly classCount: number;
  /** Names of the classes, where they are not digits. */
  readonly classNames?: readonly string[];
  /** For reports: what it is and where it came from. */
  readonly source: string;
}

/** The data sets that `loadDataset` of kilograd/node knows. */
export const datasetNames = ["mnist", "digits"] as const;
export type DatasetName = (typeof datasetNames)[number];

/** Bytes 0 to 255 as values in [0, 1]. */
export function unitInterval(bytes: Uint8Array): Float32Array {
  const values = new Float32Array(bytes.length);
  for (let i = 0; i < values.length; i++) values[i] = bytes[i]! / 255;
  return values;
}

const imagesRules: Rules<Omit<LabelledImages, "imageShape">> = {
  images: instanceOf(Float32Array, "a Float32Array"),
  labels: instanceOf(Int32Array, "an Int32Array"),
  count: integer({ from: 0 }),
};
const imageShapeRule = listOf(integer({ from: 1 }), { from: 3, to: 3 });

/** @throws UsageError for what is no set of labelled images, or one whose parts do not belong together */
function checkImages(owner: string, set: LabelledImages): void {
  check(owner, "the set", set, object);
  for (const [name, rule] of Object.entries(imagesRules))
    check(owner, name, set[name as keyof typeof imagesRules], rule);
  check(owner, "imageShape", set.imageShape, imageShapeRule);
  const { images, labels, count, imageShape } = set;
  const imageSize = imageShape[0] * imageShape[1] * imageShape[2];
  if (images.length === count * imageSize && labels.length === count) return;
  throw new UsageError(
    `${owner}: ${count} images [${imageShape.join(", ")}] must have ${count * imageSize} values and ${count} labels, given ${images.length} and ${labels.length}`,
  );
}

/** The images from `from` (inclusive) to `to` (exclusive, by default the end) as a view of the same memory. */
export function sliceImages(set: LabelledImages, from: number, to?: number): LabelledImages {
  checkImages("sliceImages", set);
  const [start, end] = [from, to ?? set.count];
  if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end > set.count || start > end) {
    throw new UsageError(
      `sliceImages: needs 0 <= start <= end <= ${set.count}, given ${describe(start)} and ${describe(end)}`,
    );
  }
  const imageSize = set.imageShape[0] * set.imageShape[1] * set.imageShape[2];
  return {
    images: set.images.subarray(start * imageSize, end * imageSize),
    labels: set.labels.subarray(start, end),
    count: end - start,
    imageShape: set.imageShape,
  };
}

/** The first `count` images; all of them where the set has no more. */
export function limitImages(set: LabelledImages, count: number): LabelledImages {
  check("limitImages", "count", count, integer({ from: 1 }));
  checkImages("limitImages", set);
  return sliceImages(set, 0, Math.min(count, set.count));
}

/**
 * Splits the last `fraction` off for validation, before any shuffling, as Keras's `validation_split` does:
 * the first part has floor(count * (1 - fraction)) images.
 */
export function splitImages(set: LabelledImages, fraction: number): { first: LabelledImages; last: LabelledImages } {
  check("splitImages", "fraction", fraction, number({ above: 0, below: 1 }));
  checkImages("splitImages", set);
  const boundary = Math.floor(set.count * (1 - fraction));
  return { first: sliceImages(set, 0, boundary), last: sliceImages(set, boundary) };
}
