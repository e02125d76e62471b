// Training: figures, validation, determinism, memory, limits, what does not fit.
import { expect, test } from "vitest";
import { sequential } from "../../src/nn/architecture.js";
import type { Callback, EpochLogs, StepLogs } from "../../src/nn/callbacks/callback.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import {
  binaryCrossEntropy,
  binaryCrossEntropyFromLogits,
  crossEntropy,
  crossEntropyFromProbabilities,
  meanSquaredError,
} from "../../src/nn/losses.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import { stepDecay } from "../../src/nn/schedules.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { DataError, ShapeError, UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { cpu, expectClose } from "../support.js";
import { describeDevices, plain, small, stripes, weightsOf } from "./small.js";

const data = stripes(100);

describeDevices((device, kind) => {
  test("learns, with figures that evaluate confirms", async () => {
    const model = small().build({ device: device(), seed: 1 });
    const epochs = kind === "cpu" ? 3 : 8;
    const history = await model.fit(stripes(200), {
      optimizer: adam({ learningRate: 0.02 }),
      loss: crossEntropy,
      epochs,
      validationSplit: 0.2,
    });
    expect(history.epoch).toEqual(Array.from({ length: epochs }, (_, i) => i));
    expect(Object.keys(history.history)).toEqual(["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]);
    expect(history.history["loss"]!.at(-1)).toBeLessThan(0.8 * history.history["loss"]![0]!);
    expect(history.steps).toBe(5 * epochs);
    expect(history.timing.steps).toBe(5 * epochs);
    expect(history.timing.firstStepMs).toBeGreaterThan(0);
    expect(history.timing.stepMsMedian).toBeGreaterThan(0);
    // The last fifth was held out.
    const all = stripes(200);
    const held = { inputs: all.inputs.subarray(160 * 36), targets: all.targets.subarray(160) };
    const figures = await model.evaluate(held, { loss: crossEntropy, batchSize: 7 });
    expect(figures.loss).toBeCloseTo(history.history["val_loss"]!.at(-1)!, 5);
    expect(figures.accuracy).toBe(history.history["val_accuracy"]!.at(-1));
    // evaluate by hand, from probabilities and with the penalty.
    const { data: probabilities, shape } = await model.predict(held.inputs, { batchSize: 9 });
    expect(shape).toEqual([40, 4]);
    const kernel = (await weightsOf(model))["dense/kernel"]!;
    const penalty = 1e-3 * kernel.reduce((sum, w) => sum + w * w, 0);
    let [loss, correct] = [0, 0];
    held.targets.forEach((label, n) => {
      const row = Array.from(probabilities.subarray(4 * n, 4 * n + 4));
      loss -= Math.log(row[label]!) / 40;
      if (row.indexOf(Math.max(...row)) === label) correct++;
    });
    expect(figures.loss).toBeCloseTo(loss + penalty, 5);
    expect(figures.accuracy).toBe(correct / 40);
    model.dispose();
  });

  test("the loss of an epoch is the mean over samples of its batches' losses", async () => {
    const model = plain().build({ device: device(), seed: 1 });
    const seen: StepLogs[] = [];
    const history = await model.fit(data, {
      optimizer: sgd(),
      loss: crossEntropy,
      batchSize: 32,
      callbacks: [{ name: "spy", onStepEnd: (logs) => seen.push(logs) }],
    });
    expect(seen.map(({ epoch, stepInEpoch, step }) => [epoch, stepInEpoch, step])).toEqual(
      [0, 1, 2, 3].map((i) => [0, i, i + 1]),
    );
    // The last batch has 4 of the 100 samples.
    const mean = [32, 32, 32, 4].reduce((sum, size, i) => sum + size * seen[i]!.loss, 0) / 100;
    expect(history.history["loss"]).toEqual([mean]);
    expect(seen[3]!.meanLoss).toBe(mean);
    model.dispose();
  });

  test("same seed, same bits; another seed, others", async () => {
    const run = async (options: Partial<FitOptions>) => {
      const model = small().build({ device: device(), seed: 7 });
      const history = await model.fit(data, {
        optimizer: sgd({ momentum: 0.9 }),
        loss: crossEntropy,
        epochs: 2,
        augment: (inputs, { random }) => {
          for (let i = 0; i < inputs.length; i++) inputs[i]! += 0.1 * random.uniform();
        },
        ...options,
      });
      const weights = await weightsOf(model);
      model.dispose();
      return { weights, figures: history.history };
    };
    const first = await run({});
    expect(await run({})).toEqual(first);
    expect(await run({ seed: 8 })).not.toEqual(first);
    expect(await run({ shuffle: false })).not.toEqual(first);
  });

  test("memory is flat over steps, and all is given back", async () => {
    const before = device().memory().liveCount;
    const model = small().build({ device: device(), seed: 1 });
    const optimizer = adam();
    const live: number[] = [];
    const spy: Callback = {
      name: "spy",
      onStepEnd: () => live.push(device().memory().liveBytes),
    };
    await model.fit(data, {
      optimizer,
      loss: crossEntropy,
      batchSize: 20,
      epochs: kind === "cpu" ? 2 : 20,
      callbacks: [spy],
      validationSplit: 0.2,
    });
    expect(new Set(live.slice(1)).size).toBe(1);
    optimizer.dispose();
    model.dispose();
    expect(device().memory().liveCount).toBe(before);
  });

  test("a step limit ends within an epoch", async () => {
    const model = plain().build({ device: device(), seed: 1 });
    const ended: number[] = [];
    const history = await model.fit(data, {
      optimizer: sgd({ learningRate: stepDecay({ learningRate: 0.1, everySteps: 2 }) }),
      loss: crossEntropy,
      batchSize: 30,
      epochs: 5,
      maxSteps: 6,
      validationData: data,
      callbacks: [{ name: "spy", onEpochEnd: (epoch) => void ended.push(epoch) }],
    });
    expect(history.steps).toBe(6);
    expect(history.epoch).toEqual([0, 1]);
    expect(history.history["val_loss"]).toHaveLength(2);
    expect(history.history["learning_rate"]![1]).toBeCloseTo(1e-4, 10);
    expect(history.stopReason).toBe("the limit of 6 steps was reached");
    expect(ended).toEqual([0]);
    model.dispose();
  });

  test("losses on probabilities and logits train alike", async () => {
    const layers = [flatten(), dense({ units: 4, activation: "softmax" })];
    const losses: number[][] = [];
    for (const loss of [crossEntropy, crossEntropyFromProbabilities]) {
      const model = sequential({ device: device(), seed: 1, inputShape: [6, 6, 1] }, layers);
      const { history } = await model.fit(data, { optimizer: sgd({ learningRate: 0.5 }), loss, epochs: 2 });
      expect(history["accuracy"]).toHaveLength(2);
      losses.push(history["loss"]!);
      model.dispose();
    }
    expect(losses[0]!.map((x) => expect.closeTo(x, 5))).toEqual(losses[1]);
  });

  test("binary targets and values as targets", async () => {
    const { inputs, targets } = stripes(64);
    const binary = Float32Array.from(targets, (label) => (label === 2 ? 1 : 0));
    for (const loss of [binaryCrossEntropy, binaryCrossEntropyFromLogits]) {
      const model = sequential({ device: device(), seed: 1, inputShape: [6, 6, 1] }, [
        flatten(),
        dense({ units: 1, activation: "sigmoid" }),
      ]);
      await model.fit({ inputs, targets: binary }, { optimizer: sgd({ learningRate: 1 }), loss, epochs: 3 });
      const figures = await model.evaluate({ inputs, targets: binary }, { loss });
      const { data: p } = await model.predict(inputs);
      const correct = binary.filter((t, i) => p[i]! > 0.5 === t > 0.5).length;
      expect(figures.accuracy).toBe(correct / 64);
      model.dispose();
    }
    const oneHot = new Float32Array(64 * 4);
    targets.forEach((label, n) => {
      oneHot[4 * n + label] = 1;
    });
    const model = plain().build({ device: device(), seed: 1 });
    const hard = await model.evaluate({ inputs, targets }, { loss: crossEntropy });
    const soft = await model.evaluate({ inputs, targets: oneHot }, { loss: crossEntropy });
    expect(soft.loss).toBeCloseTo(hard.loss, 6);
    expect(soft.accuracy).toBe(hard.accuracy);
    const squared = await model.evaluate({ inputs, targets: oneHot }, { loss: meanSquaredError });
    expect(squared.accuracy).toBeUndefined();
    const asked = await model.evaluate({ inputs, targets: oneHot }, { loss: meanSquaredError, metrics: ["accuracy"] });
    expect(asked.accuracy).toBe(hard.accuracy);
    model.dispose();
  });

  test("trainStep is a step of fit", async () => {
    const [one, other] = [plain(), plain()].map((model) => model.build({ device: device(), seed: 1 }));
    const few = stripes(8);
    const x = tensor(device(), few.inputs, { shape: [8, 6, 6, 1] });
    const y = tensor(device(), few.targets);
    const optimizer = adam();
    const loss = one!.trainStep(x, y, { optimizer, loss: crossEntropy });
    const history = await other!.fit(few, { optimizer: adam(), loss: crossEntropy, batchSize: 8, shuffle: false });
    expect(history.history["loss"]).toEqual([await loss.item()]);
    expect(await weightsOf(one!)).toEqual(await weightsOf(other!));
    for (const t of [x, y, loss, one!, other!]) t.dispose();
  });
});

test("both devices take the same steps", async () => {
  await using webgpu = await openDevice("webgpu");
  const [there, here] = await Promise.all(
    [cpu, webgpu].map(async (device) => {
      const model = small().build({ device, seed: 2 });
      const { history } = await model.fit(data, { optimizer: sgd({ momentum: 0.9 }), loss: crossEntropy, epochs: 3 });
      return { history, weights: await weightsOf(model) };
    }),
  );
  for (const [name, values] of Object.entries(there!.weights)) {
    expectClose(here!.weights[name]!, values, { rtol: 1e-4, label: name });
  }
  expectClose(here!.history["loss"]!, there!.history["loss"]!, { rtol: 1e-5, label: "loss" });
  expect(here!.history["accuracy"]).toEqual(there!.history["accuracy"]);
});

test.each<[string, Partial<FitOptions>, string]>([
  ["batch 0", { batchSize: 0 }, "fit: batchSize must be a whole number from 1, got 0"],
  ["a share", { validationSplit: 1 }, "validationSplit must be a finite number between 0 and 1, both excluded, got 1"],
  [
    "a misspelt option",
    { bachSize: 3 } as unknown as FitOptions,
    "fit: unknown option bachSize; did you mean batchSize?",
  ],
  ["no optimizer", { optimizer: undefined } as unknown as FitOptions, "fit: optimizer is required"],
  ["no loss", { loss: "crossEntropy" } as unknown as FitOptions, "fit: loss must be a loss, such as loss.crossEntropy"],
  ["a checkpoint nowhere", { checkpoint: {} } as unknown as FitOptions, "fit: checkpoint: path is required"],
  [
    "a misspelt scale",
    { lossScaling: { initalScale: 2 } } as unknown as FitOptions,
    "fit: lossScaling: unknown option initalScale; did you mean initialScale?",
  ],
  [
    "a callback that cannot be called",
    { callbacks: [{ name: "mine", onEpochEnd: 5 }] } as unknown as FitOptions,
    "each a callback with a name, whose methods are functions",
  ],
  ["every 0 epochs", { checkpoint: { path: "a", everyEpochs: 0 } }, "everyEpochs must be a whole number from 1, got 0"],
  ["unknown metrics", { metrics: ["auc"] } as unknown as FitOptions, 'each "accuracy", a metric such as metric.topK()'],
  ["both", { validationSplit: 0.1, validationData: data }, "takes validationSplit or validationData, got both"],
  ["epochs", { epochs: 1.5 }, "epochs must be a whole number from 0, got 1.5"],
  ["two callbacks of one name", { callbacks: [{ name: "a" }, { name: "a" }] }, 'two callbacks have the name "a"'],
])("refuses %s", async (_, options, message) => {
  const model = plain().build({ device: cpu });
  const fit = model.fit(data, { optimizer: sgd(), loss: crossEntropy, ...options });
  await expect(fit).rejects.toThrow(UsageError);
  await expect(fit).rejects.toThrow(message);
});

test("refuses data that does not fit, and models without anything to train", async () => {
  const model = plain().build({ device: cpu });
  const train = (samples: typeof data) => model.fit(samples, { optimizer: sgd(), loss: crossEntropy });
  const { inputs, targets } = data;
  await expect(train({ inputs: inputs.subarray(1), targets })).rejects.toThrow(
    "plain: needs rows of [6, 6, 1] (36 values), got 3599 values",
  );
  await expect(train({ inputs, targets: targets.subarray(1) })).rejects.toThrow(ShapeError);
  await expect(train({ inputs, targets: targets.with(3, 4) })).rejects.toThrow(DataError);
  await expect(train({ inputs, targets: targets.with(3, 4) })).rejects.toThrow(
    "class ids must be from 0 to 3 for 4 outputs, sample 3 has 4",
  );
  model.trainable = false;
  await expect(train(data)).rejects.toThrow('"plain" has no trainable weights');
  expect(await model.predict(new Float32Array(0))).toEqual({ data: new Float64Array(0), shape: [0, 4] });
});

test("callbacks are called in order, also those that wait", async () => {
  const model = plain().build({ device: cpu });
  const calls: string[] = [];
  const logs: EpochLogs[] = [];
  const spy: Callback = {
    name: "spy",
    onTrainBegin: () => void calls.push("train"),
    onEpochBegin: (epoch) => void calls.push(`epoch ${epoch}`),
    onStepEnd: ({ step }, { stop }) => {
      calls.push(`step ${step}`);
      if (step === 5) stop("enough");
    },
    onEpochEnd: async (epoch, figures) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      calls.push(`end ${epoch}`);
      logs.push(figures);
    },
    onTrainEnd: ({ stopReason }) => void calls.push(`done: ${stopReason}`),
    dispose: () => void calls.push("disposed"),
  };
  await model.fit(data, { optimizer: sgd(), loss: crossEntropy, batchSize: 50, epochs: 9, callbacks: [spy] });
  expect(calls).toEqual([
    ...["train", "epoch 0", "step 1", "step 2", "end 0", "epoch 1", "step 3", "step 4", "end 1"],
    ...["epoch 2", "step 5", "step 6", "end 2", "done: enough", "disposed"],
  ]);
  expect(logs[0]).toEqual({ loss: expect.any(Number), accuracy: expect.any(Number), learning_rate: 0.01 });
});
