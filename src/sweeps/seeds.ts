// Seeds of trials. A trial's seed depends on the sweep's seed and the trial's number alone, so that any worker in any
// order computes the same bits on the same kind of adapter.
import { randomKey, threefry } from "../tensor/random.js";

/** A seed below 2^32 for a trial; other `purpose`s of the same number, such as drawing its parameters, get others. */
export function trialSeed(seed: number, number: number, purpose = "trial"): number {
  const key = randomKey(seed, `sweep ${purpose}`);
  const words = new Uint32Array(2);
  threefry(key.seed, key.stream, number, 0, words);
  return words[0]!;
}
