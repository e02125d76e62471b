// Data sets in files of records of one length, IDX and CIFAR-10's, as batches that are read by ranges. A file is never
// held as a whole, whatever its size.
import { type FileHandle, open, stat } from "node:fs/promises";
import { DataError, UsageError } from "../tensor/errors.js";
import { anyOf, boolean, check, checkOptions, integer, listOf, type Rules, text } from "../tensor/options.js";
import type { BatchSource } from "./batch-source.js";
import { shuffledIndices } from "./batches.js";
import { CIFAR10_RECORD, cifar10Classes, cifar10Pixels } from "./cifar10-format.js";
import { parseHeader } from "./idx.js";

export interface RecordOptions {
  /** Default 32. What is left at the end of an epoch is a batch. */
  readonly batchSize?: number;
  /** A new order in every epoch; default true. */
  readonly shuffle?: boolean;
  /** Of the order; default 0. */
  readonly seed?: number;
}

const recordRules: Rules<RecordOptions> = {
  batchSize: integer({ from: 1, to: 2 ** 16 }),
  shuffle: boolean,
  seed: integer(),
};

/** A batch of images with their classes. */
export interface RecordBatch {
  /** [n, height, width, channels], in [0, 1]. */
  readonly x: Float32Array;
  /** [n] */
  readonly y: Int32Array;
}

/** A file of records, or a part of one. */
interface RecordFile {
  readonly path: string;
  /** Byte of the first record, and bytes of each. */
  readonly start: number;
  readonly length: number;
  readonly count: number;
}

/** What a data set's records mean. */
interface RecordFormat {
  readonly name: string;
  readonly imageShape: readonly [number, number, number];
  /** Images, with or without their labels in them, one file after the other. */
  readonly files: readonly RecordFile[];
  /** Labels where they are in a file of their own, a byte each. */
  readonly labels: RecordFile | undefined;
  readonly classCount: number;
  /** Writes the values of a record, and gives its label where it has one. */
  readonly decode: (record: Uint8Array, values: Float32Array) => number;
}

/** Batches of images out of files of records. `fit`, `evaluate` and `predict` take it. */
export class RecordSource implements BatchSource<RecordBatch> {
  readonly count: number;
  readonly batchSize: number;
  private readonly shuffle: boolean;
  private readonly seed: number;

  /** Made by `fromIdx` and `fromCifar10`. */
  constructor(
    private readonly format: RecordFormat,
    options: RecordOptions,
  ) {
    if (!Array.isArray(Object(format).files)) {
      throw new UsageError("RecordSource: make it with fromIdx(images, labels) or fromCifar10(files)");
    }
    const { batchSize = 32, shuffle = true, seed = 0 } = checkOptions(format.name, options, recordRules);
    this.count = format.files.reduce((sum, { count }) => sum + count, 0);
    this.batchSize = Math.min(batchSize, this.count);
    this.shuffle = shuffle;
    this.seed = seed;
  }

  get batchCount(): number {
    return Math.ceil(this.count / this.batchSize);
  }

  get imageShape(): readonly [number, number, number] {
    return this.format.imageShape;
  }

  get identity(): string {
    const order = this.shuffle ? `seed ${this.seed}` : "in order";
    return `${this.count} images of ${this.imageShape.join("x")} in batches of ${this.batchSize}, ${order}`;
  }

  /** The batches of an epoch from the batch `from` on; in one order for each seed and epoch. */
  async *batches(epoch: number, from = 0): AsyncGenerator<RecordBatch> {
    check("batches", "epoch", epoch, integer({ from: 0 }));
    check("batches", "from", from, integer({ from: 0 }));
    const { count, batchSize, batchCount, format } = this;
    const order = this.shuffle ? shuffledIndices(count, this.seed, epoch) : undefined;
    const indicesOf = (batch: number) => {
      const [start, end] = [batch * batchSize, Math.min((batch + 1) * batchSize, count)];
      return order?.subarray(start, end) ?? Uint32Array.from({ length: end - start }, (_, i) => start + i);
    };
    const { files, labels } = format;
    const handles = new Map<string, FileHandle>();
    let next: Promise<RecordBatch> | undefined;
    try {
      for (const { path } of labels === undefined ? files : [...files, labels]) {
        if (!handles.has(path)) handles.set(path, await readable(format.name, path, () => open(path)));
      }
      const begin = (batch: number) => {
        const reading = batch < batchCount ? this.read(handles, indicesOf(batch)) : undefined;
        reading?.catch(() => {}); // Raised where it is taken.
        return reading;
      };
      next = begin(from);
      for (let batch = from; next !== undefined; batch++) {
        const now: RecordBatch = await next;
        // The next one is read while this one is used.
        next = begin(batch + 1);
        yield now;
      }
    } finally {
      await next?.catch(() => {});
      for (const handle of handles.values()) await handle.close();
    }
  }

  /** The images once, in the order of the first epoch. */
  [Symbol.asyncIterator](): AsyncGenerator<RecordBatch> {
    return this.batches(0);
  }

  private async read(handles: ReadonlyMap<string, FileHandle>, indices: Uint32Array): Promise<RecordBatch> {
    const { name, files, labels, imageShape, classCount, decode } = this.format;
    const size = imageShape.reduce((product, side) => product * side);
    const x = new Float32Array(indices.length * size);
    const y = new Int32Array(indices.length);
    await Promise.all(
      Array.from(indices, async (index, i) => {
        let [of, within] = [0, index];
        while (within >= files[of]!.count) within -= files[of++]!.count;
        const file = files[of]!;
        const record = await readAt(name, handles, file, within);
        const own = decode(record, x.subarray(i * size, (i + 1) * size));
        const label = labels === undefined ? own : (await readAt(name, handles, labels, index))[0]!;
        if (label >= classCount) {
          throw new DataError(
            `${name}: ${(labels ?? file).path} must hold labels 0 to ${classCount - 1}, that of image ${labels === undefined ? within : index} is ${label}`,
          );
        }
        y[i] = label;
      }),
    );
    return { x, y };
  }
}

async function readAt(
  name: string,
  handles: ReadonlyMap<string, FileHandle>,
  { path, start, length }: RecordFile,
  index: number,
): Promise<Uint8Array> {
  const record = new Uint8Array(length);
  const { bytesRead } = await readable(name, path, () =>
    handles.get(path)!.read(record, 0, length, start + index * length),
  );
  if (bytesRead === length) return record;
  throw new DataError(
    `${name}: ${path} became shorter while it was read; it must hold record ${index} of ${length} bytes`,
  );
}

async function readable<T>(name: string, path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw new DataError(`${name}: cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Size and first bytes of a regular file that can be read by ranges. */
async function headOf(name: string, path: string, length: number): Promise<{ size: number; head: Uint8Array }> {
  const info = await readable(name, path, () => stat(path));
  // Opening a pipe waits for somebody who writes.
  if (!info.isFile()) throw new DataError(`${name}: cannot read ${path}: it is no regular file`);
  const head = new Uint8Array(Math.min(length, info.size));
  const file = await readable(name, path, () => open(path));
  try {
    await readable(name, path, () => file.read(head, 0, head.length, 0));
  } finally {
    await file.close();
  }
  if (head[0] === 0x1f && head[1] === 0x8b) {
    throw new DataError(`${name}: ${path} is gzip, of which no range can be read; unpack it with gunzip`);
  }
  return { size: info.size, head };
}

/** An IDX file of bytes. */
async function idxFile(path: string, rank: number): Promise<{ file: RecordFile; shape: readonly number[] }> {
  const { size, head } = await headOf("fromIdx", path, 4 + 4 * rank);
  const { shape, headerBytes, totalBytes } = parseHeader(head, { name: path, rank });
  if (size !== totalBytes) {
    throw new DataError(
      `fromIdx: ${path} with shape [${shape.join(", ")}] must have ${totalBytes} bytes, has ${size}; fetch the file again`,
    );
  }
  const [count, ...sides] = shape as [number, ...number[]];
  return { file: { path, start: headerBytes, length: sides.reduce((a, b) => a * b, 1), count }, shape };
}

/**
 * Images and labels of two IDX files, as MNIST and its relatives have them, not compressed. Batches are read as they
 * are taken.
 * @throws DataError for a file that is missing, compressed or malformed, or where the two do not belong together
 * @example
 * const train = await data.fromIdx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", { batchSize: 128 });
 * await model.fit(train, { optimizer, loss: loss.crossEntropy, epochs: 5 });
 */
export async function fromIdx(images: string, labels: string, options: RecordOptions = {}): Promise<RecordSource> {
  check("fromIdx", "images", images, text);
  check("fromIdx", "labels", labels, text);
  const given = checkOptions("fromIdx", options, recordRules);
  const [pictures, classes] = [await idxFile(images, 3), await idxFile(labels, 1)];
  const [count, height, width] = pictures.shape as [number, number, number];
  if (count === 0 || height * width === 0) {
    throw new DataError(`fromIdx: ${images} must hold images, has shape [${pictures.shape.join(", ")}]`);
  }
  if (classes.file.count !== count) {
    throw new DataError(
      `fromIdx: ${images} has ${count} images, but ${labels} has ${classes.file.count} labels; are both of one part?`,
    );
  }
  const decode = (record: Uint8Array, values: Float32Array) => {
    for (let i = 0; i < values.length; i++) values[i] = record[i]! / 255;
    return 0;
  };
  return new RecordSource(
    {
      ...{ name: "fromIdx", imageShape: [height, width, 1], classCount: 256, decode },
      ...{ files: [pictures.file], labels: classes.file },
    },
    given,
  );
}

/**
 * Images of CIFAR-10's binary files, such as `data_batch_1.bin`, one after the other. Batches are read as they are
 * taken.
 * @param files one, or several as one data set
 * @throws DataError for a file that is missing, or no multiple of a record long
 */
export async function fromCifar10(
  files: string | readonly string[],
  options: RecordOptions = {},
): Promise<RecordSource> {
  check("fromCifar10", "files", files, anyOf(text, listOf(text, { from: 1 })));
  const given = checkOptions("fromCifar10", options, recordRules);
  const found: RecordFile[] = [];
  for (const path of typeof files === "string" ? [files] : files) {
    const { size } = await headOf("fromCifar10", path, 2);
    if (size === 0 || size % CIFAR10_RECORD !== 0) {
      throw new DataError(
        `fromCifar10: ${path} must have a multiple of ${CIFAR10_RECORD} bytes, one label and ${CIFAR10_RECORD - 1} pixels an image; it has ${size}; fetch it again`,
      );
    }
    found.push({ path, start: 0, length: CIFAR10_RECORD, count: size / CIFAR10_RECORD });
  }
  const pixels = new Uint8Array(CIFAR10_RECORD - 1);
  const decode = (record: Uint8Array, values: Float32Array) => {
    cifar10Pixels(record, 1, pixels);
    for (let i = 0; i < values.length; i++) values[i] = pixels[i]! / 255;
    return record[0]!;
  };
  const { length: classCount } = cifar10Classes;
  return new RecordSource(
    { name: "fromCifar10", imageShape: [32, 32, 3], classCount, decode, files: found, labels: undefined },
    given,
  );
}
