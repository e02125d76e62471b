// Buffers by size class, and the books of what is live, pooled and the most there ever was. V8 does not see GPU bytes,
// so nothing here is left to the garbage collector.
import type { MemoryInfo } from "./device.js";
import { DeviceError } from "./errors.js";
import type { PooledBuffer } from "./webgpu-program.js";

let nextId = 1;

export class BufferPool {
  private readonly free = new Map<number, PooledBuffer[]>();
  private readonly info: MemoryInfo = { liveBytes: 0, pooledBytes: 0, peakBytes: 0, liveCount: 0 };

  constructor(private readonly device: GPUDevice) {}

  /**
   * A buffer of at least `bytes`. With `idleSince`, one that no submit after that number uses (the host may write it at
   * once); otherwise the most recently freed one, whose memory is likely in the cache.
   */
  acquire(bytes: number, idleSince?: number): PooledBuffer {
    const size = sizeClass(bytes);
    const list = this.free.get(size);
    let buffer: PooledBuffer | undefined;
    if (list !== undefined && list.length > 0) {
      const index = idleSince === undefined ? list.length - 1 : list.findIndex((b) => b.lastSubmit <= idleSince);
      if (index >= 0) buffer = list.splice(index, 1)[0];
    }
    if (buffer !== undefined) this.info.pooledBytes -= size;
    else buffer = this.create(size);
    this.info.liveBytes += size;
    this.info.liveCount++;
    this.info.peakBytes = Math.max(this.info.peakBytes, this.info.liveBytes + this.info.pooledBytes);
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    this.info.liveBytes -= buffer.bytes;
    this.info.liveCount--;
    this.info.pooledBytes += buffer.bytes;
    const list = this.free.get(buffer.bytes);
    if (list === undefined) this.free.set(buffer.bytes, [buffer]);
    else list.push(buffer);
  }

  /** Destroys the pooled buffers that no submit after number `idleSince` uses. */
  trim(idleSince: number): void {
    for (const [size, list] of this.free) {
      const needed = list.filter((buffer) => buffer.lastSubmit > idleSince);
      for (const buffer of list) if (buffer.lastSubmit <= idleSince) buffer.gpu.destroy();
      this.info.pooledBytes -= (list.length - needed.length) * size;
      this.free.set(size, needed);
    }
  }

  memory(): MemoryInfo {
    return { ...this.info };
  }

  private create(bytes: number): PooledBuffer {
    const limit = this.device.limits.maxBufferSize;
    if (bytes > limit) {
      throw new DeviceError(
        "LIMIT",
        `allocate: a buffer may hold at most ${limit} bytes on this adapter, ${bytes} were asked for; use a smaller batch or model`,
      );
    }
    const gpu = this.device.createBuffer({
      size: bytes,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    return { id: nextId++, gpu, bytes, lastSubmit: 0, planned: false };
  }
}

/** Four classes per power of two from 256 bytes on: at most a quarter is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = 2 ** Math.max(8, Math.floor(Math.log2(bytes - 1)) - 2);
  return Math.ceil(bytes / step) * step;
}
