// Compares an operation on a WebGPU device with the float64 reference: values, and gradients for a random dy.
import { expect } from "vitest";
import { backward } from "../../src/autograd/tape.js";
import type { Device } from "../../src/tensor/device.js";
import type { DType, TypedArray } from "../../src/tensor/dtype.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu } from "./devices.js";

/** A tensor's values before it is on a device; f32 values are float32 already, so that both devices see the same. */
export interface Input {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
  readonly dtype: DType;
}

/** `draw` is called for each element; by default standard normal. */
export function randomInput(stream: RandomStream, shape: Shape, draw = () => stream.normal()): Input {
  return { shape, values: Float32Array.from({ length: sizeOf(shape) }, draw), dtype: "f32" };
}

/** Integers in [low, high). */
export function randomIntegers(
  stream: RandomStream,
  shape: Shape,
  dtype: "i32" | "u32",
  [low, high]: [number, number],
): Input {
  return { shape, values: Array.from({ length: sizeOf(shape) }, () => low + stream.integer(high - low)), dtype };
}

export interface ParityOptions {
  /** Largest error of a value relative to the largest value; default 1e-4. */
  readonly forward?: number;
  /** Largest error of a gradient's element relative to its largest; default 1e-3. */
  readonly gradient?: number;
  readonly label?: string;
}

async function evaluate(device: Device, fn: (...inputs: Tensor[]) => Tensor, inputs: readonly Input[]) {
  const leaves = inputs.map(({ values, shape, dtype }) => {
    const leaf = tensor(device, values, { shape, dtype });
    leaf.requiresGrad = dtype === "f32";
    return leaf;
  });
  const y = scope(() => {
    const output = fn(...leaves);
    if (output.tracked) {
      const dy = randomInput(new RandomStream(output.size, "dy"), output.shape);
      backward(output, { gradient: tensor(device, dy.values, { shape: dy.shape }) });
    }
    return output.alias();
  });
  const value = await y.data();
  const gradients: (TypedArray | undefined)[] = [];
  for (const { grad } of leaves) gradients.push(await grad?.data());
  for (const t of [y, ...leaves]) t.dispose();
  return { value, gradients, shape: y.shape, dtype: y.dtype };
}

/** Throws at the worst element when `found` is not within `tolerance` of the largest |expected|; integers must be equal. */
export function expectClose(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  label: string,
): void {
  expect(found.length, label).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++)
    if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i]!));
  let worst = -1;
  let worstError = -1;
  for (let i = 0; i < expected.length; i++) {
    const difference = Object.is(found[i], expected[i]) ? 0 : Math.abs(found[i]! - expected[i]!);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worstError) [worst, worstError] = [i, error];
  }
  if (worstError > tolerance * largest) {
    expect.fail(
      `${label}: element ${worst} is ${found[worst]}, expected ${expected[worst]} within ${tolerance * largest}`,
    );
  }
}

/** Holds `fn` on `device` to the reference. Returns the reference's value. */
export async function expectParity(
  device: Device,
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Input[],
  options: ParityOptions = {},
): Promise<TypedArray> {
  const label = `${options.label ?? ""} ${inputs.map(({ shape }) => `[${shape}]`).join(" ")}`;
  const [found, expected] = [await evaluate(device, fn, inputs), await evaluate(cpu, fn, inputs)];
  expect(found.shape, label).toEqual(expected.shape);
  expect(found.dtype, label).toBe(expected.dtype);
  expectClose(found.value, expected.value, expected.dtype === "f32" ? (options.forward ?? 1e-4) : 0, label);
  expected.gradients.forEach((gradient, i) => {
    expect(found.gradients[i] === undefined, `${label} gradient ${i}`).toBe(gradient === undefined);
    if (gradient) expectClose(found.gradients[i]!, gradient, options.gradient ?? 1e-3, `${label} gradient ${i}`);
  });
  return expected.value;
}
