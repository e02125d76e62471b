// Initial values of weights, after Keras: what each name means, its default parameters, and how fans are counted. An
// initialiser is plain data, so that it can be stored with a model; drawing depends on the key alone, not on the
// device.
import { full } from "../autograd/ops/create.js";
import { randomNormal, randomUniform } from "../autograd/ops/random.js";
import type { Device } from "../tensor/device.js";
import { UsageError } from "../tensor/errors.js";
import { check, checkOptions, number, object, type Rule, type Rules } from "../tensor/options.js";
import { type RandomKey, RandomStream } from "../tensor/random.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { checkNewTensor, type Tensor, tensor } from "../tensor/tensor.js";

/** Variance scale / fan of the scaling initialisers, their fan, and their distribution. */
const scaling = {
  glorotUniform: { scale: 1, fan: "average", distribution: "uniform" },
  glorotNormal: { scale: 1, fan: "average", distribution: "normal" },
  heUniform: { scale: 2, fan: "in", distribution: "uniform" },
  heNormal: { scale: 2, fan: "in", distribution: "normal" },
  lecunUniform: { scale: 1, fan: "in", distribution: "uniform" },
  lecunNormal: { scale: 1, fan: "in", distribution: "normal" },
} as const satisfies Record<ScalingInitializer, object>;

export const scalingInitializers = Object.keys(scaling) as ScalingInitializer[];

/** Standard deviation of a standard normal distribution cut off at +-2. */
const TRUNCATED_DEVIATION = 0.8796256610342398;

/** Initialisers without parameters, which scale with a weight's fans. */
export type ScalingInitializer =
  | "glorotUniform"
  | "glorotNormal"
  | "heUniform"
  | "heNormal"
  | "lecunUniform"
  | "lecunNormal";

/** How a weight's initial values are drawn. */
export type Initializer =
  | { readonly name: ScalingInitializer }
  | { readonly name: "uniform"; readonly minimum: number; readonly maximum: number }
  | { readonly name: "normal"; readonly mean: number; readonly standardDeviation: number }
  | { readonly name: "constant"; readonly value: number };

/** An initialiser, or the name of one with its default parameters. */
export type InitializerOption = Initializer | InitializerName;
/** Initialisers with their default parameters. */
export type InitializerName = ScalingInitializer | "uniform" | "normal" | "zeros" | "ones";

const scaled = (name: ScalingInitializer) => (): Initializer => ({ name });

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

/** Bounds of {@link uniform}. */
export interface UniformOptions {
  readonly minimum: number;
  readonly maximum: number;
}
/** Moments of {@link normal}. */
export interface NormalOptions {
  readonly mean: number;
  readonly standardDeviation: number;
}

const finite = number();
const uniformRules: Rules<UniformOptions> = { minimum: finite, maximum: finite };
const normalRules: Rules<NormalOptions> = { mean: finite, standardDeviation: number({ from: 0 }) };

/** Uniform in [minimum, maximum), by default +-0.05. */
export function uniform(options: Partial<UniformOptions> = {}): Initializer {
  const { minimum = -0.05, maximum = 0.05 } = checkOptions("uniform", options, uniformRules);
  if (!(minimum < maximum)) {
    throw new UsageError(`uniform: minimum must be below maximum, got ${minimum} and ${maximum}`);
  }
  return { name: "uniform", minimum, maximum };
}

/** Normal, by default of mean 0 and standard deviation 0.05. */
export function normal(options: Partial<NormalOptions> = {}): Initializer {
  const { mean = 0, standardDeviation = 0.05 } = checkOptions("normal", options, normalRules);
  return { name: "normal", mean, standardDeviation };
}

export function constant(value: number): Initializer {
  check("constant", "value", value, finite);
  return { name: "constant", value };
}
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
} as const satisfies Record<InitializerName, () => Initializer>;

/** Parameters of each initialiser, by name. */
const parameterRules: Readonly<Record<string, object>> = {
  ...Object.fromEntries(Object.keys(scaling).map((name) => [name, {}])),
  uniform: uniformRules,
  normal: normalRules,
  constant: { value: finite },
};

/** What an option of that may be: a name, or an initialiser with the parameters that belong to it. */
export const initializerRule: Rule = {
  expected: `an initialiser such as nn.uniform() gives it, or one of ${Object.keys(factories).join(", ")}`,
  accepts(value) {
    if (typeof value === "string") return Object.hasOwn(factories, value);
    if (!object.accepts(value)) return false;
    const { name, ...parameters } = value as { readonly [parameter: string]: unknown };
    if (typeof name !== "string" || !Object.hasOwn(parameterRules, name)) return false;
    const rules = Object.entries(parameterRules[name]!) as [string, Rule][];
    return rules.every(([parameter, rule]) => rule.accepts(parameters[parameter]));
  },
};

export function initializerOf(option: InitializerOption): Initializer {
  return typeof option === "string" ? factories[option]() : option;
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
  checkNewTensor("weights", device, shape, "f32");
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
