// A sequential model: layers bound to their weights. It computes, names and counts; training is in fit.ts, prediction over
// data sets in evaluate.ts, files in checkpoint.ts.
import { l2Penalty } from "../autograd/ops/penalty.js";
import { type Changing, type Device, deviceRule, valueNow } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  array,
  boolean,
  callable,
  check,
  checkOptions,
  instanceOf,
  integer,
  type Rules,
  string,
  text,
} from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";
import type { ModelConfig, PlacedLayer } from "./architecture.js";
import {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type Predictions,
  type PredictOptions,
  predict,
} from "./evaluate.js";
import { type FitOptions, type History, train } from "./fit.js";
import { type Head, headOf } from "./head.js";
import type { InputData, LabelledData } from "./samples.js";
import { countParameters, formatSummary, type ParameterCount } from "./summary.js";
import { type TrainStepOptions, trainStep, trainStepRules } from "./train-step.js";

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

export interface CallOptions {
  /** Default false. */
  readonly training?: boolean;
  /** Number of the training step, which dropout's random numbers depend on; by default a running count of this model. */
  readonly step?: Changing<number>;
}

const callRules: Rules<CallOptions> = { training: boolean, step: anyOf(integer({ from: 0 }), callable) };

export interface SequentialOptions {
  readonly name: string;
  readonly inputShape: Shape;
  readonly device: Device;
  readonly seed: number;
}

const sequentialRules: Rules<SequentialOptions> = {
  name: text,
  inputShape: array,
  device: deviceRule,
  seed: integer(),
};

const areBound = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((layer) => layer instanceof BoundLayer);

/** A model of layers one after the other. Made by `sequential`, `Architecture.build`, `fromConfig`, `compose`, `loadModel`. */
export class Sequential {
  readonly name: string;
  /** Of one sample, without the batch axis. */
  readonly inputShape: Shape;
  readonly device: Device;
  readonly seed: number;
  private trainingCalls = 0;

  constructor(
    options: SequentialOptions,
    readonly layers: readonly BoundLayer[],
  ) {
    checkOptions("Sequential", options, sequentialRules, ["name", "inputShape", "device", "seed"]);
    check("Sequential", "layers", layers, { expected: "an array of BoundLayer", accepts: areBound });
    this.name = options.name;
    this.inputShape = options.inputShape;
    this.device = options.device;
    this.seed = options.seed;
  }

  /** Of one sample, without the batch axis. */
  get outputShape(): Shape {
    return this.layers.at(-1)!.placed.outputShape;
  }

  /** Where the activation of the outputs is. */
  get head(): Head {
    return headOf(this.layers);
  }

  /** Activation of the outputs, "linear" where there is none. */
  get finalActivation(): ActivationName {
    return this.head.activation;
  }

  /**
   * Output [N, ...outputShape] for x [N, ...inputShape]. Differentiable in x and in the weights, and so are models put
   * together: `classifier.call(generator.call(x))`.
   */
  call(x: Tensor, options: CallOptions = {}): Tensor {
    return this.run(x, options, this.layers.length);
  }

  /**
   * As `call`, without the activation of the last layer: what a softmax is taken of. A softmax or sigmoid is also found
   * where layers behind it only arrange elements, or drop them while training.
   * @throws UsageError where the outputs are probabilities that no logits of their own belong to
   */
  logits(x: Tensor, options: CallOptions = {}): Tensor {
    const { index, layer, activation, obstacle } = this.head;
    if (obstacle !== undefined && (obstacle.atInference || options.training)) {
      throw new UsageError(
        `${this.name}: its outputs have no logits: layer "${layer}" applies ${activation}, and "${obstacle.layer}" makes other values of that; put ${activation} last`,
      );
    }
    return this.run(x, options, index);
  }

  /** Outputs of every layer for x, in order; for looking inside a model. */
  layerOutputs(x: Tensor, options: CallOptions = {}): { readonly name: string; readonly output: Tensor }[] {
    return scope(() => this.walk(x, options, { bareFrom: this.layers.length, fuse: false }));
  }

  private run(x: Tensor, options: CallOptions, bareFrom: number): Tensor {
    return scope(() => this.walk(x, options, { bareFrom, fuse: true }).at(-1)!.output);
  }

  /**
   * Calls layer after layer; those from `bareFrom` on leave out their activation. With `fuse`, layers that are cheaper
   * together are called together, and the first of them has no output of its own.
   */
  private walk(
    x: Tensor,
    options: CallOptions,
    { bareFrom, fuse }: { readonly bareFrom: number; readonly fuse: boolean },
  ) {
    requireTensor(this.name, "x", x);
    const { training = false, step } = checkOptions(this.name, options, callRules);
    if (!sameShape(x.shape.slice(1), this.inputShape) || x.rank === 0) {
      throw new ShapeError(
        `${this.name}: needs inputs [N, ${this.inputShape.join(", ")}], got ${formatShape(x.shape)}${
          sameShape(x.shape, this.inputShape) ? `; add the batch axis with reshape([1, ${x.shape.join(", ")}])` : ""
        }`,
      );
    }
    let now = 0;
    if (training) {
      this.device.everyTime(() => {
        now = step === undefined ? this.trainingCalls++ : valueNow(step);
      });
    }
    const outputs: { readonly name: string; readonly output: Tensor }[] = [];
    for (let index = 0; index < this.layers.length; index++) {
      const input = outputs.at(-1)?.output ?? x;
      const { name, placed, weights, trainable } = this.layers[index]!;
      const next = this.layers[index + 1];
      const together = fuse && next !== undefined ? placed.layer.fuse?.(next.placed.layer) : undefined;
      if (together !== undefined) {
        outputs.push({ name: next!.name, output: together(input, weights) });
        index++;
        continue;
      }
      const output = placed.layer.call(input, weights, {
        training: training && trainable,
        key: () => randomKey(this.seed, `${name}/${now}`),
        omitActivation: index >= bareFrom,
      });
      requireTensor(this.name, `the output of layer "${name}"`, output);
      outputs.push({ name, output });
    }
    return outputs;
  }

  /** Sum of the layers' L2 penalties; undefined where there is none. */
  penalty(): Tensor | undefined {
    const terms = this.layers.flatMap(({ placed, weights }) =>
      placed.weights.filter(({ l2 }) => l2 !== 0).map(({ name, l2 }) => ({ tensor: weights[name]!, factor: l2 })),
    );
    return terms.length === 0 ? undefined : l2Penalty(terms);
  }

  /** All weights, in the order of the layers. */
  weights(): ModelWeight[] {
    return this.layers.flatMap(({ name, placed, weights }) =>
      placed.weights.map((spec) => {
        const tensor = weights[spec.name]!;
        return { name: `${name}/${spec.name}`, tensor, trainable: tensor.requiresGrad };
      }),
    );
  }

  /** All weights by their names. */
  namedTensors(): (readonly [string, Tensor])[] {
    return this.weights().map(({ name, tensor }) => [name, tensor]);
  }

  /** The weights that training changes. */
  parameters(): Tensor[] {
    return this.weights().flatMap(({ tensor, trainable }) => (trainable ? [tensor] : []));
  }

  /** Whether any layer with weights is trained; setting it sets all layers. */
  get trainable(): boolean {
    return this.layers.some(({ trainable, placed }) => trainable && placed.weights.length > 0);
  }

  set trainable(value: boolean) {
    for (const layer of this.layers) layer.trainable = value;
  }

  /** @throws UsageError for an unknown name */
  layer(name: string): BoundLayer {
    check(this.name, "name", name, string);
    const found = this.layers.find((layer) => layer.name === name);
    if (found !== undefined) return found;
    throw new UsageError(`${this.name}: has no layer "${name}"; it has ${this.layers.map((l) => l.name).join(", ")}`);
  }

  /** The table that Keras prints. */
  summary(): string {
    return formatSummary(this.name, this.rows());
  }

  /** Scalars in the weights, as Keras counts them. */
  countParameters(): ParameterCount {
    return countParameters(this.rows());
  }

  private rows() {
    return this.layers.map(({ placed, trainable }) => ({ ...placed, trainable }));
  }

  /** The model without its weights, as JSON: `fromConfig(model.config(), { device })`. */
  config(): ModelConfig {
    return {
      className: "Sequential",
      name: this.name,
      inputShape: this.inputShape,
      layers: this.layers.map(({ name, placed, trainable }) => ({
        className: placed.layer.className,
        config: { ...placed.layer.config, name, ...(!trainable && { trainable }) },
      })),
    };
  }

  /**
   * Trains the model; see `FitOptions`. One training at a time; `evaluate` and `predict` may run meanwhile, each batch with the
   * weights of its moment.
   */
  fit(data: LabelledData, options: FitOptions): Promise<History> {
    return train(this, data, options);
  }

  /** One training step on a batch; gives its loss, on the device. */
  trainStep(x: Tensor, y: Tensor, options: TrainStepOptions): Tensor {
    const given = checkOptions("trainStep", options, trainStepRules, ["optimizer", "loss"]);
    return scope(() => trainStep(this, x, y, given).loss);
  }

  /** Loss and accuracy over a data set. */
  evaluate(data: LabelledData, options: EvaluateOptions): Promise<Evaluation> {
    return evaluate(this, data, options);
  }

  /** Outputs for a data set, batch by batch. */
  predict(data: InputData, options?: PredictOptions): Promise<Predictions> {
    return predict(this, data, options);
  }

  /** Frees the weights. */
  dispose(): void {
    for (const { tensor } of this.weights()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @throws UsageError for what is no model */
export function requireModel(op: string, value: unknown): asserts value is Sequential {
  check(op, "model", value, instanceOf(Sequential, "a model"));
}

/**
 * Models one after the other as one model, which shares their weights: training it trains those that are not frozen.
 * Layers are named after their model: "generator/dense".
 * @throws ShapeError when an output does not fit the next model
 */
export function compose(models: readonly Sequential[], options: { readonly name?: string } = {}): Sequential {
  check("compose", "models", models, {
    expected: "an array of models",
    accepts: (value) => Array.isArray(value) && value.every((model) => model instanceof Sequential),
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
  const layers = models.flatMap((model, i) =>
    model.layers.map(
      ({ placed, weights }) => new BoundLayer({ ...placed, name: `${names[i]}/${placed.name}` }, weights),
    ),
  );
  return new Sequential(
    { name: given ?? names.join("_"), inputShape: first.inputShape, device: first.device, seed: first.seed },
    layers,
  );
}
