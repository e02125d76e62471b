// The public names of `data`.
export { gatherRows, shuffledIndices } from "./batches.js";
export { type Cifar10Options, cifar10Classes, loadCifar10 } from "./cifar10.js";
export {
  type DatasetChoice,
  type DatasetName,
  datasetNames,
  type ImageDataset,
  type LabelledImages,
  type LoadDatasetOptions,
  limitImages,
  loadDataset,
  loadMnistOrDigits,
  sliceImages,
  splitImages,
} from "./dataset.js";
export { type DigitsOptions, digits } from "./digits.js";
export { type Fer2013, type Fer2013Options, fer2013Classes, loadFer2013 } from "./fer2013.js";
export { loadMnist, type MnistOptions } from "./mnist.js";
