// The shape of a model without its weights: layers with names, shapes and weights' shapes, and their calls in an order
// that computes. Architecture (architecture.ts) builds models of it.
import { ShapeError, UsageError } from "../tensor/errors.js";
import { array, check, checkOptions, integer, object, type Rules, text } from "../tensor/options.js";
import { checkShape, formatShape, type Shape, sameShape } from "../tensor/shape.js";
import {
  type Call,
  chain,
  type Graph,
  type GraphInput,
  type GraphNode,
  nodesOf,
  outputShapeOf,
  trace,
} from "./graph.js";
import { checkLayers, type Layer, type WeightSpec } from "./layer.js";
import { configOf, type ModelConfig } from "./model-config.js";
import { countParameters, formatSummary, type ParameterCount, summaryRows } from "./summary.js";

/** Of a chain of layers. */
export interface ArchitectureOptions {
  /** Shape of one sample, without the batch axis, e.g. [28, 28, 1]. */
  readonly inputShape: Shape;
  /** Default "sequential". */
  readonly name?: string;
}

/** Of any graph of layers. */
export interface GraphOptions {
  /** One node of `nn.input`, or several. */
  readonly inputs: GraphNode | readonly GraphNode[];
  /** One node, or several. */
  readonly outputs: GraphNode | readonly GraphNode[];
  /** Default "functional". */
  readonly name?: string;
}

/** A layer at its place in a model; shapes are those of its first call. */
export interface PlacedLayer {
  readonly name: string;
  readonly layer: Layer;
  /** Of the first input. */
  readonly inputShape: Shape;
  readonly outputShape: Shape;
  readonly weights: readonly WeightSpec[];
}

/** A call of a layer with the shapes of its inputs and its output. */
export interface PlacedCall extends Call {
  readonly inputShapes: readonly Shape[];
  readonly shape: Shape;
  /** How many calls of the same layer are before it. */
  readonly repeat: number;
}

export const architectureRules: Rules<ArchitectureOptions> = { inputShape: array, name: text };
const nodes = {
  expected: "a node or a list of nodes",
  accepts: (value: unknown) => object.accepts(value) || array.accepts(value),
};
export const graphRules: Rules<GraphOptions> = { inputs: nodes, outputs: nodes, name: text };
/** Keras's class name in snake case: MaxPooling2D is max_pooling2d. */
export function snakeCase(className: string): string {
  return className
    .replace(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}

/** Names for a graph's layers: their own, or Keras's for their class and number, in their order. */
function namesOf(owner: string, layers: readonly Layer[]): string[] {
  const taken = new Set(layers.flatMap(({ config }) => config.name ?? []));
  const counts = new Map<string, number>();
  const freeName = (base: string): string => {
    const count = counts.get(base) ?? 0;
    counts.set(base, count + 1);
    const candidate = count === 0 ? base : `${base}_${count}`;
    return taken.has(candidate) ? freeName(base) : candidate;
  };
  const used = new Set<string>();
  return layers.map(({ config, className }) => {
    const name = config.name ?? freeName(snakeCase(className));
    if (used.has(name)) throw new UsageError(`${owner}: two layers have the name "${name}"`);
    used.add(name);
    return name;
  });
}

/** A model's layers with their names, the shapes of their weights, and their calls in an order that computes. */
export class ModelShape {
  readonly name: string;
  readonly inputs: readonly GraphInput[];
  /** Each layer once, in an order in which they can be computed. */
  readonly layers: readonly PlacedLayer[];
  readonly calls: readonly PlacedCall[];
  /** Numbers of values: first the inputs, then what each call gives. */
  readonly outputs: readonly number[];

  /** @throws ShapeError naming the layer that does not fit, UsageError for a name given twice */
  constructor(options: ArchitectureOptions | GraphOptions, layers?: readonly Layer[]) {
    const { name, graph } = described(options, layers);
    const { inputs, calls, outputs } = graph;
    this.name = name;
    this.inputs = inputs;
    this.outputs = outputs;
    const names = graph.names ?? namesOf(name, graph.layers);
    const shapes = inputs.map(({ shape }) => shape);
    const places = new Map<number, PlacedLayer>();
    const counts = new Map<number, number>();
    this.calls = calls.map((call): PlacedCall => {
      const layer = graph.layers[call.layer]!;
      const inputShapes = call.inputs.map((value) => shapes[value]!);
      const owner = `${name}: layer "${names[call.layer]}"`;
      const shape = outputShapeOf(layer, inputShapes, `${owner} (${layer.className})`);
      const weights = layer.weights(inputShapes[0]!, ...inputShapes.slice(1));
      checkShape(owner, shape);
      shapes.push(shape);
      const before = places.get(call.layer);
      if (before === undefined) {
        const placed = { name: names[call.layer]!, layer, inputShape: inputShapes[0]!, outputShape: shape, weights };
        places.set(call.layer, placed);
      } else {
        requireSameWeights(owner, before, weights);
      }
      const repeat = counts.get(call.layer) ?? 0;
      counts.set(call.layer, repeat + 1);
      return { ...call, inputShapes, shape, repeat };
    });
    this.layers = graph.layers.map((_, i) => places.get(i)!);
  }

  /** Of the only input. @throws UsageError for several */
  get inputShape(): Shape {
    if (this.inputs.length === 1) return this.inputs[0]!.shape;
    throw new UsageError(`${this.name}: has ${this.inputs.length} inputs, not one inputShape; use inputs`);
  }

  get outputShapes(): readonly Shape[] {
    return this.outputs.map((value) => this.inputs[value]?.shape ?? this.calls[value - this.inputs.length]!.shape);
  }

  /** Of the only output. @throws UsageError for several */
  get outputShape(): Shape {
    const [shape, ...others] = this.outputShapes;
    if (others.length === 0) return shape!;
    throw new UsageError(`${this.name}: has ${this.outputs.length} outputs, not one outputShape; use outputShapes`);
  }

  /** Scalars in the weights, as Keras counts them. */
  countParameters(): ParameterCount {
    return countParameters(this.rows());
  }

  /** Multiply-adds of all kernels for one sample, forward. */
  multiplyAdds(): number {
    return this.calls.reduce((sum, call) => sum + this.multiplyAddsOf(call), 0);
  }

  private multiplyAddsOf({ layer, shape, inputShapes }: PlacedCall): number {
    return this.layers[layer]!.layer.multiplyAdds?.(shape, ...inputShapes) ?? 0;
  }

  /**
   * Whether steps of `batchSize` samples are so little work that a device opened with `tinyDispatches` is the faster
   * one: `openDevice("webgpu", { tinyDispatches: architecture.hasTinyDispatches(128) })`. Measured on lavapipe with two
   * cores.
   */
  hasTinyDispatches(batchSize: number): boolean {
    check("hasTinyDispatches", "batchSize", batchSize, integer({ from: 1 }));
    const computing = this.calls.filter((call) => this.multiplyAddsOf(call) > 0);
    return this.multiplyAdds() * batchSize < 1e6 * computing.length;
  }

  /** The table that Keras prints. */
  summary(): string {
    return formatSummary(this.name, this.rows());
  }

  /** Everything needed to make it again: `fromConfig(architecture.config())`. */
  config(): ModelConfig {
    const { name, inputs, calls, outputs, layers } = this;
    return configOf({
      ...{ name, inputs, calls, outputs },
      layers: layers.map(({ name, layer }) => ({ className: layer.className, config: { ...layer.config, name } })),
    });
  }

  private rows() {
    return summaryRows(
      this,
      this.layers.map((placed) => ({ ...placed, trainable: placed.layer.config.trainable ?? true })),
    );
  }
}

/** A graph, and names of its layers where their order is not that of the naming. */
interface Described {
  readonly name: string;
  readonly graph: Graph & { readonly names?: readonly string[] };
}

function described(options: ArchitectureOptions | GraphOptions, layers: readonly Layer[] | undefined): Described {
  if (layers === undefined && object.accepts(options) && "inputs" in options) {
    const given = checkOptions("architecture", options as GraphOptions, graphRules, ["inputs", "outputs"]);
    const { name = "functional" } = given;
    const { graph, order } = trace(
      name,
      nodesOf(name, given.inputs, "inputs"),
      nodesOf(name, given.outputs, "outputs"),
    );
    const found = namesOf(name, order);
    return { name, graph: { ...graph, names: graph.layers.map((layer) => found[order.indexOf(layer)]!) } };
  }
  const { inputShape, name = "sequential" } = checkOptions(
    "architecture",
    options as ArchitectureOptions,
    architectureRules,
    ["inputShape"],
  );
  checkShape(name, inputShape);
  checkLayers(name, layers!);
  return { name, graph: chain(inputShape, layers!) };
}

/** A layer has one set of weights, whatever it is called on. */
function requireSameWeights(owner: string, { weights: first }: PlacedLayer, weights: readonly WeightSpec[]): void {
  for (const [i, { name, shape }] of weights.entries()) {
    if (sameShape(first[i]!.shape, shape)) continue;
    throw new ShapeError(
      `${owner}: is called on inputs of several shapes, for which its ${name} would be ${formatShape(first[i]!.shape)} and ${formatShape(shape)}; use two layers`,
    );
  }
}
