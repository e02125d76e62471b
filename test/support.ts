// What several tests share: devices, seeded inputs, and comparing a device with the float64 reference. No tests in
// here.
import { afterAll, beforeAll, describe, expect } from "vitest";
import { backward } from "../src/autograd/tape.js";
import { CpuDevice } from "../src/tensor/cpu.js";
import type { Device } from "../src/tensor/device.js";
import type { DType, TypedArray } from "../src/tensor/dtype.js";
import { RandomStream } from "../src/tensor/random.js";
import { scope } from "../src/tensor/scope.js";
import { formatShape, type Shape, sizeOf } from "../src/tensor/shape.js";
import { type Tensor, tensor } from "../src/tensor/tensor.js";
import { WebGpuDevice } from "../src/webgpu/device.js";
import { openDevice } from "../src/webgpu/open-device.js";

/** The float64 reference. */
export const cpu = new CpuDevice();

const probe = await openDevice("webgpu");
const hasLanes = probe.profile.lanes !== undefined;
probe.destroy();

/** Describes `body` once per tuning profile; one that this adapter cannot run is reported as skipped. */
export function describeProfiles(
  body: (device: () => WebGpuDevice) => void,
  profiles: readonly ("software" | "hardware")[] = ["software", "hardware"],
): void {
  for (const profile of profiles) {
    describe.skipIf(profile === "software" && !hasLanes)(`${profile} profile`, () => {
      let device: WebGpuDevice;
      beforeAll(async () => {
        device = await openDevice("webgpu", { profile });
      });
      afterAll(() => device.destroy());
      body(() => device);
    });
  }
}

/** The same adapter with bindings of at most `bytes` (a multiple of 256), so that small tensors need windows. */
export function withSmallBindings(device: WebGpuDevice, bytes: number): WebGpuDevice {
  return new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, maxBindingBytes: bytes });
}

/** A tensor's values before it is on a device; those of f32 are float32 numbers, so that both devices see the same. */
export interface Input {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
  readonly dtype: DType;
}

/** `draw` is called for each element; by default standard normal. */
export function randomInput(stream: RandomStream, shape: Shape, draw = () => stream.normal()): Input {
  const values = new Float32Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = draw();
  return { shape, values, dtype: "f32" };
}

/** Integers in [low, high). */
export function randomIntegers(
  stream: RandomStream,
  shape: Shape,
  dtype: "i32" | "u32",
  [low, high]: readonly [number, number],
): Input {
  const values = new Array<number>(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = low + stream.integer(high - low);
  return { shape, values, dtype };
}

export interface Closeness {
  /** Largest error, relative to the largest expected magnitude; 0 asks for equality. */
  readonly rtol: number;
  /** Begins the message. */
  readonly label?: string;
}

/** Fails naming the worst element unless every |actual - expected| <= rtol * max |expected|. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { rtol, label = "values" }: Closeness,
): void {
  expect(actual.length, `${label}: number of elements`).toBe(expected.length);
  let largest = 0;
  let worst = -1;
  let worstError = -1;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i]!));
    // Equal infinities and NaNs are no error, one of them alone is the greatest.
    const difference = Object.is(actual[i], expected[i]) ? 0 : Math.abs(actual[i]! - expected[i]!);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worstError) [worst, worstError] = [i, error];
  }
  if (worstError > rtol * largest) {
    expect.fail(
      `${label}: element ${worst} of ${expected.length} is ${actual[worst]}, expected ${expected[worst]} within ${rtol * largest} (largest ${largest}, rtol ${rtol})`,
    );
  }
}

/**
 * NaNs, infinities and finite values: fails naming the first element that is none of what is expected, or too far from
 * it.
 */
export function expectEachClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { rtol, atol, label = "values" }: { readonly rtol: number; readonly atol: number; readonly label?: string },
): void {
  expect(actual.length, `${label}: number of elements`).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    const close = Number.isFinite(e) ? Math.abs(a - e) <= atol + rtol * Math.abs(e) : Object.is(a, e);
    if (!close)
      expect.fail(`${label}: element ${i} of ${expected.length} is ${a}, expected ${e} (rtol ${rtol}, atol ${atol})`);
  }
}

export interface Evaluation {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly value: TypedArray;
  /** One per input; undefined where none arrived. */
  readonly gradients: readonly (TypedArray | undefined)[];
}

/** Normally distributed, the same for equal shapes. */
const randomGradient = (shape: Shape) => randomInput(new RandomStream(sizeOf(shape), "dy"), shape);

/**
 * Value of `fn`, and the gradients of its f32 inputs for the gradient `upstream` of its result, by default a random
 * one.
 */
export async function evaluate(
  device: Device,
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Input[],
  upstream: (shape: Shape) => Input = randomGradient,
): Promise<Evaluation> {
  const leaves = inputs.map(({ values, shape, dtype }) => {
    const leaf = tensor(device, values, { shape, dtype });
    leaf.requiresGrad = dtype === "f32";
    return leaf;
  });
  const y = scope(() => {
    const output = fn(...leaves);
    if (output.tracked) {
      const dy = upstream(output.shape);
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

export interface ParityOptions {
  /** Of values; default 1e-4. */
  readonly forward?: number;
  /** Of gradients; default 1e-3. */
  readonly gradient?: number;
  readonly label?: string;
  /** What the reference makes of the same inputs, where it is known already. */
  readonly expected?: Evaluation;
}

/**
 * Holds the values and gradients of `fn` on `device` to the reference's; integers must be equal. Returns the
 * reference's values.
 */
export async function expectParity(
  device: Device,
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Input[],
  { forward = 1e-4, gradient: gradientTolerance = 1e-3, label: prefix = "", ...known }: ParityOptions = {},
): Promise<TypedArray> {
  const label = `${prefix} ${inputs.map(({ shape }) => formatShape(shape)).join(" ")}`.trim();
  const [found, expected] = [await evaluate(device, fn, inputs), known.expected ?? (await evaluate(cpu, fn, inputs))];
  expect(found.shape, label).toEqual(expected.shape);
  expect(found.dtype, label).toBe(expected.dtype);
  expectClose(found.value, expected.value, { rtol: expected.dtype === "f32" ? forward : 0, label });
  expected.gradients.forEach((gradient, i) => {
    const actual = found.gradients[i];
    expect(actual === undefined, `${label}: gradient ${i} is absent`).toBe(gradient === undefined);
    if (gradient) expectClose(actual!, gradient, { rtol: gradientTolerance, label: `${label}: gradient ${i}` });
  });
  return expected.value;
}
