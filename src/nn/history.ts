// What training leaves behind: figures per epoch, and how long steps took.

export interface History {
  /** Numbers of the epochs, from 0. */
  readonly epoch: number[];
  /** One value per epoch: loss, accuracy, metrics by name, each also as val_NAME, and learning_rate. */
  readonly history: Record<string, number[]>;
  timing: Timing;
  /** Optimizer steps since the start of training, those before a resumed run included. */
  steps: number;
  /** Whether a signal ended the training; it can be resumed from the checkpoint. */
  interrupted: boolean;
  /** Why training ended before the last epoch, where a callback or a step limit ended it. */
  stopReason?: string;
}

export interface Timing {
  /** Wall time of the first step of this run, compilation included, in milliseconds. */
  readonly firstStepMs: number | undefined;
  /** Median wall time of the later steps, in milliseconds. */
  readonly stepMsMedian: number | undefined;
  /** Steps of this run. */
  readonly steps: number;
  /**
   * Milliseconds for which the next batch of an iterable was waited for (`waitedMs`). Of these, those for which the
   * device had nothing left to do meanwhile (`idleMs`). 0 for data in memory.
   */
  readonly waitedMs: number;
  readonly idleMs: number;
  /** Share of the steps' wall time in which the device waited for data: idleMs against all of it. */
  readonly idleShare: number;
}

export function emptyHistory(): History {
  const timing = new StepTimer().report();
  return { epoch: [], history: {}, timing, steps: 0, interrupted: false };
}

/** Adds an epoch's figures. */
export function appendEpoch(history: History, epoch: number, logs: Readonly<Record<string, number>>): void {
  history.epoch.push(epoch);
  for (const [name, value] of Object.entries(logs)) (history.history[name] ??= []).push(value);
}

/** Times of runs of steps that were waited for together. */
export class StepTimer implements Timing {
  firstStepMs: number | undefined;
  steps = 0;
  waitedMs = 0;
  idleMs = 0;
  private allMs = 0;
  private readonly runs: { readonly ms: number; readonly steps: number }[] = [];

  /** `steps` steps took `ms` milliseconds in all. */
  add(ms: number, steps: number): void {
    this.steps += steps;
    this.allMs += ms;
    if (this.firstStepMs === undefined) this.firstStepMs = ms / steps;
    else this.runs.push({ ms: ms / steps, steps });
  }

  /** A batch came `ms` after it was asked for; for `idleMs` of them the device had nothing to do. */
  waited(ms: number, idleMs: number): void {
    this.waitedMs += ms;
    this.idleMs += idleMs;
  }

  get idleShare(): number {
    return this.allMs === 0 ? 0 : Math.min(1, this.idleMs / this.allMs);
  }

  /** Time of a step lately, without hiccups: the shortest of the last runs. The first step does not count. */
  get recentStepMs(): number | undefined {
    return this.runs.length === 0 ? undefined : Math.min(...this.runs.slice(-5).map(({ ms }) => ms));
  }

  get stepMsMedian(): number | undefined {
    const sorted = this.runs.toSorted((a, b) => a.ms - b.ms);
    const half = sorted.reduce((sum, { steps }) => sum + steps, 0) / 2;
    let seen = 0;
    return sorted.find(({ steps }) => (seen += steps) >= half)?.ms;
  }

  /** As plain data. */
  report(): Timing {
    const { firstStepMs, stepMsMedian, steps, waitedMs, idleMs, idleShare } = this;
    return { firstStepMs, stepMsMedian, steps, waitedMs, idleMs, idleShare };
  }
}
