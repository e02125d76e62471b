// Matrix products on every profile against the float64 reference. The products cover shapes that fit no tile, every
// transposition, batches, bias and activation, pieces of k, and operands larger than a binding. Gradients are compared,
// too, and bits are equal on every run.
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { type MatmulOptions, matmul } from "../../src/autograd/ops/matmul.js";
import { backward } from "../../src/autograd/tape.js";
import { FUSED_ACTIVATIONS } from "../../src/kernels/activation.js";
import { matmulKernel } from "../../src/kernels/matmul.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { runMany, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { choicesInUse } from "../../src/webgpu/tuning.js";
import { cpu, describeProfiles, expectClose, type Input, randomInput, withSmallBindings } from "../support.js";

const random = new RandomStream(7, "matmul test");
const uniform = (length: number) => new Float64Array(length).map(() => random.uniform() * 2 - 1);
const integer = (low: number, high: number) => low + random.integer(high - low + 1);

interface Case extends Omit<MatmulOptions, "bias"> {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batchA?: readonly number[];
  readonly batchB?: readonly number[];
  readonly bias?: boolean;
}

/** Operands of a case, the same each time. */
const operandValues = new Map<string, Float32Array>();
/** Products on the reference, which takes longer than any adapter. */
const products = new Map<string, Tensor>();

/** Operands and options of a case on a device and on the reference. */
function operandsOf(device: Device, test: Case) {
  const { m, n, k, batchA = [], batchB = [], bias, ...options } = test;
  const { transposeA = false, transposeB = false } = options;
  let made = 0;
  const make = (shape: number[]) => {
    const key = `${JSON.stringify(test)} ${made++}`;
    let values = operandValues.get(key);
    if (values === undefined) {
      const stream = new RandomStream(7, key);
      values = randomInput(stream, shape, () => stream.uniform() * 2 - 1).values as Float32Array;
      operandValues.set(key, values);
    }
    return [tensor(device, values, { shape }), tensor(cpu, values, { shape })] as const;
  };
  const a = make([...batchA, ...(transposeA ? [k, m] : [m, k])]);
  const b = make([...batchB, ...(transposeB ? [n, k] : [k, n])]);
  const v = bias ? make([n]) : undefined;
  return ([0, 1] as const).map((i) => ({
    a: a[i],
    b: b[i],
    options: v === undefined ? options : { ...options, bias: v[i] },
  })) as [Operands, Operands];
}

interface Operands {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly options: MatmulOptions;
}

/** Largest difference over the largest reference value. */
async function relativeError(found: Tensor, expected: Tensor): Promise<number> {
  expect(found.shape).toEqual(expected.shape);
  const [f, e] = [await found.data(), await expected.data()];
  let error = 0;
  let largest = 1e-30;
  e.forEach((value, i) => {
    const difference = Math.abs(f[i]! - value);
    error = Math.max(error, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    largest = Math.max(largest, Math.abs(value));
  });
  return error / largest;
}

async function expectParity(device: Device, test: Case, tolerance = 1e-4): Promise<void> {
  const [gpu, reference] = operandsOf(device, test);
  const key = JSON.stringify(test);
  const expected = products.get(key) ?? matmul(reference.a, reference.b, reference.options);
  products.set(key, expected);
  const found = matmul(gpu.a, gpu.b, gpu.options);
  expect(await relativeError(found, expected), JSON.stringify(test)).toBeLessThan(tolerance);
  for (const t of [found, gpu.a, gpu.b]) t.dispose();
}

const TRANSPOSES = [false, true].flatMap((transposeA) =>
  [false, true].map((transposeB) => ({ transposeA, transposeB })),
);

describe("the reference", () => {
  it("multiplies the textbook example", async () => {
    const a = tensor(cpu, [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const b = tensor(cpu, [
      [7, 8],
      [9, 10],
      [11, 12],
    ]);
    expect([...(await matmul(a, b).data())]).toEqual([58, 64, 139, 154]);
    expect([...(await matmul(b, a, { transposeA: true, transposeB: true }).data())]).toEqual([58, 139, 64, 154]);
    const bias = tensor(cpu, [-100, 0]);
    expect([...(await matmul(a, b, { bias, activation: "relu" }).data())]).toEqual([0, 64, 39, 154]);
  });

  it.each(TRANSPOSES)("has the gradients of finite differences, %o", async (transposes) => {
    const shape = (...sizes: number[]) => ({ shape: sizes, values: uniform(sizeOf(sizes)) });
    const [a, b] = [shape(2, 1, 3, 3), shape(4, 3, 3)];
    await gradcheck(
      (x, y, bias) => matmul(x!, y!, { ...transposes, bias: bias!, activation: "tanh" }),
      [a, b, shape(3)],
    );
    await gradcheck((x, y) => matmul(x!, y!, transposes), [shape(2, 3, 3), shape(3, 3)]);
  });

  it("says what does not fit", () => {
    const make = (...shape: number[]) => tensor(cpu, new Float64Array(sizeOf(shape)), { shape });
    expect(() => matmul(make(32, 784), make(10, 784))).toThrow(/inner sizes.*784 and 10.*transposeB: true/);
    expect(() => matmul(make(784, 32), make(784, 10))).toThrow(/transposeA: true/);
    expect(() => matmul(make(3), make(3, 4))).toThrow(ShapeError);
    expect(() => matmul(make(2, 3, 4), make(3, 4, 5))).toThrow(/broadcast/);
    expect(() => matmul(make(3, 4), make(4, 5), { bias: make(4) })).toThrow(/bias must be f32 of shape \[5\]/);
    expect(() => matmul(make(3, 4), tensor(cpu, new Int32Array(20), { shape: [4, 5] }))).toThrow(/cast/);
  });
});

describe("forms that tuning chooses between", () => {
  it("compute the same", async () => {
    const device = await openDevice("webgpu", { profile: "software" });
    try {
      for (const { name, options } of choicesInUse(device.profile)) {
        for (const option of options) {
          const form = new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, choices: { [name]: option } });
          const sizes = { m: 68, n: 36, k: 204, bias: true, activation: "relu" as const };
          for (const transposeA of [false, true]) await expectParity(form, { ...sizes, transposeA });
          await expectParity(form, { ...sizes, k: 203, transposeA: true });
          await expectParity(form, { ...sizes, m: 517, n: 64, k: 516 });
        }
      }
    } finally {
      device.destroy();
    }
  });
});

describeProfiles((device) => {
  it("sums B's columns along with the product, however it is cut", async () => {
    const params = { transposeA: true, transposeB: false, activation: "linear" } as const;
    for (const [m, n, k] of [
      [5, 10, 33],
      [0, 10, 33],
      [64, 10, 32],
      [70, 33, 1],
      [36, 68, 37],
      [300, 132, 40],
      [40, 200, 150],
      [8, 4, 200_000],
    ] as const) {
      const [a, b] = [
        [k, m],
        [k, n],
      ].map((shape) => randomInput(random, shape)) as [Input, Input];
      const results: ArrayLike<number>[][] = [];
      for (const d of [cpu, device(), ...(k < 1000 ? [withSmallBindings(device(), 65_536)] : [])]) {
        const inputs = [a, b].map(({ values, shape }) => tensor(d, values, { shape }));
        const outputs = [[m, n], [n]].map((shape) => ({ shape, dtype: "f32" }) as const);
        const found = runMany(matmulKernel, inputs, outputs, params);
        results.push(await Promise.all(found.map((t) => t.data())));
        for (const t of [...inputs, ...found]) t.dispose();
      }
      for (const [c, sums] of results.slice(1)) {
        const label = `${m} x ${n} x ${k}`;
        expectClose(sums!, results[0]![1]!, { rtol: 1e-5, label });
        expectClose(c!, results[0]![0]!, { rtol: 1e-5, label });
      }
    }
  });

  it.each(TRANSPOSES)("matches the reference on shapes that fit no tile, %o", async (transposes) => {
    for (let i = 0; i < 8; i++) {
      await expectParity(device(), { m: integer(1, 20), n: integer(1, 70), k: integer(1, 40), ...transposes });
    }
    for (const sizes of [
      { m: 5, n: 36, k: 12 },
      { m: 40, n: 10, k: 33 },
      { m: 37, n: 68, k: 20 },
      { m: 101, n: 132, k: 64 },
    ]) {
      await expectParity(device(), { ...sizes, ...transposes });
    }
  });

  it.each(FUSED_ACTIVATIONS)("adds the bias and applies %s", async (activation) => {
    await expectParity(device(), { m: 13, n: 10, k: 64, bias: true, activation });
    await expectParity(device(), { m: 13, n: 44, k: 64, bias: true, activation, transposeB: activation === "relu" });
  });

  it.each(TRANSPOSES)("multiplies batches with broadcasting, %o", async (transposes) => {
    const sizes = { m: 6, n: 9, k: 5, ...transposes };
    await expectParity(device(), { ...sizes, batchA: [3], batchB: [3] });
    await expectParity(device(), { ...sizes, batchA: [2, 3], batchB: [] });
    await expectParity(device(), { ...sizes, batchA: [], batchB: [5] });
    await expectParity(device(), { ...sizes, batchA: [2, 1, 3], batchB: [4, 1], bias: true, activation: "relu" });
    await expectParity(device(), { ...sizes, k: 8, n: 12, batchA: [2, 3], batchB: [2, 1] });
  });

  it("multiplies a large batch of matrices beyond a small tile", async () => {
    await expectParity(device(), { m: 130, n: 131, k: 9, batchA: [33], batchB: [1], transposeA: true });
  });

  it.each(TRANSPOSES)("cuts a long k into pieces and adds them, %o", async (transposes) => {
    device().resetCounters();
    await expectParity(device(), { m: 8, n: 36, k: 16385, bias: true, activation: "sigmoid", ...transposes }, 3e-4);
    expect(device().counters.byKernel.get("matmul")).toBe(2);
  });

  it.each(TRANSPOSES)("matches the reference where A is tall, %o", async (transposes) => {
    for (const sizes of [
      { m: 70, n: 36, k: 36 },
      { m: 33, n: 64, k: 200, bias: true, activation: "tanh" as const },
      { m: 300, n: 132, k: 260, bias: true, activation: "relu" as const },
      { m: 140, n: 24, k: 1200 },
      { m: 40, n: 24, k: 24, batchA: [3], batchB: [3] },
      // Wide panels, of A packed.
      { m: 1030, n: 260, k: 516, bias: true, activation: "relu" as const },
    ]) {
      await expectParity(device(), { ...sizes, ...transposes });
    }
  });

  it.each(TRANSPOSES)("keeps what is not finite to its own row, %o", async (transposes) => {
    for (const [m, n, k] of [
      [64, 24, 36],
      [1027, 256, 516],
    ] as const) {
      const [{ a, b, options }] = operandsOf(device(), { m, n, k, ...transposes });
      const values = (await a.data()).slice();
      for (let p = 0; p < k; p++) values[transposes.transposeA ? p * m + 5 : 5 * k + p] = p % 2 === 0 ? Infinity : NaN;
      const found = await matmul(a.assign(values), b, options).data();
      expect(found.findIndex((value) => !Number.isFinite(value))).toBe(5 * n);
      expect(found.filter((value) => !Number.isFinite(value))).toHaveLength(n);
    }
  });

  it("handles empty axes: nothing for an empty result, activation(bias) for an empty sum", async () => {
    await expectParity(device(), { m: 0, n: 5, k: 3 });
    await expectParity(device(), { m: 4, n: 0, k: 3 });
    await expectParity(device(), { m: 4, n: 5, k: 0, bias: true });
    await expectParity(device(), { m: 40, n: 24, k: 0, bias: true });
  });

  it("gives the same bits every time", async () => {
    const [{ a, b }] = operandsOf(device(), { m: 33, n: 50, k: 20000 });
    const [first, second] = [await matmul(a, b).data(), await matmul(a, b).data()];
    expect(Buffer.from(first.buffer).equals(Buffer.from(second.buffer))).toBe(true);
  });

  it.each(TRANSPOSES)("has the reference's gradients, %o", async (transposes) => {
    const { transposeA, transposeB } = transposes;
    const input = (rows: number, columns: number, transposed: boolean) => {
      const shape = transposed ? [columns, rows] : [rows, columns];
      return { shape, values: uniform(rows * columns) };
    };
    const bias = { shape: [10], values: uniform(10) };
    const against = { against: device(), atol: 1e-5 };
    const [a, b] = [input(7, 12, transposeA), input(12, 10, transposeB)];
    await gradcheck(
      (x, y, z) => matmul(x!, y!, { ...transposes, bias: z!, activation: "sigmoid" }),
      [a, b, bias],
      against,
    );
    await gradcheck(
      (x, y) => matmul(x!, y!, transposes),
      [a, { shape: [2, ...b.shape], values: uniform(240) }],
      against,
    );
  });

  it.each(TRANSPOSES)("multiplies operands larger than a binding, and their gradients, %o", async (transposes) => {
    const small = withSmallBindings(device(), 65536);
    // In turn A and C, B and C, C, A and B, and all of them exceed 16384 elements.
    for (const sizes of [
      { m: 600, n: 36, k: 70 },
      { m: 36, n: 600, k: 70 },
      { m: 300, n: 68, k: 12 },
      { m: 12, n: 10, k: 2000 },
      { m: 132, n: 140, k: 136 },
    ]) {
      const operands = operandsOf(small, { ...sizes, ...transposes, bias: true, activation: "relu" });
      const dy = Float32Array.from(uniform(sizes.m * sizes.n));
      small.resetCounters();
      const [found, expected] = operands.map(({ a, b, options }) => {
        a.requiresGrad = true;
        b.requiresGrad = true;
        const y = matmul(a, b, options);
        backward(y, { gradient: tensor(a.device, dy, { shape: y.shape }) });
        return { y, da: a.grad!, db: b.grad! };
      });
      expect(small.counters.byKernel.get("matmul")).toBeGreaterThan(3);
      expect(await relativeError(found!.y, expected!.y), "y").toBeLessThan(1e-4);
      expect(await relativeError(found!.da, expected!.da), "da").toBeLessThan(1e-3);
      expect(await relativeError(found!.db, expected!.db), "db").toBeLessThan(1e-3);
    }
  });

  it("reuses its pipelines for another batch size", async () => {
    const programs = () => device().compiled.length;
    for (const n of [16, 40]) await expectParity(device(), { m: 33, n, k: 24 });
    const before = programs();
    for (const n of [16, 40]) await expectParity(device(), { m: 47, n, k: 24 });
    expect(programs()).toBe(before);
  });
});
