// Reductions: the reference against plain loops and finite differences, both profiles against the reference.
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import {
  argmax,
  logSumExp,
  max,
  mean,
  min,
  type ReduceOptions,
  sum,
  sumSquares,
} from "../../src/autograd/ops/reduce.js";
import { backward, detach } from "../../src/autograd/tape.js";
import { reducePasses } from "../../src/kernels/reduce.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { tensor } from "../../src/tensor/tensor.js";
import {
  cpu,
  describeProfiles,
  expectClose,
  expectParity,
  randomInput,
  randomIntegers,
  withSmallBindings,
} from "../support.js";

const operations = { sum, sumSquares, mean, max, min, logSumExp };

/** Shapes that take each code path: rows, columns with and without vec4, split axes, several passes, sizes of 1. */
const cases: [Shape, number[]][] = [
  [[1], [0]],
  [[], []],
  [[7], [0]],
  [[100_003], [0]],
  [[65_536], [0]],
  [[3, 10_007], [1]],
  [[129, 37], [1]],
  [[129, 37], [0]],
  [[5, 33, 4], [2]],
  [[500, 31], [1]],
  [[10_007, 32], [0]],
  [[10_007, 3], [0]],
  [[20_001, 4], [0]],
  [[128, 10], [0]],
  [[3, 700, 12], [1]],
  [[17, 9, 64], [1]],
  [
    [4, 13, 13, 24],
    [0, 1, 2],
  ],
  [
    [4, 13, 13, 24],
    [0, 3],
  ],
  [
    [6, 5, 7, 3],
    [1, 3],
  ],
  [
    [2, 3, 4, 5, 6],
    [0, 2, 4],
  ],
  [
    [1, 6, 1, 5],
    [0, 2],
  ],
  [[1, 6, 1, 5], [1]],
  [
    [90, 1100],
    [0, 1],
  ],
  [
    [40, 3, 300],
    [0, 2],
  ],
];

describe("reference", () => {
  const stream = new RandomStream(1, "reduce");

  it.each(cases)("%j over %j equals plain loops", async (shape, axes) => {
    const { values } = randomInput(stream, shape);
    const groups = new Map<string, number[]>();
    for (let i = 0; i < values.length; i++) {
      let rest = i;
      const index = new Array<number>(shape.length);
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        index[axis] = axes.includes(axis) ? 0 : rest % shape[axis]!;
        rest = Math.floor(rest / shape[axis]!);
      }
      const key = index.join();
      if (groups.has(key)) groups.get(key)!.push(values[i]!);
      else groups.set(key, [values[i]!]);
    }
    const plain: Record<keyof typeof operations, (group: number[]) => number> = {
      sum: (g) => g.reduce((a, b) => a + b, 0),
      sumSquares: (g) => g.reduce((a, b) => a + b * b, 0),
      mean: (g) => g.reduce((a, b) => a + b, 0) / g.length,
      max: (g) => g.reduce((a, b) => Math.max(a, b)),
      min: (g) => g.reduce((a, b) => Math.min(a, b)),
      logSumExp: (g) => Math.log(g.reduce((a, b) => a + Math.exp(b), 0)),
    };
    const x = tensor(cpu, values, { shape });
    for (const name of Object.keys(operations) as (keyof typeof operations)[]) {
      const expected = [...groups.values()].map(plain[name]);
      expectClose(await operations[name](x, { axes }).data(), expected, { rtol: 1e-12, label: name });
    }
  });

  it("collapses axes into passes", () => {
    expect(reducePasses([4, 13, 13, 24], [0, 1, 2])).toEqual([{ outer: 1, reduce: 676, inner: 24 }]);
    expect(reducePasses([2, 3, 4, 5], [1, 3])).toEqual([
      { outer: 24, reduce: 5, inner: 1 },
      { outer: 2, reduce: 3, inner: 4 },
    ]);
    expect(reducePasses([2, 1, 4], [1])).toEqual([{ outer: 8, reduce: 1, inner: 1 }]);
    expect(reducePasses([2, 0, 4], [1])).toEqual([{ outer: 8, reduce: 0, inner: 1 }]);
  });

  it.each(Object.entries(operations))("%s passes gradcheck", async (_, operation) => {
    for (const [shape, axes] of [
      [[3, 4, 2], [1]],
      [
        [3, 4, 2],
        [0, 2],
      ],
      [[5], [0]],
      [[2, 3], [-1]],
    ] as const) {
      const input = randomInput(stream, shape);
      await gradcheck((x) => operation(x, { axes }), [input]);
      await gradcheck((x) => operation(x, { axes, keepDims: true }), [input]);
    }
  });

  it("shares the gradient of a maximum among ties", async () => {
    const x = tensor(cpu, [1, 3, 3, 0, 3, 2]);
    x.requiresGrad = true;
    backward(max(x));
    expect([...(await x.grad!.data())]).toEqual([0, 1 / 3, 1 / 3, 0, 1 / 3, 0]);
  });

  it("refuses what has no answer", () => {
    const none = tensor(cpu, [], { shape: [3, 0] });
    expect(() => max(none, { axes: 1 })).toThrow("max: needs at least one element to reduce, got [3, 0]");
    expect(() => mean(none)).toThrow("mean: needs at least one element");
    expect(() => argmax(none, { axis: 1 })).toThrow("argmax: needs at least one element");
    expect(() => mean(tensor(cpu, [1], { dtype: "i32" }))).toThrow('use cast(x, "f32")');
    expect(() => sum(none, { axes: 2 })).toThrow("sum: axis must be an integer in [-2, 1]");
    expect(() => sum(none, { axes: [1, -1] })).toThrow("sum: axes must be distinct");
  });
});

describeProfiles((device) => {
  it.each(cases)("%j over %j", async (shape, axes) => {
    const stream = new RandomStream(2, shape.join());
    const input = randomInput(stream, shape);
    for (const keepDims of [false, true]) {
      const options: ReduceOptions = { axes, keepDims };
      for (const [name, operation] of Object.entries(operations)) {
        if (keepDims && name !== "logSumExp") continue;
        await expectParity(device(), (x) => operation(x, options), [input], { label: name });
      }
    }
    if (axes.length > 0) {
      await expectParity(device(), (x) => argmax(x, { axis: axes[0]! }), [input], { label: "argmax" });
    }
  });

  it("agrees on random shapes", async () => {
    const stream = new RandomStream(7, "shapes");
    for (let i = 0; i < 25; i++) {
      const shape = Array.from({ length: 1 + stream.integer(4) }, () => 1 + stream.integer(stream.integer(2) ? 5 : 40));
      const axes = shape.map((_, axis) => axis).filter(() => stream.integer(2) === 0);
      for (const [label, operation] of Object.entries(operations)) {
        await expectParity(device(), (x) => operation(x, { axes }), [randomInput(stream, shape)], {
          label: `${label} over ${axes}`,
        });
      }
    }
  });

  it("reduces integers exactly, sums wrapping", async () => {
    const stream = new RandomStream(3, "integers");
    for (const shape of [[5003], [900, 12], [70, 3]]) {
      for (const operation of [sum, max, min]) {
        const i32 = randomIntegers(stream, shape, "i32", [-(2 ** 31), 2 ** 31]);
        const u32 = randomIntegers(stream, shape, "u32", [0, 2 ** 32]);
        for (const input of [i32, u32]) {
          await expectParity(device(), (x) => operation(x, { axes: 0 }), [input]);
          await expectParity(device(), (x) => operation(x, { axes: -1 }), [input]);
        }
      }
    }
  });

  it("takes the first of equal maxima", async () => {
    const stream = new RandomStream(4, "ties");
    for (const [shape, axis] of [
      [[20_011], 0],
      [[300, 10], 1],
      [[2, 5_000, 3], 1],
    ] as const) {
      const input = randomInput(stream, shape, () => stream.integer(3));
      await expectParity(device(), (x) => argmax(x, { axis }), [input]);
      await expectParity(device(), (x) => max(x, { axes: axis }), [input]);
    }
  });

  it("sums nothing to 0", async () => {
    for (const axes of [[0], [1], [0, 1]]) {
      for (const operation of [sum, sumSquares]) {
        await expectParity(device(), (x) => operation(x, { axes }), [{ shape: [3, 0], values: [], dtype: "f32" }]);
      }
    }
  });

  it("handles infinite and very different values", async () => {
    const values = [Number.NEGATIVE_INFINITY, -1e30, 1e4, 9999, Number.NEGATIVE_INFINITY, 1e4, -1e4, 0];
    for (const operation of [max, min, logSumExp]) {
      await expectParity(device(), (x) => operation(detach(x), { axes: 0 }), [{ shape: [8], values, dtype: "f32" }]);
    }
    const none = { shape: [40], values: new Array(40).fill(Number.NEGATIVE_INFINITY), dtype: "f32" } as const;
    expect([...(await expectParity(device(), (x) => max(detach(x)), [none]))]).toEqual([Number.NEGATIVE_INFINITY]);
  });

  it.each(cases)("finds NaN and infinities in %j over %j, wherever they are", async (shape, axes) => {
    const stream = new RandomStream(8, shape.join());
    const places = [0, sizeOf(shape) - 1, stream.integer(sizeOf(shape))];
    for (const special of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const values = randomInput(stream, shape).values as Float32Array;
      values[places[stream.integer(3)]!] = special;
      const input = { shape, values, dtype: "f32" } as const;
      for (const [label, operation] of Object.entries(operations)) {
        await expectParity(device(), (x) => operation(detach(x), { axes }), [input], { label });
      }
      if (axes.length === 0) continue;
      await expectParity(device(), (x) => argmax(x, { axis: axes[0]! }), [input], { label: "argmax" });
    }
  });

  it("takes the first NaN for the maximum, and shares the gradient among NaNs", async () => {
    for (const values of [
      [1, Number.NaN, 3],
      [Number.NaN, Number.NaN, 3],
      [Number.POSITIVE_INFINITY, Number.NaN, 3],
    ]) {
      for (const target of [cpu, device()]) {
        const index = await argmax(tensor(target, values), { axis: 0 }).item();
        expect(index).toBe(values.findIndex(Number.isNaN));
        for (const operation of [max, min]) {
          const x = tensor(target, values);
          x.requiresGrad = true;
          const y = operation(x);
          backward(y);
          expect(await y.item()).toBeNaN();
          const count = values.filter(Number.isNaN).length;
          const shares = values.map((value) => (Number.isNaN(value) ? 1 / count : 0));
          expect(Array.from(await x.grad!.data())).toEqual(shares);
        }
      }
    }
  });

  it.each<[Shape, number]>([
    [[10_000_000], 0],
    [[1_000_003], 0],
    [[4096], 0],
    [[2_000_000, 4], 0],
    [[700_001, 3], 0],
    [[20_000, 260], 0],
    [[50, 40_001], 1],
    [[3, 30_000, 8], 1],
  ])("sums %j over axis %i to within 1e-6", async (shape, axis) => {
    const [size, length] = [sizeOf(shape), shape[axis]!];
    const inner = sizeOf(shape.slice(axis + 1));
    for (const [kind, values] of [
      ["equal", new Float32Array(size).fill(0.1)],
      ["various", new Float32Array(size).map((_, i) => (Math.imul(i, 0x9e3779b1) >>> 8) / 2 ** 24)],
    ] as const) {
      const exact = { sum: new Float64Array(size / length), sumSquares: new Float64Array(size / length) };
      for (let i = 0; i < size; i++) {
        const value = values[i]!;
        const at = Math.floor(i / inner / length) * inner + (i % inner);
        exact.sum[at]! += value;
        exact.sumSquares[at]! += value * value;
      }
      const mean_ = exact.sum.map((value) => value / length);
      const x = tensor(device(), values, { shape });
      for (const [operation, expected] of [
        [sum, exact.sum],
        [mean, mean_],
        [sumSquares, exact.sumSquares],
      ] as const) {
        const y = operation(x, { axes: axis });
        const errors = Array.from(await y.data(), (value, i) => Math.abs(value / expected[i]! - 1));
        const worst = errors.reduce((most, error) => Math.max(most, error), 0);
        expect(worst, `${operation.name} of ${kind} values`).toBeLessThan(1e-6);
        y.dispose();
      }
      x.dispose();
    }
  });

  it("sums what is infinite, or becomes so, to infinity", async () => {
    const values = new Float32Array(100_000).fill(1);
    values[70_001] = Number.POSITIVE_INFINITY;
    expect(await sum(tensor(device(), values)).item()).toBe(Number.POSITIVE_INFINITY);
    values[3] = Number.NEGATIVE_INFINITY;
    expect(await sum(tensor(device(), values)).item()).toBeNaN();
    expect(await sum(tensor(device(), values.fill(-3e38))).item()).toBe(Number.NEGATIVE_INFINITY);
  });

  it("gives the same bits each time", async () => {
    const input = randomInput(new RandomStream(5, "bits"), [30_011, 6]);
    const x = tensor(device(), input.values, { shape: input.shape });
    for (const axes of [[0], [1], [0, 1]]) {
      expect(await sum(x, { axes }).data()).toEqual(await sum(x, { axes }).data());
    }
    x.dispose();
  });

  it("reads tensors larger than a binding in windows", async () => {
    const small = withSmallBindings(device(), 4096);
    const stream = new RandomStream(6, "windows");
    for (const [shape, axes] of [
      [[10_001], [0]],
      [[700, 5], [0]],
      [[700, 8], [0]],
      [[1000, 9], [1]],
      [[500, 3, 4], [1]],
    ] as const) {
      for (const operation of [sum, sumSquares, max]) {
        await expectParity(small, (x) => operation(detach(x), { axes }), [randomInput(stream, shape)]);
      }
    }
  });
});
