// Early stopping: ends a trial whose reported figures fall behind those of trials before it. Who is compared with is
// decided by numbers of trials, not by who happened to be faster (see sweep.ts), so that decisions come again.
import { checkOptions, integer, number, type Rules } from "../tensor/options.js";
import type { Decision } from "./executor.js";

/** A reported figure: the smaller the better. */
export type Loss = readonly [step: number, loss: number];

/** What is asked at a report. */
export interface StoppingQuestion {
  /** The trial's reports so far, the one at hand the last. */
  readonly own: readonly Loss[];
  /** Those of trials before it that ended, failed ones left out. */
  readonly past: readonly (readonly Loss[])[];
  /** Whether the trial at the same place in `past` ran to its own end. */
  readonly finished: readonly boolean[];
}

/** A rule that ends trials early. */
export interface Stopping {
  readonly name: string;
  /** JSON that tells two of them apart. */
  readonly options: Readonly<Record<string, unknown>>;
  decide(question: StoppingQuestion): Decision;
}

/** Options of {@link median}. */
export interface MedianOptions {
  /** Trials that run to their end before one is stopped; default 5. */
  readonly startup?: number;
  /** Reports below this step stop nothing; default 0. */
  readonly minSteps?: number;
}
/** Options of {@link asha}. */
export interface AshaOptions {
  /** The first step at which trials are compared; default 1. */
  readonly minSteps?: number;
  /** Of so many trials one goes on at each comparison, and the steps to the next one grow by as much; default 3. */
  readonly factor?: number;
}

const steps = integer({ from: 0 });
const medianRules: Rules<MedianOptions> = { startup: integer({ from: 1 }), minSteps: steps };
const ashaRules: Rules<AshaOptions> = { minSteps: integer({ from: 1 }), factor: number({ from: 2, to: 100 }) };

const isBad = (loss: number) => Number.isNaN(loss);
/** NaN is the worst. */
const worst = (loss: number) => (isBad(loss) ? Number.POSITIVE_INFINITY : loss);
const least = (losses: readonly Loss[]) => losses.reduce((best, [, loss]) => Math.min(best, worst(loss)), Infinity);

/**
 * Median stopping (Golovin et al.: "Google Vizier", KDD 2017): a trial ends whose best figure so far is worse than the
 * median of the other trials' running means up to the same step.
 * @example median({ startup: 10 })
 * @throws UsageError for numbers that are not whole
 */
export function median(options: MedianOptions = {}): Stopping {
  const { startup = 5, minSteps = 0 } = checkOptions("median", options, medianRules);
  return {
    ...{ name: "median", options: { startup, minSteps } },
    decide({ own, past, finished }) {
      const [step] = own.at(-1)!;
      if (step < minSteps || finished.filter(Boolean).length < startup) return "continue";
      const means = past.flatMap((losses) => {
        const until = losses.filter(([at]) => at <= step);
        // Trials that were stopped before are compared with up to there.
        return until.length === 0 ? [] : [until.reduce((sum, [, loss]) => sum + worst(loss), 0) / until.length];
      });
      if (means.length === 0) return "continue";
      means.sort((a, b) => a - b);
      const middle = (means[Math.floor((means.length - 1) / 2)]! + means[Math.floor(means.length / 2)]!) / 2;
      return least(own) > middle ? "stop" : "continue";
    },
  };
}

/**
 * Asynchronous successive halving (Li et al.: "A system for massively parallel hyperparameter tuning", MLSys 2020), as
 * trials run: at the first report from steps m, m f, m f^2... on, a trial ends unless it is among the best 1/f of those
 * that came as far.
 * @example asha({ minSteps: 2, factor: 3 })
 * @throws UsageError for a factor below 2
 */
export function asha(options: AshaOptions = {}): Stopping {
  const { minSteps = 1, factor = 3 } = checkOptions("asha", options, ashaRules);
  /** The figure at the first report from `rung` on. */
  const at = (losses: readonly Loss[], rung: number) => losses.find(([step]) => step >= rung)?.[1];
  return {
    ...{ name: "asha", options: { minSteps, factor } },
    decide({ own, past }) {
      const [step, loss] = own.at(-1)!;
      const before = own.at(-2)?.[0] ?? Number.NEGATIVE_INFINITY;
      // The highest rung that this report is the first to reach.
      let rung = minSteps;
      if (step < rung) return "continue";
      while (rung * factor <= step) rung *= factor;
      if (before >= rung) return "continue";
      const others = past.flatMap((losses) => {
        const found = at(losses, rung);
        return found === undefined ? [] : [worst(found)];
      });
      const reached = others.length + 1;
      if (reached < factor) return "continue";
      const better = others.filter((other) => other < worst(loss)).length;
      return better < Math.floor(reached / factor) ? "continue" : "stop";
    },
  };
}
