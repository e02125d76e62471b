// Which ONNX operators each layer becomes: one table of functions of one tensor, and one of classes of layers. Sizes
// along all axes but that of the batch are known, so padding, axes and shapes are written as numbers.
import { transposedAxis } from "../../../autograd/ops/conv-transpose.js";
import { type Padding, windowAxis } from "../../../kernels/conv2d/geometry.js";
import { UsageError } from "../../../tensor/errors.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import type { ActivationName } from "../../activations.js";
import type { LayerConfig } from "../../layer.js";
import { type NormalizationOptions, statisticsAxes } from "../../layers/preprocessing.js";
import {
  type Attributes,
  axisIn,
  type GraphWriter,
  type Layout,
  type Numbers,
  permuted,
  toFirst,
  type Value,
} from "./write-graph.js";
import { writeOperators } from "./write-operators.js";

/** A call of a layer, and what its nodes are written with. */
export class LayerCall {
  constructor(
    readonly graph: GraphWriter,
    /** Of the layer. */
    readonly name: string,
    readonly config: LayerConfig,
    readonly weights: Readonly<Record<string, Numbers>>,
    readonly inputs: readonly Value[],
    /** Of the output, for one sample. */
    readonly shape: Shape,
  ) {}

  /** Its first input. */
  get x(): Value {
    return this.inputs[0]!;
  }

  /** The name of its first input in a layout, by default in the one that it was made in. */
  given(layout: Layout = this.x.layout): string {
    return this.graph.as(this.x, layout);
  }

  op(opType: string, inputs: readonly string[], attributes?: Attributes): string {
    return this.graph.op(this.name, opType, inputs, attributes);
  }

  number = (value: number): string => this.graph.number(value);
  integers = (values: readonly number[]): string => this.graph.integers(values);

  /** A weight, or a form of it. */
  weight(name: string, make: (weight: Numbers) => Numbers = (same) => same, form = ""): string {
    return this.graph.floats(`${this.name}/${name}`, () => make(this.weights[name]!), form);
  }

  /** A tensor of one number. */
  filled = (value: number, shape: Shape): string =>
    this.graph.floats(`${["zeros", "ones"][value]}_${shape.join("_")}`, () => ({
      ...{ shape, data: new Float32Array(sizeOf(shape)).fill(value) },
    }));

  /** What it gives. */
  value(layout: Layout, name: string): Value {
    return { shape: this.shape, layout, names: { [layout]: name } };
  }

  /** What it gives, with its activation. */
  activated(layout: Layout, name: string): Value {
    return this.value(layout, this.activation(this.config["activation"] as ActivationName, layout, name));
  }

  activation(activation: ActivationName, layout: Layout, name: string): string {
    const write = activations[activation];
    if (write !== undefined) return write(this, name, axisIn(layout, -1, this.shape.length + 1));
    throw new UsageError(
      `layer "${this.name}" has the activation ${activation}, which has no ONNX operators; save the model as "safetensors"`,
    );
  }

  /** A setting that is a number. */
  setting = (name: string): number => this.config[name] as number;

  reshaped(name: string, sizes: readonly number[]): string {
    // 0 stands for the size that the axis has.
    return this.op("Reshape", [name, this.integers([0, ...sizes])]);
  }
}

const float = (value: number) => ({ float: value });
const int = (value: number) => ({ int: value });
const ints = (values: readonly number[]) => ({ ints: values });

/** A function of one tensor, whose last axis in Kilograd's layout is `axis` here. */
type Activation = (call: LayerCall, x: string, axis: number) => string;

/** One operator. */
const plain =
  (opType: string, attributes?: Attributes): Activation =>
  (call, x) =>
    call.op(opType, [x], attributes);

/** By their names. A test fails while one is missing. */
export const activations: Readonly<Partial<Record<ActivationName, Activation>>> = {
  linear: (_, x) => x,
  softmax: (call, x, axis) => call.op("Softmax", [x], { axis: int(axis) }),
  relu: plain("Relu"),
  relu6: (call, x) => call.op("Clip", [x, call.number(0), call.number(6)]),
  tanh: plain("Tanh"),
  sigmoid: plain("Sigmoid"),
  softplus: plain("Softplus"),
  elu: plain("Elu", { alpha: float(1) }),
  selu: plain("Selu", { alpha: float(1.6732632423543772), gamma: float(1.0507009873554805) }),
  leakyRelu: plain("LeakyRelu", { alpha: float(0.3) }),
  hardSigmoid: plain("HardSigmoid", { alpha: float(1 / 6), beta: float(0.5) }),
  hardSwish: plain("HardSwish"),
  swish: (call, x) => call.op("Mul", [x, call.op("Sigmoid", [x])]),
  // 0.5 x (1 + erf(x / sqrt(2))), as PyTorch writes it: there is one operator from opset 20 only.
  gelu: (call, x) => {
    const erf = call.op("Erf", [call.op("Div", [x, call.number(Math.SQRT2)])]);
    return call.op("Mul", [call.op("Mul", [x, call.op("Add", [erf, call.number(1)])]), call.number(0.5)]);
  },
  lecunTanh: (call, x) => {
    const tanh = call.op("Tanh", [call.op("Mul", [x, call.number(2 / 3)])]);
    const scaled = call.op("Mul", [tanh, call.number(1.7159)]);
    return call.op("Add", [scaled, call.op("Mul", [x, call.number(0.01)])]);
  },
  clip: (call, x) => call.op("Clip", [x, call.number(0), call.number(1)]),
  neg: plain("Neg"),
  exp: plain("Exp"),
  log: plain("Log"),
  sqrt: plain("Sqrt"),
  rsqrt: (call, x) => call.op("Reciprocal", [call.op("Sqrt", [x])]),
  square: (call, x) => call.op("Mul", [x, x]),
  reciprocal: plain("Reciprocal"),
  abs: plain("Abs"),
  sign: plain("Sign"),
  floor: plain("Floor"),
  sin: plain("Sin"),
  cos: plain("Cos"),
  tan: plain("Tan"),
  atan: plain("Atan"),
  erf: plain("Erf"),
  expm1: (call, x) => call.op("Sub", [call.op("Exp", [x]), call.number(1)]),
  log1p: (call, x) => call.op("Log", [call.op("Add", [x, call.number(1)])]),
};

/** What a call gives. */
type LayerWriter = (call: LayerCall) => Value;

/** Of a sliding window along one axis. */
interface Slide {
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly padding: "valid" | "same" | readonly [number, number];
}

/** Attributes of windows over [N, C, ...], and what lies under them: inputs less what a negative padding leaves out. */
function windows(call: LayerCall, slides: readonly Slide[], dilated = true): { x: string; attributes: Attributes } {
  const axes = slides.map((slide, i) => windowAxis(call.name, { input: call.x.shape[i]!, ...slide }, slide.padding));
  const before = axes.map(({ padding }) => padding);
  const after = axes.map(({ input, output, kernel, stride, dilation, padding }) => {
    return (output - 1) * stride + dilation * (kernel - 1) + 1 - input - padding;
  });
  // Less than a stride is left out by itself.
  const left = axes.map(({ input, stride }, i) => (after[i]! <= -stride ? input + after[i]! : input));
  let x = call.given("first");
  if (axes.some(({ input }, i) => left[i] !== input)) {
    const places = axes.map((_, i) => i + 2);
    x = call.op("Slice", [x, ...[axes.map(() => 0), left, places].map(call.integers)]);
  }
  const attributes = {
    kernel_shape: ints(axes.map(({ kernel }) => kernel)),
    strides: ints(axes.map(({ stride }) => stride)),
    pads: ints([...before, ...after.map((size) => Math.max(size, 0))]),
    ...(dilated && { dilations: ints(axes.map(({ dilation }) => dilation)) }),
  };
  return { x, attributes };
}

/** Windows of a layer over images. */
function slides2d({ config }: LayerCall, size: "kernelSize" | "poolSize"): Slide[] {
  const {
    [size]: kernel,
    strides,
    dilations = [1, 1],
    padding,
  } = config as unknown as Record<string, [number, number]>;
  const each = (padding as unknown as Padding) ?? "valid";
  return [0, 1].map((k) => ({
    ...{ kernel: kernel![k]!, stride: strides![k]!, dilation: dilations[k]! },
    padding: typeof each === "string" ? each : each[k]!,
  }));
}

/** Windows of a layer over sequences; "causal" is padding in front alone. */
function slides1d({ config }: LayerCall, size: "kernelSize" | "poolSize"): Slide[] {
  const { [size]: kernel, strides: stride, dilations: dilation = 1 } = config as unknown as Record<string, number>;
  const padding = config["padding"] as "valid" | "same" | "causal";
  return [
    {
      ...{ kernel: kernel!, stride: stride!, dilation },
      padding: padding === "causal" ? [dilation * (kernel! - 1), 0] : padding,
    },
  ];
}

const bias = (call: LayerCall) => ("bias" in call.weights ? [call.weight("bias")] : []);

/** Kernels [..., in, out] as [out, in, ...]. */
const kernelFirst = (kernel: Numbers): Numbers => {
  const rank = kernel.shape.length;
  return permuted(kernel, [rank - 1, rank - 2, ...Array.from({ length: rank - 2 }, (_, i) => i)]);
};

/** Kernels [h, w, C, m] as [C m, 1, h, w]. */
const depthwiseFirst = ({ shape: [height, width, channels, each], data }: Numbers): Numbers =>
  kernelFirst({ shape: [height!, width!, 1, channels! * each!], data });

const convolution =
  (slides: (call: LayerCall, size: "kernelSize") => Slide[]): LayerWriter =>
  (call) => {
    const { x, attributes } = windows(call, slides(call, "kernelSize"));
    const group = int((call.config["groups"] as number | undefined) ?? 1);
    const kernel = call.weight("kernel", kernelFirst, "[out, in, ...]");
    return call.activated("first", call.op("Conv", [x, kernel, ...bias(call)], { ...attributes, group }));
  };

const pooling =
  (opType: "MaxPool" | "AveragePool", slides: (call: LayerCall, size: "poolSize") => Slide[]): LayerWriter =>
  (call) => {
    const { x, attributes } = windows(call, slides(call, "poolSize"), false);
    // Cells of the padding are no part of a mean, by default.
    return call.value("first", call.op(opType, [x], attributes));
  };

/** Of all positions of a channel. */
const globalPooling =
  (kind: "Average" | "Max", reduction: "ReduceMean" | "ReduceMax"): LayerWriter =>
  (call) => {
    const keepDims = call.config["keepDims"] === true;
    if (call.x.layout === "last") {
      const axes = call.integers(call.x.shape.slice(1).map((_, i) => i + 1));
      return call.value("last", call.op(reduction, [call.given("last"), axes], { keepdims: int(keepDims ? 1 : 0) }));
    }
    const pooled = call.op(`Global${kind}Pool`, [call.given("first")]);
    return call.value("first", keepDims ? pooled : call.op("Flatten", [pooled], { axis: int(1) }));
  };

/** Cells before and after each axis between the batch and the channels. */
type Sides = readonly (readonly [number, number])[];

const sidesOf = (given: unknown): Sides =>
  typeof (given as Sides)[0] === "number" ? [given as never] : (given as Sides);

const padding: LayerWriter = (call) => {
  const sides = sidesOf(call.config["padding"]);
  const { layout } = call.x;
  const around = layout === "first" ? [[0, 0], [0, 0], ...sides] : [[0, 0], ...sides, [0, 0]];
  const pads = call.integers([0, 1].flatMap((side) => around.map((each) => each[side]!)));
  return call.value(layout, call.op("Pad", [call.given(), pads], { mode: { text: "constant" } }));
};

const cropping: LayerWriter = (call) => {
  const sides = sidesOf(call.config["cropping"]);
  const { layout, shape } = call.x;
  const starts = sides.map(([before]) => before);
  const ends = sides.map(([, after], i) => shape[i]! - after);
  const axes = sides.map((_, i) => axisIn(layout, i + 1, shape.length + 1));
  return call.value(layout, call.op("Slice", [call.given(), ...[starts, ends, axes].map(call.integers)]));
};

/**
 * Of whole factors the nearest pixel is exact in every runtime; else ties of floating-point positions would fall as the
 * runtime rounds, and the pixels are gathered by their numbers. Sizes are said as scales: ONNX Runtime 1.32 does not
 * take sizes of some axes where it has moved a Transpose through the node, and that of the batch is not known.
 */
const resizing: LayerWriter = (call) => {
  const { shape: from } = call.x;
  const spatial = from.slice(0, -1).map((_, i) => i);
  const sizes = spatial.map((i) => call.shape[i]!);
  const resize = (attributes: Attributes) => {
    const factors = sizes.map((size, i) => [from[i]!, size] as const);
    const inputs = [call.given("first"), "", call.graph.scales([[1, 1], [1, 1], ...factors])];
    return call.value("first", call.op("Resize", inputs, attributes));
  };
  if (call.config["interpolation"] === "bilinear") {
    return resize({ mode: { text: "linear" }, coordinate_transformation_mode: { text: "half_pixel" } });
  }
  if (sizes.every((size, i) => size % from[i]! === 0)) {
    const position = { coordinate_transformation_mode: { text: "asymmetric" }, nearest_mode: { text: "floor" } };
    return resize({ mode: { text: "nearest" }, ...position });
  }
  const { layout } = call.x;
  let x = call.given();
  for (const i of spatial) {
    const [input, output] = [from[i]!, sizes[i]!];
    const pixels = Array.from({ length: output }, (_, o) => Math.floor(((2 * o + 1) * input) / (2 * output)));
    const axis = int(axisIn(layout, i + 1, from.length + 1));
    x = call.op("Gather", [x, call.integers(pixels)], { axis });
  }
  return call.value(layout, x);
};

/** A constant that is broadcast to [N, ...shape] in a layout, of numbers for axes of one sample, others being 1. */
function spread(call: LayerCall, name: string, layout: Layout, make: () => Numbers): string {
  return call.graph.floats(
    `${call.name}/${name}`,
    () => {
      const numbers = make();
      const rank = numbers.shape.length;
      if (layout === "last" || rank < 2) return numbers;
      return permuted(
        numbers,
        toFirst(rank + 1)
          .slice(1)
          .map((axis) => axis - 1),
      );
    },
    layout,
  );
}

/** gamma and beta, or what stands for them where there are none. */
const scaleOf = (call: LayerCall, size: number) =>
  "gamma" in call.weights ? call.weight("gamma") : call.filled(1, [size]);
const offsetOf = (call: LayerCall, size: number) =>
  "beta" in call.weights ? call.weight("beta") : call.filled(0, [size]);

/** x gamma + beta, where there are any, in a layout; both have the shape `kept` of one sample. */
function scaled(call: LayerCall, x: string, layout: Layout, kept: Shape): string {
  let y = x;
  for (const [name, opType] of [
    ["gamma", "Mul"],
    ["beta", "Add"],
  ] as const) {
    const weight = call.weights[name];
    if (weight === undefined) continue;
    y = call.op(opType, [y, spread(call, name, layout, () => ({ ...weight, shape: kept }))]);
  }
  return y;
}

const layerNormalization: LayerWriter = (call) => {
  const { shape } = call.x;
  const rank = shape.length + 1;
  const axes = [call.config["axis"] as number | number[]].flat().map((axis) => (axis < 0 ? axis + rank : axis));
  axes.sort((a, b) => a - b);
  const x = call.given("last");
  const epsilon = float(call.setting("epsilon"));
  if (axes.every((axis, i) => axis === rank - axes.length + i)) {
    const sizes = axes.map((axis) => shape[axis - 1]!);
    const made = (name: string, value: number) =>
      name in call.weights
        ? call.weight(name, ({ data }) => ({ shape: sizes, data }), `${sizes}`)
        : call.filled(value, sizes);
    const beta = "beta" in call.weights ? [made("beta", 0)] : [];
    const inputs = [x, made("gamma", 1), ...beta];
    return call.value("last", call.op("LayerNormalization", inputs, { axis: int(-axes.length), epsilon }));
  }
  const over = call.integers(axes);
  const mean = (of: string) => call.op("ReduceMean", [of, over], { keepdims: int(1) });
  const centred = call.op("Sub", [x, mean(x)]);
  const variance = call.op("Add", [mean(call.op("Mul", [centred, centred])), call.number(call.setting("epsilon"))]);
  const y = call.op("Div", [centred, call.op("Sqrt", [variance])]);
  const kept = shape.map((size, i) => (axes.includes(i + 1) ? size : 1));
  return call.value("last", scaled(call, y, "last", kept));
};

/** ONNX's own operator has other factors before opset 21: normalised are instances whose channels are the groups. */
const groupNormalization: LayerWriter = (call) => {
  const { shape } = call.x;
  const channels = shape.at(-1)!;
  const positions = sizeOf(shape.slice(0, -1));
  const groups = call.setting("groups") === -1 ? channels : call.setting("groups");
  const epsilon = float(call.setting("epsilon"));
  const x = call.given("first");
  if (groups === channels && shape.length > 1) {
    const inputs = [x, scaleOf(call, channels), offsetOf(call, channels)];
    return call.value("first", call.op("InstanceNormalization", inputs, { epsilon }));
  }
  const [ones, zeros] = [1, 0].map((value) => call.filled(value, [groups]));
  const grouped = call.reshaped(x, [groups, (channels / groups) * positions]);
  const y = call.op("InstanceNormalization", [grouped, ones!, zeros!], { epsilon });
  const kept = shape.map((_, i) => (i === shape.length - 1 ? channels : 1));
  return call.value("first", scaled(call, call.reshaped(y, [channels, ...shape.slice(0, -1)]), "first", kept));
};

/** As in Kilograd, and Keras. */
const LEAST_DEVIATION = 1e-7;

const normalization: LayerWriter = (call) => {
  const { shape, layout } = call.x;
  const { axis, mean, variance, invert } = call.config as NormalizationOptions;
  const { axes } = statisticsAxes(axis!, shape);
  const kept = shape.map((size, i) => (axes.includes(i + 1) ? size : 1));
  const numbersOf = (name: string, given: unknown): Float32Array =>
    call.weights[name]?.data ?? Float32Array.from([given].flat(Number.POSITIVE_INFINITY) as number[]);
  const constant = (name: string, data: Float32Array) =>
    spread(call, name, layout, () => ({ shape: data.length === sizeOf(kept) ? kept : shape.map(() => 1), data }));
  const centre = constant("mean", numbersOf("mean", mean));
  const deviations = numbersOf("variance", variance).map((each) => Math.max(Math.sqrt(each), LEAST_DEVIATION));
  const deviation = constant("deviation", deviations);
  const x = call.given();
  if (invert) return call.value(layout, call.op("Add", [call.op("Mul", [x, deviation]), centre]));
  return call.value(layout, call.op("Div", [call.op("Sub", [x, centre]), deviation]));
};

const rescaling: LayerWriter = (call) => {
  const y = call.op("Mul", [call.given(), call.number(call.setting("scale"))]);
  const offset = call.setting("offset");
  return call.value(call.x.layout, offset === 0 ? y : call.op("Add", [y, call.number(offset)]));
};

/** The layout that most of a layer's inputs are in. */
const commonLayout = ({ inputs }: LayerCall): Layout =>
  2 * inputs.filter(({ layout }) => layout === "first").length >= inputs.length ? "first" : "last";

/** Inputs of one rank. Where axes are missing, ones of size 1 stand behind the batch axis, and channels are last. */
function operands(call: LayerCall): { layout: Layout; names: string[] } {
  const { inputs, graph } = call;
  const rank = Math.max(...inputs.map(({ shape }) => shape.length));
  if (inputs.every(({ shape }) => shape.length === rank)) {
    const layout = commonLayout(call);
    return { layout, names: inputs.map((value) => graph.as(value, layout)) };
  }
  const names = inputs.map((value) => {
    const missing = rank - value.shape.length;
    const name = graph.as(value, "last");
    if (missing === 0) return name;
    return call.op("Unsqueeze", [name, call.integers(Array.from({ length: missing }, (_, i) => i + 1))]);
  });
  return { layout: "last", names };
}

/** Two by two, from the left. */
const merging =
  (opType: string, after: (call: LayerCall, y: string) => string = (_, y) => y): LayerWriter =>
  (call) => {
    const { layout, names } = operands(call);
    const y = names.reduce((a, b) => call.op(opType, [a, b]));
    return call.value(layout, after(call, y));
  };

const concatenate: LayerWriter = (call) => {
  const layout = commonLayout(call);
  const axis = int(axisIn(layout, call.setting("axis"), call.shape.length + 1));
  const names = call.inputs.map((value) => call.graph.as(value, layout));
  return call.value(layout, call.op("Concat", names, { axis }));
};

const dot: LayerWriter = (call) => {
  const given = call.config["axes"] as number | readonly [number, number];
  const axes = typeof given === "number" ? [given, given] : given;
  const [a, b] = call.inputs.map((value, i) => {
    const rank = value.shape.length + 1;
    const at = axes[i]! < 0 ? axes[i]! + rank : axes[i]!;
    const size = value.shape[at - 1]!;
    const others = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== at && axis !== 0);
    const perm = [0, ...others, at];
    const x = call.graph.as(value, "last");
    const turned = perm.every((axis, k) => axis === k) ? x : call.op("Transpose", [x], { perm: ints(perm) });
    const rows = call.reshaped(turned, [sizeOf(value.shape) / size, size]);
    if (call.config["normalize"] !== true) return rows;
    const squares = call.op("ReduceSumSquare", [rows, call.integers([2])], { keepdims: int(1) });
    return call.op("Div", [rows, call.op("Sqrt", [call.op("Max", [squares, call.number(1e-12)])])]);
  });
  const columns = call.op("Transpose", [b!], { perm: ints([0, 2, 1]) });
  return call.value("last", call.reshaped(call.op("MatMul", [a!, columns]), call.shape));
};

/** The score of what is not attended to, as in Kilograd, and Keras. */
const MASKED = -1e9;

/** A mask [N, T, S] of 1 and 0, for all heads. */
const attendedTo = (call: LayerCall, mask: Value): string =>
  call.op("Unsqueeze", [call.op("Greater", [call.graph.as(mask, "last"), call.number(0)]), call.integers([1])]);

const attention: LayerWriter = (call) => {
  const [query, value = query!, key = value, mask] = call.inputs;
  const { numHeads: heads, keyDim, valueDim = keyDim } = call.config as unknown as Record<string, number>;
  const flat = (name: string, shape: Shape) => call.weight(name, ({ data }) => ({ shape, data }), `${shape}`);
  const withBias = (y: string, name: string, size: number) =>
    name in call.weights ? call.op("Add", [y, flat(name, [size])]) : y;
  const projected = (name: string, of: Value, depth: number, perm: readonly number[]) => {
    const [length, inputs] = of.shape as [number, number];
    const kernel = flat(`${name}Kernel`, [inputs, heads! * depth]);
    const y = withBias(call.op("MatMul", [call.graph.as(of, "last"), kernel]), `${name}Bias`, heads! * depth);
    return call.op("Transpose", [call.reshaped(y, [length, heads!, depth])], { perm: ints(perm) });
  };
  const q = projected("query", query!, keyDim!, [0, 2, 1, 3]);
  const k = projected("key", key, keyDim!, [0, 2, 3, 1]);
  const v = projected("value", value, valueDim!, [0, 2, 1, 3]);
  const masks = [
    ...(mask === undefined ? [] : [attendedTo(call, mask)]),
    ...(call.config["useCausalMask"] === true ? [call.graph.causal(query!.shape[0]!, key.shape[0]!)] : []),
  ];
  const masked = (scores: string, by: string) => call.op("Where", [by, scores, call.number(MASKED)]);
  const products = call.op("MatMul", [call.op("Mul", [q, call.number(1 / Math.sqrt(keyDim!))]), k]);
  const scores = masks.reduce(masked, products);
  const mixed = call.op("MatMul", [call.op("Softmax", [scores], { axis: int(-1) }), v]);
  const [length, units] = call.shape as [number, number];
  const rows = call.reshaped(call.op("Transpose", [mixed], { perm: ints([0, 2, 1, 3]) }), [length, heads! * valueDim!]);
  const y = call.op("MatMul", [rows, flat("outputKernel", [heads! * valueDim!, units])]);
  return call.value("last", withBias(y, "outputBias", units));
};

const dense: LayerWriter = (call) => {
  const x = call.given("last");
  if (call.shape.length === 1)
    return call.activated("last", call.op("Gemm", [x, call.weight("kernel"), ...bias(call)]));
  const product = call.op("MatMul", [x, call.weight("kernel")]);
  const [offset] = bias(call);
  return call.activated("last", offset === undefined ? product : call.op("Add", [product, offset]));
};

const separableConvolution: LayerWriter = (call) => {
  const { x, attributes } = windows(call, slides2d(call, "kernelSize"));
  const depthwise = call.weight("depthwiseKernel", depthwiseFirst, "[out, in, ...]");
  const channels = call.op("Conv", [x, depthwise], { ...attributes, group: int(call.x.shape[2]!) });
  const pointwise = call.weight("pointwiseKernel", kernelFirst, "[out, in, ...]");
  return call.activated("first", call.op("Conv", [channels, pointwise, ...bias(call)]));
};

const depthwiseConvolution: LayerWriter = (call) => {
  const { x, attributes } = windows(call, slides2d(call, "kernelSize"));
  const kernel = call.weight("kernel", depthwiseFirst, "[out, in, ...]");
  const group = int(call.x.shape[2]!);
  return call.activated("first", call.op("Conv", [x, kernel, ...bias(call)], { ...attributes, group }));
};

/** pads are cut off both ends of the whole result, and output_padding stands behind it; at most one is at the end. */
const transposedConvolution: LayerWriter = (call) => {
  const { outputPadding, padding } = call.config as unknown as {
    outputPadding: Shape | null;
    padding: "valid" | "same";
  };
  const slides = slides2d(call, "kernelSize");
  const axes = slides.map((slide, i) => transposedAxis(call.x.shape[i]!, slide, padding, outputPadding?.[i]));
  const more = axes.map(({ input, output, kernel, stride, dilation, padding: before }) => {
    return input + before - ((output - 1) * stride + dilation * (kernel - 1) + 1);
  });
  const attributes = {
    kernel_shape: ints(slides.map(({ kernel }) => kernel)),
    strides: ints(slides.map(({ stride }) => stride)),
    dilations: ints(slides.map(({ dilation }) => dilation)),
    pads: ints([...axes.map(({ padding: before }) => before), ...more.map((size) => Math.max(-size, 0))]),
    output_padding: ints(more.map((size) => Math.max(size, 0))),
  };
  const kernel = call.weight("kernel", (given) => permuted(given, [3, 2, 0, 1]), "[in, out, ...]");
  return call.activated("first", call.op("ConvTranspose", [call.given("first"), kernel, ...bias(call)], attributes));
};

const rectifier: LayerWriter = (call) => {
  const { maxValue, negativeSlope: slope, threshold } = call.config as unknown as Record<string, number>;
  const { layout } = call.x;
  const x = call.given();
  if (maxValue === null && threshold === 0) {
    const y = slope === 0 ? call.op("Relu", [x]) : call.op("LeakyRelu", [x], { alpha: float(slope!) });
    return call.value(layout, y);
  }
  const limits = [call.number(0), ...(maxValue === null ? [] : [call.number(maxValue!)])];
  let y = x;
  if (threshold !== 0) {
    const below = call.op("LessOrEqual", [x, call.number(threshold!)]);
    y = call.op("Where", [below, call.number(0), x]);
  }
  y = call.op("Clip", [y, ...limits]);
  if (slope !== 0) {
    const under = call.op("Relu", [call.op("Sub", [call.number(threshold!), x])]);
    y = call.op("Sub", [y, call.op("Mul", [under, call.number(slope!)])]);
  }
  return call.value(layout, y);
};

/** What training alone does, and prediction leaves as it is. */
const nothing: LayerWriter = ({ x }) => x;

const flatten: LayerWriter = (call) => {
  const { shape } = call.x;
  if (shape.length === 1) return call.x;
  // Where there is one position, or one channel, both layouts have the elements in one order.
  const either = shape.at(-1) === 1 || sizeOf(shape.slice(0, -1)) === 1;
  return call.value("last", call.op("Flatten", [call.given(either ? call.x.layout : "last")], { axis: int(1) }));
};

/** Each class of layers. What is not here is a user's own. */
export const layerWriters: Readonly<Record<string, LayerWriter>> = {
  Dense: dense,
  Conv2D: convolution(slides2d),
  Conv1D: convolution(slides1d),
  DepthwiseConv2D: depthwiseConvolution,
  SeparableConv2D: separableConvolution,
  Conv2DTranspose: transposedConvolution,
  // Ids are floats, as all inputs of models; fractions are cut off.
  Embedding: (call) => {
    const ids = call.op("Cast", [call.given("last")], { to: int(7) });
    return call.value("last", call.op("Gather", [call.weight("embeddings"), ids], { axis: int(0) }));
  },
  MaxPooling1D: pooling("MaxPool", slides1d),
  MaxPooling2D: pooling("MaxPool", slides2d),
  AveragePooling1D: pooling("AveragePool", slides1d),
  AveragePooling2D: pooling("AveragePool", slides2d),
  GlobalMaxPooling1D: globalPooling("Max", "ReduceMax"),
  GlobalMaxPooling2D: globalPooling("Max", "ReduceMax"),
  GlobalAveragePooling1D: globalPooling("Average", "ReduceMean"),
  GlobalAveragePooling2D: globalPooling("Average", "ReduceMean"),
  ZeroPadding1D: padding,
  ZeroPadding2D: padding,
  Cropping1D: cropping,
  Cropping2D: cropping,
  UpSampling1D: resizing,
  UpSampling2D: resizing,
  Resizing: resizing,
  BatchNormalization: (call) => {
    const size = call.x.shape.at(-1)!;
    const statistics = ["movingMean", "movingVariance"].map((name) => call.weight(name));
    const weights = [scaleOf(call, size), offsetOf(call, size), ...statistics];
    const attributes = { epsilon: float(call.setting("epsilon")), momentum: float(call.setting("momentum")) };
    return call.value("first", call.op("BatchNormalization", [call.given("first"), ...weights], attributes));
  },
  LayerNormalization: layerNormalization,
  GroupNormalization: groupNormalization,
  Normalization: normalization,
  Rescaling: rescaling,
  Add: merging("Add"),
  Subtract: merging("Sub"),
  Multiply: merging("Mul"),
  Average: merging("Add", (call, y) => call.op("Div", [y, call.number(call.inputs.length)])),
  Maximum: merging("Max"),
  Minimum: merging("Min"),
  Concatenate: concatenate,
  Dot: dot,
  MultiHeadAttention: attention,
  Dropout: nothing,
  SpatialDropout1D: nothing,
  SpatialDropout2D: nothing,
  GaussianNoise: nothing,
  GaussianDropout: nothing,
  Flatten: flatten,
  Reshape: (call) => call.value("last", call.reshaped(call.given("last"), call.shape)),
  Permute: (call) => {
    const perm = ints([0, ...(call.config["dims"] as readonly number[])]);
    return call.value("last", call.op("Transpose", [call.given("last")], { perm }));
  },
  RepeatVector: (call) => {
    const row = call.op("Unsqueeze", [call.given("last"), call.integers([1])]);
    return call.value("last", call.op("Tile", [row, call.integers([1, call.setting("n"), 1])]));
  },
  Activation: (call) => {
    const { layout } = call.x;
    const y = call.activation(call.config["activation"] as ActivationName, layout, call.given());
    return call.value(layout, y);
  },
  ReLU: rectifier,
  LeakyReLU: (call) =>
    call.value(call.x.layout, call.op("LeakyRelu", [call.given()], { alpha: float(call.setting("negativeSlope")) })),
  // y = alpha (e^x - 1) for x <= 0.
  ELU: (call) => call.value(call.x.layout, call.op("Elu", [call.given()], { alpha: float(call.setting("alpha")) })),
  PReLU: (call) => {
    const { layout } = call.x;
    return call.value(
      layout,
      call.op("PRelu", [call.given(), spread(call, "alpha", layout, () => call.weights["alpha"]!)]),
    );
  },
  Softmax: (call) => {
    const { layout, shape } = call.x;
    const axis = int(axisIn(layout, call.setting("axis"), shape.length + 1));
    return call.value(layout, call.op("Softmax", [call.given()], { axis }));
  },
  OnnxGraph: writeOperators,
};
