// ONNX graphs, checked: nodes in an order that computes, constants, inputs and outputs by name, functions of the file
// put in their callers' place. What is wrong is told with the node.
import { DataError } from "../../../tensor/errors.js";
import type { Attribute, Constant } from "./operators/call.js";
import { operatorNamed } from "./operators/index.js";
import { isUsersClass } from "./own.js";
import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "./proto.js";
import { tensorValues } from "./tensors.js";
import { ELEMENT_TYPES, type ElementType, Value } from "./value.js";

export interface GraphInput {
  readonly name: string;
  readonly type: ElementType;
  /** A size, or a name that stands for any; undefined where the file does not say how many axes there are. */
  readonly shape: readonly (number | string)[] | undefined;
}

/** A node, its names resolved. An empty name stands for an input or output that is not there. */
export interface Node {
  /** As messages name it. */
  readonly label: string;
  readonly op: string;
  readonly opset: number;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface Graph {
  readonly source: string;
  readonly name: string;
  readonly inputs: readonly GraphInput[];
  readonly outputs: readonly string[];
  /** In an order that computes. */
  readonly nodes: readonly Node[];
  readonly constants: ReadonlyMap<string, Value>;
  /** What is not as in the file. */
  readonly remarks: readonly string[];
}

const isOnnx = (domain: string) => domain === "" || domain === "ai.onnx";
/** Of a file without one, which is of the first versions. */
const FIRST_OPSET = 1;
const text = new TextDecoder();

/** Bytes of a tensor that lie in another file. */
export type External = (t: TensorProto) => Uint8Array | undefined;

export interface GraphOptions {
  readonly external?: External;
  /** Operators that hand on their first input. */
  readonly skip?: readonly string[];
}

/**
 * The graph of a model.
 * @throws DataError naming the node for what is damaged, unknown or cyclic
 */
export function graphOf(model: ModelProto, source: string, options: GraphOptions = {}): Graph {
  const { external = () => undefined, skip = [] } = options;
  const { graph } = model;
  if (graph === undefined) throw new DataError(`${source}: has no graph; it is no ONNX model, or damaged`);
  const opsets = new Map(model.opsetImport.map(({ domain, version }) => [isOnnx(domain) ? "" : domain, version]));
  const opset = opsets.get("") ?? FIRST_OPSET;
  if (graph.sparseInitializer.length > 0) throw new DataError(`${source}: sparse initialisers are not read`);
  const remarks = new Map<string, number>();
  const constants = new Map<string, Value>();
  for (const t of graph.initializer) {
    const { type, shape, data } = tensorValues(t, `${source}: initialiser "${t.name}"`, external(t));
    if (constants.has(t.name)) throw new DataError(`${source}: two initialisers have the name "${t.name}"`);
    if (type === "float16" || type === "bfloat16" || type === "float64")
      remarks.set(type, (remarks.get(type) ?? 0) + 1);
    constants.set(t.name, Value.of(type, shape, data));
  }
  const functions = new Map(model.functions.map((each) => [`${each.domain}::${each.name}`, each]));
  const nodes: Node[] = [];
  let copies = 0;
  const skipped = new Set<string>();
  const visit = (
    node: NodeProto,
    rename: (name: string) => string,
    given: ReadonlyMap<string, AttributeProto>,
    own: number,
    depth: number,
    prefix: string,
  ) => {
    const label = `${prefix}node ${JSON.stringify(node.name || node.output.find((name) => name !== "") || "")} (${node.opType})`;
    const called = functions.get(`${node.domain}::${node.opType}`);
    if (called !== undefined) {
      if (depth > 20) throw new DataError(`${source}: ${label}: functions may call each other at most 20 deep`);
      if (nodes.length > MOST_NODES) throw new DataError(`${source}: ${label}: has more than ${MOST_NODES} nodes`);
      const tag = `${label}#${copies++}/`;
      const names = new Map<string, string>();
      called.input.forEach((name, i) => void names.set(name, node.input[i] ? rename(node.input[i]!) : ""));
      called.output.forEach(
        (name, i) => void names.set(name, node.output[i] ? rename(node.output[i]!) : `${tag}${name}`),
      );
      const inner = new Map(called.attributeProto.map((each) => [each.name, each]));
      for (const each of node.attribute) inner.set(each.name, resolved(each, given));
      const version = called.opsetImport.find(({ domain }) => isOnnx(domain))?.version ?? own;
      for (const each of called.node) {
        visit(
          each,
          (name) => names.get(name) ?? (name === "" ? "" : `${tag}${name}`),
          inner,
          version,
          depth + 1,
          `${label} > `,
        );
      }
      return;
    }
    if (skip.includes(node.opType)) {
      skipped.add(node.opType);
      const [input, output] = [node.input[0] ?? "", node.output[0] ?? ""];
      nodes.push({
        ...{ label, op: "Identity", opset: own, attributes: {} },
        ...{ inputs: [rename(input)], outputs: [rename(output)] },
      });
      return;
    }
    const isKnown = isOnnx(node.domain) && operatorNamed(node.opType) !== undefined;
    if (!isKnown && !isUsersClass(node.opType)) {
      const domain = isOnnx(node.domain) ? "" : ` of ${node.domain}`;
      throw new DataError(
        `${source}: ${label}: the operator ${node.opType}${domain} is not known; define a layer of that class by nn.defineLayer, or leave it out by kilograd convert --skip ${node.opType}`,
      );
    }
    const attributes: Record<string, Attribute> = {};
    for (const each of node.attribute) {
      const value = attributeOf(resolved(each, given), `${source}: ${label}`);
      if (value !== undefined) attributes[each.name] = value;
    }
    nodes.push({
      label,
      op: node.opType,
      opset: own,
      inputs: node.input.map(rename),
      outputs: node.output.map(rename),
      attributes,
    });
  };
  for (const node of graph.node) visit(node, (name) => name, new Map(), opset, 0, "");
  const unused = skip.find((name) => !skipped.has(name));
  if (unused !== undefined) throw new DataError(`${source}: has no operator "${unused}", which is to be skipped`);
  const inputs = graph.input.filter(({ name }) => !constants.has(name)).map((each) => inputOf(each, source));
  return {
    source,
    name: graph.name,
    inputs,
    outputs: graph.output.map(({ name }) => name),
    nodes: ordered(nodes, new Set([...constants.keys(), ...inputs.map(({ name }) => name)]), source, graph),
    constants,
    remarks: [...remarks].map(([type, count]) => `${count} initialisers of ${type} became float32`),
  };
}

/** Far beyond what networks have. */
const MOST_NODES = 1_000_000;

/** An attribute, or what the caller of a function gives in its place. */
function resolved(each: AttributeProto, given: ReadonlyMap<string, AttributeProto>): AttributeProto {
  if (each.refAttrName === "") return each;
  const found = given.get(each.refAttrName);
  return found === undefined ? { ...each, type: -1 } : { ...found, name: each.name };
}

function attributeOf(each: AttributeProto, where: string): Attribute | undefined {
  const whole = (n: bigint) => Number(n);
  const T = ATTRIBUTE_TYPE;
  const type = each.type || inferredType(each);
  switch (type) {
    case -1:
      return undefined;
    case T.FLOAT:
      return each.f ?? 0;
    case T.INT:
      return whole(each.i ?? 0n);
    case T.STRING:
      return text.decode(each.s ?? new Uint8Array(0));
    case T.TENSOR: {
      if (each.t === undefined) return undefined;
      const { type: elements, shape, data } = tensorValues(each.t, `${where}: its attribute ${each.name}`);
      return { type: elements, shape, data } satisfies Constant;
    }
    case T.FLOATS:
      return [...each.floats];
    case T.INTS:
      return Array.from(each.ints, whole);
    case T.STRINGS:
      return each.strings.map((s) => text.decode(s));
    default:
      throw new DataError(`${where}: its attribute ${each.name} is of a kind that is not read, such as a graph`);
  }
}

/** Files of the first versions leave the type out. */
function inferredType(each: AttributeProto): number {
  const T = ATTRIBUTE_TYPE;
  if (each.f !== undefined) return T.FLOAT;
  if (each.i !== undefined) return T.INT;
  if (each.s !== undefined) return T.STRING;
  if (each.t !== undefined) return T.TENSOR;
  if (each.g !== undefined) return T.GRAPH;
  return each.floats.length > 0 ? T.FLOATS : each.strings.length > 0 ? T.STRINGS : T.INTS;
}

function inputOf({ name, type }: ValueInfoProto, source: string): GraphInput {
  const tensorType = type?.tensorType;
  if (tensorType === undefined) throw new DataError(`${source}: input "${name}" must be a tensor`);
  const element = ELEMENT_TYPES[tensorType.elemType];
  if (element === undefined) {
    throw new DataError(
      `${source}: input "${name}" has the element type ${tensorType.elemType}, none of numbers up to 64 bits`,
    );
  }
  const shape = tensorType.shape?.dim.map(({ dimValue, dimParam }, axis) => dimValue ?? (dimParam || `?${axis}`));
  return { name, type: element, shape };
}

/** Nodes after what they use, otherwise in the order of the file. @throws DataError for cycles and missing inputs */
function ordered(nodes: readonly Node[], known: Set<string>, source: string, graph: GraphProto): Node[] {
  const producers = new Map<string, Node>();
  for (const node of nodes) {
    for (const name of node.outputs) {
      if (name === "") continue;
      if (producers.has(name) || known.has(name)) {
        throw new DataError(`${source}: ${node.label}: gives "${name}", which something else gives already`);
      }
      producers.set(name, node);
    }
  }
  const order: Node[] = [];
  const state = new Map<Node, "open" | "done">();
  for (const first of nodes) {
    // Depth first, without the call stack: graphs may be long chains.
    const stack: { node: Node; next: number }[] = [{ node: first, next: 0 }];
    if (state.get(first) === "done") continue;
    state.set(first, "open");
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const name = top.node.inputs[top.next++];
      if (name === undefined) {
        state.set(top.node, "done");
        order.push(top.node);
        stack.pop();
        continue;
      }
      if (name === "" || known.has(name)) continue;
      const before = producers.get(name);
      if (before === undefined)
        throw new DataError(`${source}: ${top.node.label}: needs "${name}", which nothing gives`);
      const seen = state.get(before);
      if (seen === "open")
        throw new DataError(`${source}: ${before.label}: depends on its own output; the graph is cyclic`);
      if (seen === "done") continue;
      state.set(before, "open");
      stack.push({ node: before, next: 0 });
    }
  }
  for (const { name } of graph.output) {
    if (!producers.has(name) && !known.has(name))
      throw new DataError(`${source}: output "${name}" is given by nothing`);
  }
  return order;
}
