// `kilograd convert` and `kilograd summary FILE`: from every format to every other.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { convert, convertText } from "../../src/experiments/convert.js";
import { summary, summaryText } from "../../src/experiments/summary.js";
import { decodeSafetensors } from "../../src/io/safetensors.js";
import { model, sequential } from "../../src/nn/architecture.js";
import { loadModel } from "../../src/nn/checkpoint.js";
import { input } from "../../src/nn/graph.js";
import * as nn from "../../src/nn/index.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-convert-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

const original = sequential({ device: cpu, inputShape: [6, 5, 2], name: "small", seed: 3 }, [
  nn.conv2d({ filters: 3, kernelSize: 3, activation: "relu" }),
  nn.batchNorm(),
  nn.flatten(),
  nn.dense({ units: 4, activation: "softmax" }),
]);
await nn.saveModel(at("a.safetensors"), original, { notes: { classNames: ["w", "x", "y", "z"] } });
const x = tensor(
  cpu,
  Float32Array.from({ length: 60 }, (_, i) => Math.sin(i)),
  { shape: [1, 6, 5, 2] },
);
const expected = await original.call(x).data();

test("a model goes from format to format and is what it was", async () => {
  const said: string[] = [];
  const ways = ["a.safetensors", "b.h5", "model.json", "c.safetensors"];
  for (const [i, to] of ways.slice(1).entries()) {
    const done = await convert({ from: at(ways[i]!), to: at(to) }, (message) => said.push(message));
    expect(done).toMatchObject({ layers: 4, parameters: 57 + 12 + 148 });
    expect(convertText(done)).toMatch(/ is .* now: 4 layers, 217 parameters$/);
  }
  expect(said).toEqual([]);
  const last = await loadModel(at("c.safetensors"), { device: cpu });
  expectClose(await last.call(x).data(), expected, { rtol: 1e-6 });
  // As it would be of a device that computes in float32.
  const { tensors } = decodeSafetensors(new Uint8Array(readFileSync(at("c.safetensors"))));
  expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F32"]));
});

test("weights of PyTorch are written by name", async () => {
  const done = await convert({ from: at("a.safetensors"), to: at("state.safetensors"), format: "pytorch" }, () => {});
  expect(done.formats).toEqual(["safetensors", "pytorch"]);
  const { tensors } = decodeSafetensors(new Uint8Array(readFileSync(at("state.safetensors"))));
  expect(tensors.get("conv2d.weight")!.shape).toEqual([3, 2, 3, 3]);
});

test("what cannot be is refused", async () => {
  const refused = (options: object) => convert({ from: at("a.safetensors"), to: at("x.h5"), ...options }, () => {});
  await expect(refused({ format: "safetensors" })).rejects.toThrow(/as its ending says/);
  await expect(refused({ to: at("x.bin"), format: "keras9" })).rejects.toThrow(UsageError);
  await expect(refused({ from: at("none.h5") })).rejects.toThrow(DataError);
  await expect(refused({ skip: ["Dense"] })).rejects.toThrow(/classes that Kilograd does not know/);
  await expect(refused({ skip: ["Odd1"] })).rejects.toThrow(/no layer of the class "Odd1"/);
});

test("layers that Kilograd does not know are left out where that is asked for", async () => {
  // Of a file that names a class of its writer's between two others.
  const node = input({ shape: [3] });
  const first = nn.dense({ units: 4, name: "first" })(node);
  const between = nn.activation("linear", { name: "between" })(first);
  const outputs = [nn.dense({ units: 2, name: "last" })(between), nn.add({ name: "sum" })([first, between])];
  const graph = model({ device: cpu, inputs: node, outputs });
  const files = await nn.encodeModelFiles(graph, { format: "tfjs" });
  const json = new TextDecoder().decode(files["model.json"]!);
  const renamed = json.replace('"class_name":"Activation"', '"class_name":"WritersOwn"');
  expect(renamed).not.toBe(json);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(at(name), name === "model.json" ? renamed : bytes);
  await expect(convert({ from: at("model.json"), to: at("y.safetensors") }, () => {})).rejects.toThrow(/WritersOwn/);
  await convert({ from: at("model.json"), to: at("y.safetensors"), skip: ["WritersOwn"] }, () => {});
  const again = await loadModel(at("y.safetensors"), { device: cpu });
  expect(again.layers.map(({ name }) => name).sort()).toEqual(["first", "last", "sum"]);
  const given = tensor(cpu, [1, -2, 3], { shape: [1, 3] });
  const [ours, theirs] = [again.callAll(given), graph.callAll(given)];
  for (const [i, y] of theirs.entries()) expectClose(await ours[i]!.data(), await y.data(), { rtol: 1e-6 });
});

test("summary tells format, inputs, outputs and layers of a file", async () => {
  const found = await summary(at("b.h5"));
  expect(found).toMatchObject({ format: "keras-h5", total: 217, model: "small", remarks: [] });
  const text = summaryText(found);
  expect(text).toMatch(/b\.h5: keras-h5\ninputs: \w+ \[N, 6, 5, 2\]\noutputs: dense \[N, 4\]\n/);
  expect(text).toContain("Total params: 217");
  expect(summaryText(await summary("mlp-64"))).toContain("Total params");
  await expect(summary("mlp-65")).rejects.toThrow(/did you mean mlp-64/);
  writeFileSync(at("text"), "neither a model nor anything else\n");
  await expect(summary(at("text"))).rejects.toThrow(DataError);
});
