// Models read from ONNX files: what they are made of, that they predict, train and give input gradients, that no images
// are transposed between convolutions, and what is refused.
import { describe, expect, test } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { mul, pow, square } from "../../../src/autograd/ops/elementwise.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import { transpose } from "../../../src/autograd/ops/transform.js";
import { type Draft, encodeModel as encodeOnnx, type NodeProto } from "../../../src/nn/formats/onnx/proto.js";
import { readOnnx } from "../../../src/nn/formats/onnx/read.js";
import * as nn from "../../../src/nn/index.js";
import { crossEntropy } from "../../../src/nn/losses.js";
import { adam } from "../../../src/nn/optimizers.js";
import { DataError } from "../../../src/tensor/errors.js";
import { type Tensor, tensor } from "../../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../../support.js";
import { type Described, type Dim, draft, file, node, numbersFor, withToken } from "./onnx-graphs.js";
import { onnxCases } from "./onnx-models.js";

/** As PyTorch writes a residual network: images are [N, 3, 8, 8]. */
const residual = (batch: Dim = "N"): Described => ({
  inputs: { x: [batch, 3, 8, 8] },
  nodes: [
    node("Conv", ["x", "w1"], "c1", { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
    node("BatchNormalization", ["c1", "gamma", "beta", "mean", "variance"], "b1", { epsilon: 0.00001 }),
    node("Relu", ["b1"], "r1"),
    node("Conv", ["r1", "w2", "bias2"], "c2", { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
    node("HardSigmoid", ["c2"], "gate", { alpha: 0.25 }),
    node("Mul", ["gate", "scale"], "scaled"),
    node("Add", ["scaled", "r1"], "sum"),
    node("MaxPool", ["sum"], "pooled", { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    node("Conv", ["pooled", "w3"], "c3", { group: 4, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] }),
    node("ReduceMean", ["c3"], "weights", { axes: [2, 3] }),
    node("Mul", ["c3", "weights"], "weighted"),
    node("Conv", ["weighted", "w4"], "c4", { kernel_shape: [1, 1] }),
    node("Reshape", ["c4", "flat"], "rows"),
    node("Gemm", ["rows", "w5", "bias5"], "y", { transB: 1 }),
  ],
  weights: {
    ...{ w1: [4, 3, 3, 3], gamma: [4], beta: [4], mean: [4], variance: [4], w2: [4, 4, 3, 3], bias2: [4] },
    ...{ scale: [4, 1, 1], w3: [4, 1, 3, 3], w4: [6, 4, 1, 1], w5: [5, 24], bias5: [5] },
  },
  ints: { flat: [typeof batch === "number" ? batch : 0, -1] },
  outputs: ["y"],
});

const classesOf = (model: nn.Model) => model.config().layers.map(({ className }) => className);
const quiet = { device: cpu, onMessage: () => undefined };
const images = (count: number) => tensor(cpu, numbersFor("images", [count, 8, 8, 3]), { shape: [count, 8, 8, 3] });

describe("what models are made of", () => {
  test("layers of Kilograd where there are such, in its order of axes", async () => {
    const said: string[] = [];
    const model = await nn.loadModel(file(residual()), { device: cpu, onMessage: (text) => void said.push(text) });
    expect(model.inputShape).toEqual([8, 8, 3]);
    expect(said).toEqual(['input "x" is taken with its channels last, [8,8,3]; the file has [3,8,8]']);
    expect(classesOf(model)).toEqual([
      ...["Conv2D", "BatchNormalization", "Activation", "Conv2D", "OnnxGraph", "OnnxGraph", "Add", "MaxPooling2D"],
      ...["DepthwiseConv2D", "GlobalAveragePooling2D", "Multiply", "Conv2D", "Flatten", "Dense"],
    ]);
    expect(model.summary()).toContain("c1 (Conv2D)");
    // The scale of [4, 1, 1] is a weight of four numbers along the last axis.
    const scale = model.weights().find(({ name }) => name.startsWith("scaled/"))!;
    expect([...scale.tensor.shape]).toEqual([1, 1, 1, 4]);
    expect(scale.trainable).toBe(true);
  });

  test("exporters' patterns", async () => {
    const model = await nn.loadModel(
      file({
        inputs: { x: ["N", 6] },
        nodes: [
          node("MatMul", ["x", "w"], "m"),
          node("Add", ["bias", "m"], "z"),
          node("Constant", [], "root", { value_float: Math.SQRT2 + 1e-9 }),
          node("Constant", [], "half", { value_float: 0.5 }),
          node("Constant", [], "one", { value_float: 1 + 1e-9 }),
          node("Div", ["z", "root"], "d"),
          node("Erf", ["d"], "e"),
          node("Add", ["e", "one"], "p"),
          node("Mul", ["z", "p"], "q"),
          node("Mul", ["q", "half"], "g"),
          node("ReduceMean", ["g"], "mean", { axes: [-1] }),
          node("Sub", ["g", "mean"], "centred"),
          node("Mul", ["centred", "centred"], "power"),
          node("ReduceMean", ["power"], "variance", { axes: [-1] }),
          node("Constant", [], "epsilon", { value_float: 0.00001 }),
          node("Add", ["variance", "epsilon"], "safe"),
          node("Sqrt", ["safe"], "deviation"),
          node("Div", ["centred", "deviation"], "normal"),
          node("Mul", ["normal", "gamma"], "scaled"),
          node("Add", ["scaled", "beta"], "y"),
        ],
        weights: { w: [6, 4], bias: [4], gamma: [4], beta: [4] },
        outputs: ["y"],
      }),
      quiet,
    );
    expect(classesOf(model)).toEqual(["Dense", "Activation", "LayerNormalization"]);
  });

  test("what has no batch in front is one layer; its parts are taken out of it", async () => {
    const model = await nn.loadModel(
      file({
        inputs: { x: ["N", 5, 4] },
        nodes: [
          node("Transpose", ["x"], "time", { perm: [1, 0, 2] }),
          node("MatMul", ["time", "w"], "product"),
          node("Transpose", ["product"], "a", { perm: [1, 0, 2] }),
          node("ReduceSum", ["product", "first"], "b", { keepdims: 0 }),
          node("Add", ["a", "a"], "left"),
          node("Sigmoid", ["b"], "right"),
        ],
        weights: { w: [4, 3] },
        ints: { first: [0] },
        outputs: ["left", "right"],
      }),
      quiet,
    );
    expect(classesOf(model)).toEqual(["OnnxGraph", "OnnxGraph", "OnnxGraph", "Add", "Activation"]);
    const x = tensor(cpu, numbersFor("x", [2, 5, 4]), { shape: [2, 5, 4] });
    const [left, right] = model.callAll([x]);
    const w = numbersFor("w", [4, 3]);
    const values = await x.data();
    const product = (n: number, t: number, k: number) =>
      [0, 1, 2, 3].reduce((total, i) => total + values[(n * 5 + t) * 4 + i]! * w[i * 3 + k]!, 0);
    expect([left!.shape, right!.shape]).toEqual([
      [2, 5, 3],
      [2, 3],
    ]);
    expect((await left!.data())[17]).toBeCloseTo(2 * product(1, 0, 2), 6);
    const total = [0, 1, 2, 3, 4].reduce((each, t) => each + product(1, t, 1), 0);
    expect((await right!.data())[4]).toBeCloseTo(1 / (1 + Math.exp(-total)), 6);
  });

  test("what grows with the batch is computed anew for each", async () => {
    const model = await nn.loadModel(file(withToken(4)), quiet);
    expect(model.weights().map(({ tensor: t }) => [...t.shape])).toEqual([[1, 1, 4]]);
    for (const count of [1, 3]) {
      const x = tensor(cpu, numbersFor("x", [count, 2, 4]), { shape: [count, 2, 4] });
      const y = model.call(x);
      expect(y.shape).toEqual([count, 3, 4]);
      const values = await y.data();
      expect([...values.slice((count - 1) * 12, (count - 1) * 12 + 4)]).toEqual([...numbersFor("token", [1, 1, 4])]);
    }
  });

  test("files for batches of one are models of any", async () => {
    const [any, one] = [await nn.loadModel(file(residual()), quiet), await nn.loadModel(file(residual(1)), quiet)];
    expect(await one.call(images(3)).data()).toEqual(await any.call(images(3)).data());
  });

  test.each(onnxCases.map((each) => [each.title, each] as const))("what Kilograd writes: %s", async (_, each) => {
    const model = each.model(cpu);
    const again = await nn.loadModel(await nn.encodeModel(model, { format: "onnx" }), quiet);
    const inputs = each.inputs(model).map(({ shape, values }) => tensor(cpu, values, { shape }));
    expect(again.inputs.map(({ shape }) => shape)).toEqual(model.inputs.map(({ shape }) => shape));
    const [wanted, found] = [model.callAll(inputs), again.callAll(inputs)];
    expect(found.map(({ shape }) => shape)).toEqual(wanted.map(({ shape }) => shape));
    for (const [i, y] of found.entries()) {
      expectEachClose(await y.data(), await wanted[i]!.data(), { rtol: 1e-5, atol: 1e-5 });
    }
  });
});

describe("models of files", () => {
  test("train, and are saved with all their layers", async () => {
    const model = await nn.loadModel(file(residual()), quiet);
    const labels = Int32Array.of(0, 1, 2, 3, 4, 0);
    const frozen = model.layers.find(({ name }) => name === "b1")!;
    frozen.trainable = false;
    const statistics = () => Promise.all(Object.values(frozen.weights).map((each) => each.data()));
    const [before, kept] = [await model.call(images(6)).data(), await statistics()];
    const { history } = await model.fit(
      { inputs: numbersFor("images", [6, 8, 8, 3]), targets: labels },
      { optimizer: adam({ learningRate: 0.01 }), loss: crossEntropy, epochs: 20, batchSize: 6 },
    );
    const losses = history["loss"]!;
    expect(await statistics()).toEqual(kept);
    expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.2);
    expect(await model.call(images(6)).data()).not.toEqual(before);
    const again = await nn.loadModel(await nn.encodeModel(model), { device: cpu });
    expect(await again.call(images(2)).data()).toEqual(await model.call(images(2)).data());
  });

  describeProfiles((device) => {
    test("predict and give input gradients as the reference, without a transpose", async () => {
      const [model, reference] = await Promise.all(
        [device(), cpu].map((each) => nn.loadModel(file(residual()), { device: each, onMessage: () => undefined })),
      );
      const values = numbersFor("images", [2, 8, 8, 3]);
      const x = tensor(device(), values, { shape: [2, 8, 8, 3] });
      device().resetCounters();
      const y = model!.call(x);
      // Copies move elements to other places, which every transpose does.
      expect([...device().counters.byKernel.keys()].filter((name) => /copy|transpose/i.test(name))).toEqual([]);
      expectEachClose(await y.data(), await reference!.call(images(2)).data(), { rtol: 1e-4, atol: 1e-5 });
      const gradientOf = (each: nn.Model, at: Tensor) => grad((t) => sum(square(each.call(t))))(at).data();
      expectEachClose(await gradientOf(model!, x), await gradientOf(reference!, images(2)), { rtol: 1e-3, atol: 1e-4 });
    });
  });

  test("inputs that nothing takes for images keep their order", async () => {
    const model = await nn.loadModel(
      file({
        inputs: { x: ["N", 2, 3, 4] },
        nodes: [node("Softmax", ["x"], "y", { axis: 1 })],
        outputs: ["y"],
      }),
      quiet,
    );
    expect(model.inputShape).toEqual([2, 3, 4]);
    const x = tensor(cpu, numbersFor("x", [1, 2, 3, 4]), { shape: [1, 2, 3, 4] });
    const y = await transpose(model.call(x), [0, 2, 3, 1]).data();
    expect(y[0]! + y[1]!).toBeCloseTo(1, 6);
  });
});

describe("operators that are not known", () => {
  const described: Described = {
    inputs: { x: ["N", 4] },
    nodes: [node("Relu", ["x"], "a"), node("ScaledBy", ["a", "s"], "b", { power: 2 }), node("Neg", ["b"], "y")],
    outputs: ["y"],
    weights: { s: [4] },
  };

  test("are computed by a layer of that name, whose weights are the constants", async () => {
    nn.defineLayer<{ power: number } & nn.LayerOptions>({
      className: "ScaledBy",
      options: { power: { expected: "a number", accepts: Number.isFinite } },
      required: ["power"],
      make: ({ power }) => ({
        config: { power },
        weights: (shape) => [{ name: "scale", shape: shape.slice(-1) }],
        call: (x, { scale }) => pow(mul(x, scale!), power),
      }),
    });
    const model = await nn.loadModel(file(described), quiet);
    expect(model.layers.map(({ placed }) => placed.layer.className)).toContain("ScaledBy");
    expect(model.countParameters().trainable).toBe(4);
    const scale = numbersFor("s", [4]);
    const y = await model.call(tensor(cpu, [[1, -2, 3, 4]])).data();
    expectEachClose(
      y,
      Float64Array.from([1, 0, 3, 4], (x, k) => -((x * scale[k]!) ** 2)),
      { rtol: 1e-6, atol: 1e-6 },
    );
    const other = { ...described, weights: { s: [2] } };
    await expect(nn.loadModel(file(other), quiet)).rejects.toThrow(
      /constants for the layer's weights, scale \[4\]; has \[2\]/,
    );
  });

  test("are left out where they are to be skipped", async () => {
    const bytes = file({
      ...described,
      nodes: [node("Relu", ["x"], "a"), node("Fft", ["a"], "b"), node("Neg", ["b"], "y")],
    });
    const { config } = await readOnnx(bytes, { skip: ["Fft"] });
    expect(config.layers.map(({ className }) => className)).not.toContain("Fft");
    await expect(readOnnx(bytes, { skip: ["Fft", "Ifft"] })).rejects.toThrow(/has no operator "Ifft"/);
    await expect(readOnnx(bytes)).rejects.toThrow(/operator Fft is not known; define a layer .* --skip Fft/);
  });
});

describe("wrong files", () => {
  const tiny = (nodes: Draft<NodeProto>[], more: Partial<Described> = {}) =>
    nn.loadModel(file({ inputs: { x: ["N", 4] }, nodes, outputs: ["y"], ...more }), quiet);
  const refusal = (loading: Promise<unknown>) =>
    loading.then(
      () => "",
      (error: unknown) => (error instanceof DataError ? error.message : `${error}`),
    );

  test.each<[string, () => Promise<unknown>, string]>([
    ["an unknown operator", () => tiny([node("Fft", ["x"], "y")]), 'node "y" (Fft): the operator Fft is not known'],
    ["a cycle", () => tiny([node("Add", ["x", "y"], "z"), node("Relu", ["z"], "y")]), "the graph is cyclic"],
    ["a missing input", () => tiny([node("Add", ["x", "z"], "y")]), 'node "y" (Add): needs "z", which nothing gives'],
    ["a missing output", () => tiny([node("Relu", ["x"], "z")]), 'output "y" is given by nothing'],
    [
      "a name given twice",
      () => tiny([node("Relu", ["x"], "y"), node("Abs", ["x"], "y")]),
      "which something else gives",
    ],
    [
      "shapes that do not fit",
      () => tiny([node("MatMul", ["x", "w"], "y")], { weights: { w: [3, 2] } }),
      'node "y" (MatMul): matmul: inner sizes must be equal',
    ],
    [
      "open sizes",
      () => tiny([node("Relu", ["x"], "y")], { inputs: { x: ["N", "C"] } }),
      'input "x" must have fixed sizes but for the batch, has [N, C]',
    ],
    [
      "more than fits into memory, announced in a few bytes",
      () => tiny([node("Expand", ["x", "size"], "y")], { ints: { size: [65536, 65536, 1, 4] } }),
      'node "y" (Expand): must give at most',
    ],
    [
      "a constant of two gigabytes, announced in a few bytes",
      () =>
        tiny([node("ConstantOfShape", ["size"], "c"), node("Add", ["x", "c"], "y")], {
          ints: { size: [134217728, 4] },
        }),
      "at most",
    ],
    [
      "a batch that is summed away",
      () => tiny([node("ReduceSum", ["x", "axis"], "y")], { ints: { axis: [0] } }),
      "must have the batch as its first axis",
    ],
    ["no graph", () => nn.loadModel(Uint8Array.of(8, 8, 0x12, 0), quiet), "has no graph"],
  ])("%s", async (_, load, message) => {
    expect(await refusal(load())).toContain(message);
  });

  test.each(["../w.bin", "/etc/passwd", "w.bin"])("external data in %s", async (location) => {
    const described = draft({
      inputs: { x: ["N", 4] },
      nodes: [node("MatMul", ["x", "w"], "y")],
      outputs: ["y"],
    });
    const external = {
      ...{ name: "w", dims: [4, 1], dataType: 1, dataLocation: 1 },
      externalData: [
        { key: "location", value: location },
        { key: "offset", value: "8" },
        { key: "length", value: "16" },
      ],
    };
    const bytes = encodeOnnx({ ...described, graph: { ...described.graph, initializer: [external] } });
    const beside = new Uint8Array(Float32Array.of(9, 9, 1, 2, 3, 4).buffer);
    const loading = nn.loadModel({ "model.onnx": bytes, "w.bin": beside }, quiet);
    if (location !== "w.bin") {
      expect(await refusal(loading)).toContain("must be relative");
      return;
    }
    const y = (await loading).call(tensor(cpu, [[1, 1, 1, 1]]));
    expect(await y.item()).toBe(10);
  });
});
