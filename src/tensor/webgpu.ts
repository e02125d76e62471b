// The WebGPU device: records kernels into a queue of commands, hands it over in large submits, and reads results back.
// Pipelines are compiled asynchronously from the moment a program is first recorded; a submit waits for all it needs.
import { Device, type MemoryInfo, Storage } from "./device.js";
import { type DType, deviceArray, type TypedArray } from "./dtype.js";
import { DeviceError } from "./errors.js";
import type { Kernel } from "./kernel.js";
import type { Tensor } from "./tensor.js";
import { wait } from "./wait.js";
import { BufferPool } from "./webgpu-pool.js";
import type { TuningProfile } from "./webgpu-profile.js";
import {
  type Dispatch,
  type GpuView,
  MAX_WORKGROUPS,
  type PooledBuffer,
  paddedBytes,
  programKey,
  programSource,
} from "./webgpu-program.js";
import { DispatchTimer, type ProgramTime } from "./webgpu-timer.js";

/** Commands after which recorded work is submitted without being asked, so that the adapter does not idle. */
const COMMANDS_PER_SUBMIT = 96;
/** Bytes of dispatch parameters per submit, and the binding's size (a dispatch has at most 64 parameters). */
const PARAMETER_BYTES = 65536;
const PARAMETER_BINDING = 256;
/** Bind groups kept per program; beyond that the program's cache starts anew. */
const BIND_GROUPS_PER_PROGRAM = 512;

/** A compiled (or compiling) WGSL program with its bind group cache. */
interface Program {
  readonly key: string;
  readonly kernel: string;
  readonly module: GPUShaderModule;
  readonly descriptor: GPUComputePipelineDescriptor;
  readonly layout: GPUBindGroupLayout;
  readonly parameterNames: number;
  readonly bindGroups: Map<string, GPUBindGroup>;
  pipeline: GPUComputePipeline | undefined;
  /** Settles (never rejects) when the pipeline is there or `error` is set. */
  ready: Promise<void>;
  error: Error | undefined;
}

type Command =
  | {
      readonly kind: "dispatch";
      readonly program: Program;
      readonly bindGroup: GPUBindGroup;
      readonly parameterOffset: number;
      readonly workgroups: readonly [number, number?, number?];
    }
  | {
      readonly kind: "copy";
      readonly from: GPUBuffer;
      readonly to: GPUBuffer;
      readonly bytes: number;
      /** Set once it was part of a submit without errors. */
      submitted: boolean;
    };

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
  private readonly pool: BufferPool;
  private readonly programs = new Map<string, Program>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly constants = new Map<string, GpuView>();
  private readonly parameterLayout: GPUBindGroupLayout;
  private readonly parameterBuffer: GPUBuffer;
  private readonly parameterGroup: GPUBindGroup;
  private readonly parameters = new ArrayBuffer(PARAMETER_BYTES);
  private readonly parameterU32 = new Uint32Array(this.parameters);
  private readonly parameterF32 = new Float32Array(this.parameters);
  private parameterBytes = 0;
  private commands: Command[] = [];
  /** Number of the submit that the recorded commands will be part of. */
  private submitNumber = 1;
  private failure: Error | undefined;
  private closed = false;
  private staging: GPUBuffer | undefined;
  private timer: DispatchTimer | undefined;
  private scratchInUse: PooledBuffer[] = [];

  constructor(
    /** Kept referenced for the life of the device: Dawn's Node bindings need it. */
    readonly adapter: GPUAdapter,
    readonly gpu: GPUDevice,
    readonly profile: TuningProfile,
    /** Ends what keeps the process alive; called by destroy(). */
    private readonly onDestroy: () => void = () => {},
  ) {
    super();
    this.pool = new BufferPool(gpu);
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
    this.parameterLayout = gpu.createBindGroupLayout({
      entries: [
        { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform", hasDynamicOffset: true } },
      ],
    });
    this.parameterBuffer = gpu.createBuffer({
      size: PARAMETER_BYTES + PARAMETER_BINDING,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.parameterGroup = gpu.createBindGroup({
      layout: this.parameterLayout,
      entries: [{ binding: 0, resource: { buffer: this.parameterBuffer, size: PARAMETER_BINDING } }],
    });
  }

  allocate(dtype: DType, size: number): Storage {
    this.checkOpen();
    return new GpuStorage(this, dtype, size, this.pool.acquire(paddedBytes(size)));
  }

  write(storage: Storage, values: ArrayLike<number>): void {
    this.checkOpen();
    const target = storage as GpuStorage;
    if (values.length === 0) return;
    // A queue write lands before everything not yet submitted: give the storage a buffer that nothing pending uses.
    if (target.buffer.lastSubmit >= this.submitNumber) {
      this.pool.release(target.buffer);
      target.buffer = this.pool.acquire(target.buffer.bytes, this.submitNumber - 1);
    }
    const data = deviceArray(storage.dtype, values);
    this.gpu.queue.writeBuffer(target.buffer.gpu, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  }

  run<Params>(kernel: Kernel<Params>, inputs: readonly Tensor[], outputs: readonly Tensor[], params: Params): void {
    this.checkOpen();
    kernel.webgpu({
      inputs: inputs.map(viewOf),
      outputs: outputs.map(viewOf),
      params,
      profile: this.profile,
      scratch: (spec) => {
        const size = spec.shape.reduce((a, b) => a * b, 1);
        const buffer = this.pool.acquire(paddedBytes(size));
        this.scratchInUse.push(buffer);
        return { ...spec, size, buffer, byteOffset: 0, byteLength: paddedBytes(size) };
      },
      constant: (key, make) => this.constant(`${kernel.name}/${key}`, make),
      dispatch: (dispatch) => this.record(kernel.name, dispatch),
    });
    // In order with later commands, so scratch may be handed out again at once.
    for (const buffer of this.scratchInUse) this.pool.release(buffer);
    this.scratchInUse = [];
    if (this.commands.length >= COMMANDS_PER_SUBMIT) this.submitIfReady();
  }

  async read(storage: Storage): Promise<TypedArray> {
    this.checkOpen();
    const { size, dtype, buffer } = storage as GpuStorage;
    if (size === 0) return deviceArray(dtype, []);
    const bytes = size * 4;
    const staging = this.takeStaging(bytes);
    try {
      const copy: Command = { kind: "copy", from: buffer.gpu, to: staging, bytes, submitted: false };
      this.commands.push(copy);
      buffer.lastSubmit = this.submitNumber;
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
   * Times every dispatch while `fn` runs: kernels by time, longest first. For looking, not for running: each dispatch
   * gets a pass of its own. Needs the adapter's "timestamp-query"; exact when opened with `{ profiling: true }`.
   */
  async profileDispatches(fn: () => void | Promise<void>): Promise<ProgramTime[]> {
    if (!this.gpu.features.has("timestamp-query")) {
      throw new DeviceError("LIMIT", "profileDispatches: this adapter has no timestamp queries");
    }
    await this.sync();
    const timer = new DispatchTimer(this.gpu);
    this.timer = timer;
    try {
      await fn();
      await this.sync();
      return await timer.report();
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
    this.gpu.destroy();
    this.onDestroy();
  }

  /** Called by a storage whose last reference went. */
  recycle(buffer: PooledBuffer): void {
    if (!this.closed) this.pool.release(buffer);
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
    this.parameterBytes = 0;
    throw failure;
  }

  private record(kernel: string, dispatch: Dispatch): void {
    const [x, y = 1, z = 1] = dispatch.workgroups;
    if (x === 0 || y === 0 || z === 0) return;
    if (Math.max(x, y, z) > MAX_WORKGROUPS) {
      throw new DeviceError(
        "LIMIT",
        `internal: ${kernel} dispatches ${x} x ${y} x ${z} workgroups; fold with gridOf()`,
      );
    }
    const program = this.programOf(kernel, dispatch);
    let groupKey = "";
    for (const { view, name } of dispatch.bindings) {
      if (view.byteLength > this.profile.maxBindingBytes) {
        throw new DeviceError(
          "LIMIT",
          `${kernel}: "${name}" takes ${view.byteLength} bytes and this adapter binds at most ${this.profile.maxBindingBytes}; use a smaller batch or tensor`,
        );
      }
      groupKey += `${view.buffer.id}+${view.byteOffset}:${view.byteLength},`;
      view.buffer.lastSubmit = this.submitNumber;
    }
    let bindGroup = program.bindGroups.get(groupKey);
    if (bindGroup === undefined) {
      if (program.bindGroups.size >= BIND_GROUPS_PER_PROGRAM) program.bindGroups.clear();
      checkAliases(kernel, dispatch);
      bindGroup = this.gpu.createBindGroup({
        label: program.key,
        layout: program.layout,
        entries: dispatch.bindings.map(({ view }, binding) => ({
          binding,
          resource: { buffer: view.buffer.gpu, offset: view.byteOffset, size: view.byteLength },
        })),
      });
      program.bindGroups.set(groupKey, bindGroup);
    }
    const parameterOffset = this.writeParameters(dispatch, program);
    this.commands.push({ kind: "dispatch", program, bindGroup, parameterOffset, workgroups: dispatch.workgroups });
    this.count(kernel);
  }

  private writeParameters(dispatch: Dispatch, program: Program): number {
    if (program.parameterNames === 0) return -1;
    const alignment = this.gpu.limits.minUniformBufferOffsetAlignment;
    const bytes = Math.ceil((program.parameterNames * 4) / alignment) * alignment;
    const offset = this.parameterBytes;
    let word = offset / 4;
    for (const name in dispatch.sizes) this.parameterU32[word++] = dispatch.sizes[name]!;
    for (const name in dispatch.numbers) this.parameterF32[word++] = dispatch.numbers[name]!;
    this.parameterBytes += bytes;
    return offset;
  }

  private programOf(kernel: string, dispatch: Dispatch): Program {
    // A submit holds a fixed number of parameter bytes: hand over before they run out.
    if (this.parameterBytes + PARAMETER_BINDING > PARAMETER_BYTES) this.submitBlocking();
    const key = programKey(kernel, dispatch);
    const known = this.programs.get(key);
    if (known !== undefined) return known;
    const code = programSource(dispatch);
    const parameterNames = Object.keys(dispatch.sizes ?? {}).length + Object.keys(dispatch.numbers ?? {}).length;
    if (parameterNames * 4 > PARAMETER_BINDING) {
      throw new DeviceError("LIMIT", `internal: ${kernel} has ${parameterNames} parameters, at most 64 fit`);
    }
    const layout = this.layoutOf(dispatch);
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
      module,
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
  private layoutOf(dispatch: Dispatch): GPUBindGroupLayout {
    const key = dispatch.bindings.map(({ access }) => (access === "read_write" ? "w" : "r")).join("");
    let layout = this.layouts.get(key);
    if (layout === undefined) {
      layout = this.gpu.createBindGroupLayout({
        entries: dispatch.bindings.map(({ access }, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: access === "read_write" ? "storage" : "read-only-storage" },
        })),
      });
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
  private submitIfReady(): void {
    if (this.commands.every((c) => c.kind !== "dispatch" || c.program.pipeline !== undefined)) this.submit();
  }

  /** Submits now, compiling on this thread what is not there yet. */
  private submitBlocking(): void {
    for (const command of this.commands) {
      if (command.kind === "dispatch") {
        command.program.pipeline ??= this.gpu.createComputePipeline(command.program.descriptor);
      }
    }
    this.submit();
  }

  private submit(): void {
    const { commands } = this;
    if (commands.length === 0) return;
    this.commands = [];
    if (this.parameterBytes > 0) {
      this.gpu.queue.writeBuffer(this.parameterBuffer, 0, this.parameters, 0, this.parameterBytes);
    }
    const encoder = this.gpu.createCommandEncoder();
    let pass: GPUComputePassEncoder | undefined;
    let current: Program | undefined;
    for (const command of commands) {
      if (command.kind === "copy") {
        pass?.end();
        pass = undefined;
        current = undefined;
        encoder.copyBufferToBuffer(command.from, 0, command.to, 0, command.bytes);
        continue;
      }
      if (this.timer !== undefined) {
        pass?.end();
        current = undefined;
        pass = encoder.beginComputePass(this.timer.pass(command.program.kernel, command.program.key));
      }
      pass ??= encoder.beginComputePass();
      if (current !== command.program) {
        current = command.program;
        pass.setPipeline(command.program.pipeline!);
      }
      pass.setBindGroup(0, command.bindGroup);
      if (command.parameterOffset >= 0) pass.setBindGroup(1, this.parameterGroup, [command.parameterOffset]);
      const [x, y, z] = command.workgroups;
      pass.dispatchWorkgroups(x, y, z);
    }
    pass?.end();
    this.timer?.resolve(encoder);
    this.gpu.queue.submit([encoder.finish()]);
    // Dawn reports what is wrong with a submit at once; nothing of it was executed then.
    if (this.failure === undefined)
      for (const command of commands) if (command.kind === "copy") command.submitted = true;
    this.counters.submits++;
    this.parameterBytes = 0;
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
    const other = bindings.find((b) => b.name !== name && b.view.buffer === view.buffer);
    if (other !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        `${kernel}: "${name}" is written and must not share memory with "${other.name}"; pass two tensors`,
      );
    }
  }
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
