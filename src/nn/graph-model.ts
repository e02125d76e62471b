// Models: layers bound to weights, called in the order of their graph. It computes, names and counts; training is in
// training/, prediction over data sets in evaluate.ts, files in checkpoint.ts.
import { runsAgain } from "../autograd/draws.js";
import { l2Penalty } from "../autograd/ops/penalty.js";
import { reshape } from "../autograd/ops/transform.js";
import { isRecording } from "../autograd/tape.js";
import { type Device, valueNow } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  boolean,
  callable,
  check,
  checkOptions,
  integer,
  listOf,
  type Rules,
  string,
  text,
} from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";
import type { Batches } from "./batches.js";
import {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type Predictions,
  type PredictOptions,
  predict,
  predictAll,
} from "./evaluate.js";
import { applyLayer, type GraphInput, type GraphNode, nodesOf } from "./graph.js";
import { type Head, headOf } from "./head.js";
import type { History } from "./history.js";
import { type Fusion, type Layer, withParts } from "./layer.js";
import type {
  ApplyOptions,
  BoundLayer,
  CallAllOptions,
  CallOptions,
  LayerOutput,
  Model,
  ModelInput,
  ModelWeight,
} from "./model.js";
import { configOf, type ModelConfig } from "./model-config.js";
import type { PlacedCall } from "./model-shape.js";
import { objectiveOf } from "./objective.js";
import type { InputBatch, InputData, LabelledBatch, LabelledData } from "./samples.js";
import { countParameters, formatSummary, type ParameterCount, summaryRows } from "./summary.js";
import { type TrainStepOptions, trainStep, trainStepRules } from "./train-step.js";
import type { FitOptions } from "./training/options.js";

const callRules: Rules<CallOptions> = { training: boolean, step: anyOf(integer({ from: 0 }), callable) };

const callAllRules: Rules<CallAllOptions> = { ...callRules, logits: listOf(boolean) };

const applyRules: Rules<ApplyOptions> = { name: text, until: text };

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

/** A call, or several that are cheaper as one: then what those before the last give is not there. */
interface Step {
  readonly call: number;
  /** All calls of a fusion, `call` the last. */
  readonly calls?: readonly number[];
  readonly fusion?: Fusion;
}

/** How a model is called. */
interface Mode {
  readonly training: boolean;
  /** Number of the training step. */
  readonly now: () => number;
}

/** A model of any graph of layers. */
export class GraphModel implements Model {
  readonly name: string;
  readonly device: Device;
  readonly seed: number;
  readonly inputs: readonly GraphInput[];
  readonly calls: readonly PlacedCall[];
  readonly outputs: readonly number[];
  /** Steps by what may not be fused, as text; see `stepsFor`. */
  private readonly steps = new Map<string, readonly Step[]>();
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

  get outputNames(): readonly string[] {
    const names: string[] = [];
    for (const value of this.outputs) {
      const first = this.inputs[value]?.name ?? this.layerOf(value - this.inputs.length).name;
      let name = first;
      for (let i = 1; names.includes(name); i++) name = `${first}_${i}`;
      names.push(name);
    }
    return names;
  }

  get heads(): readonly Head[] {
    return this.outputs.map((_, output) => headOf(this, output));
  }

  get head(): Head {
    this.requireOneOutput("head", "heads");
    return headOf(this, 0);
  }

  get finalActivation(): ActivationName {
    return this.head.activation;
  }

  call(x: ModelInput, options: CallOptions = {}): Tensor {
    this.requireOneOutput("call", "callAll");
    return scope(() => this.outputsOf(x, options, [])[0]!);
  }

  callAll(x: ModelInput, options: CallAllOptions = {}): Tensor[] {
    const { logits = [], ...rest } = checkOptions(this.name, options, callAllRules);
    if (logits.length > this.outputs.length) {
      throw new UsageError(
        `${this.name}: logits must be one for each of ${this.outputs.length} outputs, got ${logits.length}`,
      );
    }
    return scope(() => this.outputsOf(x, rest, logits));
  }

  logits(x: ModelInput, options: CallOptions = {}): Tensor {
    this.requireOneOutput("logits", "callAll");
    return scope(() => this.outputsOf(x, options, [true])[0]!);
  }

  /** All outputs, those that `logits` names without their softmax or sigmoid. */
  private outputsOf(x: ModelInput, options: CallOptions, logits: readonly boolean[]): Tensor[] {
    const mode = this.modeOf(options);
    const wanted = logits
      .flatMap((bare, output) => (bare ? [{ output, head: headOf(this, output) }] : []))
      .filter(({ head }) => head.index >= 0);
    const bare = new Set<number>();
    /** Of outputs whose softmax others need. */
    const apart: typeof wanted = [];
    for (const each of wanted) {
      const { index, layer, activation, obstacle } = each.head;
      if (obstacle !== undefined && (obstacle.atInference || mode.training)) {
        throw new UsageError(
          `${this.name}: its outputs have no logits: layer "${layer}" applies ${activation}, and "${obstacle.layer}" makes other values of that; put ${activation} last`,
        );
      }
      const reached = this.after(index);
      const alone = this.outputs.every(
        (value, output) =>
          !reached.has(value) || wanted.some((other) => other.output === output && other.head.index === index),
      );
      if (alone) bare.add(index);
      else apart.push(each);
    }
    // Their activations are left out, now or later.
    const ends = new Set(wanted.map(({ head }) => head.index));
    const values = this.walk(x, mode, this.stepsFor(mode, ends), bare);
    // What layers hand on as it is would be the caller's own tensor, and freed by whoever frees the output.
    const given = new Set<Tensor | undefined>(values.slice(0, this.inputs.length));
    const outputs = this.outputs.map((value) => {
      const output = values[value]!;
      return given.has(output) ? reshape(output, output.shape) : output;
    });
    for (const { output, head } of apart) outputs[output] = this.again(values, head.index, output, mode);
    return outputs;
  }

  /** The value of a call, and those that are computed of it. */
  private after(call: number): Set<number> {
    const offset = this.inputs.length;
    const reached = new Set([offset + call]);
    for (let next = call + 1; next < this.calls.length; next++) {
      if (this.calls[next]!.inputs.some((value) => reached.has(value))) reached.add(offset + next);
    }
    return reached;
  }

  /** An output once more, from a call on, which leaves out its activation. */
  private again(values: readonly (Tensor | undefined)[], from: number, output: number, mode: Mode): Tensor {
    const offset = this.inputs.length;
    const [reached, own] = [this.after(from), [...values]];
    for (let call = from; call <= this.outputs[output]! - offset; call++) {
      if (reached.has(offset + call)) own[offset + call] = this.compute(call, own, mode, call === from);
    }
    return own[this.outputs[output]!]!;
  }

  layerOutputs(x: ModelInput, options: CallOptions = {}): LayerOutput[] {
    return scope(() => {
      const unfused = this.calls.map((_, call) => ({ call }));
      const values = this.walk(x, this.modeOf(options), unfused).slice(this.inputs.length);
      return values.map((output, call) => ({ name: this.layerOf(call).name, output: output! }));
    });
  }

  apply(x: GraphNode | readonly GraphNode[], options: ApplyOptions = {}): GraphNode {
    if (Object(options).until === undefined) this.requireOneOutput("apply", "applyAll");
    return this.applyAll(x, options)[0]!;
  }

  applyAll(x: GraphNode | readonly GraphNode[], options: ApplyOptions = {}): GraphNode[] {
    const { name = this.name, until } = checkOptions(this.name, options, applyRules);
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
    if (until === undefined) return this.outputs.map((value) => values[value]!);
    const { name: last } = this.layer(until);
    const call = this.calls.findLastIndex((_, index) => this.layerOf(index).name === last);
    return [values[this.inputs.length + call]!];
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

  /** What the model does in this mode, fused where that can be; the calls `single` stay by themselves. */
  private stepsFor(mode: Mode, single: ReadonlySet<number>): readonly Step[] {
    const recording = isRecording();
    const changing = this.layers.map(
      ({ trainable, weights }) =>
        (mode.training && trainable) || (recording && Object.values(weights).some(({ tracked }) => tracked)),
    );
    const key = `${changing.map(Number).join("")} ${[...single].join(" ")}`;
    let steps = this.steps.get(key);
    if (steps === undefined) {
      steps = this.fused((call) => changing[this.calls[call]!.layer]!, single);
      this.steps.set(key, steps);
    }
    return steps;
  }

  /**
   * Calls that are cheaper together are one step, where each but the last is used by the next alone. Such calls need
   * not stand side by side.
   */
  private fused(isChanging: (call: number) => boolean, single: ReadonlySet<number>): Step[] {
    const { inputs, calls, outputs } = this;
    const users = new Map<number, number[]>();
    for (const [call, { inputs: from }] of calls.entries()) {
      for (const value of from) users.set(value, [...(users.get(value) ?? []), call]);
    }
    const steps: Step[] = [];
    const within = new Map<number, Step | undefined>();
    for (let first = 0; first < calls.length; first++) {
      if (within.has(first)) {
        const step = within.get(first);
        if (step !== undefined) steps.push(step);
        continue;
      }
      const chain = [first];
      /** The longest that can run; a longer one may need one on the way that cannot. */
      let best: Step = { call: first };
      let last: Pick<Fusion, "fuse"> = this.layerOf(first).placed.layer;
      while (!single.has(chain.at(-1)!)) {
        const value = inputs.length + chain.at(-1)!;
        const [next, ...others] = users.get(value) ?? [];
        if (next === undefined || others.length > 0 || outputs.includes(value) || calls[next]!.inputs.length > 1) break;
        const fusion = single.has(next) ? undefined : last.fuse?.(this.layerOf(next).placed.layer);
        if (fusion === undefined) break;
        chain.push(next);
        if (!(fusion.frozen && chain.some(isChanging))) best = { call: next, calls: [...chain], fusion };
        last = fusion;
      }
      for (const call of best.calls ?? []) within.set(call, undefined);
      if (best.fusion === undefined) steps.push(best);
      else within.set(best.call, best);
    }
    return steps;
  }

  private modeOf(options: CallOptions): Mode {
    const { training = false, step } = checkOptions(this.name, options, callRules);
    let now = 0;
    if (training) {
      // What is run again for its gradient (recompute) is the same call.
      const calls = runsAgain() ? 0 : 1;
      this.device.everyTime(() => {
        now = step === undefined ? this.trainingCalls : valueNow(step);
        this.trainingCalls += step === undefined ? calls : 0;
      });
    }
    return { training, now: () => now };
  }

  /** All values: inputs first, then what each call gives. The calls `bare` leave out their activation. */
  private walk(x: ModelInput, mode: Mode, steps: readonly Step[], bare?: ReadonlySet<number>): (Tensor | undefined)[] {
    const values: (Tensor | undefined)[] = this.checkedInputs(x);
    const offset = this.inputs.length;
    for (const { call, calls, fusion } of steps) {
      if (fusion !== undefined) {
        const [first] = calls!;
        const layers = calls!.map((each) => this.layerOf(each));
        values[offset + call] = fusion.call(
          values[this.calls[first!]!.inputs[0]!]!,
          layers.map(({ weights }) => weights),
          layers.map(({ trainable }) => mode.training && trainable),
        );
      } else {
        values[offset + call] = this.compute(call, values, mode, bare?.has(call) ?? false);
      }
    }
    return values;
  }

  /** What a call gives. */
  private compute(index: number, values: readonly (Tensor | undefined)[], mode: Mode, omitActivation: boolean): Tensor {
    const call = this.calls[index]!;
    const { name, placed, weights, trainable } = this.layers[call.layer]!;
    const inputs = call.inputs.map((value) => values[value]!);
    const output = placed.layer.call(inputs[0]!, weights, {
      training: mode.training && trainable,
      key: () => randomKey(this.seed, `${name}${call.repeat === 0 ? "" : `:${call.repeat}`}/${mode.now()}`),
      omitActivation,
      inputs,
    });
    requireTensor(this.name, `the output of layer "${name}"`, output);
    if (output.rank === 0 || !sameShape(output.shape.slice(1), call.shape)) {
      throw new ShapeError(
        `${this.name}: layer "${name}" (${placed.layer.className}) must give [N, ${call.shape.join(", ")}], as its outputShape says, gave ${formatShape(output.shape)}`,
      );
    }
    return output;
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

  async fit(data: LabelledData | Batches<LabelledBatch>, options: FitOptions): Promise<History> {
    // A page that only predicts never loads it.
    const { train } = await import("./training/loop.js");
    return train(this, data, options);
  }

  trainStep(x: ModelInput, y: Tensor | readonly Tensor[], options: TrainStepOptions): Tensor {
    const { optimizer, scaler, ...rest } = checkOptions("trainStep", options, trainStepRules, ["optimizer", "loss"]);
    const objective = objectiveOf("trainStep", this, rest);
    const batch = { x: this.checkedInputs(x), y: Array.isArray(y) ? y : [y as Tensor], weights: [] };
    if (batch.y.length !== objective.terms.length) {
      throw new UsageError(
        `trainStep: y must be targets of ${objective.terms.map(({ name }) => name).join(", ")}, got ${batch.y.length}`,
      );
    }
    return scope(() => trainStep(this, batch, { optimizer, objective, scaler }).loss);
  }

  evaluate(data: LabelledData | Batches<LabelledBatch>, options: EvaluateOptions): Promise<Evaluation> {
    return evaluate(this, data, options);
  }

  predict(data: InputData | Batches<InputBatch>, options?: PredictOptions): Promise<Predictions> {
    return predict(this, data, options);
  }

  async predictAll(
    data: InputData | Batches<InputBatch>,
    options?: PredictOptions,
  ): Promise<Record<string, Predictions>> {
    const found = await predictAll(this, data, options);
    return Object.fromEntries(this.outputNames.map((name, i) => [name, found[i]!]));
  }

  dispose(): void {
    for (const { tensor } of this.weights()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
