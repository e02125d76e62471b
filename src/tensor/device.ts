// What a device is: memory, transfers, and running kernels. Two implementations: WebGpuDevice and CpuDevice (the
// float64 reference). Nothing here knows about gradients.
import type { DType, Spec, TypedArray } from "./dtype.js";
import { DisposedError } from "./errors.js";
import type { Kernel } from "./kernel.js";
import { instanceOf } from "./options.js";
import type { Tensor } from "./tensor.js";

/** Memory of a device at one moment, in bytes. */
export interface MemoryInfo {
  /** Held by tensors (and tapes) now. */
  liveBytes: number;
  /** Freed and kept for reuse. */
  pooledBytes: number;
  /** Largest liveBytes + pooledBytes so far: what the adapter had to provide. */
  peakBytes: number;
  /** Number of live storages. */
  liveCount: number;
}

/**
 * - float32: everything (float64 on the CPU reference).
 * - mixed: matrix products and convolutions round their operands to float16 and sum in float32, on the adapter's matrix
 *   units. Tensors, weights and everything else stay float32. Training then needs loss scaling, which `fit` does.
 */
export type Precision = "float32" | "mixed";

/** What a device has executed, for tests and profiles. */
export interface Counters {
  /** GPU dispatches (WebGPU) or kernel calls (CPU) by kernel name. */
  byKernel: Map<string, number>;
  dispatches: number;
  submits: number;
}

/** Counts a dispatch, or a call, of a kernel. */
export function countKernel(counters: Counters, kernel: string): void {
  counters.dispatches++;
  counters.byKernel.set(kernel, (counters.byKernel.get(kernel) ?? 0) + 1);
}

/** A value, or what gives it anew whenever a recorded step is run again. */
export type Changing<T> = T | (() => T);

/** The value now. */
export function valueNow<T>(value: Changing<T>): T {
  return typeof value === "function" ? (value as () => T)() : value;
}

/** What `Device.record` gives. */
export interface RecordedStep {
  /** What `fn` returned; every run overwrites them. Owned by the step. */
  readonly outputs: readonly Tensor[];
  /** False when memory that the step uses was freed or moved: it cannot be run again. */
  readonly valid: boolean;
  run(): void;
  /** Frees the outputs and all memory of the step. */
  dispose(): void;
}

/** Reference-counted memory of one tensor and its reshaped aliases. */
export abstract class Storage {
  private references = 1;
  /** How often its content was changed, and by what last: a tape compares it with that of the moment it relied on. */
  version = 0;
  /** It is given new content before every run of a recorded step that reads it. */
  renewed = false;
  changedBy = "";

  constructor(
    readonly device: Device,
    readonly dtype: DType,
    readonly size: number,
  ) {}

  get alive(): boolean {
    return this.references > 0;
  }

  /** Whether only one handle refers to this memory, so that it may be overwritten unseen. */
  get exclusive(): boolean {
    return this.references === 1;
  }

  /** Books a change of the content by an operation of this name. */
  changed(by: string): void {
    this.version++;
    this.changedBy = by;
  }

  retain(): this {
    if (this.references === 0) throw new DisposedError("internal: retain of a freed storage");
    this.references++;
    return this;
  }

  release(): void {
    if (this.references === 0) throw new DisposedError("internal: storage released twice");
    if (--this.references === 0) this.free();
  }

  /** Gives the memory back to the device. */
  protected abstract free(): void;
}

export abstract class Device {
  abstract readonly kind: "webgpu" | "cpu";
  /** Of matrix products and convolutions; see OpenDeviceOptions. */
  readonly precision: Precision = "float32";
  readonly counters: Counters = { byKernel: new Map(), dispatches: 0, submits: 0 };
  /** Most elements that a tensor may have. */
  abstract readonly mostElements: number;

  /** Memory for `size` elements, content undefined. @internal */
  abstract allocate(dtype: DType, size: number): Storage;
  /** Copies host values into a storage, in order with recorded work. @internal */
  abstract write(storage: Storage, values: ArrayLike<number>): void;
  /** Copies a storage to the host after all recorded work. @internal */
  abstract read(storage: Storage): Promise<TypedArray>;
  /** Records (WebGPU) or executes (CPU) a kernel on existing tensors. @internal */
  abstract run<Params>(
    kernel: Kernel<Params>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    params: Changing<Params>,
  ): void;
  /**
   * Further outputs that a kernel has to offer on this device, for its gradients to use; none on the reference.
   * @internal
   */
  byproducts<Params>(_kernel: Kernel<Params>, _params: Params): Readonly<Record<string, Spec>> {
    return {};
  }
  /**
   * Moves memory of tensors side by side, in this order, where that lets a kernel take them for one; nothing changes
   * otherwise. Does nothing while a step is recorded.
   * @internal
   */
  placeTogether(_storages: readonly Storage[]): void {}
  /** Hands recorded work to the device without waiting for its end. */
  abstract flush(): Promise<void>;
  /** Resolves when everything recorded so far is done; raises what went wrong since the last call. */
  abstract sync(): Promise<void>;
  abstract memory(): MemoryInfo;
  /** Frees everything; later use of its tensors throws. Idempotent. */
  abstract destroy(): void;

  /**
   * Runs `fn` and records it, so that it can be run again without its JavaScript: the same kernels on the same memory.
   * What changes from one time to the next must be declared: params given as functions, and `everyTime`. Undefined,
   * without having run `fn`, where this device cannot record (now). See StepPlan, which most callers want.
   * @internal
   */
  record(_fn: () => readonly Tensor[]): RecordedStep | undefined {
    return undefined;
  }

  /**
   * Runs `fn`, a step that may be recorded the next time, in as little memory as it would then take.
   * @internal
   */
  firstRun<T>(fn: () => T): T {
    return fn();
  }

  /**
   * Runs a host side effect of a step, such as counting it: now, and whenever the step is run again from a record.
   * @internal
   */
  everyTime(effect: () => void): void {
    effect();
  }

  /** Forgets dispatch counts. */
  resetCounters(): void {
    this.counters.byKernel.clear();
    this.counters.dispatches = 0;
    this.counters.submits = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.destroy();
  }
}

/** What a device may be, for checks of arguments. */
export const deviceRule = instanceOf(Device, "a device, as openDevice() gives it");
