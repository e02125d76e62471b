// Buffers by size class, and the books of what is live, pooled and the most there ever was. V8 does not see GPU bytes,
// so nothing here is left to the garbage collector.
import type { MemoryInfo } from "../tensor/device.js";
import { DeviceError } from "../tensor/errors.js";

let nextId = 1;

/** Memory of the pool, a part of such memory, or memory of a step that is being recorded, which is there at its end. */
export class PooledBuffer {
  /** Unique for the life of the process. */
  readonly id = nextId++;
  /** Belongs to a recorded step (recorded/step.ts), which alone gives it back to the pool. */
  planned = false;
  /** Parts of it that are in use. */
  parts = 0;
  /** Number of the last submit that used it. */
  private lastSubmit = 0;
  private surroundings: { readonly whole: PooledBuffer; readonly start: number } | undefined;
  /** Where it begins in its memory, in bytes. */
  private start = 0;

  constructor(
    readonly bytes: number,
    private memory?: GPUBuffer,
  ) {}

  /** Lies in `memory` from now on, from byte `start` on. */
  place(memory: GPUBuffer, start: number): void {
    this.memory = memory;
    this.start = start;
  }

  /** Is a part of `whole` from now on, which begins at byte `start` of it. */
  partOf(whole: PooledBuffer, start: number): void {
    this.surroundings = { whole, start };
  }

  /** Whether it lies in this memory. */
  isIn(memory: GPUBuffer): boolean {
    return this.root.memory === memory;
  }

  /** What it is a part of. */
  get whole(): PooledBuffer | undefined {
    return this.surroundings?.whole;
  }

  /** What it is a part of, or itself. */
  get root(): PooledBuffer {
    return this.whole ?? this;
  }

  get gpu(): GPUBuffer {
    const memory = this.root.memory;
    if (memory !== undefined) return memory;
    throw new DeviceError("VALIDATION", "a tensor has no memory: the step that makes it has not run to its end");
  }

  /** Bytes from the beginning of `gpu`. */
  get offset(): number {
    return (this.surroundings?.start ?? 0) + this.root.start;
  }

  used(submit: number): void {
    this.lastSubmit = submit;
    if (this.whole !== undefined) this.whole.lastSubmit = submit;
  }

  /** Number of the last submit that used it, or its surroundings: the host may write it at once when that is past. */
  get lastUse(): number {
    return Math.max(this.lastSubmit, this.whole?.lastSubmit ?? 0);
  }
}

/** Bytes from which on a buffer is worth looking for. */
const LARGE = 2 ** 20;

export class BufferPool {
  private readonly free = new Map<number, PooledBuffer[]>();
  private readonly info: MemoryInfo = { liveBytes: 0, pooledBytes: 0, peakBytes: 0, liveCount: 0 };

  /** All there is, live or free. */
  private readonly memories = new Set<GPUBuffer>();

  /** @param createMemory of so many bytes; throws where there is none */
  constructor(private readonly createMemory: (bytes: number) => GPUBuffer) {}

  /**
   * A buffer of at least `bytes`. With `idleSince`, one that no submit after that number uses (the host may write it at
   * once); otherwise the most recently freed one, whose memory is likely in the cache.
   */
  acquire(bytes: number, idleSince?: number): PooledBuffer {
    const size = sizeClass(bytes);
    const buffer = this.take(size, idleSince) ?? this.takeLarger(size, idleSince) ?? this.create(size);
    this.info.liveBytes += buffer.bytes;
    this.info.liveCount++;
    this.info.peakBytes = Math.max(this.info.peakBytes, this.info.liveBytes + this.info.pooledBytes);
    return buffer;
  }

  /** A free buffer of this class. */
  private take(size: number, idleSince: number | undefined): PooledBuffer | undefined {
    const list = this.free.get(size);
    if (list === undefined || list.length === 0) return undefined;
    const index = idleSince === undefined ? list.length - 1 : list.findIndex((b) => b.lastUse <= idleSince);
    if (index < 0) return undefined;
    this.info.pooledBytes -= size;
    return list.splice(index, 1)[0];
  }

  /** Instead of more memory than there ever was a large buffer takes a free one of up to twice its size. */
  private takeLarger(size: number, idleSince: number | undefined): PooledBuffer | undefined {
    const { liveBytes, pooledBytes, peakBytes } = this.info;
    if (size < LARGE || liveBytes + pooledBytes + size <= peakBytes) return undefined;
    for (let larger = sizeClass(size + 1); larger <= 2 * size; larger = sizeClass(larger + 1)) {
      const found = this.take(larger, idleSince);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * Memory for parts that lie side by side, each of so many bytes: it comes back to the pool when the last of them
   * does.
   */
  acquireParts(sizes: readonly number[]): PooledBuffer[] {
    const { starts, bytes } = layOut(sizes);
    const whole = this.acquire(bytes);
    this.partsTaken(whole, sizes.length);
    return sizes.map((size, i) => {
      const part = new PooledBuffer(size);
      part.partOf(whole, starts[i]!);
      return part;
    });
  }

  /** A whole has so many parts in use. */
  partsTaken(whole: PooledBuffer, parts: number): void {
    whole.parts = parts;
    this.info.liveCount += parts - 1;
  }

  release(buffer: PooledBuffer): void {
    const { whole } = buffer;
    if (whole !== undefined) {
      if (--whole.parts === 0) this.release(whole);
      else this.info.liveCount--;
      return;
    }
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
      const needed = list.filter((buffer) => buffer.lastUse > idleSince);
      for (const { lastUse, gpu } of list) {
        if (lastUse > idleSince) continue;
        gpu.destroy();
        this.memories.delete(gpu);
      }
      this.info.pooledBytes -= (list.length - needed.length) * size;
      this.free.set(size, needed);
    }
  }

  memory(): MemoryInfo {
    return { ...this.info };
  }

  /** Destroys all memory, also what is in use. */
  destroy(): void {
    for (const memory of this.memories) memory.destroy();
    this.memories.clear();
    this.free.clear();
  }

  private create(bytes: number): PooledBuffer {
    const memory = this.createMemory(bytes);
    this.memories.add(memory);
    return new PooledBuffer(bytes, memory);
  }
}

/** Bytes from the beginning of a part to that of the next: a binding may begin there on every adapter. */
export const partBytes = (bytes: number): number => Math.ceil(bytes / 256) * 256;

/** Where parts of so many bytes begin that lie side by side, and the bytes of all of them. */
export function layOut(sizes: readonly number[]): { readonly starts: readonly number[]; readonly bytes: number } {
  let bytes = 0;
  const starts = sizes.map((size) => {
    const start = bytes;
    bytes += partBytes(size);
    return start;
  });
  return { starts, bytes };
}

/** Four classes per power of two from 256 bytes on, of large buffers sixteen: at most a quarter or 6 % is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = 2 ** Math.max(8, Math.floor(Math.log2(bytes - 1)) - (bytes > LARGE ? 4 : 2));
  return Math.ceil(bytes / step) * step;
}
