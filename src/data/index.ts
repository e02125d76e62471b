// The public names of `data` that need nothing but memory; node.ts adds files and downloads.
export type { BatchSource } from "./batch-source.js";
export { gatherRows, shuffledIndices } from "./batches.js";
export { cifar10Classes, decodeCifar10 } from "./cifar10-format.js";
export {
  type DatasetName,
  datasetNames,
  type ImageDataset,
  type LabelledImages,
  limitImages,
  sliceImages,
  splitImages,
} from "./dataset.js";
export { type DigitsOptions, digits } from "./digits.js";
export { decodeFer2013, type Fer2013, fer2013Classes, type RepeatedFaces } from "./fer2013-format.js";
export { decodeMnist, type MnistFiles, type MnistNpz } from "./mnist-format.js";
