// Graph models of TensorFlow.js: TensorFlow's operations, frozen, which become layers here. Images are [N, H, W, C] and
// kernels [h, w, in, out] in both, so that nothing is transposed. A bias and an activation of their own are taken into
// the layer before them where nobody else looks at what it gives.
//
//   node: [{ name, op, input: ["x", "y:1", "^control"], attr: { strides: { list: { i: ["1", "2", "2", "1"] } } } }]
//
// Attributes are protobuf's JSON: whole numbers are texts, texts are in base64.
import { array, looseObject, nullish, optional } from "valibot";
import { anyObject, parse, recordOf, text } from "../../../io/json.js";
import type { StoredTensor } from "../../../io/safetensors.js";
import { DataError } from "../../../tensor/errors.js";
import { formatShape, type Shape, sizeOf } from "../../../tensor/shape.js";
import type { ActivationName } from "../../activations.js";
import type { GraphInput } from "../../graph.js";
import type { ModelConfig } from "../../model-config.js";
import { checkedModelConfig } from "../../stored-config.js";

type Json = Readonly<Record<string, unknown>>;

const nodeSchema = looseObject(
  { name: text, op: text, input: optional(array(text, "a list of names"), []), attr: optional(anyObject, {}) },
  "an object",
);
const topologySchema = looseObject({ node: array(nodeSchema, "a list of nodes") }, "an object");

interface Node {
  readonly name: string;
  readonly op: string;
  /** Names of nodes that give values. */
  readonly input: readonly string[];
  readonly attr: Json;
}

/** A layer in the making: what follows may become a part of it. */
interface Made {
  readonly name: string;
  readonly className: string;
  config: Record<string, unknown>;
  /** Names of nodes that it is called on. */
  readonly from: readonly string[];
  readonly weights: Map<string, StoredTensor>;
}

/** What the graph says besides: where its outputs are. Old files have it within userDefinedMetadata. */
const signatureSchema = nullish(
  looseObject({ outputs: nullish(recordOf(looseObject({ name: text }, "an object"))) }, "an object"),
);

const INSTEAD =
  "convert the network to a layers model (its Keras file by tensorflowjs_converter) or to ONNX (tf2onnx) and load that";

/**
 * A network of a graph and its constants.
 * @throws DataError naming the node, for operations and attributes that no layer has
 */
export function readGraph(
  path: string,
  topology: unknown,
  rest: Json,
  constants: ReadonlyMap<string, StoredTensor>,
): { readonly config: ModelConfig; readonly weights: ReadonlyMap<string, StoredTensor> } {
  const reader = new GraphReader(path, parse(topologySchema, topology, `${path}: its modelTopology`).node, constants);
  const given = rest["signature"] ?? Object(rest["userDefinedMetadata"]).signature;
  const signature = parse(signatureSchema, given, `${path}: its signature`);
  return reader.read(Object.values(signature?.outputs ?? {}).map(({ name }) => name));
}

class GraphReader {
  private readonly nodes = new Map<string, Node>();
  private readonly consumers = new Map<string, number>();
  /** By the name of the node whose value it is. */
  private readonly made = new Map<string, Made>();
  /** Nodes that only hand on the value of another. */
  private readonly aliases = new Map<string, string>();
  private readonly inputs: GraphInput[] = [];
  private readonly weights = new Map<string, StoredTensor>();

  constructor(
    private readonly path: string,
    given: readonly { name: string; op: string; input: readonly string[]; attr: Json }[],
    private readonly constants: ReadonlyMap<string, StoredTensor>,
  ) {
    for (const { name, op, input, attr } of given) {
      if (this.nodes.has(name)) throw new DataError(`${path}: has two nodes "${name}"`);
      // What begins with ^ only says what runs before.
      const from = input.filter((each) => !each.startsWith("^"));
      this.nodes.set(name, { name, op, input: from, attr });
    }
    for (const { input } of this.nodes.values()) {
      for (const each of input) this.look(each);
    }
  }

  private look(value: string): void {
    const name = this.nodeOf(value);
    this.consumers.set(name, (this.consumers.get(name) ?? 0) + 1);
  }

  /** `named`: the outputs; none: nodes that nobody looks at. */
  read(named: readonly string[]) {
    const outputs = named.length > 0 ? named : this.ends();
    // What is an output is looked at, too.
    for (const each of outputs) this.look(each);
    for (const node of this.ordered()) this.add(node);
    for (const each of outputs) {
      const name = this.resolved(each);
      if (this.made.has(name) || this.inputs.some((input) => input.name === name)) continue;
      throw new DataError(`${this.path}: its output "${each}" is not computed from its inputs`);
    }
    const values = new Map(this.inputs.map(({ name }, i) => [name, i]));
    const layers: { className: string; config: Record<string, unknown> }[] = [];
    const calls: { layer: string; inputs: number[] }[] = [];
    const names = this.names();
    // In the order in which they were made, which computes.
    for (const [value, made] of this.made) {
      const name = names.get(made.name)!;
      values.set(value, this.inputs.length + calls.length);
      layers.push({ className: made.className, config: { ...made.config, name } });
      calls.push({ layer: name, inputs: made.from.map((from) => values.get(this.resolved(from))!) });
      for (const [word, tensor] of made.weights) this.weights.set(`${name}/${word}`, tensor);
    }
    const config = {
      className: "Functional",
      name: "graph_model",
      inputs: this.inputs.map((input) => ({ ...input, name: names.get(input.name) ?? input.name })),
      layers,
      calls,
      outputs: outputs.map((name) => values.get(this.resolved(name))!),
    };
    return { config: checkedModelConfig(config, `${this.path}: its graph`), weights: this.weights };
  }

  /** Names without the scopes that say nothing, where they stay apart. */
  private names(): ReadonlyMap<string, string> {
    const all = [...this.inputs.map(({ name }) => name), ...[...this.made.values()].map(({ name }) => name)];
    const short = all.map((name) => name.replaceAll("StatefulPartitionedCall/", "").replace(/[^\w./-]/g, "_"));
    const unique = new Set(short).size === short.length;
    return new Map(all.map((name, i) => [name, unique ? short[i]! : name]));
  }

  /** Nodes in an order that computes. @throws DataError for a circle, and inputs that are not there */
  private ordered(): Node[] {
    const order: Node[] = [];
    const state = new Map<string, "open" | "done">();
    for (const start of this.nodes.values()) {
      const stack: { node: Node; next: number }[] = [];
      const open = (node: Node) => {
        state.set(node.name, "open");
        stack.push({ node, next: 0 });
      };
      if (!state.has(start.name)) open(start);
      while (stack.length > 0) {
        const top = stack.at(-1)!;
        const given = top.node.input[top.next++];
        if (given === undefined) {
          state.set(top.node.name, "done");
          order.push(top.node);
          stack.pop();
          continue;
        }
        const from = this.nodes.get(this.nodeOf(given));
        if (from === undefined) throw this.fault(top.node, `uses "${given}", which is no node`);
        const before = state.get(from.name);
        if (before === "open") throw this.fault(top.node, `is computed from itself, by "${from.name}"`);
        if (before === undefined) open(from);
      }
    }
    return order;
  }

  /** "x:0" is the first value that x gives. */
  private nodeOf(value: string): string {
    const [, name, number = "0"] = /^(.*?)(?::(\d+))?$/s.exec(value)!;
    if (number !== "0") throw new DataError(`${this.path}: uses "${value}", and only first values of nodes are known`);
    return name!;
  }

  fault(node: Pick<Node, "name" | "op">, what: string): DataError {
    return new DataError(`${this.path}: node "${node.name}" (${node.op}) ${what}; ${INSTEAD}`);
  }

  /** The node whose value it is, behind those that only hand it on. */
  private resolved(value: string): string {
    let name = this.nodeOf(value);
    for (let next = this.aliases.get(name); next !== undefined; next = this.aliases.get(name)) name = next;
    return name;
  }

  private ends(): string[] {
    const ends = [...this.nodes.values()].filter(({ name, op }) => !this.consumers.has(name) && op !== "Const");
    return ends.map(({ name }) => name);
  }

  private constant(value: string | undefined): StoredTensor | undefined {
    if (value === undefined) return undefined;
    const name = this.resolved(value);
    if (this.nodes.get(name)?.op !== "Const") return undefined;
    const stored = this.constants.get(name);
    if (stored === undefined) throw new DataError(`${this.path}: its weightsManifest lacks "${name}"`);
    return stored;
  }

  requiredConstant(node: Node, input: number, what: string): StoredTensor {
    const found = this.constant(node.input[input]);
    if (found === undefined) throw this.fault(node, `must have a constant as ${what}`);
    return found;
  }

  /** Whole numbers of a constant, or what Pack, Shape and StridedSlice say of a shape: the batch's size is -1. */
  private sizes(node: Node, input: number, what: string): number[] {
    const value = node.input[input];
    const from = value === undefined ? undefined : this.nodes.get(this.resolved(value));
    if (from?.op !== "Pack") return [...this.requiredConstant(node, input, what).data].map(Number);
    return from.input.map((part) => {
      const size = this.constant(part);
      if (size !== undefined) return Number(size.data[0]);
      const slice = this.nodes.get(this.resolved(part));
      const first = slice?.op === "StridedSlice" ? this.constant(slice.input[1]) : undefined;
      if (
        slice !== undefined &&
        first?.data[0] === 0 &&
        this.nodes.get(this.resolved(slice.input[0]!))?.op === "Shape"
      ) {
        return -1;
      }
      throw this.fault(node, `must have a constant as ${what}, apart from the batch's size`);
    });
  }

  private add(node: Node): void {
    switch (node.op) {
      case "Placeholder":
        this.inputs.push({ name: node.name, shape: this.inputShape(node) });
        return;
      case "Const":
      // What says how large a batch is; Reshape looks at it.
      case "Shape":
      case "StridedSlice":
      case "Pack":
      case "NoOp":
        return;
      case "Identity":
      case "StopGradient":
        this.aliases.set(node.name, this.nodeOf(node.input[0]!));
        return;
      default:
        this.layer(node);
    }
  }

  private inputShape(node: Node): Shape {
    const { dim, unknownRank } = Object(Object(node.attr["shape"]).shape) as { dim?: unknown; unknownRank?: unknown };
    const sizes = Array.isArray(dim) && !unknownRank ? dim.map((each) => Number(Object(each).size ?? 0)) : [];
    const shape = sizes.slice(1);
    if (sizes.length > 0 && shape.every((size) => Number.isSafeInteger(size) && size > 0)) return shape;
    throw new DataError(`${this.path}: input "${node.name}" needs a fixed shape behind the batch, has [${sizes}]`);
  }

  private layer(node: Node): void {
    const operation = Object.hasOwn(OPERATIONS, node.op) ? OPERATIONS[node.op] : undefined;
    if (operation === undefined) throw this.fault(node, "is of an operation that no layer here has");
    operation(this, node);
  }

  make(
    node: Node,
    className: string,
    config: Record<string, unknown>,
    from: readonly string[] = [node.input[0]!],
    weights: readonly (readonly [string, StoredTensor])[] = [],
    name = node.name,
  ): Made {
    for (const each of from) {
      const source = this.resolved(each);
      if (this.made.has(source) || this.inputs.some((input) => input.name === source)) continue;
      throw this.fault(node, `is computed from "${each}", which is no image or layer`);
    }
    const made = { name, className, config, from, weights: new Map(weights) };
    this.made.set(name, made);
    return made;
  }

  /** The layer that gives the first input, where this node alone looks at it. */
  private before(node: Node): Made | undefined {
    let name = this.nodeOf(node.input[0]!);
    while (this.consumers.get(name) === 1) {
      const next = this.aliases.get(name);
      if (next === undefined) return this.made.get(name);
      name = next;
    }
    return undefined;
  }

  activation(node: Node, activation: ActivationName): void {
    const before = this.before(node);
    if (before !== undefined && before.config["activation"] === "linear") {
      before.config = { ...before.config, activation };
      this.aliases.set(node.name, this.nodeOf(node.input[0]!));
    } else {
      this.make(node, "Activation", { activation });
    }
  }

  requireChannelsLast(node: Node): void {
    const format = words(node.attr["data_format"]);
    if (format !== undefined && format !== "NHWC") throw this.fault(node, `must have data_format NHWC, has ${format}`);
  }

  padding(node: Node) {
    const padding = words(node.attr["padding"]);
    if (padding === "SAME" || padding === "VALID") return padding.toLowerCase();
    const sizes = numbers(node.attr["explicit_paddings"]);
    if (padding === "EXPLICIT" && sizes.length === 8 && sizes[0] === 0 && sizes[1] === 0 && !sizes[6] && !sizes[7]) {
      return [sizes.slice(2, 4), sizes.slice(4, 6)];
    }
    throw this.fault(node, `must have padding SAME, VALID or EXPLICIT, has ${padding} [${sizes}]`);
  }

  convolution(node: Node, className: "Conv2D" | "DepthwiseConv2D"): void {
    this.requireChannelsLast(node);
    const kernel = this.requiredConstant(node, 1, "its kernel");
    const [height, width, channels, outputs] = kernel.shape;
    if (kernel.shape.length !== 4)
      throw this.fault(node, `must have a kernel of four axes, has ${formatShape(kernel.shape)}`);
    const config = {
      kernelSize: [height, width],
      strides: pair(node.attr["strides"]),
      dilations: pair(node.attr["dilations"]),
      padding: this.padding(node),
      ...(className === "Conv2D" ? { filters: outputs } : { depthMultiplier: outputs }),
    };
    const units = className === "Conv2D" ? outputs! : channels! * outputs!;
    this.fused(node, className, config, kernel, units);
  }

  dense(node: Node): void {
    if (flag(node.attr["transpose_a"])) throw this.fault(node, "must not transpose its input");
    const given = this.requiredConstant(node, 1, "its matrix");
    if (given.shape.length !== 2) throw this.fault(node, `must have a matrix, has ${formatShape(given.shape)}`);
    const kernel = flag(node.attr["transpose_b"]) ? transposed(given) : given;
    const units = kernel.shape[1]!;
    this.fused(node, "Dense", { units }, kernel, units);
  }

  /** A layer with a kernel, and what fused_ops say comes behind it: a bias, then an activation. */
  private fused(node: Node, className: string, config: object, kernel: StoredTensor, units: number): void {
    const ops = texts(node.attr["fused_ops"]);
    const weights: [string, StoredTensor][] = [["kernel", kernel]];
    const [first, second, ...more] = ops;
    const useBias = first === "BiasAdd";
    if (useBias) {
      const bias = this.requiredConstant(node, 2, "its bias");
      if (sizeOf(bias.shape) !== units) {
        throw this.fault(node, `must have a bias of ${units} numbers, has ${formatShape(bias.shape)}`);
      }
      weights.push(["bias", { ...bias, shape: [units] }]);
    }
    const after = useBias ? second : first;
    const activation = after === undefined ? "linear" : PLAIN_ACTIVATIONS[after];
    const separate = after === "LeakyRelu" || after === "Prelu";
    if (more.length > 0 || (!useBias && second !== undefined) || (activation === undefined && !separate)) {
      throw this.fault(node, `is fused with ${ops.join(", ")}, and must be with BiasAdd and one activation`);
    }
    const own = { ...config, useBias, activation: separate ? "linear" : activation };
    const { name } = node;
    if (!separate) {
      this.make(node, className, own, [node.input[0]!], weights);
      return;
    }
    // The layer has a name of its own, and what is behind it that of the node, whose value it gives.
    const inner = `${name}/${className.toLowerCase()}`;
    this.make(node, className, own, [node.input[0]!], weights, inner);
    this.nodes.set(inner, { name: inner, op: node.op, input: [], attr: {} });
    const behind = { ...node, input: [inner] };
    if (after === "LeakyRelu") {
      this.make(behind, "LeakyReLU", { negativeSlope: number(node.attr["leakyrelu_alpha"], 0.2) });
    } else this.prelu({ ...behind, input: [inner, node.input.at(-1)!] });
  }

  prelu(node: Node): void {
    const alpha = this.requiredConstant(node, 1, "its slopes");
    const shape = alpha.shape[0] === 1 && alpha.shape.length > 1 ? alpha.shape.slice(1) : alpha.shape;
    if (shape.length !== 3 && shape.length !== 1) {
      throw this.fault(
        node,
        `must have slopes [height, width, channels] or [channels], has ${formatShape(alpha.shape)}`,
      );
    }
    const whole = shape.length === 1 ? [1, 1, shape[0]!] : shape;
    const sharedAxes = whole.flatMap((size, axis) => (size === 1 && axis < 2 ? [axis + 1] : []));
    const config = { sharedAxes: sharedAxes.length > 0 ? sharedAxes : null };
    this.make(node, "PReLU", config, [node.input[0]!], [["alpha", { ...alpha, shape: whole }]]);
  }

  /** A bias of its own: a part of the layer with a kernel before it, else a normalisation that only adds. */
  bias(node: Node, bias: StoredTensor, sign = 1): void {
    const before = this.before(node);
    const data = Float32Array.from(bias.data as Float32Array, (value) => sign * value);
    const units = sizeOf(bias.shape);
    const kernel = before?.weights.get("kernel");
    const outputs =
      before?.className === "DepthwiseConv2D" ? sizeOf(kernel!.shape.slice(2)) : (kernel?.shape.at(-1) ?? 0);
    const open = before?.config["useBias"] === false && before.config["activation"] === "linear";
    if (before !== undefined && open && outputs === units) {
      before.config = { ...before.config, useBias: true };
      before.weights.set("bias", { dtype: "F32", shape: [units], data });
      this.aliases.set(node.name, this.nodeOf(node.input[0]!));
    } else {
      this.affine(node, undefined, data);
    }
  }

  /** x scale + offset by numbers, for all channels or each; `scale` default 1. */
  private affine(node: Node, scale: Float32Array | undefined, offset: Float32Array | undefined): void {
    const sizes = [scale, offset].flatMap((each) => (each === undefined ? [] : [each.length]));
    if (sizes.every((size) => size === 1)) {
      this.make(node, "Rescaling", { scale: scale?.[0] ?? 1, offset: offset?.[0] ?? 0 });
      return;
    }
    const units = Math.max(...sizes);
    const filled = (values: Float32Array | undefined, standard: number) =>
      Array.from({ length: units }, (_, i) => values?.[values.length === 1 ? 0 : i] ?? standard);
    const tensor = (values: readonly number[]): StoredTensor => ({
      ...{ dtype: "F32", shape: [units] },
      data: Float32Array.from(values),
    });
    // Batch normalisation with a mean of 0 and a variance of 1.
    const weights: [string, StoredTensor][] = [
      ["gamma", tensor(filled(scale, 1))],
      ["beta", tensor(filled(offset, 0))],
      ["movingMean", tensor(filled(undefined, 0))],
      ["movingVariance", tensor(filled(undefined, 1))],
    ];
    const config = { epsilon: 0, trainable: false };
    this.make(node, "BatchNormalization", config, [node.input[0]!], weights);
  }

  batchNorm(node: Node): void {
    this.requireChannelsLast(node);
    if (flag(node.attr["is_training"])) throw this.fault(node, "must not be in training");
    const names = ["gamma", "beta", "movingMean", "movingVariance"] as const;
    const weights = names.map((name, i) => [name, this.requiredConstant(node, i + 1, name)] as const);
    this.make(node, "BatchNormalization", { epsilon: number(node.attr["epsilon"], 1e-4) }, [node.input[0]!], weights);
  }

  /** Of two layers, or of a layer and a constant: a number, or one for each channel. */
  arithmetic(node: Node): void {
    const { op, input } = node;
    const constants = input.map((each) => this.constant(each));
    if (constants.every((each) => each === undefined)) {
      if (op === "RealDiv") throw this.fault(node, "must divide by a constant");
      const names: Readonly<Record<string, string>> = {
        Sub: "Subtract",
        Mul: "Multiply",
        Maximum: "Maximum",
        Minimum: "Minimum",
      };
      this.make(node, names[op] ?? "Add", {}, input);
      return;
    }
    const first = constants[0] !== undefined;
    const given = (first ? constants[0] : constants[1])!;
    const x = input[first ? 1 : 0]!;
    const perChannel = sizeOf(given.shape) === (given.shape.at(-1) ?? 1);
    if (input.length !== 2 || constants.every(Boolean) || !perChannel || given.dtype !== "F32") {
      throw this.fault(
        node,
        `must be of layers, or of one and a number for all or each channel, has ${formatShape(given.shape)}`,
      );
    }
    const from = { ...node, input: [x] };
    const { data } = given;
    if (op === "Add" || op === "AddV2") this.bias(from, given);
    else if (op === "Sub" && !first) this.bias(from, given, -1);
    else if (op === "Sub") this.affine(from, Float32Array.of(-1), data);
    else if (op === "Mul") this.affine(from, data, undefined);
    else if (op === "RealDiv" && !first) {
      this.affine(
        from,
        data.map((value) => 1 / value),
        undefined,
      );
    } else if (op === "Maximum" && data.length === 1 && data[0] === 0) this.activation(from, "relu");
    else throw this.fault(node, `must not be of a constant, has ${formatShape(given.shape)}`);
  }

  globalPooling(node: Node): void {
    const axes = [...this.requiredConstant(node, 1, "its axes").data].map(Number).sort((a, b) => a - b);
    const className = node.op === "Mean" ? "GlobalAveragePooling" : "GlobalMaxPooling";
    const keepDims = flag(node.attr["keep_dims"]);
    if (`${axes}` !== "1,2" && `${axes}` !== "1")
      throw this.fault(node, `must be over [1, 2] or [1], is over [${axes}]`);
    this.make(node, `${className}${axes.length}D`, { keepDims });
  }

  pad(node: Node): void {
    const pads = [...this.requiredConstant(node, 1, "its paddings").data].map(Number);
    const value = node.op === "PadV2" ? Number(this.requiredConstant(node, 2, "its value").data[0]) : 0;
    const outside = [...pads.slice(0, 2), ...pads.slice(-2)];
    if (pads.length !== 8 || value !== 0 || outside.some((size) => size !== 0)) {
      throw this.fault(node, `must put zeros around images, has [${pads}] of ${value}`);
    }
    this.make(node, "ZeroPadding2D", { padding: [pads.slice(2, 4), pads.slice(4, 6)] });
  }

  squeeze(node: Node): void {
    const axes = numbers(node.attr["squeeze_dims"] ?? node.attr["axis"]).sort((a, b) => a - b);
    const before = this.made.get(this.resolved(node.input[0]!));
    if (`${axes}` !== "1,2") throw this.fault(node, `must be of the axes [1, 2], is of [${axes}]`);
    if (before?.config["keepDims"] === true && this.before(node) !== undefined) {
      before.config = { ...before.config, keepDims: false };
      this.aliases.set(node.name, this.nodeOf(node.input[0]!));
    } else {
      this.make(node, "Flatten", {});
    }
  }

  reshape(node: Node): void {
    const sizes = this.sizes(node, 1, "its shape");
    const [batch, ...target] = sizes;
    // The batch's size is not known to a model: it is what the others leave, or was 1 where it was written.
    if (batch !== -1 && batch !== 1 && !(target.length === 1 && target[0] !== -1)) {
      throw this.fault(node, `must leave the batch's size open, has [${sizes}]`);
    }
    if (target.length === 1) this.make(node, "Flatten", {});
    else this.make(node, "Reshape", { targetShape: target });
  }

  resize(node: Node): void {
    const [height, width] = this.requiredConstant(node, 1, "its size").data;
    const bilinear = node.op === "ResizeBilinear";
    if (flag(node.attr["align_corners"]) || !flag(node.attr["half_pixel_centers"])) {
      throw this.fault(node, "must have half_pixel_centers and no align_corners");
    }
    const interpolation = bilinear ? "bilinear" : "nearest";
    this.make(node, "Resizing", { height: Number(height), width: Number(width), interpolation });
  }
}

/** Operations that are activations of layers. */
const PLAIN_ACTIVATIONS: Readonly<Record<string, ActivationName | undefined>> = Object.assign(Object.create(null), {
  ...{ Relu: "relu", Relu6: "relu6", Elu: "elu", Selu: "selu", Sigmoid: "sigmoid", Tanh: "tanh", Softplus: "softplus" },
  ...{ Softmax: "softmax", Exp: "exp", Abs: "abs", Neg: "neg", Square: "square", Sqrt: "sqrt", Rsqrt: "rsqrt" },
});

type Operation = (reader: GraphReader, node: Node) => unknown;

const pooling =
  (className: string): Operation =>
  (reader, node) => {
    reader.requireChannelsLast(node);
    const windows = { poolSize: pair(node.attr["ksize"]), strides: pair(node.attr["strides"]) };
    return reader.make(node, className, { ...windows, padding: reader.padding(node) });
  };
const conv: Operation = (reader, node) => reader.convolution(node, "Conv2D");
const depthwise: Operation = (reader, node) => reader.convolution(node, "DepthwiseConv2D");
const dense: Operation = (reader, node) => reader.dense(node);
const batchNorm: Operation = (reader, node) => reader.batchNorm(node);
const arithmetic: Operation = (reader, node) => reader.arithmetic(node);
const globalPooling: Operation = (reader, node) => reader.globalPooling(node);
const pad: Operation = (reader, node) => reader.pad(node);
const resize: Operation = (reader, node) => reader.resize(node);

/** What makes layers of nodes, by operation. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...Object.fromEntries(
    Object.entries(PLAIN_ACTIVATIONS).map(([op, name]): [string, Operation] => [
      op,
      (reader, node) => reader.activation(node, name!),
    ]),
  ),
  LeakyRelu: (reader, node) => reader.make(node, "LeakyReLU", { negativeSlope: number(node.attr["alpha"], 0.2) }),
  Prelu: (reader, node) => reader.prelu(node),
  ...{ Conv2D: conv, _FusedConv2D: conv, DepthwiseConv2dNative: depthwise, FusedDepthwiseConv2dNative: depthwise },
  ...{ MatMul: dense, _FusedMatMul: dense },
  BiasAdd: (reader, node) => reader.bias(node, reader.requiredConstant(node, 1, "its bias")),
  ...{ FusedBatchNorm: batchNorm, FusedBatchNormV2: batchNorm, FusedBatchNormV3: batchNorm },
  ...{ Add: arithmetic, AddV2: arithmetic, AddN: arithmetic, Sub: arithmetic, Mul: arithmetic, RealDiv: arithmetic },
  ...{ Maximum: arithmetic, Minimum: arithmetic },
  ConcatV2(reader, node) {
    const { input } = node;
    const [axis] = reader.requiredConstant(node, input.length - 1, "its axis").data;
    reader.make(node, "Concatenate", { axis: Number(axis) }, input.slice(0, -1));
  },
  ...{ MaxPool: pooling("MaxPooling2D"), AvgPool: pooling("AveragePooling2D") },
  ...{ Mean: globalPooling, Max: globalPooling, Pad: pad, PadV2: pad },
  Squeeze: (reader, node) => reader.squeeze(node),
  Reshape: (reader, node) => reader.reshape(node),
  Transpose(reader, node) {
    const axes = [...reader.requiredConstant(node, 1, "its permutation").data].map(Number);
    if (axes[0] !== 0) throw reader.fault(node, `must leave the batch axis first, has [${axes}]`);
    reader.make(node, "Permute", { dims: axes.slice(1) });
  },
  ...{ ResizeBilinear: resize, ResizeNearestNeighbor: resize },
};

/** Texts are in base64, as protobuf's JSON has bytes. */
function decode(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  try {
    return atob(value);
  } catch {
    return value; // Some writers leave them as they are.
  }
}
const words = (attr: unknown): string | undefined => decode(Object(attr).s);
const listIn = (attr: unknown, key: string): unknown[] => {
  const list = Object(Object(attr).list)[key];
  return Array.isArray(list) ? list : [];
};
const texts = (attr: unknown): string[] => listIn(attr, "s").map((each) => decode(each) ?? "");
const numbers = (attr: unknown): number[] => listIn(attr, "i").map(Number);
const flag = (attr: unknown): boolean => Object(attr).b === true;
const number = (attr: unknown, standard: number): number => {
  const value = Object(attr).f;
  return value === undefined ? standard : Number(value);
};
/** Of a list for [batch, height, width, channels]; 1 where there is none. */
const pair = (attr: unknown): [number, number] => {
  const [, height = 1, width = 1] = numbers(attr);
  return [height, width];
};

function transposed(matrix: StoredTensor): StoredTensor {
  const [rows, columns] = matrix.shape as [number, number];
  const data = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) data[column * rows + row] = matrix.data[row * columns + column]!;
  }
  return { dtype: "F32", shape: [columns, rows], data };
}
