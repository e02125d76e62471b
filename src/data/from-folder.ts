// Pictures in folders as batches: a folder for each class, or a list of labels. Only names and labels are held; the
// pictures are read and decoded in threads ahead of whoever takes the batches.
import { readdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { DataError, UsageError } from "../tensor/errors.js";
import {
  boolean,
  callable,
  check,
  checkOptions,
  integer,
  listOf,
  number,
  oneOf,
  type Rules,
  text,
} from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import type { BatchSource } from "./batch-source.js";
import { shuffledIndices } from "./batches.js";
import { type DecodedPictures, PicturePool } from "./picture-pool.js";

export interface FolderOptions {
  /** [height, width] that pictures are resized to, bilinearly, as Keras's Resizing. Default: all must have one size. */
  readonly size?: readonly [height: number, width: number];
  /** 3 (default): red, green, blue. 1: grey, of 0.299 red, 0.587 green and 0.114 blue. Transparency is left out. */
  readonly channels?: 1 | 3;
  /** Default 32. What is left at the end of an epoch is a batch. */
  readonly batchSize?: number;
  /** A new order of the training pictures in every epoch; default true. */
  readonly shuffle?: boolean;
  /** Of the order, and of which pictures are held out; default 0. */
  readonly seed?: number;
  /** Share of the pictures that are held out for validation, drawn at random; default none. */
  readonly validationSplit?: number;
  /**
   * A CSV file with a line of names, whose first column has paths of pictures below the folder and the second their
   * classes. Default: a picture's class is the folder that it is in, directly or deeper.
   */
  readonly labels?: string;
  /**
   * "throw" (default): a picture that cannot be read is an error. "skip": it is told to `onMessage`, once, and its
   * batch is smaller.
   */
  readonly onError?: "throw" | "skip";
  /** Is told of pictures that are skipped; default a warning of the process. */
  readonly onMessage?: (message: string) => void;
  /** Batches that are decoded ahead of the one in use; default 4. */
  readonly prefetch?: number;
  /** Threads that decode; default as many as there are cores, at most 4. */
  readonly threads?: number;
}

const rules: Rules<FolderOptions> = {
  size: listOf(integer({ from: 1, to: 2 ** 14 }), { from: 2, to: 2 }),
  channels: oneOf(1, 3),
  batchSize: integer({ from: 1, to: 2 ** 16 }),
  shuffle: boolean,
  seed: integer(),
  validationSplit: number({ above: 0, below: 1 }),
  labels: text,
  onError: oneOf("throw", "skip"),
  onMessage: callable,
  prefetch: integer({ from: 1, to: 64 }),
  threads: integer({ from: 1, to: 64 }),
};

/** A batch of pictures with their classes. */
export interface PictureBatch {
  /** [n, height, width, channels], in [0, 1]. */
  readonly x: Float32Array;
  /** [n] */
  readonly y: Int32Array;
}

/** Pictures in folders. */
export interface FolderData {
  readonly train: PictureSource;
  /** Those that are held out, in the order of their names; undefined without `validationSplit`. */
  readonly validation: PictureSource | undefined;
  /** Sorted; a picture's label is the place of its class. */
  readonly classNames: readonly string[];
  readonly classCount: number;
  /** [height, width, channels] */
  readonly imageShape: readonly [number, number, number];
}

/**
 * Opens a folder of PNG and JPEG pictures for training: `fit(train, ...)`. Memory does not grow with their number, but
 * for a name each.
 *
 * Pictures are read as they lie in the file: an orientation that a camera noted in a JPEG is not applied.
 * @throws DataError for a folder that cannot be read or has no pictures, and a list of labels that is malformed
 * @throws DataError, while batches are taken, for a picture that cannot be read
 * @example
 * const { train, validation, classNames } = await data.fromFolder("flowers", { size: [64, 64], validationSplit: 0.2 });
 * await model.fit(train, { optimizer, loss: loss.crossEntropy, validationData: validation, epochs: 10 });
 */
export async function fromFolder(path: string, options: FolderOptions = {}): Promise<FolderData> {
  check("fromFolder", "path", path, text);
  const given = checkOptions("fromFolder", options, rules);
  const { seed = 0, channels = 3, validationSplit, threads = defaultThreads() } = given;
  const listed = given.labels === undefined ? await listedByFolder(path) : await listedByLabels(path, given.labels);
  const { files, labels, classNames } = listed;
  const pool = new PicturePool(threads);
  const size = given.size ?? (await sizeOfFirst(pool, path, files, channels));
  const imageShape = [size[0], size[1], channels] as const;
  const [inTrain, held] = splitOf(files.length, validationSplit, seed);
  const common = { ...given, path, pool, imageShape, seed };
  const sourceOf = (indices: Uint32Array, shuffle: boolean) =>
    new PictureSource(
      Array.from(indices, (index) => files[index]!),
      Int32Array.from(indices, (index) => labels[index]!),
      { ...common, shuffle },
    );
  return {
    train: sourceOf(inTrain, given.shuffle ?? true),
    validation: held && sourceOf(held, false),
    classNames,
    classCount: classNames.length,
    imageShape,
  };
}

/** With one less than there are cores, the adapter waits for a tenth of the time on two; with all, for a hundredth. */
const defaultThreads = () => Math.min(4, availableParallelism());

/** What a source of pictures is made with. */
interface SourceOptions extends FolderOptions {
  readonly path: string;
  readonly pool: PicturePool;
  readonly imageShape: readonly [number, number, number];
  readonly seed: number;
  readonly shuffle: boolean;
}

/** Batches of pictures, read as they are taken. `fit`, `evaluate` and `predict` take it. */
export class PictureSource implements BatchSource<PictureBatch> {
  /** Told already. */
  private readonly told = new Set<string>();

  /** Made by `fromFolder`. */
  constructor(
    /** Paths below the folder. */
    readonly files: readonly string[],
    /** Classes, [count]. */
    readonly labels: Int32Array,
    private readonly options: SourceOptions,
  ) {
    if (!(Object(options).pool instanceof PicturePool)) {
      throw new UsageError("PictureSource: make it with fromFolder(path)");
    }
  }

  get count(): number {
    return this.files.length;
  }

  get batchSize(): number {
    return Math.min(this.options.batchSize ?? 32, this.count);
  }

  get batchCount(): number {
    return Math.ceil(this.count / this.batchSize);
  }

  get imageShape(): readonly [number, number, number] {
    return this.options.imageShape;
  }

  get identity(): string {
    const { seed, shuffle, imageShape } = this.options;
    const order = shuffle ? `seed ${seed}` : "in order";
    return `${this.count} pictures of ${imageShape.join("x")} in batches of ${this.batchSize}, ${order}`;
  }

  /** The batches of an epoch from the batch `from` on; in one order for each seed and epoch. */
  async *batches(epoch: number, from = 0): AsyncGenerator<PictureBatch> {
    check("batches", "epoch", epoch, integer({ from: 0 }));
    check("batches", "from", from, integer({ from: 0 }));
    const { seed, shuffle, prefetch = 4 } = this.options;
    const { count, batchSize, batchCount } = this;
    const order = shuffle ? shuffledIndices(count, seed, epoch) : Uint32Array.from({ length: count }, (_, i) => i);
    const ahead: { readonly indices: Uint32Array; readonly decoded: Promise<DecodedPictures> }[] = [];
    let next = from;
    const fill = () => {
      for (; ahead.length < prefetch && next < batchCount; next++) {
        const indices = order.subarray(next * batchSize, Math.min((next + 1) * batchSize, count));
        const decoded = this.decode(indices);
        // What goes wrong is raised where the batch is taken.
        decoded.catch(() => {});
        ahead.push({ indices, decoded });
      }
    };
    fill();
    for (let taken = ahead.shift(); taken !== undefined; taken = ahead.shift()) {
      const decoded = await taken.decoded;
      fill();
      yield this.batchOf(taken.indices, decoded);
    }
  }

  /** The pictures once, in the order of the first epoch. */
  [Symbol.asyncIterator](): AsyncGenerator<PictureBatch> {
    return this.batches(0);
  }

  private decode(indices: Uint32Array): Promise<DecodedPictures> {
    const { path, pool, imageShape } = this.options;
    const [height, width, channels] = imageShape;
    const files = Array.from(indices, (index) => resolve(path, this.files[index]!));
    return pool.decode({
      files,
      size: [height, width],
      resizes: this.options.size !== undefined,
      channels: channels as 1 | 3,
    });
  }

  private batchOf(indices: Uint32Array, { pixels, failures }: DecodedPictures): PictureBatch {
    const {
      path,
      onError = "throw",
      onMessage = (message) => process.emitWarning(message, "KilogradWarning"),
    } = this.options;
    const failed = new Set<number>();
    for (const { index, reason } of failures) {
      const file = this.files[indices[index]!]!;
      const message = `fromFolder: cannot read ${join(path, file)}: ${reason}`;
      if (onError === "throw") throw new DataError(`${message}; remove it, or pass onError: "skip"`);
      failed.add(index);
      if (!this.told.has(file)) onMessage(`${message}; it is skipped`);
      this.told.add(file);
    }
    const read = indices.filter((_, i) => !failed.has(i));
    if (read.length === 0) {
      throw new DataError(
        `fromFolder: none of the ${indices.length} pictures of a batch can be read, the last is ${join(path, this.files[indices.at(-1)!]!)}; remove them`,
      );
    }
    return { x: pixels, y: Int32Array.from(read, (index) => this.labels[index]!) };
  }

  /** Ends the threads at once; they also end by themselves. A later batch starts new ones. */
  async end(): Promise<void> {
    await this.options.pool.end();
  }
}

/** Pictures of a folder with their labels. */
interface Listed {
  readonly files: readonly string[];
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
}

const PICTURE = /\.(png|jpe?g)$/i;
const byCode = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

async function namesIn(path: string) {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter(({ name }) => !name.startsWith(".")).sort((a, b) => byCode(a.name, b.name));
  } catch (cause) {
    throw new DataError(`fromFolder: cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** A class is a folder, which may have folders. Hidden files, and what is no picture by its name, do not count. */
async function listedByFolder(path: string): Promise<Listed> {
  const files: string[] = [];
  const labels: number[] = [];
  const classNames: string[] = [];
  const walk = async (folder: string, label: number): Promise<void> => {
    for (const entry of await namesIn(join(path, folder))) {
      const below = join(folder, entry.name);
      if (entry.isDirectory()) await walk(below, label);
      else if (PICTURE.test(entry.name)) {
        files.push(below);
        labels.push(label);
      }
    }
  };
  for (const entry of await namesIn(path)) {
    if (!entry.isDirectory()) continue;
    await walk(entry.name, classNames.push(entry.name) - 1);
  }
  if (files.length === 0) {
    throw new DataError(
      `fromFolder: ${path} needs a folder for each class with .png or .jpg files, ${classNames.length === 0 ? "it has no folders; pass labels, a CSV file, where pictures lie side by side" : `its folders ${classNames.slice(0, 8).join(", ")} have none`}`,
    );
  }
  return { files, labels: Int32Array.from(labels), classNames };
}

async function listedByLabels(path: string, list: string): Promise<Listed> {
  const where = resolve(path, list);
  const read = await readFile(where, "utf8").catch((cause: Error) => {
    throw new DataError(`fromFolder: cannot read ${where}: ${cause.message}`, { cause });
  });
  const files: string[] = [];
  const classes: string[] = [];
  for (const [i, line] of read
    .replace(/^\ufeff/, "")
    .split(/\r?\n/)
    .entries()) {
    // The first line has names of columns.
    if (i === 0 || line.trim() === "") continue;
    const [file, label] = fieldsOf(line);
    if (!file || !label) {
      throw new DataError(
        `fromFolder: ${where}: line ${i + 1} must be a picture's path and its class, is ${JSON.stringify(line.slice(0, 80))}`,
      );
    }
    files.push(file);
    classes.push(label);
  }
  if (files.length === 0)
    throw new DataError(`fromFolder: ${where} names no pictures; it needs a line for each after the first`);
  const classNames = [...new Set(classes)];
  // Classes that are numbers are in their order.
  const numbered = classNames.every((name) => name.trim() !== "" && Number.isFinite(Number(name)));
  classNames.sort(numbered ? (a, b) => Number(a) - Number(b) : byCode);
  const places = new Map(classNames.map((name, i) => [name, i]));
  return { files, labels: Int32Array.from(classes, (name) => places.get(name)!), classNames };
}

/** Fields of a line of CSV, between commas; quotes keep commas, and two of them are one. */
function fieldsOf(line: string): string[] {
  return Array.from(line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g), ([, quoted, plain]) =>
    quoted === undefined ? plain!.trim() : quoted.replaceAll('""', '"'),
  );
}

async function sizeOfFirst(
  pool: PicturePool,
  path: string,
  files: readonly string[],
  channels: 1 | 3,
): Promise<readonly [number, number]> {
  const first = resolve(path, files[0]!);
  const { height, width, failures } = await pool.decode({ files: [first], size: undefined, resizes: false, channels });
  if (failures.length === 0) return [height, width];
  throw new DataError(
    `fromFolder: cannot read ${first}: ${failures[0]!.reason}; its size is that of all pictures, unless size is given`,
  );
}

/** Numbers of the pictures for training and of those that are held out, each in ascending order. */
function splitOf(count: number, fraction: number | undefined, seed: number): [Uint32Array, Uint32Array | undefined] {
  const all = Uint32Array.from({ length: count }, (_, i) => i);
  if (fraction === undefined) return [all, undefined];
  const boundary = Math.floor(count * (1 - fraction));
  if (boundary === 0 || boundary === count) {
    throw new UsageError(
      `fromFolder: validationSplit ${fraction} leaves no pictures on one side, of ${count}; use another share`,
    );
  }
  const random = new RandomStream(seed, "validation split");
  for (let last = count - 1; last > 0; last--) {
    const other = random.integer(last + 1);
    [all[last], all[other]] = [all[other]!, all[last]!];
  }
  return [all.slice(0, boundary).sort(), all.slice(boundary).sort()];
}
