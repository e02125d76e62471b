// Training data as the loops of fit, evaluate and predict see it: flat host arrays with a row per sample, checked
// against the model once.

import { gatherRows } from "../data/batches.js";
import type { LabelledImages } from "../data/dataset.js";
import { DataError, ShapeError, UsageError } from "../tensor/errors.js";
import { describe, integer } from "../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../tensor/shape.js";
import type { HostTensor } from "../tensor/step-plan.js";
import type { Model } from "./model.js";

/** Inputs and targets, one row after the other. */
export interface Samples {
  /** [N, ...inputShape] */
  readonly inputs: Float32Array | readonly number[];
  /**
   * Class ids [N] (an Int32Array), or values of the model's output shape [N, ...outputShape] (a Float32Array). A plain
   * array of N whole numbers are class ids, unless the model has one output.
   */
  readonly targets: Int32Array | Float32Array | readonly number[];
}

/** Labelled images, as the data loaders give them, or plain arrays. */
export type LabelledData = LabelledImages | Samples;
/** Data without a need for targets. */
export type InputData =
  | LabelledData
  | Float32Array
  | readonly number[]
  | { readonly images: Float32Array }
  | { readonly inputs: Float32Array | readonly number[] };

const isNumbers = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((part) => typeof part === "number");

/** The inputs of data, row after row. */
function inputsOf(model: Model, data: InputData): Float32Array {
  const { images, inputs } = Object(data) as { images?: unknown; inputs?: unknown };
  const found = images ?? inputs ?? data;
  if (found instanceof Float32Array) return found;
  if (isNumbers(found)) return Float32Array.from(found);
  throw new UsageError(
    `${model.name}: needs inputs as a Float32Array or a flat array of numbers, one row of ${formatShape(model.inputShape)} after the other, got ${describe(found)}`,
  );
}

/** The targets of `count` samples. */
function targetsOf(model: Model, data: LabelledData, count: number): Int32Array | Float32Array {
  const { labels, targets } = Object(data) as { labels?: unknown; targets?: unknown };
  const found = labels ?? targets;
  if (found instanceof Int32Array || found instanceof Float32Array) return found;
  if (isNumbers(found)) {
    const ids = found.length === count && sizeOf(model.outputShape) !== 1;
    if (!ids) return Float32Array.from(found);
    if (found.every(Number.isInteger)) return Int32Array.from(found);
  }
  throw new UsageError(
    `${model.name}: needs targets as an Int32Array of class ids, one for each of the ${count} samples, or a Float32Array of ${formatShape(model.outputShape)} for each, got ${describe(found)}`,
  );
}

/** Batches of inputs [n, ...inputShape] for one model. */
export class InputSet {
  readonly count: number;
  protected readonly inputs: Float32Array;
  protected readonly inputSize: number;
  private buffer = new Float32Array(0);

  /** @throws ShapeError where the rows are not of the model's input shape */
  constructor(
    protected readonly model: Model,
    data: InputData,
  ) {
    this.inputs = inputsOf(model, data);
    this.inputSize = sizeOf(model.inputShape);
    this.count = this.inputs.length / this.inputSize;
    if (!Number.isInteger(this.count)) {
      throw new ShapeError(
        `${model.name}: needs rows of ${formatShape(model.inputShape)} (${this.inputSize} values), got ${this.inputs.length} values`,
      );
    }
    if ("imageShape" in Object(data)) this.checkImageShape((data as LabelledImages).imageShape);
  }

  /** Images that happen to have as many values are other images all the same. */
  private checkImageShape(imageShape: Shape): void {
    const { inputShape, name } = this.model;
    if (inputShape.length === 1 || imageShape.every((size, axis) => size === inputShape[axis])) return;
    throw new ShapeError(`${name}: needs images ${formatShape(inputShape)}, got ${formatShape(imageShape)}`);
  }

  /** Samples [start, end). */
  inputRange(start: number, end: number): HostTensor {
    return this.inputBatch(this.inputs.subarray(start * this.inputSize, end * this.inputSize), end - start);
  }

  /** The samples at `indices`, good until the next call; `change` may alter the values before. */
  inputRows(indices: Uint32Array, change?: (values: Float32Array) => void): HostTensor {
    const size = indices.length * this.inputSize;
    if (this.buffer.length < size) this.buffer = new Float32Array(size);
    gatherRows(this.inputs, this.inputSize, indices, this.buffer);
    const values = this.buffer.subarray(0, size);
    change?.(values);
    return this.inputBatch(values, indices.length);
  }

  private inputBatch(values: Float32Array, count: number): HostTensor {
    return { values, shape: [count, ...this.model.inputShape] };
  }
}

/** Batches of inputs and targets for one model. */
export class SampleSet extends InputSet {
  private readonly targets: Int32Array | Float32Array;
  private readonly targetShape: Shape;

  /** @throws UsageError, ShapeError or DataError where the targets do not fit */
  constructor(model: Model, data: LabelledData) {
    super(model, data);
    this.targets = targetsOf(model, data, this.count);
    const classes = this.targets instanceof Int32Array;
    this.targetShape = classes ? [] : model.outputShape;
    if (this.count === 0) throw new UsageError(`${model.name}: needs at least one sample, got none`);
    const needed = this.count * sizeOf(this.targetShape);
    if (this.targets.length !== needed) {
      throw new ShapeError(
        `${model.name}: ${this.count} samples need ${needed} target values (${formatShape(this.targetShape)} each), got ${this.targets.length}${this.targets.length === this.count ? "; class ids are an Int32Array" : ""}`,
      );
    }
    if (this.targets instanceof Int32Array) checkClasses(model, this.targets);
  }

  targetRange(start: number, end: number): HostTensor {
    const size = sizeOf(this.targetShape);
    return this.targetBatch(this.targets.subarray(start * size, end * size), end - start);
  }

  targetRows(indices: Uint32Array): HostTensor {
    const { targets } = this;
    const size = sizeOf(this.targetShape);
    const length = indices.length * size;
    const rows =
      targets instanceof Int32Array
        ? gatherRows(targets, size, indices, new Int32Array(length))
        : gatherRows(targets, size, indices, new Float32Array(length));
    return this.targetBatch(rows, indices.length);
  }

  private targetBatch(values: Int32Array | Float32Array, count: number): HostTensor {
    return { values, shape: [count, ...this.targetShape] };
  }
}

function checkClasses(model: Model, labels: Int32Array): void {
  const classes = model.outputShape.at(-1)!;
  const wrong = labels.findIndex((label) => label < 0 || label >= classes);
  if (wrong < 0) return;
  throw new DataError(
    `${model.name}: class ids must be from 0 to ${classes - 1} for ${classes} outputs, sample ${wrong} has ${labels[wrong]}`,
  );
}

/** The last `fraction` of the rows split off, before any shuffling, as Keras's validation_split. */
export function splitSamples(model: Model, data: LabelledData, fraction: number): [Samples, Samples] {
  if (!(fraction > 0 && fraction < 1)) {
    throw new UsageError(`fit: validationSplit must be between 0 and 1, got ${fraction}`);
  }
  const inputs = inputsOf(model, data);
  const inputSize = sizeOf(model.inputShape);
  const count = inputs.length / inputSize;
  const targets = targetsOf(model, data, count);
  const boundary = Math.floor(count * (1 - fraction));
  if (boundary === 0 || boundary === count) {
    throw new UsageError(
      `fit: validationSplit ${fraction} leaves no samples on one side, of ${count}; use another share`,
    );
  }
  const targetSize = targets.length / count;
  return [
    { inputs: inputs.subarray(0, boundary * inputSize), targets: targets.subarray(0, boundary * targetSize) },
    { inputs: inputs.subarray(boundary * inputSize), targets: targets.subarray(boundary * targetSize) },
  ];
}

/** Of batches: fewer samples are one. */
export const batchSizeRule = integer({ from: 1 });
