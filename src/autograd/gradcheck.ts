// Proving gradients, and gradients of gradients. Analytic ones are compared with central differences in float64 on the
// CPU reference, and those of a WebGPU device with those of the reference.
import { CpuDevice } from "../tensor/cpu.js";
import { type Device, deviceRule } from "../tensor/device.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  array,
  boolean,
  callable,
  check,
  checkOptions,
  instanceOf,
  number,
  oneOf,
  type Rules,
} from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, type Shape, sizeOf } from "../tensor/shape.js";
import { type NestedArray, Tensor, tensor } from "../tensor/tensor.js";
import { valueAndGrad } from "./differentiate.js";
import { mul } from "./ops/elementwise.js";
import { sum } from "./ops/reduce.js";
import { concat, reshape } from "./ops/transform.js";
import { noGrad } from "./tape.js";

/** A gradcheck input: values with an optional shape, or nested arrays. */
export type GradcheckInput = NestedArray | { readonly shape: Shape; readonly values: ArrayLike<number> };

export interface GradcheckOptions {
  /** Step of the central difference; default 1e-6, for float64 (PyTorch's). */
  readonly eps?: number;
  /** Absolute tolerance; default 1e-5 (PyTorch's). */
  readonly atol?: number;
  /** Relative tolerance; default 1e-3 (PyTorch's). */
  readonly rtol?: number;
  /**
   * "finite-differences" (default) compares with central differences on the float64 reference; a WebGPU device compares
   * its gradients with the reference's, within rtol of the largest element.
   */
  readonly against?: "finite-differences" | Device;
  /** The reference device, for a `fn` that uses tensors of its own on it, such as a model's; by default a new one. */
  readonly reference?: CpuDevice;
  /** Throw on a mismatch (default true) or only report it. */
  readonly raise?: boolean;
}

const gradcheckRules: Rules<GradcheckOptions> = {
  eps: number({ above: 0 }),
  atol: number({ from: 0 }),
  rtol: number({ from: 0 }),
  against: anyOf(oneOf("finite-differences"), deviceRule),
  reference: instanceOf(CpuDevice, "a cpu device"),
  raise: boolean,
};

/** One compared element, the worst of all. */
export interface GradcheckReport {
  readonly ok: boolean;
  /** How many gradient elements were compared. */
  readonly compared: number;
  /** Element with the largest error relative to its tolerance; undefined when nothing was compared. */
  readonly worst:
    | {
        readonly input: number;
        readonly index: number;
        readonly analytic: number;
        readonly expected: number;
        readonly tolerance: number;
      }
    | undefined;
}

function toTensor(device: Device, input: GradcheckInput): Tensor {
  if (typeof input === "object" && input !== null && "shape" in input)
    return tensor(device, input.values, { shape: input.shape });
  return tensor(device, input as NestedArray);
}

/** Scalar with a different weight for every output element. */
function weightedSum(output: Tensor): Tensor {
  const weights = differing(output.size, 0.7);
  return sum(mul(output, tensor(output.device, weights, { shape: output.shape })));
}

/**
 * Checks the gradients of `fn`, which maps tensors to one tensor of any shape and must work on any device. Passes when
 * every element has |analytic - expected| <= atol + rtol |expected|.
 *
 * @example await gradcheck((x) => tanh(x), [[0.1, -0.4]]);
 * @throws KilogradError "GRADCHECK" naming the worst element, unless `raise` is false
 */
export async function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly GradcheckInput[],
  options: GradcheckOptions = {},
): Promise<GradcheckReport> {
  return compared("gradcheck", fn, inputs, options);
}

/**
 * Checks the gradients of the gradients of `fn`, as gradcheck does those of `fn`. These are the derivatives of all its
 * gradients with respect to its inputs, and to the gradient of its result. That gradient is the last input in reports.
 *
 * @example await gradgradcheck((x) => tanh(x), [[0.1, -0.4]]);
 * @throws KilogradError "GRADCHECK" naming the worst element, unless `raise` is false; "NO_GRADIENT" for an operation
 * whose gradient has no derivative
 */
export async function gradgradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly GradcheckInput[],
  options: GradcheckOptions = {},
): Promise<GradcheckReport> {
  checkArguments("gradgradcheck", fn, inputs);
  const { reference = new CpuDevice() } = checkOptions("gradgradcheck", options, gradcheckRules);
  const shape = scope(() => noGrad(() => fn(...inputs.map((input) => toTensor(reference, input)))).shape);
  const upstream = { shape, values: differing(sizeOf(shape), 0.9) };
  const gradients = (...tensors: Tensor[]) => {
    const [own, dy] = [tensors.slice(0, -1), tensors.at(-1)!];
    const scalar = (...xs: Tensor[]) => sum(mul(fn(...xs), dy));
    const { grads } = valueAndGrad(scalar, { allowUnused: true })(...own);
    return concat(grads.map((gradient) => reshape(gradient, [gradient.size])));
  };
  return compared("gradgradcheck", gradients, [...inputs, upstream], options);
}

/** Different numbers in [0.5, 2.5], so that no error cancels in a sum. */
function differing(size: number, step: number): Float64Array {
  return Float64Array.from({ length: size }, (_, i) => Math.sin(i * step + 1) + 1.5);
}

function checkArguments(op: string, fn: unknown, inputs: readonly GradcheckInput[]): void {
  check(op, "fn", fn, callable);
  check(op, "inputs", inputs, array);
  inputs.forEach((input, i) => {
    if (!(input instanceof Tensor)) return;
    throw new UsageError(
      `${op}: input ${i} must be values, since it goes to several devices, got a tensor; give nested arrays or { shape, values }`,
    );
  });
}

async function compared(
  op: string,
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly GradcheckInput[],
  options: GradcheckOptions,
): Promise<GradcheckReport> {
  checkArguments(op, fn, inputs);
  const given = checkOptions(op, options, gradcheckRules);
  const { eps = 1e-6, atol = 1e-5, rtol = 1e-3, against = "finite-differences", raise = true } = given;
  const { reference = new CpuDevice() } = given;
  const scalar = (...tensors: Tensor[]) => weightedSum(fn(...tensors));
  const gradientsOn = async (device: Device) => {
    const tensors = inputs.map((input) => toTensor(device, input));
    const { value, grads } = valueAndGrad(scalar, { allowUnused: true })(...tensors);
    const result: Float64Array[] = [];
    for (const g of grads) result.push(Float64Array.from(await g.data()));
    for (const t of [value, ...grads, ...tensors]) t.dispose();
    return result;
  };

  const analytic = await gradientsOn(against === "finite-differences" ? reference : against);
  const expected =
    against === "finite-differences"
      ? await centralDifferences(scalar, inputs, reference, eps)
      : await gradientsOn(reference);

  let compared = 0;
  let worst: GradcheckReport["worst"];
  let worstRatio = -1;
  for (const [input, values] of expected.entries()) {
    const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    for (const [index, value] of values.entries()) {
      const found = analytic[input]![index]!;
      const tolerance = atol + rtol * (against === "finite-differences" ? Math.abs(value) : largest);
      const error = Math.abs(found - value);
      const ratio = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / tolerance;
      if (ratio > worstRatio) {
        worstRatio = ratio;
        worst = { input, index, analytic: found, expected: value, tolerance };
      }
      compared++;
    }
  }
  const report: GradcheckReport = { ok: worstRatio <= 1, compared, worst };
  if (!report.ok && raise) {
    const { input, index, analytic: found, expected: wanted, tolerance } = worst!;
    const shapes = inputs.map((i) => formatShape(toShape(i))).join(", ");
    throw new KilogradError(
      "GRADCHECK",
      `${op}: the gradient of input ${input} at element ${index} is ${found}, expected ${wanted} within ${tolerance.toExponential(2)} (inputs ${shapes}; eps ${eps}, atol ${atol}, rtol ${rtol})`,
    );
  }
  return report;
}

function toShape(input: GradcheckInput): Shape {
  const device = new CpuDevice();
  return toTensor(device, input).shape;
}

async function centralDifferences(
  scalar: (...tensors: Tensor[]) => Tensor,
  inputs: readonly GradcheckInput[],
  device: Device,
  eps: number,
): Promise<Float64Array[]> {
  const tensors = inputs.map((input) => toTensor(device, input));
  const evaluate = async () => {
    const value = scope(() => noGrad(() => scalar(...tensors)));
    const result = await value.item();
    value.dispose();
    return result;
  };
  const result: Float64Array[] = [];
  for (const t of tensors) {
    const values = Float64Array.from(await t.data());
    const gradient = new Float64Array(sizeOf(t.shape));
    for (let i = 0; i < values.length; i++) {
      const center = values[i]!;
      values[i] = center + eps;
      t.assign(values);
      const above = await evaluate();
      values[i] = center - eps;
      t.assign(values);
      const below = await evaluate();
      values[i] = center;
      t.assign(values);
      gradient[i] = (above - below) / (2 * eps);
    }
    result.push(gradient);
  }
  for (const t of tensors) t.dispose();
  return result;
}
