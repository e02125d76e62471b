// Models: layers bound to weights, called in the order of their graph. It computes, names and counts; training is in
// training/, prediction over data sets in evaluate.ts, files in checkpoint.ts.
import { runsAgain } from "../autograd/draws.js";
import { l2Penalty } from "../autograd/ops/penalty.js";
import { type Device, valueNow } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { anyOf, boolean, callable, check, checkOptions, integer, type Rules, string, text } from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";
import {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type Predictions,
  type PredictOptions,
  predict,
} from "./evaluate.js";
import { applyLayer, type GraphInput, type GraphNode, nodesOf } from "./graph.js";
import { type Head, headOf } from "./head.js";
import type { History } from "./history.js";
import { type Layer, withParts } from "./layer.js";
import type { ApplyOptions, BoundLayer, CallOptions, LayerOutput, Model, ModelInput, ModelWeight } from "./model.js";
import { configOf, type ModelConfig } from "./model-config.js";
import type { PlacedCall } from "./model-shape.js";
import type { InputData, LabelledData } from "./samples.js";
import { countParameters, formatSummary, type ParameterCount, summaryRows } from "./summary.js";
import { type TrainStepOptions, trainStep, trainStepRules } from "./train-step.js";
import { train } from "./training/loop.js";
import type { FitOptions } from "./training/options.js";

const callRules: Rules<CallOptions> = { training: boolean, step: anyOf(integer({ from: 0 }), callable) };

const applyRules: Rules<ApplyOptions> = { name: text };

export interface GraphModelOptions {
  readonly name: string;
  readonly device: Device;
  readonly seed: number;
}

/** What is computed, as numbers of values; see `Graph`. */
export interface PlacedGraph {
  readonly inputs: readonly GraphInput[];
  readonly calls: readonly PlacedCall[];
  readonly outputs: readonly number[];
}

/** A call, or two that are cheaper as one: then what the first gives is not there. */
interface Step {
  readonly call: number;
  readonly first?: number;
  readonly together?: NonNullable<ReturnType<NonNullable<Layer["fuse"]>>>;
}

/** A model of any graph of layers. */
export class GraphModel implements Model {
  readonly name: string;
  readonly device: Device;
  readonly seed: number;
  readonly inputs: readonly GraphInput[];
  readonly calls: readonly PlacedCall[];
  readonly outputs: readonly number[];
  private readonly steps: readonly Step[];
  /** Layers as other graphs use them, with these weights. */
  private readonly lent = new Map<string, Layer>();
  private trainingCalls = 0;

  constructor(
    { name, device, seed }: GraphModelOptions,
    { inputs, calls, outputs }: PlacedGraph,
    readonly layers: readonly BoundLayer[],
  ) {
    this.name = name;
    this.device = device;
    this.seed = seed;
    this.inputs = inputs;
    this.calls = calls;
    this.outputs = outputs;
    this.steps = this.fused();
  }

  get inputShape(): Shape {
    if (this.inputs.length === 1) return this.inputs[0]!.shape;
    throw new UsageError(
      `${this.name}: has ${this.inputs.length} inputs (${this.inputs.map(({ name }) => name).join(", ")}), not one inputShape; use model.inputs`,
    );
  }

  get outputShapes(): readonly Shape[] {
    return this.outputs.map((value) => this.shapeOf(value));
  }

  get outputShape(): Shape {
    this.requireOneOutput("outputShape", "outputShapes");
    return this.shapeOf(this.outputs[0]!);
  }

  get head(): Head {
    this.requireOneOutput("head", "layers");
    return headOf(this, 0);
  }

  get finalActivation(): ActivationName {
    return this.head.activation;
  }

  call(x: ModelInput, options: CallOptions = {}): Tensor {
    this.requireOneOutput("call", "callAll");
    return this.callAll(x, options)[0]!;
  }

  callAll(x: ModelInput, options: CallOptions = {}): Tensor[] {
    return scope(() => {
      const values = this.walk(x, options, this.steps);
      return this.outputs.map((value) => values[value]!);
    });
  }

  logits(x: ModelInput, options: CallOptions = {}): Tensor {
    this.requireOneOutput("logits", "callAll");
    const { index, layer, activation, obstacle } = this.head;
    if (obstacle !== undefined && (obstacle.atInference || options.training)) {
      throw new UsageError(
        `${this.name}: its outputs have no logits: layer "${layer}" applies ${activation}, and "${obstacle.layer}" makes other values of that; put ${activation} last`,
      );
    }
    return scope(() => this.walk(x, options, this.steps, index)[this.outputs[0]!]!);
  }

  layerOutputs(x: ModelInput, options: CallOptions = {}): LayerOutput[] {
    return scope(() => {
      const unfused = this.calls.map((_, call) => ({ call }));
      const values = this.walk(x, options, unfused).slice(this.inputs.length);
      return values.map((output, call) => ({ name: this.layerOf(call).name, output: output! }));
    });
  }

  apply(x: GraphNode | readonly GraphNode[], options: ApplyOptions = {}): GraphNode {
    this.requireOneOutput("apply", "applyAll");
    return this.applyAll(x, options)[0]!;
  }

  applyAll(x: GraphNode | readonly GraphNode[], options: ApplyOptions = {}): GraphNode[] {
    const { name = this.name } = checkOptions(this.name, options, applyRules);
    const values = nodesOf(this.name, x);
    if (values.length !== this.inputs.length) {
      throw new ShapeError(`${this.name}: needs ${this.inputs.length} inputs, got ${values.length}`);
    }
    for (const [i, { name: input, shape }] of this.inputs.entries()) {
      if (sameShape(values[i]!.shape, shape)) continue;
      throw new ShapeError(
        `${this.name}: needs ${formatShape(shape)} for its input "${input}", got ${formatShape(values[i]!.shape)}`,
      );
    }
    for (const [index, { inputs }] of this.calls.entries()) {
      const layer = this.lend(this.layerOf(index), name);
      values.push(
        applyLayer(
          layer,
          inputs.map((value) => values[value]!),
        ),
      );
    }
    return this.outputs.map((value) => values[value]!);
  }

  /** The same layer for each call, so that its calls share their weights. */
  private lend({ placed, weights }: BoundLayer, prefix: string): Layer {
    const name = `${prefix}/${placed.name}`;
    let layer = this.lent.get(name);
    if (layer === undefined) {
      layer = withParts(placed.layer, { config: { ...placed.layer.config, name }, bound: weights });
      this.lent.set(name, layer);
    }
    return layer;
  }

  private requireOneOutput(what: string, instead: string): void {
    if (this.outputs.length === 1) return;
    throw new UsageError(
      `${this.name}: ${what} is for models of one output, this has ${this.outputs.length}; use ${instead}`,
    );
  }

  private layerOf(call: number): BoundLayer {
    return this.layers[this.calls[call]!.layer]!;
  }

  private shapeOf(value: number): Shape {
    return this.inputs[value]?.shape ?? this.calls[value - this.inputs.length]!.shape;
  }

  /** Calls that are cheaper together are one step: where the second alone uses what the first gives. */
  private fused(): Step[] {
    const { inputs, calls, outputs } = this;
    const users = new Map<number, number[]>();
    for (const [call, { inputs: from }] of calls.entries()) {
      for (const value of from) users.set(value, [...(users.get(value) ?? []), call]);
    }
    const steps: Step[] = [];
    const within = new Map<number, Step>();
    for (let call = 0; call < calls.length; call++) {
      const fused = within.get(call);
      const value = inputs.length + call;
      const [next, ...others] = users.get(value) ?? [];
      if (fused === undefined && next !== undefined && others.length === 0 && !outputs.includes(value)) {
        const together = this.layerOf(call).placed.layer.fuse?.(this.layerOf(next).placed.layer);
        if (together !== undefined && calls[next]!.inputs.length === 1) {
          within.set(next, { call: next, first: call, together });
          continue;
        }
      }
      steps.push(fused ?? { call });
    }
    return steps;
  }

  /** All values: inputs first, then what each call gives. The call `bare` leaves out its activation. */
  private walk(x: ModelInput, options: CallOptions, steps: readonly Step[], bare?: number): (Tensor | undefined)[] {
    const { training = false, step } = checkOptions(this.name, options, callRules);
    const values: (Tensor | undefined)[] = this.checkedInputs(x);
    let now = 0;
    if (training) {
      // What is run again for its gradient (recompute) is the same call.
      const calls = runsAgain() ? 0 : 1;
      this.device.everyTime(() => {
        now = step === undefined ? this.trainingCalls : valueNow(step);
        this.trainingCalls += step === undefined ? calls : 0;
      });
    }
    const offset = this.inputs.length;
    for (const { call: index, first, together } of steps) {
      const call = this.calls[index]!;
      if (together !== undefined) {
        const before = this.calls[first!]!;
        values[offset + index] = together(values[before.inputs[0]!]!, this.layers[before.layer]!.weights);
        continue;
      }
      const { name, placed, weights, trainable } = this.layers[call.layer]!;
      const inputs = call.inputs.map((value) => values[value]!);
      const output = placed.layer.call(inputs[0]!, weights, {
        training: training && trainable,
        key: () => randomKey(this.seed, `${name}${call.repeat === 0 ? "" : `:${call.repeat}`}/${now}`),
        omitActivation: index === bare,
        inputs,
      });
      requireTensor(this.name, `the output of layer "${name}"`, output);
      if (output.rank === 0 || !sameShape(output.shape.slice(1), call.shape)) {
        throw new ShapeError(
          `${this.name}: layer "${name}" (${placed.layer.className}) must give [N, ${call.shape.join(", ")}], as its outputShape says, gave ${formatShape(output.shape)}`,
        );
      }
      values[offset + index] = output;
    }
    return values;
  }

  private checkedInputs(x: ModelInput): Tensor[] {
    const given: readonly Tensor[] = Array.isArray(x) ? x : [x as Tensor];
    if (given.length !== this.inputs.length) {
      throw new ShapeError(
        `${this.name}: needs ${this.inputs.length} inputs (${this.inputs.map(({ name }) => name).join(", ")}), got ${given.length}`,
      );
    }
    for (const [i, { name, shape }] of this.inputs.entries()) {
      const tensor = given[i]!;
      const several = given.length > 1;
      requireTensor(this.name, several ? `the input "${name}"` : "x", tensor);
      if (tensor.rank === 0 || !sameShape(tensor.shape.slice(1), shape)) {
        throw new ShapeError(
          `${this.name}: needs inputs [N, ${shape.join(", ")}]${several ? ` for "${name}"` : ""}, got ${formatShape(tensor.shape)}${
            sameShape(tensor.shape, shape) ? `; add the batch axis with reshape([1, ${tensor.shape.join(", ")}])` : ""
          }`,
        );
      }
      if (tensor.shape[0] !== given[0]!.shape[0]) {
        throw new ShapeError(
          `${this.name}: needs as many samples for every input, got ${given[0]!.shape[0]} for "${this.inputs[0]!.name}" and ${tensor.shape[0]} for "${name}"`,
        );
      }
    }
    return [...given];
  }

  penalty(): Tensor | undefined {
    const terms = this.layers.flatMap(({ placed, weights }) =>
      placed.weights.filter(({ l2 }) => l2 !== 0).map(({ name, l2 }) => ({ tensor: weights[name]!, factor: l2 })),
    );
    return terms.length === 0 ? undefined : l2Penalty(terms);
  }

  weights(): ModelWeight[] {
    return this.layers.flatMap(({ name, placed, weights }) =>
      placed.weights.map((spec) => {
        const tensor = weights[spec.name]!;
        return { name: `${name}/${spec.name}`, tensor, trainable: tensor.requiresGrad };
      }),
    );
  }

  namedTensors(): (readonly [string, Tensor])[] {
    return this.weights().map(({ name, tensor }) => [name, tensor]);
  }

  parameters(): Tensor[] {
    return this.weights().flatMap(({ tensor, trainable }) => (trainable ? [tensor] : []));
  }

  get trainable(): boolean {
    return this.layers.some((layer) => layer.trainable && layer.placed.weights.some(({ trainable }) => trainable));
  }

  set trainable(value: boolean) {
    for (const layer of this.layers) layer.trainable = value;
  }

  layer(name: string): BoundLayer {
    check(this.name, "name", name, string);
    const found = this.layers.find((layer) => layer.name === name);
    if (found !== undefined) return found;
    throw new UsageError(`${this.name}: has no layer "${name}"; it has ${this.layers.map((l) => l.name).join(", ")}`);
  }

  summary(): string {
    return formatSummary(this.name, this.rows());
  }

  countParameters(): ParameterCount {
    return countParameters(this.rows());
  }

  private rows() {
    const { layers } = this;
    return summaryRows(
      this,
      layers.map(({ placed, trainable }) => ({ ...placed, trainable })),
    );
  }

  config(): ModelConfig {
    const { name, inputs, calls, outputs, layers } = this;
    return configOf({
      ...{ name, inputs, calls, outputs },
      layers: layers.map(({ name, placed, trainable }) => ({
        className: placed.layer.className,
        config: { ...placed.layer.config, name, ...(!trainable && { trainable }) },
      })),
    });
  }

  fit(data: LabelledData, options: FitOptions): Promise<History> {
    return train(this, data, options);
  }

  trainStep(x: ModelInput, y: Tensor, options: TrainStepOptions): Tensor {
    const given = checkOptions("trainStep", options, trainStepRules, ["optimizer", "loss"]);
    return scope(() => trainStep(this, x, y, given).loss);
  }

  evaluate(data: LabelledData, options: EvaluateOptions): Promise<Evaluation> {
    return evaluate(this, data, options);
  }

  predict(data: InputData, options?: PredictOptions): Promise<Predictions> {
    return predict(this, data, options);
  }

  dispose(): void {
    for (const { tensor } of this.weights()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
