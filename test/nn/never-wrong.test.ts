// What must not go wrong without a word while training:
// - weights that are no numbers,
// - averages,
// - softmax taken twice,
// - two trainings at once,
// - memory of optimizers,
// - the first steps of a user.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mul } from "../../src/autograd/ops/elementwise.js";
import { softmax } from "../../src/autograd/ops/softmax.js";
import { compose, sequential } from "../../src/nn/architecture.js";
import { modelCheckpoint, terminateOnNaN } from "../../src/nn/callbacks/index.js";
import { loadModel, saveModel } from "../../src/nn/checkpoint.js";
import { saveKerasModel } from "../../src/nn/keras-models.js";
import type { Layer } from "../../src/nn/layer.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { globalAvgPool2d, maxPool2d } from "../../src/nn/layers/pooling.js";
import { reshape } from "../../src/nn/layers/reshape.js";
import { LossScaler } from "../../src/nn/loss-scaling.js";
import {
  binaryCrossEntropyFromLogits,
  crossEntropy,
  crossEntropyFromProbabilities,
  type Loss,
  meanSquaredError,
} from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam, adamW, type Optimizer, sgd } from "../../src/nn/optimizers.js";
import { cosineDecay, exponentialDecay, type Schedule, stepDecay } from "../../src/nn/schedules.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { describeDevices, plain, stripes, weightsOf } from "./small.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-never-wrong-"));
});
afterAll(() => rm(folder, { recursive: true }));

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const lossOptions = { loss: crossEntropy } as const;

describeDevices((device, kind) => {
  const leaf = (values: number[]) => tensor(device(), values);

  describe("weights that are no numbers", () => {
    const images = (bad: number | undefined) => {
      const inputs = Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i) / 2 + 0.5);
      if (bad !== undefined) inputs[5] = bad;
      return { inputs, targets: Int32Array.from({ length: 64 }, (_, i) => i % 4) };
    };
    const classifier = () =>
      sequential({ device: device(), seed: 1, inputShape: [8, 8, 1] }, [
        conv2d({ filters: 8, kernelSize: 3, activation: "relu" }),
        maxPool2d(2),
        flatten(),
        dense({ units: 4, activation: "softmax" }),
      ]);

    test("one bad pixel: terminateOnNaN ends the training and names the inputs", async () => {
      const model = classifier();
      const before = await weightsOf(model);
      const options = { ...lossOptions, epochs: 3, batchSize: 16, shuffle: false, callbacks: [terminateOnNaN()] };
      const history = await model.fit(images(nan), { optimizer: sgd({ learningRate: 0.1 }), ...options });
      expect(history.stopReason).toMatch(/first not finite: the batch's inputs in step 1$/);
      expect(await weightsOf(model)).toEqual(before);
      model.dispose();
    });

    // The loss of each step is finite: the update of the last one is what overflows.
    const overflowing = () =>
      sequential({ device: device(), seed: 1, inputShape: [1] }, [
        dense({ units: 1, useBias: false, kernelInitializer: "ones" }),
      ]);
    const one = { inputs: Float32Array.of(1, 1), targets: Float32Array.of(0, 0) };
    const overflow = (): Pick<FitOptions, "optimizer" | "loss" | "batchSize" | "shuffle"> => ({
      optimizer: sgd({ learningRate: kind === "cpu" ? 1e308 : 3e38, weightDecay: 2 }),
      ...{ loss: meanSquaredError, batchSize: 2, shuffle: false },
    });

    test("an update that overflows ends the training at the end of its epoch", async () => {
      const model = overflowing();
      const path = join(folder, `${kind}-overflow.safetensors`);
      await saveModel(path, model);
      const before = await readFile(path);
      const history = await model.fit(one, { ...overflow(), epochs: 5, checkpoint: { path } });
      expect(history.steps).toBe(1);
      expect(history.stopReason).toMatch(/the weight "dense\/kernel" is infinite or NaN after step 1/);
      // The last whole file is still there.
      expect(await readFile(path)).toEqual(before);
      model.dispose();
    });

    test("terminateOnNaN finds the step and leaves the weights from before", async () => {
      const model = overflowing();
      const history = await model.fit(one, { ...overflow(), epochs: 5, callbacks: [terminateOnNaN()] });
      expect(history.stopReason).toMatch(/^first not finite: the weight "dense\/kernel" after its update in step 1$/);
      expect(await weightsOf(model)).toEqual({ "dense/kernel": [1] });
      model.dispose();
    });

    test("looking for the cause changes no running statistics", async () => {
      const model = sequential({ device: device(), seed: 1, inputShape: [2] }, [
        dense({ units: 2, kernelInitializer: "ones" }),
        activation("log"),
        batchNorm(),
        dense({ units: 2, activation: "softmax" }),
      ]);
      const before = await weightsOf(model);
      const history = await model.fit(
        { inputs: Float32Array.of(0, 0, 1, 1), targets: Int32Array.of(0, 1) },
        { ...lossOptions, optimizer: sgd(), callbacks: [terminateOnNaN()] },
      );
      expect(history.stopReason).toMatch(/first not finite: the output of layer "activation" in step 1/);
      expect(await weightsOf(model)).toEqual(before);
      model.dispose();
    });

    test("are not saved, unless that is asked for, and no file is replaced by them", async () => {
      const model = plain().build({ device: device(), seed: 1 });
      const bias = model.weights().find(({ name }) => name === "dense_1/bias")!.tensor;
      const writers: [string, (path: string, options?: { allowNonFinite: boolean }) => Promise<void>][] = [
        ["safetensors", (path, options) => saveModel(path, model, options)],
        ["h5", (path, options) => saveKerasModel(path, model, options)],
      ];
      for (const [extension, write] of writers) {
        const path = join(folder, `${kind}-refused.${extension}`);
        bias.assign([1, 2, 3, 4]);
        await write(path);
        const whole = await readFile(path);
        for (const bad of [nan, -infinity]) {
          bias.assign([0, 0, bad, 0]);
          const refused = write(path);
          await expect(refused).rejects.toMatchObject({ code: "NON_FINITE" });
          await expect(refused).rejects.toThrow('the weight "dense_1/bias" of "plain" is infinite or NaN');
          expect(await readFile(path)).toEqual(whole);
        }
        await write(path, { allowNonFinite: true });
        const loaded = await loadModel(path, { device: device() });
        expect((await weightsOf(loaded))["dense_1/bias"]).toEqual([0, 0, -infinity, 0]);
        loaded.dispose();
      }
      expect((await readdir(folder)).filter((name) => name.startsWith("."))).toEqual([]);
      model.dispose();
    });

    test("an infinite velocity ends the training and is not saved, though the weights are finite", async () => {
      // The gradient is finite, its square is not: Adam divides by infinity, and the weights stay as they are.
      const model = sequential({ device: device(), seed: 1, inputShape: [1] }, [
        dense({ units: 2, activation: "softmax", useBias: false, kernelInitializer: "ones" }),
      ]);
      const path = join(folder, `${kind}-slots.safetensors`);
      const train = (given: Partial<FitOptions>, count = 1) =>
        model.fit(
          { inputs: new Float32Array(count).fill(1e20), targets: new Int32Array(count) },
          {
            ...{ optimizer: adam(), ...lossOptions, epochs: 3, batchSize: 1 },
            ...(kind === "cpu" && { perturb: (x) => mul(x, 1e140) }),
            ...given,
          },
        );
      const ended = await train({ checkpoint: { path } });
      expect(ended.steps).toBe(1);
      expect(ended.stopReason).toMatch(/^the optimizer's "dense\/kernel\/velocity" is infinite or NaN after step 1/);
      // Not only where an epoch ends.
      const early = await train({ checkpoint: { path, everySteps: 1 } }, 3);
      expect([early.steps, early.stopReason]).toEqual([
        1,
        expect.stringMatching(/velocity" is infinite .* after step 1/),
      ]);
      await expect(readFile(path)).rejects.toThrow("ENOENT");
      const found = await train({ callbacks: [terminateOnNaN()] });
      expect(found.stopReason).toMatch(
        /^first not finite: the optimizer's "dense\/kernel\/velocity" after its update in/,
      );
      const slots = [["dense/kernel/velocity", leaf([infinity])]] as const;
      await expect(saveModel(path, model, { slots })).rejects.toThrow('the optimizer\'s "dense/kernel/velocity" of');
      await saveModel(path, model, { slots, allowNonFinite: true });
      model.dispose();
    });

    test("modelCheckpoint does not save them either", async () => {
      const model = overflowing();
      const path = join(folder, `${kind}-callback.safetensors`);
      const saving = model.fit(one, { ...overflow(), callbacks: [modelCheckpoint({ path })] });
      await expect(saving).rejects.toThrow('the weight "dense/kernel"');
      await expect(readFile(path)).rejects.toThrow("ENOENT");
      model.dispose();
    });
  });

  describe("moving averages begin at the weights", () => {
    const average = async (optimizer: Optimizer, parameters: ReturnType<typeof leaf>[]) => {
      optimizer.swapAverages(parameters);
      const values: number[] = [];
      for (const parameter of parameters) values.push(...(await parameter.data()));
      optimizer.swapAverages(parameters);
      return values;
    };

    test("of a parameter that comes later", async () => {
      const [a, b] = [leaf([5]), leaf([7])];
      const still = sgd({ learningRate: 0, emaMomentum: 0.9 });
      still.step([a], [leaf([0])]);
      still.step([a, b], [leaf([0]), leaf([0])]);
      expect(await average(still, [a, b])).toEqual([5, 7]);
      // And then they average: b is 7 - 2, 7 - 4 after its steps.
      const [c, d] = [leaf([5]), leaf([7])];
      const moving = sgd({ learningRate: 2, emaMomentum: 0.75 });
      moving.step([c], [leaf([1])]);
      moving.step([c, d], [leaf([1]), leaf([1])]);
      moving.step([c, d], [leaf([1]), leaf([1])]);
      expect(await average(moving, [c, d])).toEqual([
        expect.closeTo(0.75 * (0.75 * 3 + 0.25 * 1) + 0.25 * -1, 5),
        expect.closeTo(0.75 * 5 + 0.25 * 3, 5),
      ]);
    });

    test("after steps that loss scaling left out", async () => {
      for (const make of [sgd, adam]) {
        const a = leaf([5]);
        const optimizer = make({ learningRate: 0, emaMomentum: 0.9 });
        const scaler = new LossScaler(device(), { initialScale: 1 });
        const skipped = () => scaler.step(optimizer, [a], [leaf([infinity])]);
        skipped();
        skipped();
        // No step so far: the weights are their own average.
        expect(await average(optimizer, [a])).toEqual([5]);
        expect([...(await a.data())]).toEqual([5]);
        a.assign([6]);
        scaler.step(optimizer, [a], [leaf([0])]);
        expect(await average(optimizer, [a])).toEqual([6]);
        a.assign([8]);
        scaler.step(optimizer, [a], [leaf([0])]);
        expect((await average(optimizer, [a]))[0]).toBeCloseTo(0.9 * 6 + 0.1 * 8, 5);
        for (const each of [optimizer, scaler, a]) each.dispose();
      }
    });

    test("in use, they are neither trained nor written into a checkpoint", async () => {
      const [w, other, g] = [leaf([5]), leaf([7]), leaf([1])];
      const optimizer = sgd({ learningRate: 1, emaMomentum: 0.5 });
      optimizer.step([w, other], [g, g]);
      optimizer.step([w, other], [g, g]);
      optimizer.swapAverages([w]);
      expect(() => optimizer.step([w, other], [g, g])).toThrow(UsageError);
      expect(() => optimizer.step([w], [g])).toThrow(/sgd: a step would change the averages, .* call it again before/);
      expect([...(await w.data()), optimizer.iterations]).toEqual([3.5, 2]);
      optimizer.step([other], [g]);
      optimizer.swapAverages([w]);
      optimizer.step([w], [g]);
      expect([...(await w.data()), optimizer.iterations]).toEqual([2, 4]);
      optimizer.dispose();

      // Also by a step that is replayed, and by a training that goes on.
      const model = plain().build({ device: device(), seed: 1 });
      const adaptive = adam({ emaMomentum: 0.9 });
      const options = { optimizer: adaptive, ...lossOptions, batchSize: 20 };
      const swap = { name: "swap", onStepEnd: ({ step }: { step: number }) => void (step === 6 && exchange()) };
      const exchange = () => adaptive.swapAverages(model.parameters());
      await expect(model.fit(stripes(60), { ...options, epochs: 4, callbacks: [swap] })).rejects.toThrow(UsageError);
      await expect(model.fit(stripes(60), options)).rejects.toThrow("adam: a step would change the averages");
      exchange();
      const path = join(folder, `${kind}-swapped.safetensors`);
      await model.fit(stripes(60), { ...options, checkpoint: { path } });
      const whole = await readFile(path);
      const late = { name: "late", onEpochEnd: exchange };
      const saving = model.fit(stripes(60), { ...options, callbacks: [late], checkpoint: { path } });
      await expect(saving).rejects.toThrow(/fit: a checkpoint needs the parameters themselves/);
      expect(await readFile(path)).toEqual(whole);
      // What a checkpoint restores are the parameters.
      await model.fit(stripes(60), { ...options, epochs: 2, resume: path });
      model.dispose();
    });

    test("a resumed training has the same ones, also where nothing was averaged before", async () => {
      const run = async (options: Partial<FitOptions>) => {
        const model = plain().build({ device: device(), seed: 3 });
        const optimizer = adam({ emaMomentum: 0.9 });
        const base = { optimizer, ...lossOptions, batchSize: 20, epochs: 2 };
        await model.fit(stripes(60), { ...base, ...options });
        optimizer.swapAverages(model.parameters());
        const weights = await weightsOf(model);
        model.dispose();
        return weights;
      };
      const whole = await run({});
      for (const maxSteps of [1, 4]) {
        const path = join(folder, `${kind}-average-${maxSteps}.safetensors`);
        await run({ maxSteps, checkpoint: { path } });
        expect(await run({ resume: path })).toEqual(whole);
      }
    });
  });

  describe("softmax and sigmoid are taken once", () => {
    const model = (layers: Layer[], inputShape = [3]) => sequential({ device: device(), seed: 1, inputShape }, layers);
    const scaled = (m: Model) => m.weights()[0]!.tensor.assign([5, 0, 0, 0, 5, 0, 0, 0, 5]);
    const sample = { inputs: Float32Array.of(1, 0, 0), targets: Int32Array.of(1) };
    const expected = Math.log(Math.exp(5) + 2);

    test.each<[string, () => Layer[]]>([
      ["last", () => [dense({ units: 3, activation: "softmax" })]],
      [
        "before layers that only reshape",
        () => [
          dense({ units: 3, activation: "softmax" }),
          reshape([1, 3]),
          flatten(),
          activation("linear"),
          dropout(0),
        ],
      ],
      [
        "a layer of its own, then flatten",
        () => [dense({ units: 3 }), reshape([1, 1, 3]), activation("softmax"), flatten()],
      ],
    ])("%s", async (_, layers) => {
      const m = model(layers());
      scaled(m);
      expect(m.finalActivation).toBe("softmax");
      expect((await m.evaluate(sample, lossOptions)).loss).toBeCloseTo(expected, 5);
      const x = tensor(device(), sample.inputs, { shape: [1, 3] });
      expect(await m.logits(x).data()).toEqual(await tensor(device(), [5, 0, 0]).data());
      const optimizer = sgd({ learningRate: 0 });
      const loss = m.trainStep(x, tensor(device(), sample.targets), { optimizer, ...lossOptions });
      expect(await loss.item()).toBeCloseTo(expected, 5);
      m.dispose();
    });

    test.each<[string, () => Layer[], number[], Loss, string]>([
      [
        "dropout",
        () => [dense({ units: 3, activation: "softmax" }), dropout(0.5)],
        [3],
        crossEntropy,
        '"dropout" makes',
      ],
      [
        "a mean of probabilities",
        () => [conv2d({ filters: 3, kernelSize: 1, activation: "softmax" }), globalAvgPool2d()],
        [2, 2, 1],
        crossEntropy,
        '"global_average_pooling2d" makes other values of it',
      ],
      [
        "several distributions in a row",
        () => [conv2d({ filters: 2, kernelSize: 1, activation: "softmax" }), flatten()],
        [2, 1, 1],
        crossEntropy,
        '"conv2d" makes other values of it',
      ],
      ...["relu", "tanh", "sigmoid", "softmax"].map((name): [string, () => Layer[], number[], Loss, string] => [
        `${name} of probabilities`,
        () => [dense({ units: 3, activation: "softmax" }), activation(name as "relu"), flatten()],
        [3],
        crossEntropy,
        'layer "dense" applies softmax and "activation" makes other values of it',
      ]),
      [
        "two activations of probabilities, each a layer",
        () => [dense({ units: 3 }), activation("sigmoid"), activation("square"), activation("sigmoid")],
        [3],
        binaryCrossEntropyFromLogits,
        'layer "activation" applies sigmoid and "activation_2" makes other values of it; use loss.binaryCrossEntropy',
      ],
      [
        "sigmoid",
        () => [dense({ units: 3, activation: "sigmoid" })],
        [3],
        crossEntropy,
        'layer "dense" applies sigmoid',
      ],
      [
        "softmax under a loss of sigmoid",
        () => [dense({ units: 3, activation: "softmax" })],
        [3],
        binaryCrossEntropyFromLogits,
        "use loss.binaryCrossEntropy",
      ],
    ])("refused: %s", async (_, layers, inputShape, loss, message) => {
      const m = model(layers(), inputShape);
      const size = inputShape.reduce((a, b) => a * b, 1);
      const targets = loss.classifies ? Int32Array.of(0) : new Float32Array(3);
      const data = { inputs: new Float32Array(size).fill(1), targets };
      const step = async () => {
        const x = tensor(device(), data.inputs, { shape: [1, ...inputShape] });
        const y = tensor(device(), targets, { shape: loss.classifies ? [1] : [1, 3] });
        m.trainStep(x, y, { loss, optimizer: sgd() });
      };
      for (const refused of [m.evaluate(data, { loss }), m.fit(data, { loss, optimizer: sgd() }), step()]) {
        await expect(refused).rejects.toThrow(UsageError);
        await expect(refused).rejects.toThrow(message);
      }
      m.dispose();
    });

    test("the logarithms of a softmax are logits", async () => {
      const m = model([dense({ units: 3, activation: "softmax" }), activation("log")]);
      scaled(m);
      expect((await m.evaluate(sample, lossOptions)).loss).toBeCloseTo(expected, 4);
      m.dispose();
    });

    test("what the refusal names gives the right value", async () => {
      const m = model([dense({ units: 3, activation: "softmax" }), dropout(0.5)]);
      scaled(m);
      const { loss } = await m.evaluate(sample, { loss: crossEntropyFromProbabilities });
      expect(loss).toBeCloseTo(5.0134, 4);
      // Without training, dropout passes on what it gets.
      const x = tensor(device(), sample.inputs, { shape: [1, 3] });
      expect(await softmax(m.logits(x)).data()).toEqual(await m.call(x).data());
      expect(() => m.logits(x, { training: true })).toThrow(
        'its outputs have no logits: layer "dense" applies softmax',
      );
      m.dispose();
    });
  });

  describe("hooks that must give their result at once", () => {
    const failing = async () => {
      throw new Error("a rejection that nobody awaits would end the process");
    };
    const wrong: [string, (path: string) => object, string][] = [
      [
        "onStepEnd",
        () => ({ callbacks: [{ name: "logger", onStepEnd: failing }] }),
        'fit: onStepEnd of callback "logger" must be synchronous, it returned a promise; await in onEpochEnd or onTrainEnd',
      ],
      [
        "exportState",
        (path) => ({ callbacks: [{ name: "best", exportState: failing }], checkpoint: { path } }),
        'fit: exportState of callback "best" must be synchronous',
      ],
      ["augment", () => ({ augment: failing }), "fit: augment must be synchronous, it returned a promise"],
      ["perturb", () => ({ perturb: failing }), "fit: perturb must be synchronous, it returned a promise"],
      ["perturb without a result", () => ({ perturb: () => {} }), "fit: what perturb returns must be a tensor, got"],
      [
        "a schedule",
        () => ({ optimizer: sgd({ learningRate: { name: "remote", config: {}, at: failing } as never }) }),
        'sgd: the schedule "remote" must be synchronous, it returned a promise; its at(step) gives the rate itself',
      ],
      [
        "a loss",
        () => ({ loss: Object.assign(failing, { lossName: "slow", perSample: failing, classifies: false }) }),
        "slow: the loss must be synchronous, it returned a promise",
      ],
    ];
    test.each(wrong)("%s", async (name, options, message) => {
      const model = plain().build({ device: device(), seed: 1 });
      const path = join(folder, `${kind}-hooks.safetensors`);
      const fit = model.fit(stripes(60), { optimizer: sgd(), ...lossOptions, batchSize: 20, ...options(path) });
      await expect(fit).rejects.toThrow(UsageError);
      await expect(fit).rejects.toThrow(message);
      if (name === "a loss") {
        await expect(model.evaluate(stripes(60), options(path) as { loss: Loss })).rejects.toThrow(message);
      }
      model.dispose();
    });

    test("importState", async () => {
      const path = join(folder, `${kind}-import.safetensors`);
      const run = async (options: Partial<FitOptions>) => {
        const model = plain().build({ device: device(), seed: 1 });
        try {
          await model.fit(stripes(60), { optimizer: sgd(), ...lossOptions, batchSize: 20, ...options });
        } finally {
          model.dispose();
        }
      };
      const state = { name: "best", exportState: () => ({ values: { best: 1 } }) };
      await run({ callbacks: [state], checkpoint: { path } });
      const resumed = run({ callbacks: [{ ...state, importState: failing }], resume: path, epochs: 2 });
      await expect(resumed).rejects.toThrow('fit: importState of callback "best" must be synchronous');
    });

    test("dispose is awaited", async () => {
      const model = plain().build({ device: device(), seed: 1 });
      const options = { optimizer: sgd(), ...lossOptions, batchSize: 20 };
      const fit = model.fit(stripes(60), { ...options, callbacks: [{ name: "closing", dispose: failing }] });
      await expect(fit).rejects.toThrow("a rejection that nobody awaits");
      // And the model is free for the next training.
      await model.fit(stripes(60), options);
      model.dispose();
    });
  });

  describe("one training at a time", () => {
    const options = (optimizer: Optimizer = sgd()) => ({ optimizer, ...lossOptions, batchSize: 20 });

    test("a second one on the same weights or with the same optimizer is an error", async () => {
      const model = plain().build({ device: device(), seed: 1 });
      const alone = plain().build({ device: device(), seed: 1 });
      const data = stripes(60);
      const first = model.fit(data, options());
      const second = model.fit(data, options());
      const part = compose([model]).fit(data, options());
      for (const refused of [second, part]) {
        await expect(refused).rejects.toThrow(UsageError);
        await expect(refused).rejects.toThrow(/fit: "(plain\/)?dense\/kernel" of "plain" is part of another fit/);
      }
      await first;
      await alone.fit(data, options());
      expect(await weightsOf(model)).toEqual(await weightsOf(alone));
      // One after the other, and after one that failed.
      await expect(model.fit({ inputs: data.inputs, targets: new Float32Array(1) }, options())).rejects.toThrow();
      await model.fit(data, options());
      const shared = adam();
      const both = [model.fit(data, options(shared)), alone.fit(data, options(shared))];
      await expect(both[1]).rejects.toThrow("the optimizer is part of another fit");
      await both[0];
      for (const each of [model, alone, shared]) each.dispose();
    });

    test("frozen weights may be shared; evaluate and predict may run meanwhile", async () => {
      const base = sequential({ device: device(), seed: 1, inputShape: [6, 6, 1] }, [flatten(), dense({ units: 4 })]);
      base.trainable = false;
      const heads = [1, 2].map((seed) =>
        sequential({ device: device(), seed, inputShape: [4] }, [dense({ units: 4, activation: "softmax" })]),
      );
      const data = stripes(60);
      const fits = heads.map((head) => compose([base, head]).fit(data, options()));
      const figures = base.predict(data.inputs);
      await Promise.all(fits);
      expect((await figures).shape).toEqual([60, 4]);
      base.trainable = true;
      const training = base.fit(data, options());
      await expect(compose([base, heads[0]!]).fit(data, options())).rejects.toThrow("is part of another fit");
      await training;
      for (const each of [base, ...heads]) each.dispose();
    });
  });

  describe("a user's first steps", () => {
    const xor = { inputs: Float32Array.of(0, 0, 0, 1, 1, 0, 1, 1), targets: Int32Array.of(0, 1, 1, 0) };
    const build = (units = 2) =>
      sequential({ device: device(), seed: 1, inputShape: [2] }, [
        dense({ units, activation: units === 1 ? "sigmoid" : "softmax" }),
      ]);
    const options = () => ({ optimizer: adam(), ...lossOptions });

    test("fewer samples than a batch are one batch", async () => {
      const [model, explicit] = [build(), build()];
      const history = await model.fit(xor, { ...options(), epochs: 2 });
      expect(history.steps).toBe(2);
      await explicit.fit(xor, { ...options(), epochs: 2, batchSize: 4 });
      expect(await weightsOf(model)).toEqual(await weightsOf(explicit));
      const figures = await model.evaluate(xor, { ...lossOptions, batchSize: 100 });
      expect(figures).toEqual(await model.evaluate(xor, lossOptions));
      expect((await model.predict(xor, { batchSize: 100 })).shape).toEqual([4, 2]);
      for (const each of [model, explicit]) each.dispose();
    });

    test("plain arrays are taken for what they must be", async () => {
      const lists = { inputs: [0, 0, 0, 1, 1, 0, 1, 1], targets: [0, 1, 1, 0] };
      const [model, same, single] = [build(), build(), build(1)];
      expect((await model.fit(lists, options())).history).toEqual((await same.fit(xor, options())).history);
      // One output: values, not ids.
      const values = { inputs: xor.inputs, targets: Float32Array.of(0, 1, 1, 0) };
      expect(await single.evaluate({ ...lists, targets: lists.targets }, { loss: meanSquaredError })).toEqual(
        await single.evaluate(values, { loss: meanSquaredError }),
      );
      const wrong: [unknown, string][] = [
        [{ ...xor, targets: [0, 1, 1.5, 0] }, "needs targets as an Int32Array of class ids"],
        [{ ...xor, targets: ["a"] }, 'got ["a"]'],
        [{ ...xor, targets: Float32Array.of(0, 1, 1, 0) }, "class ids are an Int32Array"],
        [{ inputs: [[0, 0]], targets: [0] }, "needs inputs as a Float32Array or a flat array of numbers"],
        [undefined, "needs inputs as a Float32Array"],
        [{ inputs: xor.inputs }, "got undefined"],
      ];
      for (const [data, message] of wrong) {
        const refused = model.fit(data as typeof xor, options());
        await expect(refused).rejects.toThrow(message);
        await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/USAGE|SHAPE/) });
      }
      for (const each of [model, same, single]) each.dispose();
    });

    test("slots of optimizers go with the model, and stay for a second fit", async () => {
      const own: Device = await openDevice(kind);
      const make = () => sequential({ device: own, seed: 1, inputShape: [2] }, [dense({ units: 2 })]);
      const trained = (model: Model, optimizer: Optimizer) => model.fit(xor, { optimizer, ...lossOptions, epochs: 3 });
      for (let k = 0; k < 4; k++) {
        const model = make();
        await trained(model, adam());
        await trained(model, adamW({ emaMomentum: 0.9 }));
        model.dispose();
        expect(own.memory().liveBytes).toBe(0);
      }
      const [twice, once] = [make(), make()];
      const [kept, other] = [adam(), adam()];
      await trained(twice, kept);
      await trained(twice, kept);
      await once.fit(xor, { optimizer: other, ...lossOptions, epochs: 6 });
      // Neither order nor batches matter: all samples are one batch, in another order.
      for (const [name, values] of Object.entries(await weightsOf(once))) {
        const found = (await weightsOf(twice))[name]!;
        for (const [i, value] of values.entries()) expect(found[i]).toBeCloseTo(value, 5);
      }
      kept.dispose();
      for (const each of [twice, once]) each.dispose();
      expect(own.memory().liveBytes).toBe(0);
      // Slots that are gone are made anew.
      const w = tensor(own, [1]);
      other.step([w], [tensor(own, [1])]);
      own.destroy();
    });
  });

  describe("options of optimizers", () => {
    test("an undefined option has its default", async () => {
      const w = leaf([1]);
      const optimizer = adam({ learningRate: 0.1, epsilon: undefined, beta1: undefined } as never);
      optimizer.step([w], [leaf([0])]);
      expect([...(await w.data())]).toEqual([1]);
      expect(sgd({ learningRate: undefined } as never).learningRate).toBe(0.01);
      expect(adamW({ weightDecay: undefined } as never).config()).toEqual(adamW().config());
      expect(sgd({ emaMomentum: undefined } as never).keepsAverages).toBe(false);
    });

    test("parameters and gradients are f32 tensors", () => {
      const ids = tensor(device(), Int32Array.of(1));
      expect(() => sgd().step([leaf([1])], [ids])).toThrow("parameters and gradients must be f32, got f32 and i32");
      expect(() => sgd().step([undefined as never])).toThrow(UsageError);
      expect(() => sgd().step(null as never)).toThrow(UsageError);
      const elsewhere = tensor(new CpuDevice(), [1]);
      expect(() => sgd().step([leaf([1]), elsewhere], [leaf([1]), elsewhere])).toThrow(
        "sgd: all tensors must be on one device",
      );
    });
  });
});

describe("options are checked", () => {
  test.each<[string, () => unknown, string]>([
    ...[nan, -1, 0.5, "3"].map((value): [string, () => unknown, string] => [
      `iterations ${value}`,
      () => Object.assign(adam(), { iterations: value }),
      "adam: iterations must be a whole number from 0, got",
    ]),
    ["beta1", () => adam({ beta1: 1 }), "adam: beta1 must be a finite number in [0, 1), got 1"],
    ["beta2", () => adamW({ beta2: -0.1 }), "adamW: beta2 must be a finite number in [0, 1), got -0.1"],
    ["epsilon", () => adam({ epsilon: 0 }), "adam: epsilon must be a finite number above 0, got 0"],
    ["decay", () => adamW({ weightDecay: -1 }), "adamW: weightDecay must be a finite number from 0, got -1"],
    ["decay of sgd", () => sgd({ weightDecay: nan }), "sgd: weightDecay must be a finite number from 0, got NaN"],
    ["decay of adam", () => adam({ weightDecay: 0.5 } as never), "adam: has no weightDecay; use adamW"],
    ["misspelt", () => sgd({ lr: 5 } as never), "sgd: unknown option lr; did you mean learningRate?"],
    ["a rate", () => sgd({ learningRate: infinity }), "sgd: learningRate must be a finite number from 0 or a schedule"],
    ["no options", () => adam(null as never), "adam: options must be an object"],
    ["a schedule's rate", () => stepDecay({ learningRate: -1, everySteps: 2 }), "stepDecay: learningRate must be"],
    ["a factor", () => stepDecay({ learningRate: 1, everySteps: 2, factor: nan }), "stepDecay: factor must be"],
    [
      "steps",
      () => exponentialDecay({ learningRate: 1, decaySteps: 0, decayRate: 1 }),
      "decaySteps must be a whole number from 1",
    ],
    ["a missing rate", () => exponentialDecay({ learningRate: 1, decaySteps: 1 } as never), "decayRate is required"],
    [
      "warm-up",
      () => cosineDecay({ learningRate: 0.1, decaySteps: 10, warmupSteps: nan }),
      "cosineDecay: warmupSteps must be a whole number from 0, got NaN",
    ],
    ["a share", () => cosineDecay({ learningRate: 0.1, decaySteps: 10, finalShare: -1 }), "finalShare must be"],
    ["what modelCheckpoint lacks", () => modelCheckpoint({} as never), "modelCheckpoint: path is required"],
  ])("%s", (_, make, message) => {
    expect(make).toThrow(UsageError);
    expect(make).toThrow(message);
  });

  test("a rate that is set, and one that a schedule of one's own gives", () => {
    const optimizer = sgd();
    expect(() => {
      optimizer.learningRate = nan;
    }).toThrow("sgd: learningRate must be a finite number from 0, got NaN");
    expect(() => optimizer.resumeAt(nan, 0.1)).toThrow("sgd: steps must be a whole number from 0, got NaN");
    const schedule: Schedule = { name: "broken", config: {}, at: (step) => (step < 1 ? 0.1 : nan) };
    const scheduled = sgd({ learningRate: schedule });
    scheduled.iterations = 1;
    expect(() => scheduled.learningRate).toThrow(
      'the schedule "broken" must give rates from 0, gave NaN after 1 steps',
    );
  });
});
