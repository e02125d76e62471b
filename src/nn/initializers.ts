// Initial values of weights, after Keras: what each name means, its default parameters, and how fans are counted. An
// initialiser is plain data, so that it can be stored with a model; drawing depends on the key alone, not on the device.
import { full } from "../autograd/ops/create.js";
import { randomNormal, randomUniform } from "../autograd/ops/random.js";
import type { Device } from "../tensor/device.js";
import { UsageError } from "../tensor/errors.js";
import { type RandomKey, RandomStream } from "../tensor/random.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { type Tensor, tensor } from "../tensor/tensor.js";

/** Variance scale / fan of the scaling initialisers, their fan, and their distribution. */
const scaling = {
  glorotUniform: { scale: 1, fan: "average", distribution: "uniform" },
  glorotNormal: { scale: 1, fan: "average", distribution: "normal" },
  heUniform: { scale: 2, fan: "in", distribution: "uniform" },
  heNormal: { scale: 2, fan: "in", distribution: "normal" },
  lecunUniform: { scale: 1, fan: "in", distribution: "uniform" },
  lecunNormal: { scale: 1, fan: "in", distribution: "normal" },
} as const;

/** Names of initialisers without parameters, which scale with a weight's fans. */
export const scalingInitializers = Object.keys(scaling) as (keyof typeof scaling)[];

/** Standard deviation of a standard normal distribution cut off at +-2. */
const TRUNCATED_DEVIATION = 0.8796256610342398;

export type Initializer =
  | { readonly name: keyof typeof scaling }
  | { readonly name: "uniform"; readonly minimum: number; readonly maximum: number }
  | { readonly name: "normal"; readonly mean: number; readonly standardDeviation: number }
  | { readonly name: "constant"; readonly value: number };

/** An initialiser, or the name of one with its default parameters. */
export type InitializerOption = Initializer | InitializerName;
export type InitializerName = keyof typeof factories;

const scaled = (name: keyof typeof scaling) => (): Initializer => ({ name });

/** Uniform in +-sqrt(6 / (fanIn + fanOut)) (Glorot, Bengio, 2010). */
export const glorotUniform = scaled("glorotUniform");
/** Normal of variance 2 / (fanIn + fanOut), cut off at two standard deviations. */
export const glorotNormal = scaled("glorotNormal");
/** Uniform in +-sqrt(6 / fanIn) (He et al., 2015). */
export const heUniform = scaled("heUniform");
/** Normal of variance 2 / fanIn, cut off at two standard deviations. */
export const heNormal = scaled("heNormal");
/** Uniform in +-sqrt(3 / fanIn) (LeCun et al., 1998). */
export const lecunUniform = scaled("lecunUniform");
/** Normal of variance 1 / fanIn, cut off at two standard deviations. */
export const lecunNormal = scaled("lecunNormal");
/** Uniform in [minimum, maximum), by default +-0.05. */
export const uniform = (options: { readonly minimum?: number; readonly maximum?: number } = {}): Initializer => ({
  name: "uniform",
  minimum: options.minimum ?? -0.05,
  maximum: options.maximum ?? 0.05,
});
/** Normal, by default of mean 0 and standard deviation 0.05. */
export const normal = (options: { readonly mean?: number; readonly standardDeviation?: number } = {}): Initializer => ({
  name: "normal",
  mean: options.mean ?? 0,
  standardDeviation: options.standardDeviation ?? 0.05,
});
export const constant = (value: number): Initializer => ({ name: "constant", value });
export const zeros = (): Initializer => constant(0);
export const ones = (): Initializer => constant(1);

const factories = {
  glorotUniform,
  glorotNormal,
  heUniform,
  heNormal,
  lecunUniform,
  lecunNormal,
  uniform,
  normal,
  zeros,
  ones,
} as const;

/** @throws UsageError for an unknown name */
export function initializerOf(owner: string, option: InitializerOption): Initializer {
  if (typeof option !== "string") return option;
  if (!Object.hasOwn(factories, option)) {
    throw new UsageError(`${owner}: initialiser must be one of ${Object.keys(factories).join(", ")}, got "${option}"`);
  }
  return factories[option]();
}

/**
 * Numbers of inputs and outputs of a weight, as Keras counts them: [in, out] for two axes; the leading axes of more are
 * the receptive field, [h, w, in, out].
 */
export function fansOf(shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) return { fanIn: shape[0] ?? 1, fanOut: shape[0] ?? 1 };
  const receptiveField = sizeOf(shape.slice(0, -2));
  return { fanIn: shape.at(-2)! * receptiveField, fanOut: shape.at(-1)! * receptiveField };
}

/** A new tensor of initial values; the same bits for the same key on every device. */
export function initialize(device: Device, shape: Shape, initializer: Initializer, key: RandomKey): Tensor {
  switch (initializer.name) {
    case "constant":
      return full(device, shape, initializer.value);
    case "uniform":
      return randomUniform(device, shape, key, { low: initializer.minimum, high: initializer.maximum });
    case "normal": {
      const { mean, standardDeviation } = initializer;
      return randomNormal(device, shape, key, { mean, standardDeviation });
    }
    default: {
      const { scale, fan, distribution } = scaling[initializer.name];
      const { fanIn, fanOut } = fansOf(shape);
      const variance = scale / Math.max(1, fan === "in" ? fanIn : (fanIn + fanOut) / 2);
      const limit = Math.sqrt(3 * variance);
      if (distribution === "uniform") return randomUniform(device, shape, key, { low: -limit, high: limit });
      return tensor(device, truncatedNormal(sizeOf(shape), Math.sqrt(variance) / TRUNCATED_DEVIATION, key), { shape });
    }
  }
}

/** Normal numbers drawn again beyond two standard deviations; on the host, since how many draws it takes is random. */
function truncatedNormal(size: number, standardDeviation: number, key: RandomKey): Float32Array {
  const random = new RandomStream(key.seed, key.stream);
  return Float32Array.from({ length: size }, () => {
    let z = random.normal();
    while (Math.abs(z) > 2) z = random.normal();
    return z * standardDeviation;
  });
}
