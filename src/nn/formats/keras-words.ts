// How a layer says itself in Keras's words: names of its class, settings and weights, and values that Keras writes
// differently. Each layer's file has its own words; what layers share is here. What Keras cannot say, or Kilograd
// cannot compute, is an error, never left out.
import { DataError, UsageError } from "../../tensor/errors.js";
import type { ActivationName } from "../activations.js";
import { type Initializer, scalingInitializers } from "../initializers.js";
import type { PlacedLayer } from "../model-shape.js";
import type { Remarks } from "./keras-remarks.js";

export type Json = Readonly<Record<string, unknown>>;

/** What Keras writes of an object: a layer, an initialiser, an optimizer. */
export interface KerasObject {
  readonly class_name: string;
  readonly config: Json;
}

/** A layer that is translated from Keras. */
export interface FromKeras {
  /** Begins messages: the file, and the layer. */
  readonly where: string;
  readonly layer: string;
  readonly remarks: Remarks;
}

/** A setting whose values Keras writes in another way. */
export interface KerasSetting {
  readonly name: string;
  /** Another name that files may have, of older or of later versions. */
  readonly formerly?: string;
  /** @throws UsageError for what Keras has no words for */
  readonly to: (value: unknown, where: string) => unknown;
  /** undefined: the layer's default. @throws DataError for what cannot be computed */
  readonly from: (value: unknown, context: FromKeras) => unknown;
}

/** A layer in Keras's words. */
export interface KerasWords {
  /** Keras's name of the class, where it is another, such as "Package>Name" of a class that a user registered. */
  readonly className?: string;
  /** Keras's names of the settings, by the layer's. */
  readonly settings?: Readonly<Record<string, string | KerasSetting>>;
  /** What Keras writes and Kilograd has one value of. Another value in a file would compute something else. */
  readonly fixed?: Json;
  /** As `fixed`, of settings that only some versions know: they are not written. */
  readonly fixedIfGiven?: Json;
  /** What Keras writes besides. */
  readonly written?: Json;
  /** What every layer has, and Keras's class does not take. */
  readonly refused?: readonly string[];
  /** Keras's names of weights, where they are others. */
  readonly weights?: Readonly<Record<string, string>>;
  /** Scalars without a part in what it computes that Keras has behind its weights, and what is written for them. */
  readonly besides?: Readonly<Record<string, number>>;
  /** For layers made of layers: groups of weights in a file of weights alone, as Keras 3 writes it, in their order. */
  readonly parts?: readonly string[];
  /** Names of its inputs, where they are arguments of a call, one by one, instead of a list. */
  readonly inputs?: readonly string[];
  /** Names of further inputs, behind these, that a call gives by name alone, such as masks. */
  readonly namedInputs?: readonly string[];
  /** What an input is where it is left out and a later one is not: one before it, by name. */
  readonly inputDefaults?: Readonly<Record<string, string>>;
  /** Keras's names of switches that a call has and not the layer, by the layer's settings. */
  readonly callSettings?: Readonly<Record<string, string>>;
  /** Arguments of a call that change nothing. */
  readonly passedOver?: readonly string[];
  /** Whether Theano, a backend of Keras 1 and 2, turns its kernel around. */
  readonly turnedByTheano?: boolean;
  /** What a file says of the layer, given its place. @throws DataError, beginning with `where`, for another function */
  readonly check?: (config: Json, placed: PlacedLayer, where: string) => void;
}

// Names that mean the same function in both. (Keras's leaky_relu has another slope by default.)
const activations: readonly (readonly [ActivationName, string])[] = [
  ["linear", "linear"],
  ["softmax", "softmax"],
  ["relu", "relu"],
  ["relu6", "relu6"],
  ["tanh", "tanh"],
  ["sigmoid", "sigmoid"],
  ["softplus", "softplus"],
  ["gelu", "gelu"],
  ["exp", "exponential"],
  ["elu", "elu"],
  ["selu", "selu"],
  ["swish", "silu"],
  ["hardSwish", "hard_silu"],
  ["hardSigmoid", "hard_sigmoid"],
];
/** Other names of Keras's. */
const aliases: Readonly<Record<string, string>> = { swish: "silu", hard_swish: "hard_silu" };

function unknownActivation(where: string, name: unknown, column: 0 | 1): string {
  const known = activations.map((pair) => pair[column]).join(", ");
  return `${where}: activation must be one of ${known}, is ${JSON.stringify(name)}`;
}

/** Activations that are objects in the file have names that are not known here. */
export const activationSetting: KerasSetting = {
  name: "activation",
  to(value, where) {
    const pair = activations.find(([ours]) => ours === value);
    if (pair !== undefined) return pair[1];
    throw new UsageError(unknownActivation(where, value, 0));
  },
  from(value, { where }) {
    if (value === undefined) return undefined;
    const name = value ?? "linear";
    const pair = activations.find(([, theirs]) => theirs === (aliases[String(name)] ?? name));
    if (pair === undefined) throw new DataError(unknownActivation(where, value, 1));
    return pair[0];
  },
};

/** Keras has no words for numbers of cells. */
export const paddingSetting: KerasSetting = {
  name: "padding",
  to(value, where) {
    if (typeof value === "string") return value;
    throw new UsageError(`${where}: padding must be "valid" or "same" for Keras, is ${JSON.stringify(value)}`);
  },
  from: (value) => value ?? undefined,
};

/** One number, which Keras writes as a list. */
export const onlySize = (name: string): KerasSetting => ({
  name,
  to: (value) => [value],
  from: (value) => (Array.isArray(value) && value.length === 1 ? value[0] : (value ?? undefined)),
});

const capitalized = (name: string) => name[0]!.toUpperCase() + name.slice(1);

export const classNameOf = (value: unknown): string => {
  const name = (value as { class_name?: unknown }).class_name ?? value;
  return typeof name === "string" ? name : "of its own";
};

/** For normalisations: of another axis than the last each is another function. tf.keras wrote a list. */
export function lastAxisOnly({ axis: given }: Json, { inputShape }: PlacedLayer, where: string): void {
  // Keras counts the batch axis.
  const axes = [given ?? -1].flat();
  if (axes.length === 1 && (axes[0] === -1 || axes[0] === inputShape.length)) return;
  throw new DataError(`${where}: axis must be the last, -1 or ${inputShape.length}, is ${axes.join(", ")}`);
}

/** An initialiser; one that is not known is told, since only training would need it. */
export const initializerSetting = (name: string): KerasSetting => ({
  name,
  to: (value) => toKerasInitializer(value as Initializer),
  from(value, { layer, remarks }) {
    if (value === undefined || value === null) return undefined;
    const found = fromKerasInitializer(value);
    if (found === undefined) remarks.lacks(layer, `${name} ${classNameOf(value)}`);
    return found;
  },
});

/** The penalty on squares; one on magnitudes is told. */
export const penaltySetting = (name: string): KerasSetting => ({
  name,
  to: (value) => (value ? { class_name: "L2", config: { l2: value } } : null),
  from(value, { layer, remarks }) {
    if (!value) return undefined;
    const { config } = value as { config?: { l1?: unknown; l2?: unknown } | null };
    const [l1 = 0, l2 = 0] = [config?.l1, config?.l2];
    const known = /^(L2|L1L2)$/.test(classNameOf(value)) && Number.isFinite(l2) && (l2 as number) >= 0;
    if (!known) remarks.lacks(layer, `${name} ${classNameOf(value)}`);
    else if (l1) remarks.lacks(layer, `${name}'s l1 of ${l1}`);
    return known ? l2 : undefined;
  },
});

/** Settings of layers with a kernel. */
export const kernelSettings: KerasWords["settings"] = {
  activation: activationSetting,
  useBias: "use_bias",
  kernelInitializer: initializerSetting("kernel_initializer"),
  biasInitializer: initializerSetting("bias_initializer"),
  kernelL2: penaltySetting("kernel_regularizer"),
};

/** What Keras writes of layers with a kernel, and Kilograd has none of. */
export const kernelWritten: Json = {
  bias_regularizer: null,
  activity_regularizer: null,
  kernel_constraint: null,
  bias_constraint: null,
};

function toKerasInitializer(initializer: Initializer): KerasObject {
  switch (initializer.name) {
    case "constant":
      return { class_name: "Constant", config: { value: initializer.value } };
    case "uniform":
      return {
        class_name: "RandomUniform",
        config: { minval: initializer.minimum, maxval: initializer.maximum, seed: null },
      };
    case "normal":
      return {
        class_name: "RandomNormal",
        config: { mean: initializer.mean, stddev: initializer.standardDeviation, seed: null },
      };
    default:
      return { class_name: capitalized(initializer.name), config: { seed: null } };
  }
}

/** Kilograd's initialiser of the same distribution, if there is one. */
function fromKerasInitializer(value: unknown): Initializer | undefined {
  // Old files have names such as "glorot_uniform".
  const { class_name: given, config = {} } = (typeof value === "string" ? { class_name: value } : value) as {
    class_name?: unknown;
    config?: Record<string, unknown>;
  };
  const name = typeof given === "string" ? given.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase()) : "";
  const plain = scalingInitializers.find((known) => capitalized(known) === name);
  if (plain !== undefined) return { name: plain };
  const numbers = (...names: string[]) => names.map((key) => config?.[key]).every((part) => Number.isFinite(part));
  if (/^Zeros?$/.test(name)) return { name: "constant", value: 0 };
  if (/^Ones?$/.test(name)) return { name: "constant", value: 1 };
  const { value: constant, minval, maxval, mean, stddev } = config as Record<string, number>;
  if (name === "Constant" && numbers("value")) return { name: "constant", value: constant! };
  if (name === "RandomUniform" && numbers("minval", "maxval")) {
    return { name: "uniform", minimum: minval!, maximum: maxval! };
  }
  if (name === "RandomNormal" && numbers("mean", "stddev")) {
    return { name: "normal", mean: mean!, standardDeviation: stddev! };
  }
  if (name !== "VarianceScaling") return undefined;
  // What Keras 2.0 to 2.3 wrote for the scaling initialisers.
  const scaled: Readonly<Record<string, string>> = { "1 fan_avg": "glorot", "1 fan_in": "lecun", "2 fan_in": "he" };
  const base = scaled[`${config?.["scale"]} ${config?.["mode"]}`];
  const distribution = { uniform: "Uniform", normal: "Normal", truncated_normal: "Normal" }[
    String(config?.["distribution"])
  ];
  return scalingInitializers.flatMap((known) => (known === `${base}${distribution}` ? [{ name: known }] : []))[0];
}
