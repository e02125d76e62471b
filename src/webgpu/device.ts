// The WebGPU device: records kernels into a queue of commands, hands it over in large submits, and reads results back.
// Pipelines are compiled asynchronously from the moment a program is first recorded; a submit waits for all it needs.
import { wait } from "../runtime/runtime.js";
import {
  type Changing,
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
import {
  type Access,
  bindGroupEntries,
  boundViews,
  type Command,
  type CopyCommand,
  type DispatchCommand,
  encode,
  type KernelCall,
  MOST_PARAMETERS,
  PARAMETER_BINDING,
  PARAMETER_LAYOUT,
  ParameterBlock,
  type Program,
  withSharedAccess,
} from "./commands.js";
import type { CompileAhead } from "./compile-ahead.js";
import type { TuningProfile } from "./family.js";
import { attempt, type Content, callError, type Fault, type FaultSink, listen } from "./faults.js";
import { BufferPool, type PooledBuffer, partBytes } from "./pool.js";
import {
  type Dispatch,
  follows,
  type GpuView,
  MAX_WORKGROUPS,
  overlap,
  paddedBytes,
  positionOf,
  programKey,
  programSource,
} from "./program.js";
import { WebGpuPlan } from "./recorded/step.js";
import type { SharedGpu } from "./shared.js";
import { DispatchTimer, type KernelTime } from "./timer.js";

/** Commands after which recorded work is submitted without being asked, so that the adapter does not idle. */
const COMMANDS_PER_SUBMIT = 96;
/** Bytes of dispatch parameters per submit. */
const PARAMETER_BYTES = 65536;
/**
 * Elements of a tensor beyond which it is not placed beside others: a dispatch for it alone costs little in comparison.
 */
const MOST_ELEMENTS_TOGETHER = 2 ** 20;
/** Bind groups kept per program; beyond that the program's cache starts anew. */
const BIND_GROUPS_PER_PROGRAM = 512;

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

export class WebGpuDevice extends Device {
  readonly kind = "webgpu";
  /** As many as a buffer of this adapter holds, and an i32 index reaches. */
  readonly mostElements: number;
  override readonly precision: Precision;
  private readonly pool: BufferPool;
  private readonly programs: Map<string, Program>;
  private readonly layouts: Map<string, GPUBindGroupLayout>;
  private readonly constants = new Map<string, GpuView>();
  private readonly parameterLayout: GPUBindGroupLayout;
  private readonly parameterBuffer: GPUBuffer;
  private readonly parameterGroup: GPUBindGroup;
  private readonly parameters: ParameterBlock;
  private commands: Command[] = [];
  /** Number of the submit that the recorded commands will be part of. */
  private submitNumber = 1;
  /** What no call caused that is known; raised at the next one. */
  private failure: Error | undefined;
  /** Errors of calls whose results nobody has read so far; raised by sync and flush. */
  private readonly unread = new Set<DeviceError>();
  /** Some call failed since the device was opened. */
  private hasFailed = false;
  private readonly faults: FaultSink;
  private closed = false;
  private staging: GPUBuffer | undefined;
  /** All that reads copy into, kept or in use. */
  private readonly stagings = new Set<GPUBuffer>();
  private timer: DispatchTimer | undefined;
  /** The step that is being recorded. */
  private recording: WebGpuPlan | undefined;

  constructor(
    /** Kept referenced for the life of the device: Dawn's Node bindings need it. */
    readonly adapter: GPUAdapter,
    readonly gpu: GPUDevice,
    readonly profile: TuningProfile,
    private readonly surroundings: Surroundings = {},
  ) {
    super();
    this.programs = surroundings.shared?.programs ?? new Map();
    this.layouts = surroundings.shared?.layouts ?? new Map();
    this.precision = profile.matrices === undefined ? "float32" : "mixed";
    this.mostElements = Math.min(2 ** 31, Math.floor(gpu.limits.maxBufferSize / BYTES_PER_ELEMENT));
    this.pool = new BufferPool((bytes) => this.createMemory(bytes));
    this.parameters = new ParameterBlock(gpu.limits.minUniformBufferOffsetAlignment, PARAMETER_BYTES);
    this.faults = listen(gpu);
    this.faults.report = ({ code, reason }) => this.fail(new DeviceError(code, `webgpu: ${reason}`));
    this.faults.lost = (info) =>
      this.fail(new DeviceError("DEVICE_LOST", `webgpu: the device was lost (${info.reason}): ${info.message}`));
    this.parameterLayout = gpu.createBindGroupLayout(PARAMETER_LAYOUT);
    this.parameterBuffer = gpu.createBuffer({
      size: PARAMETER_BYTES + PARAMETER_BINDING,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.parameterGroup = gpu.createBindGroup({
      layout: this.parameterLayout,
      entries: [{ binding: 0, resource: { buffer: this.parameterBuffer, size: PARAMETER_BINDING } }],
    });
  }

  /** What was compiled so far, for benchmarks. */
  get compiled(): readonly Program[] {
    return [...this.programs.values()];
  }

  allocate(dtype: DType, size: number): Storage {
    this.checkOpen();
    const storage = new GpuStorage(this, dtype, size, this.memorySource.acquire(paddedBytes(size)));
    this.recording?.allocated(storage);
    return storage;
  }

  write(storage: Storage, values: ArrayLike<number>): void {
    this.checkOpen();
    const target = storage as GpuStorage;
    if (values.length === 0) return;
    this.recording?.mustOwn(target);
    // A queue write lands before everything not yet submitted: give the storage a buffer that nothing pending uses.
    if (target.buffer.lastUse >= this.submitNumber) {
      this.memorySource.release(target.buffer);
      target.buffer = this.memorySource.acquire(target.buffer.bytes, this.submitNumber - 1);
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

  override placeTogether(storages: readonly Storage[]): void {
    this.checkOpen();
    if (this.recording !== undefined) return;
    let group: GpuStorage[] = [];
    let bytes = 0;
    for (const storage of storages as readonly GpuStorage[]) {
      const { size, buffer } = storage;
      if (size > MOST_ELEMENTS_TOGETHER || buffer.planned || buffer.whole !== undefined) continue;
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
    const parts = this.pool.acquireParts(sizes);
    storages.forEach((storage, i) => {
      const [from, to] = [storage.buffer, parts[i]!];
      for (const buffer of [from, to]) buffer.used(this.submitNumber);
      this.commands.push({
        ...{ kind: "copy", from: from.gpu, fromOffset: from.offset, to: to.gpu, toOffset: to.offset },
        bytes: sizes[i]!,
      });
      storage.buffer = to;
      // In order with later commands, so it may be handed out again at once.
      this.pool.release(from);
    });
  }

  run<Params>(
    kernel: Kernel<Params>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    params: Changing<Params>,
  ): void {
    this.checkOpen();
    const { recording, profile } = this;
    const scratch: GpuView[] = [];
    const call = {
      inputs: inputs.map(viewOf),
      outputs: outputs.map(viewOf),
      profile,
      constant: (key: string, make: () => Float32Array | Uint32Array | Int32Array) =>
        this.constant(`${kernel.name}/${key}`, make),
      joined: (views: readonly GpuView[]) =>
        joinedView(views) ?? (recording?.join(views) ? joinedView(views) : undefined),
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
    if (recording !== undefined) for (const { error } of reads) if (error !== undefined) this.raiseCall(error);
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
      this.abandon(work, error as Error);
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
    if (this.commands.length >= COMMANDS_PER_SUBMIT) this.submitIfReady();
  }

  /** A call threw: none of its dispatches shall run. What those wrote that were submitted already is lost. */
  private abandon(call: KernelCall, { message }: Error): void {
    const { length } = this.commands;
    this.commands = this.commands.filter((command) => command.kind !== "dispatch" || command.call !== call);
    if (this.recording !== undefined || length - this.commands.length === call.dispatches) return;
    this.book(callError(call, { code: "VALIDATION", reason: message }), call);
    for (const content of call.writes) content.error ??= call.error;
  }

  override byproducts<Params>(kernel: Kernel<Params>, params: Params): Readonly<Record<string, Spec>> {
    return kernel.byproducts?.(params, this.profile) ?? {};
  }

  override record(fn: () => readonly Tensor[]): RecordedStep | undefined {
    this.checkOpen();
    if (this.recording !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        "record: a step is being recorded already; a recorded step cannot hold another",
      );
    }
    // Waiting for what is still being compiled is not for a synchronous function; the caller runs the step as it is.
    if (!this.submitIfReady()) return undefined;
    const plan = new WebGpuPlan(
      {
        gpu: this.gpu,
        pool: this.pool,
        profile: this.profile,
        parameterLayout: this.parameterLayout,
        timer: () => this.timer,
        prepare: () => {
          this.checkOpen();
          this.submitBlocking();
        },
        command: (call, dispatch, parameters) => this.commandOf(call, dispatch, parameters),
        bind: (command) => {
          command.bindGroup = this.bindGroupOf(command);
        },
        isPrepared: (kernel, dispatch) => this.programs.get(programKey(kernel, dispatch))?.prepared === true,
        compileAhead: (programs) => this.prepare(programs),
        attempt: (fn) => attempt(this.faults, fn).fault,
        raiseCall: (error) => this.raiseCall(error),
        fail: (error) => this.fail(error),
        submitted: (commands, dispatches) => this.submitted(commands, dispatches),
      },
      new ParameterBlock(this.gpu.limits.minUniformBufferOffsetAlignment, 4096),
    );
    this.recording = plan;
    try {
      const outputs = fn();
      this.recording = undefined;
      this.compileNow(plan.commands);
      for (const { call, program } of plan.commands)
        if (program.fault !== undefined) throw callError(call, program.fault);
      plan.complete(outputs);
    } catch (error) {
      this.recording = undefined;
      plan.dispose();
      throw error;
    }
    return plan;
  }

  override everyTime(effect: () => void): void {
    effect();
    this.recording?.everyTime(effect);
  }

  async read(storage: Storage): Promise<TypedArray> {
    this.checkOpen();
    if (this.recording !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        "read: a step that is being recorded cannot wait for results; read them after it",
      );
    }
    const { size, dtype, buffer, content } = storage as GpuStorage;
    if (size === 0) return deviceArray(dtype, []);
    const bytes = size * 4;
    const staging = this.takeStaging(bytes);
    try {
      const copy: CopyCommand = {
        ...{ kind: "copy", from: buffer.gpu, fromOffset: buffer.offset, to: staging, toOffset: 0, bytes, content },
      };
      this.commands.push(copy);
      buffer.used(this.submitNumber);
      await this.handOver();
      if (copy.error !== undefined) this.raiseCall(copy.error);
      await wait(staging.mapAsync(GPUMapMode.READ, 0, bytes)).catch((cause: unknown) => {
        if (this.closed) throw new DeviceError("CLOSED", "read: the device was destroyed meanwhile", { cause });
        throw this.failure ?? new DeviceError("DEVICE_LOST", "webgpu: reading back failed", { cause });
      });
      this.raise();
      const data = staging.getMappedRange(0, bytes).slice(0);
      staging.unmap();
      this.returnStaging(staging);
      return dtype === "f32" ? new Float32Array(data) : dtype === "i32" ? new Int32Array(data) : new Uint32Array(data);
    } catch (error) {
      this.dropStaging(staging);
      throw error;
    }
  }

  /** Submits all recorded work, waiting only for pipelines that are still being compiled. Raises what went wrong. */
  async flush(): Promise<void> {
    await this.handOver();
    this.raiseUnread();
  }

  /** As flush, but errors of calls are left to those who read their results. */
  private async handOver(): Promise<void> {
    this.raise();
    while (this.commands.length > 0) {
      const compiling = this.commands.flatMap((c) =>
        c.kind === "dispatch" && isCompiling(c.program) ? [c.program] : [],
      );
      if (compiling.length > 0) {
        await wait(Promise.all(compiling.map((program) => program.ready)));
        this.raise();
      } else {
        this.submit();
      }
    }
    this.raise();
  }

  async sync(): Promise<void> {
    await this.handOver();
    await wait(this.gpu.queue.onSubmittedWorkDone()).catch((cause: unknown) => {
      throw this.failure ?? new DeviceError("DEVICE_LOST", "webgpu: waiting for the queue failed", { cause });
    });
    this.raise();
    this.raiseUnread();
  }

  /**
   * Times every dispatch while `fn` runs: kernels by time and shapes, longest first. For looking, not for running: each
   * dispatch gets a pass of its own. Needs the adapter's "timestamp-query"; exact when opened with `{ profiling: true
   * }`.
   */
  profileDispatches(fn: () => void | Promise<void>): Promise<KernelTime[]> {
    return this.timed("dispatch", fn, (timer) => timer.kernels());
  }

  /**
   * Milliseconds that the adapter spends in passes while `fn` runs: those that there are, or one for every dispatch as
   * it is launched. Needs, and is exact, as `profileDispatches`.
   */
  profilePasses(fn: () => void | Promise<void>, each: "pass" | "launch" = "pass"): Promise<number> {
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
    const timer = new DispatchTimer(this.gpu, each);
    this.timer = timer;
    try {
      await fn();
      await this.sync();
      return await report(timer);
    } finally {
      this.timer = undefined;
      timer.destroy();
    }
  }

  memory(): MemoryInfo {
    return this.pool.memory();
  }

  /** Destroys the buffers that are kept for reuse, e.g. after a model was dropped. */
  trim(): void {
    this.pool.trim(this.submitNumber - 1);
  }

  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    this.commands = [];
    this.surroundings.compileAhead?.destroy();
    // What is said of a destroyed device is nobody's.
    this.faults.report = undefined;
    this.faults.lost = undefined;
    this.pool.destroy();
    this.parameterBuffer.destroy();
    for (const staging of this.stagings) staging.destroy();
    const { giveBack } = this.surroundings;
    if (giveBack === undefined || isLoss(this.failure)) this.gpu.destroy();
    else giveBack();
  }

  /** Called by a storage whose last reference went. */
  recycle(buffer: PooledBuffer): void {
    if (this.closed) return;
    if (this.recording !== undefined) this.recording.release(buffer);
    else if (!buffer.planned) this.pool.release(buffer);
  }

  /** Where memory comes from: the pool, or the step that is being recorded. */
  private get memorySource(): Pick<BufferPool, "acquire" | "release"> {
    return this.recording ?? this.pool;
  }

  private checkOpen(): void {
    if (this.closed) throw new DeviceError("CLOSED", "webgpu device: used after destroy(); open a new device");
    this.raise();
  }

  private fail(error: Error): void {
    this.failure ??= error;
  }

  /** Raises a failure of the device; a lost device stays failed, other errors are raised once. */
  private raise(): void {
    const { failure } = this;
    if (failure === undefined) return;
    if (isLoss(failure)) this.commands = [];
    else this.failure = undefined;
    throw failure;
  }

  /** Raises the error of a call, whoever asked for its results. */
  private raiseCall(error: DeviceError): never {
    this.unread.delete(error);
    throw error;
  }

  /** Raises the first error of a call whose results nobody read; the others go with it. */
  private raiseUnread(): void {
    const [first] = this.unread;
    this.unread.clear();
    if (first !== undefined) throw first;
  }

  /** Memory for the pool. What it keeps for reuse makes room first. @throws DeviceError */
  private createMemory(bytes: number): GPUBuffer {
    const { maxBufferSize } = this.gpu.limits;
    if (bytes > maxBufferSize) {
      throw new DeviceError(
        "LIMIT",
        `allocate: a buffer may hold at most ${maxBufferSize} bytes on this adapter, ${bytes} were asked for; use a smaller batch or model`,
      );
    }
    const create = () =>
      attempt(this.faults, () =>
        this.gpu.createBuffer({
          size: bytes,
          usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
        }),
      );
    const { memoryBytes = Number.POSITIVE_INFINITY } = this.profile;
    const held = () => {
      const { liveBytes, pooledBytes } = this.pool.memory();
      return liveBytes + pooledBytes;
    };
    const refuse = (reason: string) =>
      new DeviceError(
        "OUT_OF_MEMORY",
        `allocate: there is no memory for ${bytes} bytes more, ${held()} are in use on this device (${reason}); use a smaller batch or model, or free tensors`,
      );
    if (held() + bytes > memoryBytes) this.trim();
    if (held() + bytes > memoryBytes) throw refuse(`the machine has ${memoryBytes}`);
    let { value, fault } = create();
    if (fault !== undefined) {
      this.trim();
      ({ value, fault } = create());
    }
    if (fault !== undefined) throw refuse(fault.reason);
    return value;
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
    // A submit holds a fixed number of parameter bytes: hand over before they run out.
    const { recording } = this;
    if (recording === undefined && this.parameters.bytes + PARAMETER_BINDING > PARAMETER_BYTES) this.submitBlocking();
    for (const { view, name, access } of dispatch.bindings) {
      if (view.byteLength > this.profile.maxBindingBytes) {
        throw new DeviceError(
          "LIMIT",
          `${kernel}: "${name}" takes ${view.byteLength} bytes and this adapter binds at most ${this.profile.maxBindingBytes}; use a smaller batch or tensor`,
        );
      }
      view.buffer.used(this.submitNumber);
      if (access === "read_write") recording?.overwrites(view.buffer);
    }
    const commands: Command[] = recording?.commands ?? this.commands;
    const command = this.commandOf(call, withSharedAccess(dispatch), recording?.parameters ?? this.parameters);
    if (recording === undefined) command.bindGroup = this.cachedBindGroup(command);
    commands.push(command);
    call.dispatches++;
    if (recording === undefined) this.count(kernel);
  }

  /** Gets a dispatch ready to be encoded, its parameters in their block, but for its bind group. */
  private commandOf(call: KernelCall, dispatch: Dispatch, parameters: ParameterBlock): DispatchCommand {
    const program = this.programOf(call, dispatch);
    const parameterOffset = parameters.append(dispatch, program.parameterNames);
    const bound = boundViews(dispatch);
    return { kind: "dispatch", call, dispatch, program, bindGroup: undefined, bound, parameterOffset };
  }

  private cachedBindGroup(command: DispatchCommand): GPUBindGroup {
    const { program, bound } = command;
    let bindGroup = program.bindGroups.get(bound);
    if (bindGroup === undefined) {
      if (program.bindGroups.size >= BIND_GROUPS_PER_PROGRAM) program.bindGroups.clear();
      bindGroup = this.bindGroupOf(command);
      program.bindGroups.set(bound, bindGroup);
    }
    return bindGroup;
  }

  private bindGroupOf({ call, program, dispatch }: DispatchCommand): GPUBindGroup {
    checkAliases(program.kernel, dispatch);
    const { value, fault } = attempt(this.faults, () =>
      this.gpu.createBindGroup({
        label: program.key,
        layout: program.layout,
        entries: dispatch.bindings.map(({ view }, binding) => ({
          binding,
          resource: { buffer: view.buffer.gpu, offset: positionOf(view), size: view.byteLength },
        })),
      }),
    );
    if (fault !== undefined) throw callError(call, fault);
    return value;
  }

  /** @throws DeviceError where its WGSL is wrong, as far as that is said at once */
  private programOf(call: KernelCall, dispatch: Dispatch): Program {
    const { kernel } = call;
    const key = programKey(kernel, dispatch);
    const known = this.programs.get(key);
    if (known?.fault !== undefined) throw callError(call, known.fault);
    if (known !== undefined) return known;
    const text = dispatch.program();
    const code = programSource(dispatch, text);
    const parameterNames = Object.keys(dispatch.sizes ?? {}).length + Object.keys(dispatch.numbers ?? {}).length;
    if (parameterNames > MOST_PARAMETERS) {
      throw new DeviceError(
        "LIMIT",
        `internal: ${kernel} has ${parameterNames} parameters, at most ${MOST_PARAMETERS} fit`,
      );
    }
    const accesses = dispatch.bindings.map(({ access }) => access ?? "read");
    const layout = this.layoutOf(accesses);
    // What is said later of a text is to be told from the error of its pipeline, which does not tell.
    const { reportsLater = false } = this.surroundings;
    if (reportsLater) this.gpu.pushErrorScope("validation");
    const { value: module, fault } = attempt(this.faults, () => this.gpu.createShaderModule({ code, label: key }));
    const diagnosis = reportsLater ? this.gpu.popErrorScope() : undefined;
    if (fault !== undefined) throw callError(call, { ...fault, reason: doesNotCompile(key, fault.reason) });
    const descriptor: GPUComputePipelineDescriptor = {
      label: key,
      layout: this.gpu.createPipelineLayout({
        bindGroupLayouts: parameterNames > 0 ? [layout, this.parameterLayout] : [layout],
      }),
      compute: { module, entryPoint: "main" },
    };
    const program: Program = {
      key,
      kernel,
      text,
      code,
      accesses,
      descriptor,
      layout,
      parameterNames,
      bindGroups: new Map(),
      pipeline: undefined,
      ready: Promise.resolve(),
      fault: undefined,
    };
    const { stack } = new Error();
    program.ready = this.gpu.createComputePipelineAsync(descriptor).then(
      (pipeline) => {
        program.pipeline = pipeline;
      },
      async (cause: Error) => {
        const { message } = (await diagnosis) ?? cause;
        program.fault ??= { code: "VALIDATION", reason: doesNotCompile(key, message), cause, origin: { call, stack } };
      },
    );
    this.programs.set(key, program);
    return program;
  }

  /** One bind group layout per sequence of access modes. */
  private layoutOf(accesses: readonly Access[]): GPUBindGroupLayout {
    const key = accesses.join();
    let layout = this.layouts.get(key);
    if (layout === undefined) {
      layout = this.gpu.createBindGroupLayout({ entries: bindGroupEntries(accesses) });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private constant(key: string, make: () => Float32Array | Uint32Array | Int32Array): GpuView {
    let view = this.constants.get(key);
    if (view === undefined) {
      const data = make();
      const buffer = this.pool.acquire(paddedBytes(data.length), this.submitNumber - 1);
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

  /** Submits when nothing is left to compile; otherwise the next flush does. */
  private submitIfReady(): boolean {
    const ready = this.commands.every((c) => c.kind !== "dispatch" || !isCompiling(c.program));
    if (ready) this.submit();
    return ready;
  }

  /** Submits now, compiling on this thread what is not there yet. */
  private submitBlocking(): void {
    this.compileNow(this.commands);
    this.submit();
  }

  private compileNow(commands: readonly Command[]): void {
    for (const command of commands) {
      if (command.kind !== "dispatch" || !isCompiling(command.program)) continue;
      const { program } = command;
      const { value, fault } = attempt(this.faults, () => this.gpu.createComputePipeline(program.descriptor));
      if (fault === undefined) program.pipeline = value;
      else program.fault = { ...fault, reason: doesNotCompile(program.key, fault.reason) };
    }
  }

  private submit(): void {
    if (this.commands.length === 0) return;
    const commands = this.runnable(this.commands);
    this.commands = [];
    if (this.parameters.bytes > 0) this.gpu.queue.writeBuffer(this.parameterBuffer, 0, this.parameters.data);
    // Nothing of a submit with a fault in it is executed: it is handed over call by call, to lose that one alone.
    if (this.handedOver(commands) !== undefined) {
      for (const part of byCall(commands)) {
        const rest = this.runnable(part);
        const fault = rest.length > 0 ? this.handedOver(rest) : undefined;
        if (fault !== undefined) this.lose(rest, fault);
      }
    }
    this.surroundings.compileAhead?.submitted(
      commands.flatMap((command) => (command.kind === "dispatch" ? [command.program] : [])),
      () => this.gpu.queue.onSubmittedWorkDone(),
    );
    this.counters.submits++;
    this.parameters.bytes = 0;
    this.submitNumber++;
  }

  /** Encodes and submits; what is wrong with it, if anything is. */
  private handedOver(commands: readonly Command[]): Fault | undefined {
    return attempt(this.faults, () => {
      const encoder = this.gpu.createCommandEncoder();
      encode(encoder, commands, this.parameterGroup, this.timer);
      this.gpu.queue.submit([encoder.finish()]);
    }).fault;
  }

  /** The commands without those of calls that failed, or that need what such calls should have computed. */
  private runnable(commands: readonly Command[]): readonly Command[] {
    const failed = (command: Command) => command.kind === "dispatch" && command.program.fault !== undefined;
    if (!this.hasFailed && !commands.some(failed)) return commands;
    return commands.filter((command) => {
      if (command.kind === "copy") {
        if (command.content?.error !== undefined) command.error = command.content.error;
        return command.error === undefined;
      }
      const { call, program } = command;
      call.error ??= call.reads.find(({ error }) => error !== undefined)?.error;
      if (call.error === undefined && program.fault !== undefined) this.book(callError(call, program.fault), call);
      for (const content of call.writes) content.error ??= call.error;
      return call.error === undefined;
    });
  }

  /** The commands of one call could not be submitted. */
  private lose(commands: readonly Command[], fault: Fault): void {
    for (const command of commands) {
      if (command.kind === "copy") {
        command.error = new DeviceError(fault.code, `read: ${fault.reason}`);
        continue;
      }
      const { call } = command;
      if (call.error === undefined) this.book(callError(call, fault), call);
      for (const content of call.writes) content.error ??= call.error;
    }
  }

  /** A call failed, and its results will tell. */
  private book(error: DeviceError, call: KernelCall): void {
    call.error = error;
    this.hasFailed = true;
    this.unread.add(error);
  }

  /** See PlanHost.compileAhead. */
  private async prepare(programs: readonly Program[]): Promise<boolean> {
    await Promise.all(programs.map(({ ready }) => ready));
    for (const { kernel, fault } of programs) {
      if (fault !== undefined) throw new DeviceError(fault.code, `${kernel}: ${fault.reason}`, { cause: fault.cause });
    }
    const prepared =
      this.surroundings.compileAhead === undefined || (await this.surroundings.compileAhead.prepare(programs));
    for (const program of programs) program.prepared = prepared;
    return prepared;
  }

  /** Books a submit of a recorded step, whose commands were put into so many dispatches. */
  private submitted(commands: readonly DispatchCommand[], dispatches: number): void {
    for (const { program } of commands) this.count(program.kernel);
    this.counters.dispatches += dispatches - commands.length;
    this.counters.submits++;
    this.submitNumber++;
  }

  private takeStaging(bytes: number): GPUBuffer {
    const kept = this.staging;
    this.staging = undefined;
    if (kept !== undefined && kept.size >= bytes) return kept;
    if (kept !== undefined) this.dropStaging(kept);
    const staging = this.gpu.createBuffer({
      size: Math.max(4096, Math.ceil(bytes / 4096) * 4096),
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    this.stagings.add(staging);
    return staging;
  }

  /** Keeps the larger of two staging buffers up to 64 MiB for the next read. */
  private returnStaging(staging: GPUBuffer): void {
    const { staging: kept } = this;
    if (staging.size > 2 ** 26 || (kept !== undefined && kept.size >= staging.size)) this.dropStaging(staging);
    else {
      if (kept !== undefined) this.dropStaging(kept);
      this.staging = staging;
    }
  }

  private dropStaging(staging: GPUBuffer): void {
    staging.destroy();
    this.stagings.delete(staging);
  }
}

const isLoss = (error: Error | undefined) => error instanceof DeviceError && error.code === "DEVICE_LOST";

const isCompiling = ({ pipeline, fault }: Program) => pipeline === undefined && fault === undefined;

const doesNotCompile = (key: string, message: string) => `its WGSL did not compile (${key}): ${message}`;

/** Runs of commands of one call; copies alone. */
function byCall(commands: readonly Command[]): Command[][] {
  const parts: Command[][] = [];
  let last: KernelCall | undefined;
  for (const command of commands) {
    const call = command.kind === "dispatch" ? command.call : undefined;
    if (call !== undefined && call === last) parts.at(-1)!.push(command);
    else parts.push([command]);
    last = call;
  }
  return parts;
}

const contentOf = ({ storage }: Tensor): Content => (storage as GpuStorage).content;

/**
 * WebGPU rejects a whole submit in which a dispatch writes a buffer that it also binds elsewhere: say which dispatch.
 */
function checkAliases(kernel: string, { bindings }: Dispatch): void {
  for (const { name, view, access } of bindings) {
    if (access !== "read_write") continue;
    const other = bindings.find((b) => b.name !== name && overlap(b.view, view));
    if (other !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        `${kernel}: "${name}" is written and must not share memory with "${other.name}"; pass two tensors`,
      );
    }
  }
}

/** Views of parts that follow each other, as one. */
function joinedView(views: readonly GpuView[]): GpuView | undefined {
  const [first] = views;
  const whole = first?.buffer.whole;
  if (first === undefined || whole === undefined || first.byteOffset !== 0) return undefined;
  if (views.some((view, i) => i > 0 && !follows(views[i - 1]!, view))) return undefined;
  const last = views.at(-1)!;
  const byteOffset = first.buffer.offset;
  const byteLength = last.buffer.offset + last.byteLength - byteOffset;
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
