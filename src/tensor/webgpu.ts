// The WebGPU device: records kernels into a queue of commands, hands it over in large submits, and reads results back.
// Pipelines are compiled asynchronously from the moment a program is first recorded; a submit waits for all it needs.
import {
  type Changing,
  Device,
  type MemoryInfo,
  type Precision,
  type RecordedStep,
  Storage,
  valueNow,
} from "./device.js";
import { BYTES_PER_ELEMENT, type DType, deviceArray, type Spec, type TypedArray } from "./dtype.js";
import { DeviceError } from "./errors.js";
import type { Kernel } from "./kernel.js";
import type { Tensor } from "./tensor.js";
import { wait } from "./wait.js";
import {
  type Access,
  bindGroupEntries,
  boundViews,
  type Command,
  type DispatchCommand,
  encode,
  type KernelCall,
  PARAMETER_BINDING,
  PARAMETER_LAYOUT,
  ParameterBlock,
  type Program,
  withSharedAccess,
} from "./webgpu-commands.js";
import type { CompileAhead } from "./webgpu-compile-ahead.js";
import { WebGpuPlan } from "./webgpu-plan.js";
import { BufferPool, type PooledBuffer, partBytes } from "./webgpu-pool.js";
import type { TuningProfile } from "./webgpu-profile.js";
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
} from "./webgpu-program.js";
import { DispatchTimer, type KernelTime } from "./webgpu-timer.js";

/** Commands after which recorded work is submitted without being asked, so that the adapter does not idle. */
const COMMANDS_PER_SUBMIT = 96;
/** Bytes of dispatch parameters per submit. */
const PARAMETER_BYTES = 65536;
/** Elements of a tensor beyond which it is not placed beside others: a dispatch for it alone costs little in comparison. */
const MOST_ELEMENTS_TOGETHER = 2 ** 20;
/** Bind groups kept per program; beyond that the program's cache starts anew. */
const BIND_GROUPS_PER_PROGRAM = 512;

class GpuStorage extends Storage {
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

export class WebGpuDevice extends Device {
  readonly kind = "webgpu";
  /** As many as a buffer of this adapter holds, and an i32 index reaches. */
  readonly mostElements: number;
  override readonly precision: Precision;
  private readonly pool: BufferPool;
  private readonly programs = new Map<string, Program>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly constants = new Map<string, GpuView>();
  private readonly parameterLayout: GPUBindGroupLayout;
  private readonly parameterBuffer: GPUBuffer;
  private readonly parameterGroup: GPUBindGroup;
  private readonly parameters: ParameterBlock;
  private commands: Command[] = [];
  /** Number of the submit that the recorded commands will be part of. */
  private submitNumber = 1;
  private failure: Error | undefined;
  private closed = false;
  private staging: GPUBuffer | undefined;
  private timer: DispatchTimer | undefined;
  /** The step that is being recorded. */
  private recording: WebGpuPlan | undefined;

  constructor(
    /** Kept referenced for the life of the device: Dawn's Node bindings need it. */
    readonly adapter: GPUAdapter,
    readonly gpu: GPUDevice,
    readonly profile: TuningProfile,
    /** Ends what keeps the process alive; called by destroy(). */
    private readonly onDestroy: () => void = () => {},
    private readonly compileAhead?: CompileAhead,
  ) {
    super();
    this.precision = profile.matrices === undefined ? "float32" : "mixed";
    this.mostElements = Math.min(2 ** 31, Math.floor(gpu.limits.maxBufferSize / BYTES_PER_ELEMENT));
    this.pool = new BufferPool(gpu);
    this.parameters = new ParameterBlock(gpu.limits.minUniformBufferOffsetAlignment, PARAMETER_BYTES);
    gpu.onuncapturederror = (event) => {
      event.preventDefault();
      const { error } = event;
      this.fail(
        new DeviceError(
          error instanceof GPUOutOfMemoryError ? "OUT_OF_MEMORY" : "VALIDATION",
          `webgpu: ${error.message.trim()}`,
        ),
      );
    };
    gpu.lost.then((info) => {
      if (this.closed) return;
      this.fail(new DeviceError("DEVICE_LOST", `webgpu: the device was lost (${info.reason}): ${info.message}`));
    });
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
        ...{ bytes: sizes[i]!, submitted: false },
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
    const work: KernelCall = { kernel: kernel.name, inputs: given, outputs: made, flops, dispatches: 0 };
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
    // In order with later commands, so scratch may be handed out again at once.
    for (const { buffer } of scratch) this.memorySource.release(buffer);
    if (typeof params === "function") {
      recording?.reparameterise(first, scratch, (nextScratch, dispatch) =>
        kernel.webgpu({ ...call, params: valueNow(params), scratch: nextScratch, dispatch }),
      );
    }
    if (this.commands.length >= COMMANDS_PER_SUBMIT) this.submitIfReady();
  }

  override byproducts<Params>(kernel: Kernel<Params>, params: Params): readonly Spec[] {
    return kernel.byproducts?.(params, this.profile) ?? [];
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
    const { size, dtype, buffer } = storage as GpuStorage;
    if (size === 0) return deviceArray(dtype, []);
    const bytes = size * 4;
    const staging = this.takeStaging(bytes);
    try {
      const copy: Command = {
        ...{ kind: "copy", from: buffer.gpu, fromOffset: buffer.offset, to: staging, toOffset: 0, bytes },
        submitted: false,
      };
      this.commands.push(copy);
      buffer.used(this.submitNumber);
      await this.flush();
      if (!copy.submitted) {
        throw new DeviceError(
          "VALIDATION",
          "webgpu: this read was dropped together with other work that failed; that error was raised where it was awaited",
        );
      }
      await wait(staging.mapAsync(GPUMapMode.READ, 0, bytes)).catch((cause: unknown) => {
        throw this.failure ?? new DeviceError("DEVICE_LOST", "webgpu: reading back failed", { cause });
      });
      this.raise();
      const data = staging.getMappedRange(0, bytes).slice(0);
      staging.unmap();
      this.returnStaging(staging);
      return dtype === "f32" ? new Float32Array(data) : dtype === "i32" ? new Int32Array(data) : new Uint32Array(data);
    } catch (error) {
      staging.destroy();
      throw error;
    }
  }

  /** Submits all recorded work, waiting only for pipelines that are still being compiled. */
  async flush(): Promise<void> {
    this.raise();
    while (this.commands.length > 0) {
      const compiling = this.commands.flatMap((c) =>
        c.kind === "dispatch" && c.program.pipeline === undefined ? [c.program] : [],
      );
      if (compiling.length > 0) {
        await wait(Promise.all(compiling.map((program) => program.ready)));
        for (const { error } of compiling) if (error !== undefined) this.fail(error);
        this.raise();
      } else {
        this.submit();
      }
    }
    this.raise();
  }

  async sync(): Promise<void> {
    await this.flush();
    await wait(this.gpu.queue.onSubmittedWorkDone()).catch((cause: unknown) => {
      throw this.failure ?? new DeviceError("DEVICE_LOST", "webgpu: waiting for the queue failed", { cause });
    });
    this.raise();
  }

  /**
   * Times every dispatch while `fn` runs: kernels by time and shapes, longest first. For looking, not for running: each
   * dispatch gets a pass of its own. Needs the adapter's "timestamp-query"; exact when opened with `{ profiling: true }`.
   */
  profileDispatches(fn: () => void | Promise<void>): Promise<KernelTime[]> {
    return this.timed("dispatch", fn, (timer) => timer.kernels());
  }

  /**
   * Milliseconds that the adapter spends in passes while `fn` runs: those that there are, or one for every dispatch as it
   * is launched. Needs, and is exact, as `profileDispatches`.
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
    this.compileAhead?.destroy();
    this.gpu.destroy();
    this.onDestroy();
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

  /** Raises the first failure; a lost device stays failed, other errors are raised once. */
  private raise(): void {
    const { failure } = this;
    if (failure === undefined) return;
    if (!(failure instanceof DeviceError && failure.code === "DEVICE_LOST")) this.failure = undefined;
    this.commands = [];
    this.parameters.bytes = 0;
    throw failure;
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
    const program = this.programOf(call.kernel, dispatch);
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

  private bindGroupOf({ program, dispatch }: DispatchCommand): GPUBindGroup {
    checkAliases(program.kernel, dispatch);
    return this.gpu.createBindGroup({
      label: program.key,
      layout: program.layout,
      entries: dispatch.bindings.map(({ view }, binding) => ({
        binding,
        resource: { buffer: view.buffer.gpu, offset: positionOf(view), size: view.byteLength },
      })),
    });
  }

  private programOf(kernel: string, dispatch: Dispatch): Program {
    const key = programKey(kernel, dispatch);
    const known = this.programs.get(key);
    if (known !== undefined) return known;
    const text = dispatch.program();
    const code = programSource(dispatch, text);
    const parameterNames = Object.keys(dispatch.sizes ?? {}).length + Object.keys(dispatch.numbers ?? {}).length;
    if (parameterNames * 4 > PARAMETER_BINDING) {
      throw new DeviceError("LIMIT", `internal: ${kernel} has ${parameterNames} parameters, at most 64 fit`);
    }
    const accesses = dispatch.bindings.map(({ access }) => access ?? "read");
    const layout = this.layoutOf(accesses);
    this.gpu.pushErrorScope("validation");
    const module = this.gpu.createShaderModule({ code, label: key });
    const diagnosis = this.gpu.popErrorScope();
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
      error: undefined,
    };
    program.ready = this.gpu.createComputePipelineAsync(descriptor).then(
      (pipeline) => {
        program.pipeline = pipeline;
      },
      async (cause: Error) => {
        const { message } = (await diagnosis) ?? cause;
        program.error = new DeviceError("VALIDATION", `${kernel}: its WGSL did not compile (${key}): ${message}`, {
          cause,
        });
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
    const ready = this.commands.every((c) => c.kind !== "dispatch" || c.program.pipeline !== undefined);
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
      if (command.kind === "dispatch") {
        command.program.pipeline ??= this.gpu.createComputePipeline(command.program.descriptor);
      }
    }
  }

  private submit(): void {
    const { commands } = this;
    if (commands.length === 0) return;
    this.commands = [];
    if (this.parameters.bytes > 0) this.gpu.queue.writeBuffer(this.parameterBuffer, 0, this.parameters.data);
    const encoder = this.gpu.createCommandEncoder();
    encode(encoder, commands, this.parameterGroup, this.timer);
    this.gpu.queue.submit([encoder.finish()]);
    // Dawn reports what is wrong with a submit at once; nothing of it was executed then.
    if (this.failure === undefined)
      for (const command of commands) if (command.kind === "copy") command.submitted = true;
    this.compileAhead?.submitted(
      commands.flatMap((command) => (command.kind === "dispatch" ? [command.program] : [])),
      () => this.gpu.queue.onSubmittedWorkDone(),
    );
    this.counters.submits++;
    this.parameters.bytes = 0;
    this.submitNumber++;
  }

  /** See PlanHost.compileAhead. */
  private async prepare(programs: readonly Program[]): Promise<boolean> {
    await Promise.all(programs.map(({ ready }) => ready));
    for (const { error } of programs) if (error !== undefined) throw error;
    const prepared = this.compileAhead === undefined || (await this.compileAhead.prepare(programs));
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
    kept?.destroy();
    return this.gpu.createBuffer({
      size: Math.max(4096, Math.ceil(bytes / 4096) * 4096),
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  /** Keeps the larger of two staging buffers up to 64 MiB for the next read. */
  private returnStaging(staging: GPUBuffer): void {
    if (staging.size > 2 ** 26 || (this.staging !== undefined && this.staging.size >= staging.size)) staging.destroy();
    else {
      this.staging?.destroy();
      this.staging = staging;
    }
  }
}

/** WebGPU rejects a whole submit in which a dispatch writes a buffer that it also binds elsewhere: say which dispatch. */
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
