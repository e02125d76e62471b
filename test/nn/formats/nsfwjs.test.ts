// Real networks of TensorFlow.js: they predict as TensorFlow.js does, give input gradients, and can be fine-tuned.
// Expected outputs: @tensorflow/tfjs 4.22.0 on its cpu backend; of the first network Keras 3.15.1 gives the same.
// Those of inception_v3: tfjs-networks.mjs.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import { slice } from "../../../src/autograd/ops/transform.js";
import { loadModel } from "../../../src/nn/checkpoint.js";
import { crossEntropy } from "../../../src/nn/losses.js";
import { adam } from "../../../src/nn/optimizers.js";
import type { Device } from "../../../src/tensor/device.js";
import { type Tensor, tensor } from "../../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../../src/webgpu/device.js";
import { openDevice } from "../../../src/webgpu/open-device.js";
import { npmPackage } from "../../npm-package.js";
import { cpu, expectClose } from "../../support.js";
import { nsfwjsFiles, nsfwjsInputs, pattern } from "./nsfwjs.js";

const { inception_v3 } = JSON.parse(readFileSync("test/nn/formats/tfjs-networks.json", "utf8")) as {
  inception_v3: { pattern: number[] };
};
const nsfwjs = await npmPackage("nsfwjs@4.3.0");
const shape = [1, 224, 224, 3];

describe.skipIf(nsfwjs.reason !== undefined)(`networks of nsfwjs ${nsfwjs.reason ?? ""}`, () => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await openDevice("webgpu");
  });
  afterAll(() => device.destroy());
  const load = (name: "mobilenet_v2" | "mobilenet_v2_mid", on: Device = device) =>
    loadModel(nsfwjsFiles(nsfwjs.folder!, name), { device: on });

  test.each([
    {
      name: "mobilenet_v2",
      parameters: 2_619_461,
      pattern: [0.547147, 0.0231881, 0.4174425, 0.00924686, 0.00297553],
      grey: [0.8375455, 0.0235962, 0.1287955, 0.00853211, 0.00153074],
    },
    {
      name: "mobilenet_v2_mid",
      // Two of the file's scalars are the first layer's 2 and 1.
      parameters: 4_300_775 - 2,
      pattern: [0.2912394, 0.1839818, 0.5127895, 0.00397528, 0.00801409],
      grey: [0.0482768, 0.042026, 0.9065505, 0.00154369, 0.00160303],
    },
  ] as const)("$name predicts as TensorFlow.js does", async ({ name, parameters, ...expected }) => {
    using model = await load(name);
    expect(model.countParameters().total).toBe(parameters);
    for (const input of ["pattern", "grey"] as const) {
      using x = tensor(device, nsfwjsInputs[input], { shape });
      using y = model.call(x);
      expectClose(await y.data(), expected[input], { rtol: 1e-5, label: `${name} ${input}` });
    }
  });

  test("mobilenet_v2 gives the input gradients of the float64 reference", async () => {
    const gradients: ArrayLike<number>[] = [];
    for (const each of [device, cpu]) {
      using model = await load("mobilenet_v2", each);
      using x = tensor(each, nsfwjsInputs.pattern, { shape });
      using gradient = grad((input: Tensor) => sum(slice(model.logits(input), [0, 3], [1, 1])))(x);
      gradients.push(await gradient.data());
    }
    expectClose(gradients[0]!, gradients[1]!, { rtol: 1e-3, label: "input gradient" });
    expect(Array.from(gradients[1]!).filter((each) => each !== 0).length).toBeGreaterThan(100_000);
  });

  test("inception_v3, whose normalisations have no factor, predicts as TensorFlow.js does, with gradients", async () => {
    using model = await loadModel(nsfwjsFiles(nsfwjs.folder!, "inception_v3"), { device });
    expect(model.countParameters().total).toBe(22_360_869);
    const x = tensor(device, pattern(299), { shape: [1, 299, 299, 3] });
    expectClose(await model.call(x).data(), inception_v3.pattern, { rtol: 1e-4, label: "inception_v3" });
    const gradient = await grad((input: Tensor) => sum(slice(model.logits(input), [0, 3], [1, 1])))(x).data();
    expect(gradient.every(Number.isFinite)).toBe(true);
    expect(Array.from(gradient).filter((each) => each !== 0).length).toBeGreaterThan(100_000);
  });

  test("mobilenet_v2 is fine-tuned in its last layers; what is frozen stays to the bit", async () => {
    using model = await load("mobilenet_v2");
    const last = model.layers.filter(({ weights }) => Object.keys(weights).length > 0).slice(-2);
    model.trainable = false;
    for (const layer of last) layer.trainable = true;
    const frozen = model.layers.filter((layer) => !last.includes(layer));
    const bytes = async () => {
      const all = [];
      for (const { weights } of frozen) for (const each of Object.values(weights)) all.push([...(await each.data())]);
      return all;
    };
    const before = await bytes();
    const inputs = Float32Array.from([nsfwjsInputs.pattern, nsfwjsInputs.grey].flatMap((each) => [...each]));
    const history = await model.fit(
      { inputs, targets: Int32Array.of(3, 1) },
      { optimizer: adam({ learningRate: 3e-3 }), loss: crossEntropy, epochs: 6, batchSize: 2 },
    );
    const losses = history.history["loss"]!;
    expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
    expect(await bytes()).toEqual(before);
  });
});
