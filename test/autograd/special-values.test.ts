// Special values: NaN, infinities, zeros of both signs, subnormal and the largest numbers. The elementwise rows on the
// reference against PyTorch, and on WebGPU against the reference, forward and backward.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { binary, unary } from "../../src/autograd/ops/elementwise.js";
import type { BinaryName, UnaryName } from "../../src/kernels/elementwise-table.js";
import type { Shape } from "../../src/tensor/shape.js";
import type { Tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, evaluate, expectEachClose, type Input } from "../support.js";

const LARGEST = 3.4028234663852886e38;
const SMALLEST = 2 ** -126;

// ---- elementwise rows against PyTorch

/** What special-values.py writes: numbers as texts, since JSON has neither NaN nor Infinity nor -0. */
interface GoldenRow {
  readonly y: readonly string[];
  readonly gradients?: readonly (readonly string[])[];
}
interface Golden {
  readonly unary: { readonly x: string[]; readonly rows: Readonly<Record<string, GoldenRow>> };
  readonly binary: { readonly a: string[]; readonly b: string[]; readonly rows: Readonly<Record<string, GoldenRow>> };
}
const golden: Golden = JSON.parse(readFileSync(new URL("special-values.json", import.meta.url), "utf8"));

/** Where PyTorch is not followed: what is right at x instead. */
const differences: Readonly<Record<string, (x: number) => number | undefined>> = {
  // PyTorch's sign hides NaN.
  "sign, y": (x) => (Number.isNaN(x) ? Number.NaN : undefined),
  "abs, gradient 0": (x) => (Number.isNaN(x) ? Number.NaN : undefined),
  // On the bounds the gradient passes here.
  "clip, gradient 0": (x) => (x === 0 || x === 1 ? 1 : undefined),
};

const vector = (values: readonly number[]): Input => ({ shape: [values.length], values, dtype: "f32" });
const onesOf = (shape: Shape) => vector(new Array<number>(shape[0]!).fill(1));

const rows = [
  ...Object.entries(golden.unary.rows).map(([name, row]) => ({
    ...{ name, row, inputs: [golden.unary.x.map(Number)] },
    fn: (x?: Tensor) => unary(name as UnaryName, x!),
  })),
  ...Object.entries(golden.binary.rows).map(([name, row]) => ({
    ...{ name, row, inputs: [golden.binary.a.map(Number), golden.binary.b.map(Number)] },
    fn: (a?: Tensor, b?: Tensor) => binary(name as BinaryName, a!, b!),
  })),
];

describe("elementwise operations on the reference, as in PyTorch", () => {
  it.each(rows)("$name", async ({ name, row, inputs, fn }) => {
    const { value, gradients } = await evaluate(cpu, fn, inputs.map(vector), onesOf);
    const compare = (actual: ArrayLike<number>, texts: readonly string[], label: string) => {
      const right = texts.map((text, i) => differences[label]?.(inputs[0]![i]!) ?? Number(text));
      expectEachClose(actual, right, { rtol: 1e-12, atol: 1e-14, label });
    };
    compare(value, row.y, `${name}, y`);
    for (const [k, gradient] of row.gradients?.entries() ?? []) {
      // Derivatives that are 0 everywhere are left out here.
      compare(gradients[k] ?? new Float64Array(gradient.length), gradient, `${name}, gradient ${k}`);
    }
  });
});

// ---- WebGPU against the reference

interface Tolerance {
  /** Of a value, relative to it. */
  readonly rtol: number;
  readonly atol: number;
}

/** Whether a float32 result is the same NaN or infinity as the reference's, or close to its number. */
function isClose(found: number, expected: number, { rtol, atol }: Tolerance): boolean {
  const right = Math.fround(expected);
  if (Object.is(found, right)) return true;
  // Rounding may take the largest numbers over the edge.
  if (Math.abs(found) === Number.POSITIVE_INFINITY && Math.abs(right) >= LARGEST * (1 - rtol)) return found * right > 0;
  return Math.abs(found - right) <= atol + rtol * Math.abs(right);
}

describeProfiles((device) => {
  /** Adapters may take subnormal operands for 0, and logarithms for those of the smallest normal number. */
  const readings = [(x: number) => x, (x: number) => x * 0, (x: number) => Math.sign(x) * SMALLEST];
  const isSubnormal = (x: number) => x !== 0 && Math.abs(x) < SMALLEST;

  it.each(rows)("$name", async ({ name, inputs, fn }) => {
    const found = await evaluate(device(), fn, inputs.map(vector), onesOf);
    const expected = await Promise.all(
      readings.map((read) => {
        const taken = inputs.map((values) => vector(values.map((x) => (isSubnormal(x) ? read(x) : x))));
        return evaluate(cpu, fn, taken, onesOf);
      }),
    );
    // WGSL asks sines for 2^-11, and of large numbers for nothing.
    const periodic = name === "sin" || name === "cos";
    const tolerance = { rtol: 1e-4, atol: periodic ? 2 ** -11 : 1e-6 };
    const compare = (label: string, actual: ArrayLike<number>, right: readonly ArrayLike<number>[]) => {
      inputs[0]!.forEach((x, i) => {
        const operands = inputs.map((values) => values[i]);
        const candidates = right.map((values) => values[i]!);
        const between = actual[i]! >= Math.min(...candidates) && actual[i]! <= Math.max(...candidates);
        const close = candidates.some((value) => isClose(actual[i]!, value, tolerance));
        const small = periodic && Math.abs(x) === LARGEST && Math.abs(actual[i]!) <= 1;
        if (!close && !between && !small)
          expect.fail(`${label} of ${operands} is ${actual[i]}, expected ${candidates[0]}`);
      });
    };
    compare(
      `${name}`,
      found.value,
      expected.map(({ value }) => value),
    );
    found.gradients.forEach((gradient, k) => {
      if (gradient)
        compare(
          `${name}, gradient ${k}`,
          gradient,
          expected.map(({ gradients }) => gradients[k]!),
        );
    });
  });
});
