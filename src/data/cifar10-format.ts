// What is in CIFAR-10's archive (Krizhevsky 2009), the binary version: six files of images of 32x32 with their labels.
import { DataError } from "../tensor/errors.js";
import { check } from "../tensor/options.js";
import { type ImageDataset, type LabelledImages, unitInterval } from "./dataset.js";
import { bytesRule } from "./mnist-format.js";
import { parseTar } from "./tar.js";
import { gunzip } from "./web-gzip.js";

/** The classes in the order of their numbers. */
export const cifar10Classes = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
] as const;

export const TEST = "test_batch.bin";
export const META = "batches.meta.txt";
export const TRAINING = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`);
const SIDE = 32;
const PLANE = SIDE * SIDE;
/** A label, then the red, the green and the blue plane, each row by row. */
export const CIFAR10_RECORD = 1 + 3 * PLANE;

/** Six batches of 10,000 images, and room for what else is in the archive. */
export const MOST_BYTES = 6 * 10_000 * CIFAR10_RECORD + 2 ** 20;

/**
 * CIFAR-10 out of the bytes of `cifar-10-binary.tar.gz`, or of the archive that it holds.
 * @throws UsageError where they are no bytes, DataError for malformed ones
 */
export async function decodeCifar10(archive: Uint8Array): Promise<ImageDataset> {
  check("decodeCifar10", "archive", archive, bytesRule);
  const path = "the archive";
  const files = unpack(await gunzip(archive, `cifar-10: ${path}`, MOST_BYTES), path);
  return cifar10Of(files, { path, from: "from bytes" });
}

/** The data set of its files by name. @throws DataError where one is missing or malformed */
export function cifar10Of(
  files: ReadonlyMap<string, Uint8Array>,
  { path, from }: { readonly path: string; readonly from: string },
): ImageDataset {
  const present = TRAINING.filter((name) => files.has(name));
  if (present.length === 0 || !files.has(TEST)) {
    const missing = present.length === 0 ? `${TRAINING[0]} (to ${TRAINING.at(-1)})` : TEST;
    throw new DataError(`cifar-10: ${path} misses ${missing}; it has ${[...files.keys()].join(", ") || "no file"}`);
  }
  checkClassNames(files.get(META), path);
  const part = (names: readonly string[]) =>
    labelledImages(
      names.map((name) => ({ name, bytes: files.get(name)! })),
      path,
    );
  const train = part(present);
  const test = part([TEST]);
  const counts = `${train.count.toLocaleString("en-US")} training and ${test.count.toLocaleString("en-US")} test images`;
  return {
    name: "cifar-10",
    train,
    test,
    classCount: cifar10Classes.length,
    classNames: cifar10Classes,
    source: `CIFAR-10, ${counts}, ${from}`,
  };
}

/** The archive's files without their folder. */
export function unpack(archive: Uint8Array, path: string): Map<string, Uint8Array> {
  return new Map([...parseTar(archive, path)].map(([name, bytes]) => [name.split("/").at(-1)!, bytes]));
}

/** The list of names, where there is one, must be the published one: another order would mean other labels. */
function checkClassNames(list: Uint8Array | undefined, path: string): void {
  if (list === undefined) return;
  const names = new TextDecoder().decode(list).trim().split(/\s+/);
  if (names.join() === cifar10Classes.join()) return;
  throw new DataError(
    `cifar-10: ${META} of ${path} must name ${cifar10Classes.join(", ")}; it names ${names.join(", ")}`,
  );
}

/** The records of batches one after the other: planes [3, 32, 32] to pixels [32, 32, 3]. */
function labelledImages(parts: readonly { name: string; bytes: Uint8Array }[], path: string): LabelledImages {
  for (const { name, bytes } of parts) {
    if (bytes.length > 0 && bytes.length % CIFAR10_RECORD === 0) continue;
    throw new DataError(
      `cifar-10: ${name} of ${path} must have a multiple of ${CIFAR10_RECORD} bytes, one label and ${CIFAR10_RECORD - 1} pixels an image; ` +
        `it has ${bytes.length}: ${Math.floor(bytes.length / CIFAR10_RECORD)} images and ${bytes.length % CIFAR10_RECORD} bytes; fetch it again`,
    );
  }
  const count = parts.reduce((total, { bytes }) => total + bytes.length / CIFAR10_RECORD, 0);
  const pixels = new Uint8Array(count * 3 * PLANE);
  const labels = new Int32Array(count);
  let image = 0;
  for (const { name, bytes } of parts) {
    for (let at = 0; at < bytes.length; at += CIFAR10_RECORD, image++) {
      const label = bytes[at]!;
      if (label >= cifar10Classes.length) {
        throw new DataError(
          `cifar-10: ${name} of ${path} must hold labels 0 to 9, that of image ${at / CIFAR10_RECORD} is ${label}`,
        );
      }
      labels[image] = label;
      cifar10Pixels(bytes, at + 1, pixels.subarray(image * 3 * PLANE));
    }
  }
  return { images: unitInterval(pixels), labels, count, imageShape: [SIDE, SIDE, 3] };
}

/** The planes [3, 32, 32] from byte `start` on as pixels [32, 32, 3], at the beginning of `target`. */
export function cifar10Pixels(bytes: Uint8Array, start: number, target: Uint8Array): void {
  for (let channel = 0; channel < 3; channel++) {
    const plane = start + channel * PLANE;
    for (let i = 0; i < PLANE; i++) target[3 * i + channel] = bytes[plane + i]!;
  }
}
