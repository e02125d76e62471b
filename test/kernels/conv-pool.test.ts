// Convolution with maximum pooling as one operation: equal to the two operations one after the other, values and
// gradients, in models, too; and it computes only what was asked for.
import { describe, expect, it } from "vitest";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { type Conv2dMaxPool2dOptions, conv2dMaxPool2d } from "../../src/autograd/ops/conv2d-pool.js";
import { maxPool2d } from "../../src/autograd/ops/pool2d.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d as conv2dLayer } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { maxPool2d as maxPool2dLayer } from "../../src/nn/layers/pooling.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose, expectParity, type Input, randomInput } from "../support.js";

const random = new RandomStream(5, "conv-pool test");

interface Case {
  readonly x: Shape;
  readonly kernel: Shape;
  readonly options: Omit<Conv2dMaxPool2dOptions, "bias">;
  readonly bias?: boolean;
}

const half = { pool: { poolSize: 2 } };

const CASES: readonly Case[] = [
  // One input channel, windows of 2 x 2: one kernel. Groups of 4 channels that fill 8 lanes, that do not, and more.
  { x: [5, 28, 28, 1], kernel: [3, 3, 1, 32], options: { activation: "relu", ...half } },
  { x: [3, 28, 28, 1], kernel: [3, 3, 1, 24], options: { activation: "tanh", ...half } },
  { x: [7, 9, 14, 1], kernel: [3, 3, 1, 4], options: half },
  { x: [2, 13, 8, 1], kernel: [2, 3, 1, 72], options: { activation: "sigmoid", ...half }, bias: false },
  { x: [2, 7, 7, 1], kernel: [1, 1, 1, 8], options: { activation: "relu", ...half } },
  { x: [2, 10, 6, 1], kernel: [4, 1, 1, 12], options: { activation: "relu", ...half } },
  { x: [300, 6, 6, 1], kernel: [3, 3, 1, 4], options: { activation: "relu", ...half } },
  // Everything else: cropped; pooling in the transforms, or one after the other.
  { x: [3, 13, 13, 32], kernel: [3, 3, 32, 64], options: { activation: "relu", ...half } },
  // By Winograd on software adapters, in tiles of 2 and of 4.
  { x: [20, 13, 13, 32], kernel: [3, 3, 32, 64], options: { activation: "relu", ...half } },
  { x: [2, 28, 26, 64], kernel: [3, 3, 64, 96], options: { activation: "sigmoid", padding: "same", ...half } },
  { x: [3, 16, 19, 64], kernel: [3, 3, 64, 64], options: half, bias: false },
  { x: [2, 12, 13, 3], kernel: [3, 3, 3, 5], options: { activation: "tanh", padding: "same", ...half } },
  { x: [2, 28, 28, 1], kernel: [3, 3, 1, 8], options: { activation: "relu", padding: "same", ...half } },
  { x: [2, 16, 17, 2], kernel: [3, 2, 2, 4], options: { strides: [1, 2], pool: { poolSize: 3, strides: 2 } } },
  { x: [2, 15, 14, 4], kernel: [3, 3, 4, 4], options: { dilations: 2, pool: { poolSize: [2, 3], strides: 4 } } },
  {
    x: [2, 14, 13, 3],
    kernel: [3, 3, 3, 4],
    options: { activation: "sigmoid", pool: { poolSize: 3, strides: 2, padding: "same" } },
    bias: false,
  },
  {
    x: [2, 14, 14, 1],
    kernel: [3, 3, 1, 4],
    options: {
      padding: [
        [0, 2],
        [1, 0],
      ],
      pool: {
        poolSize: 3,
        strides: 3,
        padding: [
          [1, 0],
          [0, 1],
        ],
      },
    },
  },
];

const inputsOf = ({ x, kernel, bias = true }: Case): Input[] =>
  [x, kernel, ...(bias ? [[kernel[3]!]] : [])].map((shape) => randomInput(random, shape));

const title = ({ x, kernel, options, bias }: Case) =>
  `[${x}] * [${kernel}] ${JSON.stringify(options)}${bias === false ? " without bias" : ""}`;

const fused = ({ options }: Case, x: Tensor, kernel: Tensor, bias: Tensor | undefined) =>
  conv2dMaxPool2d(x, kernel, { ...options, ...(bias && { bias }) });

function unfused({ options }: Case, x: Tensor, kernel: Tensor, bias: Tensor | undefined) {
  const { pool, ...convolution } = options;
  return maxPool2d(conv2d(x, kernel, { ...convolution, ...(bias && { bias }) }), pool);
}

/** Value and the gradients of all inputs, for a random dy. */
async function evaluate(device: Device, apply: typeof fused, test: Case, inputs: readonly Input[]) {
  const leaves = inputs.map(({ values, shape }) => tensor(device, values, { shape }));
  for (const leaf of leaves) leaf.requiresGrad = true;
  const y = scope(() => {
    const output = apply(test, leaves[0]!, leaves[1]!, leaves[2]);
    const dy = randomInput(new RandomStream(output.size, "dy"), output.shape);
    backward(output, { gradient: tensor(device, dy.values, { shape: dy.shape }) });
    return output.alias();
  });
  const results = { shape: y.shape, all: [await y.data()] };
  for (const leaf of leaves) results.all.push(await leaf.grad!.data());
  for (const t of [y, ...leaves]) t.dispose();
  return results;
}

async function expectEqualForms(device: Device, test: Case, inputs: readonly Input[]): Promise<void> {
  const [found, expected] = [
    await evaluate(device, fused, test, inputs),
    await evaluate(device, unfused, test, inputs),
  ];
  expect(found.shape).toEqual(expected.shape);
  found.all.forEach((values, i) => {
    expectClose(values, expected.all[i]!, { rtol: 1e-5, label: i === 0 ? "y" : `gradient ${i}` });
  });
}

const network = (device: Device) =>
  sequential({ device, seed: 3, inputShape: [13, 13, 1] }, [
    conv2dLayer({ filters: 8, kernelSize: 3, activation: "relu" }),
    maxPool2dLayer(2),
    conv2dLayer({ filters: 4, kernelSize: 2, padding: "same", activation: "tanh" }),
    maxPool2dLayer(2),
    conv2dLayer({ filters: 4, kernelSize: 1, activation: "gelu" }),
    maxPool2dLayer(2),
    flatten(),
    dense({ units: 3 }),
  ]);

describeProfiles((device) => {
  for (const test of CASES) {
    it(title(test), async () => {
      const inputs = inputsOf(test);
      // Winograd's tiles of 4 are off by up to 8e-6 of the largest z, which is 110 for 64 channels, before the
      // activation.
      await expectParity(device(), (x, kernel, bias) => fused(test, x!, kernel!, bias), inputs, { forward: 3e-4 });
      await expectEqualForms(device(), test, inputs);
    });
  }

  it("gives the first of equal cells the gradient", async () => {
    const test: Case = { x: [2, 8, 8, 1], kernel: [3, 3, 1, 4], options: half };
    const constant = inputsOf(test).map((input, i) =>
      i === 0 ? { ...input, values: new Float32Array(input.values.length).fill(0.5) } : input,
    );
    await expectEqualForms(device(), test, constant);
    await expectParity(device(), (x, kernel, bias) => fused(test, x!, kernel!, bias), constant);
  });

  it("runs only the kernels that were asked for", async () => {
    const [x, kernel, bias] = inputsOf(CASES[0]!).map(({ values, shape }) => tensor(device(), values, { shape })) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const loss = (x: Tensor, kernel: Tensor, bias: Tensor) => sum(fused(CASES[0]!, x, kernel, bias));
    const kernelsOf = (fn: () => { value: Tensor; grads: readonly Tensor[] }) => {
      device().resetCounters();
      const { value, grads } = fn();
      for (const t of [value, ...grads]) t.dispose();
      return [...device().counters.byKernel.keys()].filter((name) => /conv|pool|activation/i.test(name));
    };
    const inputGradient = ["convPool", "convPoolInputGradient"];
    const weightGradient = ["convPool", "convPoolKernelGradient"];
    expect(kernelsOf(() => valueAndGrad((x: Tensor) => loss(x, kernel, bias))(x))).toEqual(inputGradient);
    expect(kernelsOf(() => valueAndGrad((k: Tensor) => loss(x, k, bias))(kernel))).toEqual(weightGradient);
    expect(kernelsOf(() => valueAndGrad((b: Tensor) => loss(x, kernel, b))(bias))).toEqual(weightGradient);
    device().resetCounters();
    valueAndGrad((k: Tensor, b: Tensor) => loss(x, k, b))(kernel, bias).value.dispose();
    // The sums of runs are added in a second dispatch; on hardware in one each for kernel and bias, where there are
    // many.
    expect(device().counters.byKernel.get("convPoolKernelGradient")).toBe(
      device().profile.family === "hardware" ? 3 : 2,
    );
    await device().sync();
    for (const t of [x, kernel, bias]) t.dispose();
  });

  it("gives equal bits on every run", async () => {
    const inputs = inputsOf(CASES[1]!);
    const results = [1, 2].map(() => evaluate(device(), fused, CASES[1]!, inputs));
    expect(await results[0]).toEqual(await results[1]);
  });

  it("a model's layers give the same one by one", async () => {
    const model = network(device());
    const { values } = randomInput(random, [5, 13, 13, 1]);
    const x = tensor(device(), values, { shape: [5, 13, 13, 1] });
    const outputs = model.layerOutputs(x);
    expect(outputs.map(({ name }) => name)).toEqual(model.layers.map(({ name }) => name));
    const y = model.call(x);
    expectClose(await y.data(), await outputs.at(-1)!.output.data(), { rtol: 1e-6 });
    for (const t of [x, y, ...outputs.map(({ output }) => output)]) t.dispose();
    model.dispose();
  });
});

describe("on the reference", () => {
  it("equals the operations one after the other", async () => {
    for (const test of CASES.filter(({ x }) => x[0]! < 10)) await expectEqualForms(cpu, test, inputsOf(test));
  });

  it("has the gradients that finite differences give", async () => {
    for (const activation of ["linear", "relu", "tanh", "sigmoid"] as const) {
      const test: Case = { x: [2, 7, 6, 1], kernel: [3, 3, 1, 4], options: { activation, ...half } };
      await gradcheck((x, kernel, bias) => sum(fused(test, x!, kernel!, bias)), inputsOf(test));
    }
  });

  it("refuses what its parts refuse", () => {
    const [x, kernel, bias] = [[1, 9, 9, 1], [3, 3, 1, 4], [3]].map((shape) =>
      tensor(cpu, randomInput(random, shape).values, { shape }),
    ) as [Tensor, Tensor, Tensor];
    expect(() => conv2dMaxPool2d(x, kernel, { bias, ...half })).toThrow(/bias must be f32 of shape \[4\]/);
    expect(() => conv2dMaxPool2d(x, kernel, { pool: { poolSize: 8 } })).toThrow(/kernel must fit|window/);
    expect(() => conv2dMaxPool2d(kernel, x, half)).toThrow(/conv2d/);
    for (const t of [x, kernel, bias]) t.dispose();
  });
});
