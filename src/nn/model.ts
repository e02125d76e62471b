// What a model is: inputs, layers bound to weights, outputs. Training (training/), evaluation, callbacks and files take
// this interface; graph-model.ts and sequential.ts make models.
import type { Changing, Device } from "../tensor/device.js";
import { check, object, type Rule } from "../tensor/options.js";
import type { Shape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";
import type { Batches } from "./batches.js";
import type { EvaluateOptions, Evaluation, Predictions, PredictOptions } from "./evaluate.js";
import type { GraphInput, GraphNode } from "./graph.js";
import type { Head } from "./head.js";
import type { History } from "./history.js";
import type { ModelConfig } from "./model-config.js";
import type { PlacedCall, PlacedLayer } from "./model-shape.js";
import type { InputBatch, InputData, LabelledBatch, LabelledData } from "./samples.js";
import type { ParameterCount } from "./summary.js";
import type { TrainStepOptions } from "./train-step.js";
import type { FitOptions } from "./training/options.js";

/** A layer of a model with its weights. */
export class BoundLayer {
  constructor(
    readonly placed: PlacedLayer,
    /** By their names within the layer: kernel, bias, ... */
    readonly weights: Readonly<Record<string, Tensor>>,
  ) {}

  get name(): string {
    return this.placed.name;
  }

  /**
   * Whether training changes the layer. A frozen layer costs no weight gradients, and its batch normalisation uses the
   * running statistics and leaves them as they are.
   */
  get trainable(): boolean {
    const own = this.trainableWeights();
    return own.length === 0 || own.some((tensor) => tensor.requiresGrad);
  }

  set trainable(value: boolean) {
    for (const tensor of this.trainableWeights()) tensor.requiresGrad = value;
  }

  private trainableWeights(): Tensor[] {
    return this.placed.weights.flatMap(({ name, trainable }) => (trainable ? [this.weights[name]!] : []));
  }
}

/** A weight of a model. */
export interface ModelWeight {
  /** Unique in the model: "conv2d/kernel". */
  readonly name: string;
  readonly tensor: Tensor;
  /** Whether training changes it: false for running statistics and frozen layers. */
  readonly trainable: boolean;
}

/** The only input [N, ...inputShape] of a model, or a list of all of them. */
export type ModelInput = Tensor | readonly Tensor[];

export interface CallOptions {
  /** Default false. */
  readonly training?: boolean;
  /**
   * Number of the training step, which dropout's random numbers depend on; by default a running count of this model.
   */
  readonly step?: Changing<number>;
}

export interface CallAllOptions extends CallOptions {
  /**
   * Which outputs are given without the softmax or sigmoid that they come from, in the order of the outputs; default
   * none. One whose softmax another output needs is computed both ways from there on.
   */
  readonly logits?: readonly boolean[];
}

export interface ApplyOptions {
  /** Begins the names of the layers in the other graph: "encoder/dense"; default the model's name. */
  readonly name?: string;
  /**
   * The layer whose value is given instead of the outputs, of its last call. What lies behind it is left out, such as a
   * classifier of other classes.
   */
  readonly until?: string;
}

/** What a layer gave when a model was called. A shared layer has one for each of its calls. */
export interface LayerOutput {
  /** Of the layer. */
  readonly name: string;
  readonly output: Tensor;
}

/**
 * A network with weights on a device. Made by `nn.sequential`, `nn.model`, `architecture.build`, `nn.fromConfig`,
 * `nn.compose` and `nn.loadModel`. Shapes are of one sample, without the batch axis.
 */
export interface Model {
  readonly name: string;
  readonly device: Device;
  /** Every weight's initial values derived from it, and dropout does. */
  readonly seed: number;
  readonly inputs: readonly GraphInput[];
  /** Of the only input. @throws UsageError for a model of several inputs */
  readonly inputShape: Shape;
  readonly outputShapes: readonly Shape[];
  /** Of the only output. @throws UsageError for a model of several outputs */
  readonly outputShape: Shape;
  /** Each layer once, in an order in which they can be computed. */
  readonly layers: readonly BoundLayer[];
  /** Calls of layers, in the order in which they are computed; see `Graph`. */
  readonly calls: readonly PlacedCall[];
  /** Which values are outputs; see `Graph`. */
  readonly outputs: readonly number[];
  /** Names of the outputs: of the layers that give them, numbered where one gives several. */
  readonly outputNames: readonly string[];
  /** Where the activation of each output is. */
  readonly heads: readonly Head[];
  /** Where the activation of the only output is. */
  readonly head: Head;
  /** Activation of the only output, "linear" where there is none. */
  readonly finalActivation: ActivationName;
  /** Whether any layer with weights is trained; setting it sets all layers. */
  trainable: boolean;

  /**
   * The only output [N, ...outputShape] for x [N, ...inputShape], or for a list of all inputs. Differentiable in x and
   * in the weights, and so are models put together: `classifier.call(generator.call(x))`.
   * @throws UsageError for a model of several outputs, ShapeError for inputs that do not fit
   */
  call(x: ModelInput, options?: CallOptions): Tensor;
  /** All outputs, in order. @throws UsageError where logits are asked for that do not exist, as `logits` does */
  callAll(x: ModelInput, options?: CallAllOptions): Tensor[];
  /**
   * As `call`, without the activation of the last layer: what a softmax is taken of. A softmax or sigmoid is also found
   * where layers behind it only arrange elements, or drop them while training.
   * @throws UsageError where the outputs are probabilities that no logits of their own belong to
   */
  logits(x: ModelInput, options?: CallOptions): Tensor;
  /** What every layer gives for x, in the order of the calls; for looking inside a model. */
  layerOutputs(x: ModelInput, options?: CallOptions): LayerOutput[];
  /** The model as a part of another graph, which shares its weights: the node of its only output. */
  apply(x: GraphNode | readonly GraphNode[], options?: ApplyOptions): GraphNode;
  /** As `apply`, for all outputs. */
  applyAll(x: GraphNode | readonly GraphNode[], options?: ApplyOptions): GraphNode[];

  /** Sum of the layers' L2 penalties; undefined where there is none. */
  penalty(): Tensor | undefined;
  /** All weights, in the order of the layers. */
  weights(): ModelWeight[];
  /** All weights by their names. */
  namedTensors(): (readonly [string, Tensor])[];
  /** The weights that training changes. */
  parameters(): Tensor[];
  /** @throws UsageError for an unknown name */
  layer(name: string): BoundLayer;
  /** The table that Keras prints. */
  summary(): string;
  /** Scalars in the weights, as Keras counts them. */
  countParameters(): ParameterCount;
  /** The model without its weights, as JSON: `fromConfig(model.config(), { device })`. */
  config(): ModelConfig;

  /**
   * Trains the model; see `FitOptions`. Data is in memory, or comes in batches; see `Batches`. One training at a time;
   * `evaluate` and `predict` may run meanwhile, each batch with the weights of its moment.
   */
  fit(data: LabelledData | Batches<LabelledBatch>, options: FitOptions): Promise<History>;
  /**
   * One training step on a batch; gives its loss, on the device. For several outputs `y` is a list of the targets of
   * those that have a loss.
   */
  trainStep(x: ModelInput, y: Tensor | readonly Tensor[], options: TrainStepOptions): Tensor;
  /** Losses and metrics over a data set. */
  evaluate(data: LabelledData | Batches<LabelledBatch>, options: EvaluateOptions): Promise<Evaluation>;
  /**
   * The only output for a data set, batch by batch.
   * @throws UsageError for a model of several outputs
   */
  predict(data: InputData | Batches<InputBatch>, options?: PredictOptions): Promise<Predictions>;
  /** All outputs for a data set by their names, batch by batch. */
  predictAll(data: InputData | Batches<InputBatch>, options?: PredictOptions): Promise<Record<string, Predictions>>;
  /** Frees the weights. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** What a value must have to be taken for a model. */
const METHODS = ["call", "logits", "weights", "namedTensors", "config", "layer", "dispose"];

export const modelRule: Rule = {
  expected: "a model",
  accepts: (value) =>
    object.accepts(value) &&
    Array.isArray((value as Model).layers) &&
    METHODS.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === "function"),
};

/** @throws UsageError for what is no model */
export function requireModel(op: string, value: unknown): asserts value is Model {
  check(op, "model", value, modelRule);
}
