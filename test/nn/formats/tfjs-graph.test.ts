// Graph models of TensorFlow.js whose operations are not fused, and graphs that are wrong.
import { expect, test } from "vitest";
import { conv2d } from "../../../src/autograd/ops/conv2d.js";
import { add as addOp, mul } from "../../../src/autograd/ops/elementwise.js";
import { matmul } from "../../../src/autograd/ops/matmul.js";
import { maxPool2d } from "../../../src/autograd/ops/pool2d.js";
import { softmax } from "../../../src/autograd/ops/softmax.js";
import { reshape } from "../../../src/autograd/ops/transform.js";
import { loadModel } from "../../../src/nn/checkpoint.js";
import { DataError } from "../../../src/tensor/errors.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { cpu, expectClose } from "../../support.js";
import { constants, smallGraph } from "./small-graph.js";

const filesOf = (json: unknown) => ({
  "model.json": new TextEncoder().encode(JSON.stringify(json)),
  "w.bin": smallGraph.shard,
});

test("computes what its operations say, with biases and activations in layers", async () => {
  const model = await loadModel(filesOf(smallGraph.json), { device: cpu });
  expect(model.layers.map(({ name, placed }) => `${name} ${placed.layer.className}`)).toEqual([
    ...["doubled Rescaling", "conv Conv2D", "scaled BatchNormalization", "sum Add", "pool MaxPooling2D"],
    ...["flat Flatten", "product Dense", "answer Activation"],
  ]);
  const x = tensor(
    cpu,
    Float32Array.from({ length: 72 }, (_, i) => Math.sin(3 * i)),
    { shape: [2, 6, 6, 1] },
  );
  const c = (name: string) => tensor(cpu, Float32Array.from(constants[name]![1]), { shape: constants[name]![0] });
  const relu = conv2d(mul(x, 2), c("kernel"), { bias: c("bias"), activation: "relu" });
  const pooled = maxPool2d(addOp(mul(relu, c("scale")), relu), { poolSize: 2 });
  const logits = addOp(matmul(reshape(pooled, [2, 8]), c("matrix"), { transposeB: true }), c("dense"));
  const [first, second] = model.callAll(x);
  expectClose(await first!.data(), await logits.data(), { rtol: 1e-6, label: "logits" });
  expectClose(await second!.data(), await softmax(logits).data(), { rtol: 1e-6, label: "answer" });
});

test.each<[string, unknown, RegExp]>([
  ["an output without a name", { outputs: { a: null } }, /its signature: outputs\.a must be an object/],
  ["an output that is not there", { outputs: { a: { name: "nothing" } } }, /its output "nothing" is not computed/],
  ["an output that is a constant", { outputs: { a: { name: "bias" } } }, /its output "bias" is not computed/],
])("%s is refused", async (_, signature, message) => {
  const refused = loadModel(filesOf({ ...smallGraph.json, signature }), { device: cpu });
  await expect(refused).rejects.toThrow(DataError);
  await expect(refused).rejects.toThrow(message);
});

test("a graph without a signature gives what nobody looks at", async () => {
  const { signature: _, ...json } = smallGraph.json;
  const model = await loadModel(filesOf(json), { device: cpu });
  expect(model.outputNames).toEqual(["product"]);
});

type Node = { name: string; op: string; input?: string[]; attr: Record<string, unknown> };
test.each<[string, (nodes: Node[], byName: (name: string) => Node) => void, RegExp]>([
  [
    "an unknown operation",
    (_, node) => (node("relu").op = "Erf"),
    /node "relu" \(Erf\) is of an operation that no layer here has; convert/,
  ],
  ["an operation of an object's own", (_, node) => (node("relu").op = "constructor"), /operation that no layer/],
  ["a circle", (_, node) => (node("conv").input = ["sum", "kernel"]), /is computed from itself/],
  ["an input that is not there", (_, node) => (node("relu").input = ["nothing"]), /uses "nothing", which is no node/],
  ["two nodes of one name", (nodes) => nodes.push({ ...nodes[0]! }), /two nodes "x"/],
  ["an open size", (_, node) => (node("x").attr = {}), /needs a fixed shape/],
  [
    "channels first",
    (_, node) => (node("conv").attr["data_format"] = { s: btoa("NCHW") }),
    /data_format NHWC, has NCHW/,
  ],
  ["a kernel that is computed", (_, node) => (node("conv").input = ["doubled", "x"]), /constant as its kernel/],
  ["a second value", (_, node) => (node("relu").input = ["biased:1"]), /only first values/],
])("%s is refused", async (_, change, message) => {
  const json = structuredClone(smallGraph.json) as unknown as { modelTopology: { node: Node[] } };
  const { node } = json.modelTopology;
  change(node, (name) => node.find((each) => each.name === name)!);
  const refused = loadModel(filesOf(json), { device: cpu });
  await expect(refused).rejects.toThrow(DataError);
  await expect(refused).rejects.toThrow(message);
});
