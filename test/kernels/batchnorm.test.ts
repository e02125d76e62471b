// Batch normalisation: the reference against formulas and finite differences, both profiles against the reference.
import { describe, expect, it } from "vitest";
import { grad, valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { mul, relu, relu6, sigmoid, tanh } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { FUSED_ACTIVATIONS, type FusedActivation } from "../../src/kernels/activation.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose, expectParity, type Input, randomInput } from "../support.js";

const shapes: Shape[] = [
  [1, 1],
  [2, 4],
  [128, 10],
  [7, 3, 5],
  [5, 13, 13, 24],
  [3, 11, 11, 64],
  [2, 9, 7, 6],
  [3, 1, 1, 130],
  [20_003, 4],
  [6_001, 3],
  [4, 40, 40, 32],
  [2, 3, 4, 5, 8],
];

/** Deterministic statistics that differ from every batch's. */
function running(device: Device, channels: number): { runningMean: Tensor; runningVariance: Tensor } {
  const values = (scale: number, offset: number) =>
    Float64Array.from({ length: channels }, (_, c) => offset + scale * Math.sin(c + 1));
  return { runningMean: tensor(device, values(0.5, 0.2)), runningVariance: tensor(device, values(0.4, 1)) };
}

const normalise =
  (training: boolean, activation: FusedActivation = "linear") =>
  (x: Tensor, gamma: Tensor, beta: Tensor): Tensor =>
    batchNorm(x, { gamma, beta, ...running(x.device, gamma.size), training, activation });

function inputs(stream: RandomStream, shape: Shape): Input[] {
  const channels = [shape.at(-1)!];
  return [
    randomInput(stream, shape),
    randomInput(stream, channels, () => 1 + 0.3 * stream.normal()),
    randomInput(stream, channels),
  ];
}

describe("reference", () => {
  const stream = new RandomStream(1, "batchNorm");

  it("normalises by hand and updates the running statistics", async () => {
    const x = tensor(cpu, [
      [1, 10],
      [3, 30],
      [5, 20],
      [7, 20],
    ]);
    const state = { runningMean: tensor(cpu, [0, 100]), runningVariance: tensor(cpu, [1, 2]) };
    const channels = { gamma: tensor(cpu, [2, 1]), beta: tensor(cpu, [0.5, 0]) };
    const y = batchNorm(x, { ...channels, ...state, training: true, momentum: 0.9, epsilon: 0 });
    const [a, b] = [2 / Math.sqrt(5), 1 / Math.sqrt(50)];
    expectClose(await y.data(), [0.5 - 3 * a, -10 * b, 0.5 - a, 10 * b, 0.5 + a, 0, 0.5 + 3 * a, 0], {
      rtol: 1e-14,
      label: "y",
    });
    expectClose(await state.runningMean.data(), [0.4, 92], { rtol: 1e-14, label: "mean" });
    expectClose(await state.runningVariance.data(), [1.4, 6.8], { rtol: 1e-14, label: "variance" });
    const frozen = batchNorm(x, { ...channels, ...state, training: false, epsilon: 0.1 });
    expectClose((await frozen.data()).slice(0, 2), [0.5 + (2 * 0.6) / Math.sqrt(1.5), -82 / Math.sqrt(6.9)], {
      rtol: 1e-14,
      label: "frozen",
    });
    expectClose(await state.runningMean.data(), [0.4, 92], { rtol: 1e-14, label: "mean" });
  });

  it.each([[[4, 3]], [[2, 3, 2]], [[2, 2, 3, 2]]])("passes gradcheck for %j", async (shape) => {
    for (const training of [true, false]) {
      for (const activation of FUSED_ACTIVATIONS) {
        await gradcheck(normalise(training, activation), inputs(stream, shape));
      }
    }
  });

  it.each(FUSED_ACTIVATIONS)(
    "gives with %s what the function after it gives, without gamma or beta as well",
    async (activation) => {
      const given = { x: [16, 3], gamma: [3], beta: [3] };
      const [x, gamma, beta] = Object.values(given).map((shape) => {
        const { values } = randomInput(stream, shape);
        return tensor(cpu, values, { shape });
      }) as [Tensor, Tensor, Tensor];
      const after = activation === "linear" ? (z: Tensor) => z : { relu, relu6, tanh, sigmoid }[activation];
      for (const training of [true, false]) {
        for (const channels of [{ gamma, beta }, { gamma }, { beta }, {}]) {
          const options = () => ({ ...channels, ...running(cpu, 3), training });
          const together = (t: Tensor) => sum(mul(batchNorm(t, { ...options(), activation }), x));
          const apart = (t: Tensor) => sum(mul(after(batchNorm(t, options())), x));
          const [ours, theirs] = [valueAndGrad(together)(x), valueAndGrad(apart)(x)];
          expectClose(await ours.value.data(), await theirs.value.data(), { rtol: 1e-13, label: "value" });
          expectClose(await ours.grad.data(), await theirs.grad.data(), { rtol: 1e-11, label: "gradient" });
        }
      }
    },
  );

  it("refuses parameters of another shape", () => {
    const x = tensor(cpu, new Float32Array(6), { shape: [2, 3] });
    const three = tensor(cpu, [1, 1, 1]);
    const options = { gamma: three, beta: three, runningMean: three, runningVariance: three, training: true };
    const two = tensor(cpu, [1, 1]);
    expect(() => batchNorm(x, { ...options, beta: two })).toThrow(
      "batchNorm: beta must be f32 [3] for x [2, 3], got f32 [2]",
    );
    expect(() => batchNorm(three, options)).toThrow("batchNorm: needs f32 [..., C] of rank 2 or more");
    expect(() => batchNorm(x, { ...options, momentum: 1.5 })).toThrow("momentum must be a finite number from 0 to 1");
  });
});

describeProfiles((device) => {
  const stream = new RandomStream(2, "batchNorm");

  it.each(shapes.map((shape) => [shape]))("%j", async (shape) => {
    for (const training of [true, false]) {
      for (const activation of ["linear", "relu"] as const) {
        const label = `training ${training}, ${activation}`;
        await expectParity(device(), normalise(training, activation), inputs(stream, shape), { label });
      }
    }
  });

  it("agrees on random shapes", async () => {
    for (let i = 0; i < 8; i++) {
      const rank = 2 + stream.integer(3);
      const shape = Array.from({ length: rank }, (_, axis) => 1 + stream.integer(axis === rank - 1 ? 40 : 12));
      const activation = FUSED_ACTIVATIONS[i % FUSED_ACTIVATIONS.length]!;
      await expectParity(device(), normalise(i % 2 === 0, activation), inputs(stream, shape), { label: activation });
    }
  });

  it("is right where the mean is a thousand times the deviation", async () => {
    for (const shape of [
      [9_000, 8],
      [3_000, 5],
    ]) {
      const [, gamma, beta] = inputs(stream, shape);
      const x = randomInput(stream, shape, () => 1000 + stream.normal());
      await expectParity(device(), normalise(true), [x, gamma!, beta!]);
      // An outlier in the first row, where a single shift would be taken from.
      const spoiled = Float32Array.from(x.values);
      spoiled.fill(-50_000, 0, shape[1]);
      await expectParity(device(), normalise(true), [{ ...x, values: spoiled }, gamma!, beta!]);
    }
  });

  it("updates the running statistics in place", async () => {
    const x = randomInput(stream, [500, 12], () => 3 + 2 * stream.normal());
    const results: ArrayLike<number>[][] = [];
    for (const d of [device(), cpu]) {
      const state = running(d, 12);
      const channels = { gamma: tensor(d, new Array(12).fill(1)), beta: tensor(d, new Array(12).fill(0)) };
      const batch = tensor(d, x.values, { shape: x.shape });
      for (let step = 0; step < 3; step++)
        batchNorm(batch, { ...channels, ...state, training: true, momentum: 0.7 }).dispose();
      batchNorm(batch, { ...channels, ...state, training: false }).dispose();
      results.push([await state.runningMean.data(), await state.runningVariance.data()]);
    }
    expectClose(results[0]![0]!, results[1]![0]!, { rtol: 1e-5, label: "mean" });
    expectClose(results[0]![1]!, results[1]![1]!, { rtol: 1e-5, label: "variance" });
  });

  it("computes no sums for the gradient of a frozen layer's input", async () => {
    const d = device();
    const [x, gamma, beta] = inputs(stream, [6, 8]).map(({ values, shape }) => tensor(d, values, { shape })) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    d.resetCounters();
    grad((image: Tensor) => sum(normalise(false)(image, gamma, beta)))(x).dispose();
    const kernels = [...d.counters.byKernel.keys()];
    expect(kernels).toContain("batchNormFrozenGradient");
    expect(kernels).not.toContain("batchNormSums");
  });
});
