// Memory of a step that runs for the first time. Its programs have to be compiled first, so its commands wait in the
// queue. What they make gets its place when they are handed over, as that of a recorded step does (recorded/memory.ts).
import { buffersOf, type Command } from "./commands.js";
import type { BufferPool, PooledBuffer } from "./pool.js";
import { endingEarly } from "./recorded/early.js";
import { type Placeable, StepMemory } from "./recorded/memory.js";

export class FirstRun {
  private readonly memory: StepMemory;
  /** What was not released yet of what has no place, and its bytes. */
  private readonly live = new Set<PooledBuffer>();
  private bytes = 0;
  /** Goes back to the pool at the end only: what has no place yet may be needed before it was released. */
  private readonly released: PooledBuffer[] = [];

  /**
   * @param before commands that wait already: they may use memory that is free once they have run
   * @param check throws where so many bytes cannot be had beside those in use
   */
  constructor(
    private readonly pool: BufferPool,
    readonly before: number,
    private readonly check: (bytes: number, used: number) => void,
  ) {
    this.memory = new StepMemory(pool);
  }

  acquire(bytes: number): PooledBuffer {
    this.check(bytes, this.pool.memory().liveBytes + this.bytes);
    const buffer = this.memory.acquire(bytes);
    this.live.add(buffer);
    this.bytes += buffer.bytes;
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    if (this.live.delete(buffer)) this.bytes -= buffer.bytes;
    else this.released.push(buffer);
  }

  /** Whether a buffer has no place yet. */
  has(buffer: PooledBuffer): boolean {
    return this.live.has(buffer);
  }

  join(views: readonly Placeable[], commands: readonly Command[]): boolean {
    return this.memory.join(views, commands);
  }

  /** Gives everything its place; the commands in the order for which that is enough. */
  place(commands: readonly Command[]): Command[] {
    const order = endingEarly(commands.slice(this.before), this.memory.passing(this.live));
    this.memory.place(
      order.map((command) => (command.kind === "copy" ? [] : buffersOf(command))),
      this.live,
      [],
    );
    return [...commands.slice(0, this.before), ...order];
  }

  /** Gives back what nobody holds. @param submit number of that which the commands are part of */
  end(submit: number): void {
    this.memory.dispose(this.live, submit);
    for (const buffer of this.released) this.pool.release(buffer);
  }
}
