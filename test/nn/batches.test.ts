// Training, evaluation and prediction over batches of iterables. They give the same bits as data in memory in the same
// batches, whatever gives the batches, and whatever interrupts them.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BatchSource } from "../../src/data/batch-source.js";
import type { Batches } from "../../src/nn/batches.js";
import { progressBar, terminateOnNaN } from "../../src/nn/callbacks/index.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { LabelledBatch } from "../../src/nn/samples.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";
import { describeDevices, plain, stripes, weightsOf } from "./small.js";

const data = stripes(52);
const SIZE = 16;

/** Batches of 16, 16, 16 and 4. */
const slices = () =>
  Array.from({ length: 4 }, (_, i) => {
    const [from, to] = [i * SIZE, Math.min((i + 1) * SIZE, 52)];
    return { x: data.inputs.subarray(from * 36, to * 36), y: data.targets.subarray(from, to) };
  });

const later = () => new Promise((resolve) => setTimeout(resolve, 2));

/** One buffer for all batches, which is overwritten as soon as the next is asked for. */
function* reusing() {
  const x = new Float32Array(SIZE * 36);
  const y = new Int32Array(SIZE);
  for (const slice of slices()) {
    x.set(slice.x);
    y.set(slice.y);
    yield { x: x.subarray(0, slice.x.length), y: y.subarray(0, slice.y.length) };
  }
}

async function* waiting() {
  for (const slice of slices()) {
    await later();
    yield slice;
  }
}

/** Tensors that are freed when the next batch is asked for. */
const tensors = (device: Device) =>
  function* () {
    for (const { x, y } of slices()) {
      const [a, b] = [tensor(device, x, { shape: [y.length, 6, 6, 1] }), tensor(device, y)] as [Tensor, Tensor];
      yield { x: a, y: b };
      a.dispose();
      b.dispose();
    }
  };

const source: BatchSource<LabelledBatch> = {
  batchCount: 4,
  identity: "slices",
  *batches(_, from) {
    yield* slices().slice(from);
  },
};

const kinds: [string, (device: Device) => Batches<LabelledBatch>][] = [
  ["an array", slices],
  ["a function", () => slices],
  ["an async generator function", () => waiting],
  ["a function that gives a promise", () => async () => slices()],
  ["an object with an iterator", () => ({ [Symbol.iterator]: reusing })],
  ["promises of batches", () => () => slices().map(async (slice) => slice) as never],
  ["a source", () => source],
  ["tensors", tensors],
];

describeDevices((device, where) => {
  const run = async (batches: Batches<LabelledBatch> | typeof data, options: Partial<FitOptions> = {}) => {
    const model = plain().build({ device: device(), seed: 5 });
    const inMemory = batches === data ? { batchSize: SIZE, shuffle: false } : {};
    const history = await model.fit(batches as Batches<LabelledBatch>, {
      ...{ optimizer: sgd({ momentum: 0.9 }), loss: crossEntropy, epochs: 3 },
      ...inMemory,
      ...options,
    });
    const weights = await weightsOf(model);
    const { history: figures, steps, epoch } = history;
    model.dispose();
    return { weights, figures, steps, epoch };
  };
  let whole: Awaited<ReturnType<typeof run>>;
  beforeAll(async () => {
    whole = await run(data);
    expect(whole.steps).toBe(12);
  });

  test.each(kinds)("%s: the bits of data in memory", async (_, make) => {
    const before = device().memory().liveCount;
    expect(await run(make(device()))).toEqual(whole);
    // With copies of batches, for going back.
    expect(await run(make(device()), { callbacks: [terminateOnNaN()] })).toEqual(whole);
    expect(device().memory().liveCount).toBe(before);
  });

  test("an iterator goes on over epochs of stepsPerEpoch", async () => {
    function* endless() {
      for (;;) yield* slices();
    }
    const batches = endless();
    expect(await run(batches, { stepsPerEpoch: 4 })).toEqual(whole);
    // It was left open.
    expect(batches.next().done).toBe(false);
    const three = await run(endless, { stepsPerEpoch: 3 });
    expect([three.steps, three.epoch]).toEqual([9, [0, 1, 2]]);
  });

  test("augmentation and weights are as in memory, and batches are left as they are", async () => {
    const augment: FitOptions["augment"] = (inputs, { random }) => {
      for (let i = 0; i < inputs.length; i++) inputs[i]! += 0.1 * random.uniform();
    };
    const batches = slices();
    const before = batches[0]!.x.slice();
    const options = { augment, classWeight: [1, 2, 0.5, 3] };
    expect(await run(batches, options)).toEqual(await run(data, options));
    expect(batches[0]!.x).toEqual(before);
  });

  test("validation, evaluation and prediction over batches", async () => {
    const model = plain().build({ device: device(), seed: 5 });
    const options = { optimizer: sgd(), loss: crossEntropy, epochs: 2 };
    const { history } = await model.fit(slices(), { ...options, validationData: waiting });
    const figures = await model.evaluate(data, { loss: crossEntropy, batchSize: SIZE });
    expect(history["val_loss"]![1]).toBe(figures.loss);
    for (const [, make] of kinds) {
      expect(await model.evaluate(make(device()), { loss: crossEntropy })).toEqual(figures);
      expect(await model.predict(make(device()) as never)).toEqual(
        await model.predict(data.inputs, { batchSize: SIZE }),
      );
    }
    // Bare arrays are batches of inputs.
    const inputs = slices().map(({ x }) => x);
    expect((await model.predict(inputs, { steps: 2 })).shape).toEqual([32, 4]);
    const first = { inputs: data.inputs.subarray(0, 32 * 36), targets: data.targets.subarray(0, 32) };
    const expected = await model.evaluate(first, { loss: crossEntropy, batchSize: SIZE });
    expect(await model.evaluate(slices(), { loss: crossEntropy, steps: 2 })).toEqual(expected);
    model.dispose();
  });

  test("what a callback is told, and a bar without an end", async () => {
    const told: unknown[] = [];
    let written = "";
    const spy = {
      name: "spy",
      onEpochBegin: (_: number, { stepsPerEpoch, batchSize }: { stepsPerEpoch?: number; batchSize?: number }) =>
        void told.push([stepsPerEpoch, batchSize]),
    };
    const stream = { write: (text: string) => void (written += text) };
    await run(source, { callbacks: [spy as never], epochs: 1 });
    await run(waiting, { callbacks: [spy as never, progressBar({ stream, everySeconds: 0 })], epochs: 1 });
    expect(told).toEqual([
      [4, undefined],
      [undefined, undefined],
    ]);
    expect(written).toMatch(/^Epoch 1\/1 {2}1 {2}loss .*Epoch 1\/1 {2}4\/4 {2}.*\n$/s);
  });

  test("a loss that is not finite is found in its step, and the model left as before", async () => {
    const batches = () => slices().map((slice, i) => (i === 2 ? { ...slice, x: slice.x.with(5, Number.NaN) } : slice));
    const model = plain().build({ device: device(), seed: 5 });
    const { stopReason, steps } = await model.fit(batches, {
      ...{ optimizer: sgd(), loss: crossEntropy, epochs: 2, callbacks: [terminateOnNaN()] },
    });
    expect(stopReason).toBe("the loss became NaN in step 3; first not finite: the batch's inputs in step 3");
    expect(steps).toBe(2);
    expect((await weightsOf(model))["dense/kernel"]!.every(Number.isFinite)).toBe(true);
    model.dispose();
  });

  describe("interrupted and resumed", () => {
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "kilograd-batches-"));
    });
    afterAll(() => rm(folder, { recursive: true }));

    test.each([1, 4, 6, 8, 11])("after step %i: the same bits", async (maxSteps) => {
      for (const [name, batches] of Object.entries({ waiting, source, slices: slices() })) {
        const path = join(folder, `${where}-${name}-${maxSteps}`);
        await run(batches, { maxSteps, checkpoint: { path } });
        expect(await run(batches, { resume: path })).toEqual(whole);
      }
    });

    test("what cannot be gone on with is an error", async () => {
      const path = join(folder, `${where}-refused`);
      await run(source, { maxSteps: 6, checkpoint: { path } });
      await expect(run(slices(), { resume: path })).rejects.toThrow(
        "the source of batches must be as before, slices, got one without an identity",
      );
      await expect(run(data, { resume: path })).rejects.toThrow(
        "the data must be as before, batches of an iterable, got samples in memory",
      );
      await expect(run(waiting(), { resume: path })).rejects.toThrow("an iterator can be gone through once");
      const other = join(folder, `${where}-shorter`);
      await run(waiting, { maxSteps: 6, checkpoint: { path: other } });
      await expect(run(() => slices().slice(0, 1), { resume: other })).rejects.toThrow(
        "epoch 1 must have the 2 batches that are done as before, ended after 1",
      );
    });
  });
});

describe("refuses", () => {
  const train = (batches: unknown, options: Partial<FitOptions> = {}) =>
    plain()
      .build({ device: cpu, seed: 1 })
      .fit(batches as Batches<LabelledBatch>, { optimizer: sgd(), loss: crossEntropy, epochs: 2, ...options });
  const [slice] = slices();

  test.each<[string, unknown, Partial<FitOptions>, string]>([
    ["no batches", () => [], {}, "needs at least one batch, got none"],
    [
      "an iterator that has ended",
      slices()[Symbol.iterator](),
      {},
      "needs at least one batch, got none; where an iterable can be gone through only once",
    ],
    ["what is no iterable", () => 5, {}, "must give an iterable, got 5"],
    ["batches that are nothing", [slice, undefined], {}, "batch 1 of the epoch must be a batch, got undefined"],
    [
      "batches that do not fit",
      [slice, { x: slice!.x.subarray(1), y: slice!.y }],
      {},
      "plain: batch 1 of epoch 0: needs rows of [6, 6, 1]",
    ],
    [
      "a class that is not there",
      [{ x: slice!.x, y: slice!.y.with(2, 9) }],
      {},
      "plain: batch 0 of epoch 0: class ids must be from 0 to 3",
    ],
    ["a batch size", slices(), { batchSize: 4 }, "fit: batchSize is for data in memory"],
    ["a shuffle", slices(), { shuffle: true }, "fit: shuffle is for data in memory"],
    ["a split", slices(), { validationSplit: 0.5 }, "fit: validationSplit is for data in memory"],
    ["steps of data in memory", data, { stepsPerEpoch: 2 }, "fit: stepsPerEpoch is for batches from an iterable"],
  ])("%s", async (_, batches, options, message) => {
    await expect(train(batches, options)).rejects.toThrow(message);
  });

  test("tensors of another device or shape, and to change them on the host", async () => {
    const x = tensor(cpu, slice!.x, { shape: [16, 6, 6, 1] });
    const y = tensor(cpu, slice!.y);
    await expect(train([{ x: tensor(cpu, slice!.x), y }])).rejects.toThrow("needs inputs of [N, 6, 6, 1], got [576]");
    await expect(train([{ x, y: tensor(cpu, slice!.y.subarray(1)) }])).rejects.toThrow(
      "needs targets and weights of 16 samples, got 15",
    );
    await expect(train([{ x, y }], { augment: () => {} })).rejects.toThrow(
      "augment needs inputs on the host, got a tensor",
    );
    await expect(train([{ x, y }], { classWeight: [1, 2] })).rejects.toThrow(UsageError);
  });

  test("an error of the iterable is the training's", async () => {
    async function* broken() {
      yield slices()[0]!;
      throw new Error("the disk is gone");
    }
    await expect(train(broken)).rejects.toThrow("the disk is gone");
  });

  test("it is closed when training ends early", async () => {
    let closed = 0;
    function* open() {
      try {
        for (;;) yield slices()[0]!;
      } finally {
        closed++;
      }
    }
    await train(open, { maxSteps: 3 });
    expect(closed).toBe(1);
  });
});
