// Models of TensorFlow.js: what it writes and reads itself, quantised weights, shards, and files that are wrong.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { FilesByName } from "../../../src/io/source.js";
import { model as functional, sequential } from "../../../src/nn/architecture.js";
import { loadModel } from "../../../src/nn/checkpoint.js";
import { readManifest, SHARD_BYTES } from "../../../src/nn/formats/tfjs/weights.js";
import { input } from "../../../src/nn/graph.js";
import * as nn from "../../../src/nn/index.js";
import { DataError, UsageError } from "../../../src/tensor/errors.js";
import { RandomStream } from "../../../src/tensor/random.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { npmPackage } from "../../npm-package.js";
import { cpu, expectClose } from "../../support.js";

const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const jsonIn = (files: FilesByName) => JSON.parse(new TextDecoder().decode(files["model.json"]!));
/** Weights that are none of the initial ones, running statistics too. */
function stirred(model: nn.Model, seed = 1): nn.Model {
  const random = new RandomStream(seed, "weights");
  for (const { name, tensor: t } of model.weights()) {
    const positive = name.endsWith("Variance");
    t.assign(Float32Array.from({ length: t.size }, () => (positive ? 0.5 + random.uniform() : 0.5 * random.normal())));
  }
  return model;
}

const chain = () =>
  sequential({ device: cpu, inputShape: [9, 8, 3] }, [
    nn.conv2d({ filters: 4, kernelSize: 3, strides: 2, padding: "same", activation: "relu" }),
    nn.batchNorm(),
    nn.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, padding: "same", activation: "elu" }),
    nn.separableConv2d({ filters: 5, kernelSize: 2, activation: "tanh" }),
    nn.zeroPadding2d([
      [0, 1],
      [1, 0],
    ]),
    nn.conv2dTranspose({ filters: 3, kernelSize: 3, strides: 2, padding: "same", activation: "swish" }),
    nn.layerNorm(),
    nn.avgPool2d({ poolSize: 2, padding: "same" }),
    nn.maxPool2d(2),
    nn.relu({ maxValue: 6 }),
    nn.prelu({ sharedAxes: [1, 2] }),
    nn.dropout(0.3),
    nn.flatten(),
    nn.dense({ units: 6, activation: "sigmoid" }),
    nn.dense({ units: 3, activation: "softmax" }),
  ]);

const branches = () => {
  const x = input({ shape: [6, 6, 2], name: "image" });
  const other = input({ shape: [4], name: "numbers" });
  const left = nn.conv2d({ filters: 3, kernelSize: 3, padding: "same" })(x);
  const right = nn.conv2d({ filters: 3, kernelSize: 1, activation: "relu" })(x);
  const sum = nn.add()([left, right]);
  const pooled = nn.globalAvgPool2d()(nn.concatenate()([sum, nn.multiply()([left, right])]));
  const both = nn.concatenate()([pooled, nn.dense({ units: 4, activation: "softplus" })(other)]);
  return functional({
    device: cpu,
    inputs: [x, other],
    outputs: [nn.dense({ units: 2 })(both), nn.dense({ units: 1, activation: "sigmoid" })(pooled)],
  });
};

const words = () =>
  sequential({ device: cpu, inputShape: [5] }, [
    nn.embedding({ inputDim: 11, outputDim: 4 }),
    nn.conv1d({ filters: 3, kernelSize: 2, activation: "relu" }),
    nn.maxPool1d(2),
    nn.permute([2, 1]),
    nn.reshape([6]),
    nn.leakyRelu(0.2),
    nn.dense({ units: 2, activation: "softplus" }),
  ]);

const models: Readonly<Record<string, () => nn.Model>> = { chain, branches, words };
const inputsFor = ({ inputs }: nn.Model, seed = 2) => {
  const random = new RandomStream(seed, "inputs");
  return inputs.map(({ shape }) => {
    const size = 2 * shape.reduce((product, each) => product * each, 1);
    const ids = shape.length === 1 && shape[0] === 5;
    return Float32Array.from({ length: size }, () => (ids ? random.integer(11) : random.normal()));
  });
};

const float32 = (values: ArrayLike<number>) => Buffer.from(Float32Array.from(values).buffer);

async function predictions(model: nn.Model): Promise<number[][]> {
  const xs = inputsFor(model).map((data, i) => tensor(cpu, data, { shape: [2, ...model.inputs[i]!.shape] }));
  const outputs = [];
  for (const y of model.callAll(xs)) outputs.push([...(await y.data())]);
  return outputs;
}

test.each(Object.keys(models))("%s comes back as it was", async (name) => {
  const model = stirred(models[name]!());
  const files = await nn.encodeModelFiles(model, { format: "tfjs", notes: { from: "a test" } });
  const again = await loadModel(files, { device: cpu });
  const [found, expected] = [await predictions(again), await predictions(model)];
  for (const [i, values] of expected.entries()) expectClose(found[i]!, values, { rtol: 1e-6, label: `output ${i}` });
});

test("files in a folder: the shards beside the JSON, cut where TensorFlow.js cuts them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-tfjs-"));
  try {
    const model = sequential({ device: cpu, inputShape: [1100], seed: 1 }, [
      nn.dense({ units: 1000 }),
      nn.dense({ units: 2 }),
    ]);
    await nn.saveModel(join(folder, "model.json"), model, { format: "tfjs" });
    await nn.saveModel(join(folder, "other.json"), stirred(chain()));
    expect(readdirSync(folder).sort()).toEqual([
      "group1-shard1of2.bin",
      "group1-shard2of2.bin",
      "model.json",
      "other-group1-shard1of1.bin",
      "other.json",
    ]);
    const again = await loadModel(join(folder, "model.json"), { device: cpu });
    expect(again.countParameters().total * 4).toBeGreaterThan(SHARD_BYTES);
    for (const [i, { name, tensor: t }] of again.weights().entries()) {
      const [found, written] = [await t.data(), await model.weights()[i]!.tensor.data()];
      expect(Buffer.compare(float32(found), float32(written)), name).toBe(0);
    }
    using target = chain();
    await nn.loadWeights(target, join(folder, "other.json"));
    expect(await predictions(target)).toEqual(
      await predictions(await loadModel(join(folder, "other.json"), { device: cpu })),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

describe("weights", () => {
  const manifest = [
    {
      paths: ["a.bin", "b.bin"],
      weights: [
        { name: "u8", shape: [2, 2], dtype: "float32", quantization: { dtype: "uint8", scale: 0.5, min: -1 } },
        { name: "f32", shape: [1], dtype: "float32" },
        { name: "u16", shape: [2], dtype: "float32", quantization: { dtype: "uint16", scale: 0.25, min: 0 } },
        { name: "f16", shape: [2], dtype: "float32", quantization: { dtype: "float16" } },
        { name: "whole", shape: [2], dtype: "int32", quantization: { dtype: "uint8", scale: 1.5, min: -3 } },
        { name: "i32", shape: [], dtype: "int32" },
        { name: "flag", shape: [2], dtype: "bool" },
        { name: "none", shape: [0], dtype: "float32" },
        { name: "slot", shape: [1], dtype: "float32", group: "optimizer" },
      ],
    },
  ];
  const bytes = Uint8Array.of(
    ...[0, 1, 2, 255],
    ...new Uint8Array(Float32Array.of(1.5).buffer),
    ...new Uint8Array(Uint16Array.of(1, 65535, 0x3c00, 0xc000).buffer),
    ...[1, 5],
    ...new Uint8Array(Int32Array.of(-7).buffer),
    ...[1, 0],
    ...[0, 0, 0, 0],
  );
  const files = (cut: number) => ({
    "model.json": text({}),
    "a.bin": bytes.subarray(0, cut),
    "b.bin": bytes.subarray(cut),
  });

  test("are quantised in every way, and cut anywhere", async () => {
    for (const cut of [0, 5, 9, bytes.length]) {
      const found = await readManifest(files(cut), manifest);
      expect(Object.fromEntries([...found].map(([name, { data }]) => [name, [...data]]))).toEqual({
        u8: [-1, -0.5, 0, 126.5],
        f32: [1.5],
        u16: [0.25, 16383.75],
        f16: [1, -2],
        whole: [-1, 5].map((value) => Math.round(value === -1 ? -1.5 : 4.5)),
        i32: [-7],
        flag: [1, 0],
        none: [],
      });
    }
  });

  test.each([
    ["too few bytes", { "b.bin": new Uint8Array(1) }, /need \d+ bytes/],
    ["too many bytes", { "b.bin": new Uint8Array(1000) }, /at most \d+ are read/],
  ])("%s", async (_, other, message) => {
    await expect(readManifest({ ...files(5), ...other }, manifest)).rejects.toThrow(message);
  });

  test.each([
    ["a shard that is not there", [{ paths: ["c.bin"], weights: [] }], /c\.bin/],
    ["a shard elsewhere", [{ paths: ["../a.bin"], weights: [] }], /within the folder/],
    [
      "two gigabytes announced",
      [{ paths: ["a.bin"], weights: [{ name: "w", shape: [2 ** 29], dtype: "float32" }] }],
      /need 2147483648/,
    ],
    [
      "more than there is in the world",
      [{ paths: ["a.bin"], weights: [{ name: "w", shape: [2 ** 52, 2 ** 52], dtype: "float32" }] }],
      /bytes/,
    ],
    ["a text", [{ paths: [], weights: [{ name: "w", shape: [1], dtype: "string" }] }], /dtype must be one of/],
    [
      "a name twice",
      [
        {
          paths: [],
          weights: [
            { name: "w", shape: [0], dtype: "bool" },
            { name: "w", shape: [0], dtype: "bool" },
          ],
        },
      ],
      /twice/,
    ],
    ["a shape below zero", [{ paths: [], weights: [{ name: "w", shape: [-1], dtype: "bool" }] }], /shape/],
    ["no list", {}, /must be a list/],
  ])("%s is refused", async (_, wrong, message) => {
    const refused = readManifest(files(5), wrong);
    await expect(refused).rejects.toThrow(DataError);
    await expect(refused).rejects.toThrow(message);
  });
});

describe("layers models that are wrong", () => {
  const changed = async (change: (json: ReturnType<typeof jsonIn>) => void) => {
    const files = await nn.encodeModelFiles(stirred(chain()), { format: "tfjs" });
    const json = jsonIn(files);
    change(json);
    return loadModel({ ...files, "model.json": text(json) }, { device: cpu });
  };
  test.each<[string, (json: ReturnType<typeof jsonIn>) => void, RegExp]>([
    ["no topology", (json) => delete json.modelTopology, /modelTopology/],
    ["an unknown layer", (json) => (json.modelTopology.config.layers[1].class_name = "Odd"), /\(Odd\): the class/],
    [
      "weights of other names",
      (json) => (json.weightsManifest[0].weights[0].name = "x/kernel"),
      /"conv2d\/kernel" .* is missing, "x\/kernel" belongs to no layer/,
    ],
    [
      "weights of other shapes",
      (json) => (json.weightsManifest[0].weights[1].shape = [2, 2]),
      /"conv2d\/bias" should be \[4\], is \[2, 2\]/,
    ],
  ])("%s", async (_, change, message) => {
    await expect(changed(change)).rejects.toThrow(message);
    await expect(changed(change)).rejects.toThrow(DataError);
  });

  test("a list of weights alone has no layers; with a model it has", async () => {
    const files = await nn.encodeModelFiles(stirred(chain()), { format: "tfjs" });
    const { weightsManifest } = jsonIn(files);
    const alone = { ...files, "model.json": text(weightsManifest) };
    await expect(loadModel(alone, { device: cpu })).rejects.toThrow(/nn\.loadWeights/);
    using model = chain();
    await nn.loadWeights(model, alone);
    expect(await predictions(model)).toEqual(await predictions(await loadModel(files, { device: cpu })));
  });

  test.each([
    ["{", /no JSON/],
    ['{"name":"something else"}', /no model of TensorFlow\.js/],
  ])("%s", async (json, message) => {
    await expect(loadModel(new TextEncoder().encode(json), { device: cpu })).rejects.toThrow(message);
  });

  test("bytes alone lack the shards", async () => {
    const files = await nn.encodeModelFiles(stirred(chain()), { format: "tfjs" });
    await expect(loadModel(files["model.json"]!, { device: cpu })).rejects.toThrow(/an object of all files/);
  });

  test("what TensorFlow.js lacks is not written", async () => {
    const refused = (layer: nn.Layer) =>
      nn.encodeModelFiles(sequential({ device: cpu, inputShape: [4, 4, 4] }, [layer]), { format: "tfjs" });
    for (const layer of [
      nn.groupNorm({ groups: 2 }),
      nn.activation("hardSigmoid"),
      nn.activation("lecunTanh"),
      nn.relu({ negativeSlope: 0.1 }),
      nn.upSampling2d({ interpolation: "bilinear" }),
    ]) {
      await expect(refused(layer)).rejects.toThrow(UsageError);
    }
    await expect(nn.encodeModel(chain(), { format: "tfjs" })).rejects.toThrow(/encodeModelFiles/);
  });
});

/** The part of TensorFlow.js that is used here. */
interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  loadLayersModel(handler: unknown): Promise<TfModel>;
  tensor(data: Float32Array, shape: readonly number[]): unknown;
  layers: Readonly<Record<string, (options?: object) => { apply(x: unknown): unknown }>>;
  sequential(options: object): TfModel;
  io: {
    withSaveHandler(use: (artifacts: Artifacts) => Promise<unknown>): unknown;
  };
}
interface Artifacts {
  readonly modelTopology: unknown;
  readonly weightSpecs: readonly unknown[];
  readonly weightData: ArrayBuffer;
}
interface TfModel {
  predict(x: unknown): { data(): Promise<Float32Array> } | { data(): Promise<Float32Array> }[];
  save(handler: unknown): Promise<unknown>;
  getWeights(): { shape: number[] }[];
  setWeights(weights: unknown[]): void;
}

const tfjs = await npmPackage("@tensorflow/tfjs@4.22.0");

describe.skipIf(tfjs.reason !== undefined)(`TensorFlow.js itself ${tfjs.reason ?? ""}`, () => {
  const tf = () => createRequire(`${tfjs.folder}/dist/`)("./tf.min.js") as TensorFlow;

  test.each(Object.keys(models))("predicts %s, which Kilograd wrote, as Kilograd does", async (name) => {
    await tf().setBackend("cpu");
    const model = stirred(models[name]!());
    const files = await nn.encodeModelFiles(model, { format: "tfjs" });
    const { modelTopology, weightsManifest } = jsonIn(files);
    const theirs = await tf().loadLayersModel({
      load: async () => ({
        modelTopology,
        weightSpecs: weightsManifest[0].weights,
        weightData: Uint8Array.from(files[weightsManifest[0].paths[0]]!).buffer,
      }),
    });
    const xs = inputsFor(model).map((data, i) => tf().tensor(data, [2, ...model.inputs[i]!.shape]));
    const outputs = [theirs.predict(xs.length === 1 ? xs[0] : xs)].flat();
    const ours = await predictions(model);
    expect(outputs).toHaveLength(ours.length);
    for (const [i, output] of outputs.entries()) {
      expectClose(await output.data(), ours[i]!, { rtol: 1e-5, label: `${name} output ${i}` });
    }
  });

  test("writes models that Kilograd reads", async () => {
    await tf().setBackend("cpu");
    const { layers } = tf();
    const random = new RandomStream(5, "theirs");
    const theirs = tf().sequential({
      layers: [
        layers["conv2d"]!({ filters: 4, kernelSize: 3, activation: "relu", inputShape: [8, 8, 2] }),
        layers["batchNormalization"]!(),
        layers["depthwiseConv2d"]!({ kernelSize: 3, padding: "same" }),
        layers["separableConv2d"]!({ filters: 3, kernelSize: 2, activation: "relu" }),
        layers["maxPooling2d"]!({ poolSize: 2 }),
        layers["flatten"]!(),
        layers["dense"]!({ units: 3, activation: "softmax" }),
      ],
    });
    theirs.setWeights(
      theirs.getWeights().map(({ shape }) => {
        const size = shape.reduce((product, each) => product * each, 1);
        return tf().tensor(
          Float32Array.from({ length: size }, () => 0.1 + random.uniform()),
          shape,
        );
      }),
    );
    let saved: Artifacts | undefined;
    await theirs.save(
      tf().io.withSaveHandler(async (artifacts) => {
        saved = artifacts;
        return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" } };
      }),
    );
    const { modelTopology, weightSpecs, weightData } = saved!;
    const json = { modelTopology, weightsManifest: [{ paths: ["weights.bin"], weights: weightSpecs }] };
    const model = await loadModel(
      { "model.json": text(json), "weights.bin": new Uint8Array(weightData) },
      { device: cpu },
    );
    const [x] = inputsFor(model);
    const [output] = [theirs.predict(tf().tensor(x!, [2, 8, 8, 2]))].flat();
    expectClose((await predictions(model))[0]!, await output!.data(), { rtol: 1e-5 });
  });
});
