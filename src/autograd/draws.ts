// Random numbers of what runs twice: a function that is run again for its gradient (recompute.ts) draws what it drew.
import { UsageError } from "../tensor/errors.js";
import type { RandomKey } from "../tensor/random.js";

/** The key of one draw, as it was asked for last. */
interface Drawn {
  key?: RandomKey;
}

/** Keys in the order in which a function draws. */
export class Draws {
  private readonly drawn: Drawn[] = [];
  private next = 0;
  private again = false;
  /** Of a function around that is run as part of another. */
  private around: Draws | undefined;

  /** Runs `fn` for the first time, and keeps its keys. */
  first<T>(fn: () => T): T {
    return this.during(false, fn);
  }

  /** Runs `fn` with the keys of the first time. */
  second<T>(fn: () => T): T {
    return this.during(true, fn);
  }

  private during<T>(again: boolean, fn: () => T): T {
    const before = { current, again: this.again };
    this.around = current;
    this.again = again;
    this.next = 0;
    current = this;
    try {
      return fn();
    } finally {
      current = before.current;
      this.again = before.again;
    }
  }

  get runsAgain(): boolean {
    return this.again || (this.around?.runsAgain ?? false);
  }

  /** How the next draw gets its key. A recorded step asks for it anew whenever it is run again. */
  key(draw: () => RandomKey): () => RandomKey {
    if (this.again) {
      const drawn = this.drawn[this.next++];
      if (drawn === undefined) {
        throw new UsageError("recompute: fn must do the same again, it drew more random tensors the second time");
      }
      return () => drawn.key!;
    }
    const drawn: Drawn = {};
    this.drawn.push(drawn);
    const own = this.around?.key(draw) ?? draw;
    return () => {
      drawn.key = own();
      return drawn.key;
    };
  }
}

let current: Draws | undefined;

/** How a random operation asks for its key: `draw`, or where it is run again what that gave. */
export const drawnKey = (draw: () => RandomKey): (() => RandomKey) => current?.key(draw) ?? draw;

/** Whether operations are run again, whose effects on other tensors have happened. */
export const runsAgain = (): boolean => current?.runsAgain ?? false;
