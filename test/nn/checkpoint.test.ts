// Model files and checkpoints: what comes back, resuming to the same bits from any interruption, and files that do not
// fit.
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors, writeSafetensors } from "../../src/io/safetensors-file.js";
import { architecture } from "../../src/nn/architecture.js";
import { earlyStopping, reduceLrOnPlateau } from "../../src/nn/callbacks/index.js";
import { loadModel, type ModelFile, readModelFile, saveModel } from "../../src/nn/checkpoint.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { adam, adamW, sgd } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { DataError, DeviceError, UsageError } from "../../src/tensor/errors.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { cpu } from "../support.js";
import { describeDevices, plain, small, stripes, weightsOf } from "./small.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-checkpoint-"));
});
afterAll(() => rm(folder, { recursive: true }));

const data = stripes(100);

describeDevices((device, kind) => {
  const at = (name: string) => join(folder, `${kind}-${name}`);

  test("a model comes back as it was saved, also on the other device", async () => {
    const model = small().build({ device: device(), seed: 9 });
    await model.fit(data, { optimizer: adam(), loss: crossEntropy });
    model.layer("conv2d").trainable = false;
    await saveModel(at("model"), model, { notes: { accuracy: 0.5, diverged: Number.NaN } });
    const again = await loadModel(at("model"), { device: device() });
    expect(await weightsOf(again)).toEqual(await weightsOf(model));
    expect(again.config()).toEqual(model.config());
    expect([again.seed, again.parameters().length]).toEqual([9, 6]);
    expect((await readModelFile(at("model"))).notes).toEqual({ accuracy: 0.5, diverged: Number.NaN });
    const reference = await loadModel(at("model"), { device: cpu });
    const [here, there] = [await again.predict(data.inputs), await reference.predict(data.inputs)];
    for (const [i, p] of here.data.entries()) expect(p).toBeCloseTo(there.data[i]!, 5);
    for (const m of [model, again, reference]) m.dispose();
  });

  /** Everything that has a state: dropout, momentum, averages, running statistics, a rate that falls, best weights. */
  const run = async (options: Partial<FitOptions> & { readonly seed?: number }) => {
    const model = small().build({ device: device(), seed: 5 });
    const { optimizer = adam({ learningRate: 0.05, emaMomentum: 0.9 }) } = options;
    try {
      const history = await model.fit(data, {
        optimizer,
        loss: crossEntropy,
        epochs: 4,
        batchSize: 16,
        validationSplit: 0.2,
        ...options,
        callbacks: [
          earlyStopping({ patience: 3, restoreBestWeights: true }),
          reduceLrOnPlateau({ monitor: "val_accuracy", patience: 0, minDelta: 1, factor: 0.5 }),
          ...(options.callbacks ?? []),
        ],
      });
      const { interrupted, stopReason, epoch, history: figures } = history;
      const weights = await weightsOf(model);
      if (optimizer.keepsAverages) optimizer.swapAverages(model.parameters());
      return { weights, averages: await weightsOf(model), epoch, figures, interrupted, stopReason };
    } finally {
      optimizer.dispose();
      model.dispose();
    }
  };

  /** What the trainings below are compared with. */
  let whole: Awaited<ReturnType<typeof run>>;
  beforeAll(async () => {
    whole = await run({});
  });

  test("an uninterrupted training with checkpoints is as one without", async () => {
    expect(whole.averages).not.toEqual(whole.weights);
    // The plateau halves the rate from the second epoch on.
    expect(whole.figures["learning_rate"]).toEqual([0.05, 0.05, 0.025, 0.0125]);
    expect(await run({ checkpoint: { path: at("whole"), everySteps: 2 } })).toEqual(whole);
  });

  test.each([1, 3, 5, 10, 15])("interrupted after step %i and resumed, it ends with the same bits", async (step) => {
    const path = at(`signal-${step}`);
    const controller = new AbortController();
    const interrupted = await run({
      checkpoint: { path },
      signal: controller.signal,
      callbacks: [{ name: "switch", onStepEnd: (logs) => void (logs.step === step && controller.abort()) }],
    });
    expect(interrupted.interrupted).toBe(true);
    expect(interrupted.epoch.length).toBeLessThan(4);
    expect(await run({ resume: path })).toEqual(whole);
  });

  test("killed at any moment, it resumes from what was written last", async () => {
    const path = at("kill");
    const copies: string[] = [];
    const callback = {
      name: "thief",
      onEpochBegin: async (epoch: number) => {
        if (epoch > 0) await copyFile(path, copies[copies.push(at(`copy-${epoch}`)) - 1]!);
      },
    };
    await run({ checkpoint: { path, everySteps: 3, everyEpochs: 2 }, callbacks: [callback] });
    expect((await readModelFile(copies[0]!)).training).toMatchObject({ epoch: 0, stepInEpoch: 3, iterations: 3 });
    expect((await readModelFile(copies[1]!)).training).toMatchObject({ epoch: 2, stepInEpoch: 0, iterations: 10 });
    for (const copy of copies) expect(await run({ resume: copy })).toEqual(whole);
    // After its end there is nothing left to do.
    expect(await run({ resume: path })).toEqual(whole);
  });

  test.each([
    { gradientAccumulationSteps: 3, globalClipNorm: 0.5 },
    { clipNorm: 0.1, gradientAccumulationSteps: 2 },
    { clipValue: 0.01 },
  ])("with %o it is resumed to the same bits, also between two changes", async (limits) => {
    const make = () => ({ optimizer: adam({ learningRate: 0.05, ...limits }), epochs: 2 });
    const expected = await run(make());
    expect(await run({ ...make(), runEagerly: true })).toEqual(expected);
    for (const maxSteps of [1, 4, 5, 7]) {
      const path = at(`gathered-${JSON.stringify(limits).length}-${maxSteps}`);
      const { weights } = await run({ ...make(), checkpoint: { path }, maxSteps });
      expect(weights).not.toEqual(expected.weights);
      expect(await run({ ...make(), resume: path })).toEqual(expected);
    }
  });

  test("what is no checkpoint is refused in words", async () => {
    await run({ checkpoint: { path: at("forged") }, maxSteps: 2 });
    const file = await readModelFile(at("forged"));
    const wrong: [unknown, string][] = [
      [
        {},
        "fit: resume must be a string that is not empty or a model file, as readModelFile gives it, got an object of",
      ],
      [{ ...file, weights: {} }, "fit: resume must be"],
      [{ ...file, training: {} }, `${at("forged")}: its training: seed is missing`],
      [{ ...file, training: undefined }, "holds a model but no training to resume"],
    ];
    for (const [resume, message] of wrong) {
      const refused = run({ resume: resume as ModelFile });
      await expect(refused).rejects.toThrow(message);
      await expect(refused).rejects.not.toThrow("undefined");
    }
    expect(await run({ resume: file })).toEqual(whole);
  });

  test("interrupted by a step limit, and twice", async () => {
    const path = at("limit");
    const first = await run({ checkpoint: { path }, maxSteps: 7 });
    // The figures so far are told, but a resumed training has the whole epoch's.
    expect(first.epoch).toEqual([0, 1]);
    expect(first.figures["val_loss"]).toHaveLength(2);
    await run({ checkpoint: { path }, maxSteps: 9, resume: path });
    expect(await run({ checkpoint: { path }, resume: path })).toEqual(whole);
  });

  test("interrupted during validation", async () => {
    const path = at("validation");
    const controller = new AbortController();
    const last = {
      name: "switch",
      onStepEnd: ({ step }: { step: number }) => void (step === 10 && setTimeout(() => controller.abort(), 0)),
    };
    const interrupted = await run({ checkpoint: { path }, signal: controller.signal, callbacks: [last] });
    if (interrupted.interrupted) expect(interrupted.epoch.length).toBeLessThanOrEqual(2);
    expect(await run({ resume: path })).toEqual(whole);
  });

  test("a training that a callback ended stays ended", async () => {
    const path = at("stopped");
    const callbacks = [
      {
        name: "stop",
        onEpochEnd: (epoch: number, _: unknown, { stop }: { stop(reason: string): void }) =>
          void (epoch === 1 && stop("enough")),
      },
    ];
    const stopped = await run({ checkpoint: { path }, callbacks });
    expect([stopped.epoch, stopped.stopReason]).toEqual([[0, 1], "enough"]);
    expect(await run({ resume: path })).toEqual(stopped);
  });

  test.each<[string, Partial<FitOptions>, string]>([
    ["batch size", { batchSize: 8 }, "to resume it, batchSize must be as before, 16, got 8"],
    ["data", { validationSplit: 0.3 }, "the number of training samples must be as before, 80, got 70"],
    ["seed", { seed: 6 }, "seed must be as before, 5, got 6"],
    ["order", { shuffle: false }, "shuffle must be as before, true, got false"],
    ["optimizer", { optimizer: sgd() }, "the optimizer must be as before"],
    ["optimizer's settings", { optimizer: adamW({ learningRate: 0.05 }) }, "the optimizer must be as before"],
  ])("another %s cannot resume", async (_, options, message) => {
    const path = at("other");
    await run({ checkpoint: { path }, maxSteps: 2 });
    await expect(run({ resume: path, ...options })).rejects.toThrow(UsageError);
    await expect(run({ resume: path, ...options })).rejects.toThrow(message);
  });
});

describe("files that do not fit", () => {
  const at = (name: string) => join(folder, name);
  const options = { optimizer: sgd(), loss: crossEntropy } as const;

  test("no checkpoint, but a model", async () => {
    const model = plain().build({ device: cpu });
    await saveModel(at("plain"), model);
    const resumed = model.fit(data, { ...options, resume: at("plain") });
    await expect(resumed).rejects.toThrow("holds a model but no training to resume");
  });

  test("another architecture: the first tensor that differs is named", async () => {
    const image = { inputShape: [6, 6, 1], name: "mine" };
    const layers = (units: number) => [flatten(), dense({ units, activation: "relu" as const }), dense({ units: 4 })];
    const build = (...parts: Parameters<typeof architecture>) => architecture(...parts).build({ device: cpu });
    const path = at("eight");
    await build(image, layers(8)).fit(data, { ...options, optimizer: sgd(), maxSteps: 1, checkpoint: { path } });
    const resumed = (model: ReturnType<typeof build>) => expect(model.fit(data, { ...options, resume: path })).rejects;
    await resumed(build(image, layers(9))).toThrow(
      `${path}: is of another architecture than "mine": "dense/kernel" should be [36, 9], is [36, 8]`,
    );
    await resumed(build(image, layers(9))).toThrow(UsageError);
    await resumed(build(image, [...layers(8), batchNorm()])).toThrow('"batch_normalization/gamma" [4] is missing');
    await resumed(build(image, [flatten(), dense({ units: 8 })])).toThrow(
      '"dense_1/kernel" is more than the layers have',
    );
  });

  test("truncated, foreign, missing, damaged", async () => {
    const model = plain().build({ device: cpu });
    await saveModel(at("good"), model);
    const bytes = await readFile(at("good"));
    const open = async (content: Uint8Array | string | undefined) => {
      if (content !== undefined) await writeFile(at("bad"), content);
      return loadModel(at(content === undefined ? "none" : "bad"), { device: cpu });
    };
    for (const length of [0, 7, 100, bytes.length - 1]) {
      await expect(open(bytes.subarray(0, length))).rejects.toThrow(DataError);
    }
    await expect(open("PK\x03\x04 and more")).rejects.toThrow("ZIP archive");
    await expect(open(undefined)).rejects.toThrow("cannot read");
    const data_ = new Float32Array([1]);
    await writeSafetensors(at("foreign"), new Map([["a", { dtype: "F32", shape: [1], data: data_ }]]));
    const foreign = loadModel(at("foreign"), { device: cpu });
    await expect(foreign).rejects.toThrow(DataError);
    await expect(foreign).rejects.toThrow("is a safetensors file, but not a model that Kilograd wrote");
    const text = bytes.toString("latin1");
    await expect(open(Buffer.from(text.replace('Dense\\"', 'Dance\\"'), "latin1"))).rejects.toThrow(
      /bad: its model: fromConfig: class must be one of Dense, .*, got "Dance"/,
    );
    await expect(open(Buffer.from(text.replace('units\\":8', 'units\\":9'), "latin1"))).rejects.toThrow(
      'its weights do not fit its layers: "dense/kernel" should be [36, 9], is [36, 8]',
    );
    await expect(open(Buffer.from(text.replace('{\\"className', '[\\"className'), "latin1"))).rejects.toThrow(
      'its "model" is damaged',
    );
  });

  /** The metadata of a file with one entry changed, written again. */
  const edited = async (
    from: string,
    key: "model" | "training" | "notes" | "seed",
    change: (value: unknown) => unknown,
  ) => {
    const { tensors, metadata } = await readSafetensors(at(from));
    const value = key === "seed" ? metadata[key] : JSON.parse(metadata[key]!);
    const changed = change(value);
    await writeSafetensors(at("edited"), tensors, {
      ...metadata,
      [key]: key === "seed" ? String(changed) : JSON.stringify(changed),
    });
    return at("edited");
  };
  const refused = async (path: string, message: RegExp | string, load: (path: string) => Promise<unknown>) => {
    const error = await load(path).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain(path);
  };

  test.each<[string, (state: Record<string, unknown>) => unknown, RegExp]>([
    ["epoch -1", (s) => ({ ...s, epoch: -1 }), /its training: epoch must be a whole number from 0, is -1/],
    ["stepInEpoch 1e9", (s) => ({ ...s, stepInEpoch: 1e9 }), /stepInEpoch is at most sampleCount \/ batchSize/],
    ["iterations -5", (s) => ({ ...s, iterations: -5 }), /iterations must be a whole number from 0, is -5/],
    ["iterations x", (s) => ({ ...s, iterations: "x" }), /iterations must be a whole number from 0, is "x"/],
    ["learningRate -1", (s) => ({ ...s, learningRate: -1 }), /learningRate must be a finite number from 0, is -1/],
    ["sums null", (s) => ({ ...s, sums: null }), /sums must be an object, is null/],
    ["sums of too many", (s) => ({ ...s, sums: { loss: 0, correct: 0, samples: 1e9 } }), /sums.samples are at most/],
    ["history null", (s) => ({ ...s, history: null }), /history must be an object, is null/],
    ["history of texts", (s) => ({ ...s, history: { loss: ["1"] } }), /history.loss.0 must be a number, is "1"/],
    ["epochs 1", (s) => ({ ...s, epochs: 1 }), /epochs must be a list of whole numbers, is 1/],
    ["training null", () => null, /its training: it must be an object, is null/],
    ["training []", () => [], /its training: seed is missing/],
    ["no seed", ({ seed: _, ...s }) => s, /its training: seed is missing/],
    ["batchSize 0", (s) => ({ ...s, batchSize: 0 }), /batchSize must be a whole number from 1, is 0/],
    ["shuffle 1", (s) => ({ ...s, shuffle: 1 }), /shuffle must be true or false, is 1/],
    ["optimizer text", (s) => ({ ...s, optimizer: "sgd" }), /optimizer must be an object, is "sgd"/],
    ["callbacks list", (s) => ({ ...s, callbacks: [1] }), /callbacks must be an object, is \[1\]/],
    [
      "a callback's text",
      (s) => ({ ...s, callbacks: { earlyStopping: "x" } }),
      /callbacks.earlyStopping must be an object/,
    ],
    [
      "a callback's wait",
      (s) => ({ ...s, callbacks: { earlyStopping: { bestEpoch: 0, wait: "x" } } }),
      /its training.callbacks: earlyStopping: wait must be a whole number from 0, is "x"/,
    ],
  ])("a checkpoint whose state has %s", async (_, change, message) => {
    const fit = { ...options, optimizer: sgd(), batchSize: 40, callbacks: [earlyStopping({ monitor: "loss" })] };
    const build = () => plain().build({ device: cpu });
    await build().fit(data, { ...fit, maxSteps: 1, checkpoint: { path: at("state") } });
    const path = await edited("state", "training", change as (value: unknown) => unknown);
    await refused(path, message, (resume) => build().fit(data, { ...fit, optimizer: sgd(), resume }));
  });

  const withLayer = (change: unknown) => (config: unknown) => {
    const { layers, ...rest } = config as { layers: { config: object }[] };
    const [first, second, ...others] = layers;
    return { ...rest, layers: [first, { ...second, config: { ...second!.config, ...(change as object) } }, ...others] };
  };
  test.each<[string, (config: unknown) => unknown, RegExp]>([
    ["null", () => null, /its model: it must be an object, is null/],
    ["a layer null", (c) => ({ ...(c as object), layers: [null] }), /its model: layers.0 must be an object, is null/],
    ["no layers", (c) => ({ ...(c as object), layers: [] }), /needs at least one layer/],
    ["layers in an object", (c) => ({ ...(c as object), layers: {} }), /layers must be a list, is an object/],
    [
      "a config null",
      (c) => ({ ...(c as object), layers: [{ className: "Flatten", config: null }] }),
      /layers.0.config must be an object, is null/,
    ],
    [
      "another class",
      (c) => ({ ...(c as object), className: "Subclassed" }),
      /className must be "Sequential" or "Functional", is "Subclassed"/,
    ],
    [
      "a shape of texts",
      (c) => ({ ...(c as object), inputShape: ["6"] }),
      /inputShape.0 must be a whole number from 1, is "6"/,
    ],
    [
      "an enormous shape",
      (c) => ({ ...(c as object), inputShape: [2 ** 40, 6, 1] }),
      /its weights do not fit its layers/,
    ],
    ["a name 5", withLayer({ name: 5 }), /layers.1.config.name must be a string that is not empty, is 5/],
    ["trainable no", withLayer({ trainable: "no" }), /layers.1.config.trainable must be true or false, is "no"/],
    ["units x", withLayer({ units: "x" }), /its model: Dense: units must be a whole number from 1, got "x"/],
    ["kernelL2 x", withLayer({ kernelL2: "x" }), /layers.1.config.kernelL2 must be a finite number from 0, is "x"/],
    [
      "an initialiser null",
      withLayer({ kernelInitializer: null }),
      /layers.1.config.kernelInitializer must be an initialiser's name and/,
    ],
    [
      "an unknown initialiser",
      withLayer({ biasInitializer: { name: "x" } }),
      /layers.1.config.biasInitializer.name must be an initialiser's name and/,
    ],
    ["an activation 7", withLayer({ activation: 7 }), /its model: Dense: activation must be/],
  ])("a model whose configuration has %s", async (_, change, message) => {
    await saveModel(at("configured"), plain().build({ device: cpu }));
    await refused(await edited("configured", "model", change), message, (path) => loadModel(path, { device: cpu }));
  });

  test("a seed that is no number, notes that are none", async () => {
    await saveModel(at("configured"), plain().build({ device: cpu }));
    const load = (path: string) => loadModel(path, { device: cpu });
    for (const seed of ["x", "", " ", "Infinity"]) {
      await refused(await edited("configured", "seed", () => seed), /its seed must be a number, is "/, load);
    }
    await refused(await edited("configured", "notes", () => [1]), /its notes: it must be an object, is \[1\]/, load);
  });

  test("a checkpoint's tensors that do not fit the model", async () => {
    const fit = {
      ...options,
      batchSize: 40,
      callbacks: [earlyStopping({ monitor: "loss", restoreBestWeights: true })],
    };
    const build = () => plain().build({ device: cpu });
    const path = at("tensors");
    await build().fit(data, { ...fit, optimizer: sgd({ momentum: 0.9 }), epochs: 1, checkpoint: { path } });
    const { tensors, metadata } = await readSafetensors(path);
    for (const [prefix, message] of [
      ["optimizer:", /the optimizer's "dense\/kernel\/\w+" must be \[36, 8\], is \[288\]/],
      ["callback:", /"earlyStopping\/dense\/kernel" must be \[36, 8\], is \[288\]/],
    ] as const) {
      const flat = [...tensors].map(([name, t]) =>
        name.startsWith(prefix) ? ([name, { ...t, shape: [t.data.length] }] as const) : ([name, t] as const),
      );
      await writeSafetensors(at("flat"), new Map(flat), metadata);
      await refused(at("flat"), message, (resume) =>
        build().fit(data, { ...fit, optimizer: sgd({ momentum: 0.9 }), epochs: 2, resume }),
      );
    }
  });

  test("a checkpoint that cannot be written ends the training with an error", async () => {
    const model = plain().build({ device: cpu });
    const run = model.fit(data, { ...options, optimizer: sgd(), checkpoint: { path: at("no/such/folder") } });
    await expect(run).rejects.toMatchObject({ code: "FILE_WRITE" });
  });
});

test("a lost device is an error that names the step, and the checkpoint is kept", async () => {
  const device = await openDevice("webgpu");
  const path = join(folder, "lost");
  const model = plain().build({ device, seed: 1 });
  const lose = {
    name: "lose",
    onStepEnd: ({ step }: { step: number }) => {
      if (step === 4) device.gpu.destroy();
    },
  };
  const run = model.fit(data, {
    optimizer: adam(),
    loss: crossEntropy,
    batchSize: 5,
    epochs: 2,
    checkpoint: { path, everySteps: 2 },
    callbacks: [lose],
  });
  const error = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DeviceError);
  expect(error).toMatchObject({ code: "DEVICE_LOST" });
  expect((error as Error).message).toMatch(
    /^fit: the device was lost after step 4; .*lost holds the training after step [24]; resume it/,
  );
  expect((await readModelFile(path)).training!.iterations).toBeGreaterThanOrEqual(2);
  device.destroy();
});
