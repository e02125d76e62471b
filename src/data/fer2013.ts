// FER2013 as Kaggle's `fer2013.csv` or `icml_face_data.csv`, from a folder the user names or the cache. Kaggle asks for
// a login, so nothing is downloaded.
import { join } from "node:path";
import { DataError, UsageError } from "../tensor/errors.js";
import { checkOptions, type Rules, text } from "../tensor/options.js";
import { type Fer2013, fer2013Of, MOST_BYTES } from "./fer2013-format.js";
import { cacheFolder } from "./fetch.js";
import { findFile, folderNamedByUser, readInflated } from "./folder.js";

export { type Fer2013, fer2013Classes, parseFer2013, type RepeatedFaces } from "./fer2013-format.js";

/** Options of {@link loadFer2013}. */
export interface Fer2013Options {
  /**
   * The folder with `fer2013.csv` or `icml_face_data.csv`, `.gz` or plain, or its parent with a folder `fer2013`.
   * Default: `KILOGRAD_DATA_DIR`.
   */
  readonly dataDir?: string | undefined;
  /** Default: the user's cache folder. */
  readonly cacheDir?: string;
}

const rules: Rules<Fer2013Options> = { dataDir: text, cacheDir: text };

const FILES = ["fer2013.csv", "icml_face_data.csv"];

/**
 * Loads FER2013 from `dataDir`, else the folder in `KILOGRAD_DATA_DIR`, else the cache.
 *
 * @throws UsageError when a folder named by the user is not there or has no such file
 * @throws DataError for a malformed file, naming the row, or when there is none
 * @example
 * const { train, validation, test } = await loadFer2013({ dataDir: "data" });
 */
export async function loadFer2013(options: Fer2013Options = {}): Promise<Fer2013> {
  const path = findCsv(checkOptions("loadFer2013", options, rules));
  return fer2013Of(await readInflated(path, "fer2013", { most: MOST_BYTES }), { path, from: `from ${path}` });
}

function findCsv({ dataDir, cacheDir = cacheFolder() }: Fer2013Options): string {
  const named = folderNamedByUser("fer2013", dataDir);
  const folders = named ? [named.path, join(named.path, "fer2013")] : [join(cacheDir, "fer2013")];
  const found = folders
    .flatMap((folder) => FILES.map((file) => findFile(folder, file)))
    .find((path) => path !== undefined);
  if (found !== undefined) return found;
  if (named) {
    throw new UsageError(
      `fer2013: neither ${named.path} (${named.by}) nor its folder fer2013 has ${FILES.join(" or ")} (with or without .gz)`,
    );
  }
  throw new DataError(
    `fer2013: ${join(folders[0]!, FILES[0]!)} is missing; it cannot be downloaded without an account: get ${FILES[0]} from ` +
      "https://www.kaggle.com/competitions/challenges-in-representation-learning-facial-expression-recognition-challenge, " +
      "put it there, or into a folder named with --data-dir or KILOGRAD_DATA_DIR",
  );
}
