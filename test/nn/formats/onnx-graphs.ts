// Small ONNX files, made of nodes in the order of a list. No tests here.
import {
  type Draft,
  encodeModel as encodeOnnx,
  type ModelProto,
  type NodeProto,
} from "../../../src/nn/formats/onnx/proto.js";
import { RandomStream } from "../../../src/tensor/random.js";
import { sizeOf } from "../../../src/tensor/shape.js";

export type Dim = number | string;
export interface Described {
  readonly inputs: Readonly<Record<string, readonly Dim[]>>;
  readonly nodes: readonly Draft<NodeProto>[];
  readonly weights?: Readonly<Record<string, readonly number[]>>;
  readonly ints?: Readonly<Record<string, readonly number[]>>;
  readonly outputs: readonly string[];
  readonly opset?: number;
}

/** Weights by a formula: small, those named variance positive. */
export function numbersFor(name: string, shape: readonly number[]): Float32Array {
  const random = new RandomStream(5, name);
  const low = name.includes("variance") ? 0.5 : -0.5;
  return Float32Array.from({ length: sizeOf(shape) }, () => low + random.uniform());
}

export const draft = ({
  inputs,
  nodes,
  weights = {},
  ints = {},
  outputs,
  opset = 17,
}: Described): Draft<ModelProto> => ({
  irVersion: 8,
  opsetImport: [{ domain: "", version: opset }],
  graph: {
    name: "net",
    node: nodes,
    input: Object.entries(inputs).map(([name, shape]) => ({
      name,
      type: {
        tensorType: {
          elemType: 1,
          shape: { dim: shape.map((n) => (typeof n === "number" ? { dimValue: n } : { dimParam: n })) },
        },
      },
    })),
    output: outputs.map((name) => ({ name })),
    initializer: [
      ...Object.entries(weights).map(([name, dims]) => ({
        name,
        dims,
        dataType: 1,
        floatData: numbersFor(name, dims),
      })),
      ...Object.entries(ints).map(([name, list]) => ({
        ...{ name, dims: [list.length], dataType: 7 },
        int64Data: BigInt64Array.from(list, BigInt),
      })),
    ],
  },
});
/** A token is put before [N, 2, width]: what is repeated grows with the batch. */
export const withToken = (width: number): Described => ({
  inputs: { x: ["N", 2, width] },
  nodes: [
    node("Shape", ["x"], "shape"),
    node("Gather", ["shape", "zero"], "n"),
    node("Concat", ["n", "rest"], "size", { axis: 0 }),
    node("Expand", ["token", "size"], "tokens"),
    node("Concat", ["tokens", "x"], "y", { axis: 1 }),
  ],
  weights: { token: [1, 1, width] },
  ints: { zero: [0], rest: [1, width] },
  outputs: ["y"],
});

export const file = (described: Described) => encodeOnnx(draft(described));

type Value = number | string | readonly number[];
function attributeOf([name, value]: [string, Value]) {
  if (typeof value === "string") return { name, type: 3, s: new TextEncoder().encode(value) };
  if (typeof value !== "number") return { name, type: 7, ints: BigInt64Array.from(value, BigInt) };
  return Number.isInteger(value) ? { name, type: 2, i: BigInt(value) } : { name, type: 1, f: value };
}
export const node = (opType: string, input: string[], output: string, attributes: Record<string, Value> = {}) => ({
  ...{ opType, input, output: [output], name: output },
  attribute: Object.entries(attributes).map(attributeOf),
});
