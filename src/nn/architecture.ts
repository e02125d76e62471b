// Models without weights, and with them. An architecture costs nothing to make, however large the model; `build`
// allocates.
import { type Device, deviceRule } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { callable, check, checkOptions, integer, type Rules, text } from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { keep } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { checkDevice, requireTensor, type Tensor } from "../tensor/tensor.js";
import { type GraphNode, input, isChain } from "./graph.js";
import { GraphModel } from "./graph-model.js";
import { initialize } from "./initializers.js";
import type { Layer, WeightSpec } from "./layer.js";
import { BoundLayer, type Model, modelRule } from "./model.js";
import {
  type ArchitectureOptions,
  architectureRules,
  type GraphOptions,
  graphRules,
  ModelShape,
  type PlacedLayer,
} from "./model-shape.js";
import { Sequential } from "./sequential.js";

export type { FunctionalConfig, ModelConfig, SequentialConfig } from "./model-config.js";
export type { ArchitectureOptions, GraphOptions, PlacedCall, PlacedLayer } from "./model-shape.js";

export interface BuildOptions {
  readonly device: Device;
  /** Every weight's initial values derive from it, and dropout; default 0. */
  readonly seed?: number;
  /** Instead of initial values: the weight of this name (`conv2d/kernel`), which the model takes over. */
  readonly weights?: (name: string, spec: WeightSpec) => Tensor;
}

const buildRules: Rules<BuildOptions> = { device: deviceRule, seed: integer(), weights: callable };
const sequentialRules: Rules<ArchitectureOptions & BuildOptions> = { ...architectureRules, ...buildRules };
const modelRules: Rules<GraphOptions & BuildOptions> = { ...graphRules, ...buildRules };

/**
 * The architecture of a model: `new Architecture({ inputShape }, layers)` of a chain, in which a layer that stands
 * twice is two layers; `new Architecture({ inputs, outputs })` of a graph, in which a layer that is called twice is
 * one.
 */
export class Architecture extends ModelShape {
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
