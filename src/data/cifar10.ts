// CIFAR-10 (Krizhevsky 2009): photographs of 32x32 in ten classes, in the binary layout, from a folder the user names,
// the cache, or the network. As many training batches as are there; it never substitutes other data.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../tensor/errors.js";
import { checkOptions, type Rules, text } from "../tensor/options.js";
import { cifar10Of, META, MOST_BYTES, TEST, TRAINING, unpack } from "./cifar10-format.js";
import type { ImageDataset } from "./dataset.js";
import { type FetchOptions, fetchFile, fetchRules } from "./fetch.js";
import { findFile, folderNamedByUser, readInflated, readWithin } from "./folder.js";

export { cifar10Classes } from "./cifar10-format.js";

/** Options of {@link loadCifar10}; those of the download apply only where one is needed. */
export interface Cifar10Options extends FetchOptions {
  /**
   * The folder with `cifar-10-binary.tar.gz`, or with the unpacked `.bin` files, or its parent with a folder
   * `cifar-10`. Default: `KILOGRAD_DATA_DIR`.
   */
  readonly dataDir?: string | undefined;
}

const rules: Rules<Cifar10Options> = { ...fetchRules, dataDir: text };

const ARCHIVE = "cifar-10-binary.tar";
const UNPACKED = "cifar-10-batches-bin";
/** The same for Python, which only Python can read. */
const PICKLED = ["cifar-10-batches-py", "cifar-10-python.tar.gz"];
/** The files by their names, wherever they came from. */
interface Batches {
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Archive or folder, for messages. */
  readonly path: string;
  readonly downloaded?: boolean;
}

/**
 * Loads CIFAR-10 from `dataDir`, else the folder in `KILOGRAD_DATA_DIR`, else the cache, else the network into the
 * cache. At least one of the five training batches must be there; `source` tells how many images were found.
 *
 * @throws UsageError when a folder named by the user is not there or has no such files
 * @throws DataError for a malformed file, or when the data can neither be found nor downloaded
 */
export async function loadCifar10(options: Cifar10Options = {}): Promise<ImageDataset> {
  const { files, path, downloaded = false } = await batches(checkOptions("loadCifar10", options, rules));
  return cifar10Of(files, { path, from: `${downloaded ? "downloaded into" : "from"} ${path}` });
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

async function readFolder(folder: string): Promise<Map<string, Uint8Array>> {
  const names = [...TRAINING, TEST, META].filter((name) => existsSync(join(folder, name)));
  const read = async (name: string) => {
    return [name, await readWithin(join(folder, name), "cifar-10", MOST_BYTES)] as const;
  };
  return new Map(await Promise.all(names.map(read)));
}
