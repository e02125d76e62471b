// Operations on tensors in functional models, such as `2 * x + 1` and `tf.nn.relu(x)`, as layers of Kilograd's.
// tf.keras wraps them in layers (TFOpLambda); in Keras 3 they are entries beside the layers.
import { DataError } from "../../tensor/errors.js";
import type { StoredLayer } from "../model-config.js";
import { snakeCase } from "../model-shape.js";
import { type KerasCall, type KerasEntry, type Reference, TensorArgument } from "./keras-graph.js";
import type { Json } from "./keras-words.js";

/** A layer without its name. */
export type Unnamed = Pick<StoredLayer, "className"> & { readonly config: Json };

/** What an operation does, and what it is called on. */
export interface OperationLayers {
  /** One after the other. */
  readonly layers: readonly Unnamed[];
  readonly from: readonly Reference[];
  /** Of inputs of different ranks it would be another function than the layer's. */
  readonly equalRanks?: boolean;
}

const activation = (name: string): Unnamed => ({ className: "Activation", config: { activation: name } });
const rescaling = (scale: number, offset = 0): Unnamed => ({ className: "Rescaling", config: { scale, offset } });

/** Without settings, by their names without underscores. */
const activations: Readonly<Record<string, string>> = {
  ...{ sigmoid: "sigmoid", tanh: "tanh", silu: "swish", swish: "swish", softplus: "softplus", selu: "selu" },
  ...{ exp: "exp", log: "log", sqrt: "sqrt", square: "square", abs: "abs", absolute: "abs" },
  ...{ identity: "linear", stopgradient: "linear", hardsigmoid: "hardSigmoid", hardsilu: "hardSwish" },
};

const merging: Readonly<Record<string, string>> = {
  ...{ add: "Add", addv2: "Add", subtract: "Subtract", multiply: "Multiply", maximum: "Maximum", minimum: "Minimum" },
};

/**
 * The layers of an operation.
 * @param where begins messages: the file and the layer
 * @throws DataError for an operation, or arguments of one, that no layer computes
 */
export function operationLayers(
  { class_name: theirs, config }: KerasEntry,
  call: KerasCall,
  where: string,
): OperationLayers {
  const { function: called } = config as { function?: unknown };
  const full = typeof called === "string" ? called : theirs;
  const name = snakeCase(full.split(".").at(-1)!).replaceAll("_", "");
  const settings: Json = { ...config, ...call.words };
  const refused = (what = "") =>
    new DataError(
      `${where}: the operation ${full}${what} is none that a layer of Kilograd computes; ` +
        "rebuild the model with a layer in its place, see nn.defineLayer",
    );
  if (theirs === "SlicingOpLambda" || theirs === "TensorFlowOpLayer") throw refused();
  const [first, ...positional] = call.args;
  const tensors = (value: unknown): Reference[] | undefined => {
    const list = Array.isArray(value) ? value : [value];
    return list.every((part) => part instanceof TensorArgument) ? list.map(({ reference }) => reference) : undefined;
  };
  /** An argument by its place behind the first, or by its name. */
  const given = (place: number, ...names: string[]): unknown =>
    positional[place] ?? names.map((each) => settings[each]).find((value) => value !== undefined && value !== null);
  const only = tensors(first);
  const one = (...layers: Unnamed[]): OperationLayers => {
    if (only?.length === 1 && !Array.isArray(first)) return { layers, from: only };
    throw refused(" on several tensors");
  };
  const number = (value: unknown, standard: number): number => {
    if (value === undefined) return standard;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw refused(` with ${JSON.stringify(value)?.slice(0, 80)}`);
  };

  if (Object.hasOwn(merging, name) || name === "truediv" || name === "truedivide" || name === "divide") {
    const second = given(0, "y", "x2");
    const [a, b] = [tensors(first), tensors(second)];
    if (a?.length === 1 && b?.length === 1) {
      if (Object.hasOwn(merging, name))
        return { layers: [{ className: merging[name]!, config: {} }], from: [...a, ...b], equalRanks: true };
      throw refused(" of two tensors");
    }
    const [tensor, constant] = a === undefined ? [b, number(first, Number.NaN)] : [a, number(second, Number.NaN)];
    if (tensor?.length !== 1 || !Number.isFinite(constant)) throw refused(" with these arguments");
    const scaled = (scale: number, offset = 0) => ({ layers: [rescaling(scale, offset)], from: tensor });
    if (name === "add" || name === "addv2") return scaled(1, constant);
    if (name === "multiply") return scaled(constant);
    if (name === "subtract") return a === undefined ? scaled(-1, constant) : scaled(1, -constant);
    if (name === "maximum" && constant === 0) return { layers: [activation("relu")], from: tensor };
    if (/^true|^div/.test(name) && a !== undefined && constant !== 0) return scaled(1 / constant);
    throw refused(` with the number ${constant}`);
  }
  if (Object.hasOwn(activations, name)) return one(activation(activations[name]!));
  switch (name) {
    case "negative":
      return one(rescaling(-1));
    case "relu": {
      const slope = number(given(0, "alpha", "negative_slope"), 0);
      const most = given(1, "max_value");
      const threshold = number(given(2, "threshold"), 0);
      if (slope === 0 && most === undefined && threshold === 0) return one(activation("relu"));
      const limit = most === undefined ? {} : { maxValue: number(most, 0) };
      return one({ className: "ReLU", config: { negativeSlope: slope, threshold, ...limit } });
    }
    case "relu6":
      return one({ className: "ReLU", config: { maxValue: 6 } });
    case "clipbyvalue": {
      const [least, most] = [number(given(0, "clip_value_min"), Number.NaN), number(given(1, "clip_value_max"), 0)];
      if (least === 0 && most > 0) return one({ className: "ReLU", config: { maxValue: most } });
      throw refused(` from ${least}`);
    }
    case "leakyrelu":
      return one({
        className: "LeakyReLU",
        config: { negativeSlope: number(given(0, "alpha", "negative_slope"), 0.2) },
      });
    case "elu":
      return one({ className: "ELU", config: { alpha: number(given(0, "alpha"), 1) } });
    case "gelu":
      // TensorFlow's is exact by default, Keras 3's is not.
      if ((given(0, "approximate") ?? theirs !== "TFOpLambda") === false) return one(activation("gelu"));
      throw refused(" by an approximation");
    case "softmax":
      return one({ className: "Softmax", config: { axis: number(given(0, "axis"), -1) } });
    case "concat":
    case "concatenate":
      if (only !== undefined) {
        return { layers: [{ className: "Concatenate", config: { axis: number(given(0, "axis"), -1) } }], from: only };
      }
      throw refused(" with constants");
    case "addn":
      if (only !== undefined) return { layers: [{ className: "Add", config: {} }], from: only, equalRanks: true };
      throw refused(" with constants");
    case "cast":
      if (["float32", "float16", "bfloat16"].includes(String(given(0, "dtype")))) return one(activation("linear"));
      throw refused(` to ${String(given(0, "dtype"))}`);
    case "reshape": {
      const shape = given(0, "shape", "newshape");
      if (
        Array.isArray(shape) &&
        shape[0] === -1 &&
        shape.slice(1).every((size) => Number.isSafeInteger(size) && size > 0)
      ) {
        return one({ className: "Reshape", config: { targetShape: shape.slice(1) } });
      }
      throw refused(` to ${JSON.stringify(shape)?.slice(0, 80)}`);
    }
    case "transpose": {
      const axes = given(0, "perm", "axes");
      if (Array.isArray(axes) && axes[0] === 0) return one({ className: "Permute", config: { dims: axes.slice(1) } });
      throw refused(` of ${JSON.stringify(axes)?.slice(0, 80)}`);
    }
    case "reducemean":
    case "mean": {
      const axes = JSON.stringify([given(0, "axis")].flat());
      const rank = { "[1]": "1D", "[1,2]": "2D" }[axes];
      if (rank === undefined) throw refused(` over axes ${axes}`);
      const keepDims = Boolean(given(1, "keepdims", "keep_dims") ?? false);
      return one({ className: `GlobalAveragePooling${rank}`, config: { keepDims } });
    }
    default:
      throw refused();
  }
}
