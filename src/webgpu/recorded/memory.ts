// Memory of one step. While the step is recorded, what it allocates has no place yet. When it is complete, it is known
// from which dispatch to which each is needed. What is needed at different times then gets the same place.
import type { Access, Command, DispatchCommand } from "../commands.js";
import { type BufferPool, layOut, PooledBuffer, partBytes } from "../pool.js";
import type { GpuView } from "../program.js";

/** What can be laid out beside others. */
export type Placeable = Pick<GpuView, "buffer" | "byteLength">;

export class StepMemory {
  private readonly waiting = new Set<PooledBuffer>();
  private readonly owned = new Set<PooledBuffer>();
  /** The pool's memory of what was placed. */
  private readonly homes = new Map<PooledBuffer, PooledBuffer>();

  constructor(private readonly pool: BufferPool) {}

  acquire(bytes: number): PooledBuffer {
    const buffer = new PooledBuffer(partBytes(bytes));
    buffer.planned = true;
    this.waiting.add(buffer);
    return buffer;
  }

  /** Tells buffers that have no place yet and that nothing needs after the step, which keeps those of `kept`. */
  passing(kept: Iterable<PooledBuffer>): (buffer: PooledBuffer) => boolean {
    const lasting = new Set([...kept].map(({ root }) => root));
    return ({ root }) => this.waiting.has(root) && !lasting.has(root);
  }

  /** Lays buffers out side by side that `commands` use so far; false where that cannot be. */
  join(views: readonly Placeable[], commands: readonly Command[]): boolean {
    const buffers = new Set(views.map(({ buffer }) => buffer));
    if (buffers.size !== views.length || [...buffers].some((buffer) => !this.waiting.has(buffer))) return false;
    // No dispatch may write into a buffer that it binds for reading elsewhere.
    const readsAndWrites = commands.some((command) => {
      const accesses = command.kind === "copy" ? [] : accessesOf(command, buffers);
      return new Set(accesses).size > 1;
    });
    if (readsAndWrites) return false;
    const { starts, bytes } = layOut(views.map(({ byteLength }) => byteLength));
    const whole = this.acquire(bytes);
    [...buffers].forEach((buffer, i) => {
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
    // What outlives the step has memory of its own: somebody may hold it when the step is disposed.
    for (const buffer of new Set([...exclusiveRoots, ...keptRoots])) this.settle([{ buffer, start: 0 }]);
    for (const places of pack(lifetimes(used, this.waiting))) this.settle(places);
    this.waiting.clear();
  }

  /** Gives buffers one memory of the pool, each its place in it. */
  private settle(places: readonly Place[]): void {
    const memory = this.pool.acquire(Math.max(...places.map(({ buffer, start }) => start + buffer.bytes)));
    memory.planned = true;
    this.owned.add(memory);
    for (const { buffer, start } of places) {
      this.homes.set(buffer, memory);
      buffer.place(memory.gpu, start);
      this.waiting.delete(buffer);
    }
  }

  /**
   * Gives all back to the pool, but for what somebody still holds: that goes back with it.
   * @param submit the last that uses it, where that is still to come
   */
  dispose(held: Iterable<PooledBuffer>, submit = 0): void {
    const heldOf = new Map<PooledBuffer, Set<PooledBuffer>>();
    for (const buffer of held) {
      const home = this.homes.get(buffer.root);
      if (home === undefined) continue;
      if (!heldOf.has(home)) heldOf.set(home, new Set());
      heldOf.get(home)!.add(buffer);
    }
    for (const memory of this.owned) {
      memory.planned = false;
      memory.used(submit);
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

/** How a dispatch binds some buffers. */
function accessesOf({ dispatch }: DispatchCommand, buffers: ReadonlySet<PooledBuffer>): Access[] {
  return dispatch.bindings.flatMap(({ view, access }) => (buffers.has(view.buffer) ? [access ?? "read"] : []));
}

/** A buffer of a step that is needed from one of its groups of dispatches to another. */
interface Lifetime {
  readonly buffer: PooledBuffer;
  readonly first: number;
  readonly last: number;
  /** The groups that use it. */
  readonly uses: ReadonlySet<number>;
}

interface Place {
  readonly buffer: PooledBuffer;
  /** Bytes from the beginning of the memory. */
  readonly start: number;
}

/** @param used the buffers of each group @param of those that are asked for */
function lifetimes(used: readonly Iterable<PooledBuffer>[], of: ReadonlySet<PooledBuffer>): Lifetime[] {
  const uses = new Map<PooledBuffer, Set<number>>();
  for (const [i, buffers] of used.entries()) {
    for (const buffer of buffers) {
      if (!of.has(buffer)) continue;
      const found = uses.get(buffer);
      if (found === undefined) uses.set(buffer, new Set([i]));
      else found.add(i);
    }
  }
  return [...uses].map(([buffer, uses]) => ({ buffer, first: Math.min(...uses), last: Math.max(...uses), uses }));
}

/** Where a buffer would find room. */
interface Gap {
  readonly bytes: number;
  readonly start: number;
  /** The group that used these bytes last, before the buffer; -1 where none did. */
  readonly left: number;
}

/** The smaller one; of equal ones that which was used last, since its bytes may still be in the cache. */
const isBetter = (a: Gap, b: Gap) => a.bytes < b.bytes || (a.bytes === b.bytes && a.left > b.left);

const leftAt = (places: readonly (Place & Lifetime)[], at: number, before: number) =>
  places.reduce((left, { start, buffer, last }) => {
    return start <= at && at < start + buffer.bytes && last < before ? Math.max(left, last) : left;
  }, -1);

function meet(a: ReadonlySet<number>, b: ReadonlySet<number>): boolean {
  const [few, many] = a.size < b.size ? [a, b] : [b, a];
  for (const value of few) if (many.has(value)) return true;
  return false;
}

/**
 * Lays buffers into as little memory as can be found without search: the largest first, each into the smallest gap that
 * is free for its whole life (Pisarchyk, Lee 2020, "greedy by size"). Memories do not grow beyond their first buffer.
 * Two buffers of one group are never in the same memory: WebGPU does not bind a buffer for reading and for writing.
 */
function pack(buffers: readonly Lifetime[]): readonly (readonly Place[])[] {
  const memories: { readonly bytes: number; readonly places: (Place & Lifetime)[]; readonly uses: Set<number> }[] = [];
  for (const lifetime of buffers.toSorted((a, b) => b.buffer.bytes - a.buffer.bytes || a.first - b.first)) {
    const { buffer, first, last, uses } = lifetime;
    let best: (Gap & { readonly memory: (typeof memories)[number] }) | undefined;
    for (const memory of memories) {
      if (meet(uses, memory.uses)) continue;
      const beside = memory.places.filter((other) => other.first <= last && first <= other.last);
      const ends = beside
        .map(({ start, buffer }) => [start, start + buffer.bytes] as const)
        .sort((a, b) => a[0] - b[0]);
      let start = 0;
      for (const [from, to] of [...ends, [memory.bytes, memory.bytes] as const]) {
        const gap = { bytes: from - start, start, left: leftAt(memory.places, start, first) };
        if (gap.bytes >= buffer.bytes && (best === undefined || isBetter(gap, best))) best = { ...gap, memory };
        start = Math.max(start, to);
      }
    }
    const memory = best?.memory ?? { bytes: buffer.bytes, places: [], uses: new Set() };
    if (best === undefined) memories.push(memory);
    memory.places.push({ ...lifetime, start: best?.start ?? 0 });
    for (const use of uses) memory.uses.add(use);
  }
  return memories.map(({ places }) => places);
}
