// The WGSL functions of kernels/ieee.ts at special values, for scalars and vectors: what JavaScript's Math says.
import { expect, it } from "vitest";
import { ieeeFunctions, RELU, typeAliases } from "../../src/kernels/ieee.js";
import { stream } from "../../src/kernels/stream.js";
import { defineKernel } from "../../src/tensor/kernel.js";
import { run, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../support.js";

const LARGEST = 3.4028234663852886e38;
const VALUES = [
  ...[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, LARGEST, -LARGEST],
  ...[1, -1, 0.5, -0.25, 2, -3, 20, -20, 88, -88],
];
/** NaNs with a sign, which is what x86 processors make, and with other bits than the usual ones. */
const NANS = [0xffc00000, 0x7f800001, 0xffffffff];

/** x and what stands in for a second operand, all pairs, as float32. */
const [left, right] = [0, 1].map((side) => {
  const count = VALUES.length + NANS.length;
  const bits = new Uint32Array([...new Uint32Array(Float32Array.from(VALUES).buffer), ...NANS]);
  const pairs = Uint32Array.from(
    { length: count * count },
    (_, i) => bits[side === 0 ? Math.floor(i / count) : i % count]!,
  );
  return new Float32Array(pairs.buffer);
}) as [Float32Array, Float32Array];

const functions: Readonly<Record<string, (a: number, b: number) => number>> = {
  "select(T(0), T(1), isNan(a))": (a) => (Number.isNaN(a) ? 1 : 0),
  "select(T(0), T(1), isPositive(a))": (a) => (a > 0 ? 1 : 0),
  "ieeeMax(a, b)": Math.max,
  "ieeeMin(a, b)": Math.min,
  "ieeeClamp(a, T(-1), T(0.75))": (a) => Math.min(Math.max(a, -1), 0.75),
  "orNan(max(a, b), max(magnitude(a), magnitude(b)))": Math.max,
  "ieeeExp(a)": Math.exp,
  "ieeeLog(a)": Math.log,
  "ieeeTanh(a)": Math.tanh,
  [RELU.replaceAll("x", "a")]: (a) => Math.max(a, 0),
};

/** y = expression of a and b. */
const kernelOf = (type: "f32" | "vec4f", expression: string) =>
  defineKernel<Record<never, never>>({
    name: "ieeeTest",
    cpu: ({ inputs: [a, b], outputs: [y] }) => {
      for (let i = 0; i < y!.size; i++) y!.data[i] = functions[expression]!(a!.data[i]!, b!.data[i]!);
    },
    webgpu: (call) => {
      const [a, b] = call.inputs;
      const lanes = ["x", "y", "z", "w"].map((l) => `value(left[i].${l}, right[i].${l})`);
      stream(call, {
        key: `${type} ${expression}`,
        declarations: `${typeAliases(type)}\n${ieeeFunctions(type)}\nfn value(a: T, b: T) -> T { return ${expression}; }`,
        bindings: [
          { name: "result", view: call.outputs[0]!, type: "vec4f", access: "read_write" },
          { name: "left", view: a!, type: "vec4f" },
          { name: "right", view: b!, type: "vec4f" },
        ],
        statement: `result[i] = ${type === "f32" ? `vec4f(${lanes})` : "value(left[i], right[i])"};`,
      });
    },
  });

describeProfiles((device) => {
  for (const type of ["f32", "vec4f"] as const) {
    it.each(Object.keys(functions))(`${type} %s`, async (expression) => {
      const results = [device(), cpu].map((d) => {
        const [a, b] = [tensor(d, left), tensor(d, right)];
        return run(kernelOf(type, expression), [a, b], a, {});
      });
      const [found, expected] = await Promise.all(results.map((t) => t.data()));
      expectEachClose(found!, expected!, { rtol: 1e-5, atol: 1e-6, label: expression });
    });
  }
});

it("functions of both types stand side by side in a program", () => {
  expect(ieeeFunctions("f32", "1")).toMatch(/fn ieeeMax1\(a: f32, b: f32\) -> f32 \{ return orNan1\(max\(a, b\)/);
  expect(ieeeFunctions("vec4f")).toContain("fn isNan(x: vec4f) -> vec4<bool> { return ((bitcast<vec4u>(x)");
});
