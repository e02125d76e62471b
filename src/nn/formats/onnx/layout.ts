// Operators on images whose channels are last: which can be told so, and which have their axes renumbered instead.
import type { Shape } from "../../../tensor/shape.js";
import type { Node } from "./graph.js";
import type { Attribute } from "./operators/call.js";
import type { Numbers } from "./value.js";

/** ONNX's order of axes. */
export const firstOrder = (rank: number): number[] => Array.from({ length: rank }, (_, k) => k);
/** Channels last. */
export const lastOrder = (rank: number): number[] =>
  rank < 3 ? firstOrder(rank) : [0, ...firstOrder(rank).slice(2), 1];

/** Operators that know images, and take the order of their axes as an option. */
const SPATIAL = new Set([
  ...[
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalMaxPool",
    "GlobalAveragePool",
    "GlobalLpPool",
  ],
  ...["BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"],
  ...["Resize", "Upsample", "DepthToSpace", "SpaceToDepth"],
]);
export const isSpatial = (op: string): boolean => SPATIAL.has(op);

/** Operators to which the order of axes is nothing, as long as all operands have the same. */
const ELEMENTWISE = new Set([
  ...[
    "Abs",
    "Neg",
    "Sign",
    "Relu",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Erf",
    "Sin",
    "Cos",
    "Tan",
    "Atan",
    "Asin",
    "Acos",
  ],
  ...["Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Tanh", "Sigmoid", "Softplus", "Softsign", "Floor", "Ceil", "Round"],
  ...[
    "Mish",
    "Swish",
    "Gelu",
    "HardSwish",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "ThresholdedRelu",
    "Shrink",
  ],
  ...["PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sum", "Max", "Min", "Mean", "Equal", "Less", "LessOrEqual"],
  ...["Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Where", "Clip", "Cast", "CastLike"],
  ...["Identity", "Dropout"],
]);
export const isElementwise = (op: string): boolean => ELEMENTWISE.has(op);

/** Operators along one axis, and its number where they do not say. */
const ALONG: Readonly<Record<string, number>> = {
  ...{ Softmax: -1, LogSoftmax: -1, Hardmax: -1, LpNormalization: -1, Concat: 1, Split: 0, ArgMax: 0, ArgMin: 0 },
};

interface Constant {
  readonly shape: Shape;
  readonly data: Numbers;
}

/** A node for other orders of axes: of inputs by their rank, and of the results. */
export interface Renumbered {
  readonly node: Node;
  readonly channelsLast: boolean;
  readonly order: (rank: number) => readonly number[];
  readonly result: (rank: number) => readonly number[];
  /** What becomes of a constant input. */
  readonly constant: (input: number, value: Constant) => Constant;
}

export interface Around {
  readonly rankOf: (name: string) => number;
  readonly constant: (name: string) => Constant | undefined;
  readonly isTensor: (name: string) => boolean;
}

const same = (_: number, value: Constant) => value;

/** A node as it runs with channels last, undefined where it cannot. */
export function renumbered(node: Node, around: Around): Renumbered | undefined {
  const { op, attributes, opset } = node;
  const whole = { node, order: lastOrder, result: lastOrder };
  if (isSpatial(op)) return { ...whole, channelsLast: true, constant: same };
  const tensors = node.inputs.filter((name) => name !== "" && around.isTensor(name));
  const rank = Math.max(...tensors.map(around.rankOf));
  if (rank < 3 || tensors.some((name) => around.rankOf(name) !== rank)) return undefined;
  const order = lastOrder(rank);
  const place = (axis: number) => order.indexOf(axis < 0 ? axis + rank : axis);
  const plain = { ...whole, channelsLast: false };
  if (isElementwise(op)) return { ...plain, constant: (_, value) => turned(value, order) };
  const withAttributes = (changed: Readonly<Record<string, Attribute>>) => ({
    ...node,
    attributes: { ...attributes, ...changed },
  });
  const list = (name: string) => attributes[name] as readonly number[] | undefined;
  if (Object.hasOwn(ALONG, op)) {
    if (["Softmax", "LogSoftmax", "Hardmax"].includes(op) && opset < 13) return undefined;
    if (op.startsWith("Arg") && attributes["keepdims"] === 0) return undefined;
    const axis = (attributes["axis"] as number | undefined) ?? ALONG[op]!;
    const along = withAttributes({ axis: place(axis) });
    return { ...plain, node: along, constant: (_, value) => (op === "Concat" ? turned(value, order) : value) };
  }
  if (op.startsWith("Reduce")) {
    const axes = list("axes") ?? (around.constant(node.inputs[1] ?? "")?.data as readonly number[] | undefined);
    if (axes === undefined || axes.length === 0) return undefined;
    const changed = attributes["axes"] === undefined ? node : withAttributes({ axes: axes.map(place) });
    const constant = (_: number, value: Constant) => ({
      ...value,
      data: Array.from(value.data as ArrayLike<number>, place),
    });
    if (attributes["keepdims"] !== 0) return { ...plain, node: changed, constant };
    const gone = new Set(Array.from(axes, (axis) => (axis < 0 ? axis + rank : axis)));
    const kept = order.filter((axis) => !gone.has(axis));
    const numbers = [...kept].sort((a, b) => a - b);
    return { ...plain, node: changed, constant, result: () => kept.map((axis) => numbers.indexOf(axis)) };
  }
  if (op === "Pad") {
    if (node.inputs[3]) return undefined;
    const moved = (pads: readonly number[]) => [0, rank].flatMap((begin) => order.map((axis) => pads[begin + axis]!));
    if (opset < 11) {
      const pads = list("pads");
      return pads && { ...plain, node: withAttributes({ pads: moved(pads) }), constant: same };
    }
    const constant = (input: number, value: Constant) =>
      input === 1 ? { ...value, data: moved(Array.from(value.data as ArrayLike<number>)) } : value;
    return { ...plain, constant };
  }
  if (op === "Slice") {
    if (opset < 10) {
      const axes = list("axes");
      return axes && { ...plain, node: withAttributes({ axes: axes.map(place) }), constant: same };
    }
    if (!node.inputs[3]) return undefined;
    const constant = (input: number, value: Constant) =>
      input === 3 ? { ...value, data: Array.from(value.data as ArrayLike<number>, place) } : value;
    return { ...plain, constant };
  }
  return undefined;
}

/** A constant with its axes in another order; missing ones, of size 1, come first as for broadcasting. */
export function turned({ shape, data }: Constant, order: readonly number[]): Constant {
  if (data.length === 1 || shape.length > order.length) return { shape, data };
  const filled = [...new Array<number>(order.length - shape.length).fill(1), ...shape];
  const result = order.map((axis) => filled[axis]!);
  const strides = filled.map((_, axis) => filled.slice(axis + 1).reduce((a, b) => a * b, 1));
  const values = new Float64Array(data.length);
  const at = result.map(() => 0);
  for (let i = 0; i < values.length; i++) {
    let from = 0;
    for (let k = 0; k < at.length; k++) from += at[k]! * strides[order[k]!]!;
    values[i] = data[from]!;
    for (let k = at.length - 1; k >= 0 && ++at[k]! === result[k]; k--) at[k] = 0;
  }
  return { shape: result, data: values };
}
