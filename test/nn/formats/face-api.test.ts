// Networks of face-api.js, which ships manifests with quantised shards and has the architectures in its code: built
// here, given the weights by a map of names. Expected outputs: face-api's own, tfjs-networks.mjs.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import type { GraphNode } from "../../../src/nn/graph.js";
import * as nn from "../../../src/nn/index.js";
import { UsageError } from "../../../src/tensor/errors.js";
import { type Tensor, tensor } from "../../../src/tensor/tensor.js";
import { npmPackage } from "../../npm-package.js";
import { cpu, expectClose } from "../../support.js";

const faceApi = await npmPackage("@vladmandic/face-api@1.7.15");
const expected = JSON.parse(readFileSync("test/nn/formats/tfjs-networks.json", "utf8")) as {
  face_expression: { logits: number[] };
  age_gender: { age: number[]; gender: number[] };
};

const relu = (x: GraphNode) => nn.relu()(x);
const sumOf = (...nodes: GraphNode[]) => nn.add()(nodes);
const conv = (x: GraphNode, filters: number, kernelSize: number, name: string) =>
  nn.conv2d({ filters, kernelSize, strides: 2, padding: "same", name })(x);
const separable = (x: GraphNode, filters: number, name: string, strides = 1) =>
  nn.separableConv2d({ filters, kernelSize: 3, strides, padding: "same", name })(x);

/** Pixels of 0 to 255, less their means. */
function pixels() {
  const picture = nn.input({ shape: [112, 112, 3] });
  const offset = [122.782, 117.001, 104.298].map((mean) => -mean / 255);
  return {
    picture,
    x: nn.normalization({ mean: offset.map((each) => -255 * each), variance: [1, 1, 1].map(() => 255 ** 2) })(picture),
  };
}

function faceExpression(): nn.Model {
  const { picture, x: first } = pixels();
  let x = first;
  for (const [i, filters] of [32, 64, 128, 256].entries()) {
    const name = (part: number) => `dense${i}/conv${part}`;
    const one = relu(i === 0 ? conv(x, filters, 3, name(0)) : separable(x, filters, name(0), 2));
    const two = separable(one, filters, name(1));
    const three = separable(relu(sumOf(one, two)), filters, name(2));
    const four = separable(relu(sumOf(one, two, three)), filters, name(3));
    x = relu(sumOf(one, two, three, four));
  }
  const logits = nn.dense({ units: 7, name: "fc" })(nn.flatten()(nn.avgPool2d({ poolSize: 7, strides: 2 })(x)));
  return nn.model({ device: cpu, inputs: picture, outputs: logits });
}

function ageGender(): nn.Model {
  const { picture, x: first } = pixels();
  const reduction = (x: GraphNode, filters: number, name: string, given = relu(x)) => {
    const one = separable(given, filters, `${name}/separable_conv0`);
    const two = separable(relu(one), filters, `${name}/separable_conv1`);
    const pooled = nn.maxPool2d({ poolSize: 3, strides: 2, padding: "same" })(two);
    return sumOf(pooled, conv(x, filters, 1, `${name}/expansion_conv`));
  };
  let x = relu(conv(first, 32, 3, "entry_flow/conv_in"));
  x = reduction(x, 64, "entry_flow/reduction_block_0", x);
  x = reduction(x, 128, "entry_flow/reduction_block_1");
  for (const block of [0, 1]) {
    let y = x;
    for (const part of [0, 1, 2]) y = separable(relu(y), 128, `middle_flow/main_block_${block}/separable_conv${part}`);
    x = sumOf(y, x);
  }
  x = reduction(x, 256, "exit_flow/reduction_block");
  x = relu(separable(x, 512, "exit_flow/separable_conv"));
  const pooled = nn.flatten()(nn.avgPool2d({ poolSize: 7, strides: 2 })(x));
  const outputs = [nn.dense({ units: 1, name: "fc/age" })(pooled), nn.dense({ units: 2, name: "fc/gender" })(pooled)];
  return nn.model({ device: cpu, inputs: picture, outputs });
}

/** Their words for weights, as the layers have them. */
const map = (name: string) =>
  name.replace(/\/(filters|weights)$/, "/kernel").replace(/\/(depthwise|pointwise)_filter$/, "/$1_kernel");

describe.skipIf(faceApi.reason !== undefined)(`networks of face-api ${faceApi.reason ?? ""}`, () => {
  const file = (name: string) => `${faceApi.folder}/model/${name}_model-weights_manifest.json`;
  const picture = () =>
    tensor(
      cpu,
      Float32Array.from({ length: 112 * 112 * 3 }, (_, i) => (7919 * i) % 256),
      { shape: [1, 112, 112, 3] },
    );

  test("expressions of faces: as face-api computes them, and gradients of the picture", async () => {
    using model = faceExpression();
    await nn.loadWeights(model, file("face_expression"), { map });
    expect(model.countParameters().total).toBe(323_687);
    expectClose(await model.call(picture()).data(), expected.face_expression.logits, { rtol: 1e-4, label: "logits" });
    const gradient = await grad((x: Tensor) => sum(model.call(x)))(picture()).data();
    expect(Array.from(gradient).filter((each) => each !== 0).length).toBeGreaterThan(10_000);
  });

  test("age and gender, from Buffers of Node", async () => {
    using model = ageGender();
    const files = {
      "manifest.json": readFileSync(file("age_gender")),
      "age_gender_model.bin": readFileSync(`${faceApi.folder}/model/age_gender_model.bin`),
    };
    await nn.loadWeights(model, files, { map });
    expect(model.countParameters().total).toBe(421_731);
    const [age, gender] = model.callAll(picture()) as Tensor[];
    expectClose(await age!.data(), expected.age_gender.age, { rtol: 1e-4, label: "age" });
    expectClose(await gender!.data(), expected.age_gender.gender, { rtol: 1e-4, label: "gender" });
  });

  test("names that do not fit are listed", async () => {
    using model = faceExpression();
    const refused = nn.loadWeights(model, file("face_expression"));
    await expect(refused).rejects.toThrow(/"dense0\/conv0\/kernel" \[3, 3, 3, 32\] is missing/);
    await expect(nn.loadWeights(model, file("face_expression"), { map: { fcs: null } })).rejects.toThrow(UsageError);
  });
});
