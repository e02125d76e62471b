// Memory of one recorded step. While the step is recorded, what it allocates has no place yet. When it is complete, it
// is known from which dispatch to which each is needed. What is needed at different times then gets the same place.
import { type BufferPool, layOut, PooledBuffer, sizeClass } from "../pool.js";

export class StepMemory {
  private readonly waiting = new Set<PooledBuffer>();
  private readonly owned = new Set<PooledBuffer>();
  /** The pool's memory of what was placed. */
  private readonly homes = new Map<PooledBuffer, PooledBuffer>();

  constructor(private readonly pool: BufferPool) {}

  acquire(bytes: number): PooledBuffer {
    const buffer = new PooledBuffer(sizeClass(bytes));
    buffer.planned = true;
    this.waiting.add(buffer);
    return buffer;
  }

  /** Lays buffers out side by side, each with room for so many bytes; false where that cannot be. */
  join(buffers: readonly PooledBuffer[], sizes: readonly number[]): boolean {
    if (buffers.some((buffer) => !this.waiting.has(buffer))) return false;
    const { starts, bytes } = layOut(sizes);
    const whole = this.acquire(bytes);
    buffers.forEach((buffer, i) => {
      this.waiting.delete(buffer);
      buffer.partOf(whole, starts[i]!);
    });
    return true;
  }

  /**
   * Gives everything its place.
   * @param uses what is used at the same time, in order
   * @param kept what holds its values from step to step
   * @param exclusive those whose values a step does not make anew: nothing else may ever be there
   */
  place(
    uses: readonly Iterable<PooledBuffer>[],
    kept: Iterable<PooledBuffer>,
    exclusive: Iterable<PooledBuffer>,
  ): void {
    const waitingRoots = (buffers: Iterable<PooledBuffer>) =>
      new Set([...buffers].map(({ root }) => root).filter((root) => this.waiting.has(root)));
    const [keptRoots, exclusiveRoots] = [waitingRoots(kept), waitingRoots(exclusive)];
    const used = uses.map(waitingRoots);
    const last = new Map<PooledBuffer, number>();
    used.forEach((roots, i) => {
      for (const root of roots) last.set(root, i);
    });
    const free = new Map<number, PooledBuffer[]>();
    const take = (root: PooledBuffer, reused?: PooledBuffer) => {
      const memory = reused ?? this.pool.acquire(root.bytes);
      memory.planned = true;
      this.owned.add(memory);
      this.homes.set(root, memory);
      root.place(memory.gpu);
      this.waiting.delete(root);
    };
    for (const root of exclusiveRoots) take(root);
    used.forEach((roots, i) => {
      for (const root of roots) if (this.waiting.has(root)) take(root, free.get(root.bytes)?.pop());
      for (const root of roots) {
        if (last.get(root) !== i || keptRoots.has(root) || exclusiveRoots.has(root)) continue;
        const list = free.get(root.bytes);
        if (list === undefined) free.set(root.bytes, [this.homes.get(root)!]);
        else list.push(this.homes.get(root)!);
      }
    });
    for (const root of keptRoots) if (this.waiting.has(root)) take(root);
    this.waiting.clear();
  }

  /** Gives all back to the pool, but for what somebody still holds: that goes back with it. */
  dispose(held: Iterable<PooledBuffer>): void {
    const heldOf = new Map<PooledBuffer, Set<PooledBuffer>>();
    for (const buffer of held) {
      const home = this.homes.get(buffer.root);
      if (home === undefined) continue;
      if (!heldOf.has(home)) heldOf.set(home, new Set());
      heldOf.get(home)!.add(buffer);
    }
    for (const memory of this.owned) {
      memory.planned = false;
      const parts = heldOf.get(memory);
      if (parts === undefined) {
        this.pool.release(memory);
        continue;
      }
      this.pool.partsTaken(memory, parts.size);
      for (const part of parts) {
        part.partOf(memory, part.offset);
        part.planned = false;
      }
    }
    this.owned.clear();
  }
}
