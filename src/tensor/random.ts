// Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). A number depends only on (seed, stream, index), never on what was drawn before, so CPU
// and GPU give the same bits in any order. The WGSL twin is in kernels/random.ts.

import { UsageError } from "./errors.js";
import { anyOf, check, describe, integer, type Rule, string } from "./options.js";

/** Rotation of each round, in turn. */
export const THREEFRY_ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;

/** Key-schedule parity constant of Threefry-2x32. */
export const THREEFRY_PARITY = 0x1bd11bda;

/** Two 32-bit words from a 64-bit key and a 64-bit counter, written to `out[0]` and `out[1]`. */
export function threefry(key0: number, key1: number, counter0: number, counter1: number, out: Uint32Array): void {
  const keys = [key0 | 0, key1 | 0, THREEFRY_PARITY ^ key0 ^ key1];
  let x0 = (counter0 + key0) | 0;
  let x1 = (counter1 + key1) | 0;
  for (let round = 0; round < 20; round++) {
    const rotation = THREEFRY_ROTATIONS[round & 7]!;
    x0 = (x0 + x1) | 0;
    x1 = (x1 << rotation) | (x1 >>> (32 - rotation));
    x1 ^= x0;
    if ((round & 3) === 3) {
      const block = (round >> 2) + 1;
      x0 = (x0 + keys[block % 3]!) | 0;
      x1 = (x1 + keys[(block + 1) % 3]! + block) | 0;
    }
  }
  out[0] = x0;
  out[1] = x1;
}

/** Uniform in [0, 1) with 24 random bits, exact in float32. */
export function unitFromBits(bits: number): number {
  return (bits >>> 8) * 2 ** -24;
}

/** A seed and a stream name: everything random in a run derives from one seed through named streams. */
export interface RandomKey {
  readonly seed: number;
  readonly stream: number;
}

const isWord = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;

/** What a key may be, for checks of arguments. */
export const keyRule: Rule = {
  expected: "a key of randomKey(), { seed, stream } of whole numbers below 2^32",
  accepts: (value) => {
    const { seed, stream } = Object(value) as Partial<RandomKey>;
    return isWord(seed) && isWord(stream);
  },
};

const whole = integer();
const streamRule = anyOf(string, whole);

/** Stream number of a name: FNV-1a over its UTF-16 units, so that adding a stream never shifts another. */
export function randomKey(seed: number, stream: string | number = 0): RandomKey {
  check("randomKey", "seed", seed, whole);
  check("randomKey", "stream", stream, streamRule);
  if (typeof stream === "number") return { seed: seed >>> 0, stream: stream >>> 0 };
  let hash = 0x811c9dc5;
  for (let i = 0; i < stream.length; i++) hash = Math.imul(hash ^ stream.charCodeAt(i), 0x01000193);
  return { seed: seed >>> 0, stream: hash >>> 0 };
}

/** Sequential host-side draws from one key; for shuffling, procedural data and the like. */
export class RandomStream {
  private index = 0;
  private readonly words = new Uint32Array(2);
  private readonly key: RandomKey;

  constructor(seed: number, stream: string | number = 0) {
    this.key = randomKey(seed, stream);
  }

  /** 32 random bits. */
  bits(): number {
    if ((this.index & 1) === 0) threefry(this.key.seed, this.key.stream, this.index >>> 1, 0, this.words);
    return this.words[this.index++ & 1]!;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return unitFromBits(this.bits());
  }

  /** Uniform integer in [0, n), 1 <= n <= 2^32; multiply-shift, bias below n / 2^32. */
  integer(n: number): number {
    if (!(typeof n === "number" && n >= 1 && n <= 2 ** 32))
      throw new UsageError(`integer: needs a number from 1 to 2^32, got ${describe(n)}`);
    return Math.floor((this.bits() / 2 ** 32) * n);
  }

  /** Standard normal by Box-Muller. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}
