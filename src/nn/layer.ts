// What a layer is: a description that knows shapes, weights and how to compute, but owns no tensor. A model binds it to
// weights (model.ts); the same description can be built any number of times.
import { UsageError } from "../tensor/errors.js";
import { boolean, check, object, type Rule, type Rules, text } from "../tensor/options.js";
import type { RandomKey } from "../tensor/random.js";
import type { Shape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";
import type { KerasWords } from "./formats/keras-words.js";
import { applyLayer, type GraphNode } from "./graph.js";
import type { Initializer } from "./initializers.js";

/** One weight of a layer. */
export interface WeightSpec {
  /** Within the layer: "kernel", "bias", "gamma", ... */
  readonly name: string;
  readonly shape: Shape;
  readonly initializer: Initializer;
  /** Whether an optimizer changes it; false for running statistics. */
  readonly trainable: boolean;
  /** Adds l2 * sum(w^2) to the training loss. */
  readonly l2: number;
}

/** How a layer is called. */
export interface CallContext {
  /** Dropout drops, batch normalisation uses the batch's statistics. */
  readonly training: boolean;
  /** Key of this layer's random numbers in this step. */
  readonly key: () => RandomKey;
  /** Leaves out the layer's own activation, so that a loss can work on logits. */
  readonly omitActivation: boolean;
  /** All inputs, for layers that take several; the first of them is `x`. */
  readonly inputs: readonly Tensor[];
}

/** Options that every layer has. */
export interface LayerOptions {
  /** Unique in its model; by default the class in snake case and a number, as in Keras: "conv2d", "conv2d_1", ... */
  readonly name?: string;
  /** false: the layer's weights are not trained; default true. */
  readonly trainable?: boolean;
}

/** Rules of the options that every layer has. */
export const layerRules: Rules<LayerOptions> = { name: text, trainable: boolean };

/** A layer's options as JSON, defaults filled in. */
export interface LayerConfig extends LayerOptions {
  readonly [setting: string]: unknown;
}

/** A layer's description. Shapes are of one sample, without the batch axis. */
export interface Layer {
  /** Keras's name of it: "Conv2D", "Dense", ... */
  readonly className: string;
  readonly config: LayerConfig;
  /** Activation applied last, "linear" where there is none. */
  readonly activation: ActivationName;
  /** Whether it may be called on several inputs, such as `add`; default false. */
  readonly takesSeveral?: boolean;
  /**
   * What the outputs are, apart from the activation, where layers without weights give numbers of the same kind: the
   * inputs' elements, in order; elements, but zeros in place of some while training; or means, maxima and sums of
   * elements.
   */
  readonly gives?: "elements" | "survivors" | "summaries";
  /** @throws ShapeError when the inputs do not fit */
  outputShape(inputShape: Shape, ...others: Shape[]): Shape;
  weights(inputShape: Shape, ...others: Shape[]): readonly WeightSpec[];
  /** Multiply-adds of its kernels for one sample, forward; none where it is left out. */
  multiplyAdds?(outputShape: Shape, ...inputShapes: Shape[]): number;
  /** x [N, ...inputShape] to [N, ...outputShape]; `weights` by their names. Further inputs are in the context. */
  call(x: Tensor, weights: Readonly<Record<string, Tensor>>, context: CallContext): Tensor;
  /** Weights that it brings along, by their names: those of the model that it was taken from. */
  readonly bound?: Readonly<Record<string, Tensor>>;
  /** `call` of this layer and the next as one, where that gives the same result at a lower price. */
  fuse?(next: Layer): ((x: Tensor, weights: Readonly<Record<string, Tensor>>) => Tensor) | undefined;
}

/**
 * A layer that can be called on nodes, and gives a node: `nn.dense({ units: 10 })(x)`. Each call of one layer uses the
 * same weights.
 */
export interface CallableLayer extends Layer {
  (x: GraphNode | readonly GraphNode[]): GraphNode;
}

/** What a layer says of itself; the rest is filled in. */
export type LayerParts = Pick<Layer, "config" | "outputShape" | "call"> & Partial<Omit<Layer, "className">>;

/** A layer of one class, which fills in what many do without: an activation, weights. */
function layerOf(className: string, parts: LayerParts): CallableLayer {
  const onNodes = (x: GraphNode | readonly GraphNode[]): GraphNode => applyLayer(layer, x);
  const rest = { activation: "linear" as const, weights: () => [], ...parts };
  const layer: CallableLayer = Object.assign(onNodes, { className, ...rest });
  return layer;
}

/** The same layer with other parts. */
export const withParts = (layer: Layer, parts: Partial<Layer>): CallableLayer =>
  layerOf(layer.className, { ...layer, ...parts });

/** A kind of layer: how one is made, and how other formats say it. */
export interface LayerClass<Options> {
  readonly className: string;
  /** A layer of its options, or of its own configuration. @throws UsageError for options that it does not have */
  readonly make: (options: Options) => CallableLayer;
  /** Undefined where Keras has no such layer. */
  readonly keras: KerasWords | undefined;
}

/**
 * Defines a kind of layer. `make` checks the options and says what a layer of them is: its configuration, shape rule,
 * weights, multiply-adds and call. layers/registry.ts lists the classes, by which stored models find them.
 * @example
 * export const Doubling = defineLayerClass({
 *   className: "Doubling",
 *   make: (options: LayerOptions) => ({
 *     config: commonConfig(checkOptions("Doubling", options, layerRules)),
 *     outputShape: (shape) => shape,
 *     call: (x) => mul(x, 2),
 *   }),
 * });
 */
export function defineLayerClass<Options>(definition: {
  readonly className: string;
  readonly make: (options: Options) => LayerParts;
  readonly keras?: KerasWords;
}): LayerClass<Options> {
  const { className, make, keras } = definition;
  return { className, make: (options) => layerOf(className, make(options)), keras };
}

/** The configuration of what every layer has: name and trainable flag, where given. */
export function commonConfig({ name, trainable }: LayerOptions): LayerConfig {
  return { ...(name !== undefined && { name }), ...(trainable !== undefined && { trainable }) };
}

/** A weight; without more it is trained, starts at zero and has no penalty. */
export function weight(spec: Pick<WeightSpec, "name" | "shape"> & Partial<WeightSpec>): WeightSpec {
  return { initializer: { name: "constant", value: 0 }, trainable: true, l2: 0, ...spec };
}

const layerRule: Rule = {
  expected: "a layer, as nn.dense() and the like give it",
  accepts: (value) => {
    const { className, config, outputShape, weights, call } = Object(value) as Partial<Layer>;
    return (
      typeof className === "string" &&
      object.accepts(config) &&
      [outputShape, weights, call].every((method) => typeof method === "function")
    );
  },
};

/** @throws UsageError for what is no list of layers, or an empty one */
export function checkLayers(owner: string, layers: readonly Layer[]): void {
  check(owner, "layers", layers, { expected: "an array of layers", accepts: Array.isArray });
  if (layers.length === 0) throw new UsageError(`${owner}: needs at least one layer`);
  for (const [i, layer] of layers.entries()) check(owner, `layers[${i}]`, layer, layerRule);
}
