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
}

export function emptyHistory(): History {
  const timing = { firstStepMs: undefined, stepMsMedian: undefined, steps: 0 };
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
  private readonly runs: { readonly ms: number; readonly steps: number }[] = [];

  /** `steps` steps took `ms` milliseconds in all. */
  add(ms: number, steps: number): void {
    this.steps += steps;
    if (this.firstStepMs === undefined) this.firstStepMs = ms / steps;
    else this.runs.push({ ms: ms / steps, steps });
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
    return { firstStepMs: this.firstStepMs, stepMsMedian: this.stepMsMedian, steps: this.steps };
  }
}
