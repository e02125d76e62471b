// Models as Keras's .h5: written and read back bit for bit, read by an independent reader, and every foreign file
// refused.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { type KerasH5, readKerasH5, writeKerasH5 } from "../../src/io/keras-h5.js";
import { architecture } from "../../src/nn/architecture.js";
import { assignWeights, encodeModel, loadModel, readModelFile } from "../../src/nn/checkpoint.js";
import { fromKerasConfig, toKerasConfig } from "../../src/nn/formats/keras.js";
import { saveKerasModel } from "../../src/nn/keras-models.js";
import type { Layer } from "../../src/nn/layer.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { layerNorm } from "../../src/nn/layers/layer-norm.js";
import { avgPool2d, maxPool2d } from "../../src/nn/layers/pooling.js";
import { reshape } from "../../src/nn/layers/reshape.js";
import { adam, adamW, sgd } from "../../src/nn/optimizers.js";
import { cosineDecay } from "../../src/nn/schedules.js";
import { DataError, KilogradError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { needsPython, python } from "../python.js";

/** h5py has a build of HDF5 of its own. */
const { reason } = needsPython("h5py");

const device = await openDevice("webgpu");
afterAll(() => device.destroy());

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-keras-"));
  path = join(folder, "model.h5");
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Every layer there is. */
const layers = (): Layer[] => [
  conv2d({ filters: 3, kernelSize: [3, 2], padding: "same", strides: 2, useBias: false, kernelL2: 0.01 }),
  batchNorm({ momentum: 0.9 }),
  activation("relu"),
  maxPool2d({ poolSize: 2, strides: 1, padding: "same" }),
  conv2d({ filters: 4, kernelSize: 2, dilations: 2, activation: "tanh", kernelInitializer: "heNormal" }),
  avgPool2d([1, 2]),
  reshape([2, 2, 2]),
  dropout(0.25),
  flatten(),
  dense({ units: 5, activation: "sigmoid", name: "hidden", trainable: false }),
  dense({ units: 3, activation: "softmax" }),
];
const build = (seed = 7) => architecture({ name: "small", inputShape: [8, 8, 2] }, layers()).build({ device, seed });

/** The model with weights that no initialiser gives: every value random, some special. */
async function trained() {
  const model = build();
  const random = new RandomStream(3, "weights");
  for (const { tensor: t } of model.weights()) {
    t.assign(Float32Array.from({ length: t.size }, (_, i) => (i === 0 ? 1e-42 : random.uniform() + 0.1)));
  }
  return model;
}

const bits = async (model: Awaited<ReturnType<typeof trained>>) => {
  const found: Record<string, number[]> = {};
  for (const { name, tensor: t } of model.weights()) {
    const data = (await t.data()) as Float32Array;
    found[name] = [...new Uint32Array(data.buffer, data.byteOffset, data.length)];
  }
  return found;
};

describe("a model in an .h5 file", () => {
  it("comes back bit for bit, with its configuration, seed and notes, and answers alike", async () => {
    const model = await trained();
    await saveKerasModel(path, model, { notes: { config: { data: "mnist" } } });
    const file = await readModelFile(path);
    expect(file.notes).toEqual({ config: { data: "mnist" } });
    expect(file.seed).toBe(7);
    expect(file.training).toBeUndefined();
    const loaded = await loadModel(path, { device });
    expect(loaded.config()).toEqual({
      ...model.config(),
      layers: model.config().layers.map((layer) => ({ ...layer, config: { ...layer.config } })),
    });
    expect(await bits(loaded)).toEqual(await bits(model));
    const x = tensor(
      device,
      Float32Array.from({ length: 128 }, (_, i) => Math.sin(i)),
      { shape: [1, 8, 8, 2] },
    );
    expect([...(await loaded.call(x).data())]).toEqual([...(await model.call(x).data())]);
    const other = build(9);
    assignWeights(other, file);
    expect(await bits(other)).toEqual(await bits(model));
  });

  it("has the layout that Keras's loader asks for", async () => {
    await saveKerasModel(path, await trained(), {
      training: { optimizer: adam().config(), loss: "sparse_categorical_crossentropy" },
    });
    const { modelConfig, trainingConfig, layers: groups } = await readKerasH5(path);
    expect(groups.map(({ name, weights }) => [name, weights.map((weight) => weight.name)])).toEqual([
      ["conv2d", ["conv2d/kernel:0"]],
      [
        "batch_normalization",
        ["gamma", "beta", "moving_mean", "moving_variance"].map((name) => `batch_normalization/${name}:0`),
      ],
      ["activation", []],
      ["max_pooling2d", []],
      ["conv2d_1", ["conv2d_1/kernel:0", "conv2d_1/bias:0"]],
      ["average_pooling2d", []],
      ["reshape", []],
      ["dropout", []],
      ["flatten", []],
      ["hidden", ["hidden/kernel:0", "hidden/bias:0"]],
      ["dense", ["dense/kernel:0", "dense/bias:0"]],
    ]);
    const { config } = modelConfig as { config: { layers: object[] } };
    const head = { ...(modelConfig as object), config: { ...config, layers: config.layers.slice(0, 3) } };
    expect(head).toMatchObject({
      class_name: "Sequential",
      config: {
        name: "small",
        layers: [
          { class_name: "InputLayer", config: { batch_input_shape: [null, 8, 8, 2] } },
          {
            class_name: "Conv2D",
            config: {
              kernel_size: [3, 2],
              strides: [2, 2],
              padding: "same",
              use_bias: false,
              data_format: "channels_last",
            },
          },
          { class_name: "BatchNormalization", config: { axis: -1, momentum: 0.9, epsilon: 1e-3 } },
        ],
      },
    });
    expect(trainingConfig).toEqual({
      loss: "sparse_categorical_crossentropy",
      metrics: ["accuracy"],
      weighted_metrics: null,
      loss_weights: null,
      sample_weight_mode: null,
      optimizer_config: {
        class_name: "Adam",
        config: {
          name: "Adam",
          learning_rate: 1e-3,
          beta_1: 0.9,
          beta_2: 0.999,
          epsilon: 1e-7,
          amsgrad: false,
          weight_decay: null,
        },
      },
    });
  });

  it("names optimizers in Keras's words", async () => {
    const model = await trained();
    const optimizerOf = async (optimizer: ReturnType<typeof adam>) => {
      await saveKerasModel(path, model, { training: { optimizer: optimizer.config(), loss: "mse" } });
      return ((await readKerasH5(path)).trainingConfig as { optimizer_config: unknown }).optimizer_config;
    };
    expect(await optimizerOf(sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true }))).toMatchObject({
      class_name: "SGD",
      config: { learning_rate: 0.1, momentum: 0.9, nesterov: true },
    });
    const rate = cosineDecay({ learningRate: 0.003, decaySteps: 10 });
    expect(await optimizerOf(adamW({ learningRate: rate, weightDecay: 0.02 }))).toMatchObject({
      class_name: "AdamW",
      config: { learning_rate: 0.003, weight_decay: 0.02 },
    });
  });

  it("is written whole or not at all", async () => {
    const model = await trained();
    await saveKerasModel(path, model);
    const before = readFileSync(path);
    const foreign = architecture({ inputShape: [4] }, [dense({ units: 2, activation: "lecunTanh" })]).build({ device });
    await expect(saveKerasModel(path, foreign)).rejects.toThrow(
      'keras: layer "dense" (Dense): activation must be one of linear, softmax, relu, relu6, tanh',
    );
    const padded = architecture({ inputShape: [4, 4, 1] }, [
      conv2d({
        filters: 1,
        kernelSize: 2,
        padding: [
          [1, 0],
          [0, 1],
        ],
      }),
    ]).build({ device });
    await expect(saveKerasModel(path, padded)).rejects.toThrow(/padding must be "valid" or "same" for Keras/);
    expect(readFileSync(path).equals(before)).toBe(true);
    await expect(saveKerasModel(join(folder, "absent", "model.h5"), model)).rejects.toThrow(KilogradError);
    expect(readdirSync(folder)).toEqual(["model.h5"]);
  });
});

describe("an .h5 file that is not what it should be", () => {
  const content = async (): Promise<KerasH5> => {
    await saveKerasModel(path, await trained());
    return readKerasH5(path);
  };
  const refused = async (message: string | RegExp) => {
    const error = await loadModel(path, { device }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toMatch(message);
  };

  it("is refused where it is missing, no HDF5, cut off or damaged", async () => {
    await refused(/cannot read .*model.h5/);
    writeFileSync(path, "not at all");
    await refused("model.h5");
    await expect(readKerasH5(path)).rejects.toThrow(/is not HDF5, as Keras writes .h5: .* its 10 bytes do not/);
    await content();
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, whole.length - 100));
    await refused(`model.h5: is HDF5, but cut off or damaged (${whole.length - 100} bytes): truncated file`);
    // Whatever is damaged: an error of ours, or the model with other numbers, but never anything else.
    const random = new RandomStream(1, "damage");
    for (let trial = 0; trial < 8; trial++) {
      const bytes = Uint8Array.from(whole);
      const at = 8 + random.integer(bytes.length - 200);
      bytes.fill(trial, at, at + 64);
      writeFileSync(path, bytes);
      const outcome = await loadModel(path, { device }).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(KilogradError);
    }
  });

  it("is refused where it is HDF5 without a model, or of weights alone", async () => {
    const whole = await content();
    await writeKerasH5(path, { ...whole, modelConfig: undefined });
    await refused("is HDF5, but no Keras model: the root must have the attribute model_config");
    await writeKerasH5(path, { ...whole, modelConfig: { class_name: "Functional", config: {} } });
    await refused("model.h5: its layers: it must be a list, is undefined");
    await writeKerasH5(path, { ...whole, modelConfig: { class_name: "Subclassed", config: {} } });
    await refused('model.h5: must hold a Sequential or functional model, holds "Subclassed"');
    await writeKerasH5(path, { ...whole, layers: whole.layers.slice(0, -1) });
    await refused("the model has 5 layers with weights, the file weights of 4");
    const short = whole.layers.map((layer) =>
      layer.name === "hidden" ? { ...layer, weights: layer.weights.slice(1) } : layer,
    );
    await writeKerasH5(path, { ...whole, layers: short });
    await refused('layer "hidden" must have 2 weights (kernel, bias), has 1 (hidden/bias:0 [5])');
  });

  it("names the first tensor that differs from a model of another architecture", async () => {
    const whole = await content();
    const file = await readModelFile(path);
    const other = architecture({ name: "other", inputShape: [8, 8, 2] }, [flatten(), dense({ units: 3 })]).build({
      device,
    });
    expect(() => assignWeights(other, file)).toThrow(
      /model.h5: is of another architecture than "other": "dense\/kernel" should be \[128, 3\], is \[5, 3\]/,
    );
    const wide = whole.layers.map((layer) =>
      layer.name === "hidden"
        ? { ...layer, weights: layer.weights.map((w) => ({ ...w, shape: [...w.shape, 1] })) }
        : layer,
    );
    await writeKerasH5(path, { ...whole, layers: wide });
    await refused('its weights do not fit its layers: "hidden/kernel" should be [8, 5], is [8, 5, 1]');
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      "channels first",
      { data_format: "channels_first" },
      /layer "conv2d" \(Conv2D\): data_format must be "channels_last"/,
    ],
    ["an unknown activation", { activation: "swoosh" }, /activation must be one of .*, is "swoosh"/],
    ["an activation of its own", { activation: { class_name: "Custom" } }, /is {"class_name":"Custom"}/],
  ])("is refused for what would be computed otherwise: %s", (_, change, message) => {
    const config = toKerasConfig(build().config());
    const [input, first, ...rest] = config.config["layers"] as { class_name: string; config: object }[];
    const changed = { ...first!, config: { ...first!.config, ...change } };
    const read = () => fromKerasConfig({ ...config, config: { layers: [input, changed, ...rest] } }, "file.h5");
    expect(read).toThrow(DataError);
    expect(read).toThrow(message);
  });

  it("is refused for unknown layers and open input shapes", () => {
    const of = (layer: object) => () =>
      fromKerasConfig({ class_name: "Sequential", config: { layers: [layer] } }, "f.h5");
    expect(of({ class_name: "LSTM", config: { name: "lstm", batch_input_shape: [null, 4] } })).toThrow(
      'f.h5: layer "lstm" (LSTM): is recurrent, and Kilograd has no such layer; write it with nn.defineLayer, and give that Keras\'s words: { className: "LSTM" }',
    );
    expect(of({ class_name: "Lambda", config: { name: "twice", batch_input_shape: [null, 4] } })).toThrow(
      /layer "twice" \(Lambda\): holds a function of Python, which is not run; write it with nn.defineLayer/,
    );
    expect(of({ class_name: "Conv3D", config: { name: "c", batch_input_shape: [null, 4] } })).toThrow(
      /f.h5: layer "c" \(Conv3D\): the class must be one of Dense, Conv2D/,
    );
    expect(of({ class_name: "Dense", config: { batch_input_shape: [null, null] } })).toThrow(
      "f.h5: needs a fixed input shape, has [null,null]",
    );
    expect(of({ class_name: "Dense", config: { units: 1 } })).toThrow(/needs a fixed input shape, has null/);
  });

  it("is refused where batch normalisation runs over another axis", async () => {
    const whole = await content();
    const change = (axis: unknown) =>
      JSON.parse(JSON.stringify(whole.modelConfig), (key, value) => (key === "axis" ? axis : value));
    for (const axis of [3, [3], -1]) {
      await writeKerasH5(path, { ...whole, modelConfig: change(axis) });
      expect((await loadModel(path, { device })).name).toBe("small");
    }
    await writeKerasH5(path, { ...whole, modelConfig: change(1) });
    await refused('layer "batch_normalization": axis must be the last, -1 or 3, is 1');
  });

  it("cannot hold a setting that the layer refuses", async () => {
    const whole = await content();
    const modelConfig = JSON.parse(JSON.stringify(whole.modelConfig), (key, value) => (key === "units" ? 0 : value));
    await writeKerasH5(path, { ...whole, modelConfig });
    await refused("model.h5: its model: Dense: units must be a whole number from 1, got 0");
  });

  it.each<[string, (model: { config: { layers: unknown[] } }) => unknown, RegExp]>([
    ["a list", () => [], /must hold a Sequential or functional model, holds null/],
    ["no layers", () => ({ class_name: "Sequential", config: {} }), /its layers: it must be a list, is undefined/],
    ["a layer null", (m) => ({ ...m, config: { layers: [null] } }), /its layers: 0 must be an object, is null/],
    ["a layer without config", (m) => ({ ...m, config: { layers: [{ class_name: "Dense" }] } }), /0.config is missing/],
    [
      "a class 5",
      (m) => ({ ...m, config: { layers: [{ class_name: 5, config: {} }] } }),
      /0.class_name must be a string/,
    ],
    ["an empty list", (m) => ({ ...m, config: { layers: [] } }), /its model has no layers/],
  ])("is refused where its configuration has %s", (_, change, message) => {
    const config = toKerasConfig(build().config()) as unknown as { config: { layers: unknown[] } };
    expect(() => fromKerasConfig(change(config), "f.h5")).toThrow(DataError);
    expect(() => fromKerasConfig(change(config), "f.h5")).toThrow(message);
  });
});

describe("names with slashes", () => {
  const named = (...names: string[]) =>
    architecture(
      { inputShape: [2] },
      names.map((name) => dense({ units: 2, name })),
    ).build({ device, seed: 3 });

  it("are groups within groups, which load again", async () => {
    const model = named("a/b", "a", "a/b/c", "constructor", "toString/valueOf");
    await saveKerasModel(path, model);
    expect(await bits(await loadModel(path, { device }))).toEqual(await bits(model));
  });

  it("are written without slashes, which Keras 3 does not take, and come back as they were", async () => {
    const model = named("/a", "a/", "a//b", "a/b", "a_b", "_a");
    await saveKerasModel(path, model);
    const { layers: groups } = await readKerasH5(path);
    expect(groups.map(({ name }) => name)).toEqual(["_a_1", "a_", "a__b", "a_b_1", "a_b", "_a"]);
    const loaded = await loadModel(path, { device });
    expect(loaded.config()).toEqual(model.config());
    expect(await bits(loaded)).toEqual(await bits(model));
  });

  it("are refused where HDF5 has no such group", async () => {
    await expect(saveKerasModel(path, named("."))).rejects.toThrow(UsageError);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe.skipIf(reason !== undefined)(`read by h5py ${reason ?? ""}`, () => {
  it("has the same names, shapes and bits", async () => {
    const model = await trained();
    await saveKerasModel(path, model);
    const script = `
import h5py, json, sys
f = h5py.File(sys.argv[1], "r")
text = lambda v: v.decode() if isinstance(v, bytes) else str(v)
config = json.loads(text(f.attrs["model_config"]))
weights = {}
for layer in f["model_weights"].attrs["layer_names"]:
    group = f["model_weights"][text(layer)]
    for name in group.attrs["weight_names"]:
        data = group[text(name)]
        assert data.dtype == "<f4", data.dtype
        weights[text(name)] = [list(data.shape), data[()].view("<u4").ravel().tolist()]
print(json.dumps([config["class_name"], text(f.attrs["keras_version"]), weights]))
`;
    const [className, version, weights] = JSON.parse(execFileSync(python, ["-c", script, path], { encoding: "utf8" }));
    expect([className, version]).toEqual(["Sequential", "2.15.0"]);
    const expected = Object.entries(await bits(model)).map(([name, values], i) => {
      const keras = name.replace("movingMean", "moving_mean").replace("movingVariance", "moving_variance");
      return [`${keras}:0`, [[...model.weights()[i]!.tensor.shape], values]];
    });
    expect(weights).toEqual(Object.fromEntries(expected));
  });

  it("and a file that h5py wrote is read, with the names of Keras 3", async () => {
    const script = `
import h5py, json, numpy, sys
f = h5py.File(sys.argv[1], "w")
layers = [
    {"class_name": "InputLayer", "config": {"batch_shape": [None, 2], "name": "input_layer"}},
    {"module": "keras.layers", "class_name": "Dense", "registered_name": None, "config": {
        "name": "dense", "units": 3, "activation": "relu", "use_bias": True, "dtype": {"module": "keras"},
        "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}},
        "bias_initializer": {"module": "keras.initializers", "class_name": "Zeros", "config": {}}}},
    {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.5, "seed": None, "noise_shape": None}},
]
f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "seq", "layers": layers}})
g = f.create_group("model_weights")
g.attrs["layer_names"] = numpy.array([b"dense", b"dropout"])
d = g.create_group("dense")
d.attrs["weight_names"] = numpy.array([b"seq/dense/kernel", b"seq/dense/bias"])
d.create_dataset("seq/dense/kernel", data=numpy.arange(6, dtype="f4").reshape(2, 3))
d.create_dataset("seq/dense/bias", data=numpy.array([1, 2, 3], dtype="f4"))
g.create_group("dropout")
g.create_group("top_level_model_weights")
f.create_group("optimizer_weights")
f.close()
`;
    execFileSync(python, ["-c", script, path]);
    expect(existsSync(path)).toBe(true);
    const model = await loadModel(path, { device });
    const y = model.call(tensor(device, [1, 10], { shape: [1, 2] }));
    expect([...(await y.data())]).toEqual([31, 43, 55]);
  });
});

it("refuses a layer with several axes in .h5, which Keras would read with one, and not in .keras", async () => {
  const model = architecture({ inputShape: [3, 4] }, [layerNorm({ axis: [1, 2] })]).build({ device, seed: 1 });
  await expect(encodeModel(model, { format: "keras-h5" })).rejects.toThrow(
    'keras-h5: layer "layer_normalization" (LayerNormalization): Keras does not read the axes 1, 2 from .h5',
  );
  const again = await loadModel(await encodeModel(model, { format: "keras" }), { device });
  expect(again.layers[0]!.placed.layer.config["axis"]).toEqual([1, 2]);
});
