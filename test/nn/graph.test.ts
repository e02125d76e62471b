// Models as graphs: branches, several inputs and outputs, shared layers, merging layers, models within models. Also,
// what is fused, stored and refused. merging.json and the orders and tables here are Keras 3.15.1's.
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type GradcheckInput, gradcheck } from "../../src/autograd/gradcheck.js";
import { conv2d as conv2dOp } from "../../src/autograd/ops/conv2d.js";
import { add as addOp, mul, relu } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { reshape as reshapeOp } from "../../src/autograd/ops/transform.js";
import { backward, noGrad } from "../../src/autograd/tape.js";
import { architecture, compose, type ModelConfig, model, sequential } from "../../src/nn/architecture.js";
import { loadModel, saveModel } from "../../src/nn/checkpoint.js";
import { architectureFromConfig, fromConfig } from "../../src/nn/from-config.js";
import { type GraphNode, input } from "../../src/nn/graph.js";
import type { CallableLayer } from "../../src/nn/layer.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { add, average, concatenate, maximum, multiply } from "../../src/nn/layers/merging.js";
import { globalAvgPool2d, maxPool2d } from "../../src/nn/layers/pooling.js";
import { layerFromConfig } from "../../src/nn/layers/registry.js";
import { binaryCrossEntropyFromLogits, crossEntropy, crossEntropyFromProbabilities } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";
import { describeDevices, stripes, weightsOf } from "./small.js";

interface Stored {
  readonly shape: number[];
  readonly values: number[];
}
const golden = JSON.parse(readFileSync(new URL("merging.json", import.meta.url), "utf8")) as {
  cases: { layer: string; what: string; config: Record<string, unknown>; inputs: Stored[]; output: Stored }[];
};

const values = (t: Tensor) => t.data().then((data) => Array.from(data));
const noise = (shape: number[], name = "noise"): GradcheckInput => {
  const random = new RandomStream(7, name);
  const size = shape.reduce((product, n) => product * n, 1);
  return { shape, values: Float64Array.from({ length: size }, () => random.normal()) };
};

/** A block with a shortcut, and a second branch that shares the first convolution. */
function residual(): { inputs: GraphNode; outputs: GraphNode } {
  const same = { kernelSize: 3, padding: "same" } as const;
  const x = input({ shape: [6, 6, 1], name: "image" });
  const stem = conv2d({ filters: 4, ...same, activation: "relu" })(x);
  const branch = conv2d({ filters: 4, ...same })(stem);
  const joined = activation("relu")(add()([branch, stem]));
  const pooled = globalAvgPool2d()(joined);
  return { inputs: x, outputs: dense({ units: 4, activation: "softmax" })(pooled) };
}

/** A model whose only layer has several inputs. */
function merger(layer: CallableLayer, shapes: readonly (readonly number[])[], device: Device): Model {
  const inputs = shapes.map((shape) => input({ shape }));
  return model({ device, inputs, outputs: layer(inputs) });
}

describeDevices((device, kind) => {
  test.each(golden.cases)("$layer of $what is Keras's", async ({ layer, config, inputs, output }) => {
    const made = layerFromConfig(layer, config) as CallableLayer;
    const merged = merger(
      made,
      inputs.map(({ shape }) => shape.slice(1)),
      device(),
    );
    const tensors = inputs.map((x) => tensor(device(), x.values, { shape: x.shape }));
    const y = noGrad(() => merged.call(tensors));
    expect(y.shape).toEqual(output.shape);
    expect(merged.outputShape).toEqual(output.shape.slice(1));
    expectClose(await values(y), output.values, { rtol: 1e-5 });
    for (const t of [y, ...tensors]) t.dispose();
  });

  test.each(golden.cases)("gradients of $layer of $what", async ({ layer, config, inputs }) => {
    const made = layerFromConfig(layer, config) as CallableLayer;
    const shapes = inputs.map(({ shape }) => shape.slice(1));
    await gradcheck(
      (...tensors) => merger(made, shapes, tensors[0]!.device).call(tensors),
      inputs.map((x) => ({ shape: x.shape, values: x.values })),
      kind === "cpu" ? {} : { against: device() },
    );
  });

  test("a block with a shortcut is its operations", async () => {
    const net = model({ device: device(), seed: 3, ...residual() });
    const x = tensor(device(), stripes(3).inputs, { shape: [3, 6, 6, 1] });
    const [k1, b1, k2, b2, w, b] = net.weights().map(({ tensor: weight }) => weight);
    const [found, expected] = noGrad(() =>
      scope(() => {
        const stem = relu(conv2dOp(x, k1!, { bias: b1!, padding: "same" }));
        const joined = relu(addOp(conv2dOp(stem, k2!, { bias: b2!, padding: "same" }), stem));
        const pooled = mul(sum(joined, { axes: [1, 2] }), 1 / 36);
        return [net.logits(x), matmul(pooled, w!, { bias: b! })];
      }),
    );
    expectClose(await values(found!), await values(expected!), { rtol: 1e-5 });
    for (const t of [x, found!, expected!]) t.dispose();
    net.dispose();
  });

  test("a graph learns by fit, and replayed steps have the bits of eager ones", async () => {
    const trained = async (runEagerly: boolean) => {
      const net = model({ device: device(), seed: 3, ...residual() });
      const options = { optimizer: adam({ learningRate: 0.02 }), loss: crossEntropy, epochs: 4, runEagerly };
      const { history } = await net.fit(stripes(256), { ...options, batchSize: 32, validationData: stripes(64, 2) });
      const weights = await weightsOf(net);
      net.dispose();
      return { weights, losses: history["loss"]! };
    };
    const replayed = await trained(false);
    expect(replayed.losses.at(-1)).toBeLessThan(0.95 * replayed.losses[0]!);
    if (kind === "webgpu") expect((await trained(true)).weights).toEqual(replayed.weights);
  });

  test("a shared layer has one set of weights, whose gradient is the sum over its calls", async () => {
    const [a, b] = [input({ shape: [3], name: "a" }), input({ shape: [3], name: "b" })];
    const shared = dense({ units: 2, name: "shared" });
    const net = model({ device: device(), inputs: [a, b], outputs: add()([shared(a), shared(b)]) });
    expect(net.weights().map(({ name }) => name)).toEqual(["shared/kernel", "shared/bias"]);
    expect(net.countParameters().total).toBe(8);
    const [x, y] = [tensor(device(), [[1, 2, 3]]), tensor(device(), [[10, 20, 30]])];
    scope(() => backward(sum(net.call([x, y]))));
    const [kernel, bias] = net.weights().map(({ tensor: weight }) => weight);
    expect(await values(kernel!.grad!)).toEqual([11, 11, 22, 22, 33, 33]);
    expect(await values(bias!.grad!)).toEqual([2, 2]);
    for (const t of [x, y]) t.dispose();
    net.dispose();
  });

  test("dropout that is called twice drops other elements in each call, the same ones in the same step", async () => {
    const x = input({ shape: [64] });
    const drop = dropout(0.5);
    const net = model({ device: device(), seed: 1, inputs: x, outputs: [drop(x), drop(x)] });
    const ones = tensor(device(), new Float32Array(64).fill(1), { shape: [1, 64] });
    const at = async (step: number) => {
      const outputs = net.callAll(ones, { training: true, step });
      return Promise.all(outputs.map(values));
    };
    const [first, second] = await at(3);
    expect(first).not.toEqual(second);
    expect(await at(3)).toEqual([first, second]);
    // One call draws what it draws in a chain.
    const chain = sequential({ device: device(), seed: 1, inputShape: [64] }, [dropout(0.5)]);
    expect(await values(chain.call(ones, { training: true, step: 3 }))).toEqual(first);
    ones.dispose();
  });

  test("several outputs", async () => {
    const x = input({ shape: [3] });
    const hidden = dense({ units: 2, activation: "tanh" })(x);
    const net = model({ device: device(), inputs: x, outputs: [hidden, dense({ units: 1 })(hidden)], name: "two" });
    expect(net.outputShapes).toEqual([[2], [1]]);
    const ones = tensor(device(), [[1, 1, 1]]);
    const outputs = net.callAll(ones);
    expect(outputs.map(({ shape }) => shape)).toEqual([
      [1, 2],
      [1, 1],
    ]);
    expect(() => net.call(ones)).toThrow("two: call is for models of one output, this has 2; use callAll");
    for (const t of [ones, ...outputs]) t.dispose();
    net.dispose();
  });

  test("a model within another up to a layer", async () => {
    const wide = dense({ units: 4, activation: "tanh", name: "wide" });
    const x = input({ shape: [3] });
    const outputs = [dense({ units: 2, name: "a" })(wide(x)), dense({ units: 1, name: "b" })(wide(x))];
    const given = model({ device: device(), seed: 1, inputs: x, outputs, name: "given" });
    const y = input({ shape: [3] });
    const net = model({ device: device(), inputs: y, outputs: given.apply(y, { until: "wide", name: "from" }) });
    expect(net.weights().map(({ name }) => name)).toEqual(["from/wide/kernel", "from/wide/bias"]);
    const ones = tensor(device(), [[1, 2, 3]]);
    const all = given.layerOutputs(ones);
    const expected = all.filter(({ name }) => name === "wide").at(-1)!.output;
    expect(await values(net.call(ones))).toEqual(await values(expected));
    for (const { output } of all) if (output !== expected) output.dispose();
    expect(() => given.apply(y, { until: "narrow" })).toThrow(/given: .*narrow/);
    expect(() => given.apply(y)).toThrow("apply is for models of one output");
    for (const each of [ones, net, given]) each.dispose();
  });

  test("a model within another shares its weights", async () => {
    const encoder = sequential({ device: device(), seed: 1, inputShape: [3], name: "encoder" }, [dense({ units: 2 })]);
    const [a, b] = [input({ shape: [3] }), input({ shape: [3] })];
    const net = model({
      device: device(),
      inputs: [a, b],
      outputs: concatenate()([encoder.apply(a), encoder.apply(b)]),
    });
    expect(net.weights().map(({ name }) => name)).toEqual(["encoder/dense/kernel", "encoder/dense/bias"]);
    expect(net.weights()[0]!.tensor).toBe(encoder.weights()[0]!.tensor);
    const [x, y] = [tensor(device(), [[1, 2, 3]]), tensor(device(), [[4, 5, 6]])];
    const parts = [...(await values(encoder.call(x))), ...(await values(encoder.call(y)))];
    expect(await values(net.call([x, y]))).toEqual(parts);
    encoder.trainable = false;
    expect(net.parameters()).toEqual([]);
    const chained = compose([
      encoder,
      sequential({ device: device(), inputShape: [2], name: "top" }, [dense({ units: 1 })]),
    ]);
    expect(chained.config().className).toBe("Sequential");
    expect(chained.layers.map(({ name, trainable }) => [name, trainable])).toEqual([
      ["encoder/dense", false],
      ["top/dense", true],
    ]);
    net.dispose();
  });

  test("a convolution and its pooling are one where nothing else uses what is between them", async () => {
    const build = (branching: boolean) => {
      const x = input({ shape: [8, 8, 4] });
      const before = conv2d({ filters: 4, kernelSize: 3, padding: "same", activation: "relu" })(x);
      const pooled = globalAvgPool2d()(maxPool2d(2)(before));
      const outputs = branching ? add()([pooled, globalAvgPool2d()(before)]) : add()([pooled, globalAvgPool2d()(x)]);
      return model({ device: device(), seed: 5, inputs: x, outputs });
    };
    const { shape, values: pixels } = noise([2, 8, 8, 4]) as Stored;
    const images = tensor(device(), pixels, { shape });
    for (const branching of [false, true]) {
      const net = build(branching);
      device().resetCounters();
      const found = noGrad(() => net.call(images));
      const kernels = device().counters.byKernel;
      expect([...kernels.keys()].some((name) => name.startsWith("convPool"))).toBe(!branching);
      const unfused = noGrad(() => net.layerOutputs(images)).at(-1)!.output;
      expectClose(await values(found), await values(unfused), { rtol: 1e-6 });
    }
    images.dispose();
  });
});

test("layers come in Keras's order, and get their names in the order of their calls", () => {
  const x = input({ shape: [8, 8, 3], name: "image" });
  const c = conv2d({ filters: 3, kernelSize: 3, padding: "same", activation: "relu" })(x);
  const d = conv2d({ filters: 3, kernelSize: 3, padding: "same" })(c);
  const shortcut = conv2d({ filters: 3, kernelSize: 1 })(x);
  const flat = flatten()(add()([add()([d, shortcut]), c]));
  const shared = dense({ units: 4 });
  const once = shared(flat);
  const twice = shared(dense({ units: 192, name: "back" })(once));
  const net = architecture({ inputs: x, outputs: concatenate()([once, twice]), name: "net" });
  expect(net.layers.map(({ name }) => name)).toEqual([
    "conv2d",
    "conv2d_1",
    "conv2d_2",
    "add",
    "add_1",
    "flatten",
    "dense",
    "back",
    "concatenate",
  ]);
  expect(net.calls.map(({ layer, repeat }) => [net.layers[layer]!.name, repeat]).slice(-4)).toEqual([
    ["dense", 0],
    ["back", 0],
    ["dense", 1],
    ["concatenate", 0],
  ]);
  expect(net.summary()).toBe(`Model: "net"
┏━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┓
┃ Layer (type)        ┃ Output Shape      ┃    Param # ┃ Connected to      ┃
┡━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━┩
│ image (InputLayer)  │ (None, 8, 8, 3)   │          0 │ -                 │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ conv2d (Conv2D)     │ (None, 8, 8, 3)   │         84 │ image[0][0]       │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ conv2d_1 (Conv2D)   │ (None, 8, 8, 3)   │         84 │ conv2d[0][0]      │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ conv2d_2 (Conv2D)   │ (None, 8, 8, 3)   │         12 │ image[0][0]       │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ add (Add)           │ (None, 8, 8, 3)   │          0 │ conv2d_1[0][0],   │
│                     │                   │            │ conv2d_2[0][0]    │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ add_1 (Add)         │ (None, 8, 8, 3)   │          0 │ add[0][0],        │
│                     │                   │            │ conv2d[0][0]      │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ flatten (Flatten)   │ (None, 192)       │          0 │ add_1[0][0]       │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ dense (Dense)       │ (None, 4)         │        772 │ flatten[0][0],    │
│                     │                   │            │ back[0][0]        │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ back (Dense)        │ (None, 192)       │        960 │ dense[0][0]       │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ concatenate         │ (None, 8)         │          0 │ dense[0][0],      │
│ (Concatenate)       │                   │            │ dense[1][0]       │
└─────────────────────┴───────────────────┴────────────┴───────────────────┘
 Total params: 1,912 (7.47 KB)
 Trainable params: 1,912 (7.47 KB)
 Non-trainable params: 0 (0.00 B)`);
  // A shared layer computes twice.
  expect(net.multiplyAdds()).toBe(64 * (81 + 81 + 9) + 2 * 192 * 4 + 4 * 192);
});

test("a graph survives JSON and files, and goes on training to the same bits", async () => {
  const folder = await mkdtemp(join(tmpdir(), "kilograd-graph-"));
  try {
    const net = model({ device: cpu, seed: 9, ...residual(), name: "small" });
    const config = JSON.parse(JSON.stringify(net.config())) as ModelConfig;
    expect(architectureFromConfig(config).config()).toEqual(net.config());
    expect(await weightsOf(fromConfig(config, { device: cpu, seed: 9 }))).toEqual(await weightsOf(net));
    const [path, checkpoint] = [join(folder, "net.safetensors"), join(folder, "checkpoint.safetensors")];
    await saveModel(path, net);
    const loaded = await loadModel(path, { device: cpu });
    expect(loaded.config()).toEqual(net.config());
    expect(await weightsOf(loaded)).toEqual(await weightsOf(net));
    const training = () => ({ optimizer: adam(), loss: crossEntropy, batchSize: 8, epochs: 2 });
    await net.fit(stripes(16), training());
    await loaded.fit(stripes(16), { ...training(), maxSteps: 3, checkpoint: { path: checkpoint } });
    const resumed = fromConfig(config, { device: cpu, seed: 9 });
    await resumed.fit(stripes(16), { ...training(), resume: checkpoint });
    expect(await weightsOf(resumed)).toEqual(await weightsOf(net));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a chain that is written as a graph is a chain", () => {
  const x = input({ shape: [6, 6, 1] });
  const chained = architecture({ inputs: x, outputs: dense({ units: 4 })(flatten()(x)), name: "chain" });
  const listed = architecture({ inputShape: [6, 6, 1], name: "chain" }, [flatten(), dense({ units: 4 })]);
  expect(chained.config()).toEqual(listed.config());
  expect(chained.summary()).toBe(listed.summary());
});

test("a list makes two layers of a description that stands in it twice", () => {
  const same = dense({ units: 3 });
  expect(architecture({ inputShape: [3] }, [same, same]).countParameters().total).toBe(24);
});

test("a model of a thousand layers", () => {
  let node = input({ shape: [2] });
  const inputs = node;
  for (let i = 0; i < 1000; i++) node = add()([dense({ units: 2 })(node), node]);
  expect(architecture({ inputs, outputs: node }).countParameters().total).toBe(6000);
});

test("losses of classes see the softmax of a branch, and refuse a mean of softmaxes", async () => {
  const x = input({ shape: [4] });
  const [one, two] = [0, 1].map(() => dense({ units: 3, activation: "softmax" })(x));
  const data = { inputs: new Float32Array(8), targets: Int32Array.of(0, 1) };
  const mixed = model({ device: cpu, inputs: x, outputs: average()([one!, two!]) });
  expect(mixed.finalActivation).toBe("softmax");
  await expect(mixed.evaluate(data, { loss: crossEntropy })).rejects.toThrow(
    'layer "dense" applies softmax and "average" makes other values of it; use loss.crossEntropyFromProbabilities',
  );
  const found = await mixed.evaluate(data, { loss: crossEntropyFromProbabilities });
  expect(found.loss).toBeCloseTo(Math.log(3), 5);
  const flat = model({ device: cpu, inputs: x, outputs: flatten()(one!) });
  expect((await flat.evaluate(data, { loss: crossEntropy })).loss).toBeCloseTo(Math.log(3), 5);
  const gated = model({
    device: cpu,
    inputs: x,
    outputs: multiply()([one!, dense({ units: 3, activation: "sigmoid" })(x)]),
  });
  await expect(gated.fit(data, { optimizer: sgd(), loss: binaryCrossEntropyFromLogits })).rejects.toThrow(UsageError);
});

test.each<[string, () => unknown, new (...args: never[]) => Error, string]>([
  [
    "an input that is not among the inputs",
    () => {
      const [a, b] = [input({ shape: [2] }), input({ shape: [2], name: "mask" })];
      return architecture({ inputs: a, outputs: add()([a, b]) });
    },
    UsageError,
    'functional: an output depends on an input [2] "mask" that is not among inputs; add it',
  ],
  [
    "no layer at all",
    () => {
      const a = input({ shape: [2] });
      return architecture({ inputs: a, outputs: a });
    },
    UsageError,
    "needs at least one layer",
  ],
  [
    "a tensor",
    () => dense({ units: 2 })(tensor(cpu, [[1, 2]]) as never),
    UsageError,
    "Dense: its input must be a node",
  ],
  ["nothing", () => add()([]), UsageError, "Add: its input must be at least one node, got none"],
  [
    "two inputs for one",
    () => dense({ units: 2 })([input({ shape: [2] }), input({ shape: [2] })]),
    ShapeError,
    "Dense: takes one input, got 2: [2], [2]",
  ],
  [
    "shapes that do not fit",
    () => maximum()([input({ shape: [2, 3] }), input({ shape: [2, 4] })]),
    ShapeError,
    "Maximum: needs inputs of one shape, or with sizes of 1, got [2, 3], [2, 4]",
  ],
  [
    "other sizes side by side",
    () => concatenate()([input({ shape: [2, 3] }), input({ shape: [3, 3] })]),
    ShapeError,
    "Concatenate: needs inputs that agree in every axis but -1, got [2, 3], [3, 3]",
  ],
  [
    "the batch axis",
    () => concatenate({ axis: 0 })([input({ shape: [2] }), input({ shape: [2] })]),
    ShapeError,
    "from 1 to 1 or -1 to -1, got 0",
  ],
  [
    "a shared layer of two sizes",
    () => {
      const [a, b] = [input({ shape: [2] }), input({ shape: [3] })];
      const shared = dense({ units: 2 });
      return architecture({ inputs: [a, b], outputs: add()([shared(a), shared(b)]) });
    },
    ShapeError,
    'layer "dense": is called on inputs of several shapes, for which its kernel would be [2, 2] and [3, 2]; use two layers',
  ],
  [
    "two inputs of one name",
    () => {
      const [a, b] = [0, 1].map(() => input({ shape: [2], name: "same" }));
      return architecture({ inputs: [a!, b!], outputs: add()([a!, b!]) });
    },
    UsageError,
    'two inputs have the name "same"; rename one of them',
  ],
  [
    "one shape of two",
    () => {
      const [a, b] = [0, 1].map(() => input({ shape: [2] }));
      return model({ device: cpu, inputs: [a!, b!], outputs: add()([a!, b!]) }).inputShape;
    },
    UsageError,
    "has 2 inputs (input, input_1), not one inputShape; use model.inputs",
  ],
  [
    "too few inputs",
    () => merger(add(), [[2], [2]], cpu).call(tensor(cpu, [[1, 2]])),
    ShapeError,
    "needs 2 inputs (input, input_1), got 1",
  ],
  [
    "other numbers of samples",
    () => merger(add(), [[1], [1]], cpu).call([tensor(cpu, [[1]]), tensor(cpu, [[1], [2]])]),
    ShapeError,
    'needs as many samples for every input, got 1 for "input" and 2 for "input_1"',
  ],
  [
    "a call of an unknown layer in a file",
    () => {
      const config = model({ device: cpu, ...residual() }).config();
      return architectureFromConfig({ ...config, calls: [{ layer: "nobody", inputs: [0] }] } as never);
    },
    UsageError,
    'calls[0] must name a layer of functional, names "nobody"',
  ],
  [
    "a value before it is there in a file",
    () => {
      const config = model({ device: cpu, ...residual() }).config();
      return architectureFromConfig({ ...config, calls: [{ layer: "conv2d", inputs: [3] }] } as never);
    },
    UsageError,
    "calls[0]: a value must be a whole number in [0, 1), got 3",
  ],
])("refuses %s", (_, act, type, message) => {
  expect(act).toThrow(type);
  expect(act).toThrow(message);
});

test("what stands between inputs and outputs may begin within another graph", async () => {
  const x = input({ shape: [3] });
  const code = dense({ units: 2, name: "code" })(x);
  const y = dense({ units: 3, name: "answer" })(code);
  const decoder = architecture({ inputs: code, outputs: y });
  expect(decoder.layers.map(({ name }) => name)).toEqual(["answer"]);
  expect(decoder.inputShape).toEqual([2]);
});

test("batch normalisation and reshaping in branches keep their rules", async () => {
  const x = input({ shape: [2, 2, 3] });
  const normal = batchNorm({ momentum: 0.5 })(x);
  const net = model({ device: cpu, inputs: x, outputs: concatenate({ axis: 3 })([normal, x]) });
  const images = tensor(
    cpu,
    Float64Array.from({ length: 24 }, (_, i) => i),
    { shape: [2, 2, 2, 3] },
  );
  net.call(images, { training: true });
  const moving = net.weights().find(({ name }) => name.endsWith("movingMean"))!;
  expect(await values(moving.tensor)).toEqual([5.25, 5.75, 6.25]);
  expect(reshapeOp(net.call(images), [48]).size).toBe(48);
});
