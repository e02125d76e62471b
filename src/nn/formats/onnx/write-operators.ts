// Layers that run operators of a file (layer.ts), as those operators again. A file says one operator set for all its
// nodes. So nodes of older sets get the form that they have in the newer one: what were attributes are inputs, and what
// has another meaning is said by other operators. Floats of all widths are float32, as they are computed here.
import { UsageError } from "../../../tensor/errors.js";
import { scope } from "../../../tensor/scope.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import type { Node } from "./graph.js";
import { nodesOf, numberOf, type OnnxGraphOptions, type StoredConstant, shapesOf } from "./layer.js";
import { isElementwise, turned } from "./layout.js";
import type { Attribute } from "./operators/call.js";
import { bytesOf, DATA_TYPE, type Draft, type TensorProto } from "./proto.js";
import { ELEMENT_TYPES, type ElementType, type Value as KnownValue } from "./value.js";
import { type Attributes, toFirst, type Value, wholeOf } from "./write-graph.js";
import type { LayerCall } from "./write-layers.js";

/** Of files whose operators are all there. */
export const OPSET = 18;

/** A newer operator set, and the attributes that alone need it. */
type Newer = readonly [version: number, ...attributes: string[]];

/** Operators that came later, or have another form since then. */
const NEWER: Readonly<Record<string, readonly Newer[]>> = {
  ...{ DeformConv: [[19]], AffineGrid: [[20]], DFT: [[20]], Gelu: [[20]], GridSample: [[20]], IsInf: [[20]] },
  ...{ IsNaN: [[20]], ReduceMax: [[20]], ReduceMin: [[20]], GroupNormalization: [[21]], RMSNormalization: [[23]] },
  ...{ RotaryEmbedding: [[23]], Swish: [[24]], TensorScatter: [[24]], BitCast: [[26]], CumProd: [[26]] },
  ...{ CausalConvWithState: [[27]], LinearAttention: [[27]], SwiGLU: [[28]] },
  ...{ AveragePool: [[19, "dilations"]], Range: [[27, "stash_type"]], SpaceToDepth: [[28, "mode"]] },
  ...{ Cast: [[24, "round_mode"]], CastLike: [[24, "round_mode"]] },
  QuantizeLinear: [
    [21, "block_size", "output_dtype"],
    [23, "precision"],
  ],
  DequantizeLinear: [
    [21, "block_size"],
    [23, "output_dtype"],
  ],
  Attention: [[23], [24], [25, "left_window_size", "right_window_size"]],
};

/** Operator sets since which there are element types. */
const TYPES: readonly (readonly [name: RegExp, since: number])[] = [
  [/^float8/, 19],
  // 16 bits only in operators that quantise, and bytes of other kinds before.
  [/^u?int(4|16)$/, 21],
  [/^float4/, 23],
  [/^u?int2$/, 25],
];

/** Attributes that are element types. */
const TYPE_ATTRIBUTES = ["to", "dtype", "output_dtype"];

/** The operator set that a layer needs. */
export function neededOpset({ className, config }: { readonly className: string; readonly config: object }): number {
  if (className !== "OnnxGraph") return OPSET;
  const options = config as OnnxGraphOptions;
  const types = [...options.inputs, ...Object.values(options.constants)].map(({ type }) => type as string);
  let needed = OPSET;
  for (const { op, opset, attributes } of options.nodes) {
    const names = attributes.map(([name]) => name);
    for (const [version, ...wanted] of NEWER[op] ?? []) {
      const isUsed = wanted.length === 0 || wanted.some((name) => names.includes(name));
      if (version <= opset && isUsed) needed = Math.max(needed, version);
    }
    for (const [name, value] of attributes) {
      if (TYPE_ATTRIBUTES.includes(name)) types.push(ELEMENT_TYPES[value as number] ?? "");
    }
  }
  for (const [name, since] of TYPES) if (types.some((type) => name.test(type))) needed = Math.max(needed, since);
  return needed;
}

/** The type that a value has in the file. */
const writtenType = (type: ElementType): ElementType =>
  type === "float16" || type === "bfloat16" || type === "float64" ? "float32" : type;
const numberOfType = (type: ElementType): number =>
  Number(Object.entries(ELEMENT_TYPES).find(([, name]) => name === writtenType(type))![0]);

/** Attributes that are numbers of float32; other numbers are integers. */
const FLOATS = new Set([
  ...["alpha", "beta", "bias", "clip", "cubic_coeff_a", "epsilon", "extrapolation_value", "gamma", "lambd", "max"],
  ...["min", "momentum", "ratio", "scale", "softcap", "spatial_scale", "value", "value_float"],
  ...["activation_alpha", "activation_beta", "value_floats", "weights"],
]);

/** Stands for every operator set. */
const ALWAYS = Number.POSITIVE_INFINITY;

/** A node that is being written. */
interface WrittenNode {
  op: string;
  readonly inputs: string[];
  attributes: Record<string, Attribute>;
  /** What becomes of its only output. */
  after: (output: string) => string;
  readonly call: LayerCall;
  /** Of an input, as in the file. */
  readonly shapeOf: (i: number) => Shape;
  /** What an input is that is a constant. */
  readonly hostOf: (i: number) => readonly number[] | undefined;
  readonly outputs: number;
  readonly refuse: (what: string) => never;
}

type Change = (node: WrittenNode) => void;

function taken(node: WrittenNode, name: string): Attribute | undefined {
  const value = node.attributes[name];
  delete node.attributes[name];
  return value;
}

/** Gives a node an input, with absent ones before it. */
function put({ inputs }: WrittenNode, place: number, name: string): void {
  while (inputs.length < place) inputs.push("");
  inputs[place] = name;
}

/** A list of integers that was an attribute is an input. */
const listInput =
  (name: string, place: number): Change =>
  (node) => {
    const list = taken(node, name);
    if (list !== undefined) put(node, place, node.call.integers([list].flat() as number[]));
  };
const numberInput =
  (name: string, place: number): Change =>
  (node) => {
    const value = taken(node, name);
    if (value !== undefined) put(node, place, node.call.number(value as number));
  };
const without =
  (...names: string[]): Change =>
  (node) => {
    for (const name of names) delete node.attributes[name];
  };
/** What a missing attribute stood for. */
const standard =
  (name: string, value: Attribute): Change =>
  (node) => {
    node.attributes[name] ??= value;
  };
const all =
  (...changes: Change[]): Change =>
  (node) => {
    for (const change of changes) change(node);
  };
const renamed =
  (op: string): Change =>
  (node) => {
    node.op = op;
  };

/** The second operand stood at an axis of the first: axes of size 1 come behind it. */
const broadcast: Change = (node) => {
  const axis = taken(node, "axis") as number | undefined;
  delete node.attributes["broadcast"];
  const [a, b] = [node.shapeOf(0).length, node.shapeOf(1).length];
  if (axis === undefined) return;
  const behind = a - (axis < 0 ? axis + a : axis) - b;
  if (behind <= 0 || b === 0) return;
  const axes = Array.from({ length: behind }, (_, i) => b + i);
  node.inputs[1] = node.call.op("Unsqueeze", [node.inputs[1]!, node.call.integers(axes)]);
};

/** Slopes of channels had one axis, that of the channels. */
const slopes: Change = (node) => {
  const behind = node.shapeOf(0).length - 2;
  if (node.shapeOf(1).length !== 1 || node.shapeOf(1)[0] === 1 || behind <= 0) return;
  const axes = node.call.integers(Array.from({ length: behind }, (_, i) => i + 1));
  node.inputs[1] = node.call.op("Unsqueeze", [node.inputs[1]!, axes]);
};

/** All axes from one on were one axis. */
const flattened: Change = (node) => {
  const { call, inputs } = node;
  const rank = node.shapeOf(0).length;
  const given = (taken(node, "axis") as number | undefined) ?? 1;
  const axis = given < 0 ? given + rank : given;
  node.attributes["axis"] = -1;
  if (axis === rank - 1) return;
  const shape = call.op("Shape", [inputs[0]!]);
  inputs[0] = call.op("Flatten", [inputs[0]!], { axis: { int: axis } });
  node.after = (output) => call.op("Reshape", [output, shape]);
};

/** What came before Resize, and its first form. */
const resizing: Change = (node) => {
  node.op = "Resize";
  const scales = taken(node, "scales") as readonly number[] | undefined;
  const input =
    scales === undefined
      ? node.inputs[1]!
      : node.call.graph.tensor(`${node.call.name}/scales`, floatTensor([scales.length], scales));
  node.inputs.splice(1, 2, "", input);
  node.attributes["coordinate_transformation_mode"] = "asymmetric";
  node.attributes["nearest_mode"] = "floor";
};

/**
 * Scales and sizes of some axes are those of all. ONNX Runtime 1.32 moves Transposes through the node, and forgets
 * these axes. Where one factor is for all, only these axes tell it.
 */
const allAxes: Change = (node) => {
  const axes = node.attributes["axes"] as readonly number[] | undefined;
  if (axes === undefined || (node.attributes["keep_aspect_ratio_policy"] ?? "stretch") !== "stretch") return;
  const { call, inputs } = node;
  delete node.attributes["axes"];
  const shape = node.shapeOf(0);
  const places = axes.map((axis) => (axis < 0 ? axis + shape.length : axis));
  const spread = (list: readonly number[], others: readonly number[], from = 0) =>
    others.map((other, axis) => (places.includes(axis) ? list[from + places.indexOf(axis)]! : other));
  const ones = shape.map(() => 1);
  const [roi, scales, sizes] = [1, 2, 3].map((i) => node.hostOf(i));
  const floats = (name: string, list: readonly number[]) =>
    call.graph.tensor(`${call.name}/${name}`, floatTensor([list.length], list));
  if (roi?.length) {
    const zeros = shape.map(() => 0);
    inputs[1] = floats("roi", [...spread(roi, zeros), ...spread(roi, ones, axes.length)]);
  }
  if (scales?.length) inputs[2] = floats("scales", spread(scales, ones));
  if (sizes?.length) {
    const data = spread(sizes, shape).map((size, axis) => (axis === 0 ? ([1, 0] as const) : size));
    inputs[3] = constantOf(call, "sizes", { type: "int64", shape: [shape.length], data });
  }
};

const GRID_MODES: Readonly<Record<string, string>> = { bilinear: "linear", bicubic: "cubic" };

const reductionAxes = listInput("axes", 1);
/** Of the first sets, which nothing reads. */
const GONE = new Set(["consumed_inputs", "is_test", "output_sequence", "spatial"]);
const arithmetic: readonly (readonly [number, Change])[] = [[7, broadcast]];
const ofRows: readonly (readonly [number, Change])[] = [[13, flattened]];
const reduced: readonly (readonly [number, Change])[] = [[18, reductionAxes]];

/** What becomes of nodes of older sets, from the set at which the form is another. */
const changes: Readonly<Record<string, readonly (readonly [since: number, change: Change])[]>> = {
  ...Object.fromEntries(
    ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"].map((op) => [op, arithmetic]),
  ),
  ...Object.fromEntries(["Softmax", "LogSoftmax", "Hardmax"].map((op) => [op, ofRows])),
  ...Object.fromEntries(
    ["Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"].map((op) => [
      `Reduce${op}`,
      reduced,
    ]),
  ),
  ReduceSum: [[13, reductionAxes]],
  PRelu: [[7, slopes]],
  Selu: [[6, all(standard("alpha", 1.6732), standard("gamma", 1.0507))]],
  Clip: [[11, all(numberInput("min", 1), numberInput("max", 2))]],
  Squeeze: [[13, listInput("axes", 1)]],
  Unsqueeze: [[13, listInput("axes", 1)]],
  Reshape: [[5, listInput("shape", 1)]],
  Concat: [[4, standard("axis", 1)]],
  Split: [
    [13, listInput("split", 1)],
    [18, (node) => void (node.inputs[1] || standard("num_outputs", node.outputs)(node))],
  ],
  Slice: [[10, all(listInput("starts", 1), listInput("ends", 2), listInput("axes", 3))]],
  Tile: [[6, (node) => node.refuse("repeats one axis")]],
  Pad: [
    [
      11,
      (node) => {
        listInput("paddings", 1)(node);
        listInput("pads", 1)(node);
        numberInput("value", 2)(node);
      },
    ],
  ],
  TopK: [[10, listInput("k", 1)]],
  Upsample: [[ALWAYS, resizing]],
  Resize: [
    [11, resizing],
    [ALWAYS, allAxes],
  ],
  Scatter: [[ALWAYS, renamed("ScatterElements")]],
  Dropout: [[12, without("ratio")]],
  Gemm: [[7, without("broadcast")]],
  GridSample: [
    [20, ({ attributes }) => void (attributes["mode"] &&= GRID_MODES[attributes["mode"] as string] ?? "nearest")],
  ],
  GroupNormalization: [[21, (node) => node.refuse("has scales of groups")]],
  RoiAlign: [[16, standard("coordinate_transformation_mode", "output_half_pixel")]],
  DFT: [[20, (node) => put(node, 2, node.call.graph.scalar((taken(node, "axis") as number) ?? 1))]],
};

const floatTensor = (dims: Shape, data: readonly number[]): Draft<TensorProto> => ({
  ...{ dims, dataType: DATA_TYPE.f32, rawData: bytesOf(Float32Array.from(data)) },
});

/** Arrays of the types that constants are written in; those of others are converted by a Cast. */
const arrays = {
  float32: (data: readonly number[]) => Float32Array.from(data),
  int64: (data: readonly number[]) => BigInt64Array.from(data, wholeOf),
  uint64: (data: readonly number[]) => BigUint64Array.from(data, (n) => BigInt(Math.min(n, 2 ** 64 - 2048))),
  int32: (data: readonly number[]) => Int32Array.from(data),
  uint32: (data: readonly number[]) => Uint32Array.from(data),
  bool: (data: readonly number[]) => Uint8Array.from(data),
  uint8: (data: readonly number[]) => Uint8Array.from(data),
  int8: (data: readonly number[]) => Int8Array.from(data),
} as const;

function tensorOf(given: ElementType, dims: Shape, data: readonly number[]): Draft<TensorProto> | undefined {
  const type = writtenType(given);
  if (!Object.hasOwn(arrays, type)) return undefined;
  const rawData = bytesOf(arrays[type as keyof typeof arrays](data));
  return { dims, dataType: numberOfType(type), rawData };
}

/** A constant; numbers that grow with the batch are computed of its size. */
function constantOf(call: LayerCall, name: string, { type, shape, data }: StoredConstant): string {
  const { graph } = call;
  const base = `${call.name}/${name}`;
  if (!data.some((each) => typeof each === "object")) {
    const numbers = data.map((each) => numberOf(each, 0));
    const whole = tensorOf(type, shape, numbers);
    if (whole !== undefined) return graph.tensor(base, whole);
    return call.op("Cast", [graph.tensor(base, floatTensor(shape, numbers))], { to: { int: numberOfType(type) } });
  }
  const batch = call.op("Shape", [call.given("last")], { start: { int: 0 }, end: { int: 1 } });
  const parts = data.map((each) => (typeof each === "object" ? each : ([0, numberOf(each, 0)] as const)));
  const factors = call.integers(parts.map(([factor]) => factor));
  const grown = call.op("Mul", [batch, factors]);
  let result = call.op("Add", [grown, call.integers(parts.map(([, offset]) => offset))]);
  if (shape.length !== 1) result = call.op("Reshape", [result, call.integers(shape)]);
  return type === "int64" ? result : call.op("Cast", [result], { to: { int: numberOfType(type) } });
}

function attributesOf(node: WrittenNode): Attributes {
  return Object.fromEntries(
    Object.entries(node.attributes).map(([name, value]) => {
      if (typeof value === "string") return [name, { text: value }];
      const isFloat = FLOATS.has(name);
      if (typeof value === "number") {
        const type = TYPE_ATTRIBUTES.includes(name) ? ELEMENT_TYPES[value] : undefined;
        return [name, isFloat ? { float: value } : { int: type === undefined ? value : numberOfType(type) }];
      }
      if ("data" in value) {
        const { type, shape, data } = value;
        const tensor = tensorOf(type, shape, Array.from(data as ArrayLike<number>));
        return [name, { tensor: tensor ?? node.refuse(`has a constant of ${type} in its attribute ${name}`) }];
      }
      if (value.some((each) => typeof each === "string")) return [name, { texts: value as readonly string[] }];
      return [name, isFloat ? { floats: value as readonly number[] } : { ints: value as readonly number[] }];
    }),
  );
}

/** Whether a layer's only node takes any order of axes, so that it may have that of the convolutions around it. */
function takesAnyLayout(call: LayerCall, [first, ...others]: readonly Node[]): boolean {
  const rank = call.shape.length;
  return (
    others.length === 0 &&
    first!.outputs.length === 1 &&
    isElementwise(first!.op) &&
    first!.attributes["axis"] === undefined &&
    rank > 1 &&
    call.inputs.every(({ shape, layout }) => shape.length === rank && layout === "first")
  );
}

/** What a layer of class OnnxGraph gives. @throws UsageError naming the node that has no form in the file's set */
export function writeOperators(call: LayerCall): Value {
  const options: OnnxGraphOptions = {
    nodes: call.config["nodes"] as never,
    inputs: call.config["inputs"] as never,
    outputs: call.config["outputs"] as never,
    constants: call.config["constants"] as never,
    weights: call.config["weights"] as never,
    channelsLast: call.config["channelsLast"] as boolean,
  };
  const nodes = nodesOf(options);
  let known: ReadonlyMap<string, KnownValue> = new Map();
  scope(() => {
    const samples = call.inputs.map(({ shape }) => shape);
    known = shapesOf(options, nodes, samples, 5);
  });
  // Numbers of axes are as in the file where channels are last by an option, else as in Kilograd's memory.
  const isFirst = options.channelsLast || takesAnyLayout(call, nodes);
  const layout = isFirst ? "first" : "last";
  const names = new Map<string, string>();
  for (const [i, { name, type }] of options.inputs.entries()) {
    if (name === "") continue;
    const given = call.graph.as(call.inputs[i]!, layout);
    const isThere = writtenType(call.inputs[i]!.type ?? "float32") === writtenType(type);
    names.set(name, isThere ? given : call.op("Cast", [given], { to: { int: numberOfType(type) } }));
  }
  const order = isFirst && !options.channelsLast ? toFirst(call.shape.length + 1) : undefined;
  for (const [name, constant] of Object.entries(options.constants)) {
    const { shape, data } = order ? turned(constant as never, order) : constant;
    names.set(name, constantOf(call, name, { ...constant, shape, data: Array.from(data as never) }));
  }
  for (const { name } of options.weights) {
    const made = call.weight(
      name,
      (given) => {
        if (order === undefined) return given;
        const { shape, data } = turned(given, order);
        return { shape, data: Float32Array.from(data as ArrayLike<number>) };
      },
      layout,
    );
    names.set(name, made);
  }
  for (const node of nodes) writeNode(call, node, names, known);
  const outputs = options.outputs.map((name) => [names.get(name)!, known.get(name)!] as const);
  if (outputs.length === 1) {
    const [[name, { type }]] = outputs as [[string, KnownValue]];
    return { ...call.value(layout, name), ...(writtenType(type) !== "float32" && { type }) };
  }
  const rows = outputs.map(([name, { type, shape }]) => {
    const floats = writtenType(type) === "float32" ? name : call.op("Cast", [name], { to: { int: DATA_TYPE.f32 } });
    const rank = shape.length;
    const inMemory =
      isFirst && rank > 2
        ? call.op("Transpose", [floats], {
            perm: { ints: [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1] },
          })
        : floats;
    return call.reshaped(inMemory, [sizeOf(shape.slice(1))]);
  });
  return call.value("last", call.op("Concat", rows, { axis: { int: 1 } }));
}

function writeNode(
  call: LayerCall,
  { op, opset, inputs, outputs, attributes }: Node,
  names: Map<string, string>,
  known: ReadonlyMap<string, KnownValue>,
): void {
  const refuse = (what: string): never => {
    throw new UsageError(
      `layer "${call.name}" has a node ${op} of operator set ${opset} that ${what}, which set ${call.graph.opset} has not; save the model as "safetensors"`,
    );
  };
  const draft: WrittenNode = {
    ...{ op, call, refuse, outputs: outputs.length },
    inputs: inputs.map((name) => (name === "" ? "" : names.get(name)!)),
    attributes: Object.fromEntries(Object.entries(attributes).filter(([name]) => !GONE.has(name))),
    after: (output) => output,
    shapeOf(i) {
      const { shape } = known.get(inputs[i]!)!;
      return call.config["channelsLast"] ? toFirst(shape.length).map((axis) => shape[axis]!) : shape;
    },
    hostOf(i) {
      const host = known.get(inputs[i] ?? "")?.host;
      return host && Array.from(host as ArrayLike<number>);
    },
  };
  for (const [since, change] of changes[op] ?? []) {
    if (opset < since && (since <= call.graph.opset || since === ALWAYS)) change(draft);
  }
  const asked = outputs.map((name) => name !== "");
  // Statistics of a training, which nothing here uses.
  if (op === "BatchNormalization") asked.length = 1;
  const made = call.graph.node(call.name, draft.op, {
    ...{ inputs: draft.inputs, outputs: asked, attributes: attributesOf(draft) },
  });
  for (const [i, name] of outputs.entries()) {
    if (name !== "" && made[i] !== undefined) names.set(name, i === 0 ? draft.after(made[i]) : made[i]);
  }
}
