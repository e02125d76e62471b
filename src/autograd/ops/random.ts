// Random tensors. The same key and offset give the same bits on every device. None of them is differentiable.
import {
  type RandomParams,
  randomBernoulliKernel,
  randomNormalKernel,
  randomUniformKernel,
} from "../../kernels/random.js";
import type { Device } from "../../tensor/device.js";
import { UsageError } from "../../tensor/errors.js";
import type { Kernel } from "../../tensor/kernel.js";
import type { RandomKey } from "../../tensor/random.js";
import type { Shape } from "../../tensor/shape.js";
import { empty, runInto, type Tensor } from "../../tensor/tensor.js";

export interface RandomOptions {
  /**
   * Where in the key's sequence the tensor begins, in counters; default 0. A tensor of n elements uses
   * `randomCounters(n)`, so that a draw at that much more never overlaps with it.
   */
  readonly offset?: number;
}

/** Counters that a random tensor (or dropout) of `size` elements uses. */
export function randomCounters(size: number): number {
  return Math.ceil(size / 2);
}

/** @throws UsageError unless 0 <= offset < 2^52 is an integer */
export function checkOffset(op: string, offset: number): void {
  if (!(Number.isInteger(offset) && offset >= 0 && offset < 2 ** 52)) {
    throw new UsageError(`${op}: offset must be an integer in [0, 2^52), got ${offset}`);
  }
}

function drawn<P extends RandomParams>(kernel: Kernel<P>, device: Device, shape: Shape, params: P): Tensor {
  checkOffset(kernel.name, params.offset);
  const y = empty(device, shape);
  runInto(kernel, [], [y], params);
  return y;
}

/**
 * Uniform in [low, high), by default [0, 1); 24 random bits an element.
 * @example randomUniform(device, [28, 28], randomKey(1, "start image"))
 */
export function randomUniform(
  device: Device,
  shape: Shape,
  key: RandomKey,
  options: RandomOptions & { readonly low?: number; readonly high?: number } = {},
): Tensor {
  const { low = 0, high = 1, offset = 0 } = options;
  // As float32, in which their difference must be a number, too.
  if (!(Math.fround(low) < Math.fround(high) && Number.isFinite(Math.fround(high - low)))) {
    throw new UsageError(`randomUniform: needs float32 bounds low < high, got [${low}, ${high})`);
  }
  return drawn(randomUniformKernel, device, shape, { key, offset, low, high });
}

/** Normal, by default with mean 0 and standard deviation 1; 32 random bits an element. */
export function randomNormal(
  device: Device,
  shape: Shape,
  key: RandomKey,
  options: RandomOptions & { readonly mean?: number; readonly standardDeviation?: number } = {},
): Tensor {
  const { mean = 0, standardDeviation = 1, offset = 0 } = options;
  if (!(Number.isFinite(mean) && Number.isFinite(standardDeviation) && standardDeviation >= 0)) {
    throw new UsageError(
      `randomNormal: needs a finite mean and standard deviation >= 0, got ${mean} and ${standardDeviation}`,
    );
  }
  return drawn(randomNormalKernel, device, shape, { key, offset, mean, standardDeviation });
}

/** 1 with the given probability, else 0; f32. */
export function randomBernoulli(
  device: Device,
  shape: Shape,
  key: RandomKey,
  options: RandomOptions & { readonly probability: number },
): Tensor {
  const { probability, offset = 0 } = options;
  if (!(probability >= 0 && probability <= 1)) {
    throw new UsageError(`randomBernoulli: probability must lie in [0, 1], got ${probability}`);
  }
  return drawn(randomBernoulliKernel, device, shape, { key, offset, probability });
}
