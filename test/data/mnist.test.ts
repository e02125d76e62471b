// IDX files and MNIST folders: everything that can be malformed, and the real data where this machine has it.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { parseIdx } from "../../src/data/idx.js";
import { readIdx } from "../../src/data/idx-file.js";
import { loadDataset, loadMnistOrDigits } from "../../src/data/load.js";
import { loadMnist } from "../../src/data/mnist.js";
import { decodeMnist } from "../../src/data/mnist-format.js";
import { encodeNpz } from "../../src/io/npz.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";

/** The folder with the real data as published; read before the tests change the environment. */
const dataDir = process.env["KILOGRAD_DATA_DIR"] ?? "";
const realFolder = [dataDir, join(dataDir, "mnist")].find((path) =>
  existsSync(join(path, "train-images-idx3-ubyte.gz")),
);

/** IDX bytes: a header with `shape`, then `data`. */
function idx(shape: number[], data: ArrayLike<number>, type = 8): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, type, shape.length]);
  shape.forEach((size, axis) => {
    header.writeUInt32BE(size, 4 + 4 * axis);
  });
  return Buffer.concat([header, Uint8Array.from(data)]);
}

const pixels = (count: number): number[] => Array.from({ length: count * 784 }, (_, i) => i % 256);
const goodFiles = (): Record<string, Buffer> => ({
  "train-images-idx3-ubyte": idx([3, 28, 28], pixels(3)),
  "train-labels-idx1-ubyte": idx([3], [7, 0, 9]),
  "t10k-images-idx3-ubyte.gz": gzipSync(idx([2, 28, 28], pixels(2))),
  "t10k-labels-idx1-ubyte.gz": gzipSync(idx([2], [1, 2])),
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-mnist-"));
  vi.stubEnv("KILOGRAD_DATA_DIR", undefined);
  vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(files: Record<string, Buffer>, where = folder): string {
  mkdirSync(where, { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(where, name), bytes);
  return where;
}

describe("parseIdx", () => {
  const parse = (bytes: Buffer, rank = 3) => parseIdx(bytes, { name: "some-file", rank });

  it("reads shape and bytes", () => {
    expect(parse(idx([2, 1, 3], [1, 2, 3, 4, 5, 6]))).toEqual({
      shape: [2, 1, 3],
      data: expect.objectContaining({ length: 6 }),
    });
    expect([...parse(idx([4], [9, 8, 7, 6]), 1).data]).toEqual([9, 8, 7, 6]);
  });

  it.each([
    [
      "another format",
      Buffer.from("PNG, or so"),
      /some-file is not an IDX file .* begin with 00 00 08 03, begins with 50 4e 47 2c/,
    ],
    ["labels for images", idx([4], [1, 2, 3, 4]), /must begin with 00 00 08 03, begins with 00 00 08 01/],
    ["floats", idx([1, 1, 1], [0, 0, 0, 0], 0x0d), /begins with 00 00 0d 03/],
    ["an empty file", Buffer.alloc(0), /begins with \(nothing\)/],
    ["a short header", idx([2, 1, 3], []).subarray(0, 10), /ends inside its header: needs 16 bytes, has 10/],
    ["a short body", idx([2, 1, 3], [1, 2, 3, 4]), /shape \[2, 1, 3\] must have 22 bytes, has 20 \(2 are missing\)/],
    ["trailing bytes", idx([2, 1, 1], [1, 2, 3]), /must have 18 bytes, has 19 \(1 too many\)/],
    ["an absurd count", idx([0xffffffff, 28, 28], [1]), /must have 3367254359296 bytes, has 17/],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => parse(bytes)).toThrow(DataError);
    expect(() => parse(bytes)).toThrow(message);
  });
});

describe("readIdx", () => {
  it("reads gzip and plain files, also gzip without the ending", async () => {
    const bytes = idx([2], [3, 4]);
    write({ plain: bytes, "packed.gz": gzipSync(bytes), packed: gzipSync(bytes) });
    for (const name of ["plain", "packed.gz", "packed"]) {
      expect([...(await readIdx(join(folder, name), 1)).data]).toEqual([3, 4]);
    }
  });

  it("uncompresses no more than the header says, and reads nothing but regular files", async () => {
    write({ "bomb.gz": gzipSync(Buffer.concat([idx([1], [3]), Buffer.alloc(100e6)])) });
    const before = process.memoryUsage().rss;
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss - before);
    }, 1);
    const error = await readIdx(join(folder, "bomb.gz"), 1).catch((error: unknown) => error);
    clearInterval(watch);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toMatch(/bomb\.gz: it holds more than the 9 bytes that it may have/);
    expect(peak).toBeLessThan(50e6);
    await expect(readIdx("/dev/zero", 1)).rejects.toThrow("cannot read /dev/zero: it is no regular file");
  });

  it("names the file in its errors", async () => {
    const bytes = idx([2], [3, 4]);
    write({ "plain.gz": bytes, "cut.gz": gzipSync(bytes).subarray(0, 15) });
    await expect(readIdx(join(folder, "plain.gz"), 1)).rejects.toThrow(
      /plain\.gz is not gzip: it must begin with the bytes 1f 8b, its 10 bytes begin with 00 00/,
    );
    await expect(readIdx(join(folder, "cut.gz"), 1)).rejects.toThrow(/cut\.gz is damaged gzip .* after 15 bytes/);
    await expect(readIdx(join(folder, "absent"), 1)).rejects.toThrow(/cannot read .*absent: ENOENT/);
    for (const name of ["plain.gz", "cut.gz", "absent"]) {
      await expect(readIdx(join(folder, name), 1)).rejects.toBeInstanceOf(DataError);
    }
  });
});

describe("loadMnist from a folder", () => {
  it("reads plain and gzip files, from the folder or its folder mnist, named by option or environment", async () => {
    const direct = write(goodFiles(), join(folder, "direct"));
    write(goodFiles(), join(folder, "parent", "mnist"));
    vi.stubEnv("KILOGRAD_DATA_DIR", join(folder, "parent"));
    const set = await loadMnist({ dataDir: direct });
    expect(set.source).toBe(`MNIST, from ${direct}`);
    expect(set.train.count).toBe(3);
    expect(set.train.imageShape).toEqual([28, 28, 1]);
    expect([...set.train.labels]).toEqual([7, 0, 9]);
    expect([...set.test.labels]).toEqual([1, 2]);
    expect(set.train.images).toHaveLength(3 * 784);
    expect(set.train.images[255]).toBe(1);
    expect(set.train.images[51]).toBe(Math.fround(0.2));
    expect((await loadDataset("mnist")).source).toBe(`MNIST, from ${join(folder, "parent", "mnist")}`);
  });

  const dotted = (name: string) => name.replace("-idx", ".idx");
  const inFolder = (name: string) => join(name.replace(/\.gz$/, ""), name);
  it.each<[what: string, where: string, rename: (name: string) => string]>([
    ["with a dot", "", dotted],
    ["with a dot in mnist", "mnist", dotted],
    ["in raw", "raw", (name) => name],
    ["as torchvision lays them out", join("MNIST", "raw"), (name) => name],
    ["in MNIST", "MNIST", (name) => name],
    ["in folders of their names", "", inFolder],
    ["in folders of their names with a dot", "", (name) => inFolder(dotted(name))],
    ["as an archive of Kaggle's has them", "", (name) => join(name.replace(/\.gz$/, ""), dotted(name))],
  ])("reads files %s", async (_, where, rename) => {
    for (const [name, bytes] of Object.entries(goodFiles())) {
      const path = join(folder, where, rename(name));
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
    }
    const { train, test } = await loadMnist({ dataDir: folder });
    expect([[...train.labels], [...test.labels]]).toEqual([
      [7, 0, 9],
      [1, 2],
    ]);
  });

  it("never looks further where the named folder misses something", async () => {
    const absent = join(folder, "nowhere");
    await expect(loadMnist({ dataDir: absent })).rejects.toThrow(
      `mnist: the folder ${absent} (--data-dir) does not exist`,
    );
    vi.stubEnv("KILOGRAD_DATA_DIR", folder);
    await expect(loadMnist()).rejects.toThrow(
      /neither .* \(KILOGRAD_DATA_DIR\) nor its folders mnist, MNIST, raw, .* have train-images/,
    );
    const { "t10k-labels-idx1-ubyte.gz": _, ...three } = goodFiles();
    write(three);
    await expect(loadMnist()).rejects.toThrow(
      /\(KILOGRAD_DATA_DIR\) misses t10k-labels-idx1-ubyte \(with or without .gz\)/,
    );
    for (const options of [{}, { dataDir: absent }, { dataDir: "" }]) {
      await expect(loadMnist(options)).rejects.toBeInstanceOf(UsageError);
      await expect(loadMnistOrDigits(options)).rejects.toBeInstanceOf(UsageError);
    }
  });

  it.each([
    [
      "train-labels-idx1-ubyte",
      idx([2], [7, 0]),
      /train-images-idx3-ubyte has 3 images, but .*train-labels-idx1-ubyte has 2 labels/,
    ],
    ["train-labels-idx1-ubyte", idx([3], [7, 10, 0]), /train-labels-idx1-ubyte must hold labels 0 to 9, label 1 is 10/],
    ["train-images-idx3-ubyte", idx([3, 14, 56], pixels(3)), /must hold images of 28x28, has shape \[3, 14, 56\]/],
    ["train-images-idx3-ubyte", idx([0, 28, 28], []), /has shape \[0, 28, 28\]/],
    ["t10k-images-idx3-ubyte.gz", idx([2, 28, 28], pixels(2)), /t10k-images-idx3-ubyte.gz is not gzip/],
  ])("refuses a folder whose %s is wrong", async (name, bytes, message) => {
    write({ ...goodFiles(), [name]: bytes });
    await expect(loadMnist({ dataDir: folder })).rejects.toThrow(message);
    await expect(loadMnistOrDigits({ dataDir: folder })).rejects.toBeInstanceOf(DataError);
  });
});

describe("without data and network", () => {
  it("loadMnist fails, and loadMnistOrDigits says why it used the built-in digits", async () => {
    const reason = /mnist\/train-images-idx3-ubyte.gz is missing or damaged, and downloads are switched off/;
    await expect(loadMnist({ offline: true })).rejects.toThrow(reason);
    await expect(loadDataset("mnist", { offline: true })).rejects.toThrow(reason);
    const choice = await loadMnistOrDigits({ offline: true, seed: 5, trainCount: 20, testCount: 10 });
    expect(choice.fallbackReason).toMatch(reason);
    expect(choice.dataset.source).toBe("built-in procedural digits, seed 5");
    expect(choice.dataset.train.count).toBe(20);
  });

  it("an unknown data set is refused by name", async () => {
    await expect(loadDataset("imagenet")).rejects.toThrow(
      'loadDataset: name must be one of "mnist", "digits", got "imagenet"',
    );
    await expect(loadDataset("imagenet")).rejects.toBeInstanceOf(UsageError);
  });
});

describe.skipIf(!realFolder)("the real MNIST (skipped where KILOGRAD_DATA_DIR does not name it)", () => {
  it("has its known counts and statistics, and none of it is damaged", async () => {
    const { train, test } = await loadMnist({ dataDir });
    expect([train.count, test.count]).toEqual([60_000, 10_000]);
    expect([...train.labels.subarray(0, 10)]).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    const perClass = new Array<number>(10).fill(0);
    for (const label of train.labels) perClass[label]!++;
    expect(perClass).toEqual([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    let sum = 0;
    for (const value of train.images) sum += value;
    expect(sum / train.images.length).toBeCloseTo(0.1307, 4); // the mean that normalisations of MNIST use
  });

  it("passes the checksums of the download when it lies in the cache", async () => {
    const cache = join(folder, "cache", "kilograd", "mnist");
    mkdirSync(cache, { recursive: true });
    for (const name of ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]) {
      copyFileSync(join(realFolder!, `${name}-ubyte.gz`), join(cache, `${name}-ubyte.gz`));
    }
    const set = await loadMnist({ offline: true });
    expect(set.source).toBe(`MNIST, from ${cache}`);
    expect(set.train.count).toBe(60_000);
  });
});

describe("decodeMnist", () => {
  const [trainImages, trainLabels, testImages, testLabels] = Object.values(goodFiles()) as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const good = { trainImages, trainLabels, testImages, testLabels };

  it("gives of bytes, gzip or plain, what loadMnist gives of files", async () => {
    write(goodFiles());
    const { source, ...loaded } = await loadMnist({ dataDir: folder });
    expect(await decodeMnist(good)).toEqual({ ...loaded, source: "MNIST, from bytes" });
    expect(source).toContain(folder);
  });

  it.each<[string, object, RegExp]>([
    ["no bytes", { trainLabels: undefined }, /^decodeMnist: trainLabels must be a Uint8Array/],
    ["labels for images", { testImages: testLabels }, /^idx: testImages is not an IDX file/],
    ["cut off gzip", { testImages: testImages.subarray(0, 40) }, /^mnist: testImages: is damaged gzip .* of 40 bytes/],
    ["too few labels", { trainLabels: idx([2], [1, 2]) }, /trainImages has 3 images, but trainLabels has 2 labels/],
    [
      "gzip of too much",
      { testLabels: gzipSync(Buffer.alloc(100_000)) },
      /testLabels: it holds more than the 60,008 bytes/,
    ],
    ["too much", { testLabels: Buffer.alloc(100_000) }, /testLabels: it holds more than the 60,008 bytes/],
  ])("refuses %s", async (_, wrong, message) => {
    await expect(decodeMnist({ ...good, ...wrong })).rejects.toThrow(message);
  });

  it("takes the arrays of Keras's mnist.npz", async () => {
    const images = (count: number) => ({ data: Uint8Array.from(pixels(count)), shape: [count, 28, 28] });
    const arrays = {
      x_test: images(2),
      x_train: images(3),
      y_train: Uint8Array.of(7, 0, 9),
      y_test: Uint8Array.of(1, 2),
    };
    const npz = encodeNpz(arrays);
    expect(await decodeMnist({ npz })).toEqual(await decodeMnist(good));
    write({ "mnist.npz": Buffer.from(npz) }, join(folder, "mnist"));
    const { source, ...loaded } = await loadMnist({ dataDir: folder });
    expect({ ...loaded, source: "MNIST, from bytes" }).toEqual(await decodeMnist(good));
    expect(source).toBe(`MNIST, from ${join(folder, "mnist", "mnist.npz")}`);
    const wrong = [
      [{ ...arrays, y_test: Int32Array.of(1, 2) }, /"y_test" must be bytes .* of 1 axes, is <i4 \[2\]/],
      [{ x_train: images(3) }, /"y_train" must be bytes .*, there is none/],
      [{ ...arrays, y_test: Uint8Array.of(1) }, /npz's x_test has 2 images, but npz's y_test has 1 labels/],
    ] as const;
    for (const [each, message] of wrong) {
      await expect(decodeMnist({ npz: encodeNpz(each) })).rejects.toThrow(message);
    }
    await expect(decodeMnist({ npz: 3 } as never)).rejects.toThrow(/npz must be a Uint8Array/);
  });

  it("refuses what is no object", async () => {
    await expect(decodeMnist(undefined as never)).rejects.toThrow(
      /^decodeMnist: files must be an object, got undefined/,
    );
  });
});
