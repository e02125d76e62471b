// The callback tensorBoard: what its files hold. Their bytes are the matter of test/io/event-file.test.ts.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32c } from "../../src/io/event-file.js";
import { tensorBoard } from "../../src/nn/callbacks/tensor-board.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { adam } from "../../src/nn/optimizers.js";
import { KilogradError, UsageError } from "../../src/tensor/errors.js";
import { needsPython, runPython } from "../python.js";
import { cpu } from "../support.js";
import { plain, stripes } from "./small.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-tensorboard-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The bytes of every whole record of a file, as Latin-1; a wrong checksum is an error. */
function recordsOf(path: string): string[] {
  const bytes = readFileSync(path);
  const found: string[] = [];
  const masked = (part: Uint8Array) => {
    const crc = crc32c(part);
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  };
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    const content = bytes.subarray(at + 12, at + 12 + length);
    expect([bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 12 + length)]).toEqual([
      masked(bytes.subarray(at, at + 8)),
      masked(content),
    ]);
    found.push(content.toString("latin1"));
    at += length + 16;
  }
  return found;
}

const filesOf = (path: string) =>
  readdirSync(path)
    .sort()
    .map((name) => join(path, name));

const picture = { pixels: new Float32Array(4), width: 2, height: 2 };

/** Two epochs of three steps of a small network. */
async function trained(path: string, more: Partial<Parameters<typeof tensorBoard>[0]> = {}, resume?: string) {
  const model = plain().build({ device: cpu, seed: 1 });
  const checkpoint = join(folder, "checkpoint.safetensors");
  const { inputs, targets } = stripes(12);
  try {
    await model.fit(
      { inputs, targets },
      {
        ...{ optimizer: adam(), loss: crossEntropy, batchSize: 4, epochs: resume === undefined ? 2 : 3 },
        callbacks: [tensorBoard({ path, ...more })],
        checkpoint: { path: checkpoint },
        ...(resume && { resume }),
      },
    );
  } finally {
    model.dispose();
  }
  return checkpoint;
}

test("figures of epochs, of steps, weights and pictures", async () => {
  const path = join(folder, "all", "first");
  await trained(path, { everySteps: 2, histogramEpochs: 2, images: () => ({ sample: picture }) });
  const [file, ...others] = filesOf(path);
  expect(others).toEqual([]);
  const records = recordsOf(file!);
  // Version, session; steps 2, 4, 6; two epochs.
  expect(records.length).toBe(7);
  expect(records[0]).toContain("brain.Event:2");
  const having = (text: string) => records.filter((record) => record.includes(text)).length;
  expect(having("step/loss")).toBe(3);
  for (const name of ["loss", "accuracy", "learning_rate"]) expect(having(`epoch/${name}`)).toBe(2);
  expect([having("images/sample"), having("PNG")]).toEqual([2, 2]);
  const model = plain().build({ device: cpu, seed: 1 });
  for (const { name } of model.weights()) expect(having(`weights/${name}`)).toBe(1);
  model.dispose();
});

test("a training that goes on adds a file", async () => {
  const path = join(folder, "resumed");
  const checkpoint = await trained(path);
  await trained(path, {}, checkpoint);
  const files = filesOf(path);
  expect(files.length).toBe(2);
  expect(recordsOf(files[0]!).filter((record) => record.includes("epoch/loss")).length).toBe(2);
  expect(recordsOf(files[1]!).filter((record) => record.includes("epoch/loss")).length).toBe(1);
});

test.each([
  [() => tensorBoard({ path: "" }), /path/],
  [() => tensorBoard({ path: "a", everySteps: 0 }), /everySteps must be a whole number from 1/],
  [() => tensorBoard({ path: "a", often: 1 } as never), /often/],
])("refuses options that do not fit %#", (make, message) => {
  expect(make).toThrow(UsageError);
  expect(make).toThrow(message);
});

test("a picture that does not fit, and a folder that cannot be, end the training with an error", async () => {
  const images = () => ({ sample: { ...picture, width: 3 } });
  await expect(trained(join(folder, "wrong"), { images })).rejects.toThrow(/3 x 2 x 1 needs 6 values, given 4/);
  await expect(trained(join(folder, "wrong2"), { images: () => 3 as never })).rejects.toThrow(/pictures by name/);
  await expect(trained("/proc/none/logs")).rejects.toThrow(KilogradError);
});

const { reason } = needsPython("tensorboard");

describe.skipIf(reason !== undefined)(`read by TensorBoard ${reason ?? ""}`, () => {
  test("figures, histograms and pictures are those of the training, by finished steps", async () => {
    const path = join(folder, "judged");
    const checkpoint = await trained(path, { everySteps: 2, histogramEpochs: 1, images: () => ({ sample: picture }) });
    await trained(path, { everySteps: 2 }, checkpoint);
    // biome-ignore lint/suspicious/noExplicitAny: what event-file.py prints.
    const seen = runPython("test/io/event-file.py", ["read", path]) as any;
    expect(seen.scalars["epoch/loss"].map(([step]: number[]) => step)).toEqual([3, 6, 9]);
    expect(seen.scalars["step/loss"].map(([step]: number[]) => step)).toEqual([2, 4, 6, 8]);
    expect(seen.images["images/sample"].map(([step, width]: number[]) => [step, width])).toEqual([
      [3, 2],
      [6, 2],
    ]);
    const model = plain().build({ device: cpu, seed: 1 });
    for (const { name, tensor } of model.weights()) {
      for (const [, min, max, count, sum, , limits, counts] of seen.histograms[`weights/${name}`]) {
        expect(count).toBe(tensor.size);
        expect(counts.reduce((a: number, b: number) => a + b)).toBe(count);
        expect(limits.at(-1)).toBe(max);
        expect(sum >= min * count && sum <= max * count).toBe(true);
      }
    }
    model.dispose();
  });
});
