// The values within a model, each computed when it is first asked for: up to a layer, from a layer on, or with other
// derivatives of its activations.
import { cast, mul, notEqual, relu } from "../autograd/ops/elementwise.js";
import { noGrad, record } from "../autograd/tape.js";
import { UsageError } from "../tensor/errors.js";
import { randomKey } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Model } from "./model.js";

/** What is different from a call of the model. */
export interface GraphOptions {
  /** The call whose activation is left out, such as that of `model.head`. */
  readonly bare?: number | undefined;
  /** What is taken for ReLU, default ReLU itself. */
  readonly relu?: (x: Tensor) => Tensor;
}

/**
 * Values of a model at inference, by their numbers: inputs first, then what each call gives (see `Model.calls`). Each
 * is computed once, and so is what it needs.
 */
export class GraphValues {
  private readonly values: Map<number, Tensor>;

  /** @param given values that are known, by their numbers: the inputs, or those in the middle */
  constructor(
    private readonly model: Model,
    given: Iterable<readonly [number, Tensor]>,
    private readonly options: GraphOptions = {},
  ) {
    this.values = new Map(given);
  }

  of(value: number): Tensor {
    const { inputs, calls } = this.model;
    const needed = new Set([value]);
    for (let v = value; v >= inputs.length; v--) {
      if (!needed.has(v) || this.values.has(v)) continue;
      for (const from of calls[v - inputs.length]!.inputs) needed.add(from);
    }
    for (let v = inputs.length; v <= value; v++) {
      if (needed.has(v) && !this.values.has(v)) this.values.set(v, this.computed(v - inputs.length));
    }
    return this.values.get(value)!;
  }

  private computed(index: number): Tensor {
    const { model, options } = this;
    const call = model.calls[index]!;
    const { name, placed, weights } = model.layers[call.layer]!;
    const inputs = call.inputs.map((value) => this.values.get(value)!);
    const replaced = options.relu !== undefined && placed.layer.activation === "relu" && index !== options.bare;
    const output = placed.layer.call(inputs[0]!, weights, {
      training: false,
      key: () => randomKey(model.seed, name),
      omitActivation: replaced || index === options.bare,
      inputs,
    });
    return replaced ? options.relu!(output) : output;
  }
}

/**
 * The number of what a layer gives, in its first call.
 * @throws UsageError for an unknown name
 */
export function valueOfLayer(op: string, model: Model, name: string): number {
  const call = model.calls.findIndex(({ layer }) => model.layers[layer]!.name === name);
  if (call >= 0) return model.inputs.length + call;
  throw new UsageError(
    `${op}: ${model.name} has no layer "${name}"; it has ${model.layers.map((layer) => layer.name).join(", ")}`,
  );
}

/**
 * ReLU whose derivative lets through only what is positive, of the gradient as of the input (Springenberg et al.,
 * 2014).
 */
export function guidedRelu(x: Tensor): Tensor {
  const y = noGrad(() => relu(x));
  return record(y, {
    op: "guidedRelu",
    inputs: [x],
    saved: [y],
    derivable: true,
    backward: (dy, [y]) => [() => mul(relu(dy), cast(notEqual(y!, 0), "f32"))],
  });
}
