// Layers that run as one: the same numbers as layer by layer, with fewer dispatches, and only where that holds.
import { describe, expect, test } from "vitest";
import { grad, valueAndGrad } from "../../src/autograd/differentiate.js";
import { square } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { noGrad } from "../../src/autograd/tape.js";
import type { GraphNode } from "../../src/nn/graph.js";
import * as nn from "../../src/nn/index.js";
import type { Model } from "../../src/nn/model.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles } from "../support.js";

type Body = (x: GraphNode) => GraphNode;

const norm = (options = {}) => nn.batchNorm({ epsilon: 0.1, ...options });
const after =
  (...layers: ((x: GraphNode) => GraphNode)[]): Body =>
  (x) =>
    layers.reduce((value, layer) => layer(value), x);

/** A body on [7, 6, 4], how many calls it has, and how many dispatches its prediction takes on WebGPU. */
const bodies: Readonly<Record<string, readonly [body: Body, dispatches: number]>> = {
  "conv, norm": [after(nn.conv2d({ filters: 5, kernelSize: 3 }), norm()), 2],
  "conv without bias, norm, relu": [
    after(nn.conv2d({ filters: 8, kernelSize: 1, useBias: false }), norm(), nn.activation("relu")),
    2,
  ],
  "conv, relu, norm": [after(nn.conv2d({ filters: 8, kernelSize: 1, activation: "relu" }), norm()), 2],
  "conv, tanh": [after(nn.conv2d({ filters: 3, kernelSize: 2 }), nn.activation("tanh")), 1],
  "conv, gelu": [after(nn.conv2d({ filters: 3, kernelSize: 2 }), nn.activation("gelu")), 2],
  "conv, norm, relu, pooling": [
    after(nn.conv2d({ filters: 4, kernelSize: 3 }), norm(), nn.activation("relu"), nn.maxPool2d(2)),
    3,
  ],
  "conv in groups, norm, relu6": [
    after(nn.conv2d({ filters: 6, kernelSize: 3, groups: 2 }), norm(), nn.relu({ maxValue: 6 })),
    2,
  ],
  "padding, conv of stride 2, norm": [
    after(
      nn.zeroPadding2d([
        [0, 1],
        [1, 2],
      ]),
      nn.conv2d({ filters: 4, kernelSize: 3, strides: 2 }),
      norm(),
    ),
    2,
  ],
  "padding, depthwise, norm, relu6": [
    after(nn.zeroPadding2d(1), nn.depthwiseConv2d({ kernelSize: 3, strides: 2 }), norm(), nn.relu({ maxValue: 6 })),
    2,
  ],
  "depthwise with a multiplier, norm, sigmoid": [
    after(nn.depthwiseConv2d({ kernelSize: 2, depthMultiplier: 3 }), norm(), nn.activation("sigmoid")),
    2,
  ],
  "depthwise of 7 x 6, relu": [after(nn.depthwiseConv2d({ kernelSize: [7, 6] }), nn.activation("relu")), 1],
  "separable, norm, relu": [after(nn.separableConv2d({ filters: 5, kernelSize: 3 }), norm(), nn.activation("relu")), 3],
  "dense, norm, relu": [after(nn.dense({ units: 5 }), norm(), nn.relu()), 2],
  "conv, norm, norm": [after(nn.conv2d({ filters: 4, kernelSize: 3 }), norm(), norm()), 3],
  "a value that two use": [
    (x) => {
      const y = nn.conv2d({ filters: 4, kernelSize: 3, padding: "same", useBias: false })(x);
      return nn.add()([norm()(y), y]);
    },
    3,
  ],
};

const shape = [7, 6, 4] as const;

/** Random numbers for every weight; variances above 0. */
function build(device: Device, body: Body): Model {
  const x = nn.input({ shape });
  const random = new RandomStream(3, "weights");
  return nn.model({
    ...{ device, inputs: x, outputs: body(x) },
    weights: (name, { shape }) => {
      const positive = name.endsWith("movingVariance");
      const values = Array.from({ length: sizeOf(shape) }, () => (positive ? 0.1 + random.uniform() : random.normal()));
      return tensor(device, values, { shape: shape as Shape });
    },
  });
}

const pictures = (device: Device) => {
  const random = new RandomStream(4, "pictures");
  return tensor(
    device,
    Float32Array.from({ length: 2 * sizeOf(shape) }, () => random.normal()),
    {
      shape: [2, ...shape],
    },
  );
};

/** Prediction, layer by layer, and the gradient of its sum of squares for the pictures. */
async function figures(device: Device, body: Body, trainable: boolean) {
  using model = build(device, body);
  model.trainable = trainable;
  const x = pictures(device);
  const predicted = await noGrad(() => model.call(x)).data();
  const last = noGrad(() => model.layerOutputs(x)).at(-1)!.output;
  const gradient = await grad((x: Tensor) => sum(square(model.call(x))))(x).data();
  return { predicted, single: await last.data(), gradient };
}

function expectNear(found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number) {
  expect(found.length).toBe(wanted.length);
  const most = Math.max(...Array.from(wanted, Math.abs));
  for (let i = 0; i < wanted.length; i++) {
    expect(Math.abs(found[i]! - wanted[i]!), `element ${i}`).toBeLessThanOrEqual(tolerance * most);
  }
}

describe("in float64", () => {
  test.each(Object.entries(bodies))("%s: as layer by layer", async (_, [body]) => {
    const frozen = await figures(cpu, body, false);
    expectNear(frozen.predicted, frozen.single, 1e-12);
    // Weights with gradients keep the normalisation apart.
    const trained = await figures(cpu, body, true);
    expectNear(frozen.gradient, trained.gradient, 1e-12);
  });
});

describeProfiles((device) => {
  test.each(Object.entries(bodies))("%s: as the reference", async (_, [body]) => {
    const [wanted, found] = [await figures(cpu, body, false), await figures(device(), body, false)];
    expectNear(found.predicted, wanted.single, 1e-5);
    expectNear(found.gradient, wanted.gradient, 1e-5);
    const trained = await figures(device(), body, true);
    expectNear(trained.gradient, wanted.gradient, 1e-5);
  });

  test.each(Object.entries(bodies))("%s: dispatches", async (name, [body, dispatches]) => {
    using model = build(device(), body);
    model.trainable = false;
    const x = pictures(device());
    await x.data();
    const before = device().counters.dispatches;
    await model.call(x).data();
    const taken = device().counters.dispatches - before;
    expect(taken, name).toBe(dispatches);
  });

  test.each(["relu", "relu6", "tanh", "sigmoid"] as const)("norm, %s: one pass while training", async (activation) => {
    const body = after(norm(), nn.activation(activation), nn.globalAvgPool2d());
    const results: ArrayLike<number>[][] = [];
    for (const d of [device(), cpu]) {
      using model = build(d, body);
      const x = pictures(d);
      d.resetCounters();
      const { value, grad: dx } = valueAndGrad((x: Tensor) => sum(square(model.call(x, { training: true }))))(x);
      const computed = [await value.data(), await dx.data()];
      const kernels = [...d.counters.byKernel.keys()];
      expect(kernels).toContain("batchNormGradient");
      expect(kernels.filter((name) => name === activation || name.startsWith("activation"))).toEqual([]);
      const moving = model.weights().find(({ name }) => name.endsWith("movingMean"))!.tensor;
      results.push([...computed, await moving.data()]);
    }
    for (const [i, wanted] of results[1]!.entries()) expectNear(results[0]![i]!, wanted, 1e-5);
  });

  test("weights that change are seen, and training normalises by the batch", async () => {
    using model = build(device(), bodies["conv, norm"]![0]);
    model.trainable = false;
    const x = pictures(device());
    const before = await model.call(x).data();
    const mean = model.weights().find(({ name }) => name.endsWith("movingMean"))!.tensor;
    mean.assign(Float32Array.from(await mean.data(), (value) => value + 1));
    const moved = await model.call(x).data();
    expectNear(moved, await model.layerOutputs(x).at(-1)!.output.data(), 1e-5);
    expect(Array.from(moved)).not.toEqual(Array.from(before));
    model.trainable = true;
    const trained = await noGrad(() => model.call(x, { training: true })).data();
    const outputs = noGrad(() => model.layerOutputs(x, { training: true })).at(-1)!.output;
    expectNear(trained, await outputs.data(), 1e-6);
  });
});

describe("logits", () => {
  const body = after(nn.flatten(), nn.dense({ units: 3 }), nn.activation("sigmoid"));
  test("are those before an activation that would have been fused", async () => {
    using model = build(cpu, body);
    model.trainable = false;
    const x = pictures(cpu);
    const [y, z] = [await model.call(x).data(), await model.logits(x).data()];
    expectNear(
      Array.from(z, (value) => 1 / (1 + Math.exp(-value))),
      y,
      1e-12,
    );
  });

  test("beside the same output's users", async () => {
    const x = nn.input({ shape });
    const z = nn.dense({ units: 3 })(nn.flatten()(x));
    const y = nn.activation("sigmoid")(z);
    using model = nn.model({ device: cpu, seed: 1, inputs: x, outputs: [y, nn.dense({ units: 2 })(y)] });
    model.trainable = false;
    const [logits, other] = model.callAll(pictures(cpu), { logits: [true] });
    const [plain, same] = model.callAll(pictures(cpu));
    expectNear(
      Array.from(await logits!.data(), (value) => 1 / (1 + Math.exp(-value))),
      await plain!.data(),
      1e-12,
    );
    expectNear(await other!.data(), await same!.data(), 1e-12);
  });
});
