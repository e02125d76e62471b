// What is in MNIST's files: 60,000 training and 10,000 test digits of 28x28 in four IDX files.
import { DataError } from "../tensor/errors.js";
import { check, instanceOf, object } from "../tensor/options.js";
import { type ImageDataset, type LabelledImages, unitInterval } from "./dataset.js";
import { type IdxArray, parseIdx } from "./idx.js";
import { gunzip } from "./web-gzip.js";

/** Bytes of MNIST's four files, gzip or plain. */
export interface MnistFiles {
  /** `train-images-idx3-ubyte` */
  readonly trainImages: Uint8Array;
  /** `train-labels-idx1-ubyte` */
  readonly trainLabels: Uint8Array;
  /** `t10k-images-idx3-ubyte` */
  readonly testImages: Uint8Array;
  /** `t10k-labels-idx1-ubyte` */
  readonly testLabels: Uint8Array;
}

/** Bytes of the largest file of its rank. */
export const mostBytes = (rank: number): number => (rank === 3 ? 16 + 60_000 * 28 * 28 : 8 + 60_000);

export const bytesRule = instanceOf(Uint8Array, "a Uint8Array");

/**
 * MNIST, or another data set in its format, out of the bytes of its files.
 * @throws UsageError where they are no bytes, DataError for malformed ones
 * @example
 * const bytes = async (name: string) => new Uint8Array(await (await fetch(`mnist/${name}.gz`)).arrayBuffer());
 */
export async function decodeMnist(files: MnistFiles): Promise<ImageDataset> {
  check("decodeMnist", "files", files, object);
  const read = async (name: keyof MnistFiles, rank: number): Promise<NamedArray> => {
    const given = files[name];
    check("decodeMnist", name, given, bytesRule);
    const bytes = await gunzip(given, `mnist: ${name}`, mostBytes(rank));
    return { path: name, ...parseIdx(bytes, { name, rank }) };
  };
  const train = labelledDigits(await read("trainImages", 3), await read("trainLabels", 1));
  const test = labelledDigits(await read("testImages", 3), await read("testLabels", 1));
  return { name: "mnist", train, test, classCount: 10, source: "MNIST, from bytes" };
}

export interface NamedArray extends IdxArray {
  readonly path: string;
}

/** Checks that images and labels belong together. */
export function labelledDigits(images: NamedArray, labels: NamedArray): LabelledImages {
  const [count, height, width] = images.shape as [number, number, number];
  if (height !== 28 || width !== 28 || count === 0) {
    throw new DataError(`mnist: ${images.path} must hold images of 28x28, has shape [${images.shape.join(", ")}]`);
  }
  if (labels.shape[0] !== count) {
    throw new DataError(
      `mnist: ${images.path} has ${count} images, but ${labels.path} has ${labels.shape[0]} labels; are both of one part?`,
    );
  }
  const wrong = labels.data.findIndex((label) => label > 9);
  if (wrong >= 0) {
    throw new DataError(`mnist: ${labels.path} must hold labels 0 to 9, label ${wrong} is ${labels.data[wrong]}`);
  }
  return {
    images: unitInterval(images.data),
    labels: Int32Array.from(labels.data),
    count,
    imageShape: [28, 28, 1],
  };
}
