// Data sets read by ranges: the images, labels and order of those that are read as a whole, and files that do not fit.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { shuffledIndices } from "../../src/data/batches.js";
import { CIFAR10_RECORD, cifar10Of } from "../../src/data/cifar10-format.js";
import {
  fromCifar10,
  fromIdx,
  type RecordBatch,
  type RecordOptions,
  RecordSource,
} from "../../src/data/record-files.js";
import { sequential } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { weightsOf } from "../nn/small.js";
import { cpu } from "../support.js";

let folder: string;
const at = (name: string) => join(folder, name);
const COUNT = 11;
const pixels = Uint8Array.from({ length: COUNT * 6 }, (_, i) => (i * 37) % 256);
const labels = Uint8Array.from({ length: COUNT }, (_, i) => i % 4);
const idx = (shape: number[], data: Uint8Array) =>
  Uint8Array.from([0, 0, 8, shape.length, ...shape.flatMap((size) => [0, 0, size >> 8, size & 255]), ...data]);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-records-"));
  writeFileSync(at("images"), idx([COUNT, 2, 3], pixels));
  writeFileSync(at("labels"), idx([COUNT], labels));
});
afterAll(() => rmSync(folder, { recursive: true }));

const all = async (batches: AsyncIterable<RecordBatch>) => {
  const found: RecordBatch[] = [];
  for await (const batch of batches) found.push(batch);
  return found;
};
const open = (options: RecordOptions = {}) => fromIdx(at("images"), at("labels"), options);

test("IDX: the images of each batch, in the order of data in memory", async () => {
  const source = await open({ batchSize: 4, seed: 3 });
  expect([source.count, source.batchCount, source.imageShape]).toEqual([COUNT, 3, [2, 3, 1]]);
  for (const epoch of [0, 1]) {
    const order = shuffledIndices(COUNT, 3, epoch);
    const batches = await all(source.batches(epoch));
    expect(batches.map(({ y }) => y.length)).toEqual([4, 4, 3]);
    expect(batches.flatMap(({ y }) => [...y])).toEqual(Array.from(order, (index) => labels[index]));
    expect(batches.flatMap(({ x }) => [...x])).toEqual(
      Array.from(order).flatMap((index) =>
        Array.from(pixels.subarray(6 * index, 6 * index + 6), (v) => Math.fround(v / 255)),
      ),
    );
    expect(await all(source.batches(epoch, 2))).toEqual(batches.slice(2));
  }
});

test("IDX: a training has the bits of one in memory", async () => {
  const inputs = Float32Array.from(pixels, (v) => v / 255);
  const runs = [];
  for (const samples of [await open({ batchSize: 4, seed: 3 }), { inputs, targets: labels }]) {
    const model = sequential({ device: cpu, seed: 1, inputShape: [2, 3, 1] }, [flatten(), dense({ units: 4 })]);
    const inMemory = samples instanceof RecordSource ? {} : { batchSize: 4, seed: 3 };
    const options = { optimizer: sgd({ learningRate: 0.1 }), loss: crossEntropy, epochs: 3, ...inMemory };
    const { history } = await model.fit(samples as never, options);
    runs.push({ history, weights: await weightsOf(model) });
  }
  expect(runs[0]).toEqual(runs[1]);
});

test("CIFAR-10: what is read as a whole, over several files", async () => {
  const records = (count: number, start: number) =>
    Uint8Array.from({ length: count * CIFAR10_RECORD }, (_, i) =>
      i % CIFAR10_RECORD === 0 ? (i / CIFAR10_RECORD + start) % 10 : (i * 31 + start) % 256,
    );
  const files = {
    "data_batch_1.bin": records(3, 0),
    "data_batch_2.bin": records(2, 5),
    "test_batch.bin": records(1, 1),
  };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(at(name), bytes);
  const { train } = cifar10Of(new Map(Object.entries(files)), { path: folder, from: "a test" });
  const source = await fromCifar10([at("data_batch_1.bin"), at("data_batch_2.bin")], { batchSize: 2, shuffle: false });
  const batches = await all(source);
  expect(batches.map(({ y }) => [...y])).toEqual([[0, 1], [2, 5], [6]]);
  expect(batches.flatMap(({ x }) => [...x])).toEqual([...train.images]);
  writeFileSync(at("wrong.bin"), files["test_batch.bin"].with(0, 10));
  await expect(all(await fromCifar10(at("wrong.bin")))).rejects.toThrow(
    "must hold labels 0 to 9, that of image 0 is 10",
  );
});

test("files that do not fit are refused by name", async () => {
  await expect(fromIdx(at("nowhere"), at("labels"))).rejects.toThrow(/^fromIdx: cannot read .*nowhere: ENOENT/);
  await expect(fromIdx(at("labels"), at("images"))).rejects.toThrow("were images and labels mixed up?");
  await expect(fromIdx(folder, at("labels"))).rejects.toThrow("it is no regular file");
  writeFileSync(at("images.gz"), gzipSync(idx([COUNT, 2, 3], pixels)));
  await expect(fromIdx(at("images.gz"), at("labels"))).rejects.toThrow(
    "images.gz is gzip, of which no range can be read",
  );
  writeFileSync(at("short"), idx([COUNT, 2, 3], pixels.subarray(1)));
  await expect(fromIdx(at("short"), at("labels"))).rejects.toThrow("with shape [11, 2, 3] must have 82 bytes, has 81");
  writeFileSync(at("few"), idx([2], labels.subarray(0, 2)));
  await expect(fromIdx(at("images"), at("few"))).rejects.toThrow("has 11 images, but");
  await expect(fromIdx(at("images"), at("few"))).rejects.toThrow(DataError);
  writeFileSync(at("odd.bin"), new Uint8Array(CIFAR10_RECORD + 1));
  await expect(fromCifar10(at("odd.bin"))).rejects.toThrow("must have a multiple of 3073 bytes");
  expect(() => new RecordSource({} as never, {})).toThrow(UsageError);
  // One that becomes shorter meanwhile.
  writeFileSync(at("going"), idx([COUNT, 2, 3], pixels));
  const going = await fromIdx(at("going"), at("labels"), { batchSize: 4, shuffle: false });
  truncateSync(at("going"), 60);
  await expect(all(going)).rejects.toThrow("became shorter while it was read; it must hold record");
});
