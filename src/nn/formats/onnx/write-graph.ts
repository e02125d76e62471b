// An ONNX graph as it is written: nodes, initialisers, and values that are laid out with channels last, as Kilograd has
// them, or first, as ONNX's convolutions, pools and normalisations take them. A value is transposed where the other
// layout is first asked for, and once. So none lies between two convolutions.
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import type { OnnxAttributes } from "../../layer.js";
import { ATTRIBUTE_TYPE, bytesOf, DATA_TYPE, type Draft, type NodeProto, type TensorProto } from "./proto.js";
import type { ElementType } from "./value.js";

/** Where the channels of [N, ..., C] are. Up to two axes both are the same. */
export type Layout = "last" | "first";

/** A value of the model. */
export interface Value {
  /** Of one sample, as Kilograd has it: channels last. */
  readonly shape: Shape;
  /** Its name in the layout that it was made in, and in the other once it was asked for. */
  readonly names: { last?: string; first?: string };
  /** That in which it was made. */
  readonly layout: Layout;
  /** Where it is known to be another than float32. */
  readonly type?: ElementType;
}

/** With what operators of files have besides. */
export type Attributes = Readonly<
  Record<
    string,
    | OnnxAttributes[string]
    | { readonly floats: readonly number[] }
    | { readonly texts: readonly string[] }
    | { readonly tensor: Draft<TensorProto> }
  >
>;

/** Numbers of a weight, row-major. */
export interface Numbers {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/** The order of axes that makes [N, ..., C] into [N, C, ...]. */
export const toFirst = (rank: number): number[] => [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)];

/** The order of axes that makes [N, C, ...] into [N, ..., C]. */
const toLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];

/** Which axis of a layout is axis `axis` of [N, ..., C]. */
export function axisIn(layout: Layout, axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  return layout === "last" || rank < 3 ? positive : toFirst(rank).indexOf(positive);
}

/** The elements of a tensor with its axes in another order: axis k of the result is axis order[k]. */
export function permuted({ shape, data }: Numbers, order: readonly number[]): Numbers {
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const sizes = order.map((axis) => shape[axis]!);
  const result = new Float32Array(data.length);
  const at = new Array<number>(order.length).fill(0);
  let from = 0;
  for (let i = 0; i < result.length; i++) {
    result[i] = data[from]!;
    // The next position, the last axis first.
    for (let k = order.length - 1; k >= 0; k--) {
      const stride = strides[order[k]!]!;
      from += stride;
      if (++at[k]! < sizes[k]!) break;
      from -= stride * sizes[k]!;
      at[k] = 0;
    }
  }
  return { shape: sizes, data: result };
}

export class GraphWriter {
  readonly nodes: {
    opType: string;
    name: string;
    input: string[];
    output: string[];
    attribute: Draft<NodeProto>["attribute"];
  }[] = [];
  readonly initializers = new Map<string, Draft<TensorProto>>();
  private readonly taken = new Set<string>();
  /** Names of constants by what they are. */
  private readonly constants = new Map<string, string>();
  /** Values that have the name of an output of the model, by those that they had. */
  private readonly renamed = new Map<string, string>();

  /** @param opset the operator set that nodes are of */
  constructor(readonly opset: number) {}

  /** A name that is not taken yet; it is from now on. */
  unique(base: string): string {
    let name = base;
    for (let count = 1; this.taken.has(name); count++) name = `${base}_${count}`;
    this.taken.add(name);
    return name;
  }

  /** A node's only output. */
  op(owner: string, opType: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.node(owner, opType, { inputs, outputs: [true], attributes })[0]!;
  }

  /** The names of a node's outputs, empty for those that are not asked for. */
  node(
    owner: string,
    opType: string,
    { inputs, outputs, attributes }: { inputs: readonly string[]; outputs: readonly boolean[]; attributes: Attributes },
  ): string[] {
    const name = this.unique(`${owner}/${opType}`);
    const output = outputs.map((isAsked, i) => (isAsked ? this.unique(`${name}:${i}`) : ""));
    const attribute = Object.entries(attributes).map(([key, value]) => ({ name: key, ...attributeOf(value) }));
    this.nodes.push({ opType, name, input: [...inputs], output: [...output], attribute });
    return output;
  }

  /** The name of a value in a layout. */
  as(value: Value, layout: Layout): string {
    const { names, shape } = value;
    const rank = shape.length + 1;
    const found = rank < 3 ? (names.last ?? names.first) : names[layout];
    if (found !== undefined) return found;
    const perm = layout === "first" ? toFirst(rank) : toLast(rank);
    const given = names[value.layout]!;
    return (names[layout] = this.op(given.split(":")[0]!, "Transpose", [given], { perm: { ints: perm } }));
  }

  /** A weight, or another constant, under its name. Of one name and form there is one. */
  floats(name: string, make: () => Numbers, form = ""): string {
    const key = `floats:${name}:${form}`;
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const { shape, data } = make();
    return this.constant(key, name, { dims: shape, dataType: DATA_TYPE.f32, rawData: bytesOf(data) });
  }

  /** A number. */
  number(value: number): string {
    const rawData = bytesOf(Float32Array.of(value));
    return this.constant(`number:${value}`, `value_${value}`, { dims: [], dataType: DATA_TYPE.f32, rawData });
  }

  /** Factors of sizes. Readers cut fractions off the new sizes, so none may be too small. */
  scales(factors: readonly (readonly [from: number, to: number])[]): string {
    const values = Float32Array.from(factors, ([from, to]) => roundedUp(to / from));
    const content = { dims: [values.length], dataType: DATA_TYPE.f32, rawData: bytesOf(values) };
    return this.constant(`scales:${values}`, `scales_${factors.map((each) => each.join("_")).join("_")}`, content);
  }

  /** [queries, keys]: true where a key is not after a query. */
  causal(queries: number, keys: number): string {
    const rawData = Uint8Array.from({ length: queries * keys }, (_, i) => Number(i % keys <= Math.floor(i / keys)));
    const base = `causal_${queries}_${keys}`;
    return this.constant(base, base, { dims: [queries, keys], dataType: DATA_TYPE.bool, rawData });
  }

  /** A list of integers, such as axes and sizes. */
  integers(values: readonly number[]): string {
    const rawData = bytesOf(BigInt64Array.from(values, wholeOf));
    const dims = [values.length];
    return this.constant(`integers:${values}`, `integers_${values.join("_")}`, {
      dims,
      dataType: DATA_TYPE.i64,
      rawData,
    });
  }

  /** A number of int64 without axes. */
  scalar(value: number): string {
    const rawData = bytesOf(BigInt64Array.of(wholeOf(value)));
    return this.constant(`scalar:${value}`, `scalar_${value}`, { dims: [], dataType: DATA_TYPE.i64, rawData });
  }

  /** A constant that no other is like; `base` begins its name. */
  tensor(base: string, content: Draft<TensorProto>): string {
    const name = this.unique(base);
    this.initializers.set(name, { ...content, name });
    return name;
  }

  private constant(key: string, base: string, content: Draft<TensorProto>): string {
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const name = this.tensor(base, content);
    this.constants.set(key, name);
    return name;
  }

  /** Gives a value another name, by an Identity where no node gives it, or it has such a name already. */
  name(wanted: string, given: string): void {
    const now = this.renamed.get(given) ?? given;
    const maker = this.nodes.find(({ output }) => output[0] === given);
    if (maker === undefined) {
      const name = this.unique(`${wanted}/Identity`);
      this.nodes.push({ opType: "Identity", name, input: [now], output: [wanted], attribute: [] });
      return;
    }
    this.renamed.set(given, wanted);
    maker.output[0] = wanted;
    for (const { input } of this.nodes) {
      for (const [i, each] of input.entries()) if (each === given) input[i] = wanted;
    }
  }
}

/** The smallest number of float32 that is not below a positive one. */
function roundedUp(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  if (Math.fround(value) < value) bits[0]! += 1;
  return new Float32Array(bits.buffer)[0]!;
}

/** Of 64 bits: what files have as their ends, such as "to the last element", is a little beyond as a number. */
export function wholeOf(value: number): bigint {
  if (value >= 2 ** 63) return 2n ** 63n - 1n;
  return value <= -(2 ** 63) ? -(2n ** 63n) : BigInt(Math.trunc(value));
}

function attributeOf(value: Attributes[string]) {
  const encoder = new TextEncoder();
  if ("int" in value) return { type: ATTRIBUTE_TYPE.INT, i: wholeOf(value.int) };
  if ("float" in value) return { type: ATTRIBUTE_TYPE.FLOAT, f: value.float };
  if ("ints" in value) return { type: ATTRIBUTE_TYPE.INTS, ints: BigInt64Array.from(value.ints, wholeOf) };
  if ("floats" in value) return { type: ATTRIBUTE_TYPE.FLOATS, floats: Float32Array.from(value.floats) };
  if ("texts" in value)
    return { type: ATTRIBUTE_TYPE.STRINGS, strings: value.texts.map((each) => encoder.encode(each)) };
  if ("tensor" in value) return { type: ATTRIBUTE_TYPE.TENSOR, t: value.tensor };
  return { type: ATTRIBUTE_TYPE.STRING, s: encoder.encode(value.text) };
}
