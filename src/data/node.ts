// The public names of `data` in kilograd/node: those of memory, and data sets from files, the cache and the network.
export { type Cifar10Options, loadCifar10 } from "./cifar10.js";
export { type Fer2013Options, loadFer2013 } from "./fer2013.js";
export type { FetchProgress } from "./fetch.js";
export {
  type FolderData,
  type FolderOptions,
  fromFolder,
  type PictureBatch,
  type PictureSource,
} from "./from-folder.js";
export * from "./index.js";
export { type DatasetChoice, type LoadDatasetOptions, loadDataset, loadMnistOrDigits } from "./load.js";
export { loadMnist, type MnistOptions } from "./mnist.js";
export { fromCifar10, fromIdx, type RecordBatch, type RecordOptions, type RecordSource } from "./record-files.js";
