// Weights of layers as PyTorch's modules have them. Both compute the same, in other orders of axes: PyTorch has
// channels before height and width, and outputs before inputs.
//
//   layer             here                         PyTorch
//   Dense             [in, out]                    [out, in]
//   Conv2D            [h, w, in / g, out]          [out, in / g, h, w]
//   Conv1D            [k, in, out]                 [out, in, k]
//   DepthwiseConv2D   [h, w, c, m]                 [c m, 1, h, w]
//   Conv2DTranspose   [h, w, out, in]              [in, out, h, w], not flipped
//   attention         query, key, value [d, H, k]  in_proj_weight [3 H k, d], one below the other
//
// Where an image [h, w, c] is flattened, its values stand in another order than those of [c, h, w]: what is computed
// from them has its rows permuted, and so has what is reshaped to an image.
import { type Shape, sizeOf } from "../../tensor/shape.js";
import type { Model } from "../model.js";

/** A part of a tensor of PyTorch that is a weight here, or all of it. */
export interface Piece {
  readonly weight: string;
  /** Where its rows begin. */
  readonly from: number;
  /** The shape that its rows are seen in, and how those axes stand here. */
  readonly view: Shape;
  readonly axes: readonly number[];
}

/** A tensor of PyTorch. */
export interface TorchTensor {
  /** Below the module: "weight", "in_proj_weight". */
  readonly name: string;
  readonly shape: Shape;
  readonly pieces: readonly Piece[];
}

/** What a module of PyTorch has; a layer is one of them, or two. */
export interface TorchModule {
  /** Of the layer here. */
  readonly layer: string;
  readonly className: string;
  /** Behind the name of the layer, where it is several. */
  readonly part?: string;
  readonly tensors: readonly TorchTensor[];
}

/** Order of the values of a flattened image: its shape as PyTorch has it, channels first. [n]: as it is here. */
type Order = Shape;

/** Of vectors that go into a layer, and come out of it; undefined where nothing says so: as it is here. */
interface Orders {
  readonly input: Order | undefined;
  readonly output: Order | undefined;
}

const whole = (
  name: string,
  weight: string,
  view: Shape,
  axes: readonly number[],
  shape: Shape = view,
): TorchTensor => ({
  ...{ name, shape },
  pieces: [{ weight, from: 0, view, axes }],
});
const same = (name: string, weight: string, shape: Shape): TorchTensor =>
  whole(
    name,
    weight,
    shape,
    shape.map((_, axis) => axis),
  );

/** Channels first to channels last, of axes from `first` on. */
const lastOf = (order: Order, first: number): number[] => [...order.slice(1).map((_, i) => first + 1 + i), first];

/** One value for each of the features of a vector. */
const vector = (name: string, weight: string, size: number, order: Order | undefined): TorchTensor =>
  order === undefined || order.length === 1
    ? same(name, weight, [size])
    : whole(name, weight, order, lastOf(order, 0), [size]);

type Shapes = Readonly<Record<string, Shape>>;
type Words = (shapes: Shapes, orders: Orders) => readonly (TorchTensor & { readonly part?: string })[];

const norm =
  (...names: readonly (readonly [theirs: string, ours: string])[]): Words =>
  (shapes, { input }) =>
    names.flatMap(([theirs, ours]) => {
      const shape = shapes[ours];
      if (shape === undefined) return [];
      return shape.length === 1 ? [vector(theirs, ours, shape[0]!, input)] : [same(theirs, ours, shape)];
    });

const bias = (shapes: Shapes, order?: Order): TorchTensor[] =>
  shapes["bias"] === undefined ? [] : [vector("bias", "bias", shapes["bias"][0]!, order)];

/** [h, w, c, m]: output c m + j is the j-th of channel c, in both. */
const depthwise = (weight: string, [height, width, channels, multiplier]: Shape): TorchTensor =>
  whole(
    "weight",
    weight,
    [channels!, multiplier!, height!, width!],
    [2, 3, 0, 1],
    [channels! * multiplier!, 1, height!, width!],
  );

const conv = (weight: string, [height, width, inputs, outputs]: Shape): TorchTensor =>
  whole("weight", weight, [outputs!, inputs!, height!, width!], [2, 3, 1, 0]);

function dense(shapes: Shapes, { input, output }: Orders): TorchTensor[] {
  const [inputs, outputs] = shapes["kernel"] as [number, number];
  const rows = output ?? [outputs];
  const columns = input ?? [inputs];
  const axes = [...lastOf(columns, rows.length), ...lastOf(rows, 0)];
  return [whole("weight", "kernel", [...rows, ...columns], axes, [outputs, inputs]), ...bias(shapes, output)];
}

function attention(shapes: Shapes): TorchTensor[] {
  const names = ["query", "key", "value"] as const;
  const kernels = names.map((name) => shapes[`${name}Kernel`] as [number, number, number]);
  const rows = kernels.map(([, heads, depth]) => heads * depth);
  const pieceOf = (i: number, from: number): Piece => {
    const [inputs, heads, depth] = kernels[i]!;
    return { weight: `${names[i]}Kernel`, from, view: [heads, depth, inputs], axes: [2, 0, 1] };
  };
  const starts = [0, rows[0]!, rows[0]! + rows[1]!];
  const all = rows[0]! + rows[1]! + rows[2]!;
  const together = kernels.every(([inputs]) => inputs === kernels[0]![0]);
  const [heads, depth, outputs] = shapes["outputKernel"] as [number, number, number];
  return [
    ...(together
      ? [{ name: "in_proj_weight", shape: [all, kernels[0]![0]], pieces: starts.map((from, i) => pieceOf(i, from)) }]
      : names.map((name, i) => ({
          name: `${name[0]}_proj_weight`,
          shape: [rows[i]!, kernels[i]![0]],
          pieces: [pieceOf(i, 0)],
        }))),
    ...(shapes["queryBias"] === undefined
      ? []
      : [
          {
            name: "in_proj_bias",
            shape: [all],
            pieces: names.map((name, i) => ({
              weight: `${name}Bias`,
              from: starts[i]!,
              view: shapes[`${name}Bias`]!,
              axes: [0, 1],
            })),
          },
        ]),
    whole("out_proj.weight", "outputKernel", [outputs, heads, depth], [1, 2, 0], [outputs, heads * depth]),
    ...(shapes["outputBias"] === undefined ? [] : [same("out_proj.bias", "outputBias", shapes["outputBias"])]),
  ];
}

const WORDS: Readonly<Record<string, Words>> = {
  Dense: dense,
  Conv2D: (shapes) => [conv("kernel", shapes["kernel"]!), ...bias(shapes)],
  Conv1D(shapes) {
    const [length, inputs, outputs] = shapes["kernel"] as [number, number, number];
    return [whole("weight", "kernel", [outputs, inputs, length], [2, 1, 0]), ...bias(shapes)];
  },
  DepthwiseConv2D: (shapes) => [depthwise("kernel", shapes["kernel"]!), ...bias(shapes)],
  SeparableConv2D: (shapes) => [
    { ...depthwise("depthwiseKernel", shapes["depthwiseKernel"]!), part: "depthwise" },
    ...[conv("pointwiseKernel", shapes["pointwiseKernel"]!), ...bias(shapes)].map((each) => ({
      ...each,
      part: "pointwise",
    })),
  ],
  Conv2DTranspose(shapes) {
    const [height, width, outputs, inputs] = shapes["kernel"] as [number, number, number, number];
    return [whole("weight", "kernel", [inputs, outputs, height, width], [2, 3, 1, 0]), ...bias(shapes)];
  },
  BatchNormalization: norm(
    ["weight", "gamma"],
    ["bias", "beta"],
    ["running_mean", "movingMean"],
    ["running_var", "movingVariance"],
  ),
  LayerNormalization: norm(["weight", "gamma"], ["bias", "beta"]),
  GroupNormalization: norm(["weight", "gamma"], ["bias", "beta"]),
  Embedding: (shapes) => Object.entries(shapes).map(([weight, shape]) => same("weight", weight, shape)),
  // One slope for each channel, or for all.
  PReLU: ({ alpha }, { input }) => [
    alpha!.length === 1
      ? vector("weight", "alpha", alpha![0]!, input)
      : whole("weight", "alpha", [sizeOf(alpha!)], [0]),
  ],
  MultiHeadAttention: attention,
};

/** Layers that hand on the values of a vector one by one, in their order. */
const KEEPS_ORDER = new Set(
  [
    "Activation ReLU LeakyReLU PReLU ELU Softmax Dropout GaussianNoise GaussianDropout AlphaDropout Rescaling",
    "BatchNormalization LayerNormalization Normalization Add Subtract Multiply Average Maximum Minimum",
  ].flatMap((line) => line.split(" ")),
);
/** Layers of sequences [length, channels], which are [channels, length] in PyTorch. */
const OF_SEQUENCES =
  /^(Conv1D|(Max|Average)Pooling1D|Global(Max|Average)Pooling1D|UpSampling1D|ZeroPadding1D|Cropping1D|SpatialDropout1D)$/;

/** What the model's weights are in PyTorch, module by module; `conflicts`: why an order cannot be told. */
export function torchModules(model: Model): { readonly modules: TorchModule[]; readonly conflicts: readonly string[] } {
  const { orders, conflicts } = vectorOrders(model);
  const modules = model.layers.flatMap(({ placed }, i): TorchModule[] => {
    const { name, layer, weights } = placed;
    if (weights.length === 0) return [];
    const shapes = Object.fromEntries(weights.map((spec) => [spec.name, spec.shape]));
    const words = WORDS[layer.className];
    // A layer of a user's own: its weights as they are, under its name.
    const tensors = words?.(shapes, orders[i]!) ?? weights.map((spec) => same(spec.name, spec.name, spec.shape));
    const parts = [...new Set(tensors.map((each) => (each as { part?: string }).part))];
    return parts.map((part) => ({
      layer: name,
      className: layer.className,
      ...(part !== undefined && { part }),
      tensors: tensors.filter((each) => (each as { part?: string }).part === part),
    }));
  });
  return { modules, conflicts };
}

/**
 * In which order vectors are that come from flattened images, or become images, for each layer. Values that go through
 * layers one by one have one order, from end to end.
 */
function vectorOrders({ inputs, calls, layers }: Model): { orders: Orders[]; conflicts: string[] } {
  const conflicts: string[] = [];
  const parents = [...inputs, ...calls].map((_, i) => i);
  const known = new Map<number, Order>();
  const root = (value: number): number => {
    let at = value;
    while (parents[at] !== at) at = parents[at]!;
    return at;
  };
  const set = (value: number, order: Order, name: string) => {
    const at = root(value);
    const before = known.get(at);
    if (before === undefined) known.set(at, order);
    else if (`${before}` !== `${order}`) {
      conflicts.push(`layer "${name}": its vector would be [${before}] and [${order}] in PyTorch, flattened`);
    }
  };
  const join = (a: number, b: number, name: string) => {
    const [from, to] = [root(a), root(b)];
    if (from === to) return;
    const order = known.get(from);
    parents[from] = to;
    known.delete(from);
    if (order !== undefined) set(to, order, name);
  };
  const maker = (value: number) => calls[value - inputs.length];
  const classOf = (value: number) => layers[maker(value)?.layer ?? -1]?.placed.layer.className;
  /** Of an image or a sequence, as PyTorch flattens it. */
  const flattened = (value: number, shape: Shape): Order => {
    const { dims } = (layers[maker(value)?.layer ?? -1]?.placed.layer.config ?? {}) as { dims?: number[] };
    if (classOf(value) === "Permute" && `${dims}` === "3,1,2") return [sizeOf(shape)]; // It is as there already.
    if (shape.length < 2 || (shape.length === 2 && !isSequence(value))) return [sizeOf(shape)];
    const channels = shape.at(-1)!;
    const cells = shape.slice(0, -1);
    return channels === 1 || sizeOf(cells) === 1 ? [sizeOf(shape)] : [channels, ...cells];
  };
  const isSequence = (value: number): boolean => {
    const className = classOf(value) ?? "";
    if (OF_SEQUENCES.test(className)) return true;
    return KEEPS_ORDER.has(className) && isSequence(maker(value)!.inputs[0]!);
  };
  const consumers = (value: number) =>
    calls.filter((call) => call.inputs.includes(value)).map((call) => layers[call.layer]!.placed.layer.className);
  for (const [i, call] of calls.entries()) {
    const output = inputs.length + i;
    const { name, layer } = layers[call.layer]!.placed;
    const [from] = call.inputs as [number];
    const [shape] = call.inputShapes as [Shape];
    const reshapes = layer.className === "Reshape" || layer.className === "Flatten";
    if (reshapes && call.shape.length === 1 && shape.length > 1) set(output, flattened(from, shape), name);
    else if (reshapes && shape.length === 1 && call.shape.length > 1) {
      const channels = call.shape.at(-1)!;
      const image = call.shape.length > 2 || consumers(output).some((each) => OF_SEQUENCES.test(each));
      const trivial = !image || channels === 1 || sizeOf(call.shape.slice(0, -1)) === 1;
      set(from, trivial ? [shape[0]!] : [channels, ...call.shape.slice(0, -1)], name);
    } else if (
      shape.length === 1 &&
      call.shape.length === 1 &&
      shape[0] === call.shape[0] &&
      layer.className !== "Dense"
    ) {
      // Of a user's own, too: what keeps the size of a vector is taken to work value by value.
      for (const each of call.inputs) join(each, output, name);
    } else if (layer.className !== "Dense") {
      for (const [j, each] of call.inputs.entries()) {
        if (call.inputShapes[j]!.length === 1) set(each, [call.inputShapes[j]![0]!], name);
      }
    }
  }
  const orders = layers.map((_, layer): Orders => {
    const i = calls.findIndex((call) => call.layer === layer);
    const call = calls[i];
    if (call === undefined) return { input: undefined, output: undefined };
    return { input: known.get(root(call.inputs[0]!)), output: known.get(root(inputs.length + i)) };
  });
  return { orders, conflicts };
}

/** A tensor's rows, as they stand here. */
export function fromTorch(
  data: ArrayLike<number>,
  { from, view, axes }: Piece,
  rowSize: number,
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(sizeOf(view));
  const start = from * rowSize;
  walk(view, axes, (theirs, ours) => {
    values[ours] = data[start + theirs]!;
  });
  return values;
}

/** A weight, into its rows of a tensor. */
export function toTorch(target: Float32Array, weight: ArrayLike<number>, { from, view, axes }: Piece, rowSize: number) {
  const start = from * rowSize;
  walk(view, axes, (theirs, ours) => {
    target[start + theirs] = weight[ours]!;
  });
}

/** Numbers a tensor's row has: elements behind the first axis. */
export const rowSizeOf = (shape: Shape): number => sizeOf(shape.slice(1));

/** Each element of `view`, and where it is when the axes stand in the order `axes`. */
function walk(view: Shape, axes: readonly number[], visit: (theirs: number, ours: number) => void): void {
  const strides = view.map((_, axis) => sizeOf(view.slice(axis + 1)));
  const sizes = axes.map((axis) => view[axis]!);
  const steps = axes.map((axis) => strides[axis]!);
  const count = sizeOf(view);
  const index = new Array<number>(sizes.length).fill(0);
  let theirs = 0;
  for (let ours = 0; ours < count; ours++) {
    visit(theirs, ours);
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      theirs += steps[axis]!;
      if (index[axis]! < sizes[axis]!) break;
      theirs -= steps[axis]! * sizes[axis]!;
      index[axis] = 0;
    }
  }
}
