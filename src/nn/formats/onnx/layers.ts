// Which ONNX operators are layers of Kilograd, and with what settings and weights. A maker says false where the node is
// none of its layer, and then it becomes one that runs the operator.
import { type Shape, sameShape, sizeOf } from "../../../tensor/shape.js";
import type { Builder, LayerParts } from "./build.js";
import type { Node } from "./graph.js";
import { firstOrder, lastOrder, turned } from "./layout.js";
import { OperatorCall } from "./operators/call.js";
import { type ResizedAxis, type ResizeRules, resizedAxes, rulesOf, weightsOf } from "./operators/resize.js";
import { type Numbers, ShapeDevice, Value } from "./value.js";

export type LayerMaker = (b: Builder, node: Node) => boolean;

interface Constant {
  readonly shape: Shape;
  readonly data: Numbers;
}

const attribute = (node: Node, name: string, standard: number): number =>
  (node.attributes[name] as number | undefined) ?? standard;
const list = (node: Node, name: string): readonly number[] | undefined =>
  node.attributes[name] as readonly number[] | undefined;

/** A layer's name: that of the node, else of its output. */
const nameOf = (node: Node): string => /^(?:.* > )?node "(.*)" \(/.exec(node.label)?.[1] || node.outputs[0]!;

/** Adds a layer of one input in an order, whose output has an order. */
function one(
  b: Builder,
  node: Node,
  parts: LayerParts,
  order: readonly number[],
  result = order,
  output = node.outputs[0]!,
): true {
  const number = b.add(nameOf(node), parts, [b.as(node.inputs[0]!, order).number]);
  b.set(output, { number, order: result });
  return true;
}

/** A layer to which the order of axes is nothing. */
function anyOrder(b: Builder, node: Node, parts: LayerParts): true {
  const x = b.raw(node.inputs[0]!);
  b.set(node.outputs[0]!, { ...x, number: b.add(nameOf(node), parts, [x.number]) });
  return true;
}

/** What comes in goes out. */
function through(b: Builder, node: Node): true {
  b.set(node.outputs[0]!, b.raw(node.inputs[0]!));
  return true;
}

const isFloat = (b: Builder, name: string) => b.knownOf(name).type.includes("float");

/** Activations that a layer before them can apply itself. */
const ACTIVATIONS: Readonly<Record<string, string>> = { Relu: "relu", Sigmoid: "sigmoid", Tanh: "tanh" };

/** The activation that alone uses a result, and the name of what it gives. */
function activationAfter(b: Builder, output: string): { activation?: string; output: string } {
  const next = b.onlyConsumer(output);
  const activation = next && ACTIVATIONS[next.op];
  if (next === undefined || activation === undefined || !isFloat(b, output)) return { output };
  b.skip(next);
  return { activation, output: next.outputs[0]! };
}

/** Windows of two axes as Keras has them: no padding, that of "same", or what stands before and after. */
function windows(node: Node, sizes: Shape, kernel: Shape) {
  const rank = kernel.length;
  const strides = list(node, "strides") ?? kernel.map(() => 1);
  const dilations = list(node, "dilations") ?? kernel.map(() => 1);
  const auto = (node.attributes["auto_pad"] as string | undefined) ?? "NOTSET";
  const given = list(node, "pads") ?? new Array<number>(2 * rank).fill(0);
  const total = kernel.map((k, axis) => {
    const output = Math.ceil(sizes[axis]! / strides[axis]!);
    return Math.max((output - 1) * strides[axis]! + (k - 1) * dilations[axis]! + 1 - sizes[axis]!, 0);
  });
  const upper = total.map((n) => [Math.floor(n / 2), Math.ceil(n / 2)] as const);
  const sides =
    auto === "SAME_UPPER"
      ? upper
      : auto === "SAME_LOWER"
        ? upper.map(([a, b]) => [b, a] as const)
        : auto === "VALID"
          ? kernel.map(() => [0, 0] as const)
          : kernel.map((_, axis) => [given[axis]!, given[rank + axis]!] as const);
  const none = sides.every(([a, b]) => a === 0 && b === 0);
  const same = sides.every(([a, b], axis) => a === upper[axis]![0] && b === upper[axis]![1]);
  return { strides, dilations, sides, padding: none ? "valid" : same ? "same" : sides.map((each) => [...each]) };
}

const kernelLast = ({ shape, data }: Constant) => turned({ shape, data }, [...firstOrder(shape.length).slice(2), 1, 0]);

function conv(b: Builder, node: Node): boolean {
  const [x, w, c] = node.inputs as [string, string, string?];
  const kernel = b.constant(w);
  const bias = c ? b.constant(c) : undefined;
  if (kernel === undefined || (c && bias === undefined)) return false;
  const rank = kernel.shape.length - 2;
  const channels = b.sample(x)[0]!;
  const group = attribute(node, "group", 1);
  const filters = kernel.shape[0]!;
  const size = kernel.shape.slice(2);
  const { strides, dilations, padding } = windows(node, b.sample(x).slice(1), size);
  if (rank > 2 || rank < 1 || (rank === 1 && typeof padding !== "string")) return false;
  if (typeof padding !== "string" && padding.some(([before, after]) => before! < 0 || after! < 0)) return false;
  const depthwise = rank === 2 && group === channels && group > 1;
  const { activation, output } = activationAfter(b, node.outputs[0]!);
  const weights: Record<string, Constant> = {};
  const common = { padding, useBias: bias !== undefined, ...(activation && { activation }) };
  const last = lastOrder(rank + 2);
  let parts: LayerParts;
  if (depthwise) {
    const multiplier = filters / channels;
    // [C multiplier, 1, h, w] as [h, w, C, multiplier].
    const turnedKernel = turned({ shape: [channels, multiplier, ...size], data: kernel.data }, [2, 3, 0, 1]);
    weights["kernel"] = turnedKernel;
    parts = {
      className: "DepthwiseConv2D",
      config: { kernelSize: size, strides, dilations, depthMultiplier: multiplier, ...common },
    };
  } else {
    weights["kernel"] = kernelLast(kernel);
    const config =
      rank === 2
        ? { filters, kernelSize: size, strides, dilations, ...(group > 1 && { groups: group }), ...common }
        : { filters, kernelSize: size[0]!, strides: strides[0]!, dilations: dilations[0]!, groups: group, ...common };
    parts = { className: rank === 2 ? "Conv2D" : "Conv1D", config };
  }
  if (bias !== undefined) weights["bias"] = bias;
  return one(b, node, { ...parts, weights }, last, last, output);
}

function convTranspose(b: Builder, node: Node): boolean {
  const [x, w, c] = node.inputs as [string, string, string?];
  const kernel = b.constant(w);
  const bias = c ? b.constant(c) : undefined;
  const auto = (node.attributes["auto_pad"] as string | undefined) ?? "NOTSET";
  if (kernel === undefined || (c && bias === undefined) || kernel.shape.length !== 4) return false;
  if (attribute(node, "group", 1) !== 1 || auto.startsWith("SAME") || list(node, "output_shape")) return false;
  const strides = list(node, "strides") ?? [1, 1];
  const dilations = list(node, "dilations") ?? [1, 1];
  const more = list(node, "output_padding") ?? [0, 0];
  const pads = auto === "VALID" ? [0, 0, 0, 0] : (list(node, "pads") ?? [0, 0, 0, 0]);
  if (more.some((n, axis) => n >= strides[axis]!) || pads.some((n) => n < 0)) return false;
  const filters = kernel.shape[1]!;
  const last = lastOrder(4);
  const crops = pads.some((n) => n > 0);
  const { activation, output } = crops
    ? { activation: undefined, output: node.outputs[0]! }
    : activationAfter(b, node.outputs[0]!);
  const config = {
    ...{ filters, kernelSize: kernel.shape.slice(2), strides, dilations, padding: "valid", outputPadding: more },
    ...{ useBias: bias !== undefined, ...(activation && { activation }) },
  };
  const weights = { kernel: kernelLast(kernel), ...(bias && { bias }) };
  const number = b.add(nameOf(node), { className: "Conv2DTranspose", config, weights }, [b.as(x, last).number]);
  if (!crops) {
    b.set(output, { number, order: last });
    return true;
  }
  const cropping = [
    [pads[0], pads[2]],
    [pads[1], pads[3]],
  ];
  b.set(output, {
    number: b.add(`${nameOf(node)}/crop`, { className: "Cropping2D", config: { cropping } }, [number]),
    order: last,
  });
  return true;
}

function batchNorm(b: Builder, node: Node): boolean {
  const [x, ...names] = node.inputs as [string, ...string[]];
  const [gamma, beta, movingMean, movingVariance] = names.map((name) => b.constant(name));
  if (!gamma || !beta || !movingMean || !movingVariance) return false;
  if (attribute(node, "training_mode", 0) !== 0 || (node.opset < 9 && attribute(node, "spatial", 1) === 0))
    return false;
  const config = { momentum: attribute(node, "momentum", 0.9), epsilon: attribute(node, "epsilon", 1e-5) };
  const weights = { gamma, beta, movingMean, movingVariance };
  return one(b, node, { className: "BatchNormalization", config, weights }, lastOrder(b.rank(x)));
}

/** Rows of a matrix for inputs whose columns were flattened from images with channels last. */
function rowsFor(b: Builder, x: string, { shape, data }: Constant): { number: number; weight: Constant } {
  const made = b.raw(x);
  if (made.flattened === undefined) return { number: b.as(x, firstOrder(b.rank(x))).number, weight: { shape, data } };
  const [rows, units] = shape as [number, number];
  const images = made.flattened;
  const channels = images.at(-1)!;
  const places = rows / channels;
  const moved = new Float64Array(data.length);
  for (let place = 0; place < places; place++) {
    for (let channel = 0; channel < channels; channel++) {
      const [to, from] = [(place * channels + channel) * units, (channel * places + place) * units];
      for (let u = 0; u < units; u++) moved[to + u] = data[from + u]!;
    }
  }
  return { number: made.number, weight: { shape, data: moved } };
}

/** A bias for each unit, where a constant is that. */
function biasOf(value: Constant | undefined, units: number): Constant | undefined {
  if (value === undefined) return undefined;
  const { shape, data } = value;
  if (data.length === units && shape.at(-1) === units) return { shape: [units], data };
  return data.length === 1 ? { shape: [units], data: new Float64Array(units).fill(data[0]!) } : undefined;
}

function gemm(b: Builder, node: Node): boolean {
  const [x, w, c] = node.inputs as [string, string, string?];
  const stored = b.constant(w);
  if (stored === undefined || !isFloat(b, x) || attribute(node, "transA", 0) !== 0 || stored.shape.length !== 2)
    return false;
  const [alpha, beta] = [attribute(node, "alpha", 1), attribute(node, "beta", 1)];
  const matrix = attribute(node, "transB", 0) === 0 ? stored : turned(stored, [1, 0]);
  const units = matrix.shape[1]!;
  const given = c ? biasOf(b.constant(c), units) : undefined;
  if (c && given === undefined) return false;
  const times = (value: Constant, factor: number) =>
    factor === 1 ? value : { ...value, data: Float64Array.from(value.data as ArrayLike<number>, (n) => n * factor) };
  const { number, weight } = rowsFor(b, x, times(matrix, alpha));
  return dense(b, node, { number, kernel: weight, bias: given && times(given, beta), output: node.outputs[0]! });
}

interface DenseParts {
  readonly number: number;
  readonly kernel: Constant;
  readonly bias: Constant | undefined;
  readonly output: string;
}

function dense(b: Builder, node: Node, { number, kernel, bias, output: before }: DenseParts): true {
  const { activation, output } = activationAfter(b, before);
  const config = { units: kernel.shape[1]!, useBias: bias !== undefined, ...(activation && { activation }) };
  const made = b.add(nameOf(node), { className: "Dense", config, weights: { kernel, ...(bias && { bias }) } }, [
    number,
  ]);
  b.set(output, { number: made, order: firstOrder(b.rank(output)) });
  return true;
}

function matMul(b: Builder, node: Node): boolean {
  const [x, w] = node.inputs as [string, string];
  const matrix = b.constant(w);
  if (matrix === undefined || matrix.shape.length !== 2 || !b.isTensor(x) || !isFloat(b, x) || b.rank(x) < 2)
    return false;
  const units = matrix.shape[1]!;
  const next = b.onlyConsumer(node.outputs[0]!);
  const other = next?.op === "Add" ? next.inputs.find((name) => name !== node.outputs[0]) : undefined;
  const value = other === undefined ? undefined : b.constant(other);
  const bias = value?.shape.length === 1 && value.data.length === units ? value : undefined;
  const { number, weight } = rowsFor(b, x, matrix);
  if (bias !== undefined) b.skip(next!);
  return dense(b, node, {
    number,
    kernel: weight,
    bias,
    output: bias === undefined ? node.outputs[0]! : next!.outputs[0]!,
  });
}

const activation =
  (name: string): LayerMaker =>
  (b, node) =>
    isFloat(b, node.inputs[0]!) && anyOrder(b, node, { className: "Activation", config: { activation: name } });

function softmax(b: Builder, node: Node): boolean {
  const x = node.inputs[0]!;
  const rank = b.rank(x);
  const given = attribute(node, "axis", node.opset < 13 ? 1 : -1);
  const axis = given < 0 ? given + rank : given;
  if (axis === 0 || (node.opset < 13 && axis !== rank - 1)) return false;
  const { order } = b.raw(x);
  const made = b.straight(x);
  const number = b.add(nameOf(node), { className: "Softmax", config: { axis: order.indexOf(axis) } }, [made.number]);
  b.set(node.outputs[0]!, { number, order: made.order });
  return true;
}

function clip(b: Builder, node: Node): boolean {
  const bound = (i: number, name: string) => {
    if (node.opset < 11) return (node.attributes[name] as number | undefined) ?? null;
    const value = b.constant(node.inputs[i]);
    return node.inputs[i] ? (value?.data.length === 1 ? value.data[0]! : undefined) : null;
  };
  const [low, high] = [bound(1, "min"), bound(2, "max")];
  if (
    low !== 0 ||
    high === undefined ||
    high === null ||
    !Number.isFinite(high) ||
    high < 0 ||
    !isFloat(b, node.inputs[0]!)
  )
    return false;
  return anyOrder(b, node, { className: "ReLU", config: { maxValue: high } });
}

/** Pooling that is Keras's: two axes, no dilation, and means of what is there. */
function pooling(className: string): LayerMaker {
  return (b, node) => {
    const [x] = node.inputs as [string];
    const size = list(node, "kernel_shape");
    if (
      size?.length !== 2 ||
      node.outputs.slice(1).some((name) => name !== "") ||
      attribute(node, "ceil_mode", 0) !== 0
    )
      return false;
    const { strides, dilations, sides, padding } = windows(node, b.sample(x).slice(1), size);
    if (dilations.some((n) => n !== 1) || sides.some((side, axis) => side.some((n) => n < 0 || n >= size[axis]!)))
      return false;
    if (className === "AveragePooling2D" && attribute(node, "count_include_pad", 0) !== 0 && padding !== "valid")
      return false;
    return one(b, node, { className, config: { poolSize: size, strides, padding } }, lastOrder(4));
  };
}

/** What keeps 1 x 1 pixels in ONNX; a matrix where only such is made of it. */
function globalPooling(className: string): LayerMaker {
  return (b, node) => {
    const [x] = node.inputs as [string];
    const rank = b.rank(x);
    if (rank !== 3 && rank !== 4) return false;
    const users = b.consumersOf(node.outputs[0]!);
    const flattens = (user: Node) =>
      b.rank(user.outputs[0]!) === 2 && ["Flatten", "Reshape", "Squeeze"].includes(user.op);
    const keepDims = !(users.length > 0 && users.every((user) => flattens(user) && b.canSkip(user)));
    const name = `${className}${rank - 2}D`;
    one(b, node, { className: name, config: { keepDims } }, lastOrder(rank), keepDims ? lastOrder(rank) : [0, 1]);
    if (keepDims) return true;
    for (const user of users) {
      b.skip(user);
      b.set(user.outputs[0]!, { number: b.raw(node.outputs[0]!).number, order: [0, 1] });
    }
    return true;
  };
}

/** A mean, or maximum, over all positions of a channel. */
function reduction(className: string): LayerMaker {
  return (b, node) => {
    const [x] = node.inputs as [string];
    const rank = b.rank(x);
    const given = list(node, "axes") ?? b.constant(node.inputs[1])?.data;
    if (given === undefined || rank < 3 || rank > 4 || !isFloat(b, x)) return false;
    const axes = Array.from(given as ArrayLike<number>, (axis) => (axis < 0 ? axis + rank : axis)).sort();
    // Of sequences that an operator of images has made; else the axes are no positions.
    if (!sameShape(axes, firstOrder(rank).slice(2)) || !sameShape(b.raw(x).order, lastOrder(rank))) return false;
    const keepDims = attribute(node, "keepdims", 1) !== 0;
    const name = `${className}${rank - 2}D`;
    return one(
      b,
      node,
      { className: name, config: { keepDims } },
      lastOrder(rank),
      keepDims ? lastOrder(rank) : [0, 1],
    );
  };
}

/** Layers of several inputs of one shape, or whose sizes of 1 stretch. */
function merging(className: string, count?: number): LayerMaker {
  return (b, node) => {
    const names = node.inputs;
    if (names.some((name) => !b.isTensor(name) || !isFloat(b, name)) || (count !== undefined && names.length !== count))
      return false;
    const rank = b.rank(names[0]!);
    if (names.length < 2 || names.some((name) => b.rank(name) !== rank)) return false;
    const order = b.raw(names.find((name) => !sameShape(b.raw(name).order, firstOrder(rank))) ?? names[0]!).order;
    const numbers = names.map((name) => b.as(name, order).number);
    b.set(node.outputs[0]!, { number: b.add(nameOf(node), { className, config: {} }, numbers), order });
    return true;
  };
}

function concat(b: Builder, node: Node): boolean {
  const names = node.inputs;
  if (names.some((name) => !b.isTensor(name) || !isFloat(b, name))) return false;
  const rank = b.rank(names[0]!);
  const given = attribute(node, "axis", 1);
  const axis = given < 0 ? given + rank : given;
  if (axis === 0) return false;
  if (names.length === 1) return through(b, node);
  const order = b.raw(names.find((name) => !sameShape(b.raw(name).order, firstOrder(rank))) ?? names[0]!).order;
  const numbers = names.map((name) => b.as(name, order).number);
  const config = { axis: order.indexOf(axis) };
  b.set(node.outputs[0]!, { number: b.add(nameOf(node), { className: "Concatenate", config }, numbers), order });
  return true;
}

/** Operators that ask for the columns of a flattened matrix in no order, so that it may have those of Kilograd. */
const INDIFFERENT = new Set(["Gemm", "MatMul", "Dropout", "Identity", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu"]);

/** Whether all that is made of a flattened matrix can be told of its order. */
function takesAnyColumns(b: Builder, name: string): boolean {
  const users = b.consumersOf(name);
  return (
    users.length > 0 &&
    users.every((user) => {
      if (!INDIFFERENT.has(user.op) || user.inputs[0] !== name || !b.canSkip(user)) return false;
      if (user.op === "Gemm" || user.op === "MatMul") {
        return b.constant(user.inputs[1]) !== undefined && attribute(user, "transA", 0) === 0;
      }
      return user.outputs.slice(1).every((other) => other === "") && takesAnyColumns(b, user.outputs[0]!);
    })
  );
}

/** [N, ...] to [N, product]: of images with channels last, in the order that they have, where nobody minds. */
function flatten(b: Builder, node: Node): boolean {
  const [x] = node.inputs as [string];
  const output = node.outputs[0]!;
  const sample = b.sample(x);
  if (b.rank(output) !== 2 || b.knownOf(output).shapes[0][1] !== sizeOf(sample) || b.rank(x) < 2) return false;
  const made = b.raw(x);
  if (made.flattened !== undefined || b.rank(x) === 2) return through(b, node);
  const rank = b.rank(x);
  const config = { className: "Flatten", config: {} };
  const inOrder = sameShape(
    made.order.filter((axis) => axis > 0 && sample[axis - 1] !== 1),
    firstOrder(rank).filter((axis) => axis > 0 && sample[axis - 1] !== 1),
  );
  if (inOrder || (sameShape(made.order, lastOrder(rank)) && takesAnyColumns(b, output))) {
    const number = b.add(nameOf(node), config, [made.number]);
    const images = made.order.slice(1).map((axis) => sample[axis - 1]!);
    b.set(output, { number, order: [0, 1], ...(!inOrder && { flattened: images }) });
    return true;
  }
  return one(b, node, config, firstOrder(rank), [0, 1]);
}

/** Another shape of each sample. */
function reshape(b: Builder, node: Node): boolean {
  const [x] = node.inputs as [string];
  const output = node.outputs[0]!;
  if (b.rank(x) < 2 || b.rank(output) < 2) return false;
  if (flatten(b, node)) return true;
  return one(
    b,
    node,
    { className: "Reshape", config: { targetShape: [...b.sample(output)] } },
    firstOrder(b.rank(x)),
    firstOrder(b.rank(output)),
  );
}

function transpose(b: Builder, node: Node): boolean {
  const [x] = node.inputs as [string];
  const rank = b.rank(x);
  const perm = list(node, "perm") ?? firstOrder(rank).reverse();
  if (perm[0] !== 0 || !b.isTensor(x)) return false;
  const made = b.straight(x);
  // Axis j of the result is axis perm[j] of x: the same memory in another order.
  const order = made.order.map((axis) => perm.indexOf(axis));
  const known = [firstOrder(rank), lastOrder(rank)].some((each) => sameShape(each, order));
  if (known) {
    b.set(node.outputs[0]!, { number: made.number, order });
    return true;
  }
  const dims = perm.slice(1).map((axis) => made.order.indexOf(axis));
  const number = b.add(nameOf(node), { className: "Permute", config: { dims } }, [made.number]);
  b.set(node.outputs[0]!, { number, order: firstOrder(rank) });
  return true;
}

function dropout(b: Builder, node: Node): boolean {
  if (node.outputs.slice(1).some((name) => name !== "" && b.consumersOf(name).length > 0)) return false;
  const rate = node.opset < 12 ? attribute(node, "ratio", 0.5) : (b.constant(node.inputs[1])?.data[0] ?? 0.5);
  if (!(rate >= 0 && rate < 1)) return false;
  return anyOrder(b, node, { className: "Dropout", config: { rate } });
}

function layerNorm(b: Builder, node: Node): boolean {
  const [x, s, c] = node.inputs as [string, string, string?];
  const rank = b.rank(x);
  const axis = attribute(node, "axis", -1);
  const gamma = b.constant(s);
  const beta = c ? b.constant(c) : undefined;
  const size = b.sample(x).at(-1)!;
  const [from] = [axis < 0 ? axis + rank : axis];
  if (from !== rank - 1 || gamma?.data.length !== size || (c && beta?.data.length !== size)) return false;
  if (node.outputs.slice(1).some((name) => name !== "" && b.consumersOf(name).length > 0)) return false;
  const config = { epsilon: attribute(node, "epsilon", 1e-5), center: beta !== undefined };
  const flat = (value: Constant) => ({ shape: [size], data: value.data });
  const weights = { gamma: flat(gamma!), ...(beta && { beta: flat(beta) }) };
  return one(b, node, { className: "LayerNormalization", config, weights }, firstOrder(rank));
}

/** Of each channel, or of groups of them whose scales are by channel. */
const groupNorm =
  (groups: (node: Node) => number): LayerMaker =>
  (b, node) => {
    const [x, s, c] = node.inputs as [string, string, string];
    const [gamma, beta] = [b.constant(s), b.constant(c)];
    const channels = b.sample(x)[0]!;
    if (gamma?.data.length !== channels || beta?.data.length !== channels) return false;
    const config = { groups: groups(node), epsilon: attribute(node, "epsilon", 1e-5) };
    const flat = ({ data }: Constant): Constant => ({ shape: [channels], data });
    return one(
      b,
      node,
      { className: "GroupNormalization", config, weights: { gamma: flat(gamma!), beta: flat(beta!) } },
      lastOrder(b.rank(x)),
    );
  };

/** A row of a constant table for each id. */
function gather(b: Builder, node: Node): boolean {
  const [table, ids] = node.inputs as [string, string];
  const rows = b.constant(table);
  const axis = attribute(node, "axis", 0);
  if (rows?.shape.length !== 2 || axis !== 0 || !b.isTensor(ids) || !isFloat(b, table)) return false;
  const config = { inputDim: rows.shape[0]!, outputDim: rows.shape[1]! };
  const number = b.add(nameOf(node), { className: "Embedding", config, weights: { embeddings: rows } }, [
    b.as(ids, firstOrder(b.rank(ids))).number,
  ]);
  b.set(node.outputs[0]!, { number, order: firstOrder(b.rank(node.outputs[0]!)) });
  return true;
}

function prelu(b: Builder, node: Node): boolean {
  const [x, s] = node.inputs as [string, string];
  const given = b.constant(s);
  const rank = b.rank(x);
  const channels = node.opset < 7 && given?.shape.length === 1 && given.data.length > 1;
  const slope = channels
    ? { shape: [given.data.length, ...new Array<number>(rank - 2).fill(1)], data: given.data }
    : given;
  if (slope === undefined || slope.shape.length > rank || !b.isTensor(x) || rank < 2) return false;
  const { order } = b.straight(x);
  const moved = turned(
    { shape: [...new Array<number>(rank - slope.shape.length).fill(1), ...slope.shape], data: slope.data },
    order,
  );
  const own = (moved.shape.length === rank ? moved.shape : new Array<number>(rank).fill(1)).slice(1);
  const sizes = order.slice(1).map((axis) => b.sample(x)[axis - 1]!);
  if (sizeOf(own) !== slope.data.length || own.some((n, k) => n !== 1 && n !== sizes[k])) return false;
  const sharedAxes = own.flatMap((n, k) => (n === 1 ? [k + 1] : []));
  return one(
    b,
    node,
    { className: "PReLU", config: { sharedAxes }, weights: { alpha: { shape: own, data: moved.data } } },
    order,
  );
}

/** Most weights that are compared of an axis. */
const MOST_COMPARED = 2 ** 22;

/** Images of another size, where every pixel is made of those that Kilograd's layer makes it of. */
function resize(b: Builder, node: Node): boolean {
  const [x, ...others] = node.inputs as [string, ...string[]];
  if (b.rank(x) !== 4 || !isFloat(b, x)) return false;
  const given = others.map((name) => {
    if (name === "") return undefined;
    const { type, shapes, hosts } = b.knownOf(name);
    return hosts && Value.of(type, shapes[0], hosts[0]);
  });
  if (others.some((name, i) => name !== "" && given[i] === undefined)) return false;
  const call = new OperatorCall({
    ...{ where: node.label, attributes: node.attributes, opset: node.opset, outputs: 1 },
    ...{ inputs: [undefined, ...given], place: { device: new ShapeDevice(), exact: false } },
  });
  const rules = rulesOf(call);
  const isKept = (axis: ResizedAxis | undefined) =>
    axis === undefined || (axis.output === axis.input && axis.scale === 1);
  const [batch, channels, ...spatial] = resizedAxes(call, b.knownOf(x).shapes[0]);
  if (!isKept(batch) || !isKept(channels) || rules.mode === "cubic") return false;
  const sizes = spatial.map((axis, i) => axis ?? { ...unchanged, ...sized(b.sample(x)[i + 1]!) });
  const interpolation = rules.mode === "nearest" ? "nearest" : "bilinear";
  const isOurs = sizes.every((axis) => {
    const { input, output } = axis;
    if (input * output > MOST_COMPARED) return false;
    const found = weightsOf(rules, axis);
    const wanted = weightsOf(OURS, { ...axis, scale: output / input, length: output, from: 0, to: 1 });
    return found.rows.every((row, o) => {
      if (found.outside[o]) return false;
      if (interpolation === "nearest") return row[Math.floor(((2 * o + 1) * input) / (2 * output))] === 1;
      return row.every((w, i) => Math.abs(w - wanted.rows[o]![i]!) < 1e-6);
    });
  });
  if (!isOurs) return false;
  const factors = sizes.map(({ input, output }) => output / input);
  const [height, width] = sizes.map(({ output }) => output);
  const parts = factors.every(Number.isInteger)
    ? { className: "UpSampling2D", config: { size: factors, interpolation } }
    : { className: "Resizing", config: { height, width, interpolation } };
  return one(b, node, parts, lastOrder(4));
}

/** As Kilograd's layers compute it, and Keras's. */
const OURS: ResizeRules = {
  ...{ mode: "linear", coordinates: "half_pixel", nearest: "round_prefer_ceil", cubic: -0.75 },
  ...{ excludeOutside: false, antialias: false, extrapolation: 0 },
};
const unchanged = { scale: 1, from: 0, to: 1 };
const sized = (size: number) => ({ input: size, output: size, length: size });

const floatOnly =
  (className: string, config: (node: Node) => Record<string, unknown>): LayerMaker =>
  (b, node) =>
    isFloat(b, node.inputs[0]!) && anyOrder(b, node, { className, config: config(node) });

export const makers: Readonly<Record<string, LayerMaker>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
  BatchNormalization: batchNorm,
  Gemm: gemm,
  MatMul: matMul,
  Relu: activation("relu"),
  Sigmoid: activation("sigmoid"),
  Tanh: activation("tanh"),
  Softplus: activation("softplus"),
  Exp: activation("exp"),
  Erf: activation("erf"),
  HardSwish: activation("hardSwish"),
  Selu: (b, node) => Object.keys(node.attributes).length === 0 && activation("selu")(b, node),
  Gelu: (b, node) => (node.attributes["approximate"] ?? "none") === "none" && activation("gelu")(b, node),
  LeakyRelu: floatOnly("LeakyReLU", (node) => ({ negativeSlope: attribute(node, "alpha", 0.01) })),
  Elu: floatOnly("ELU", (node) => ({ alpha: attribute(node, "alpha", 1) })),
  PRelu: prelu,
  Clip: clip,
  Softmax: softmax,
  MaxPool: pooling("MaxPooling2D"),
  AveragePool: pooling("AveragePooling2D"),
  ReduceMean: reduction("GlobalAveragePooling"),
  ReduceMax: reduction("GlobalMaxPooling"),
  GlobalAveragePool: globalPooling("GlobalAveragePooling"),
  GlobalMaxPool: globalPooling("GlobalMaxPooling"),
  Add: merging("Add", 2),
  Sum: merging("Add"),
  Mul: merging("Multiply", 2),
  Sub: merging("Subtract", 2),
  Max: merging("Maximum"),
  Min: merging("Minimum"),
  Mean: merging("Average"),
  Concat: concat,
  Flatten: (b, node) => flatten(b, node) || reshape(b, node),
  Reshape: reshape,
  Squeeze: (b, node) => b.rank(node.outputs[0]!) >= 2 && reshape(b, node),
  Unsqueeze: (b, node) => reshape(b, node),
  Transpose: transpose,
  Identity: through,
  Dropout: dropout,
  LayerNormalization: layerNorm,
  InstanceNormalization: groupNorm(() => -1),
  GroupNormalization: (b, node) => groupNorm((each) => attribute(each, "num_groups", 1))(b, node),
  Gather: gather,
  Resize: resize,
  Upsample: resize,
};
