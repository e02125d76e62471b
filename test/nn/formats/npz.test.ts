// Weights as arrays of NumPy: by the model's names, without names in their order, and as PyTorch's state dicts.
// Expected outputs: npz.py.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { convert } from "../../../src/experiments/convert.js";
import { decodeNpz, encodeNpz } from "../../../src/io/npz.js";
import { sequential } from "../../../src/nn/architecture.js";
import * as nn from "../../../src/nn/index.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { cpu, expectClose } from "../../support.js";

interface Stored {
  readonly file: string;
  readonly x: number[];
  readonly y: number[];
}
const golden = JSON.parse(await readFile("test/nn/formats/npz.json", "utf8")) as Record<"keras" | "torch", Stored>;
const bytesOf = ({ file }: Stored) => new Uint8Array(Buffer.from(file, "base64"));

const ofKeras = () =>
  sequential({ device: cpu, seed: 1, inputShape: [6, 5, 2] }, [
    nn.normalization(),
    nn.conv2d({ filters: 3, kernelSize: 2, useBias: false }),
    nn.batchNorm({ scale: false }),
    nn.relu(),
    nn.separableConv2d({ filters: 4, kernelSize: 2 }),
    nn.batchNorm(),
    nn.flatten(),
    nn.dense({ units: 3, activation: "softmax" }),
  ]);
const ofTorch = () =>
  sequential({ device: cpu, seed: 1, inputShape: [4] }, [
    nn.dense({ units: 3 }),
    nn.batchNorm({ epsilon: 1e-5 }),
    nn.activation("tanh"),
    nn.dense({ units: 2 }),
  ]);

test.each([
  ["keras", ofKeras, [2, 6, 5, 2]],
  ["torch", ofTorch, [2, 4]],
] as const)("weights of %s predict as there", async (name, build, shape) => {
  const model = build();
  await nn.loadWeights(model, bytesOf(golden[name]));
  const y = await model.call(tensor(cpu, golden[name].x, { shape })).data();
  expectClose(y, golden[name].y, { rtol: 1e-5, label: name });
});

test("are written under the model's names, and come back", async () => {
  const model = ofKeras();
  const bytes = await nn.encodeModel(model, { format: "npz" });
  const arrays = await decodeNpz(bytes);
  expect([...arrays].map(([name, { shape }]) => `${name} ${shape}`)).toEqual(
    model.weights().map(({ name, tensor: { shape } }) => `${name} ${shape}`),
  );
  const other = sequential(
    { device: cpu, seed: 2, inputShape: [6, 5, 2] },
    model.layers.map(({ placed }) => placed.layer),
  );
  await nn.loadWeights(other, bytes);
  for (const [i, { tensor: weight }] of other.weights().entries()) {
    expect(await weight.data()).toEqual(await model.weights()[i]!.tensor.data());
  }
});

test("a map gives arrays their names", async () => {
  const model = ofTorch();
  await expect(nn.loadWeights(model, bytesOf(golden.torch), { map: { "0": "dense", "2": null } })).rejects.toThrow(
    /has no tensor or module "2"/,
  );
  await nn.loadWeights(model, bytesOf(golden.torch), {
    map: { "0": "dense", "1": "batch_normalization", "3": "dense_1" },
  });
  const y = await model.call(tensor(cpu, golden.torch.x, { shape: [2, 4] })).data();
  expectClose(y, golden.torch.y, { rtol: 1e-5 });
});

test("arrays without names that do not fit are told, all of them", async () => {
  const arrays = await decodeNpz(bytesOf(golden.keras));
  const kernel = arrays.get("arr_3")!;
  arrays.set("arr_3", { ...kernel, shape: [kernel.data.length] });
  await expect(nn.loadWeights(ofKeras(), encodeNpz(Object.fromEntries(arrays)))).rejects.toThrow(
    /"arr_3" for "conv2d\/kernel" should be \[2, 2, 2, 3\], is \[24\]/,
  );
  for (const last of ["arr_15", "arr_14"]) arrays.delete(last);
  await expect(nn.loadWeights(ofKeras(), encodeNpz(Object.fromEntries(arrays)))).rejects.toThrow(
    /has 15 weights, the file 14/,
  );
});

test("arrays are no model, and have no place for notes and trainings", async () => {
  await expect(nn.loadModel(bytesOf(golden.keras), { device: cpu })).rejects.toThrow(/nn\.loadWeights\(model, path\)/);
  await expect(nn.encodeModel(ofTorch(), { format: "npz", notes: { a: 1 } })).rejects.toThrow(/no place for notes/);
  const folder = await mkdtemp(join(tmpdir(), "kilograd-npz-"));
  try {
    const [from, to] = [join(folder, "a.safetensors"), join(folder, "a.npz")];
    await nn.saveModel(from, ofTorch(), { notes: { a: 1 } });
    const said: string[] = [];
    await convert({ from, to }, (message) => said.push(message));
    expect(said).toEqual([`${from}: its notes are left behind, npz has no place for them`]);
    const model = ofTorch();
    await nn.loadWeights(model, to);
  } finally {
    await rm(folder, { recursive: true });
  }
});
