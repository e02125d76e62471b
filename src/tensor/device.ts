// What a device is: memory, transfers, and running kernels. Two implementations: WebGpuDevice and CpuDevice (the
// float64 reference). Nothing here knows about gradients.
import type { DType, TypedArray } from "./dtype.js";
import { DisposedError } from "./errors.js";
import type { Kernel } from "./kernel.js";
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

/** What a device has executed, for tests and profiles. */
export interface Counters {
  /** GPU dispatches (WebGPU) or kernel calls (CPU) by kernel name. */
  byKernel: Map<string, number>;
  dispatches: number;
  submits: number;
}

/** Reference-counted memory of one tensor and its reshaped aliases. */
export abstract class Storage {
  private references = 1;
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
  readonly counters: Counters = { byKernel: new Map(), dispatches: 0, submits: 0 };

  /** Memory for `size` elements, content undefined. */
  abstract allocate(dtype: DType, size: number): Storage;
  /** Copies host values into a storage, in order with recorded work. */
  abstract write(storage: Storage, values: ArrayLike<number>): void;
  /** Copies a storage to the host after all recorded work. */
  abstract read(storage: Storage): Promise<TypedArray>;
  /** Records (WebGPU) or executes (CPU) a kernel on existing tensors. */
  abstract run<Params>(
    kernel: Kernel<Params>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    params: Params,
  ): void;
  /** Hands recorded work to the device without waiting for its end. */
  abstract flush(): Promise<void>;
  /** Resolves when everything recorded so far is done; raises what went wrong since the last call. */
  abstract sync(): Promise<void>;
  abstract memory(): MemoryInfo;
  /** Frees everything; later use of its tensors throws. Idempotent. */
  abstract destroy(): void;

  /** Forgets dispatch counts. */
  resetCounters(): void {
    this.counters.byKernel.clear();
    this.counters.dispatches = 0;
    this.counters.submits = 0;
  }

  protected count(kernel: string): void {
    this.counters.dispatches++;
    this.counters.byKernel.set(kernel, (this.counters.byKernel.get(kernel) ?? 0) + 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.destroy();
  }
}
