// Pictures in folders: what is decoded, in which order, what cannot be read, and training over them. pictures.json has
// Pillow's pixels and Keras's Resizing.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FolderOptions, fromFolder, type PictureBatch, PictureSource } from "../../src/data/from-folder.js";
import { encodeGrayPng, encodeRgbPng } from "../../src/io/png.js";
import { sequential } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { weightsOf } from "../nn/small.js";
import { cpu, expectClose } from "../support.js";

const golden = JSON.parse(readFileSync(new URL("pictures.json", import.meta.url), "utf8")) as {
  pixels: Record<string, number[]>;
  resized: Record<string, number[]>;
};
const jpeg = (name: string) => new URL(`pictures/${name}.jpg`, import.meta.url);

let folder: string;
/** Pictures of 4 x 6, grey, whose every pixel is its number in 255ths: 5 in a, 4 in b, 3 in c. */
let numbered: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-pictures-"));
  numbered = join(folder, "numbered");
  let number = 0;
  for (const [name, count] of Object.entries({ a: 5, b: 4, c: 3 })) {
    mkdirSync(join(numbered, name), { recursive: true });
    for (let i = 0; i < count; i++, number++) {
      const pixels = new Float32Array(24).fill(number / 255);
      writeFileSync(join(numbered, name, `${i}.png`), encodeGrayPng(pixels, { width: 6, height: 4 }));
    }
    writeFileSync(join(numbered, name, "notes.txt"), "no picture");
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

const all = async (batches: AsyncIterable<PictureBatch>) => {
  const found: PictureBatch[] = [];
  for await (const batch of batches) found.push(batch);
  return found;
};
/** Numbers of the pictures of each batch. */
const numbersOf = (batches: readonly PictureBatch[], size = 72) =>
  batches.map(({ x, y }) => Array.from(y, (_, i) => Math.round(x[i * size]! * 255)));
/** A folder of one class with these files. */
function folderOf(name: string, files: Readonly<Record<string, Uint8Array | URL>>): string {
  const path = join(folder, name);
  mkdirSync(join(path, "all"), { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    if (content instanceof URL) copyFileSync(content, join(path, "all", file));
    else writeFileSync(join(path, "all", file), content);
  }
  return path;
}

test("classes, order and batches", async () => {
  const { train, validation, classNames, classCount, imageShape } = await fromFolder(numbered, {
    ...{ batchSize: 5, shuffle: false },
  });
  expect([classNames, classCount, imageShape, validation]).toEqual([["a", "b", "c"], 3, [4, 6, 3], undefined]);
  expect([train.count, train.batchCount, train.files[5]]).toEqual([12, 3, join("b", "0.png")]);
  const batches = await all(train);
  expect(numbersOf(batches)).toEqual([
    [0, 1, 2, 3, 4],
    [5, 6, 7, 8, 9],
    [10, 11],
  ]);
  expect(batches.map(({ y }) => [...y])).toEqual([
    [0, 0, 0, 0, 0],
    [1, 1, 1, 1, 2],
    [2, 2],
  ]);
  expect(batches[2]!.x).toHaveLength(2 * 72);
  // From a batch on.
  expect(numbersOf(await all(train.batches(0, 2)))).toEqual([[10, 11]]);
  await train.end();
});

test("an order for each seed and epoch, and all pictures in it", async () => {
  const open = async (options: FolderOptions) => (await fromFolder(numbered, { channels: 1, ...options })).train;
  const train = await open({ seed: 3, batchSize: 4 });
  const numbers = async (source: PictureSource, epoch: number, from = 0) =>
    numbersOf(await all(source.batches(epoch, from)), 24);
  const [first, second] = [await numbers(train, 0), await numbers(train, 1)];
  expect(first.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i));
  expect(second).not.toEqual(first);
  const again = await open({ seed: 3, batchSize: 4, threads: 2, prefetch: 1 });
  expect(await numbers(again, 0)).toEqual(first);
  expect(await numbers(again, 1, 1)).toEqual(second.slice(1));
  expect(await numbers(await open({ seed: 4, batchSize: 4 }), 0)).not.toEqual(first);
});

test("a part is held out at random, without a picture in both", async () => {
  const { train, validation } = await fromFolder(numbered, { validationSplit: 0.25, seed: 1 });
  expect([train.count, validation!.count]).toEqual([9, 3]);
  expect([...train.files, ...validation!.files].sort()).toEqual(
    [...new Set([...train.files, ...validation!.files])].sort(),
  );
  // Not the last class alone.
  expect(new Set(validation!.labels).size).toBeGreaterThan(1);
  expect((await fromFolder(numbered, { validationSplit: 0.25, seed: 1 })).validation!.files).toEqual(validation!.files);
});

test("labels from a list", async () => {
  const list = join(folder, "labels.csv");
  writeFileSync(list, '\ufefffile,class\r\na/0.png,10\r\n"b/1.png","2"\r\n\r\nc/2.png,10\r\n');
  const { train, classNames } = await fromFolder(numbered, { labels: list, shuffle: false });
  expect(classNames).toEqual(["2", "10"]);
  expect(train.files).toEqual(["a/0.png", "b/1.png", "c/2.png"]);
  expect([...train.labels]).toEqual([1, 0, 1]);
  writeFileSync(list, "file,class\na/0.png\n");
  await expect(fromFolder(numbered, { labels: list })).rejects.toThrow(
    'line 2 must be a picture\'s path and its class, is "a/0.png"',
  );
});

describe("decodes", () => {
  test.each(["baseline", "progressive", "subsampled", "grey"])("JPEG, %s, as Pillow", async (name) => {
    const path = folderOf(name, { "x.JPG": jpeg(name) });
    const [batch] = await all((await fromFolder(path)).train);
    expect(Array.from(batch!.x, (value) => Math.round(value * 255))).toEqual(golden.pixels[name]);
  });

  test("PNG of every kind", async () => {
    const random = Float32Array.from({ length: 5 * 3 * 3 }, (_, i) => ((i * 37) % 256) / 255);
    const transparent = new PNG({ width: 3, height: 5 });
    transparent.data = Buffer.from(Uint8Array.from({ length: 60 }, (_, i) => (i % 4 === 3 ? 7 : (i * 11) % 256)));
    const path = folderOf("png", {
      "a.png": encodeRgbPng(random, { width: 3, height: 5 }),
      "b.png": encodeGrayPng(random.subarray(0, 15), { width: 3, height: 5 }),
      "c.png": PNG.sync.write(transparent),
      "d.png": PNG.sync.write(transparent, { bitDepth: 16, inputHasAlpha: true }),
    });
    const { train } = await fromFolder(path, { shuffle: false });
    const [{ x } = { x: new Float32Array() }] = await all(train);
    expectClose(x.subarray(0, 45), random, { rtol: 1e-6 });
    expectClose(x.subarray(45, 48), [0, 0, 0], { rtol: 0 });
    expectClose(x.subarray(48, 51), new Float32Array(3).fill(random[1]!), { rtol: 1e-6 });
    expectClose(x.subarray(90, 93), [0, 11 / 255, 22 / 255], { rtol: 1e-6 });
  });

  test.each(Object.keys(golden.resized))("resized to %s as Keras", async (name) => {
    const [height, width] = name.split("x").map(Number) as [number, number];
    const path = folderOf("resized", { "x.jpg": jpeg("baseline") });
    const [batch] = await all((await fromFolder(path, { size: [height, width] })).train);
    expectClose(batch!.x, golden.resized[name]!, { rtol: 2e-6 });
    const [grey] = await all((await fromFolder(path, { size: [height, width], channels: 1 })).train);
    const luma = Array.from({ length: height * width }, (_, i) => {
      const [r, g, b] = golden.resized[name]!.slice(3 * i, 3 * i + 3) as [number, number, number];
      return 0.299 * r + 0.587 * g + 0.114 * b;
    });
    expectClose(grey!.x, luma, { rtol: 2e-6 });
  });
});

describe("what cannot be read", () => {
  const picture = encodeGrayPng(new Float32Array(24).fill(0.5), { width: 6, height: 4 });
  const whole = readFileSync(jpeg("baseline"));
  const cases: [string, Uint8Array | URL, string, string][] = [
    ["empty", new Uint8Array(0), "png", "it is empty"],
    ["no picture", new TextEncoder().encode("GIF89a"), "png", "it is neither PNG nor JPEG, it begins with 47 49 46 38"],
    ["PNG cut off", picture.subarray(0, 50), "png", ""],
    ["PNG cut off in its header", picture.subarray(0, 20), "png", "it is cut off within its header"],
    ["JPEG cut off", whole.subarray(0, whole.length - 200), "jpg", "its JPEG is damaged: Premature end of JPEG file"],
    ["JPEG without a picture", whole.subarray(0, 100), "jpg", "it is no JPEG that can be read: "],
    ["JPEG of inks", jpeg("cmyk"), "jpg", "it is no JPEG that can be read: Unsupported color conversion request"],
    [
      "a picture that says it is huge",
      Uint8Array.from(picture).fill(0x7f, 16, 24),
      "png",
      "a picture may have up to 67108864 pixels, it says it has 2139062143 x 2139062143",
    ],
    [
      "another size",
      encodeGrayPng(new Float32Array(4), { width: 2, height: 2 }),
      "png",
      "all pictures must be 4 x 6 as the first is, it is 2 x 2; pass size",
    ],
  ];

  test.each(cases)("%s: named with the reason, or skipped", async (name, bytes, extension, reason) => {
    const path = folderOf(`broken ${name}`, {
      "0.png": picture,
      [`1.${extension}`]: bytes,
      "2.jpg": jpeg("baseline"),
      "3.png": picture,
    });
    const file = join(path, "all", `1.${extension}`);
    const options = { shuffle: false, ...(reason.includes("pass size") ? {} : { size: [4, 6] as [number, number] }) };
    const { train } = await fromFolder(path, options);
    const refused = all(train);
    await expect(refused).rejects.toThrow(DataError);
    await expect(refused).rejects.toThrow(`fromFolder: cannot read ${file}: ${reason}`);
    const told: string[] = [];
    const skipping = await fromFolder(path, {
      ...options,
      onError: "skip",
      onMessage: (message) => void told.push(message),
    });
    for (let epoch = 0; epoch < 2; epoch++) {
      const [batch] = await all(skipping.train.batches(epoch));
      // The JPEG between them has another size than the others.
      expect(batch!.y).toHaveLength(reason.includes("pass size") ? 2 : 3);
    }
    expect(told.filter((message) => message.startsWith(`fromFolder: cannot read ${file}: ${reason}`))).toHaveLength(1);
  });

  test("none of a batch, and a file that went", async () => {
    const path = folderOf("gone", { "0.png": picture, "1.png": picture });
    const { train } = await fromFolder(path, { onError: "skip", onMessage: () => {}, batchSize: 1, shuffle: false });
    rmSync(join(path, "all", "1.png"));
    await expect(all(train)).rejects.toThrow("none of the 1 pictures of a batch can be read");
  });

  test("folders", async () => {
    await expect(fromFolder(join(folder, "nowhere"))).rejects.toThrow(/^fromFolder: cannot read .*nowhere: ENOENT/);
    mkdirSync(join(folder, "flat"));
    writeFileSync(join(folder, "flat", "x.png"), picture);
    await expect(fromFolder(join(folder, "flat"))).rejects.toThrow("it has no folders; pass labels");
    mkdirSync(join(folder, "bare", "a"), { recursive: true });
    await expect(fromFolder(join(folder, "bare"))).rejects.toThrow("its folders a have none");
    await expect(fromFolder(numbered, { validationSplit: 0.01 })).resolves.toBeDefined();
    await expect(fromFolder(folderOf("two", { "0.png": picture }), { validationSplit: 0.5 })).rejects.toThrow(
      UsageError,
    );
    expect(() => new PictureSource([], new Int32Array(), {} as never)).toThrow("make it with fromFolder(path)");
  });
});

test("a training over a folder is one over its pictures, resumed to the same bits", async () => {
  const run = async (options: Partial<FitOptions>) => {
    const { train, validation } = await fromFolder(numbered, { seed: 2, batchSize: 4, validationSplit: 0.25 });
    const model = sequential({ device: cpu, seed: 1, inputShape: [4, 6, 3] }, [flatten(), dense({ units: 3 })]);
    const { history, timing } = await model.fit(train, {
      ...{ optimizer: sgd({ learningRate: 0.1 }), loss: crossEntropy, epochs: 3, validationData: validation },
      ...options,
    });
    expect(timing.idleShare).toBeGreaterThanOrEqual(0);
    return { history, weights: await weightsOf(model) };
  };
  const whole = await run({});
  expect(whole.history["val_loss"]).toHaveLength(3);
  for (const maxSteps of [2, 3, 5]) {
    const path = join(folder, `checkpoint-${maxSteps}`);
    await run({ maxSteps, checkpoint: { path } });
    expect(await run({ resume: path })).toEqual(whole);
  }
});
