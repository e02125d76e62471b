// CIFAR-10 (Krizhevsky 2009): photographs of 32x32 in ten classes, in the binary layout, from a folder the user names, the
// cache, or the network. As many training batches as are there; it never substitutes other data.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { DataError, UsageError } from "../tensor/errors.js";
import { checkOptions, type Rules, text } from "../tensor/options.js";
import { type ImageDataset, type LabelledImages, unitInterval } from "./dataset.js";
import { type FetchOptions, fetchFile, fetchRules } from "./fetch.js";
import { findFile, folderNamedByUser, readInflated, readWithin } from "./folder.js";
import { parseTar } from "./tar.js";

/** Options of {@link loadCifar10}; those of the download apply only where one is needed. */
export interface Cifar10Options extends FetchOptions {
  /**
   * The folder with `cifar-10-binary.tar.gz`, or with the unpacked `.bin` files, or its parent with a folder `cifar-10`.
   * Default: `KILOGRAD_DATA_DIR`.
   */
  readonly dataDir?: string | undefined;
}

const rules: Rules<Cifar10Options> = { ...fetchRules, dataDir: text };

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

const ARCHIVE = "cifar-10-binary.tar";
const UNPACKED = "cifar-10-batches-bin";
/** The same for Python, which only Python can read. */
const PICKLED = ["cifar-10-batches-py", "cifar-10-python.tar.gz"];
const TEST = "test_batch.bin";
const META = "batches.meta.txt";
const TRAINING = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`);
const SIDE = 32;
const PLANE = SIDE * SIDE;
/** A label, then the red, the green and the blue plane, each row by row. */
const RECORD = 1 + 3 * PLANE;

/** Six batches of 10,000 images, and room for what else is in the archive. */
const MOST_BYTES = 6 * 10_000 * RECORD + 2 ** 20;

/** The files by their names, wherever they came from. */
interface Batches {
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Archive or folder, for messages. */
  readonly path: string;
  readonly downloaded?: boolean;
}

/**
 * Loads CIFAR-10 from `dataDir`, else the folder in `KILOGRAD_DATA_DIR`, else the cache, else the network into the cache.
 * At least one of the five training batches must be there; `source` tells how many images were found.
 *
 * @throws UsageError when a folder named by the user is not there or has no such files
 * @throws DataError for a malformed file, or when the data can neither be found nor downloaded
 */
export async function loadCifar10(options: Cifar10Options = {}): Promise<ImageDataset> {
  const { files, path, downloaded = false } = await batches(checkOptions("loadCifar10", options, rules));
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
    source: `CIFAR-10, ${counts}, ${downloaded ? "downloaded into" : "from"} ${path}`,
  };
}

async function batches(options: Cifar10Options): Promise<Batches> {
  const named = folderNamedByUser("cifar-10", options.dataDir);
  if (named === undefined) {
    const { path, bytes, downloadedFrom } = await fetchFile(
      {
        name: `cifar-10/${ARCHIVE}.gz`,
        mirrors: [`https://www.cs.toronto.edu/~kriz/${ARCHIVE}.gz`],
        checksum: { algorithm: "md5", hex: "c32a1d4ab5d03f1284b67883e8d87530", of: "file" },
        mostBytes: MOST_BYTES,
      },
      options,
    );
    return { files: unpack(bytes, path), path, downloaded: downloadedFrom !== undefined };
  }
  for (const folder of [named.path, join(named.path, "cifar-10")]) {
    const archive = findFile(folder, ARCHIVE);
    if (archive !== undefined) {
      return { files: unpack(await readInflated(archive, "cifar-10", { most: MOST_BYTES }), archive), path: archive };
    }
    for (const path of [folder, join(folder, UNPACKED)]) {
      if ([...TRAINING, TEST].some((name) => existsSync(join(path, name))))
        return { files: await readFolder(path), path };
    }
  }
  const pickled = [named.path, join(named.path, "cifar-10")]
    .flatMap((folder) => PICKLED.map((name) => join(folder, name)))
    .find((path) => existsSync(path));
  throw new UsageError(
    `cifar-10: neither ${named.path} (${named.by}) nor its folder cifar-10 has ${ARCHIVE}.gz or ${UNPACKED}/${TEST}` +
      (pickled === undefined ? "" : `; ${pickled} is the version for Python, get "CIFAR-10 binary version"`),
  );
}

/** The archive's files without their folder. */
function unpack(archive: Uint8Array, path: string): Map<string, Uint8Array> {
  return new Map([...parseTar(archive, path)].map(([name, bytes]) => [name.split("/").at(-1)!, bytes]));
}

async function readFolder(folder: string): Promise<Map<string, Uint8Array>> {
  const names = [...TRAINING, TEST, META].filter((name) => existsSync(join(folder, name)));
  const read = async (name: string) => {
    return [name, await readWithin(join(folder, name), "cifar-10", MOST_BYTES)] as const;
  };
  return new Map(await Promise.all(names.map(read)));
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
    if (bytes.length > 0 && bytes.length % RECORD === 0) continue;
    throw new DataError(
      `cifar-10: ${name} of ${path} must have a multiple of ${RECORD} bytes, one label and ${RECORD - 1} pixels an image; ` +
        `it has ${bytes.length}: ${Math.floor(bytes.length / RECORD)} images and ${bytes.length % RECORD} bytes; fetch it again`,
    );
  }
  const count = parts.reduce((total, { bytes }) => total + bytes.length / RECORD, 0);
  const pixels = new Uint8Array(count * 3 * PLANE);
  const labels = new Int32Array(count);
  let image = 0;
  for (const { name, bytes } of parts) {
    for (let at = 0; at < bytes.length; at += RECORD, image++) {
      const label = bytes[at]!;
      if (label >= cifar10Classes.length) {
        throw new DataError(
          `cifar-10: ${name} of ${path} must hold labels 0 to 9, that of image ${at / RECORD} is ${label}`,
        );
      }
      labels[image] = label;
      const target = pixels.subarray(image * 3 * PLANE);
      for (let channel = 0; channel < 3; channel++) {
        const plane = at + 1 + channel * PLANE;
        for (let i = 0; i < PLANE; i++) target[3 * i + channel] = bytes[plane + i]!;
      }
    }
  }
  return { images: unitInterval(pixels), labels, count, imageShape: [SIDE, SIDE, 3] };
}
