// Models as graphs of layers. `input` begins one, calling a layer on nodes adds a node, and `trace` gives what lies
// between inputs and outputs as a list in an order that computes. Nothing here has weights or computes numbers.
import { ShapeError, UsageError } from "../tensor/errors.js";
import { array, check, checkOptions, type Rules, text } from "../tensor/options.js";
import { checkShape, formatShape, type Shape } from "../tensor/shape.js";
import type { Layer } from "./layer.js";

export interface InputOptions {
  /** Of one sample, without the batch axis, e.g. [28, 28, 1]. */
  readonly shape: Shape;
  /** Unique among the inputs of a model; default "input", "input_1", ... */
  readonly name?: string;
}

/** Where a node comes from: an input of the model, or a layer and the nodes that it is called on. */
export type GraphSource =
  | { readonly kind: "input"; readonly name: string | undefined }
  | { readonly kind: "layer"; readonly layer: Layer; readonly inputs: readonly GraphNode[] };

/** Nodes are numbered as they are made, so that layers get their names in the order of their calls. */
let made = 0;

/** A value that a model will compute: no numbers, but the shape of one sample. */
export class GraphNode {
  readonly number = made++;
  constructor(
    readonly shape: Shape,
    readonly source: GraphSource,
  ) {}
}

/** Inputs of a model with names. */
export interface GraphInput {
  readonly name: string;
  readonly shape: Shape;
}

/** A call of a layer: which of the graph's layers, and on which values. */
export interface Call {
  readonly layer: number;
  readonly inputs: readonly number[];
}

/**
 * Layers and their calls as plain data. Values are numbered: first the inputs, then what each call gives. A layer that
 * is called twice has one set of weights.
 */
export interface Graph {
  readonly inputs: readonly GraphInput[];
  readonly layers: readonly Layer[];
  /** Each uses inputs and calls before it only. */
  readonly calls: readonly Call[];
  /** Numbers of values. */
  readonly outputs: readonly number[];
}

const inputRules: Rules<InputOptions> = { shape: array, name: text };
const nodeRule = {
  expected: "a node, as nn.input() and layers called on nodes give it",
  accepts: (value: unknown) => value instanceof GraphNode,
};

/**
 * An input of a model that `nn.model` makes.
 * @example
 * const image = nn.input({ shape: [28, 28, 1] });
 * const features = nn.conv2d({ filters: 8, kernelSize: 3, padding: "same", activation: "relu" })(image);
 */
export function input(options: InputOptions): GraphNode {
  const { shape, name } = checkOptions("input", options, inputRules, ["shape"]);
  checkShape("input", shape);
  return new GraphNode([...shape], { kind: "input", name });
}

/**
 * The node that a layer makes of one node, or of several.
 * @throws ShapeError when they do not fit
 */
export function applyLayer(layer: Layer, given: GraphNode | readonly GraphNode[]): GraphNode {
  const inputs = nodesOf(layer.className, given);
  const shapes = inputs.map((node) => node.shape);
  const shape = outputShapeOf(layer, shapes, `${layer.className}:`);
  checkShape(layer.className, shape);
  return new GraphNode(shape, { kind: "layer", layer, inputs });
}

/** One node, or several, as a list. @throws UsageError for what are no nodes */
export function nodesOf(owner: string, given: GraphNode | readonly GraphNode[], name = "its input"): GraphNode[] {
  const nodes = Array.isArray(given) ? given : [given];
  if (nodes.length === 0) throw new UsageError(`${owner}: ${name} must be at least one node, got none`);
  for (const node of nodes) check(owner, name, node, nodeRule);
  return [...nodes];
}

/**
 * The shape that a layer makes of its inputs' shapes.
 * @throws ShapeError that begins with `owner`, where they do not fit
 */
export function outputShapeOf(layer: Layer, shapes: readonly Shape[], owner: string): Shape {
  const [first, ...others] = shapes;
  if (!layer.takesSeveral && shapes.length !== 1) {
    throw new ShapeError(`${owner} takes one input, got ${shapes.length}: ${shapes.map(formatShape).join(", ")}`);
  }
  try {
    return layer.outputShape(first!, ...others);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(`${owner} ${error.message}`, { cause: error });
  }
}

/** A chain: one input, and each layer on what the one before gives. */
export function chain(inputShape: Shape, layers: readonly Layer[]): Graph {
  return {
    inputs: [{ name: "input", shape: inputShape }],
    layers,
    calls: layers.map((_, layer) => ({ layer, inputs: [layer] })),
    outputs: [layers.length],
  };
}

/** Whether a graph is a chain: one input, and each layer once, on what the one before gives. */
export function isChain({ inputs, layers, calls, outputs }: Omit<Graph, "layers"> & { layers: ArrayLike<unknown> }) {
  return (
    inputs.length === 1 &&
    layers.length === calls.length &&
    calls.every((call, i) => call.layer === i && call.inputs.length === 1 && call.inputs[0] === i) &&
    outputs.length === 1 &&
    outputs[0] === calls.length
  );
}

/**
 * What lies between inputs and outputs, in the order that Keras gives layers. Those farthest from the outputs come
 * first. Those equally far come as a walk from the outputs back meets them. `order` has the layers as they were first
 * called.
 * @throws UsageError where an output depends on an input that is not among `inputs`
 */
export function trace(
  owner: string,
  inputs: readonly GraphNode[],
  outputs: readonly GraphNode[],
): { readonly graph: Graph; readonly order: readonly Layer[] } {
  const given = new Set(inputs);
  const met = new Map<Layer, number>();
  const finished: GraphNode[] = [];
  const seen = new Set<GraphNode>();
  // A walk without recursion: deep models would overflow the stack.
  const walk: { readonly node: GraphNode; readonly leave: boolean }[] = [];
  for (const output of outputs) {
    walk.push({ node: output, leave: false });
    while (walk.length > 0) {
      const { node, leave } = walk.pop()!;
      if (leave) {
        finished.push(node);
        continue;
      }
      if (seen.has(node) || given.has(node)) continue;
      seen.add(node);
      if (node.source.kind === "input") {
        throw new UsageError(
          `${owner}: an output depends on an input ${formatShape(node.shape)}${node.source.name === undefined ? "" : ` "${node.source.name}"`} that is not among inputs; add it`,
        );
      }
      if (!met.has(node.source.layer)) met.set(node.source.layer, met.size);
      walk.push({ node, leave: true });
      for (const before of [...node.source.inputs].reverse()) walk.push({ node: before, leave: false });
    }
  }
  if (finished.length === 0) throw new UsageError(`${owner}: needs at least one layer between inputs and outputs`);
  const depths = depthsOf(finished);
  const layers = [...met.keys()].sort(
    (a, b) => depths.layers.get(b)! - depths.layers.get(a)! || met.get(a)! - met.get(b)!,
  );
  const position = new Map(layers.map((layer, i) => [layer, i]));
  // Sorting is stable: calls of one layer stay in the order of the walk.
  const nodes = [...finished].sort(
    (a, b) => depths.nodes.get(b)! - depths.nodes.get(a)! || position.get(layerOf(a))! - position.get(layerOf(b))!,
  );
  const values = new Map([...inputs, ...nodes].map((node, i) => [node, i]));
  const graph: Graph = {
    inputs: namedInputs(owner, inputs),
    layers,
    calls: nodes.map((node) => ({
      layer: position.get(layerOf(node))!,
      inputs: inputsOf(node).map((before) => values.get(before)!),
    })),
    outputs: outputs.map((node) => values.get(node)!),
  };
  const made = [...nodes].sort((a, b) => a.number - b.number);
  return { graph, order: [...new Set(made.map(layerOf))] };
}

const layerOf = ({ source }: GraphNode): Layer => (source as Extract<GraphSource, { kind: "layer" }>).layer;
const inputsOf = ({ source }: GraphNode): readonly GraphNode[] => (source.kind === "layer" ? source.inputs : []);

/**
 * Most calls between a node, or any node of a layer, and the outputs. A layer's later calls are as far as its farthest.
 */
function depthsOf(finished: readonly GraphNode[]) {
  const nodes = new Map<GraphNode, number>();
  const layers = new Map<Layer, number>();
  for (const node of [...finished].reverse()) {
    const depth = Math.max(nodes.get(node) ?? 0, layers.get(layerOf(node)) ?? 0);
    nodes.set(node, depth);
    layers.set(layerOf(node), depth);
    for (const before of inputsOf(node)) nodes.set(before, Math.max(depth + 1, nodes.get(before) ?? 0));
  }
  return { nodes, layers };
}

function namedInputs(owner: string, inputs: readonly GraphNode[]): GraphInput[] {
  const taken = new Set<string>();
  const nameOf = ({ source }: GraphNode) => (source.kind === "input" ? source.name : undefined);
  for (const name of inputs.flatMap((node) => nameOf(node) ?? [])) {
    if (taken.has(name)) throw new UsageError(`${owner}: two inputs have the name "${name}"; rename one of them`);
    taken.add(name);
  }
  return inputs.map((node) => {
    let name = nameOf(node);
    for (let i = 0; name === undefined; i++) {
      const candidate = i === 0 ? "input" : `input_${i}`;
      if (!taken.has(candidate)) taken.add((name = candidate));
    }
    return { name, shape: node.shape };
  });
}
