// What a suite of random trials is: run.ts runs them by number, so that a trial that found something runs again alone.
import { RandomStream } from "../src/tensor/random.js";

/** What a trial found wrong; the words say which input, and what happened instead of an error of this library. */
export type Finding = string;

export interface Suite {
  readonly name: string;
  /** Trials of a run without --count. */
  readonly count: number;
  /** One trial. Everything random in it comes from `random`. undefined: as it should be. */
  run(random: RandomStream): Promise<Finding | undefined>;
  /** Longest that a trial may take, in milliseconds; default 10,000. */
  readonly deadline?: number;
  /** Called once before the first trial: makes what all of them need. */
  begin?(): Promise<void>;
  /** Called once after the last trial: closes devices, processes and files. */
  end?(): Promise<void>;
}

/** The random numbers of one trial: they depend on the seed, the suite and the trial's number only. */
export const trialRandom = (seed: number, { name }: Suite, trial: number) => new RandomStream(seed, `${name} ${trial}`);

/** One of some values. */
export function pick<T>(random: RandomStream, values: readonly T[]): T {
  return values[random.integer(values.length)]!;
}
