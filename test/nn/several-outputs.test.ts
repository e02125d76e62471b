// Models of several inputs and outputs in fit, evaluate and predict; weights of losses, samples and classes. Figures,
// weights and outputs are Keras's: several-outputs.json. Resuming ends with the same bits.
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { model as modelOf, sequential } from "../../src/nn/architecture.js";
import { terminateOnNaN } from "../../src/nn/callbacks/index.js";
import { input } from "../../src/nn/graph.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { concatenate } from "../../src/nn/layers/merging.js";
import { binaryCrossEntropyFromLogits, crossEntropy, type Loss, meanSquaredError } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";
import { describeDevices, weightsOf } from "./small.js";

interface Case {
  readonly before: Record<string, number[]>;
  readonly history: Record<string, number[]>;
  readonly evaluation: Record<string, number>;
  readonly weights: Record<string, number[]>;
  readonly predictions: Record<string, number[]>;
}
const golden = JSON.parse(readFileSync(new URL("several-outputs.json", import.meta.url), "utf8")) as {
  data: Record<"a" | "b" | "price" | "kind" | "ofPrice" | "ofKind", number[]>;
  cases: Record<string, Case>;
};
const floats = (name: keyof typeof golden.data) => Float32Array.from(golden.data[name]);
const [a, b, price, kind] = [floats("a"), floats("b"), floats("price"), Int32Array.from(golden.data.kind)];
const [ofPrice, ofKind] = [floats("ofPrice"), floats("ofKind")];
const oneHot = Float32Array.from({ length: 60 }, (_, i) => (kind[Math.floor(i / 3)] === i % 3 ? 1 : 0));

/** Two inputs, two outputs: the probabilities of one are an input of the other. */
function twoByTwo(device: Device, extra: { readonly dropout?: number } = {}): Model {
  const inputs = [input({ shape: [3], name: "a" }), input({ shape: [2], name: "b" })] as const;
  const hidden = dense({ units: 4, activation: "tanh", name: "hidden", kernelL2: 1e-2 })(inputs[0]);
  const dropped = extra.dropout === undefined ? hidden : dropout(extra.dropout)(hidden);
  const joined = concatenate({ name: "joined" })([dropped, inputs[1]]);
  const kinds = dense({ units: 3, activation: "softmax", name: "kind" })(joined);
  const prices = dense({ units: 2, name: "price" })(concatenate({ name: "both" })([joined, kinds]));
  return modelOf({ device, seed: 3, inputs, outputs: [prices, kinds] });
}
const one = (device: Device) =>
  sequential({ device, seed: 3, inputShape: [3] }, [dense({ units: 3, activation: "softmax", name: "kind" })]);

const losses = { price: meanSquaredError, kind: crossEntropy };
const common = () => ({
  optimizer: sgd({ learningRate: 0.125, momentum: 0.875 }),
  batchSize: 8,
  epochs: 4,
  shuffle: false,
});
const data = { x: { a, b }, y: { price, kind } };

const cases: [name: string, make: (device: Device) => Model, data: Parameters<Model["fit"]>[0], Partial<FitOptions>][] =
  [
    ["two by two", twoByTwo, data, { loss: losses }],
    ["loss weights", twoByTwo, data, { loss: losses, lossWeights: { price: 0.3, kind: 2 } }],
    ["sample weights", twoByTwo, { ...data, sampleWeight: { price: ofPrice, kind: ofKind } }, { loss: losses }],
    ["one loss", twoByTwo, { x: [a, b], y: { price } }, { loss: [meanSquaredError, null] }],
    ["single, sample weights", one, { inputs: a, targets: kind, sampleWeight: ofKind }, { loss: crossEntropy }],
    ["single, class weights", one, { x: a, y: kind }, { loss: crossEntropy, classWeight: { 0: 0.5, 2: 3 } }],
    ["single, one-hot, class weights", one, { x: a, y: oneHot }, { loss: crossEntropy, classWeight: [0.5, 1, 3] }],
  ];

describeDevices((device, where) => {
  // Keras rounds to float32 in places, of figures everywhere.
  const rtol = where === "cpu" ? 1e-6 : 1e-5;

  test.each(cases)("%s: Keras's figures, weights and outputs", async (name, make, samples, options) => {
    const expected = golden.cases[name]!;
    const model = make(device());
    for (const { name, tensor } of model.weights()) tensor.assign(expected.before[name]!);
    const { loss } = options as { loss: Loss };
    const { history } = await model.fit(samples, { ...common(), loss, ...options });
    const { learning_rate: _, ...found } = history;
    expect(Object.keys(found).sort()).toEqual(Object.keys(expected.history).sort());
    for (const [figure, values] of Object.entries(expected.history)) {
      expectClose(found[figure]!, values, { rtol, label: figure });
    }
    const weights = await weightsOf(model);
    for (const [weight, values] of Object.entries(expected.weights)) {
      expectClose(weights[weight]!, values, { rtol, label: weight });
    }
    const { lossWeights } = options;
    const figures = await model.evaluate(samples, { loss, ...(lossWeights && { lossWeights }), batchSize: 7 });
    expect(Object.keys(figures).sort()).toEqual(Object.keys(expected.evaluation).sort());
    for (const [figure, value] of Object.entries(expected.evaluation)) {
      expectClose([figures[figure]!], [value], { rtol, label: `evaluate: ${figure}` });
    }
    const outputs = await model.predictAll(samples as never, { batchSize: 7 });
    expect(Object.keys(outputs)).toEqual(Object.keys(expected.predictions));
    for (const [output, values] of Object.entries(expected.predictions)) {
      expect(outputs[output]!.shape).toEqual([20, values.length / 20]);
      expectClose(outputs[output]!.data, values, { rtol, label: output });
    }
    model.dispose();
  });

  test("inputs and targets in lists, by name and as batches are the same data", async () => {
    const batches = [0, 8, 16].map((start) => {
      const [from, to] = [start, Math.min(start + 8, 20)];
      const of = (values: Float32Array | Int32Array, size: number) => values.subarray(from * size, to * size);
      return { x: { a: of(a, 3), b: of(b, 2) }, y: [of(price, 2), of(kind, 1)] };
    });
    const runs = [];
    for (const samples of [
      data,
      { x: [a, b], y: [price, kind] },
      { inputs: { b, a }, targets: { kind, price } },
      batches,
    ]) {
      const model = twoByTwo(device(), { dropout: 0.25 });
      const { batchSize, shuffle, ...rest } = common();
      const inMemory = samples === batches ? {} : { batchSize, shuffle };
      const { history } = await model.fit(samples as never, { ...rest, ...inMemory, loss: losses });
      runs.push({ history, weights: await weightsOf(model) });
      const { loss, ...figures } = await model.evaluate(samples as never, { loss: losses });
      expect(loss).toBeGreaterThan(0);
      expect(Object.keys(figures)).toEqual(["price_loss", "kind_loss", "kind_accuracy"]);
      model.dispose();
    }
    for (const run of runs) expect(run).toEqual(runs[0]);
  });

  test("trainStep is a step of fit", async () => {
    const [stepped, fitted] = [twoByTwo(device()), twoByTwo(device())];
    const x = [tensor(device(), a, { shape: [20, 3] }), tensor(device(), b, { shape: [20, 2] })];
    const y = [tensor(device(), price, { shape: [20, 2] }), tensor(device(), kind)];
    const loss = stepped.trainStep(x, y, { optimizer: sgd(), loss: losses, lossWeights: { kind: 2 } });
    const options = { optimizer: sgd(), loss: losses, lossWeights: [1, 2], shuffle: false };
    const { history } = await fitted.fit(data, options);
    expect(history["loss"]).toEqual([await loss.item()]);
    expect(await weightsOf(stepped)).toEqual(await weightsOf(fitted));
    for (const each of [...x, ...y, loss, stepped, fitted]) each.dispose();
  });

  test("logits of an output whose probabilities another output needs have both gradients", async () => {
    const model = twoByTwo(device());
    const x = [tensor(device(), a, { shape: [20, 3] }), tensor(device(), b, { shape: [20, 2] })];
    const [whole, bare] = [model.callAll(x), model.callAll(x, { logits: [false, true] })];
    expect(await bare[0]!.data()).toEqual(await whole[0]!.data());
    const logits = Array.from(await bare[1]!.data());
    const p = Array.from(await whole[1]!.data());
    for (let n = 0; n < 20; n++) {
      const row = logits.slice(3 * n, 3 * n + 3).map(Math.exp);
      const sum = row.reduce((s, v) => s + v);
      expectClose(
        p.slice(3 * n, 3 * n + 3),
        row.map((v) => v / sum),
        { rtol: 1e-5 },
      );
    }
    for (const each of [...x, ...whole, ...bare, model]) each.dispose();
  });

  describe("resumed", () => {
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "kilograd-outputs-"));
    });
    afterAll(() => rm(folder, { recursive: true }));

    test.each([2, 3, 7])("after step %i, it ends with the same bits", async (maxSteps) => {
      const path = join(folder, `${where}-${maxSteps}`);
      const run = async (options: Partial<FitOptions>) => {
        const model = twoByTwo(device(), { dropout: 0.25 });
        const { history } = await model.fit(
          { ...data, sampleWeight: ofKind },
          { ...common(), shuffle: true, loss: losses, callbacks: [terminateOnNaN()], ...options },
        );
        const weights = await weightsOf(model);
        model.dispose();
        return { history, weights };
      };
      const whole = await run({});
      await run({ maxSteps, checkpoint: { path } });
      expect(await run({ resume: path })).toEqual(whole);
    });
  });

  test("where a weight of a sample is NaN, it is found", async () => {
    const model = twoByTwo(device());
    const sampleWeight = ofKind.with(3, Number.NaN);
    const options = { ...common(), loss: losses, callbacks: [terminateOnNaN()] };
    const { stopReason } = await model.fit({ ...data, sampleWeight }, options);
    expect(stopReason).toBe(
      "the loss became NaN in step 1; first not finite: the weights of the batch's samples in step 1",
    );
    const x = { a: a.with(0, Number.NaN), b };
    const other = await model.fit({ ...data, x }, { ...options, optimizer: sgd() });
    expect(other.stopReason).toBe('the loss became NaN in step 1; first not finite: the batch\'s "a" in step 1');
    model.dispose();
  });
});

describe("refuses", () => {
  const train = (samples: unknown, options: Partial<FitOptions> = {}) => {
    const model = twoByTwo(cpu);
    return model.fit(samples as typeof data, { optimizer: sgd(), loss: losses, ...options });
  };
  const x = { a, b };
  const y = { price, kind };

  test.each<[string, unknown, Partial<FitOptions>, string]>([
    [
      "an unknown input",
      { x: { a, c: b }, y },
      {},
      'needs inputs, one for each of a, b, as a list or by name, got "c"',
    ],
    [
      "an input too few",
      { x: [a], y },
      {},
      "needs inputs, one for each of a, b, as a list or by name, got a list of 1",
    ],
    [
      "one array for two inputs",
      { x: a, y },
      {},
      "needs inputs, one for each of a, b, as a list or by name, got a Float32Array",
    ],
    ["a missing input", { x: { a }, y }, {}, 'needs inputs for "b" as a Float32Array'],
    [
      "inputs of unequal counts",
      { x: { a, b: b.subarray(2) }, y },
      {},
      'as many samples for every input, got 20 for "a" and 19 for "b"',
    ],
    [
      "rows that do not fit",
      { x: { a: a.subarray(1), b }, y },
      {},
      'needs rows of [3] (3 values) for "a", got 59 values',
    ],
    ["a missing target", { x, y: { price } }, {}, 'needs targets for "kind" as an Int32Array of class ids'],
    [
      "a class that is not there",
      { x, y: { price, kind: kind.with(4, 3) } },
      {},
      'class ids for "kind" must be from 0 to 2',
    ],
    [
      "an unknown output",
      { x, y },
      { loss: { prise: meanSquaredError } },
      'fit: loss names "prise", there are 2 outputs (price, kind); did you mean price?',
    ],
    ["no loss", { x, y }, { loss: {} }, "fit: needs a loss of at least one output (price, kind), got none"],
    [
      "losses too few",
      { x, y },
      { loss: [meanSquaredError] },
      "fit: loss must be one for each of 2 outputs (price, kind), got 1",
    ],
    ["what is no loss", { x, y }, { loss: { price: 1 } as never }, 'loss of "price" must be a loss'],
    [
      "metrics without a loss",
      { x, y: { price } },
      { loss: { price: meanSquaredError }, metrics: { kind: ["accuracy"] } },
      'metrics of an output need its loss, "kind" has none',
    ],
    ["metrics of no output", { x, y }, { metrics: ["accuracy"] }, "fit: metrics must be one for each of 2 outputs"],
    ["weights of classes", { x, y }, { classWeight: { 0: 1 } }, "classWeight is for one output, there are 2"],
    ["a change of batches", { x, y }, { perturb: (x) => x }, "perturb is for models of one input and output"],
    ["an augmentation", { x, y }, { augment: () => {} }, "augment is for models of one input"],
    [
      "weights of samples too few",
      { x, y, sampleWeight: ofKind.subarray(1) },
      {},
      "needs a sampleWeight for each of 20 samples, got 19",
    ],
  ])("%s", async (_, samples, options, message) => {
    await expect(train(samples, options)).rejects.toThrow(message);
    await expect(train(samples, options)).rejects.toMatchObject({ code: expect.stringMatching(/USAGE|SHAPE|DATA/) });
  });

  test("weights of samples and of classes together, and of classes that are not there", async () => {
    const model = one(cpu);
    const options = { optimizer: sgd(), loss: crossEntropy };
    const both = model.fit({ x: a, y: kind, sampleWeight: ofKind }, { ...options, classWeight: { 0: 2 } });
    await expect(both).rejects.toThrow("takes classWeight or sampleWeight, got both");
    const unknown = model.fit({ x: a, y: kind }, { ...options, classWeight: { 3: 2 } });
    await expect(unknown).rejects.toThrow("classWeight must name classes from 0 to 2, names 3");
  });

  test("one prediction of two, and a loss that would be applied to probabilities twice", async () => {
    const model = twoByTwo(cpu);
    await expect(model.predict(x)).rejects.toThrow('predict: "functional" has 2 outputs; use predictAll');
    const wrong = model.evaluate(data, { loss: { kind: binaryCrossEntropyFromLogits } });
    await expect(wrong).rejects.toThrow(UsageError);
    await expect(wrong).rejects.toThrow('layer "kind" applies softmax');
  });
});

test("integer labels of any array are classes, and whole numbers for one output", async () => {
  const found = [];
  for (const labels of [
    kind,
    Uint8Array.from(kind),
    Int8Array.from(kind),
    Uint32Array.from(kind),
    BigInt64Array.from(kind, BigInt),
    Array.from(kind),
  ]) {
    const model = one(cpu);
    const { history } = await model.fit({ x: a, y: labels }, { ...common(), loss: crossEntropy });
    found.push(history);
  }
  for (const history of found) expect(history).toEqual(found[0]);
  const model = one(cpu);
  // 2^32 would be class 0, were it cut to 32 bits.
  const large = BigInt64Array.from(kind, BigInt).with(0, 2n ** 32n);
  await expect(model.fit({ x: a, y: large }, { ...common(), loss: crossEntropy })).rejects.toThrow(
    "sample 0 has 4294967296",
  );
  const single = sequential({ device: cpu, inputShape: [3] }, [dense({ units: 1, activation: "sigmoid" })]);
  const binary = kind.map((label) => (label === 2 ? 1 : 0));
  const options = { loss: binaryCrossEntropyFromLogits };
  const expected = await single.evaluate({ x: a, y: Float32Array.from(binary) }, options);
  for (const y of [binary, Uint8Array.from(binary), BigInt64Array.from(binary, BigInt)]) {
    expect(await single.evaluate({ x: a, y }, options)).toEqual(expected);
  }
});
