// What both devices say of integers, casts and conditions: figures that C and WGSL fix.
import { describe, expect, it } from "vitest";
import { cast, sub, where } from "../../src/autograd/ops/elementwise.js";
import { binary, unary } from "../../src/autograd/ops/elementwise-rows.js";
import type { BinaryName } from "../../src/kernels/elementwise-table.js";
import type { Device } from "../../src/tensor/device.js";
import type { DType } from "../../src/tensor/dtype.js";
import { UsageError } from "../../src/tensor/errors.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../support.js";

type Values = readonly number[];
const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** Tensors with numbers; 2^24 + 1 is the first integer that a float32 cannot hold. */
const withNumbers: [op: BinaryName, dtype: DType, x: Values, number: number, right: Values][] = [
  ["add", "i32", [1, 2], 3, [4, 5]],
  ["add", "i32", [16777217, -5], 16777217, [33554434, 16777212]],
  ["add", "i32", [2147483647, 0], 1, [-2147483648, 1]],
  ["add", "u32", [4294967295, 7], 2, [1, 9]],
  ["sub", "i32", [-2147483648, 5], 1, [2147483647, 4]],
  ["sub", "u32", [0, 5], 4294967295, [1, 6]],
  ["mul", "i32", [1, 2, -3], 2, [2, 4, -6]],
  ["mul", "i32", [123456789, -65537], 987654321, [-67153019, 1550882639]],
  ["mul", "u32", [4294967295, 123456789], 987654321, [3307312975, 4227814277]],
  ["maximum", "u32", [1, 4294967295], 2, [2, 4294967295]],
  ["maximum", "i32", [-5, 4], -3, [-3, 4]],
  ["minimum", "u32", [1, 4294967295], 16777217, [1, 16777217]],
  ["equal", "i32", [1, 2], 2, [0, 1]],
  ["equal", "u32", [16777216, 16777217], 16777217, [0, 1]],
  ["notEqual", "i32", [1, 2], 2, [1, 0]],
  ["less", "u32", [1, 4294967295], 2147483648, [1, 0]],
  ["greaterEqual", "i32", [-2147483648, 0], -1, [0, 1]],
];

const casts: [from: DType, to: DType, x: Values, right: Values][] = [
  ["f32", "i32", [3e9, -1, nan, 1e20, -1e20], [2147483647, -1, 0, 2147483647, -2147483648]],
  ["f32", "i32", [infinity, -infinity, 2.9, -2.9, -0], [2147483647, -2147483648, 2, -2, 0]],
  ["f32", "i32", [2147483520, 2147483648, -2147483648], [2147483520, 2147483647, -2147483648]],
  ["f32", "u32", [-1, 5e9, nan, infinity, -infinity], [0, 4294967295, 0, 4294967295, 0]],
  ["f32", "u32", [0.9, 4294967040, 4294967296, 3e9], [0, 4294967040, 4294967295, 3e9]],
  ["i32", "u32", [-1, -2147483648, 5], [4294967295, 2147483648, 5]],
  ["u32", "i32", [4294967295, 2147483648, 5], [-1, -2147483648, 5]],
  ["i32", "f32", [-2147483648, 7], [-2147483648, 7]],
  ["u32", "f32", [2147483648, 7], [2147483648, 7]],
];

function holds(device: () => Device): void {
  const make = (dtype: DType, values: Values) => tensor(device(), values, { dtype });
  const values = async (t: Tensor) => Array.from(await t.data(), (v) => v + 0);

  it.each(withNumbers)("%s of %s %j and %d", async (op, dtype, x, number, right) => {
    expect(await values(binary(op, make(dtype, x), number))).toEqual(right);
  });

  it("a number first", async () => {
    expect(await values(sub(10, make("i32", [1, 20])))).toEqual([9, -10]);
  });

  it.each(casts)("cast of %s to %s: %j", async (from, to, x, right) => {
    expect(await values(cast(make(from, x), to))).toEqual(right);
  });

  it("products of integer tensors wrap", async () => {
    const [a, b] = [make("i32", [123456789, -65537, 46341]), make("i32", [987654321, 65537, 46341])];
    expect(await values(binary("mul", a, b))).toEqual([-67153019, -131073, -2147479015]);
  });

  it("a condition of NaN or -0", async () => {
    const condition = make("f32", [nan, -0, 0, 2]);
    const [a, b] = [make("f32", [1, 2, 3, 4]), make("f32", [5, 6, 7, 8])];
    expect(await values(where(condition, a, b))).toEqual([1, 6, 7, 4]);
  });
}

describe("reference", () => holds(() => cpu));
describeProfiles(holds);

describeProfiles((device) => {
  const magnitudes = Array.from({ length: 200 }, (_, i) => 10 ** (-8 + i * 0.045));
  it.each(["erf", "atan", "expm1", "log1p"] as const)("%s is precise, near 0 too", async (op) => {
    const all = magnitudes.flatMap((x) => [x, -x]).filter((x) => (op === "log1p" ? x > -0.9 : Math.abs(x) < 10));
    const x = Float32Array.from(all);
    const [found, right] = await Promise.all([device(), cpu].map((on) => unary(op, tensor(on, x)).data()));
    expectEachClose(found!, right!, { rtol: 1e-6, atol: 0, label: op });
  });
});

describe("numbers beside integer tensors that these cannot hold", () => {
  it.each([
    ["i32", 1.5],
    ["i32", nan],
    ["i32", 2147483648],
    ["i32", -2147483649],
    ["u32", -1],
    ["u32", 4294967296],
    ["u32", infinity],
  ] as const)("%s and %d", (dtype, number) => {
    const x = tensor(cpu, [2], { dtype });
    expect(() => binary("mul", x, number)).toThrow(UsageError);
    expect(() => binary("less", number, x)).toThrow(/^less: a number beside an .* tensor must be a whole number from/);
  });
});
