// The shape of a model without its weights: layers with names, shapes and weights' shapes, and their calls in an order
// that computes. Costs nothing to make, however large the model; `build` allocates.
import { type Device, deviceRule } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { array, callable, check, checkOptions, integer, object, type Rules, string, text } from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { keep } from "../tensor/scope.js";
import { checkShape, formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { checkDevice, requireTensor, type Tensor } from "../tensor/tensor.js";
import {
  applyLayer,
  type Call,
  chain,
  type Graph,
  type GraphInput,
  type GraphNode,
  input,
  isChain,
  nodesOf,
  outputShapeOf,
  trace,
} from "./graph.js";
import { GraphModel } from "./graph-model.js";
import { initialize } from "./initializers.js";
import { checkLayers, type Layer, type WeightSpec } from "./layer.js";
import { layerFromConfig } from "./layers/registry.js";
import { BoundLayer, type Model, modelRule } from "./model.js";
import { configOf, type FunctionalConfig, type ModelConfig, type StoredLayer } from "./model-config.js";
import { Sequential } from "./sequential.js";
import { countParameters, formatSummary, type ParameterCount, summaryRows } from "./summary.js";

export type { FunctionalConfig, ModelConfig, SequentialConfig } from "./model-config.js";

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

export interface BuildOptions {
  readonly device: Device;
  /** Every weight's initial values derive from it, and dropout; default 0. */
  readonly seed?: number;
  /** Instead of initial values: the weight of this name (`conv2d/kernel`), which the model takes over. */
  readonly weights?: (name: string, spec: WeightSpec) => Tensor;
}

const architectureRules: Rules<ArchitectureOptions> = { inputShape: array, name: text };
const nodes = {
  expected: "a node or a list of nodes",
  accepts: (value: unknown) => object.accepts(value) || array.accepts(value),
};
const graphRules: Rules<GraphOptions> = { inputs: nodes, outputs: nodes, name: text };
const buildRules: Rules<BuildOptions> = { device: deviceRule, seed: integer(), weights: callable };
const sequentialRules: Rules<ArchitectureOptions & BuildOptions> = { ...architectureRules, ...buildRules };
const modelRules: Rules<GraphOptions & BuildOptions> = { ...graphRules, ...buildRules };

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

/**
 * The architecture of a model: `new Architecture({ inputShape }, layers)` of a chain, in which a layer that stands
 * twice is two layers; `new Architecture({ inputs, outputs })` of a graph, in which a layer that is called twice is
 * one.
 */
export class Architecture {
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

  /** Allocates the weights on a device and gives them their initial values. */
  build(options: BuildOptions): Model {
    const { device, seed = 0, weights } = checkOptions(this.name, options, buildRules, ["device"]);
    const { name, inputs, calls, outputs } = this;
    const bound = this.layers.map((placed) => this.bind(placed, { device, seed, weights }));
    if (isChain({ inputs, calls, outputs, layers: bound })) {
      return new Sequential({ name, inputShape: this.inputShape, device, seed }, bound);
    }
    return new GraphModel({ name, device, seed }, { inputs, calls, outputs }, bound);
  }

  private bind(
    placed: PlacedLayer,
    { device, seed, weights }: { device: Device; seed: number; weights: BuildOptions["weights"] },
  ): BoundLayer {
    const { bound: brought, config } = placed.layer;
    const tensors = placed.weights.map((spec) => {
      const name = `${placed.name}/${spec.name}`;
      const tensor =
        weights?.(name, spec) ??
        brought?.[spec.name] ??
        initialize(device, spec.shape, spec.initializer, randomKey(seed, name));
      requireTensor(this.name, `the weight ${name}`, tensor);
      checkDevice(this.name, device, tensor);
      if (tensor.dtype !== "f32" || !sameShape(tensor.shape, spec.shape)) {
        throw new ShapeError(
          `${this.name}: the weight ${name} must be f32 ${formatShape(spec.shape)}, got ${tensor.dtype} ${formatShape(tensor.shape)}`,
        );
      }
      if (brought === undefined) tensor.name = name;
      return [spec.name, keep(tensor)] as const;
    });
    const layer = new BoundLayer(placed, Object.fromEntries(tensors));
    if (brought === undefined) layer.trainable = config.trainable ?? true;
    return layer;
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

/** The architecture of a graph of layers: what lies between its inputs and outputs. */
export function architecture(options: GraphOptions): Architecture;
/** The architecture of a chain; `build` makes a model of it, `summary` and `countParameters` need none. */
export function architecture(options: ArchitectureOptions, layers: readonly Layer[]): Architecture;
export function architecture(options: ArchitectureOptions | GraphOptions, layers?: readonly Layer[]): Architecture {
  return new Architecture(options, layers);
}

/**
 * A model of a graph of layers, with its weights on `device`, as in Keras's functional API.
 * @example
 * const x = nn.input({ shape: [28, 28, 1] });
 * const same = { filters: 8, kernelSize: 3, padding: "same", activation: "relu" };
 * const a = nn.conv2d(same)(x);
 * const b = nn.add()([a, nn.conv2d(same)(a)]);
 * const model = nn.model({ device, inputs: x, outputs: nn.dense({ units: 10 })(nn.flatten()(b)) });
 */
export function model(options: GraphOptions & BuildOptions): Model {
  const { inputs, outputs, name, ...building } = checkOptions("model", options, modelRules, [
    "inputs",
    "outputs",
    "device",
  ]);
  return new Architecture({ inputs, outputs, ...(name !== undefined && { name }) }).build(building);
}

/**
 * A model of layers one after the other, with its weights on `device`.
 * @example
 * const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
 *   nn.conv2d({ filters: 24, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2), nn.flatten(), nn.dense({ units: 10
 *   }),
 * ]);
 */
export function sequential(options: ArchitectureOptions & BuildOptions, layers: readonly Layer[]): Model {
  const { inputShape, name, ...building } = checkOptions("sequential", options, sequentialRules, [
    "inputShape",
    "device",
  ]);
  return new Architecture({ inputShape, ...(name !== undefined && { name }) }, layers).build(building);
}

const entryRules: Rules<StoredLayer> = { className: string, config: object };

/** @throws UsageError for what is not a stored configuration */
export function architectureFromConfig(config: ModelConfig): Architecture {
  const known =
    config?.className === "Sequential" ? Array.isArray(config.inputShape) : config?.className === "Functional";
  if (!known || !Array.isArray(config.layers)) {
    throw new UsageError('fromConfig: needs a model\'s config(), { className: "Sequential", inputShape, layers }');
  }
  const layers = config.layers.map((entry, i) => {
    const rules = checkOptions(`fromConfig: layers[${i}]`, entry, entryRules, ["className", "config"]);
    return layerFromConfig(rules.className, rules.config);
  });
  if (config.className === "Sequential") {
    return new Architecture({ inputShape: config.inputShape, name: config.name }, layers);
  }
  return functional(config, layers);
}

/** Calls the layers of a stored graph on nodes. */
function functional(config: FunctionalConfig, layers: readonly Layer[]): Architecture {
  const { name, inputs, calls, outputs } = config;
  for (const [key, list] of Object.entries({ inputs, calls, outputs })) check(`fromConfig: ${name}`, key, list, array);
  const values: GraphNode[] = inputs.map(input);
  const byName = new Map(layers.map((layer) => [layer.config.name, layer]));
  const numbered = (owner: string, value: number): GraphNode => {
    check(`fromConfig: ${owner}`, "a value", value, integer({ from: 0, below: values.length }));
    return values[value]!;
  };
  for (const [i, call] of calls.entries()) {
    const layer = byName.get(call.layer);
    if (layer === undefined) {
      throw new UsageError(`fromConfig: calls[${i}] must name a layer of ${name}, names ${JSON.stringify(call.layer)}`);
    }
    values.push(
      applyLayer(
        layer,
        call.inputs.map((value) => numbered(`calls[${i}]`, value)),
      ),
    );
  }
  const ends = outputs.map((value) => numbered("outputs", value));
  return new Architecture({ name, inputs: values.slice(0, inputs.length), outputs: ends });
}

/** A model of a stored configuration, with new weights. */
export function fromConfig(config: ModelConfig, options: BuildOptions): Model {
  return architectureFromConfig(config).build(options);
}

/**
 * Models one after the other as one model, which shares their weights: training it trains those that are not frozen.
 * Layers are named after their model: "generator/dense".
 * @throws ShapeError when an output does not fit the next model
 */
export function compose(models: readonly Model[], options: { readonly name?: string } = {}): Model {
  check("compose", "models", models, {
    expected: "an array of models",
    accepts: (value) => Array.isArray(value) && value.every(modelRule.accepts),
  });
  const { name: given } = checkOptions("compose", options, { name: text });
  const [first] = models;
  if (first === undefined) throw new UsageError("compose: needs at least one model");
  models.forEach((model, i) => {
    const before = models[i - 1];
    if (before !== undefined && !sameShape(before.outputShape, model.inputShape)) {
      throw new ShapeError(
        `compose: "${model.name}" needs inputs ${formatShape(model.inputShape)}, "${before.name}" gives ${formatShape(before.outputShape)}`,
      );
    }
  });
  const names = models.map(({ name }, i) =>
    models.some((m, j) => m.name === name && j !== i) ? `${name}_${i}` : name,
  );
  const inputs = first.inputs.map(input);
  let outputs: GraphNode[] = inputs;
  for (const [i, model] of models.entries()) outputs = model.applyAll(outputs, { name: names[i]! });
  const { device, seed } = first;
  return new Architecture({ name: given ?? names.join("_"), inputs, outputs }).build({ device, seed });
}
