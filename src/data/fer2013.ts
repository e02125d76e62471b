// FER2013 (Goodfellow et al. 2013): faces of 48x48 in grey with one of seven emotions, as Kaggle's `fer2013.csv`, from a
// folder the user names or the cache. Kaggle asks for a login, so nothing is downloaded. No row is passed over.

import { join } from "node:path";
import { DataError, UsageError } from "../tensor/errors.js";
import { type ImageDataset, type LabelledImages, unitInterval } from "./dataset.js";
import { cacheFolder } from "./fetch.js";
import { findFile, folderNamedByUser, readInflated } from "./folder.js";

/** Options of {@link loadFer2013}. */
export interface Fer2013Options {
  /** The folder with `fer2013.csv`, `.gz` or plain, or its parent with a folder `fer2013`. Default: `KILOGRAD_DATA_DIR`. */
  readonly dataDir?: string | undefined;
  /** Default: the user's cache folder. */
  readonly cacheDir?: string;
}

/** FER2013 in its three parts: `train` is Training, `validation` PublicTest, `test` PrivateTest. */
export interface Fer2013 extends ImageDataset {
  readonly validation: LabelledImages;
}

/** The classes in the order of their numbers. */
export const fer2013Classes = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"] as const;

const usages = ["Training", "PublicTest", "PrivateTest"] as const;
type Usage = (typeof usages)[number];

const FILE = "fer2013.csv";
const HEADER = "emotion,pixels,Usage";
const SIDE = 48;
const PIXELS = SIDE * SIDE;
/** Bytes of the largest file that is read; the published one has 301,072,766. */
const MOST_BYTES = 2 ** 29;

const [NEWLINE, RETURN, SPACE, COMMA, ZERO] = [10, 13, 32, 44, 48];

/**
 * Loads FER2013 from `dataDir`, else the folder in `KILOGRAD_DATA_DIR`, else the cache.
 *
 * @throws UsageError when a folder named by the user is not there or has no such file
 * @throws DataError for a malformed file, naming the row, or when there is none
 * @example
 * const { train, validation, test } = await loadFer2013({ dataDir: "data" });
 */
export async function loadFer2013(options: Fer2013Options = {}): Promise<Fer2013> {
  const path = findCsv(options);
  const parts = parseFer2013(await readInflated(path, "fer2013", { most: MOST_BYTES }), path);
  const counts = usages.map((usage) => `${parts[usage].count.toLocaleString("en-US")} ${usage}`);
  return {
    name: "fer2013",
    train: parts.Training,
    validation: parts.PublicTest,
    test: parts.PrivateTest,
    classCount: fer2013Classes.length,
    classNames: fer2013Classes,
    source: `FER2013, ${counts.join(", ")}, from ${path}`,
  };
}

function findCsv({ dataDir, cacheDir = cacheFolder() }: Fer2013Options): string {
  const named = folderNamedByUser("fer2013", dataDir);
  const folders = named ? [named.path, join(named.path, "fer2013")] : [join(cacheDir, "fer2013")];
  const found = folders.map((folder) => findFile(folder, FILE)).find((path) => path !== undefined);
  if (found !== undefined) return found;
  if (named) {
    throw new UsageError(
      `fer2013: neither ${named.path} (${named.by}) nor its folder fer2013 has ${FILE} or ${FILE}.gz`,
    );
  }
  throw new DataError(
    `fer2013: ${join(folders[0]!, FILE)} is missing; it cannot be downloaded without an account: get ${FILE} from ` +
      "https://www.kaggle.com/competitions/challenges-in-representation-learning-facial-expression-recognition-challenge, " +
      "put it there, or into a folder named with --data-dir or KILOGRAD_DATA_DIR",
  );
}

/** Where a row stands, for messages: data rows are counted from 1, lines with the header. */
interface Row {
  readonly number: number;
  readonly begin: number;
  /** Behind its last byte, the line break left out. */
  readonly end: number;
  /** Whether the file ends in it, without a line break. */
  readonly last: boolean;
}

/**
 * Parses the bytes of a `fer2013.csv`: a header, then a row per face, `emotion,pixels,Usage`, with 48 x 48 pixels from 0 to
 * 255 separated by single spaces.
 *
 * @throws DataError naming the row for everything else; `name` tells the user which file
 */
export function parseFer2013(csv: Uint8Array, name: string): Record<Usage, LabelledImages> {
  const rows = splitRows(csv, name);
  const pixels = new Uint8Array(rows.length * PIXELS);
  const members: Record<Usage, { row: number; label: number }[]> = { Training: [], PublicTest: [], PrivateTest: [] };
  for (const [index, row] of rows.entries()) {
    const { label, usage } = parseRow(csv, row, pixels.subarray(index * PIXELS, (index + 1) * PIXELS), name);
    members[usage].push({ row: index, label });
  }
  const partOf = (usage: Usage): LabelledImages => {
    const list = members[usage];
    if (list.length === 0) {
      throw new DataError(
        `fer2013: ${name} must have rows of ${usages.join(", ")}; none of its ${rows.length} rows is of ${usage}; ` +
          "is the file cut off?",
      );
    }
    const bytes = new Uint8Array(list.length * PIXELS);
    for (const [at, { row }] of list.entries()) {
      bytes.set(pixels.subarray(row * PIXELS, (row + 1) * PIXELS), at * PIXELS);
    }
    return {
      images: unitInterval(bytes),
      labels: Int32Array.from(list, ({ label }) => label),
      count: list.length,
      imageShape: [SIDE, SIDE, 1],
    };
  };
  return { Training: partOf("Training"), PublicTest: partOf("PublicTest"), PrivateTest: partOf("PrivateTest") };
}

/** The rows behind the header. */
function splitRows(csv: Uint8Array, name: string): Row[] {
  const rows: Row[] = [];
  for (let begin = 0, number = 0; begin < csv.length; number++) {
    const lineBreak = csv.indexOf(NEWLINE, begin);
    const last = lineBreak < 0;
    const next = last ? csv.length : lineBreak;
    const end = csv[next - 1] === RETURN && next > begin ? next - 1 : next;
    if (number > 0) rows.push({ number, begin, end, last });
    else if (textOf(csv, begin, end).replace(/^\ufeff/, "") !== HEADER) {
      throw new DataError(
        `fer2013: ${name} must begin with the line "${HEADER}", begins with "${excerpt(csv, begin, end)}"`,
      );
    }
    begin = next + 1;
  }
  if (rows.length === 0) {
    throw new DataError(
      `fer2013: ${name} has no rows: it must have a header and a row per face, has ${csv.length} bytes`,
    );
  }
  return rows;
}

/** One row; its pixels go into `target`. */
function parseRow(csv: Uint8Array, row: Row, target: Uint8Array, name: string): { label: number; usage: Usage } {
  const { begin, end, number } = row;
  const fault = (message: string): DataError =>
    new DataError(
      row.last
        ? `fer2013: ${name} is cut off: it ends after ${csv.length} bytes within row ${number}: ${message}; fetch the file again`
        : `fer2013: ${name}, row ${number} (line ${number + 1}): ${message}`,
    );
  const fieldEnd = (from: number) => {
    const at = csv.indexOf(COMMA, from);
    return at < 0 || at >= end ? end : at;
  };
  const labelEnd = fieldEnd(begin);
  const pixelsEnd = fieldEnd(Math.min(labelEnd + 1, end));
  const label = csv[begin]! - ZERO;
  if (labelEnd !== begin + 1 || label < 0 || label >= fer2013Classes.length) {
    throw fault(
      `the emotion must be a number from 0 to ${fer2013Classes.length - 1}, is "${excerpt(csv, begin, labelEnd)}"`,
    );
  }

  let count = 0;
  for (let at = labelEnd + 1; at < pixelsEnd; count++) {
    const first = at;
    let value = 0;
    for (; at < pixelsEnd && csv[at] !== SPACE; at++) {
      const digit = csv[at]! - ZERO;
      value = digit >= 0 && digit <= 9 ? 10 * value + digit : Number.NaN;
    }
    // A NaN is not in the range.
    if (!(value <= 255) || at === first || at - first > 3) {
      throw fault(`pixel ${count + 1} must be a whole number from 0 to 255, is "${excerpt(csv, first, at)}"`);
    }
    if (count < PIXELS) target[count] = value;
    at++;
    if (at === pixelsEnd) throw fault(`its pixels must end with a number, end with a space behind pixel ${count + 1}`);
  }
  if (count !== PIXELS) throw fault(`must have ${PIXELS} pixels (${SIDE} x ${SIDE}), has ${count}`);

  const given = textOf(csv, Math.min(pixelsEnd + 1, end), end);
  const usage = usages.find((known) => known === given);
  if (usage === undefined) {
    const found = pixelsEnd === end ? "missing" : `"${excerpt(csv, pixelsEnd + 1, end)}"`;
    throw fault(`the usage must be one of ${usages.join(", ")}, is ${found}`);
  }
  return { label, usage };
}

const textOf = (bytes: Uint8Array, begin: number, end: number): string =>
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(begin, end));

/** What stands there in few words; a damaged row may be long. */
const excerpt = (bytes: Uint8Array, begin: number, end: number): string =>
  textOf(bytes, begin, Math.min(end, begin + 40)) + (end - begin > 40 ? "..." : "");
