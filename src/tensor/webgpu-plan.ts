// Recorded steps: the dispatches of a step with their bind groups, parameters and memory, kept so that the step can be
// submitted again without the JavaScript that made it. While a step is being recorded its memory comes from an arena,
// whose buffers serve one tensor after the other within the step and nobody else until the step is disposed.
import type { RecordedStep, Storage } from "./device.js";
import { DeviceError } from "./errors.js";
import type { Tensor } from "./tensor.js";
import { boundViews, type DispatchCommand, encode, PARAMETER_BINDING, type ParameterBlock } from "./webgpu-commands.js";
import { type BufferPool, sizeClass } from "./webgpu-pool.js";
import { type Dispatch, type GpuView, type PooledBuffer, programKey } from "./webgpu-program.js";
import type { DispatchTimer } from "./webgpu-timer.js";

/** Memory of one step. Buffers freed within the step are handed out again within it, as the liveness of tensors allows. */
class Arena {
  readonly owned = new Set<PooledBuffer>();
  private readonly free = new Map<number, PooledBuffer[]>();

  constructor(private readonly pool: BufferPool) {}

  acquire(bytes: number, idleSince?: number): PooledBuffer {
    const reused = idleSince === undefined ? this.free.get(sizeClass(bytes))?.pop() : undefined;
    if (reused !== undefined) return reused;
    const buffer = this.pool.acquire(bytes, idleSince);
    buffer.planned = true;
    this.owned.add(buffer);
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    if (!this.owned.has(buffer)) {
      this.pool.release(buffer);
      return;
    }
    const list = this.free.get(buffer.bytes);
    if (list === undefined) this.free.set(buffer.bytes, [buffer]);
    else list.push(buffer);
  }

  dispose(): void {
    for (const buffer of this.owned) {
      buffer.planned = false;
      this.pool.release(buffer);
    }
    this.owned.clear();
  }
}

/** A storage of the WebGPU device, as far as a step must know it. */
export interface PlannedStorage extends Storage {
  readonly buffer: PooledBuffer;
}

/** What a recorded step needs of its device. */
export interface PlanHost {
  readonly gpu: GPUDevice;
  readonly pool: BufferPool;
  readonly parameterLayout: GPUBindGroupLayout;
  timer(): DispatchTimer | undefined;
  /** Raises failures and submits what was recorded before. */
  prepare(): void;
  /** Books a submit of dispatches, by kernel. */
  submitted(commands: readonly DispatchCommand[]): void;
}

/** A step while it is recorded, and afterwards what runs it again. */
export class WebGpuPlan implements RecordedStep {
  readonly commands: DispatchCommand[] = [];
  private readonly arena: Arena;
  outputs: readonly Tensor[] = [];
  /** Host side of the step, in its order: side effects, and parameters asked for anew. */
  private readonly host: (() => void)[] = [];
  /** Made before the step: it must be where it was for the step to run again. */
  private readonly external = new Map<PlannedStorage, PooledBuffer>();
  private readonly made = new Set<PlannedStorage>();
  /** ArrayBufferView<ArrayBuffer> that the host wrote into memory of the step, and those among them that kernels overwrite. */
  private readonly written = new Map<PooledBuffer, ArrayBufferView<ArrayBuffer>>();
  private readonly rewritten = new Map<PooledBuffer, ArrayBufferView<ArrayBuffer>>();
  private parametersChange = false;
  private parameterBuffer: GPUBuffer | undefined;
  private parameterGroup: GPUBindGroup | undefined;
  private disposed = false;

  constructor(
    private readonly device: PlanHost,
    readonly parameters: ParameterBlock,
  ) {
    this.arena = new Arena(device.pool);
  }

  get valid(): boolean {
    if (this.disposed) return false;
    for (const [storage, buffer] of this.external) if (!storage.alive || storage.buffer !== buffer) return false;
    return true;
  }

  /** A storage was allocated within the step. */
  allocated(storage: PlannedStorage): void {
    this.made.add(storage);
  }

  /** A kernel reads or writes a storage. */
  uses(storage: PlannedStorage): void {
    if (!this.made.has(storage)) this.external.set(storage, storage.buffer);
  }

  /** The host is about to write into a storage. @throws DeviceError where the step did not make it */
  mustOwn(storage: PlannedStorage): void {
    if (this.made.has(storage)) return;
    throw new DeviceError(
      "VALIDATION",
      "record: a recorded step must not write host values into a tensor made before it; pass them as its inputs",
    );
  }

  /** The host wrote into a storage of the step. Its buffer keeps these values: it serves no other tensor of the step. */
  wrote(storage: PlannedStorage, values: ArrayBufferView<ArrayBuffer>): void {
    this.written.set(storage.buffer, values);
  }

  acquire(bytes: number, idleSince?: number): PooledBuffer {
    return this.arena.acquire(bytes, idleSince);
  }

  /** Memory that nothing in the step needs any more. */
  release(buffer: PooledBuffer): void {
    if (!this.written.has(buffer)) this.arena.release(buffer);
  }

  /** A kernel overwrites a buffer. */
  overwrites(buffer: PooledBuffer): void {
    const values = this.written.get(buffer);
    if (values !== undefined) this.rewritten.set(buffer, values);
  }

  /** A host side effect of the step. */
  everyTime(effect: () => void): void {
    this.host.push(effect);
  }

  /**
   * The parameters of the dispatches recorded since `first` change: `again` makes them anew, with the scratch views of
   * the first time.
   */
  reparameterise(
    first: number,
    scratch: readonly GpuView[],
    again: (scratch: () => GpuView, dispatch: (dispatch: Dispatch) => void) => void,
  ): void {
    const commands = this.commands.slice(first);
    this.parametersChange = true;
    this.host.push(() => {
      let [nextScratch, next] = [0, 0];
      again(
        () => scratch[nextScratch++]!,
        (dispatch) => {
          const [x, y = 1, z = 1] = dispatch.workgroups;
          if (x * y * z === 0) return;
          const command = commands[next++];
          const [oldX, oldY = 1, oldZ = 1] = command?.workgroups ?? [0];
          if (
            command === undefined ||
            programKey(command.program.kernel, dispatch) !== command.program.key ||
            boundViews(dispatch) !== command.bound ||
            x !== oldX ||
            y !== oldY ||
            z !== oldZ
          ) {
            throw new DeviceError(
              "VALIDATION",
              `record: changing params of "${commands[0]?.program.kernel}" changed its dispatches; only its numbers may change`,
            );
          }
          if (command.parameterOffset >= 0) this.parameters.write(command.parameterOffset, dispatch);
        },
      );
    });
  }

  /** Ends the recording, whose function gave `outputs`, and submits the step for the first time. */
  complete(outputs: readonly Tensor[]): void {
    this.outputs = outputs;
    const returned = new Set(outputs.map((t) => t.storage));
    for (const storage of this.made) {
      if (storage.alive && !returned.has(storage)) {
        throw new DeviceError(
          "VALIDATION",
          `record: a recorded step must not keep tensors that it does not return (one of ${storage.size} elements is alive)`,
        );
      }
    }
    const { gpu, parameterLayout } = this.device;
    this.parameterBuffer = gpu.createBuffer({
      size: this.parameters.bytes + PARAMETER_BINDING,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.parameterGroup = gpu.createBindGroup({
      layout: parameterLayout,
      entries: [{ binding: 0, resource: { buffer: this.parameterBuffer, size: PARAMETER_BINDING } }],
    });
    this.submit(true);
  }

  run(): void {
    if (!this.valid) throw new DeviceError("CLOSED", "record: memory of this step was freed; record it again");
    this.device.prepare();
    for (const act of this.host) act();
    for (const [buffer, values] of this.rewritten) this.device.gpu.queue.writeBuffer(buffer.gpu, 0, values);
    this.submit(this.parametersChange);
  }

  private submit(parametersChanged: boolean): void {
    const { gpu } = this.device;
    if (parametersChanged && this.parameters.bytes > 0) {
      gpu.queue.writeBuffer(this.parameterBuffer!, 0, this.parameters.data);
    }
    const encoder = gpu.createCommandEncoder();
    encode(encoder, this.commands, this.parameterGroup!, this.device.timer());
    gpu.queue.submit([encoder.finish()]);
    this.device.submitted(this.commands);
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    for (const t of this.outputs) t.dispose();
    // Memory that somebody still holds an alias of goes back to the pool with that.
    for (const { alive, buffer } of this.made) {
      if (alive && this.arena.owned.delete(buffer)) buffer.planned = false;
    }
    this.arena.dispose();
    this.parameterBuffer?.destroy();
  }
}
