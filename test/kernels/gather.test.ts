// gather and oneHot against their definitions; the gather gradient against finite differences, and its order of
// summation.
import { describe, expect, it } from "vitest";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { mul } from "../../src/autograd/ops/elementwise.js";
import { gather, oneHot } from "../../src/autograd/ops/gather.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

const random = new RandomStream(4, "gather");
const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)]!;

const cases = Array.from({ length: 40 }, () => {
  const shape = Array.from({ length: 1 + random.integer(4) }, () => pick([1, 2, 3, 4, 7, 8, 12]));
  const axis = random.integer(shape.length);
  const indexShape = Array.from({ length: random.integer(3) }, () => pick([1, 3, 4, 9]));
  const indices = Int32Array.from({ length: sizeOf(indexShape) }, () => random.integer(shape[axis]!));
  const values = Float32Array.from({ length: sizeOf(shape) }, () => random.normal());
  return { name: `[${shape}] axis ${axis} by [${indexShape}]`, shape, axis, indexShape, indices, values };
});
type Case = (typeof cases)[number];

function expectedOf({ shape, axis, indices, values }: Case): number[] {
  const inner = sizeOf(shape.slice(axis + 1));
  const rows = inner * shape[axis]!;
  const expected: number[] = [];
  for (let o = 0; o < values.length; o += rows) {
    for (const index of indices) expected.push(...values.subarray(o + index * inner, o + (index + 1) * inner));
  }
  return expected;
}

const inputsOf = (device: Device, { shape, values, indices, indexShape }: Case) => [
  tensor(device, values, { shape }),
  tensor(device, indices, { shape: indexShape }),
];

async function checkForward(device: Device): Promise<void> {
  for (const c of cases) {
    const [x, indices] = inputsOf(device, c);
    const y = gather(x!, indices!, c.axis - c.shape.length);
    expect(y.shape, c.name).toEqual(c.shape.toSpliced(c.axis, 1, ...c.indexShape));
    expect(Array.from(await y.data()), c.name).toEqual(expectedOf(c));
  }
}

/** Gradient of sum(gather(x) * weights). */
async function gradientOn(device: Device, c: Case): Promise<number[]> {
  const [x, indices] = inputsOf(device, c);
  const shape = c.shape.toSpliced(c.axis, 1, ...c.indexShape);
  const weights = tensor(
    device,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i)),
    { shape },
  );
  const { grad } = valueAndGrad((t) => sum(mul(gather(t, indices!, c.axis), weights)))(x!);
  return Array.from(await grad.data());
}

/** Of x [4, inner] and [4], with the indices 2, -1, 4, 2^31 - 1, -2^31, 0. */
async function checkOutOfRange(device: Device): Promise<void> {
  const ids = tensor(device, Int32Array.of(2, -1, 4, 2 ** 31 - 1, -(2 ** 31), 0));
  for (const inner of [1, 3, 4]) {
    const values = Array.from({ length: 4 * inner }, (_, i) => i + 1);
    for (const [dtype, nothing] of [
      ["f32", Number.NaN],
      ["i32", -(2 ** 31)],
      ["u32", 2 ** 32 - 1],
    ] as const) {
      const row = (k: number) => values.slice(k * inner, (k + 1) * inner);
      const expected = [...row(2), ...new Array<number>(4 * inner).fill(nothing), ...row(0)];
      const y = gather(tensor(device, values, { shape: [4, inner], dtype }), ids);
      expect(Array.from(await y.data()), `${dtype} ${inner}`).toEqual(expected);
    }
    const { grad } = valueAndGrad((x) => sum(gather(x, ids)))(tensor(device, values, { shape: [4, inner] }));
    const gradient = [1, 0, 1, 0].flatMap((g) => new Array<number>(inner).fill(g));
    expect(Array.from(await grad.data()), `gradient ${inner}`).toEqual(gradient);
  }
  const N = Number.NaN;
  const rows = oneHot(tensor(device, Int32Array.of(2, -1, 3, 0)), 3);
  expect(Array.from(await rows.data())).toEqual([0, 0, 1, N, N, N, N, N, N, 1, 0, 0]);
}

it("the reference gives what is no value for indices out of range", () => checkOutOfRange(cpu));

it("the reference gathers what the definition says", () => checkForward(cpu));

it("the reference's gradient is that of finite differences", async () => {
  for (const c of cases.slice(0, 15)) {
    await gradcheck((x) => gather(x, tensor(x.device, c.indices, { shape: c.indexShape }), c.axis), [c]);
  }
});

describeProfiles((device) => {
  it("gathers what the definition says", () => checkForward(device()));

  it("has the reference's gradient, with the same bits every time", async () => {
    for (const c of cases) {
      const found = await gradientOn(device(), c);
      expect(await gradientOn(device(), c), c.name).toEqual(found);
      const expected = await gradientOn(cpu, c);
      for (const [i, value] of expected.entries()) expect(found[i], c.name).toBeCloseTo(value, 5);
    }
  });

  it("picks rows of a table larger than a binding", async () => {
    const small = withSmallBindings(device(), 2048);
    for (const inner of [12, 7]) {
      const values = Float32Array.from({ length: 500 * inner }, (_, i) => i);
      const indices = Int32Array.from([499, 0, 1, 250, 33, 34, 35, 499, 498, 128, 64]);
      const x = tensor(small, values, { shape: [500, inner] });
      const y = gather(x, tensor(small, indices));
      const expected = Array.from(indices).flatMap((row) => [...values.subarray(row * inner, (row + 1) * inner)]);
      expect(Array.from(await y.data())).toEqual(expected);
      const none = gather(x, tensor(small, Int32Array.of(-1, 500, 7)));
      const row = [...values.subarray(7 * inner, 8 * inner)];
      expect(Array.from(await none.data())).toEqual([...new Array<number>(2 * inner).fill(Number.NaN), ...row]);
    }
  });

  it("gives what is no value for indices out of range", () => checkOutOfRange(device()));

  it("makes one-hot rows", async () => {
    const rows = oneHot(tensor(device(), Int32Array.from([2, 0, 1]), { shape: [3, 1] }), 3);
    expect(rows.shape).toEqual([3, 1, 3]);
    expect(Array.from(await rows.data())).toEqual([0, 0, 1, 1, 0, 0, 0, 1, 0]);
    const labels = Uint32Array.from({ length: 1001 }, () => random.integer(7));
    const [a, b] = [oneHot(tensor(device(), labels), 7), oneHot(tensor(cpu, labels), 7)];
    expect(Array.from(await a.data())).toEqual(Array.from(await b.data()));
  });
});

describe("bad input", () => {
  const x = tensor(cpu, [1, 2, 3, 4, 5, 6], { shape: [2, 3] });
  const ids = (...values: number[]) => tensor(cpu, Int32Array.from(values));

  it("is refused by name", () => {
    expect(() => gather(x, ids(0), 2)).toThrow("gather: axis must be an integer in [-2, 1]");
    expect(() => gather(x, tensor(cpu, [0, 1]))).toThrow(ShapeError);
    expect(() => gather(x, tensor(cpu, [0, 1]))).toThrow("gather: indices must be i32, got f32");
    expect(() => gather(tensor(cpu, [], { shape: [0, 2] }), ids(0))).toThrow("has nothing to pick 1 slices from");
    expect(() => oneHot(x, 3)).toThrow("oneHot: needs i32 or u32 indices");
    expect(() => oneHot(ids(0), 0)).toThrow("oneHot: depth must be a whole number from 1, got 0");
  });
});
