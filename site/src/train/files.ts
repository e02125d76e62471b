// Files of the page "Train": digits that are dropped, and networks that are taken away. Loaded with the first of them.
import { data, nn } from "../../../src/index.js";
import type { Digits } from "./training.js";

export const encodeModel = nn.encodeModel;

/** Files of one part serve as both: their last tenth is looked at. */
export async function digitsOf(files: readonly Uint8Array[]): Promise<Digits> {
  const isImages = (bytes: Uint8Array) => bytes[3] === 3 || bytes.length > 1_000_000;
  const images = files.find(isImages);
  const labels = files.find((bytes) => bytes !== images);
  if (images === undefined || labels === undefined) {
    throw new Error("two files are needed: IDX images of 28 x 28 pixels, and their labels");
  }
  const { train: all } = await data.decodeMnist({
    ...{ trainImages: images, trainLabels: labels, testImages: images, testLabels: labels },
  });
  const { first: training, last: test } = data.splitImages(all, 0.1);
  return { train: training, test };
}
