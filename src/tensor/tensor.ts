// The tensor: shape, dtype, device memory, and its place on the tape. What one can compute with it is added by
// autograd/methods.ts, which declares the methods on this class.
import { type Changing, type Device, deviceRule, Storage } from "./device.js";
import { type DType, dtypeRule, elementRules, type Spec, type TypedArray } from "./dtype.js";
import { DeviceError, DisposedError, ShapeError, UsageError } from "./errors.js";
import type { Kernel } from "./kernel.js";
import { anything, array, callable, check, checkOptions, describe, instanceOf, type Rules } from "./options.js";
import { keep, refusePromise, register, type Scoped, TENSOR } from "./scope.js";
import { checkShape, formatShape, MOST_AXES, type Shape, sameShape, sizeOf } from "./shape.js";

/** One recorded operation; defined by the autograd module, which alone looks inside. */
export interface TapeNode extends Scoped {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  /** State of the output's memory (Storage.version) that it belongs to; undefined where it does not matter. */
  readonly version: number | undefined;
}

/** What a tape relies on: the content that memory had when `op` ran. */
export interface Pin {
  readonly op: string;
  readonly version: number;
}

/** Numbers, nested to the depth of the rank. */
export type NestedArray = number | readonly NestedArray[];

/** Numbers on a device: their shape, element type and memory, and where they stand on the tape. */
export class Tensor implements Spec, Scoped {
  readonly size: number;
  /** The operation that made this tensor, when a gradient may flow through it. @internal */
  node: TapeNode | null = null;
  /** A name for errors and summaries, e.g. "conv2d/kernel". */
  name = "";
  /** Set by the autograd module on what a tape saved, and handed on to its aliases: kernels check it. @internal */
  pin: Pin | undefined;
  private wanted = false;
  private gradient: Tensor | null = null;
  private memory: Storage | undefined;
  /** Called by dispose(). */
  private followers: Set<() => void> | undefined;

  /** Takes over one reference of `storage`. Users make tensors with `tensor()`, `zeros()`, ... @internal */
  constructor(
    storage: Storage,
    readonly shape: Shape,
    readonly dtype: DType,
  ) {
    if (!(storage instanceof Storage)) throw new UsageError("Tensor: make tensors with tensor(), zeros() and the like");
    checkShape("Tensor", shape);
    this.size = sizeOf(shape);
    if (this.size !== storage.size || dtype !== storage.dtype) {
      throw new ShapeError(
        `Tensor: ${describe(dtype)} ${formatShape(shape)} must be what its memory holds, ${storage.size} elements of ${storage.dtype}`,
      );
    }
    this.memory = storage;
    register(this);
  }

  /** A tensor that no scope around it frees. @internal */
  static unscoped(storage: Storage, shape: Shape, dtype: DType): Tensor {
    return keep(new Tensor(storage, shape, dtype));
  }

  get [TENSOR](): true {
    return true;
  }

  get device(): Device {
    return this.storage.device;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** The device memory; throws after dispose(). @internal */
  get storage(): Storage {
    if (this.memory === undefined) {
      throw new DisposedError(
        `tensor${this.name === "" ? "" : ` "${this.name}"`} ${formatShape(this.shape)}: used after dispose(); keep() it, or return it from its scope`,
      );
    }
    return this.memory;
  }

  /** Set by the user on leaves, f32; results of differentiable operations carry a `node` instead. Default false. */
  get requiresGrad(): boolean {
    return this.wanted;
  }

  /**
   * @throws UsageError for integers, and for results of operations, which have a gradient where their inputs have one
   */
  set requiresGrad(value: boolean) {
    if (typeof value !== "boolean") throw new UsageError(`requiresGrad: must be true or false, got ${String(value)}`);
    if (value && this.dtype !== "f32") {
      throw new UsageError(
        `requiresGrad: only f32 tensors have gradients, this one is ${this.dtype} ${formatShape(this.shape)}; use cast(x, "f32")`,
      );
    }
    if (this.node !== null && value !== this.wanted) {
      throw new UsageError(
        `requiresGrad: this tensor ${formatShape(this.shape)} is a result of "${this.node.op}"; set it on a tensor without history, such as detach(x)`,
      );
    }
    this.wanted = value;
  }

  /** Accumulated by backward() on leaves that require it. */
  get grad(): Tensor | null {
    return this.gradient;
  }

  /**
   * @throws ShapeError, UsageError for what is no gradient of this tensor, which is null or f32 of its shape and device
   */
  set grad(value: Tensor | null) {
    if (value !== null) {
      requireTensor("grad", "its value", value);
      checkDevice("grad", this.device, value);
      if (value.dtype !== "f32" || !sameShape(value.shape, this.shape)) {
        throw new ShapeError(
          `grad: a gradient must be f32 of its tensor's shape ${formatShape(this.shape)}, got ${value.dtype} ${formatShape(value.shape)}`,
        );
      }
    }
    this.gradient = value;
  }

  get disposed(): boolean {
    return this.memory === undefined;
  }

  /** Whether a gradient flows through or ends here. */
  get tracked(): boolean {
    return this.requiresGrad || this.node !== null;
  }

  /** Another handle on the same memory with a shape of equal size, without history. @internal */
  alias(shape: Shape = this.shape): Tensor {
    if (shape !== this.shape) {
      checkShape("alias", shape);
      if (sizeOf(shape) !== this.size) {
        throw new ShapeError(`alias: ${formatShape(this.shape)} has ${this.size} elements, not ${formatShape(shape)}`);
      }
    }
    const storage = this.storage.retain();
    const result = new Tensor(storage, shape, this.dtype);
    result.pin = this.pin;
    return result;
  }

  /** @throws UsageError where a tape relies on this tensor's content and it has changed @internal */
  checkPin(): void {
    const { pin } = this;
    if (pin === undefined || pin.version === this.storage.version) return;
    const name = this.name === "" ? "" : ` "${this.name}"`;
    throw new UsageError(
      `backward: "${pin.op}" needs a tensor${name} ${formatShape(this.shape)} as it was when it ran, but "${this.storage.changedBy}" has changed it since; call backward before the change, or compute the loss again after it`,
    );
  }

  /** The elements, row-major: Float32Array, Int32Array or Uint32Array; Float64Array for f32 on the CPU reference. */
  async data(): Promise<TypedArray> {
    const all = await this.storage.device.read(this.storage);
    return all.length === this.size ? all : all.subarray(0, this.size);
  }

  /** The only element of a tensor of size 1. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError(
        `item: the tensor must have one element, it has shape ${formatShape(this.shape)}; use data()`,
      );
    }
    return (await this.data())[0]!;
  }

  /**
   * Overwrites the elements, keeping the memory; aliases of it see the change. Not recorded on the tape: a backward()
   * that needs the old values is an error.
   */
  assign(values: ArrayLike<number>): this {
    checkNumbers("assign", values);
    if (values.length !== this.size) {
      throw new ShapeError(`assign: ${formatShape(this.shape)} needs ${this.size} values, got ${values.length}`);
    }
    checkElements("assign", this.dtype, values);
    this.storage.device.write(this.storage, values);
    this.storage.changed("assign");
    return this;
  }

  /** Frees this handle's share of the memory (and its gradient). Idempotent. */
  dispose(): void {
    this.memory?.release();
    this.memory = undefined;
    this.gradient?.dispose();
    this.gradient = null;
    for (const follow of this.followers ?? []) follow();
    this.followers = undefined;
  }

  /** Has `follow` called when this handle is disposed of; gives what takes that back. */
  onDispose(follow: () => void): () => void {
    check("onDispose", "follow", follow, callable);
    this.followers ??= new Set();
    this.followers.add(follow);
    return () => void this.followers?.delete(follow);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @throws UsageError for what is no tensor, DisposedError for one that was disposed; `name` is the argument's. */
export function requireTensor(op: string, name: string, value: unknown): asserts value is Tensor {
  if (!(value instanceof Tensor)) throw new UsageError(`${op}: ${name} must be a tensor, got ${describe(value)}`);
  if (value.disposed) {
    throw new DisposedError(
      `${op}: ${name}${value.name === "" ? "" : ` "${value.name}"`} ${formatShape(value.shape)} was used after dispose(); keep() it, or return it from its scope`,
    );
  }
}

/** @throws UsageError for what a function of the user gave and is no tensor, such as a promise of an async one */
export function requireResult(op: string, result: unknown, name = "fn"): asserts result is Tensor {
  refusePromise(op, result, name);
  requireTensor(op, `what ${name} returns`, result);
}

/** What a tensor may be, for rules of options. */
export const tensorRule = instanceOf(Tensor, "a tensor");

/** @throws UsageError for what is no array of tensors, DisposedError where one was disposed */
export function requireTensors(op: string, name: string, list: unknown): asserts list is readonly Tensor[] {
  check(op, name, list, array);
  for (const [i, value] of (list as readonly unknown[]).entries()) requireTensor(op, `${name}[${i}]`, value);
}

/**
 * Checks what a new tensor is made from, before anything of its size is made on the host.
 * @throws UsageError, ShapeError, or DeviceError "LIMIT" for more elements than a tensor of the device may have
 */
export function checkNewTensor(op: string, device: Device, shape: Shape, dtype: DType): void {
  check(op, "device", device, deviceRule);
  checkShape(op, shape);
  check(op, "dtype", dtype, dtypeRule);
  const size = sizeOf(shape);
  if (size > device.mostElements) {
    throw new DeviceError(
      "LIMIT",
      `${op}: a tensor on this ${device.kind} device has at most ${device.mostElements} elements, ${formatShape(shape)} has ${size}`,
    );
  }
}

/** A tensor of the given shape with undefined content; `op` begins the messages of errors. */
export function empty(device: Device, shape: Shape, dtype: DType = "f32", op = "empty"): Tensor {
  checkNewTensor(op, device, shape, dtype);
  return new Tensor(device.allocate(dtype, sizeOf(shape)), [...shape], dtype);
}

export interface TensorOptions {
  /** By default the nesting of the arrays, or one axis. */
  readonly shape?: Shape;
  /** Default "i32" for an Int32Array, "u32" for a Uint32Array, else "f32". */
  readonly dtype?: DType;
}

const tensorRules: Rules<TensorOptions> = { shape: anything, dtype: dtypeRule };

/**
 * A tensor from host values.
 * @param values a number, nested arrays, or a flat array-like together with `shape`
 * @throws UsageError for values that are no numbers, or that the dtype does not hold. Integers hold no fractions and
 * nothing that is out of range: see cast.
 * @throws ShapeError where they do not fit the shape
 */
export function tensor(device: Device, values: NestedArray | ArrayLike<number>, options: TensorOptions = {}): Tensor {
  const given = checkOptions("tensor", options, tensorRules);
  const { flat, shape: found } = flatten(values);
  const { shape = found } = given;
  const dtype = given.dtype ?? (values instanceof Int32Array ? "i32" : values instanceof Uint32Array ? "u32" : "f32");
  checkNewTensor("tensor", device, shape, dtype);
  if (sizeOf(shape) !== flat.length) {
    throw new ShapeError(`tensor: shape ${formatShape(shape)} needs ${sizeOf(shape)} values, got ${flat.length}`);
  }
  checkElements("tensor", dtype, flat);
  const result = empty(device, shape, dtype);
  device.write(result.storage, flat);
  return result;
}

/**
 * Runs a kernel on existing tensors. Params that differ from step to step are given as a function, so that a recorded
 * step asks for them anew.
 * @throws UsageError where an output shares memory with an input or another output: no kernel reads what it overwrites
 */
export function runInto<Params>(
  kernel: Kernel<Params>,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  params: Changing<Params>,
): void {
  const written = new Set(outputs.map(({ storage }) => storage));
  const shared = written.size < outputs.length ? outputs[0] : inputs.find(({ storage }) => written.has(storage));
  if (shared !== undefined) {
    const { name, shape } = shared;
    throw new UsageError(
      `${kernel.name}: what it changes must not share memory with anything else it is given, but a tensor${name && ` "${name}"`} ${formatShape(shape)} does; pass a copy of it, such as x.mul(1)`,
    );
  }
  execute(kernel, inputs, outputs, params);
}

function execute<Params>(
  kernel: Kernel<Params>,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  params: Changing<Params>,
): void {
  const device = (inputs[0] ?? outputs[0])!.device;
  for (const t of inputs) {
    checkDevice(kernel.name, device, t);
    if (t.pin !== undefined) t.checkPin();
  }
  for (const t of outputs) checkDevice(kernel.name, device, t);
  device.run(kernel, inputs, outputs, params);
  for (const t of outputs) t.storage.changed(kernel.name);
}

/** Runs a kernel with one new output. */
export function run<Params>(
  kernel: Kernel<Params>,
  inputs: readonly Tensor[],
  output: Spec,
  params: Changing<Params>,
): Tensor {
  return runMany(kernel, inputs, [output], params)[0]!;
}

/** Runs a kernel with several new outputs. */
export function runMany<Params>(
  kernel: Kernel<Params>,
  inputs: readonly Tensor[],
  outputs: readonly Spec[],
  params: Changing<Params>,
): Tensor[] {
  for (const t of inputs) requireTensor(kernel.name, "an input", t);
  const device = inputs[0]!.device;
  for (const t of inputs) checkDevice(kernel.name, device, t);
  const results: Tensor[] = [];
  try {
    for (const spec of outputs) results.push(empty(device, spec.shape, spec.dtype, kernel.name));
    execute(kernel, inputs, results, params);
  } catch (error) {
    for (const t of results) t.dispose();
    throw error;
  }
  return results;
}

/** @throws ShapeError for a tensor of another device */
export function checkDevice(op: string, device: Device, t: Tensor): void {
  if (t.device !== device) {
    throw new ShapeError(
      `${op}: all tensors must be on one device, got ${device.kind} and ${t.device.kind} (${formatShape(t.shape)})`,
    );
  }
}

/** @throws UsageError unless `values` is an array, or the like, of numbers */
function checkNumbers(op: string, values: unknown): asserts values is ArrayLike<number> {
  if (isTyped(values)) return;
  const refuse = (given: string) =>
    new UsageError(`${op}: values must be numbers, an array of them, or a typed array of numbers, got ${given}`);
  const { length } = Object(values) as ArrayLike<unknown>;
  const isArray = typeof values === "object" && !ArrayBuffer.isView(values) && Number.isSafeInteger(length);
  if (!isArray || length < 0) throw refuse(describe(values));
  for (let i = 0; i < length; i++) {
    const value = (values as ArrayLike<unknown>)[i];
    if (typeof value !== "number") throw refuse(`${describe(value)} as element ${i}`);
  }
}

/** @throws UsageError for what a tensor of integers does not hold as it is */
function checkElements(op: string, dtype: DType, values: ArrayLike<number>): void {
  if (dtype === "f32" || values instanceof (dtype === "i32" ? Int32Array : Uint32Array)) return;
  const { accepts, expected } = elementRules[dtype];
  for (let i = 0; i < values.length; i++) {
    if (accepts(values[i])) continue;
    throw new UsageError(
      `${op}: element ${i} of an ${dtype} tensor must be ${expected}, got ${values[i]}; cast() converts from f32`,
    );
  }
}

/** Whether it is a typed array of numbers. */
const isTyped = (values: unknown): boolean =>
  ArrayBuffer.isView(values) &&
  !(values instanceof DataView || values instanceof BigInt64Array || values instanceof BigUint64Array);

function flatten(values: NestedArray | ArrayLike<number>): { flat: ArrayLike<number>; shape: number[] } {
  if (typeof values === "number") return { flat: [values], shape: [] };
  if (!Array.isArray(values)) {
    checkNumbers("tensor", values);
    return { flat: values, shape: [values.length] };
  }
  const shape: number[] = [];
  for (let level: unknown = values; Array.isArray(level) && shape.length <= MOST_AXES; level = level[0]) {
    shape.push(level.length);
  }
  checkShape("tensor", shape);
  const flat: number[] = [];
  const visit = (level: unknown, depth: number): void => {
    if (Array.isArray(level)) {
      if (level.length !== shape[depth]) {
        throw new ShapeError(
          `tensor: nested arrays must be rectangular, found lengths ${shape[depth]} and ${level.length}`,
        );
      }
      for (const entry of level) visit(entry, depth + 1);
    } else if (typeof level === "number" && depth === shape.length) flat.push(level);
    else throw new ShapeError(`tensor: nested arrays must hold numbers at one depth, found ${describe(level)}`);
  };
  visit(values, 0);
  return { flat, shape };
}
