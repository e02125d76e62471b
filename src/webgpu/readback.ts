// Reading memory of a device back to the host, through staging buffers that can be mapped.
import { wait } from "../runtime/runtime.js";
import { type DType, deviceArray, type TypedArray } from "../tensor/dtype.js";
import { DeviceError } from "../tensor/errors.js";
import type { CopyCommand } from "./commands.js";
import type { Content } from "./faults.js";
import type { PooledBuffer } from "./pool.js";
import type { Queue } from "./queue.js";

/** What is read: `size` elements from the beginning of a buffer. */
export interface Readable {
  readonly size: number;
  readonly dtype: DType;
  readonly buffer: PooledBuffer;
  readonly content: Content;
}

export class Readback {
  private staging: GPUBuffer | undefined;
  /** All that reads copy into, kept or in use. */
  private readonly stagings = new Set<GPUBuffer>();

  constructor(
    private readonly gpu: GPUDevice,
    private readonly queue: Queue,
  ) {}

  /** The values after all recorded work. @throws DeviceError of the call that should have computed them */
  async read({ size, dtype, buffer, content }: Readable): Promise<TypedArray> {
    if (size === 0) return deviceArray(dtype, []);
    const { queue } = this;
    if (content.error !== undefined) queue.raiseCall(content.error);
    const bytes = size * 4;
    const staging = this.takeStaging(bytes);
    try {
      const copy: CopyCommand = {
        ...{ kind: "copy", from: buffer.gpu, fromOffset: buffer.offset, to: staging, toOffset: 0, bytes, content },
      };
      queue.add(copy);
      buffer.used(queue.submitNumber);
      await queue.handOver();
      if (copy.error !== undefined) queue.raiseCall(copy.error);
      await wait(staging.mapAsync(GPUMapMode.READ, 0, bytes)).catch((cause: unknown) => {
        if (queue.isClosed) throw new DeviceError("CLOSED", "read: the device was destroyed meanwhile", { cause });
        throw queue.waitFailure("reading back", cause);
      });
      queue.raise();
      const data = staging.getMappedRange(0, bytes).slice(0);
      staging.unmap();
      this.returnStaging(staging);
      return dtype === "f32" ? new Float32Array(data) : dtype === "i32" ? new Int32Array(data) : new Uint32Array(data);
    } catch (error) {
      this.dropStaging(staging);
      throw error;
    }
  }

  destroy(): void {
    for (const staging of this.stagings) staging.destroy();
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
