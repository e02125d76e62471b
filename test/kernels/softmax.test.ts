// Softmax and cross-entropy: the reference against formulas and finite differences, both profiles against the
// reference.
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { onesLike } from "../../src/autograd/ops/create.js";
import { logSoftmax, softmax, softmaxCrossEntropy } from "../../src/autograd/ops/softmax.js";
import { backward } from "../../src/autograd/tape.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import {
  cpu,
  describeProfiles,
  expectClose,
  expectParity,
  type Input,
  randomInput,
  randomIntegers,
} from "../support.js";

const cases: [Shape, number][] = [
  [[1], 0],
  [[5], -1],
  [[128, 10], -1],
  [[33, 7], 0],
  [[3, 1000], 1],
  [[70, 64], 1],
  [[2, 63], -1],
  [[1, 4099], -1],
  [[4, 5, 6], 1],
  [[2, 100, 3, 4], 1],
  [[900, 2], 1],
];

const batches: [number, number][] = [
  [1, 1],
  [128, 10],
  [37, 3],
  [5, 64],
  [9, 1001],
  [300, 100],
];

const perSample = (logits: Tensor, targets: Tensor) => softmaxCrossEntropy(logits, targets);
const batchSum = (logits: Tensor, targets: Tensor) => softmaxCrossEntropy(logits, targets, { reduction: "sum" });
const batchMean = (logits: Tensor, targets: Tensor) => softmaxCrossEntropy(logits, targets, { reduction: "mean" });

/** Non-negative rows that sum to 1. */
function distributions(stream: RandomStream, [rows, classes]: readonly [number, number]): Input {
  const values = new Float32Array(rows * classes);
  for (let row = 0; row < rows; row++) {
    const parts = Array.from({ length: classes }, () => stream.uniform());
    const total = parts.reduce((a, b) => a + b, 0);
    values.set(
      parts.map((part) => part / total),
      row * classes,
    );
  }
  return { shape: [rows, classes], values, dtype: "f32" };
}

describe("reference", () => {
  const stream = new RandomStream(1, "softmax");

  it("is exp(x) / sum(exp(x))", async () => {
    const { values, shape } = randomInput(stream, [3, 5]);
    const x = tensor(cpu, values, { shape });
    const expected: number[] = [];
    for (let row = 0; row < 3; row++) {
      const powers = Array.from({ length: 5 }, (_, j) => Math.exp(values[row * 5 + j]!));
      expected.push(...powers.map((power) => power / powers.reduce((a, b) => a + b, 0)));
    }
    expectClose(await softmax(x).data(), expected, { rtol: 1e-14, label: "softmax" });
    expectClose(await logSoftmax(x).data(), expected.map(Math.log), { rtol: 1e-14, label: "logSoftmax" });
    const ids = [4, 0, 2];
    const losses = ids.map((id, row) => -Math.log(expected[row * 5 + id]!));
    expectClose(await softmaxCrossEntropy(x, tensor(cpu, ids, { dtype: "i32" })).data(), losses, {
      rtol: 1e-14,
      label: "ids",
    });
    const oneHot = tensor(
      cpu,
      ids.map((id) => Array.from({ length: 5 }, (_, j) => Number(j === id))),
    );
    expectClose(await softmaxCrossEntropy(x, oneHot).data(), losses, { rtol: 1e-14, label: "one-hot" });
  });

  it("passes gradcheck", async () => {
    for (const [shape, axis] of [
      [[6], 0],
      [[3, 4], 1],
      [[2, 3, 4], 1],
    ] as const) {
      await gradcheck((x) => softmax(x, axis), [randomInput(stream, shape)]);
      await gradcheck((x) => logSoftmax(x, axis), [randomInput(stream, shape)]);
    }
    const logits = randomInput(stream, [3, 5]);
    for (const loss of [perSample, batchMean, batchSum]) {
      await gradcheck((x) => loss(x, tensor(x.device, [4, 0, 2], { dtype: "u32" })), [logits]);
      // Both inputs; the second need not sum to 1 for the formula to hold.
      await gradcheck(loss, [logits, distributions(stream, [3, 5])]);
      await gradcheck(loss, [logits, randomInput(stream, [3, 5])]);
    }
  });

  it("has as its sum the sum of the samples", async () => {
    const x = tensor(cpu, [
      [1, 2],
      [3, 4],
    ]);
    const total = batchSum(x, tensor(cpu, Int32Array.of(0, 1)));
    expect(total.shape).toEqual([]);
    expect(await total.item()).toBeCloseTo(1.6265233, 6); // PyTorch
    const none = tensor(cpu, new Float32Array(0), { shape: [0, 5] });
    expect(await batchSum(none, tensor(cpu, new Int32Array(0))).item()).toBe(0);
  });

  it("has as its mean the mean of the samples", async () => {
    const { values, shape } = randomInput(stream, [7, 5]);
    const [x, ids] = [tensor(cpu, values, { shape }), tensor(cpu, [4, 0, 2, 1, 3, 0, 0], { dtype: "i32" })];
    const losses = await perSample(x, ids).data();
    const mean = batchMean(x, ids);
    expect(mean.shape).toEqual([]);
    expect(await mean.item()).toBeCloseTo(Array.from(losses).reduce((a, b) => a + b) / 7, 14);
    const none = tensor(cpu, new Float32Array(0), { shape: [0, 5] });
    expect(() => batchMean(none, tensor(cpu, new Int32Array(0)))).toThrow("the mean needs at least one sample");
  });

  it("refuses targets of another shape or type", () => {
    const logits = tensor(cpu, new Float32Array(6), { shape: [2, 3] });
    for (const targets of [
      tensor(cpu, [0, 1]),
      tensor(cpu, [0, 1, 2], { dtype: "i32" }),
      tensor(cpu, new Int32Array(6), { shape: [2, 3] }),
    ]) {
      expect(() => softmaxCrossEntropy(logits, targets)).toThrow("softmaxCrossEntropy: needs f32 logits [N, C]");
    }
    expect(() => softmax(logits, 2)).toThrow("softmax: axis must be an integer in [-2, 1]");
    expect(() => softmax(tensor(cpu, 3))).toThrow("softmax: needs an f32 tensor of rank 1");
  });
});

/** Values and gradients of rows with special values, as PyTorch has them, at the beginning and the end of `classes`. */
async function checkSpecialValues(device: Device, classes: number): Promise<void> {
  const [N, I] = [Number.NaN, Number.POSITIVE_INFINITY];
  const filled = (row: readonly number[]) => [...row, ...new Array<number>(classes - row.length).fill(-I)];
  const evaluate = async (fn: (x: Tensor) => Tensor, row: readonly number[]) => {
    const x = tensor(device, [filled(row)]);
    x.requiresGrad = true;
    const y = fn(x);
    backward(y, { gradient: onesLike(y) });
    const [value, gradient] = [Array.from(await y.data()), Array.from(await x.grad!.data())];
    return { value, gradient };
  };
  const loss = (id: number) => (x: Tensor) => softmaxCrossEntropy(x, tensor(device, Int32Array.of(id)));
  const all = new Array<number>(classes).fill(N);
  for (const row of [
    [1, N, 3],
    [1, I, 3],
    [I, I, 1],
    [-I, -I, -I],
    [N, -I, -I],
  ]) {
    const label = `${row} of ${classes}`;
    for (const operation of [softmax, logSoftmax]) {
      expect(await evaluate((x) => operation(x), row), label).toEqual({ value: all, gradient: all });
    }
    for (const id of [0, 1, classes, -1]) {
      expect(await evaluate(loss(id), row), label).toEqual({ value: [N], gradient: all });
    }
  }
  const { value, gradient } = await evaluate(loss(1), [-I, 1, 2]);
  expectClose(value, [1.31326162], { rtol: 1e-6, label: "-Infinity beside the target" });
  const expected = filled([0, -0.7310586, 0.7310586]).map((g) => (g === -I ? 0 : g));
  expectClose(gradient, expected, { rtol: 1e-6, label: "its gradient" });
  expect((await evaluate(loss(0), [-I, 1, 2])).value).toEqual([I]);
}

it.each([3, 100])("the reference has PyTorch's values for special ones among %i classes", (n) =>
  checkSpecialValues(cpu, n),
);

describeProfiles((device) => {
  const stream = new RandomStream(2, "softmax");

  it.each([3, 100])("has PyTorch's values for special ones among %i classes", (n) => checkSpecialValues(device(), n));

  it.each(cases)("%j along %i", async (shape, axis) => {
    for (const [label, operation] of Object.entries({ softmax, logSoftmax })) {
      await expectParity(device(), (x) => operation(x, axis), [randomInput(stream, shape)], { label });
    }
  });

  it.each(batches)("cross-entropy of [%i, %i]", async (rows, classes) => {
    const logits = randomInput(stream, [rows, classes]);
    for (const loss of [perSample, batchMean, batchSum]) {
      for (const dtype of ["i32", "u32"] as const) {
        await expectParity(device(), loss, [logits, randomIntegers(stream, [rows], dtype, [0, classes])]);
      }
      await expectParity(device(), loss, [logits, distributions(stream, [rows, classes])]);
    }
  });

  it("has one gradient, whether backward begins at it or is given a 1", async () => {
    const { values, shape } = randomInput(stream, [128, 10]);
    const ids = tensor(device(), randomIntegers(stream, [128], "i32", [0, 10]).values, { dtype: "i32" });
    const gradients: ArrayLike<number>[] = [];
    const before = device().counters.dispatches;
    for (const gradient of [undefined, tensor(device(), 1)]) {
      const x = tensor(device(), values, { shape });
      x.requiresGrad = true;
      backward(batchMean(x, ids), gradient && { gradient });
      if (gradient === undefined) expect(device().counters.dispatches - before, "loss and gradient").toBe(1);
      gradients.push(await x.grad!.data());
    }
    expect(gradients[1]).toEqual(gradients[0]);
  });

  it("stays finite and right for logits of 1e4", async () => {
    for (const classes of [10, 100]) {
      const logits = randomInput(stream, [20, classes], () => (stream.integer(2) === 0 ? 1e4 : -1e4) + stream.normal());
      const ids = randomIntegers(stream, [20], "i32", [0, classes]);
      for (const loss of [perSample, batchMean, batchSum]) {
        const losses = await expectParity(device(), loss, [logits, ids]);
        expect(losses.every(Number.isFinite)).toBe(true);
        await expectParity(device(), loss, [logits, distributions(stream, [20, classes])]);
      }
      for (const operation of [softmax, logSoftmax]) {
        const values = await expectParity(device(), (x) => operation(x), [logits]);
        expect(values.every(Number.isFinite)).toBe(true);
      }
    }
  });

  it("gives NaN for an id that is no class", async () => {
    const ids: Input = { shape: [4], values: [0, 10, -1, 9], dtype: "i32" };
    const logits = randomInput(stream, [4, 10]);
    const losses = await expectParity(device(), perSample, [logits, ids]);
    expect(Array.from(losses, Number.isNaN)).toEqual([false, true, true, false]);
    expect(Array.from(await expectParity(device(), batchMean, [logits, ids]))).toEqual([Number.NaN]);
  });
});
