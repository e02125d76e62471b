// What is in MNIST's files: 60,000 training and 10,000 test digits of 28x28 in four IDX files, or as arrays in Keras's
// mnist.npz.
import type { NpyArray } from "../io/npy.js";
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

/** Bytes of the one file that Keras has of MNIST. */
export interface MnistNpz {
  /** `mnist.npz` */
  readonly npz: Uint8Array;
}

/**
 * MNIST, or another data set in its format, out of the bytes of its files: four of IDX, or `{ npz }` of Keras.
 * @throws UsageError where they are no bytes, DataError for malformed ones
 * @example
 * const bytes = async (name: string) => new Uint8Array(await (await fetch(`mnist/${name}.gz`)).arrayBuffer());
 */
export async function decodeMnist(files: MnistFiles | MnistNpz): Promise<ImageDataset> {
  check("decodeMnist", "files", files, object);
  const set = { name: "mnist", classCount: 10, source: "MNIST, from bytes" } as const;
  if ("npz" in files) {
    check("decodeMnist", "npz", files.npz, bytesRule);
    return { ...set, ...(await digitsOfKeras(files.npz, "npz")) };
  }
  const read = async (name: keyof MnistFiles, rank: number): Promise<NamedArray> => {
    const given = files[name];
    check("decodeMnist", name, given, bytesRule);
    const bytes = await gunzip(given, `mnist: ${name}`, mostBytes(rank));
    return { path: name, ...parseIdx(bytes, { name, rank }) };
  };
  const train = labelledDigits(await read("trainImages", 3), await read("trainLabels", 1));
  const test = labelledDigits(await read("testImages", 3), await read("testLabels", 1));
  return { ...set, train, test };
}

export interface NamedArray extends IdxArray {
  readonly path: string;
}

/** Arrays of Keras's file by what they are. */
const kerasNames = { trainImages: "x_train", trainLabels: "y_train", testImages: "x_test", testLabels: "y_test" };

/** More than the file has, were it not compressed. */
export const MOST_NPZ = 2 ** 27;

/** What Keras's mnist.npz holds. @throws DataError beginning with its name */
export async function digitsOfKeras(bytes: Uint8Array, path: string): Promise<Pick<ImageDataset, "train" | "test">> {
  if (bytes.length > MOST_NPZ) throw new DataError(`mnist: ${path} has ${bytes.length} bytes, ${MOST_NPZ} at most`);
  const { decodeNpz } = await import("../io/npz.js");
  const arrays = await decodeNpz(bytes, `mnist: ${path}`);
  const read = (name: keyof typeof kerasNames, rank: number): NamedArray => {
    const theirs = kerasNames[name];
    const array: NpyArray | undefined = arrays.get(theirs);
    if (array?.data instanceof Uint8Array && array.shape.length === rank) {
      return { path: `${path}'s ${theirs}`, shape: array.shape, data: array.data };
    }
    const found = array === undefined ? "there is none" : `is ${array.dtype} [${array.shape.join(", ")}]`;
    throw new DataError(`mnist: ${path}: "${theirs}" must be bytes (|u1) of ${rank} axes, ${found}`);
  };
  return {
    train: labelledDigits(read("trainImages", 3), read("trainLabels", 1)),
    test: labelledDigits(read("testImages", 3), read("testLabels", 1)),
  };
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
