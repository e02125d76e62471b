// Training data as the loops of fit, evaluate and predict see it. It is host arrays with a row per sample, or tensors
// of a batch, for each input and output of a model. It is checked against the model once.

import { gatherRows } from "../data/batches.js";
import type { LabelledImages } from "../data/dataset.js";
import { DataError, ShapeError, UsageError } from "../tensor/errors.js";
import { describe, integer, meantHint } from "../tensor/options.js";
import { formatShape, type Shape, sameShape, sizeOf } from "../tensor/shape.js";
import type { HostTensor, StepInput } from "../tensor/step-plan.js";
import { checkDevice, Tensor } from "../tensor/tensor.js";
import type { Model } from "./model.js";
import { copyInto } from "./snapshot.js";

/** Integers of any kind. */
export type IntegerArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Values of samples, one row after the other. */
export type Rows = Float32Array | Float64Array | IntegerArray | readonly number[];

/** One, for models of one input or output; for several a list in their order, or an object by their names. */
export type PerPart<T> = T | readonly T[] | Readonly<Record<string, T>>;

/** Inputs and targets, one row after the other. */
export interface Samples {
  /** [N, ...inputShape]; `x` is another word for it. */
  readonly inputs: PerPart<Rows>;
  /**
   * Class ids [N] (an array of integers), or values of the model's output shape [N, ...outputShape] (a Float32Array).
   * A plain array of N whole numbers are class ids, unless the model has one output. `y` is another word for it.
   */
  readonly targets: PerPart<Rows>;
  /** Factors [N] of the samples' losses; for several outputs also one array for each. The loss is divided by N. */
  readonly sampleWeight?: PerPart<Rows>;
}

/** As {@link Samples}, in Keras's words. */
export interface XY<T = Rows> {
  readonly x: PerPart<T>;
  readonly y: PerPart<T>;
  readonly sampleWeight?: PerPart<T>;
}

/** Labelled images, as the data loaders give them, or plain arrays. */
export type LabelledData = (LabelledImages & { readonly sampleWeight?: PerPart<Rows> }) | Samples | XY;
/** Data without a need for targets. */
export type InputData =
  | LabelledData
  | PerPart<Rows>
  | { readonly images: Float32Array }
  | { readonly inputs: PerPart<Rows> }
  | { readonly x: PerPart<Rows> };

/** A batch of what goes through a model: of host arrays, or of tensors on its device. */
export type LabelledBatch = LabelledData | XY<Rows | Tensor>;
export type InputBatch = InputData | PerPart<Tensor> | { readonly x: PerPart<Rows | Tensor> };

/** What a step takes of a batch: an entry for each input, and for each output with a loss. */
export interface StepValues {
  readonly count: number;
  readonly x: readonly StepInput[];
  readonly y: readonly StepInput[];
  /** None, one for all outputs, or one for each with a loss. */
  readonly weights: readonly StepInput[];
}

/** An output with targets. */
export interface Target {
  /** Which of the model's outputs. */
  readonly output: number;
  readonly name: string;
}

/** @throws UsageError for a model of several outputs */
function onlyTarget(model: Model): Target[] {
  if (model.outputs.length === 1) return [{ output: 0, name: model.outputNames[0]! }];
  throw new UsageError(`${model.name}: must have one output for this, has ${model.outputs.length}`);
}

const isNumbers = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((part) => typeof part === "number");

const isView = (value: unknown): value is Exclude<Rows, readonly number[]> =>
  ArrayBuffer.isView(value) && !(value instanceof DataView);

/** Whether a value is the rows of one input or output. */
export const isRows = (value: unknown): value is Rows | Tensor =>
  isView(value) || value instanceof Tensor || isNumbers(value);

/** Values of one input or output. */
interface Column {
  readonly values: Float32Array | Int32Array | Tensor;
  /** Of a sample. */
  readonly shape: Shape;
  /** Values of a sample. */
  readonly size: number;
}

/** What is given for each name: alone where there is one, else a list in their order or an object by name. */
function partsOf(owner: string, what: string, names: readonly string[], value: unknown): readonly unknown[] {
  const each = () => `one for each of ${names.join(", ")}, as a list or by name`;
  if (isRows(value) && !(names.length > 1 && isNumbers(value) && value.length === 0)) {
    if (names.length === 1) return [value];
    throw new UsageError(`${owner}: needs ${what}, ${each()}, got ${describe(value)}`);
  }
  if (Array.isArray(value)) {
    if (value.length === names.length) return value;
    throw new UsageError(`${owner}: needs ${what}, ${each()}, got a list of ${value.length}`);
  }
  if (typeof value !== "object" || value === null) {
    throw new UsageError(
      names.length === 1
        ? `${owner}: needs ${what} as an array of numbers, got ${describe(value)}`
        : `${owner}: needs ${what}, ${each()}, got ${describe(value)}`,
    );
  }
  const unknown = Object.keys(value).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(
      `${owner}: needs ${what}, ${each()}, got ${JSON.stringify(unknown)}${meantHint(unknown, names)}`,
    );
  }
  return names.map((name) => (value as Readonly<Record<string, unknown>>)[name]);
}

interface Given {
  readonly x?: unknown;
  readonly inputs?: unknown;
  readonly images?: unknown;
  readonly y?: unknown;
  readonly targets?: unknown;
  readonly labels?: unknown;
  readonly sampleWeight?: unknown;
}
const WORDS = ["x", "inputs", "images"] as const;

/** The inputs of data, a column for each of the model's. */
function inputColumns(owner: string, model: Model, data: InputBatch): Column[] {
  const given = Object(data) as Given;
  const word = isRows(data) ? undefined : WORDS.find((name) => given[name] !== undefined);
  // Objects of a model's inputs by name have no word around them.
  const found = word === undefined ? data : given[word];
  const names = model.inputs.map(({ name }) => name);
  const parts = names.length === 1 && !isOneOf(names, found) ? [found] : partsOf(owner, "inputs", names, found);
  return parts.map((part, i) => inputColumn(owner, model, i, part));
}

/** Whether a value holds what there is only one of, in a list or by its name. */
function isOneOf([name]: readonly string[], value: unknown): boolean {
  if (isRows(value) || typeof value !== "object" || value === null) return false;
  // An array of one array of numbers is rather meant to be nested rows.
  if (Array.isArray(value)) return value.length === 1 && isRows(value[0]) && !isNumbers(value[0]);
  return Object.hasOwn(value, name!);
}

function inputColumn(owner: string, model: Model, index: number, found: unknown): Column {
  const { name, shape } = model.inputs[index]!;
  const size = sizeOf(shape);
  const several = model.inputs.length > 1 ? ` for "${name}"` : "";
  if (found instanceof Tensor)
    return { values: checkTensor(owner, model, found, `inputs${several}`, shape), shape, size };
  if (!isView(found) && !isNumbers(found)) {
    throw new UsageError(
      `${owner}: needs inputs${several} as a Float32Array or a flat array of numbers, one row of ${formatShape(shape)} after the other, got ${describe(found)}`,
    );
  }
  const values = found instanceof Float32Array ? found : floats(found);
  if (!Number.isInteger(values.length / size)) {
    throw new ShapeError(
      `${owner}: needs rows of ${formatShape(shape)} (${size} values)${several}, got ${values.length} values`,
    );
  }
  return { values, shape, size };
}

/** Any numbers as float32. */
const floats = (values: Rows): Float32Array => Float32Array.from(values as ArrayLike<number | bigint>, Number);

/** @throws ShapeError for a tensor that is not [N, ...shape], or is on another device */
function checkTensor(owner: string, model: Model, found: Tensor, what: string, shape: Shape): Tensor {
  checkDevice(owner, model.device, found);
  if (found.rank > 0 && sameShape(found.shape.slice(1), shape)) return found;
  throw new ShapeError(
    `${owner}: needs ${what} of [N${shape.map((size) => `, ${size}`).join("")}], got ${formatShape(found.shape)}`,
  );
}

const countOf = ({ values, size }: Column): number =>
  values instanceof Tensor ? values.shape[0]! : values.length / size;

/** The targets of `count` samples, a column for each output that has any. */
function targetColumns(
  owner: string,
  model: Model,
  outputs: readonly Target[],
  data: LabelledBatch,
  count: number,
): Column[] {
  const { y, targets, labels } = Object(data) as Given;
  const found = y ?? targets ?? labels;
  const names = model.outputNames;
  const parts = names.length === 1 && !isOneOf(names, found) ? [found] : partsOf(owner, "targets", names, found);
  return outputs.map((target) => targetColumn(owner, model, target, parts[target.output], count));
}

function targetColumn(owner: string, model: Model, target: Target, found: unknown, count: number): Column {
  const shape = model.outputShapes[target.output]!;
  const several = model.outputs.length > 1 ? ` for "${target.name}"` : "";
  const what = `targets${several}`;
  if (found instanceof Tensor) {
    const ids = found.dtype !== "f32";
    const of = ids ? [] : shape;
    return {
      values: checkTensor(owner, model, found, ids ? `class ids${several}` : what, of),
      shape: of,
      size: sizeOf(of),
    };
  }
  const column = hostTargets(found, shape, count);
  if (column === undefined) {
    throw new UsageError(
      `${owner}: needs ${what} as an Int32Array of class ids, one for each of the ${count} samples, or a Float32Array of ${formatShape(shape)} for each, got ${describe(found)}`,
    );
  }
  const needed = count * column.size;
  if (column.values.length !== needed) {
    throw new ShapeError(
      `${owner}: ${count} samples need ${needed} target values (${formatShape(column.shape)} each)${several}, got ${column.values.length}${column.values.length === count ? "; class ids are an Int32Array" : ""}`,
    );
  }
  if (!(column.values instanceof Float32Array)) checkClasses(owner, column.values, shape.at(-1)!, several);
  const { values } = column;
  const settled =
    values instanceof Float32Array || values instanceof Int32Array ? values : Int32Array.from(values, Number);
  return { values: settled, shape: column.shape, size: column.size };
}

/** Targets as class ids or as values of a shape; undefined for what is neither. */
function hostTargets(found: unknown, shape: Shape, count: number) {
  const size = sizeOf(shape);
  const asValues = () => ({ values: floats(found as Rows), shape, size });
  if (found instanceof Float32Array) return { values: found, shape, size };
  if (found instanceof Float64Array) return asValues();
  // One number for each sample is a class, unless that is what the model gives.
  const ids = (isView(found) || Array.isArray(found)) && found.length === count && size !== 1;
  if (isNumbers(found)) {
    if (!ids) return asValues();
    if (!(found as readonly number[]).every(Number.isInteger)) return undefined;
  } else if (!isView(found)) {
    return undefined;
  } else if (!ids && (size === 1 || found.length === count * size)) {
    return asValues();
  }
  // As they are until they are known to be classes: a conversion might wrap around.
  return { values: found as ArrayLike<number> & Iterable<number | bigint>, shape: [], size: 1 };
}

function checkClasses(owner: string, labels: ArrayLike<number | bigint>, classes: number, several: string): void {
  for (let sample = 0; sample < labels.length; sample++) {
    const label = labels[sample]!;
    if (label >= 0 && label < classes) continue;
    throw new DataError(
      `${owner}: class ids${several} must be from 0 to ${classes - 1} for ${classes} outputs, sample ${sample} has ${label}`,
    );
  }
}

/** Weights of `count` samples: none, a column for all outputs, or one for each. */
function weightColumns(
  owner: string,
  model: Model,
  outputs: readonly Target[],
  data: unknown,
  count: number,
): Column[] {
  const given = (Object(data) as Given).sampleWeight;
  if (given === undefined) return [];
  const parts: readonly unknown[] = isRows(given)
    ? [given]
    : partsOf(owner, "sampleWeight", model.outputNames, given).filter((_, i) =>
        outputs.some(({ output }) => output === i),
      );
  return parts.map((part): Column => {
    if (part instanceof Tensor)
      return { values: checkTensor(owner, model, part, "sampleWeight", []), shape: [], size: 1 };
    if (!isView(part) && !isNumbers(part)) {
      throw new UsageError(`${owner}: needs sampleWeight as an array of ${count} numbers, got ${describe(part)}`);
    }
    if (part.length !== count) {
      throw new ShapeError(`${owner}: needs a sampleWeight for each of ${count} samples, got ${part.length}`);
    }
    return { values: part instanceof Float32Array ? part : floats(part), shape: [], size: 1 };
  });
}

/** Batches of inputs [n, ...inputShape] for one model. */
export class InputSet {
  readonly count: number;
  protected readonly inputs: readonly Column[];
  private readonly buffers: Float32Array[] = [];

  /**
   * @param owner begins messages
   * @throws UsageError, ShapeError where the rows are not of the model's input shapes
   */
  constructor(
    protected readonly model: Model,
    data: InputBatch | readonly Column[],
    protected readonly owner: string = model.name,
  ) {
    this.inputs = areColumns(data) ? data : inputColumns(owner, model, data);
    this.count = countOf(this.inputs[0]!);
    const other = this.inputs.findIndex((column) => countOf(column) !== this.count);
    if (other >= 0) {
      const [first, second] = [model.inputs[0]!.name, model.inputs[other]!.name];
      throw new ShapeError(
        `${owner}: needs as many samples for every input, got ${this.count} for "${first}" and ${countOf(this.inputs[other]!)} for "${second}"`,
      );
    }
    if ("imageShape" in Object(data)) this.checkImageShape((data as LabelledImages).imageShape);
  }

  /** Images that happen to have as many values are other images all the same. */
  private checkImageShape(imageShape: Shape): void {
    const { inputShape } = this.model;
    if (inputShape.length === 1 || imageShape.every((size, axis) => size === inputShape[axis])) return;
    throw new ShapeError(`${this.owner}: needs images ${formatShape(inputShape)}, got ${formatShape(imageShape)}`);
  }

  /** Whether all of it is in host arrays. */
  get isOnHost(): boolean {
    return this.inputs.every(({ values }) => !(values instanceof Tensor));
  }

  /** All inputs of the samples [start, end). */
  inputsIn(start: number, end: number): StepInput[] {
    return this.inputs.map((column) => rangeOf(column, start, end));
  }

  /** The only input of the samples [start, end), of a set on the host. */
  inputRange(start: number, end: number): HostTensor {
    return this.inputsIn(start, end)[0] as HostTensor;
  }

  /** All inputs of the samples at `indices`, good until the next call; `change` may alter the first's values before. */
  protected inputsAt(indices: Uint32Array, change?: (values: Float32Array) => void): StepInput[] {
    return this.inputs.map((column, i) => {
      const length = indices.length * column.size;
      let buffer = this.buffers[i];
      if (buffer === undefined || buffer.length < length) buffer = this.buffers[i] = new Float32Array(length);
      const values = buffer.subarray(0, length);
      gatherRows(column.values as Float32Array, column.size, indices, values);
      if (i === 0) change?.(values);
      return { values, shape: [indices.length, ...column.shape] };
    });
  }
}

const areColumns = (data: unknown): data is readonly Column[] =>
  Array.isArray(data) && data.length > 0 && "size" in Object(data[0]) && "values" in data[0];

/** Samples [start, end) of a column. */
function rangeOf({ values, shape, size }: Column, start: number, end: number): StepInput {
  if (!(values instanceof Tensor)) {
    return { values: values.subarray(start * size, end * size), shape: [end - start, ...shape] };
  }
  if (start !== 0 || end !== values.shape[0]) throw new UsageError("batches: a tensor is a batch as a whole");
  return { shape: values.shape, dtype: values.dtype, fill: (input) => copyInto(values, input) };
}

/** The samples at `indices` of a column. */
function rowsOf({ values, shape, size }: Column, indices: Uint32Array): HostTensor {
  const length = indices.length * size;
  const rows =
    values instanceof Int32Array
      ? gatherRows(values, size, indices, new Int32Array(length))
      : gatherRows(values as Float32Array, size, indices, new Float32Array(length));
  return { values: rows, shape: [indices.length, ...shape] };
}

/** What a set of samples is made of. */
interface Columns {
  readonly inputs: readonly Column[];
  readonly targets: readonly Column[];
  readonly weights: readonly Column[];
}

/** Batches of inputs, targets and weights for one model. */
export class SampleSet extends InputSet {
  private readonly targets: readonly Column[];
  private weights: readonly Column[];

  private readonly outputs: readonly Target[];

  /**
   * @param outputs those with targets; by default the model's only one
   * @param owner begins messages
   * @throws UsageError, ShapeError or DataError where the data does not fit
   */
  constructor(
    model: Model,
    data: LabelledBatch | { readonly columns: Columns },
    outputs: readonly Target[] = onlyTarget(model),
    owner: string = model.name,
  ) {
    const columns = "columns" in Object(data) ? (data as { readonly columns: Columns }).columns : undefined;
    super(model, columns?.inputs ?? (data as LabelledBatch), owner);
    this.outputs = outputs;
    this.targets = columns?.targets ?? targetColumns(owner, model, outputs, data as LabelledBatch, this.count);
    this.weights = columns?.weights ?? weightColumns(owner, model, outputs, data, this.count);
    for (const column of [...this.targets, ...this.weights]) {
      if (countOf(column) === this.count) continue;
      throw new ShapeError(`${owner}: needs targets and weights of ${this.count} samples, got ${countOf(column)}`);
    }
    if (this.count === 0) throw new UsageError(`${owner}: needs at least one sample, got none`);
  }

  override get isOnHost(): boolean {
    return super.isOnHost && [...this.targets, ...this.weights].every(({ values }) => !(values instanceof Tensor));
  }

  /**
   * Weighs samples by their classes, as Keras's class_weight: those of classes that are not named by 1.
   * @throws UsageError where samples have weights, or no classes
   */
  weigh(classWeights: ReadonlyMap<number, number>): this {
    if (this.weights.length > 0) {
      throw new UsageError(`${this.owner}: takes classWeight or sampleWeight, got both`);
    }
    if (this.outputs.length > 1) {
      throw new UsageError(
        `${this.owner}: classWeight is for one output, there are ${this.outputs.length}; give sampleWeight`,
      );
    }
    const { values, size } = this.targets[0]!;
    if (values instanceof Tensor) {
      throw new UsageError(`${this.owner}: classWeight needs targets on the host, got a tensor; give an array`);
    }
    const classes = Int32Array.from({ length: this.count }, (_, sample) => classOf(values, size, sample));
    const weights = Float32Array.from(classes, (label) => classWeights.get(label) ?? 1);
    this.weights = [{ values: weights, shape: [], size: 1 }];
    return this;
  }

  /** Targets of the only output of the samples [start, end), of a set on the host. */
  targetRange(start: number, end: number): HostTensor {
    return rangeOf(this.targets[0]!, start, end) as HostTensor;
  }

  /** Samples [start, end). */
  range(start: number, end: number): StepValues {
    const of = (columns: readonly Column[]) => columns.map((column) => rangeOf(column, start, end));
    return { count: end - start, x: this.inputsIn(start, end), y: of(this.targets), weights: of(this.weights) };
  }

  /** The samples at `indices`, good until the next call; `change` may alter the values of the first input before. */
  rows(indices: Uint32Array, change?: (values: Float32Array) => void): StepValues {
    const of = (columns: readonly Column[]) => columns.map((column) => rowsOf(column, indices));
    return { count: indices.length, x: this.inputsAt(indices, change), y: of(this.targets), weights: of(this.weights) };
  }

  /**
   * The last `fraction` of the rows split off, before any shuffling, as Keras's validation_split.
   * @throws UsageError where one side has no samples
   */
  split(fraction: number): [SampleSet, SampleSet] {
    const { count, owner } = this;
    const boundary = Math.floor(count * (1 - fraction));
    if (boundary === 0 || boundary === count) {
      throw new UsageError(
        `${owner}: validationSplit ${fraction} leaves no samples on one side, of ${count}; use another share`,
      );
    }
    return [this.part(0, boundary), this.part(boundary, count)];
  }

  private part(start: number, end: number): SampleSet {
    const of = (columns: readonly Column[]) =>
      columns.map((column): Column => {
        const values = column.values as Float32Array | Int32Array;
        return { ...column, values: values.subarray(start * column.size, end * column.size) };
      });
    const columns = { inputs: of(this.inputs), targets: of(this.targets), weights: of(this.weights) };
    return new SampleSet(this.model, { columns }, this.outputs, this.owner);
  }
}

/** The class of a sample: its id, the first largest of several values, or one value rounded. */
function classOf(values: Float32Array | Int32Array, size: number, sample: number): number {
  if (size === 1) return Math.round(values[sample]!);
  let best = 0;
  for (let i = 1; i < size; i++) if (values[sample * size + i]! > values[sample * size + best]!) best = i;
  return best;
}

/** Of batches: fewer samples are one. */
export const batchSizeRule = integer({ from: 1 });
