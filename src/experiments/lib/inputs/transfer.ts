// Transfer: whether classifiers that had no part in finding an image give it the class it was found for. What convinces
// one network by its own weaknesses convinces no other; what looks like a digit does.
import type { Model } from "../../../nn/model.js";
import { answersFor } from "../training/classify.js";
import type { FoundImage } from "./optimize-run.js";

/** A classifier by name that had no part in finding the images it is shown. */
export interface Judge {
  readonly name: string;
  readonly model: Model;
}

/** The class that each judge gives each image: [N] by the judge's name. */
export type Verdicts = Readonly<Record<string, Int32Array>>;

/** What judges say of images [N, ...] in a row. */
export async function verdictsOn(
  images: Float32Array,
  judges: readonly Judge[],
  { signal }: { readonly signal: AbortSignal },
): Promise<Verdicts> {
  const verdicts: Record<string, Int32Array> = {};
  for (const { name, model } of judges) verdicts[name] = (await answersFor(model, images, { signal })).predicted;
  return verdicts;
}

/** Whether a judge takes image `index` for the likeliest digit of its target. */
export function convinced(images: readonly Pick<FoundImage, "target">[], predicted: Int32Array, index: number) {
  return predicted[index] === images[index]!.target.likeliest;
}

/** Share of the images at `indices` that a judge takes for the likeliest digit of their target. */
export function transferRate(
  images: readonly Pick<FoundImage, "target">[],
  predicted: Int32Array,
  indices: readonly number[] = images.map((_, index) => index),
): number {
  return indices.filter((index) => convinced(images, predicted, index)).length / indices.length;
}

/** The lowest of the judges' transfer rates. */
export function leastTransfer(
  images: readonly Pick<FoundImage, "target">[],
  verdicts: Verdicts,
  indices?: readonly number[],
): number {
  return Math.min(...Object.values(verdicts).map((predicted) => transferRate(images, predicted, indices)));
}
