// The WebGPU device: records kernels into a queue of commands, hands it over in large submits, and reads results back.
// Pipelines are compiled asynchronously from the moment a program is first recorded; a submit waits for all it needs.
import "./kernel.js";
import {
  type Changing,
  countKernel,
  Device,
  type MemoryInfo,
  type Precision,
  type RecordedStep,
  Storage,
  valueNow,
} from "../tensor/device.js";
import { BYTES_PER_ELEMENT, type DType, deviceArray, type Spec, type TypedArray } from "../tensor/dtype.js";
import { DeviceError } from "../tensor/errors.js";
import type { Kernel } from "../tensor/kernel.js";
import type { Tensor } from "../tensor/tensor.js";
import { type KernelCall, ParameterBlock, type Program, withSharedAccess } from "./commands.js";
import type { CompileAhead } from "./compile-ahead.js";
import type { TuningProfile } from "./family.js";
import { attempt, type Content, callError, type FaultSink, listen } from "./faults.js";
import { BufferPool, type PooledBuffer, partBytes } from "./pool.js";
import {
  type Dispatch,
  follows,
  type GpuView,
  MAX_WORKGROUPS,
  MOST_ELEMENTS_TOGETHER,
  paddedBytes,
} from "./program.js";
import { Programs } from "./programs.js";
import { Queue } from "./queue.js";
import { Readback } from "./readback.js";
import { GpuStep } from "./recorded/step.js";
import type { SharedGpu } from "./shared.js";
import type { DispatchTimer, KernelTime } from "./timer.js";

class GpuStorage extends Storage {
  /** Another one whenever the host writes. */
  content: Content = { error: undefined };

  constructor(
    override readonly device: WebGpuDevice,
    dtype: DType,
    size: number,
    public buffer: PooledBuffer,
  ) {
    super(device, dtype, size);
  }

  protected free(): void {
    this.device.recycle(this.buffer);
  }
}

/** What a device is opened with. */
export interface Surroundings {
  readonly compileAhead?: CompileAhead | undefined;
  /** WebGPU reports what is wrong with a call some time after it, as browsers do; Dawn in Node does so at once. */
  readonly reportsLater?: boolean;
  /** What its GPU device brings along from an earlier use. */
  readonly shared?: SharedGpu;
  /** Takes the GPU device, without its memory; by default it is destroyed. */
  readonly giveBack?: () => void;
}

/** Bytes of free memory that are kept when a step is recorded. */
const MOST_LEFT = 2 ** 26;

export class WebGpuDevice extends Device {
  readonly kind = "webgpu";
  /** As many as a buffer of this adapter holds, and an i32 index reaches. */
  readonly mostElements: number;
  override readonly precision: Precision;
  private readonly pool: BufferPool;
  private readonly programs: Programs;
  private readonly constants = new Map<string, GpuView>();
  private readonly faults: FaultSink;
  private readonly queue: Queue;
  private readonly readback: Readback;
  /** The step that is being recorded. */
  private recording: GpuStep | undefined;

  /** @internal */
  constructor(
    /** Kept referenced for the life of the device: Dawn's Node bindings need it. */
    readonly adapter: GPUAdapter,
    readonly gpu: GPUDevice,
    /** @internal */
    readonly profile: TuningProfile,
    private readonly surroundings: Surroundings = {},
  ) {
    super();
    this.precision = profile.matrices === undefined ? "float32" : "mixed";
    this.mostElements = Math.min(2 ** 31, Math.floor(gpu.limits.maxBufferSize / BYTES_PER_ELEMENT));
    this.pool = new BufferPool((bytes) => this.createMemory(bytes));
    this.faults = listen(gpu);
    this.programs = new Programs(gpu, this.faults, { ...surroundings, mapsPages: profile.onProcessor === true });
    this.queue = new Queue(gpu, this.faults, this.programs, this.counters, surroundings.compileAhead);
    this.readback = new Readback(gpu, this.queue);
  }

  /** What was compiled so far, for benchmarks. @internal */
  get compiled(): readonly Program[] {
    return this.programs.all;
  }

  /** @internal */
  allocate(dtype: DType, size: number): Storage {
    this.queue.checkOpen();
    const storage = new GpuStorage(this, dtype, size, this.memorySource.acquire(paddedBytes(size)));
    this.recording?.allocated(storage);
    return storage;
  }

  /** @internal */
  write(storage: Storage, values: ArrayLike<number>): void {
    this.queue.checkOpen();
    const target = storage as GpuStorage;
    if (values.length === 0) return;
    this.recording?.mustOwn(target);
    // A queue write lands before everything not yet submitted: give the storage a buffer that nothing pending uses.
    if (target.buffer.lastUse >= this.queue.submitNumber || this.queue.firstRun?.has(target.buffer)) {
      this.memorySource.release(target.buffer);
      target.buffer = (this.recording ?? this.pool).acquire(target.buffer.bytes, this.queue.submitNumber - 1);
    }
    target.content = { error: undefined };
    const data = deviceArray(storage.dtype, values);
    if (this.recording !== undefined) {
      this.recording.wrote(target, data.slice());
      return;
    }
    const { gpu, offset } = target.buffer;
    this.gpu.queue.writeBuffer(gpu, offset, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  }

  /** @internal */
  override placeTogether(storages: readonly Storage[]): void {
    this.queue.checkOpen();
    if (this.recording !== undefined) return;
    let group: GpuStorage[] = [];
    let bytes = 0;
    for (const storage of storages as readonly GpuStorage[]) {
      const { size, buffer } = storage;
      const isOthers = buffer.planned && !this.queue.firstRun?.has(buffer);
      if (size > MOST_ELEMENTS_TOGETHER || isOthers || buffer.whole !== undefined) continue;
      const own = partBytes(paddedBytes(size));
      // A kernel binds all of them at once.
      if (bytes + own > this.profile.maxBindingBytes) {
        this.moveTogether(group);
        [group, bytes] = [[], 0];
      }
      group.push(storage);
      bytes += own;
    }
    this.moveTogether(group);
  }

  private moveTogether(storages: readonly GpuStorage[]): void {
    if (storages.length < 2) return;
    const sizes = storages.map(({ size }) => paddedBytes(size));
    // What a first run makes is not moved: it gets its place there.
    if (this.queue.join(storages.map(({ buffer }, i) => ({ buffer, byteLength: sizes[i]! })))) return;
    const parts = this.pool.acquireParts(sizes);
    storages.forEach((storage, i) => {
      const [from, to] = [storage.buffer, parts[i]!];
      for (const buffer of [from, to]) buffer.used(this.queue.submitNumber);
      this.queue.add({
        ...{ kind: "copy", from: from.gpu, fromOffset: from.offset, to: to.gpu, toOffset: to.offset },
        bytes: sizes[i]!,
      });
      storage.buffer = to;
      // In order with later commands, so it may be handed out again at once.
      this.memorySource.release(from);
    });
  }

  run<Params>(
    kernel: Kernel<Params>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    params: Changing<Params>,
  ): void {
    this.queue.checkOpen();
    const { recording, profile } = this;
    const scratch: GpuView[] = [];
    const call = {
      inputs: inputs.map(viewOf),
      outputs: outputs.map(viewOf),
      profile,
      constant: (key: string, make: () => Float32Array | Uint32Array | Int32Array) =>
        this.constant(`${kernel.name}/${key}`, make),
      joined: (views: readonly GpuView[]) =>
        joinedView(views) ?? ((recording ?? this.queue).join(views) ? joinedView(views) : undefined),
    };
    for (const { storage } of [...inputs, ...outputs]) recording?.uses(storage as GpuStorage);
    for (const { storage } of outputs) recording?.changes(storage as GpuStorage, kernel.name);
    const first = recording?.commands.length ?? 0;
    const now = valueNow(params);
    const { inputs: given, outputs: made } = call;
    const flops = kernel.flops && (() => kernel.flops!(now, given));
    const writes = outputs.map(contentOf);
    const reads = [...inputs.map(contentOf), ...writes];
    const work: KernelCall = { kernel: kernel.name, inputs: given, outputs: made, flops, dispatches: 0, reads, writes };
    // A recorded step does not ask again when it is run.
    if (recording !== undefined) for (const { error } of reads) if (error !== undefined) this.queue.raiseCall(error);
    try {
      kernel.webgpu({
        ...call,
        params: now,
        scratch: (spec) => {
          const size = spec.shape.reduce((a, b) => a * b, 1);
          const buffer = this.memorySource.acquire(paddedBytes(size));
          const view = { ...spec, size, buffer, byteOffset: 0, byteLength: paddedBytes(size) };
          scratch.push(view);
          return view;
        },
        dispatch: (dispatch) => this.dispatch(work, dispatch),
      });
    } catch (error) {
      if (recording === undefined) this.queue.abandon(work, error as Error);
      throw error;
    } finally {
      // In order with later commands, so scratch may be handed out again at once.
      for (const { buffer } of scratch) this.memorySource.release(buffer);
    }
    if (typeof params === "function") {
      recording?.reparameterise(first, scratch, (nextScratch, dispatch) =>
        kernel.webgpu({ ...call, params: valueNow(params), scratch: nextScratch, dispatch }),
      );
    }
    this.queue.submitMuch();
  }

  /** @internal */
  override byproducts<Params>(kernel: Kernel<Params>, params: Params): Readonly<Record<string, Spec>> {
    return kernel.byproducts?.(params, this.profile) ?? {};
  }

  /** @internal */
  override record(fn: () => readonly Tensor[]): RecordedStep | undefined {
    this.queue.checkOpen();
    if (this.recording !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        "record: a step is being recorded already; a recorded step cannot hold another",
      );
    }
    // Waiting for what is still being compiled is not for a synchronous function; the caller runs the step as it is.
    if (!this.queue.submitIfReady()) return undefined;
    const { gpu, profile, pool, programs, queue } = this;
    const step = new GpuStep(
      { gpu, profile, pool, programs, queue },
      new ParameterBlock(gpu.limits.minUniformBufferOffsetAlignment, 4096),
    );
    this.recording = step;
    try {
      const outputs = fn();
      this.recording = undefined;
      this.programs.compileNow(step.commands);
      for (const { call, program } of step.commands)
        if (program.fault !== undefined) throw callError(call, program.fault);
      // Its memory is planned anew: what earlier runs left is of no use to it.
      if (pool.memory().pooledBytes >= MOST_LEFT) this.trim();
      step.complete(outputs);
    } catch (error) {
      this.recording = undefined;
      step.dispose();
      throw error;
    }
    return step;
  }

  /** @internal */
  override firstRun<T>(fn: () => T): T {
    this.queue.checkOpen();
    if (this.recording !== undefined || this.queue.firstRun !== undefined) return fn();
    this.queue.plan(this.pool, (bytes, used) => this.checkMemory(bytes, used));
    try {
      return fn();
    } finally {
      this.queue.settle();
      this.queue.submitMuch();
    }
  }

  /** @internal */
  override everyTime(effect: () => void): void {
    effect();
    this.recording?.everyTime(effect);
  }

  /** @internal */
  async read(storage: Storage): Promise<TypedArray> {
    this.queue.checkOpen();
    if (this.recording !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        "read: a step that is being recorded cannot wait for results; read them after it",
      );
    }
    this.queue.settle();
    return this.readback.read(storage as GpuStorage);
  }

  async flush(): Promise<void> {
    await this.queue.flush();
  }

  async sync(): Promise<void> {
    await this.queue.sync();
  }

  /**
   * Times every dispatch while `fn` runs: kernels by time and shapes, longest first. For looking, not for running: each
   * dispatch gets a pass of its own. Needs the adapter's "timestamp-query"; exact when opened with `{ profiling: true
   * }`.
   */
  timeDispatches(fn: () => void | Promise<void>): Promise<KernelTime[]> {
    return this.timed("dispatch", fn, (timer) => timer.kernels());
  }

  /**
   * Milliseconds that the adapter spends in passes while `fn` runs: those that there are, or one for every dispatch as
   * it is launched. Needs, and is exact, as `timeDispatches`.
   */
  timePasses(fn: () => void | Promise<void>, each: "pass" | "launch" = "pass"): Promise<number> {
    return this.timed(each, fn, (timer) => timer.total());
  }

  private async timed<T>(
    each: DispatchTimer["each"],
    fn: () => void | Promise<void>,
    report: (timer: DispatchTimer) => Promise<T>,
  ): Promise<T> {
    if (!this.gpu.features.has("timestamp-query")) {
      throw new DeviceError("LIMIT", "profile: this adapter has no timestamp queries");
    }
    await this.sync();
    const { DispatchTimer } = await import("./timer.js");
    const timer = new DispatchTimer(this.gpu, each);
    this.queue.timer = timer;
    try {
      await fn();
      await this.sync();
      return await report(timer);
    } finally {
      this.queue.timer = undefined;
      timer.destroy();
    }
  }

  memory(): MemoryInfo {
    return this.pool.memory();
  }

  /** Destroys the buffers that are kept for reuse, e.g. after a model was dropped. */
  trim(): void {
    this.pool.trim(this.queue.submitNumber - 1);
  }

  destroy(): void {
    if (this.queue.isClosed) return;
    this.queue.close();
    this.surroundings.compileAhead?.destroy();
    this.pool.destroy();
    this.readback.destroy();
    const { giveBack } = this.surroundings;
    if (giveBack === undefined || this.queue.isLost) this.gpu.destroy();
    else giveBack();
  }

  /** Called by a storage whose last reference went. @internal */
  recycle(buffer: PooledBuffer): void {
    if (this.queue.isClosed) return;
    if (this.recording !== undefined) this.recording.release(buffer);
    else if (!buffer.planned || this.queue.firstRun?.has(buffer)) this.memorySource.release(buffer);
  }

  /** Where memory comes from: the pool, or the step that is being recorded or runs for the first time. */
  private get memorySource(): Pick<BufferPool, "acquire" | "release"> {
    return this.recording ?? this.queue.firstRun ?? this.pool;
  }

  /** Memory for the pool. What it keeps for reuse makes room first. @throws DeviceError */
  private createMemory(bytes: number): GPUBuffer {
    const create = () =>
      attempt(this.faults, () =>
        this.gpu.createBuffer({
          size: bytes,
          usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
        }),
      );
    const held = () => {
      const { liveBytes, pooledBytes } = this.pool.memory();
      return liveBytes + pooledBytes;
    };
    if (held() + bytes > this.memoryBytes) this.trim();
    this.checkMemory(bytes, held());
    let { value, fault } = create();
    if (fault !== undefined) {
      this.trim();
      ({ value, fault } = create());
    }
    if (fault !== undefined) throw noMemory(bytes, held(), fault.reason);
    return value;
  }

  private get memoryBytes(): number {
    return this.profile.memoryBytes ?? Number.POSITIVE_INFINITY;
  }

  /** @throws DeviceError where a buffer cannot be so large, or the machine has no such memory beside what is used */
  private checkMemory(bytes: number, used: number): void {
    const { maxBufferSize } = this.gpu.limits;
    if (bytes > maxBufferSize) {
      throw new DeviceError(
        "LIMIT",
        `allocate: a buffer may hold at most ${maxBufferSize} bytes on this adapter, ${bytes} were asked for; use a smaller batch or model`,
      );
    }
    if (used + bytes > this.memoryBytes) throw noMemory(bytes, used, `the machine has ${this.memoryBytes}`);
  }

  private dispatch(call: KernelCall, dispatch: Dispatch): void {
    const { kernel } = call;
    const [x, y = 1, z = 1] = dispatch.workgroups;
    if (x === 0 || y === 0 || z === 0) return;
    if (Math.max(x, y, z) > MAX_WORKGROUPS) {
      throw new DeviceError(
        "LIMIT",
        `internal: ${kernel} dispatches ${x} x ${y} x ${z} workgroups; fold with gridOf()`,
      );
    }
    const { recording, programs, queue } = this;
    if (recording === undefined) queue.makeRoom();
    for (const { view, name, access } of dispatch.bindings) {
      if (view.byteLength > this.profile.maxBindingBytes) {
        throw new DeviceError(
          "LIMIT",
          `${kernel}: "${name}" takes ${view.byteLength} bytes and this adapter binds at most ${this.profile.maxBindingBytes}; use a smaller batch or tensor`,
        );
      }
      view.buffer.used(this.queue.submitNumber);
      if (access === "read_write") recording?.overwrites(view.buffer);
    }
    if (recording !== undefined) {
      recording.commands.push(programs.command(call, withSharedAccess(dispatch), recording.parameters));
    } else {
      const command = programs.command(call, withSharedAccess(dispatch), queue.parameters);
      if (queue.firstRun === undefined) command.bindGroup = programs.cachedBindGroup(command);
      queue.add(command);
      countKernel(this.counters, kernel);
    }
    call.dispatches++;
  }

  private constant(key: string, make: () => Float32Array | Uint32Array | Int32Array): GpuView {
    let view = this.constants.get(key);
    if (view === undefined) {
      const data = make();
      const buffer = this.pool.acquire(paddedBytes(data.length), this.queue.submitNumber - 1);
      this.gpu.queue.writeBuffer(buffer.gpu, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      const dtype = data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";
      view = {
        shape: [data.length],
        dtype,
        size: data.length,
        buffer,
        byteOffset: 0,
        byteLength: paddedBytes(data.length),
      };
      this.constants.set(key, view);
    }
    return view;
  }
}

const noMemory = (bytes: number, used: number, reason: string) =>
  new DeviceError(
    "OUT_OF_MEMORY",
    `allocate: there is no memory for ${bytes} bytes more, ${used} are in use on this device (${reason}); use a smaller batch or model, or free tensors`,
  );

const contentOf = ({ storage }: Tensor): Content => (storage as GpuStorage).content;

/** Views of parts that follow each other, as one. */
function joinedView(views: readonly GpuView[]): GpuView | undefined {
  const [first] = views;
  const whole = first?.buffer.whole;
  if (first === undefined || whole === undefined || first.byteOffset !== 0) return undefined;
  if (views.some((view, i) => i > 0 && !follows(views[i - 1]!, view))) return undefined;
  const last = views.at(-1)!;
  const byteOffset = first.buffer.offset - whole.offset;
  const byteLength = last.buffer.offset + last.byteLength - first.buffer.offset;
  const size = byteLength / 4;
  return { shape: [size], dtype: first.dtype, size, buffer: whole, byteOffset, byteLength };
}

function viewOf(tensor: Tensor): GpuView {
  return {
    shape: tensor.shape,
    dtype: tensor.dtype,
    size: tensor.size,
    buffer: (tensor.storage as GpuStorage).buffer,
    byteOffset: 0,
    byteLength: paddedBytes(tensor.size),
  };
}
