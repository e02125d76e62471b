// What is known of an ONNX graph before it runs: shapes, constants, and what grows with the batch. The graph runs twice
// on a device that computes no numbers, for two sizes of the batch; what differs between both grows with it.
import { DataError } from "../../../tensor/errors.js";
import { scope } from "../../../tensor/scope.js";
import { type Shape, sameShape } from "../../../tensor/shape.js";
import { empty } from "../../../tensor/tensor.js";
import type { Graph, GraphInput, Node } from "./graph.js";
import { runNode } from "./run.js";
import { type ElementType, type Numbers, ShapeDevice, Value } from "./value.js";

/** A value of a graph. */
export interface Known {
  readonly type: ElementType;
  /** For a batch of one size and of the other. */
  readonly shapes: readonly [Shape, Shape];
  /** Elements, where they follow from constants and shapes. */
  readonly hosts: readonly [Numbers, Numbers] | undefined;
}

export interface Analysis {
  readonly nodes: readonly Node[];
  readonly known: ReadonlyMap<string, Known>;
  /** Inputs with their shapes of one sample. */
  readonly inputs: readonly { readonly name: string; readonly type: ElementType; readonly shape: Shape }[];
  readonly batches: readonly [number, number];
}

/** The shape of one sample. @throws DataError for sizes besides the batch's that the file leaves open */
function sampleShape({ name, shape }: GraphInput, source: string): number[] {
  if (shape === undefined || shape.length === 0) {
    throw new DataError(`${source}: input "${name}" must have axes, of which the first is the batch's`);
  }
  const [, ...rest] = shape;
  const open = rest.find((size) => typeof size !== "number");
  if (open !== undefined) {
    throw new DataError(
      `${source}: input "${name}" must have fixed sizes but for the batch, has [${shape.join(", ")}]; export it with them`,
    );
  }
  return rest as number[];
}

/** The batch's size, where all inputs have the same one. */
function fixedBatch(inputs: readonly GraphInput[]): number | undefined {
  const [first] = inputs[0]?.shape ?? [];
  return typeof first === "number" && inputs.every(({ shape }) => shape?.[0] === first) ? first : undefined;
}

/** Shapes and constants of all values. @throws DataError naming the node that does not fit */
export function analyse(graph: Graph): Analysis {
  const { source } = graph;
  if (graph.inputs.length === 0) throw new DataError(`${source}: has no inputs`);
  const inputs = graph.inputs.map((each) => ({ name: each.name, type: each.type, shape: sampleShape(each, source) }));
  const fixed = fixedBatch(graph.inputs);
  const batches: [number, number] = fixed === 5 || fixed === 7 ? [11, 13] : [5, 7];
  const added = new Map<string, (batch: number) => Value>();
  const patched: Node[][] = graph.nodes.map((node) => [node]);
  const at = (batch: number, isFirst: boolean): Map<string, Value> => {
    const place = { device: new ShapeDevice(), exact: false };
    const values = new Map<string, Value>(graph.constants);
    scope(() => {
      for (const { name, type, shape } of inputs) {
        values.set(name, Value.ofTensor(type, empty(place.device, [batch, ...shape]), place));
      }
      for (const [i, original] of graph.nodes.entries()) {
        if (isFirst && fixed !== undefined) patched[i] = ofAnyBatch(original, values, { fixed, batch }, added);
        for (const [name, make] of added) if (!values.has(name)) values.set(name, make(batch));
        for (const node of patched[i]!) {
          const given = node.inputs.map((name) => (name === "" ? undefined : values.get(name)));
          const outputs = runNode(node, given, { source, place });
          for (const [k, name] of node.outputs.entries()) {
            if (name === "") continue;
            const value = outputs[k];
            if (value === undefined) throw new DataError(`${source}: ${node.label}: gives no output ${k}, "${name}"`);
            values.set(name, value);
          }
        }
      }
    });
    return values;
  };
  const first = fixed === undefined ? at(batches[0], true) : withAdvice(() => at(batches[0], true), fixed);
  const second = at(batches[1], false);
  const known = new Map<string, Known>();
  for (const [name, value] of first) {
    const other = second.get(name)!;
    const hosts = value.host && other.host ? ([value.host, other.host] as const) : undefined;
    known.set(name, { type: value.type, shapes: [value.shape, other.shape], hosts });
  }
  return { nodes: patched.flat(), known, inputs, batches };
}

/** What a batch of another size than the file's runs into is told with what would help. */
function withAdvice<T>(run: () => T, fixed: number): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${error.message}; the file is for batches of ${fixed}, export it for batches of any size`, {
      cause: error,
    });
  }
}

/**
 * A node of a file whose batch has a fixed size, for any other: what it reshapes to has that size as a constant in
 * front, and what it puts beside samples is there as often.
 */
function ofAnyBatch(
  node: Node,
  values: ReadonlyMap<string, Value>,
  { fixed, batch }: { readonly fixed: number; readonly batch: number },
  added: Map<string, (batch: number) => Value>,
): Node[] {
  const ofBatch = (name: string) => values.get(name)?.host === undefined && values.get(name)?.shape[0] === batch;
  if (node.op === "Concat" && fixed === 1 && node.attributes["axis"] !== 0 && node.inputs.some(ofBatch)) {
    const expanded = node.inputs.map((name): Node | undefined => {
      const { host, shape = [] } = values.get(name) ?? {};
      if (host === undefined || shape[0] !== 1) return undefined;
      const size = `${name}#batch-shape`;
      added.set(size, (n) => Value.of("int64", [shape.length], [n, ...shape.slice(1)]));
      return { ...node, op: "Expand", opset: 13, inputs: [name, size], outputs: [`${name}#batch`], attributes: {} };
    });
    const inputs = node.inputs.map((name, i) => expanded[i]?.outputs[0] ?? name);
    return [
      ...new Map(expanded.flatMap((each) => (each ? [[each.outputs[0]!, each] as const] : []))).values(),
      { ...node, inputs },
    ];
  }
  if (node.op !== "Reshape" || !ofBatch(node.inputs[0]!)) return [node];
  const target = node.opset < 5 ? node.attributes["shape"] : values.get(node.inputs[1]!)?.host;
  const list =
    Array.isArray(target) || ArrayBuffer.isView(target) ? Array.from(target as ArrayLike<number>) : undefined;
  if (list?.[0] !== fixed || node.attributes["allowzero"]) return [node];
  const free = [0, ...list.slice(1)];
  if (node.opset < 5) return [{ ...node, attributes: { ...node.attributes, shape: free } }];
  const name = `${node.inputs[1]}#any-batch`;
  added.set(name, () => Value.of("int64", [free.length], free));
  return [{ ...node, inputs: [node.inputs[0]!, name] }];
}

/** Whether its first axis is the batch's, and nothing else grows with that. */
export const isOfSamples = ({ shapes: [a, b] }: Known, [n, m]: readonly [number, number]): boolean =>
  a[0] === n && b[0] === m && sameShape(a.slice(1), b.slice(1));
