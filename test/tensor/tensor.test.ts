// Making tensors from host values, reading them back, and the errors of what does not fit. On both devices.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { full } from "../../src/autograd/ops/create.js";
import { add, mul } from "../../src/autograd/ops/elementwise.js";
import { pad } from "../../src/autograd/ops/transform.js";
import { copyKernel } from "../../src/kernels/copy.js";
import type { Device } from "../../src/tensor/device.js";
import type { DType } from "../../src/tensor/dtype.js";
import { DeviceError, ShapeError, UsageError } from "../../src/tensor/errors.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { empty, type NestedArray, runInto, tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";

function nest(values: readonly number[], shape: readonly number[]): NestedArray {
  if (shape.length === 0) return values[0]!;
  const [n, ...rest] = shape as [number, ...number[]];
  const step = sizeOf(rest);
  return Array.from({ length: n }, (_, i) => nest(values.slice(i * step, (i + 1) * step), rest));
}

describe.each(["cpu", "webgpu"] as const)("%s", (kind) => {
  it("a kernel's output shares memory with nothing else", async () => {
    const device = await openDevice(kind);
    const [x, y] = [tensor(device, [1, 2, 3, 4]), tensor(device, [5, 6, 7, 8])];
    const message = "copy: what it changes must not share memory with anything else it is given, but a tensor [2, 2]";
    for (const [inputs, outputs] of [
      [[x.alias([2, 2])], [x]],
      [[y], [x.alias([2, 2]), x]],
    ] as const) {
      expect(() => runInto(copyKernel, inputs, outputs, {})).toThrow(UsageError);
      expect(() => runInto(copyKernel, inputs, outputs, {})).toThrow(message);
    }
    expect([...(await x.data())]).toEqual([1, 2, 3, 4]);
    device.destroy();
  });

  let device: Device;
  beforeAll(async () => {
    device = await openDevice(kind);
  });
  afterAll(() => device.destroy());

  it("gives back what it was made of, nested or flat, of any dtype", async () => {
    const bounds: Record<DType, fc.Arbitrary<number>> = {
      f32: fc.float({ noNaN: true }),
      i32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      u32: fc.nat(2 ** 32 - 1),
    };
    const cases = fc
      .tuple(fc.constantFrom<DType>("f32", "i32", "u32"), fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }))
      .chain(([dtype, shape]) =>
        fc.record({
          dtype: fc.constant(dtype),
          shape: fc.constant(shape),
          values: fc.array(bounds[dtype], { minLength: sizeOf(shape), maxLength: sizeOf(shape) }),
        }),
      );
    await fc.assert(
      fc.asyncProperty(cases, async ({ dtype, shape, values }) => {
        const nested = tensor(device, nest(values, shape), { dtype });
        const flat = tensor(device, values, { shape, dtype });
        expect(nested.shape).toEqual(shape);
        expect(flat.size).toBe(values.length);
        // -0 is a value of its own in the first; comparisons are by Object.is.
        expect([...(await nested.data())]).toEqual(values);
        expect([...(await flat.data())]).toEqual(values);
        nested.dispose();
        flat.dispose();
      }),
      { numRuns: 50 },
    );
    expect(device.memory().liveCount).toBe(0);
  });

  it("takes the dtype from typed arrays", async () => {
    expect(tensor(device, new Int32Array([1])).dtype).toBe("i32");
    expect(tensor(device, new Uint32Array([1])).dtype).toBe("u32");
    expect(tensor(device, new Float64Array([1])).dtype).toBe("f32");
    const data = await tensor(device, [1, 2]).data();
    expect(data).toBeInstanceOf(kind === "cpu" ? Float64Array : Float32Array);
  });

  it("has tensors without elements", async () => {
    const x = tensor(device, [], { shape: [3, 0, 2] });
    expect(x.size).toBe(0);
    expect((await x.data()).length).toBe(0);
    expect((await mul(x, 2).data()).length).toBe(0);
  });

  it("item gives the one element", async () => {
    expect(await tensor(device, 3).item()).toBe(3);
    expect(await tensor(device, [[4]]).item()).toBe(4);
    await expect(tensor(device, [1, 2]).item()).rejects.toThrow(
      "item: the tensor must have one element, it has shape [2]; use data()",
    );
  });

  it("assign overwrites in place, aliases see it", async () => {
    const x = tensor(device, [1, 2, 3, 4]);
    const y = x.alias([2, 2]);
    x.assign([5, 6, 7, 8]);
    expect([...(await y.data())]).toEqual([5, 6, 7, 8]);
    expect(() => x.assign([1])).toThrow("assign: [4] needs 4 values, got 1");
  });

  it("refuses values that do not fit", () => {
    expect(() => tensor(device, [1, 2, 3], { shape: [2, 2] })).toThrow("tensor: shape [2, 2] needs 4 values, got 3");
    expect(() => tensor(device, [[1, 2], [3]])).toThrow(
      "tensor: nested arrays must be rectangular, found lengths 2 and 1",
    );
    expect(() => tensor(device, [[1, 2], 3] as NestedArray)).toThrow(
      "tensor: nested arrays must hold numbers at one depth, found 3",
    );
    expect(() => tensor(device, ["1"] as unknown as NestedArray)).toThrow('found "1"');
    expect(() => empty(device, [2, -1])).toThrow(ShapeError);
    expect(() => empty(device, [2.5])).toThrow("empty: sizes must be non-negative integers, got [2.5]");
  });

  it("refuses values that integers do not hold", async () => {
    for (const [dtype, wrong] of [
      ["i32", [1.5, Number.NaN, 2 ** 31, -(2 ** 31) - 1]],
      ["u32", [0.5, -1, 2 ** 32, Number.POSITIVE_INFINITY]],
    ] as const) {
      const x = tensor(device, [1, 2], { dtype });
      for (const value of wrong) {
        const words = `element 1 of an ${dtype} tensor must be a whole number from `;
        expect(() => tensor(device, [0, value], { dtype })).toThrow(`tensor: ${words}`);
        expect(() => tensor(device, Float64Array.of(0, value), { dtype })).toThrow(`tensor: ${words}`);
        expect(() => x.assign([0, value])).toThrow(`assign: ${words}`);
        expect(() => full(device, [2], value, dtype)).toThrow("full: value must be a whole number from ");
        expect(() => pad(x, [[1, 0]], value)).toThrow("pad: value must be a whole number from ");
      }
      expect([...(await x.data())]).toEqual([1, 2]);
    }
    const ends = [-(2 ** 31), 2 ** 31 - 1];
    expect([...(await tensor(device, ends, { dtype: "i32" }).data())]).toEqual(ends);
    expect([...(await tensor(device, [0, 2 ** 32 - 1], { dtype: "u32" }).data())]).toEqual([0, 2 ** 32 - 1]);
  });

  it("refuses operands that do not fit", () => {
    const [a, b] = [tensor(device, [[1, 2, 3]]), tensor(device, [[1, 2]])];
    expect(() => add(a, b)).toThrow(
      "add: shapes do not broadcast, [1, 3] and [1, 2] differ at axis -1 (3 and 2); sizes must be equal or 1",
    );
    expect(() => add(a, tensor(device, [1], { dtype: "i32" }))).toThrow(
      "add: operands must have one dtype, got f32 and i32; use cast()",
    );
  });
});

it("tensors of two devices do not mix", async () => {
  const [one, other] = [await openDevice("cpu"), await openDevice("cpu")];
  expect(() => add(tensor(one, [1]), tensor(other, [2]))).toThrow("add: all tensors must be on one device");
});

it("openDevice names what it can open", async () => {
  await expect(openDevice("cuda" as "cpu")).rejects.toThrow(UsageError);
  await expect(openDevice("cuda" as "cpu")).rejects.toThrow(
    'openDevice: kind must be one of "webgpu", "cpu", "auto", got "cuda"',
  );
  await expect(openDevice("webgpu", { profile: "fast" })).rejects.toThrow(
    'openDevice: profile must be "software" or "hardware", got "fast"',
  );
});

it("a destroyed device says so", async () => {
  for (const kind of ["cpu", "webgpu"] as const) {
    const device = await openDevice(kind);
    device.destroy();
    device.destroy();
    expect(() => tensor(device, [1])).toThrow(DeviceError);
    expect(() => tensor(device, [1])).toThrow("used after destroy(); open a new device");
  }
});

it('"auto" tells which device it took', async () => {
  const messages: string[] = [];
  await using device = await openDevice("auto", { onMessage: (message) => messages.push(message) });
  expect(messages).toHaveLength(1);
  expect(messages[0]).toMatch(`device: ${device.kind}, `);
});
