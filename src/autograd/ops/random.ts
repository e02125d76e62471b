// Random tensors. The same key and offset give the same bits on every device. None of them is differentiable.
import {
  type RandomParams,
  randomBernoulliKernel,
  randomNormalKernel,
  randomUniformKernel,
} from "../../kernels/random.js";
import { type Changing, type Device, valueNow } from "../../tensor/device.js";
import { UsageError } from "../../tensor/errors.js";
import type { Kernel } from "../../tensor/kernel.js";
import { anyOf, callable, check, checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { keyRule, type RandomKey } from "../../tensor/random.js";
import type { Shape } from "../../tensor/shape.js";
import { empty, runInto, type Tensor } from "../../tensor/tensor.js";
import { drawnKey } from "../draws.js";

export interface RandomOptions {
  /**
   * Where in the key's sequence the tensor begins, in counters; default 0. A tensor of n elements uses
   * `randomCounters(n)`, so that a draw at that much more never overlaps with it.
   */
  readonly offset?: number;
}

/** Counters that a random tensor (or dropout) of `size` elements uses. */
export function randomCounters(size: number): number {
  check("randomCounters", "size", size, integer({ from: 0 }));
  return Math.ceil(size / 2);
}

/** Counters have 53 bits less one, for a draw's own. */
export const offsetRule = integer({ from: 0, below: 2 ** 52 });

/** A key, or a function that gives one, for what is part of a recorded step and must be another each time. */
export const changingKeyRule = anyOf(keyRule, callable);

/** The key of now. `owner` begins messages. @throws UsageError for a function that gives no key */
export function keyNow(owner: string, key: Changing<RandomKey>): RandomKey {
  const now = valueNow(key);
  check(owner, "what the function key returns", now, keyRule);
  return now;
}

function drawn<P extends RandomParams>(
  kernel: Kernel<P>,
  device: Device,
  shape: Shape,
  key: Changing<RandomKey>,
  rest: Omit<P, "key">,
): Tensor {
  check(kernel.name, "key", key, changingKeyRule);
  const y = empty(device, shape, "f32", kernel.name);
  const ask = drawnKey(() => keyNow(kernel.name, key));
  const params = () => ({ ...rest, key: ask() }) as P;
  runInto(kernel, [], [y], typeof key === "function" ? params : params());
  return y;
}

export interface UniformOptions extends RandomOptions {
  /** Default 0. */
  readonly low?: number;
  /** Default 1. */
  readonly high?: number;
}

const uniformRules: Rules<UniformOptions> = { low: number(), high: number(), offset: offsetRule };

/**
 * Uniform in [low, high), by default [0, 1); 24 random bits an element.
 * @example randomUniform(device, [28, 28], randomKey(1, "start image"))
 */
export function randomUniform(
  device: Device,
  shape: Shape,
  key: Changing<RandomKey>,
  options: UniformOptions = {},
): Tensor {
  const { low = 0, high = 1, offset = 0 } = checkOptions("randomUniform", options, uniformRules);
  // As float32, in which their difference must be a number, too.
  if (!(Math.fround(low) < Math.fround(high) && Number.isFinite(Math.fround(high - low)))) {
    throw new UsageError(`randomUniform: needs float32 bounds low < high, got [${low}, ${high})`);
  }
  return drawn(randomUniformKernel, device, shape, key, { offset, low, high });
}

export interface NormalOptions extends RandomOptions {
  /** Default 0. */
  readonly mean?: number;
  /** Default 1. */
  readonly standardDeviation?: number;
}

const normalRules: Rules<NormalOptions> = {
  mean: number(),
  standardDeviation: number({ from: 0 }),
  offset: offsetRule,
};

/** Normal, by default with mean 0 and standard deviation 1; 32 random bits an element. */
export function randomNormal(
  device: Device,
  shape: Shape,
  key: Changing<RandomKey>,
  options: NormalOptions = {},
): Tensor {
  const { mean = 0, standardDeviation = 1, offset = 0 } = checkOptions("randomNormal", options, normalRules);
  return drawn(randomNormalKernel, device, shape, key, { offset, mean, standardDeviation });
}

export interface BernoulliOptions extends RandomOptions {
  /** Of a 1. */
  readonly probability: number;
}

const bernoulliRules: Rules<BernoulliOptions> = { probability: number({ from: 0, to: 1 }), offset: offsetRule };

/** 1 with the given probability, else 0; f32. */
export function randomBernoulli(
  device: Device,
  shape: Shape,
  key: Changing<RandomKey>,
  options: BernoulliOptions,
): Tensor {
  const { probability, offset = 0 } = checkOptions("randomBernoulli", options, bernoulliRules, ["probability"]);
  return drawn(randomBernoulliKernel, device, shape, key, { offset, probability });
}
