// Times the options of a tunable, or the families of kernels, side by side (tuning.ts). Who measures loads it.
import type { Device } from "../tensor/device.js";
import { scope } from "../tensor/scope.js";
import type { Measurement, Tunable } from "./tuning.js";

/**
 * An option is preferred to the default only when it is faster by this factor: timings of equal options differ, too.
 */
const MARGIN = 1.1;

/** How long options are timed. */
interface Effort {
  readonly rounds: number;
  /** About how long one takes, in milliseconds. */
  readonly roundMs: number;
}

/**
 * By the family of a tunable: on hardware rounds are long against the naps of a wait (wait.ts). Families themselves
 * differ by a factor, and take tens of milliseconds.
 */
export const EFFORT = {
  software: { rounds: 40, roundMs: 8 },
  hardware: { rounds: 10, roundMs: 40 },
  family: { rounds: 3, roundMs: 4 },
} as const satisfies Record<string, Effort>;

/** Calls in a round, whose results are alive at the same time. */
const MOST_CALLS = 256;

/** Times all options of a tunable side by side. */
export async function measure(
  { options, sample }: Pick<Tunable, "options" | "sample">,
  open: (option: string) => Promise<Device>,
  { rounds, roundMs }: Effort,
): Promise<Measurement> {
  const trials: { device: Device; run: (times: number) => Promise<number>; best: number }[] = [];
  try {
    for (const option of options) {
      const device = await open(option);
      const trial = { device, run: async () => 0, best: Number.POSITIVE_INFINITY } as (typeof trials)[number];
      trials.push(trial);
      const work = sample(device);
      trial.run = async (times) => {
        const begun = performance.now();
        scope(() => {
          for (let i = 0; i < times; i++) work();
        });
        await device.sync();
        return (performance.now() - begun) / times;
      };
      await trial.run(1); // Compiles.
    }
    let times = 1;
    while (times < MOST_CALLS && times * Math.min(...(await inTurn(trials, ({ run }) => run(times)))) < roundMs) {
      times *= 2;
    }
    for (let round = 0; round < rounds; round++) {
      await inTurn(trials, async (trial) => {
        trial.best = Math.min(trial.best, await trial.run(times));
      });
    }
  } finally {
    for (const { device } of trials) device.destroy();
  }
  const milliseconds = trials.map(({ best }) => best);
  const fastest = Math.min(...milliseconds);
  const chosen = milliseconds[0]! <= fastest * MARGIN ? options[0] : options[milliseconds.indexOf(fastest)]!;
  return { options, milliseconds: milliseconds.map((ms) => Number(ms.toPrecision(4))), chosen };
}

async function inTurn<T, R>(items: readonly T[], call: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await call(item));
  return results;
}
