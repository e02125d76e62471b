// What is in FER2013's CSV file (Goodfellow et al. 2013): faces of 48x48 in grey with one of seven emotions. No row is
// passed over. Some faces are in it several times, also in different parts and with different labels: they are counted.
import { DataError } from "../tensor/errors.js";
import { check } from "../tensor/options.js";
import { type ImageDataset, type LabelledImages, unitInterval } from "./dataset.js";
import { bytesRule } from "./mnist-format.js";
import { gunzip } from "./web-gzip.js";

/** FER2013 in its three parts: `train` is Training, `validation` PublicTest, `test` PrivateTest. */
export interface Fer2013 extends ImageDataset {
  readonly validation: LabelledImages;
  readonly repeated: RepeatedFaces;
}

/** Faces that are in the file more than once, pixel for pixel. */
export interface RepeatedFaces {
  /** Different faces that are there more than once. */
  readonly faces: number;
  /** Those of them that are in more than one part. */
  readonly acrossParts: number;
  /** Those of them whose labels differ. */
  readonly labelsDiffer: number;
  /** Which images of `validation` and `test` are in another part, too. */
  readonly validation: Int32Array;
  readonly test: Int32Array;
}

/** The classes in the order of their numbers. */
export const fer2013Classes = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"] as const;

const usages = ["Training", "PublicTest", "PrivateTest"] as const;
type Usage = (typeof usages)[number];

const COLUMNS = ["emotion", "pixels", "Usage"] as const;
type Column = (typeof COLUMNS)[number];
const SIDE = 48;
const PIXELS = SIDE * SIDE;
/** Bytes of the pixels of a row at least: a digit each, and the spaces between. */
const LEAST_ROW = 2 * PIXELS - 1;
/** Bytes of the largest file that is read; the published one has 301,072,766. */
export const MOST_BYTES = 2 ** 29;

const [NEWLINE, RETURN, SPACE, QUOTE, COMMA, ZERO] = [10, 13, 32, 34, 44, 48];

/**
 * FER2013 out of the bytes of its CSV file, gzip or plain.
 * @throws UsageError where they are no bytes, DataError for malformed ones, naming the row
 */
export async function decodeFer2013(csv: Uint8Array): Promise<Fer2013> {
  check("decodeFer2013", "csv", csv, bytesRule);
  const path = "the CSV file";
  return fer2013Of(await gunzip(csv, `fer2013: ${path}`, MOST_BYTES), { path, from: "from bytes" });
}

/** The data set of its CSV file. @throws DataError for a malformed one, naming the row */
export function fer2013Of(csv: Uint8Array, { path, from }: { readonly path: string; readonly from: string }): Fer2013 {
  const parts = parseFer2013(csv, path);
  const counts = usages.map((usage) => `${parts[usage].count.toLocaleString("en-US")} ${usage}`);
  const repeated = repeatedFaces(parts);
  return {
    name: "fer2013",
    train: parts.Training,
    validation: parts.PublicTest,
    test: parts.PrivateTest,
    classCount: fer2013Classes.length,
    classNames: fer2013Classes,
    repeated,
    source: `FER2013, ${counts.join(", ")}, ${from}${repeatedText(repeated)}`,
  };
}

function repeatedText({ faces, acrossParts, labelsDiffer }: RepeatedFaces): string {
  if (faces === 0) return "";
  const [all, across, differ] = [faces, acrossParts, labelsDiffer].map((count) => count.toLocaleString("en-US"));
  return `; faces that are in it more than once: ${all}, of them in several parts ${across}, with different labels ${differ}`;
}

interface Face {
  readonly pixels: Float32Array;
  readonly places: { readonly usage: Usage; readonly label: number; readonly index: number }[];
}

function repeatedFaces(parts: Record<Usage, LabelledImages>): RepeatedFaces {
  const faces = new Map<number, Face[]>();
  for (const usage of usages) {
    const { images, labels, count } = parts[usage];
    for (let index = 0; index < count; index++) {
      const pixels = images.subarray(index * PIXELS, (index + 1) * PIXELS);
      const key = hashOf(pixels);
      const known = faces.get(key) ?? [];
      faces.set(key, known);
      const place = { usage, index, label: labels[index]! };
      const face = known.find((other) => other.pixels.every((value, i) => value === pixels[i]));
      if (face === undefined) known.push({ pixels, places: [place] });
      else face.places.push(place);
    }
  }
  const places = [...faces.values()].flat().map((face) => face.places);
  const several = places.filter((group) => group.length > 1);
  const across = several.filter((group) => group.some(({ usage }) => usage !== group[0]!.usage));
  const shared = (wanted: Usage) =>
    Int32Array.from(
      across.flatMap((group) => group.filter(({ usage }) => usage === wanted).map(({ index }) => index)),
    ).sort();
  return {
    faces: several.length,
    acrossParts: across.length,
    labelsDiffer: several.filter((group) => group.some(({ label }) => label !== group[0]!.label)).length,
    validation: shared("PublicTest"),
    test: shared("PrivateTest"),
  };
}

/** Equal for equal pixels, and hardly ever for others. */
function hashOf(pixels: Float32Array): number {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, pixels.length);
  let hash = 0;
  for (const word of words) hash = Math.imul((hash << 5) | (hash >>> 27), 0x9e3779b1) ^ word;
  return hash;
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

/** Where a field stands, quotes around it left out. */
interface Field {
  readonly begin: number;
  readonly end: number;
}

/**
 * Parses the bytes of a `fer2013.csv`. A header names emotion, pixels and Usage in any order. Then comes a row per face
 * with 48 x 48 pixels from 0 to 255 separated by single spaces. Fields may be quoted; blank lines may follow the last
 * row.
 *
 * @throws DataError naming the row for everything else; `name` tells the user which file
 */
export function parseFer2013(csv: Uint8Array, name: string): Record<Usage, LabelledImages> {
  const { columns, rows } = splitRows(csv, name);
  const pixels = new Uint8Array(rows.length * PIXELS);
  const members: Record<Usage, { row: number; label: number }[]> = { Training: [], PublicTest: [], PrivateTest: [] };
  for (const [index, row] of rows.entries()) {
    const target = pixels.subarray(index * PIXELS, (index + 1) * PIXELS);
    const { label, usage } = parseRow(csv, row, { columns, target, name });
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

const isBlank = (byte: number) => byte === SPACE || byte === NEWLINE || byte === RETURN;

/** The rows behind the header up to the first that is too short, and where the header has each column. */
function splitRows(csv: Uint8Array, name: string): { columns: readonly Column[]; rows: Row[] } {
  let columns: readonly Column[] = [];
  const rows: Row[] = [];
  for (let begin = 0, number = 0; begin < csv.length; number++) {
    const lineBreak = csv.indexOf(NEWLINE, begin);
    const last = lineBreak < 0;
    const next = last ? csv.length : lineBreak;
    const end = csv[next - 1] === RETURN && next > begin ? next - 1 : next;
    if (number === 0) columns = columnsOf(csv, { begin, end }, name);
    else if (csv.subarray(begin, end).every(isBlank)) {
      if (csv.subarray(next).every(isBlank)) break;
      throw new DataError(`fer2013: ${name}, row ${number} (line ${number + 1}): is empty`);
    } else {
      rows.push({ number, begin, end, last });
      // Refused when it is parsed. What follows may be millions of such rows, each with room for a face.
      if (end - begin < LEAST_ROW) break;
    }
    begin = next + 1;
  }
  if (rows.length === 0) {
    throw new DataError(
      `fer2013: ${name} has no rows: it must have a header and a row per face, has ${csv.length} bytes`,
    );
  }
  // Without a line break behind them, nobody can tell whether the last digits are all there.
  if (rows.at(-1)!.last && columns.at(-1) === "pixels" && csv.at(-1) !== QUOTE) {
    throw new DataError(
      `fer2013: ${name} is cut off: it must end with a line break behind the last pixel, ends after ${csv.length} bytes within ` +
        `row ${rows.at(-1)!.number}; fetch the file again`,
    );
  }
  return { columns, rows };
}

function columnsOf(csv: Uint8Array, { begin, end }: Field, name: string): readonly Column[] {
  const start = textOf(csv, begin, Math.min(end, begin + 3)).startsWith("\ufeff") ? begin + 3 : begin;
  const names = fieldsOf(csv, start, end).map((field) => textOf(csv, field.begin, field.end).trim().toLowerCase());
  const columns = names.map((given) => COLUMNS.find((column) => column.toLowerCase() === given));
  if (columns.length === COLUMNS.length && COLUMNS.every((column) => columns.includes(column))) {
    return columns as Column[];
  }
  throw new DataError(
    `fer2013: ${name} must begin with the line "${COLUMNS.join()}", in any order, begins with "${excerpt(csv, begin, end)}"`,
  );
}

/** The fields between commas. A field in quotes is what stands between them; doubled quotes are none of this data's. */
function fieldsOf(csv: Uint8Array, begin: number, end: number): Field[] {
  const fields: Field[] = [];
  for (let at = begin; ; ) {
    while (at < end && csv[at] === SPACE) at++;
    const close = csv[at] === QUOTE && at < end ? csv.indexOf(QUOTE, at + 1) : -1;
    const quoted = close > 0 && close < end;
    const comma = csv.indexOf(COMMA, quoted ? close : at);
    const stop = comma < 0 || comma >= end ? end : comma;
    // What stands between a quote and the comma makes it a field without quotes, which then is refused for what it
    // holds.
    if (quoted && csv.subarray(close + 1, stop).every((byte) => byte === SPACE))
      fields.push({ begin: at + 1, end: close });
    else fields.push({ begin: at, end: stop });
    if (stop === end) return fields;
    at = stop + 1;
  }
}

interface RowOptions {
  readonly columns: readonly Column[];
  /** Of the pixels. */
  readonly target: Uint8Array;
  readonly name: string;
}

/** One row; its pixels go into `target`. */
function parseRow(csv: Uint8Array, row: Row, { columns, target, name }: RowOptions): { label: number; usage: Usage } {
  const { begin, end, number } = row;
  const fault = (message: string): DataError =>
    new DataError(
      row.last
        ? `fer2013: ${name} is cut off: it ends after ${csv.length} bytes within row ${number}: ${message}; fetch the file again`
        : `fer2013: ${name}, row ${number} (line ${number + 1}): ${message}`,
    );
  const fields = fieldsOf(csv, begin, end);
  const fieldOf = (column: Column): Field => fields[columns.indexOf(column)] ?? { begin: end, end };
  const found = (field: Field) => (field.begin === field.end ? "missing" : `"${excerpt(csv, field.begin, field.end)}"`);

  const emotion = fieldOf("emotion");
  const label = csv[emotion.begin]! - ZERO;
  if (emotion.end !== emotion.begin + 1 || label < 0 || label >= fer2013Classes.length) {
    throw fault(`the emotion must be a number from 0 to ${fer2013Classes.length - 1}, is ${found(emotion)}`);
  }

  const pixels = fieldOf("pixels");
  let count = 0;
  for (let at = pixels.begin; at < pixels.end; count++) {
    const first = at;
    let value = 0;
    for (; at < pixels.end && csv[at] !== SPACE; at++) {
      const digit = csv[at]! - ZERO;
      value = digit >= 0 && digit <= 9 ? 10 * value + digit : Number.NaN;
    }
    // A NaN is not in the range.
    if (!(value <= 255) || at === first || at - first > 3) {
      throw fault(`pixel ${count + 1} must be a whole number from 0 to 255, is "${excerpt(csv, first, at)}"`);
    }
    if (count < PIXELS) target[count] = value;
    at++;
    if (at === pixels.end) throw fault(`its pixels must end with a number, end with a space behind pixel ${count + 1}`);
  }
  if (count !== PIXELS) throw fault(`must have ${PIXELS} pixels (${SIDE} x ${SIDE}), has ${count}`);

  const place = fieldOf("Usage");
  const given = textOf(csv, place.begin, place.end).trim();
  const usage = usages.find((known) => known === given);
  if (usage === undefined) throw fault(`the usage must be one of ${usages.join(", ")}, is ${found(place)}`);
  if (fields.length > columns.length) {
    throw fault(`must have ${columns.length} fields, has ${fields.length}: ${found(fields[columns.length]!)}`);
  }
  return { label, usage };
}

const textOf = (bytes: Uint8Array, begin: number, end: number): string =>
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(begin, end));

/** What stands there in few words; a damaged row may be long. */
const excerpt = (bytes: Uint8Array, begin: number, end: number): string =>
  textOf(bytes, begin, Math.min(end, begin + 40)) + (end - begin > 40 ? "..." : "");
