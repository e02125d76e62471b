// The layer of what no other layer computes: some nodes of an ONNX graph, their constants, and their weights.
import { cast } from "../../../autograd/ops/elementwise.js";
import { concat, reshape } from "../../../autograd/ops/transform.js";
import { DataError, ShapeError } from "../../../tensor/errors.js";
import { array, boolean, object } from "../../../tensor/options.js";
import { formatShape, type Shape, sameShape, sizeOf } from "../../../tensor/shape.js";
import { empty, type Tensor } from "../../../tensor/tensor.js";
import { defineLayer, type LayerOptions } from "../../layer.js";
import type { Node } from "./graph.js";
import type { Attribute, Constant } from "./operators/call.js";
import { runNodes } from "./run.js";
import { type ElementType, ShapeDevice, Value } from "./value.js";

/** A number in JSON: itself, a word for what JSON lacks, or [a, b] for a times the batch's size, and b. */
export type StoredNumber = number | "Infinity" | "-Infinity" | "NaN" | readonly [number, number];
export interface StoredConstant {
  readonly type: ElementType;
  readonly shape: Shape;
  readonly data: readonly StoredNumber[];
}
export type StoredAttribute =
  | StoredNumber
  | { readonly text: string | readonly string[] }
  | { readonly numbers: readonly StoredNumber[] }
  | { readonly tensor: StoredConstant };

/** A node as JSON. */
export interface StoredNode {
  readonly op: string;
  readonly opset: number;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: readonly (readonly [name: string, value: StoredAttribute])[];
}

export interface OnnxGraphOptions extends LayerOptions {
  readonly nodes: readonly StoredNode[];
  /** Names and types of the layer's inputs, in their order. An empty name is read for its batch alone. */
  readonly inputs: readonly { readonly name: string; readonly type: ElementType }[];
  /** One name; of several, their elements stand one behind the other, as floats: [N, sum of sizes]. */
  readonly outputs: readonly string[];
  readonly constants: Readonly<Record<string, StoredConstant>>;
  readonly weights: readonly { readonly name: string; readonly shape: Shape; readonly trainable: boolean }[];
  /** Images have their channels last, as in all of Kilograd's layers; else as in ONNX. */
  readonly channelsLast: boolean;
}

export const storedNumber = (n: number): StoredNumber => (Number.isFinite(n) ? n : (String(n) as "NaN"));
export const numberOf = (stored: StoredNumber, batch: number): number =>
  typeof stored === "object" ? stored[0] * batch + stored[1] : Number(stored);

export function storedConstant({ type, shape, data }: Constant): StoredConstant {
  return { type, shape: [...shape], data: Array.from(data as ArrayLike<number>, storedNumber) };
}

export function storedAttribute(value: Attribute): StoredAttribute {
  if (typeof value === "number") return storedNumber(value);
  if (typeof value === "string") return { text: value };
  if ("data" in value) return { tensor: storedConstant(value) };
  if (value.every((each) => typeof each === "number")) return { numbers: value.map(storedNumber) };
  return { text: value as readonly string[] };
}

function attributeOf(stored: StoredAttribute): Attribute {
  if (typeof stored !== "object" || Array.isArray(stored)) return numberOf(stored as StoredNumber, 0);
  if ("text" in stored) return stored.text;
  if ("numbers" in stored) return stored.numbers.map((each) => numberOf(each, 0));
  const { type, shape, data } = (stored as { tensor: StoredConstant }).tensor;
  return { type, shape, data: data.map((each) => numberOf(each, 0)) };
}

const shapes = { device: new ShapeDevice(), exact: false } as const;

/** The nodes of a layer's options. */
export function nodesOf({ nodes }: Pick<OnnxGraphOptions, "nodes">): Node[] {
  return nodes.map(({ op, opset, inputs, outputs, attributes }) => ({
    label: `${op} of ${outputs[0]}`,
    ...{ op, opset, inputs, outputs },
    attributes: Object.fromEntries(attributes.map(([name, value]) => [name, attributeOf(value)])),
  }));
}

/** All values of a layer by their names, of its inputs and weights. */
function valuesOf(
  { inputs, constants, weights, channelsLast }: OnnxGraphOptions,
  nodes: readonly Node[],
  given: readonly Tensor[],
  own: Readonly<Record<string, Tensor>>,
): Map<string, Value> {
  const place = { device: given[0]!.device, exact: false };
  const batch = given[0]!.shape[0]!;
  const values = new Map<string, Value>();
  for (const [i, { name, type }] of inputs.entries()) {
    if (name !== "") values.set(name, Value.ofTensor(type, given[i]!, place));
  }
  for (const [name, { type, shape, data }] of Object.entries(constants)) {
    const numbers = data.map((each) => numberOf(each, batch));
    values.set(name, Value.of(type, shape, numbers));
  }
  for (const { name } of weights) values.set(name, Value.ofTensor("float32", own[name]!, place));
  runNodes(nodes, values, { source: "OnnxGraph", place, channelsLast });
  return values;
}

/** Types and shapes of all values of a layer for a batch of some size; nothing is computed. */
export function shapesOf(
  options: OnnxGraphOptions,
  nodes: readonly Node[],
  samples: readonly Shape[],
  batch: number,
): ReadonlyMap<string, Value> {
  const fake = (shape: Shape) => empty(shapes.device, shape);
  const own = Object.fromEntries(options.weights.map(({ name, shape }) => [name, fake(shape)]));
  const given = samples.map((shape) => fake([batch, ...shape]));
  return valuesOf(options, nodes, given, own);
}

export const OnnxGraph = defineLayer<OnnxGraphOptions>({
  className: "OnnxGraph",
  options: { nodes: array, inputs: array, outputs: array, constants: object, weights: array, channelsLast: boolean },
  required: ["nodes", "inputs", "outputs", "constants", "weights", "channelsLast"],
  make(options) {
    const { inputs, outputs, constants, weights, channelsLast } = options;
    const nodes = nodesOf(options);
    const outputsOf = (values: ReadonlyMap<string, Value>): Value[] =>
      outputs.map((name) => {
        const value = values.get(name);
        if (value === undefined) throw new DataError(`OnnxGraph: no node gives its output "${name}"`);
        return value;
      });
    /** Shapes of the outputs for a batch of this size. */
    const shapesAt = (batch: number, given: readonly Shape[]): Shape[] =>
      outputsOf(shapesOf(options, nodes, given, batch)).map(({ shape }) => shape);
    return {
      config: { nodes: options.nodes, inputs, outputs, constants, weights, channelsLast },
      takesSeveral: true,
      gives: "summaries",
      outputShape(...given) {
        if (given.length !== inputs.length) throw new ShapeError(`needs ${inputs.length} inputs, got ${given.length}`);
        // What does not grow with the batch is not a shape of a sample.
        const [two, three] = [shapesAt(2, given), shapesAt(3, given)];
        for (const [i, [n, ...shape]] of two.entries()) {
          if (n === 2 && three[i]![0] === 3 && sameShape(shape, three[i]!.slice(1))) continue;
          throw new ShapeError(
            `needs outputs whose first axis is the batch, got ${formatShape(two[i]!)} for a batch of 2`,
          );
        }
        return two.length === 1 ? two[0]!.slice(1) : [two.reduce((sum, shape) => sum + sizeOf(shape) / 2, 0)];
      },
      weights: () => weights.map(({ name, shape, trainable }) => ({ name, shape, trainable })),
      call(_, own, { inputs: given }) {
        const place = { device: given[0]!.device, exact: false };
        const values = outputsOf(valuesOf(options, nodes, given, own)).map((value) => value.on(place));
        if (values.length === 1) return values[0]!;
        const rows = values.map((each) => reshape(cast(each, "f32"), [each.shape[0]!, sizeOf(each.shape.slice(1))]));
        return concat(rows, 1);
      },
    };
  },
});
