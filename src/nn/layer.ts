// What a layer is: a description that knows shapes, weights and how to compute, but owns no tensor. A model binds it to
// weights (model.ts); the same description can be built any number of times.
import { jsonText } from "../io/json-text.js";
import type { Padding } from "../kernels/conv2d/geometry.js";
import { UsageError } from "../tensor/errors.js";
import {
  boolean,
  callable,
  check,
  checkOptions,
  describe,
  integer,
  listOf,
  number,
  object,
  oneOf,
  type Rule,
  type Rules,
  text,
} from "../tensor/options.js";
import type { RandomKey } from "../tensor/random.js";
import { checkShape, type Shape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type ActivationName, activationRule } from "./activations.js";
import type { KerasWords } from "./formats/keras-words.js";
import { applyLayer, type GraphNode } from "./graph.js";
import { type Initializer, type InitializerOption, initializerOf, initializerRule } from "./initializers.js";

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
   * inputs' elements, in order; elements, but changed at random while training; or what is made of elements, such as
   * means, maxima and sums, or elements in another order. A loss looks for a softmax behind such layers, and is refused
   * where what they give is no softmax any more.
   */
  readonly gives?: "elements" | "survivors" | "summaries";
  /** Axis of its softmax, where that may not be the last; the batch is axis 0. */
  readonly softmaxAxis?: number;
  /** @throws ShapeError when the inputs do not fit */
  outputShape(inputShape: Shape, ...others: Shape[]): Shape;
  weights(inputShape: Shape, ...others: Shape[]): readonly WeightSpec[];
  /** Multiply-adds of its kernels for one sample, forward; none where it is left out. */
  multiplyAdds?(outputShape: Shape, ...inputShapes: Shape[]): number;
  /** x [N, ...inputShape] to [N, ...outputShape]; `weights` by their names. Further inputs are in the context. */
  call(x: Tensor, weights: Readonly<Record<string, Tensor>>, context: CallContext): Tensor;
  /** Weights that it brings along, by their names: those of the model that it was taken from. */
  readonly bound?: Readonly<Record<string, Tensor>>;
  /** This layer and the next as one, where that gives the same result at a lower price. @internal */
  fuse?(next: Layer): Fusion | undefined;
  /** What it is with zeros around its images, where those cost nothing. @internal */
  padded?(zeros: Padding): Fusion | undefined;
}

/** Calls of layers, each on what the one before gives, as one. */
export interface Fusion {
  /**
   * x [N, ...] of the first to what the last gives; `weights` of each layer by their names, and whether each is
   * training.
   */
  call(x: Tensor, weights: readonly Readonly<Record<string, Tensor>>[], training: readonly boolean[]): Tensor;
  /** Holds only where no layer trains: it computes with running statistics, and without gradients of weights. */
  readonly frozen?: boolean;
  /** These layers and the next as one. */
  fuse?(next: Layer): Fusion | undefined;
}

/**
 * A layer that can be called on nodes, and gives a node: `nn.dense({ units: 10 })(x)`. Each call of one layer uses the
 * same weights.
 */
export interface CallableLayer extends Layer {
  (x: GraphNode | readonly GraphNode[]): GraphNode;
}

/** A weight as a layer asks for it. */
export interface WeightOptions {
  /** Within the layer: "kernel", "bias", "gamma", ... */
  readonly name: string;
  readonly shape: Shape;
  /** Default "zeros". */
  readonly initializer?: InitializerOption;
  /** Whether an optimizer changes it; default true. */
  readonly trainable?: boolean;
  /** Adds l2 * sum(w^2) to the training loss; default 0. */
  readonly l2?: number;
}

/** What a layer says of itself; the rest is filled in. Shapes are of one sample, without the batch axis. */
export interface LayerParts
  extends Partial<Omit<Layer, "className" | "config" | "outputShape" | "weights" | "call" | "bound">> {
  /** What its definition makes the same layer of, as JSON; default the options as they were given. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Default: that of the input. @throws ShapeError when the inputs do not fit; the layer's name is put before it */
  outputShape?(inputShape: Shape, ...others: Shape[]): Shape;
  /** Default none. */
  weights?(inputShape: Shape, ...others: Shape[]): readonly WeightOptions[];
  /** x [N, ...inputShape] to [N, ...outputShape]; `weights` by their names. Further inputs are in the context. */
  call(x: Tensor, weights: Readonly<Record<string, Tensor>>, context: CallContext): Tensor;
}

const weightRules: Rules<WeightOptions> = {
  name: {
    expected: "a string without slashes that is not empty",
    accepts: (v) => text.accepts(v) && !`${v}`.includes("/"),
  },
  shape: { expected: "a list of whole numbers", accepts: Array.isArray },
  initializer: initializerRule,
  trainable: boolean,
  l2: number({ from: 0 }),
};

/** Weights with defaults filled in. @throws UsageError naming what is no weight, or is there twice */
function weightsOf(className: string, given: readonly WeightOptions[]): WeightSpec[] {
  check(className, "what weights gives", given, { expected: "an array of weights", accepts: Array.isArray });
  const names = new Set<string>();
  return given.map((each, i) => {
    const options = checkOptions(`${className}: weights[${i}]`, each, weightRules, ["name", "shape"]);
    const { name, shape, initializer = "zeros", trainable = true, l2 = 0 } = options;
    checkShape(`${className}: the weight ${name}`, shape);
    if (names.has(name)) throw new UsageError(`${className}: two weights have the name "${name}"`);
    names.add(name);
    return { name, shape, initializer: initializerOf(initializer), trainable, l2 };
  });
}

/** A layer that can be called on nodes. */
function callableLayer(parts: Layer): CallableLayer {
  const onNodes = (x: GraphNode | readonly GraphNode[]): GraphNode => applyLayer(layer, x);
  const layer: CallableLayer = Object.assign(onNodes, parts);
  return layer;
}

/** The same layer with other parts. */
export const withParts = (layer: Layer, parts: Partial<Layer>): CallableLayer => callableLayer({ ...layer, ...parts });

/** Attributes of an ONNX operator by their names, each with its type. */
export type OnnxAttributes = Readonly<
  Record<
    string,
    | { readonly int: number }
    | { readonly float: number }
    | { readonly ints: readonly number[] }
    | { readonly text: string }
  >
>;

/** What a layer's call becomes ONNX operators with; see {@link LayerDefinition}. Names stand for tensors. */
export interface OnnxCall {
  /** Of the layer, as `make` gives it. */
  readonly config: LayerConfig;
  /** Names of its inputs, [N, ...shape] each. */
  readonly inputs: readonly string[];
  /** Shapes of the inputs for one sample. */
  readonly inputShapes: readonly Shape[];
  /** Adds an operator of opset 18; gives the name of its output. An empty name stands for an input that is left out. */
  op(opType: string, inputs: readonly string[], attributes?: OnnxAttributes): string;
  /** A weight of the layer. */
  weight(name: string): string;
  /** A constant float32 []. */
  number(value: number): string;
  /** A constant int64 [values.length], such as axes. */
  integers(values: readonly number[]): string;
}

/** A kind of layer: makes layers of their options, or of their own configuration. */
export interface LayerClass<Options extends LayerOptions = LayerOptions> {
  /** @throws UsageError for options that it does not have */
  (...options: Record<string, never> extends Options ? [options?: Options] : [options: Options]): CallableLayer;
  readonly className: string;
  /** Undefined where Keras has no such layer. */
  readonly keras: KerasWords | undefined;
  /** Undefined for the library's own, which have a table, and where ONNX files refuse the layer. */
  readonly onnx: ((call: OnnxCall) => string) | undefined;
}

/** What `nn.defineLayer` takes. */
export interface LayerDefinition<Options extends LayerOptions> {
  /** Unique; stored models name it. */
  readonly className: string;
  /**
   * What each option may be, besides name and trainable, as `{ rate: { expected: "a number", accepts: Number.isFinite }
   * }`. Default: there are no others.
   */
  readonly options?: Rules<Omit<Options, keyof LayerOptions>>;
  /** Names of options without a default. */
  readonly required?: readonly (keyof Options & string)[];
  /** What a layer of these options is. */
  readonly make: (options: Options) => LayerParts;
  /** Keras's words for it. Without them `.h5` files refuse the layer by name. */
  readonly keras?: KerasWords;
  /**
   * The ONNX operators that compute it; gives the name of its output. Without them `.onnx` files refuse the layer by
   * name. `onnx: (call) => call.op("Mul", [call.inputs[0]!, call.weight("scale")])`
   */
  readonly onnx?: (call: OnnxCall) => string;
}

// biome-ignore lint/suspicious/noExplicitAny: each class has its own options, checked by the class itself.
type AnyLayerClass = LayerClass<any>;

/** Classes of layers by name: the library's, and what users define. */
const classes = new Map<string, AnyLayerClass>();

/** The class of a name, if there is one. */
export const layerClassOf = (className: string): AnyLayerClass | undefined => classes.get(className);

/** All classes that there are. */
export const definedClasses = (): readonly AnyLayerClass[] => [...classes.values()];

const rulesRule: Rule = {
  expected: "an object of rules { expected, accepts }",
  accepts: (value) =>
    object.accepts(value) &&
    Object.values(value as object).every((rule) => text.accepts(rule?.expected) && callable.accepts(rule?.accepts)),
};
// biome-ignore lint/suspicious/noExplicitAny: of any options.
const definitionRules: Rules<LayerDefinition<any>> = {
  className: text,
  options: rulesRule,
  required: listOf(text),
  make: callable,
  keras: object,
  onnx: callable,
};
const partsRules: Rules<LayerParts> = {
  config: object,
  activation: activationRule,
  takesSeveral: boolean,
  gives: oneOf("elements", "survivors", "summaries"),
  softmaxAxis: integer(),
  outputShape: callable,
  weights: callable,
  multiplyAdds: callable,
  call: callable,
  fuse: callable,
  padded: callable,
};

/** {@link LayerDefinition} as a class of layers, under any name; users have that of define-layer.ts. */
export function defineLayer<Options extends LayerOptions = LayerOptions>(
  definition: LayerDefinition<Options>,
): LayerClass<Options> {
  const given = checkOptions("defineLayer", definition, definitionRules, ["className", "make"]);
  const { className, options: own = {}, required = [], make, keras, onnx } = given as LayerDefinition<Options>;
  const rules = { ...own, ...layerRules } as Rules<Options>;
  const made = (given: Options = {} as Options): CallableLayer => {
    const options = checkOptions(className, given, rules, required);
    const parts = checkOptions(`${className}: what make returns`, make(options), partsRules, ["call"]);
    const { name, trainable } = options;
    const { weights, ...rest } = parts;
    const config: Readonly<Record<string, unknown>> = parts.config ?? ({ ...options } as Record<string, unknown>);
    requireJson(className, config);
    return callableLayer({
      activation: "linear",
      outputShape: (shape) => shape,
      ...rest,
      className,
      config: { ...config, ...(name !== undefined && { name }), ...(trainable !== undefined && { trainable }) },
      weights: (...shapes) => (weights === undefined ? [] : weightsOf(className, weights.call(parts, ...shapes))),
    });
  };
  const defined = Object.assign(made, { className, keras, onnx }) as LayerClass<Options>;
  classes.set(className, defined as AnyLayerClass);
  return defined;
}

/** @throws UsageError for what files could not keep: functions, numbers that are not finite, typed arrays */
function requireJson(className: string, config: object): void {
  jsonText(`${className}: config`, config, (name, value) => {
    if (typeof value === "function" || typeof value === "symbol" || ArrayBuffer.isView(value)) {
      throw new UsageError(`${name} is ${describe(value)}`);
    }
    if (typeof value === "number" && !Number.isFinite(value)) throw new UsageError(`${name} is ${value}`);
    return value;
  });
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
