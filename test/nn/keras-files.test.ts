// Files that Keras 3.15.1 and h5py wrote (keras-files.py makes them): they load, and answer as Keras did.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../src/io/safetensors-file.js";
import { architecture } from "../../src/nn/architecture.js";
import { loadModel, loadWeights, readModelFile, saveModel } from "../../src/nn/checkpoint.js";
import { fromConfig } from "../../src/nn/from-config.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import type { Model } from "../../src/nn/model.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";

interface Example {
  readonly file: string;
  /** Two samples, and the answers. */
  readonly x: number[];
  readonly y: number[];
}
const examples: Record<string, Example> = JSON.parse(
  readFileSync(new URL("./keras-files.json", import.meta.url), "utf8"),
);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-keras-files-"));
  for (const [name, { file }] of Object.entries(examples)) {
    writeFileSync(join(folder, name), gunzipSync(Buffer.from(file, "base64")));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

async function expectAnswers(model: Model, { x, y }: Example, tolerance = 1e-6): Promise<void> {
  const answers = await model.call(tensor(cpu, x, { shape: [2, ...model.inputShape] })).data();
  expect(answers).toHaveLength(y.length);
  for (const [i, value] of y.entries()) expect(Math.abs(answers[i]! - value)).toBeLessThan(tolerance);
}

describe("a whole model", () => {
  test.each<[string, tolerance: number, remarks: (RegExp | string)[]]>([
    [
      "training",
      1e-6,
      [
        /training: answers as in Keras, but training it further would lack the kernel_initializer Orthogonal of layer "dense", the kernel_regularizer's l1 of 0.1\d* of layer "dense", the activity_regularizer L2 of layer "dense", the bias_regularizer L1 of layer "dense", the kernel_constraint MaxNorm of layer "dense"$/,
      ],
    ],
    ["truncated", 1e-6, [/lack the kernel_initializer TruncatedNormal of layer/]],
    ["scaling", 1e-6, []],
    ["nan", 1e-6, []],
    ["noJson", 1e-6, []],
    ["halves", 2e-3, []],
    ["doubles", 1e-6, []],
    ["bigEndian", 1e-6, []],
    ["reshape", 1e-6, []],
    ["theano", 1e-6, []],
    ["whole", 1e-6, []],
    [
      "mixed",
      2e-3,
      [/mixed: Keras computes its layers in mixed_float16 \("dense\w*" is the first\); here .* float32 by default/],
    ],
  ])("%s", async (name, tolerance, remarks) => {
    const said: string[] = [];
    const model = await loadModel(at(name), { device: cpu, onMessage: (message) => said.push(message) });
    expect(said).toHaveLength(remarks.length);
    for (const [i, remark] of remarks.entries()) expect(said[i]).toMatch(remark);
    await expectAnswers(model, examples[name]!, tolerance);
  });

  test("keeps the penalty on squares, and the scaling initialisers under their old name", async () => {
    const { config } = await readModelFile(at("training"));
    expect(config.layers[0]!.config["kernelL2"]).toBeCloseTo(0.2, 6);
    expect((await readModelFile(at("scaling"))).config.layers[0]!.config["kernelInitializer"]).toEqual({
      name: "glorotUniform",
    });
  });

  test("of weights alone says what to do", async () => {
    for (const name of ["weights2", "weights3"]) {
      await expect(loadModel(at(name), { device: cpu })).rejects.toThrow(
        /weights\d: is HDF5, but no Keras model: .* it holds weights alone: give them to a model with nn.loadWeights/,
      );
    }
  });
});

describe("weights into a model", () => {
  const relu = { activation: "relu" } as const;
  const stack = () => [
    conv2d({ filters: 3, kernelSize: 2, ...relu }),
    batchNorm(),
    maxPool2d(2),
    conv2d({ filters: 2, kernelSize: 2, name: "mine" }),
    flatten(),
    dense({ units: 4 }),
    dense({ units: 3, activation: "softmax" }),
  ];
  const build = (layers = stack()) => architecture({ inputShape: [8, 8, 1] }, layers).build({ device: cpu, seed: 1 });

  test.each(["weights2", "weights3", "whole"])("from %s", async (name) => {
    const model = build();
    await loadWeights(model, at(name));
    await expectAnswers(model, examples[name]!);
  });

  test("from a file of Kilograd, and from safetensors with the model's names", async () => {
    const model = build();
    await loadWeights(model, at("whole"));
    await saveModel(at("saved"), model);
    const plain = new Map<string, never>();
    for (const [name, t] of model.namedTensors()) {
      plain.set(name, { dtype: "F64", shape: t.shape, data: Float64Array.from(await t.data()) } as never);
    }
    await writeSafetensors(at("plain"), plain);
    for (const name of ["saved", "plain"]) {
      const other = build();
      await loadWeights(other, at(name));
      await expectAnswers(other, examples["whole"]!);
    }
    plain.delete("dense/bias");
    await writeSafetensors(at("plain"), plain);
    await expect(loadWeights(build(), at("plain"))).rejects.toThrow(/plain: .*"dense\/bias" \[4\] is missing/);
  });

  test("of another architecture are refused, and the weights stay", async () => {
    const wide = stack();
    wide[5] = dense({ units: 5 });
    for (const name of ["weights2", "weights3"]) {
      const model = build(wide);
      const before = await model.weights()[0]!.tensor.data();
      await expect(loadWeights(model, at(name))).rejects.toThrow(UsageError);
      await expect(loadWeights(model, at(name))).rejects.toThrow(/"dense\/kernel" should be \[8, 5\], is \[8, 4\]/);
      expect(await model.weights()[0]!.tensor.data()).toEqual(before);
    }
    const short = build(stack().slice(0, -1));
    await expect(loadWeights(short, at("weights2"))).rejects.toThrow(
      "the model has 4 layers with weights, the file weights of 5",
    );
    await expect(loadWeights(short, at("weights3"))).rejects.toThrow(
      /weights3: has weights of dense_1, which the model/,
    );
    const long = build([...stack(), dense({ units: 2 })]);
    await expect(loadWeights(long, at("weights3"))).rejects.toThrow(DataError);
    await expect(loadWeights(long, at("weights3"))).rejects.toThrow(/layer "dense_2" must have 2 weights .* has 0/);
  });
});

describe("a functional model", () => {
  test("with branches and a shared layer answers as in Keras, and goes on doing so when it is written and read", async () => {
    const model = await loadModel(at("functional"), { device: cpu });
    await expectAnswers(model, examples["functional"]!);
    // One layer is called three times.
    expect(model.calls.map(({ repeat }) => repeat).filter((repeat) => repeat > 0)).toEqual([1, 2]);
    await saveModel(at("again"), model, { format: "keras-h5" });
    const again = await loadModel(at("again"), { device: cpu });
    await expectAnswers(again, examples["functional"]!);
    expect(again.config()).toEqual(model.config());
  });

  test("takes weights alone in the order that Keras gives the layers of branches", async () => {
    const { config } = await readModelFile(at("functional"));
    const model = fromConfig(config, { device: cpu });
    await loadWeights(model, at("functionalWeights"));
    await expectAnswers(model, examples["functionalWeights"]!);
  });

  test("with a model in it answers as in Keras", async () => {
    const model = await loadModel(at("nested"), { device: cpu });
    expect(model.layers.map(({ name }) => name.split("/")[0])).toEqual(["inner", "add_1"]);
    await expectAnswers(model, examples["nested"]!);
  });
});
