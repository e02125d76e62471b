// Tensors from nothing: constants, ranges, the identity. None of them is differentiable.
import { fillKernel } from "../../kernels/fill.js";
import type { Device } from "../../tensor/device.js";
import { type DType, dtypeRule, elementRules } from "../../tensor/dtype.js";
import { check, checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import type { Shape } from "../../tensor/shape.js";
import { checkNewTensor, empty, requireTensor, runInto, type Tensor, tensor } from "../../tensor/tensor.js";

/** A tensor with one value everywhere. */
export function full(device: Device, shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  return filled("full", device, shape, value, dtype);
}

export function zeros(device: Device, shape: Shape, dtype: DType = "f32"): Tensor {
  return filled("zeros", device, shape, 0, dtype);
}

export function ones(device: Device, shape: Shape, dtype: DType = "f32"): Tensor {
  return filled("ones", device, shape, 1, dtype);
}

function filled(op: string, device: Device, shape: Shape, value: number, dtype: DType): Tensor {
  checkNewTensor(op, device, shape, dtype);
  check(op, "value", value, elementRules[dtype]);
  const y = empty(device, shape, dtype, op);
  runInto(fillKernel, [], [y], { value });
  return y;
}

/** Zeros with the shape, dtype and device of x. */
export function zerosLike(x: Tensor): Tensor {
  requireTensor("zerosLike", "x", x);
  return zeros(x.device, x.shape, x.dtype);
}

/** Ones with the shape, dtype and device of x. */
export function onesLike(x: Tensor): Tensor {
  requireTensor("onesLike", "x", x);
  return ones(x.device, x.shape, x.dtype);
}

export interface ArangeOptions {
  /** Default 0. */
  readonly start?: number;
  /** Not 0; default 1. */
  readonly step?: number;
  /** Default "f32". */
  readonly dtype?: DType;
}

const finite = number();
const arangeRules: Rules<ArangeOptions> = {
  start: finite,
  step: { expected: "a finite number other than 0", accepts: (value) => finite.accepts(value) && value !== 0 },
  dtype: dtypeRule,
};

/** start, start + step, ... below (for a negative step: above) `end`; one axis. */
export function arange(device: Device, end: number, options: ArangeOptions = {}): Tensor {
  check("arange", "end", end, finite);
  const { start = 0, step = 1, dtype = "f32" } = checkOptions("arange", options, arangeRules);
  // Beyond what is exact the count is a limit's business, not a shape's.
  const count = Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.ceil((end - start) / step)));
  checkNewTensor("arange", device, [count], dtype);
  return tensor(
    device,
    Float64Array.from({ length: count }, (_, i) => start + i * step),
    { dtype },
  );
}

/** The identity matrix [n, n]. */
export function eye(device: Device, n: number, dtype: DType = "f32"): Tensor {
  check("eye", "n", n, integer({ from: 0 }));
  checkNewTensor("eye", device, [n, n], dtype);
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) values[i * (n + 1)] = 1;
  return tensor(device, values, { shape: [n, n], dtype });
}
