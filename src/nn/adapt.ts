// Fits the normalisation layers of a model to data: mean and variance of what goes into them, summed in float64.
import { noGrad } from "../autograd/tape.js";
import { UsageError } from "../tensor/errors.js";
import { checkOptions } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { type Shape, sizeOf, stridesOf } from "../tensor/shape.js";
import type { StepInput } from "../tensor/step-plan.js";
import { empty, tensor } from "../tensor/tensor.js";
import { type Batches, isBatches } from "./batches.js";
import { batchesOf } from "./evaluate.js";
import { Normalization, type NormalizationOptions, statisticsAxes } from "./layers/preprocessing.js";
import { type Model, requireModel } from "./model.js";
import { batchSizeRule, type InputBatch, type InputData, InputSet } from "./samples.js";

export interface AdaptOptions {
  /** Default 128; a matter of memory and speed only. */
  readonly batchSize?: number;
}

const DEFAULT_BATCH = 128;

/** Mean and variance at each position, of values that come in batches (Chan, Golub, LeVeque 1983). */
class Statistics {
  readonly mean: Float64Array;
  private readonly squares: Float64Array;
  private count = 0;

  /** Statistics at `positions[i]` for element i of a sample. */
  constructor(
    private readonly positions: Uint32Array,
    size: number,
  ) {
    this.mean = new Float64Array(size);
    this.squares = new Float64Array(size);
  }

  add(values: ArrayLike<number>): void {
    const { positions, mean, squares } = this;
    const each = values.length / mean.length;
    const means = new Float64Array(mean.length);
    for (let i = 0; i < values.length; i++) means[positions[i % positions.length]!]! += values[i]! / each;
    const total = this.count + each;
    for (let p = 0; p < mean.length; p++) {
      const difference = means[p]! - mean[p]!;
      mean[p]! += (difference * each) / total;
      squares[p]! += (difference * difference * this.count * each) / total;
    }
    for (let i = 0; i < values.length; i++) {
      const p = positions[i % positions.length]!;
      squares[p]! += (values[i]! - means[p]!) ** 2;
    }
    this.count = total;
  }

  get variance(): Float64Array {
    return this.squares.map((sum) => sum / this.count);
  }
}

/** For each element of a sample, its position among those that have statistics of their own. */
function positionsOf(shape: Shape, axes: readonly number[], sizes: readonly number[]): Uint32Array {
  const strides = stridesOf(shape);
  const within = stridesOf(sizes);
  return Uint32Array.from({ length: sizeOf(shape) }, (_, i) =>
    axes.reduce((at, axis, k) => at + (Math.floor(i / strides[axis - 1]!) % sizes[k]!) * within[k]!, 0),
  );
}

/**
 * Gives the model's normalisation layers mean and variance of what goes into them for this data. It goes one layer
 * after the other, as `adapt` of Keras's layer does. Labels are not looked at. Batches are gone through once for each
 * layer.
 * @throws UsageError where there is no such layer or no data, ShapeError where the data does not fit the model
 * @example
 * await nn.adapt(model, train);
 */
export async function adapt(
  model: Model,
  data: InputData | Batches<InputBatch>,
  options: AdaptOptions = {},
): Promise<void> {
  requireModel("adapt", model);
  const { batchSize = DEFAULT_BATCH } = checkOptions("adapt", options, { batchSize: batchSizeRule });
  const layers = model.layers.flatMap((layer, index) =>
    layer.placed.layer.className === Normalization.className && layer.placed.weights.length > 0
      ? [{ index, ...layer.placed, tensors: layer.weights }]
      : [],
  );
  if (layers.length === 0) throw new UsageError(`adapt: "${model.name}" needs a layer nn.normalization() to adapt`);
  for (const { index, layer, inputShape, tensors } of layers) {
    const { axis = -1 } = layer.config as NormalizationOptions;
    const { axes, sizes } = statisticsAxes(axis, inputShape);
    const statistics = new Statistics(positionsOf(inputShape, axes, sizes), sizeOf(sizes));
    const wanted = model.calls.flatMap((call) => (call.layer === index ? [call.inputs[0]!] : []));
    for await (const inputs of inputsOf(model, data, batchSize)) {
      for (const value of wanted) statistics.add(await valuesIn(model, value, inputs));
    }
    tensors["mean"]!.assign(statistics.mean);
    tensors["variance"]!.assign(statistics.variance);
  }
}

/** All inputs of one batch after the other. @throws UsageError where there is no sample */
async function* inputsOf(
  model: Model,
  data: InputData | Batches<InputBatch>,
  batchSize: number,
): AsyncGenerator<readonly StepInput[]> {
  if (isBatches<InputBatch, InputData>(model, data)) {
    for await (const [batch, owner] of batchesOf("adapt", model, data)) {
      const set = new InputSet(model, batch, owner);
      yield set.inputsIn(0, set.count);
    }
    return;
  }
  const set = new InputSet(model, data, "adapt");
  if (set.count === 0) throw new UsageError("adapt: needs at least one sample, got none");
  for (let start = 0; start < set.count; start += batchSize) {
    yield set.inputsIn(start, Math.min(start + batchSize, set.count));
  }
}

/** A value within the model, for a batch of its inputs. */
async function valuesIn(model: Model, value: number, inputs: readonly StepInput[]): Promise<ArrayLike<number>> {
  const input = inputs[value];
  if (input !== undefined && "values" in input) return input.values;
  const output = scope(() =>
    noGrad(() => {
      const x = inputs.map((each) => {
        if ("values" in each) return tensor(model.device, each.values, { shape: each.shape });
        const filled = empty(model.device, each.shape, each.dtype);
        each.fill(filled);
        return filled;
      });
      return x[value] ?? model.layerOutputs(x)[value - model.inputs.length]!.output;
    }),
  );
  const found = await output.data();
  output.dispose();
  return found;
}
