// MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 test digits of 28x28, from a folder the user names, the
// cache, or the network. It never substitutes other data.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { UsageError } from "../tensor/errors.js";
import { checkOptions, type Rules, text } from "../tensor/options.js";
import type { ImageDataset } from "./dataset.js";
import { type FetchOptions, type FileSpec, fetchFile, fetchRules } from "./fetch.js";
import { findFile, folderNamedByUser, readWithin } from "./folder.js";
import { parseIdx } from "./idx.js";
import { readIdx } from "./idx-file.js";
import { digitsOfKeras, labelledDigits, MOST_NPZ, mostBytes, type NamedArray } from "./mnist-format.js";

/** Options of {@link loadMnist}; those of the download apply only where one is needed. */
export interface MnistOptions extends FetchOptions {
  /**
   * The folder with the four IDX files, `.gz` or plain, or its parent with a folder `mnist`, or as torchvision lays it
   * out, `MNIST/raw`; or one with Keras's `mnist.npz`. Default: `KILOGRAD_DATA_DIR`.
   */
  readonly dataDir?: string | undefined;
}

export const mnistRules: Rules<MnistOptions> = { ...fetchRules, dataDir: text };

const mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"];

/** File names as published (there with `.gz`), and the checksums of their uncompressed bytes. */
const files = {
  trainImages: [
    "train-images-idx3-ubyte",
    "sha256",
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
  ],
  trainLabels: ["train-labels-idx1-ubyte", "md5", "a25bea736e30d166cdddb491f175f624"],
  testImages: ["t10k-images-idx3-ubyte", "sha256", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"],
  testLabels: ["t10k-labels-idx1-ubyte", "md5", "27ae3e4e09519cfbb04c329615203637"],
} as const satisfies Record<string, readonly [name: string, algorithm: FileSpec["checksum"]["algorithm"], hex: string]>;
type FileKey = keyof typeof files;

/** Where the files may be in a folder that the user names. */
const places = [".", "mnist", "MNIST", "raw", join("mnist", "raw"), join("MNIST", "raw")];

/**
 * A file as published, or with a dot instead of its first hyphen before "idx", or in a folder of its own name, as
 * archives have them.
 */
function findIdx(folder: string, name: string): string | undefined {
  const dotted = name.replace("-idx", ".idx");
  return [name, dotted, join(name, name), join(dotted, dotted), join(name, dotted), join(dotted, name)]
    .map((spelling) => findFile(folder, spelling))
    .find((path) => path !== undefined);
}

/**
 * Loads MNIST from `dataDir`, else the folder in `KILOGRAD_DATA_DIR`, else the cache, else the network into the cache.
 *
 * @throws UsageError when a folder named by the user is not there or misses a file
 * @throws DataError for a malformed file, or when the data can neither be found nor downloaded
 */
export async function loadMnist(given: MnistOptions = {}): Promise<ImageDataset> {
  const options = checkOptions("loadMnist", given, mnistRules);
  const folder = completeFolder(options.dataDir);
  if (folder?.endsWith(".npz")) {
    const digits = await digitsOfKeras(await readWithin(folder, "mnist", MOST_NPZ), folder);
    return { name: "mnist", ...digits, classCount: 10, source: `MNIST, from ${folder}` };
  }
  let downloaded = false;
  const read = async (key: FileKey, rank: number): Promise<NamedArray> => {
    const [name, algorithm, hex] = files[key];
    if (folder) {
      const path = findIdx(folder, name)!;
      return { path, ...(await readIdx(path, rank)) };
    }
    const spec: FileSpec = {
      name: `mnist/${name}.gz`,
      mirrors: mirrors.map((mirror) => `${mirror}/${name}.gz`),
      checksum: { algorithm, hex },
      mostBytes: mostBytes(rank),
    };
    const { path, bytes, downloadedFrom } = await fetchFile(spec, options);
    downloaded ||= downloadedFrom !== undefined;
    return { path, ...parseIdx(bytes, { name: path, rank }) };
  };
  const trainImages = await read("trainImages", 3);
  const train = labelledDigits(trainImages, await read("trainLabels", 1));
  const test = labelledDigits(await read("testImages", 3), await read("testLabels", 1));
  const source = `MNIST, ${downloaded ? "downloaded into" : "from"} ${dirname(trainImages.path)}`;
  return { name: "mnist", train, test, classCount: 10, source };
}

/** The folder that holds the files, when the user named one; it must hold all four. Or Keras's file in it. */
function completeFolder(dataDir: string | undefined): string | undefined {
  const named = folderNamedByUser("mnist", dataDir);
  if (named === undefined) return undefined;
  const { path, by } = named;
  const names = Object.values(files).map(([name]) => name);
  const folder = places
    .map((place) => join(path, place))
    .find((candidate) => names.some((name) => findIdx(candidate, name)));
  if (!folder) {
    const ofKeras = places.map((place) => join(path, place, "mnist.npz")).find((file) => existsSync(file));
    if (ofKeras !== undefined) return ofKeras;
    throw new UsageError(
      `mnist: neither ${path} (${by}) nor its folders ${places.slice(1).join(", ")} have ${names[0]} (with or without .gz, or ` +
        "spelt .idx3), or Keras's mnist.npz",
    );
  }
  const missing = names.filter((name) => !findIdx(folder, name));
  if (missing.length > 0) {
    throw new UsageError(
      `mnist: ${folder} (${by}) misses ${missing.join(", ")} (with or without .gz); add what is missing`,
    );
  }
  return folder;
}
