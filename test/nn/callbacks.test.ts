// Callbacks: when each acts, on given figures, and what it writes.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sequential } from "../../src/nn/architecture.js";
import type { Callback, EpochLogs, TrainingContext } from "../../src/nn/callbacks/callback.js";
import {
  csvLogger,
  earlyStopping,
  jsonlLogger,
  modelCheckpoint,
  progressBar,
  reduceLrOnPlateau,
  terminateOnNaN,
} from "../../src/nn/callbacks/index.js";
import { fillTemplate } from "../../src/nn/callbacks/model-checkpoint.js";
import { loadModel } from "../../src/nn/checkpoint.js";
import { emptyHistory } from "../../src/nn/history.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy, meanSquaredError } from "../../src/nn/losses.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import { stepDecay } from "../../src/nn/schedules.js";
import { KilogradError, UsageError } from "../../src/tensor/errors.js";
import { cpu } from "../support.js";
import { describeDevices, plain, stripes, weightsOf } from "./small.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-callbacks-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Epochs with given figures; gives the rate after each, and the epoch in which training was stopped. */
async function play(callback: Callback, epochs: readonly EpochLogs[]) {
  const model = sequential({ device: cpu, inputShape: [1] }, [dense({ units: 1 })]);
  const optimizer = adam({ learningRate: 1 });
  const rates: number[] = [];
  let reason: string | undefined;
  const context: TrainingContext = {
    model,
    optimizer,
    epochs: epochs.length,
    batchSize: 1,
    stepsPerEpoch: 1,
    history: emptyHistory(),
    stop: (text) => {
      reason = text;
    },
  };
  await callback.onTrainBegin?.(context);
  let epoch = 0;
  for (; epoch < epochs.length && reason === undefined; epoch++) {
    model.weights()[0]!.tensor.assign([epoch]);
    await callback.onEpochEnd?.(epoch, epochs[epoch]!, context);
    rates.push(optimizer.learningRate);
  }
  await callback.onTrainEnd?.(context.history, context);
  callback.dispose?.();
  const [kernel] = await model.weights()[0]!.tensor.data();
  return { rates, ended: reason === undefined ? undefined : epoch - 1, reason, kernel };
}

const losses = (...values: number[]) => values.map((val_loss) => ({ val_loss }));

/** Epochs by the rules of Keras 3.15's EarlyStopping, followed on paper. */
describe("earlyStopping", () => {
  test.each<[string, Parameters<typeof earlyStopping>[0], EpochLogs[], ended: number | undefined]>([
    ["stops at the first epoch without improvement", {}, losses(3, 2, 2.5, 1), 2],
    ["counts from the last improvement", { patience: 2 }, losses(3, 2, 2.5, 1, 1.5, 1.5, 1.5), 5],
    ["never stops after the very first epoch", { patience: 0, baseline: 1 }, losses(3, 4, 5), 1],
    ["takes small changes for none", { patience: 1, minDelta: 0.5 }, losses(3, 2.8, 2.4, 1.8, 1.7), 1],
    [
      "follows accuracy upwards",
      { monitor: "val_accuracy" },
      [{ val_accuracy: 0.5 }, { val_accuracy: 0.6 }, { val_accuracy: 0.6 }],
      2,
    ],
    ["ignores the first epochs", { startFromEpoch: 2 }, losses(1, 2, 3, 2.5, 2.6), 4],
    ["has a baseline to beat", { baseline: 1, patience: 2 }, losses(4, 3, 2, 2), 3],
    ["takes NaN for no improvement", { patience: 1 }, losses(1, Number.NaN), 1],
    ["goes on while it improves", {}, losses(3, 2, 1), undefined],
  ])("%s", async (_, options, epochs, ended) => {
    expect((await play(earlyStopping(options), epochs)).ended).toBe(ended);
  });

  test("brings back the best weights, also where patience lasts", async () => {
    const restore = { restoreBestWeights: true, patience: 5 };
    expect((await play(earlyStopping(restore), losses(3, 1, 2, 2))).kernel).toBe(1);
    expect((await play(earlyStopping({ ...restore, startFromEpoch: 2 }), losses(1, 1, 9, 9.5, 9.2))).kernel).toBe(2);
    expect((await play(earlyStopping({ patience: 5 }), losses(3, 1, 2, 2))).kernel).toBe(3);
    const { reason } = await play(earlyStopping({ patience: 2 }), losses(3, 1, 2, 2));
    expect(reason).toBe("val_loss has not improved for 2 epochs; best in epoch 2: 1");
  });

  test("says what it cannot watch", async () => {
    expect(() => earlyStopping({ monitor: "val_score" })).toThrow('whether "val_score" should rise or fall');
    const without = play(earlyStopping(), [{ loss: 1, accuracy: 0.5 }]);
    await expect(without).rejects.toThrow(UsageError);
    await expect(without).rejects.toThrow(
      'earlyStopping: monitor must be one of loss, accuracy, got "val_loss"; give fit validationSplit or validationData',
    );
  });
});

/** Rates by the rules of Keras 3.15's ReduceLROnPlateau, followed on paper. */
describe("reduceLrOnPlateau", () => {
  test.each<[string, Parameters<typeof reduceLrOnPlateau>[0], EpochLogs[], rates: number[]]>([
    ["waits for its patience", { patience: 2, factor: 0.5 }, losses(1, 1, 1, 1, 1), [1, 1, 0.5, 0.5, 0.25]],
    ["takes tiny changes for none", { patience: 1, factor: 0.5 }, losses(1, 0.99995, 0.9), [1, 0.5, 0.5]],
    [
      "rests after a reduction",
      { patience: 1, factor: 0.5, cooldown: 2 },
      losses(1, 1, 1, 1, 1),
      [1, 0.5, 0.5, 0.25, 0.25],
    ],
    [
      "stops at the lowest rate",
      { patience: 1, factor: 0.1, minLearningRate: 0.05 },
      losses(1, 1, 1, 1),
      [1, 0.1, 0.05, 0.05],
    ],
  ])("%s", async (_, options, epochs, rates) => {
    expect((await play(reduceLrOnPlateau(options), epochs)).rates).toEqual(
      rates.map((rate) => expect.closeTo(rate, 12)),
    );
  });

  test("refuses to change a schedule", async () => {
    expect(() => reduceLrOnPlateau({ factor: 1 })).toThrow(
      "factor must be a finite number between 0 and 1, both excluded, got 1",
    );
    const model = plain().build({ device: cpu });
    const optimizer = sgd({ learningRate: stepDecay({ learningRate: 1, everySteps: 10 }) });
    const callbacks = [reduceLrOnPlateau({ monitor: "loss", patience: 0, minDelta: 100 })];
    const run = model.fit(stripes(8), { optimizer, loss: crossEntropy, batchSize: 8, epochs: 3, callbacks });
    await expect(run).rejects.toThrow("its learning rate follows the schedule stepDecay");
  });
});

test("modelCheckpoint fills in names, or keeps the best", async () => {
  expect(fillTemplate("a-{epoch:02d}-{val_loss:.3f}-{loss}", { epoch: 3, val_loss: 0.12345, loss: 2 })).toBe(
    "a-03-0.123-2",
  );
  expect(() => fillTemplate("{acc}", { loss: 1 })).toThrow("{acc} must be one of loss");
  const path = join(folder, "m{epoch:02d}-{val_loss:.1f}.safetensors");
  await play(modelCheckpoint({ path }), losses(3, 1));
  await play(modelCheckpoint({ path: join(folder, "best.safetensors"), saveBestOnly: true }), losses(3, 1, 2));
  const files = (await readdir(folder)).filter((name) => name.endsWith("safetensors")).sort();
  expect(files).toEqual(["best.safetensors", "m01-3.0.safetensors", "m02-1.0.safetensors"]);
  const best = await loadModel(join(folder, "best.safetensors"), { device: cpu });
  expect(Array.from(await best.weights()[0]!.tensor.data())).toEqual([1]);
  best.dispose();
});

test("loggers write a line per epoch", async () => {
  const epochs = [
    { loss: 1.5, accuracy: 0.25 },
    { loss: Number.NaN, accuracy: 0.5 },
  ];
  const csv = join(folder, "log.csv");
  const jsonl = join(folder, "log.jsonl");
  for (const append of [false, true]) {
    await play(csvLogger(csv, { append }), epochs);
    await play(jsonlLogger(jsonl, { append }), epochs);
  }
  expect(await readFile(csv, "utf8")).toBe("epoch,loss,accuracy\n0,1.5,0.25\n1,NaN,0.5\n0,1.5,0.25\n1,NaN,0.5\n");
  expect(
    (await readFile(jsonl, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual(
    [0, 1, 0, 1].map((epoch) => ({ epoch, loss: epoch === 0 ? 1.5 : null, accuracy: epoch === 0 ? 0.25 : 0.5 })),
  );
  const failing = play(csvLogger(join(folder, "none", "log.csv")), epochs);
  await expect(failing).rejects.toThrow(KilogradError);
  await expect(failing).rejects.toThrow("cannot write");
});

test("progress as plain lines", async () => {
  const stream = Object.assign(new PassThrough(), { isTTY: false }) as unknown as NodeJS.WriteStream;
  const model = plain().build({ device: cpu });
  const callbacks = [progressBar({ stream, everySeconds: 0 })];
  await model.fit(stripes(20), {
    optimizer: sgd(),
    loss: crossEntropy,
    batchSize: 10,
    epochs: 2,
    maxSteps: 3,
    callbacks,
  });
  const lines = String((stream as unknown as PassThrough).read())
    .trimEnd()
    .split("\n");
  const number = "\\d\\.\\d{4}";
  expect(lines.map((line) => line.replaceAll(new RegExp(number, "g"), "#").replace(/\d+\.\d s/, "# s"))).toEqual([
    "Epoch 1/2  1/2  loss #  accuracy #",
    "Epoch 1/2  2/2  loss #  accuracy #",
    "Epoch 1/2  2/2  # s  loss #  accuracy #  learning_rate #",
    "Epoch 2/2  1/2  loss #  accuracy #",
    "Training stopped: the limit of 3 steps was reached",
  ]);
});

test("progress as a bar on a terminal", async () => {
  const stream = Object.assign(new PassThrough(), {
    isTTY: true,
    columns: 120,
    cursorTo: () => true,
    clearLine: () => true,
    moveCursor: () => true,
  }) as unknown as NodeJS.WriteStream;
  const model = plain().build({ device: cpu });
  await model.fit(stripes(20), {
    optimizer: sgd(),
    loss: crossEntropy,
    batchSize: 10,
    callbacks: [progressBar({ stream })],
  });
  const text = String((stream as unknown as PassThrough).read());
  expect(text).toContain("Epoch 1/1 [====================] 2/2");
  expect(text).toMatch(/Epoch 1\/1 {2}2\/2 {2}\d+\.\d s {2}loss/);
});

describeDevices((device) => {
  describe("terminateOnNaN", () => {
    test("names the layer, and leaves the weights from before", async () => {
      const { inputs, targets } = stripes(80);
      // The logarithm of what a relu made 0, but only for images that are all 0: those of the fifth batch.
      inputs.fill(0, 40 * 36, 50 * 36);
      const build = () =>
        sequential({ device: device(), seed: 1, inputShape: [6, 6, 1] }, [
          flatten(),
          dense({ units: 5, useBias: false, kernelInitializer: "ones" }),
          dense({ units: 5, useBias: false, activation: "log", kernelInitializer: "ones", name: "culprit" }),
          dense({ units: 4, activation: "softmax" }),
        ]);
      const options = { loss: crossEntropy, batchSize: 10, shuffle: false } as const;
      const model = build();
      const history = await model.fit(
        { inputs, targets },
        { ...options, optimizer: adam(), callbacks: [terminateOnNaN()], epochs: 3 },
      );
      expect(history.stopReason).toMatch(
        /^the loss became (NaN|-?Infinity) in step 5; first not finite: the output of layer "culprit" in step 5$/,
      );
      const reference = build();
      await reference.fit({ inputs, targets }, { ...options, optimizer: adam(), maxSteps: 4 });
      expect(await weightsOf(model)).toEqual(await weightsOf(reference));
      for (const m of [model, reference]) m.dispose();
    });

    test("in a run after which another is on its way, which is taken back", async () => {
      const { inputs, targets } = stripes(4000);
      const build = () =>
        sequential({ device: device(), seed: 1, inputShape: [6, 6, 1] }, [
          flatten(),
          dense({ units: 4, activation: "softmax" }),
        ]);
      const options = { loss: crossEntropy, batchSize: 10, shuffle: false } as const;
      const reference = build();
      await reference.fit({ inputs, targets }, { ...options, optimizer: adam(), maxSteps: 230 });
      inputs[2305 * 36] = Number.NaN;
      const model = build();
      const steps: number[] = [];
      const counter: Callback = { name: "counter", onStepEnd: ({ step }) => void steps.push(step) };
      const optimizer = adam();
      const history = await model.fit(
        { inputs, targets },
        { ...options, optimizer, callbacks: [terminateOnNaN(), counter] },
      );
      expect(history.stopReason).toContain("in step 231; first not finite: the batch's inputs in step 231");
      expect(steps).toEqual(Array.from({ length: 230 }, (_, i) => i + 1));
      expect(await weightsOf(model)).toEqual(await weightsOf(reference));
      expect([history.steps, optimizer.iterations]).toEqual([230, 230]);
      for (const m of [model, reference]) m.dispose();
    });

    test("names the gradient where only that is not finite", async () => {
      const { inputs, targets } = stripes(60);
      const values = Float32Array.from(targets);
      // sqrt(0) is 0, its derivative infinite: step 4 of 6, after two that are waited for one by one.
      inputs.fill(0, 30 * 36, 40 * 36);
      const model = sequential({ device: device(), inputShape: [6, 6, 1] }, [
        flatten(),
        dense({ units: 1, useBias: false, activation: "sqrt", kernelInitializer: "ones", name: "root" }),
      ]);
      const history = await model.fit(
        { inputs, targets: values },
        {
          loss: meanSquaredError,
          optimizer: sgd({ learningRate: 1e-9 }),
          batchSize: 10,
          shuffle: false,
          callbacks: [terminateOnNaN()],
        },
      );
      expect(history.stopReason).toBe('first not finite: the gradient of "root/kernel" in step 4');
      expect((await weightsOf(model))["root/kernel"]!.every(Number.isFinite)).toBe(true);
      model.dispose();
    });

    test("names the data", async () => {
      const { inputs, targets } = stripes(30);
      inputs[25 * 36] = Number.NaN;
      // Without relu: a GPU's max(NaN, 0) may be 0.
      const layers = [flatten(), dense({ units: 4, activation: "softmax" })];
      const model = sequential({ device: device(), inputShape: [6, 6, 1] }, layers);
      const callbacks = [terminateOnNaN()];
      const options = { optimizer: sgd(), loss: crossEntropy, batchSize: 10, shuffle: false, callbacks };
      const history = await model.fit({ inputs, targets }, options);
      expect(history.stopReason).toContain("in step 3; first not finite: the batch's inputs in step 3");
      model.dispose();
    });
  });
});
