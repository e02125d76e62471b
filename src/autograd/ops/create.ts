// Tensors from nothing: constants, ranges, the identity. None of them is differentiable.
import { fillKernel } from "../../kernels/fill.js";
import type { Device } from "../../tensor/device.js";
import type { DType } from "../../tensor/dtype.js";
import { ShapeError } from "../../tensor/errors.js";
import type { Shape } from "../../tensor/shape.js";
import { empty, runInto, type Tensor, tensor } from "../../tensor/tensor.js";

/** A tensor with one value everywhere. */
export function full(device: Device, shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  const y = empty(device, shape, dtype);
  runInto(fillKernel, [], [y], { value });
  return y;
}

export function zeros(device: Device, shape: Shape, dtype?: DType): Tensor {
  return full(device, shape, 0, dtype);
}

export function ones(device: Device, shape: Shape, dtype?: DType): Tensor {
  return full(device, shape, 1, dtype);
}

/** Zeros with the shape, dtype and device of x. */
export function zerosLike(x: Tensor): Tensor {
  return zeros(x.device, x.shape, x.dtype);
}

/** Ones with the shape, dtype and device of x. */
export function onesLike(x: Tensor): Tensor {
  return ones(x.device, x.shape, x.dtype);
}

/** start, start + step, ... below (for a negative step: above) `end`; one axis. */
export function arange(
  device: Device,
  end: number,
  options: { readonly start?: number; readonly step?: number; readonly dtype?: DType } = {},
): Tensor {
  const { start = 0, step = 1, dtype = "f32" } = options;
  const count = Math.max(0, Math.ceil((end - start) / step));
  if (!Number.isFinite(count)) {
    throw new ShapeError(`arange: needs finite bounds and a step other than 0, got ${start} to ${end} by ${step}`);
  }
  return tensor(
    device,
    Float64Array.from({ length: count }, (_, i) => start + i * step),
    { dtype },
  );
}

/** The identity matrix [n, n]. */
export function eye(device: Device, n: number, dtype: DType = "f32"): Tensor {
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) values[i * (n + 1)] = 1;
  return tensor(device, values, { shape: [n, n], dtype });
}
