// A sweep: many trials of one trial function over a space of parameters. It hands out orders, counts each outcome once,
// keeps a journal, and goes on from it. What a trial is given depends on its number, and, where a search learns or
// trials are stopped early, on the outcomes of the trials up to a fixed distance before it. Those are waited for. So
// the same sweep comes to the same figures on any number of workers, however fast each is.
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { prepareOutputFolder } from "../io/files.js";
import { lockFolder, refuseLocked } from "../io/folder-lock.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import {
  boolean,
  callable,
  check,
  checkOptions,
  havingMethod,
  instanceOf,
  integer,
  object,
  oneOf,
  type Rules,
  text,
} from "../tensor/options.js";
import { folderStore } from "./checkpoints.js";
import type {
  Executor,
  Figures,
  Trial,
  TrialConfig,
  TrialHooks,
  TrialModule,
  TrialOrder,
  TrialOutcome,
} from "./executor.js";
import { inProcessExecutor } from "./in-process.js";
import { Journal, type SweepEvent, type SweepIdentity } from "./journal.js";
import { processExecutor } from "./processes.js";
import type { PastTrial, Search } from "./search.js";
import { random } from "./search.js";
import { trialSeed } from "./seeds.js";
import { checkSpace, type Space } from "./space.js";
import type { Loss, Stopping } from "./stopping.js";
import { codeDigest, loadTrialFile, namedDigest } from "./trial-file.js";

/** What a sweep is after. */
export interface Goal {
  /** Name of a figure that trials return and report. */
  readonly figure: string;
  readonly direction: "minimize" | "maximize";
}

/** A trial of a sweep: as it stands, or as it ended. */
export interface TrialRecord {
  readonly number: number;
  readonly config: TrialConfig;
  readonly seed: number;
  /** Undefined while it runs. */
  readonly outcome?: TrialOutcome | undefined;
}

/** Options of {@link sweep}. */
export interface SweepOptions {
  /** Default: the folder's name. */
  readonly name?: string;
  /** Parameters by name: `choice`, `uniform`, `logUniform`, `int`. */
  readonly space: Space;
  /**
   * A trial as a function, which runs in this process. Exactly one of `trial` and `file`.
   * @see file for trials in worker processes
   */
  readonly trial?: Trial;
  /** A module in JavaScript, whose default export is the trial. */
  readonly file?: string;
  /** How parameters are chosen; default `random()`. */
  readonly search?: Search;
  /** How many trials; default 20. A grid has as many as it has combinations, or the first of them. */
  readonly trials?: number;
  /** Trials at once; default 1. */
  readonly workers?: number;
  /**
   * Runs the trials of a file in this process, where they share one device. Default: each worker is a process with a
   * device of its own.
   */
  readonly shareDevice?: boolean;
  /** Address of a queue, `redis://...`, whose workers run the trials of a file: `kilograd worker` on any machine. */
  readonly queue?: string;
  /**
   * A folder that this machine and the queue's workers share, or `s3://bucket/prefix`: for outcomes above 8 MiB. Its
   * workers have the same, for their checkpoints.
   */
  readonly store?: string;
  /** Told what whoever runs the sweep should know, such as that no worker serves its queue. */
  readonly onMessage?: (message: string) => void;
  /** Of parameters and of everything random in trials; default 0. */
  readonly seed?: number;
  /** Where journal and checkpoints are kept. One sweep at a time writes into it. */
  readonly folder: string;
  readonly goal: Goal;
  /** Ends trials early; default: none. */
  readonly stopping?: Stopping;
  /** Tries of a trial that throws, or whose worker is killed, before it has failed; default 3. */
  readonly attempts?: number;
  /**
   * A search that learns, and early stopping, look at the trials up to `number - delay`, and wait for these. Default:
   * the number of workers. The figures depend on it, not on the workers.
   */
  readonly delay?: number;
  /** Goes on with the sweep in the folder. */
  readonly resume?: boolean;
  /** Ends the sweep; what is finished is kept. */
  readonly signal?: AbortSignal;
  /** Told of every trial that begins and that ends. */
  readonly onTrial?: (trial: TrialRecord) => void;
  /** Told of every report. */
  readonly onReport?: (trial: TrialRecord, step: number, figures: Figures) => void;
}

/** What a sweep comes to. */
export interface SweepResult {
  readonly name: string;
  readonly folder: string;
  /** By number, all of them ended. */
  readonly trials: readonly TrialRecord[];
  /** The finished trial with the best figure; undefined where none has one. */
  readonly best: TrialRecord | undefined;
}

/** Where the trials of a sweep run, for those that are neither a function nor a file. */
export interface TrialPlace {
  /** Digest of the trial's code. */
  readonly code: string;
  /** Made when the folder is this sweep's. */
  readonly executor: (folder: string) => Executor | Promise<Executor>;
}

const searchRule = havingMethod("propose", "a search, such as random(), sobol(), grid() or tpe()");
const stoppingRule = havingMethod("decide", "an early stopping, such as asha() or median()");
const sweepRules: Rules<SweepOptions> = {
  ...{ name: text, space: object, trial: callable, file: text, search: searchRule },
  ...{ trials: integer({ from: 1, to: 1_000_000 }), workers: integer({ from: 1, to: 1024 }), shareDevice: boolean },
  ...{ seed: integer({ from: 0, to: 2 ** 32 - 1 }), folder: text, goal: object, stopping: stoppingRule },
  ...{ attempts: integer({ from: 1, to: 100 }), delay: integer({ from: 1, to: 100_000 }), resume: boolean },
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  ...{ onTrial: callable, onReport: callable, onMessage: callable, queue: text, store: text },
};
const goalRules: Rules<Goal> = { figure: text, direction: oneOf("minimize", "maximize") };

/** The file in a sweep's folder that it goes on from. */
export const JOURNAL = "journal.jsonl";
/** A sweep that finds this file in its folder ends, as by its signal. */
export const STOP_FILE = "stop";

/** Milliseconds after which it is asked again whether more trials may run at once. */
const LOOK_AGAIN_MS = 250;

/** What the signal of a sweep is aborted with by `kilograd sweep stop`. */
export class SweepStopped extends KilogradError {
  override readonly name = "SweepStopped";
  constructor() {
    super("STOPPED", "sweep: was stopped; what is finished is kept");
  }
}

/**
 * Runs trials over a space of parameters, on this machine.
 * @example
 * const { best } = await sweep({
 *   space: { learningRate: logUniform(1e-4, 1e-1), units: int(8, 64) },
 *   trial: async ({ learningRate, units }, { seed, report }) => ({ loss: await train(learningRate, units, seed) }),
 *   goal: { figure: "loss", direction: "minimize" },
 *   folder: "out/first-sweep",
 * });
 * @throws UsageError for options that do not fit, and for a folder that another sweep writes or that holds another one
 * @throws DataError for a journal that is damaged
 */
export async function sweep(options: SweepOptions): Promise<SweepResult> {
  const given = checkSweep(options);
  const { trial, file, workers = 1, attempts = 3, shareDevice = false } = given;
  if ((trial === undefined) === (file === undefined)) {
    throw new UsageError("sweep: needs either trial, a function, or file, a module; give one of them");
  }
  const local = (folder: string) => ({ workers, attempts, checkpoints: join(folder, "checkpoints") });
  const here = (module: TrialModule): TrialPlace => ({
    code: module.code,
    executor: (folder) => {
      const { checkpoints, ...rest } = local(folder);
      return inProcessExecutor(module, { ...rest, checkpoints: folderStore(checkpoints) });
    },
  });
  if (given.queue !== undefined) return await sweepAt(given, queued(given, given.queue));
  if (trial !== undefined) return await sweepAt(given, here({ code: namedDigest(String(trial)), trial }));
  if (shareDevice) return await sweepAt(given, here(await loadTrialFile(file!)));
  return await sweepAt(given, {
    code: codeDigest(file!),
    executor: (folder) =>
      processExecutor({ ...local(folder), loader: new URL("./trial-file.js", import.meta.url), given: { file } }),
  });
}

/** Workers of a queue. Its libraries are loaded by whoever uses one. @throws UsageError for a trial that is no file */
function queued(options: SweepOptions, address: string): TrialPlace {
  const { file, name, folder, attempts = 3, stopping, store, onMessage = () => {} } = options;
  if (file === undefined) throw new UsageError("sweep: a queue needs file, which its workers have too, not trial");
  const code = codeDigest(file);
  const sweep = name ?? nameOf(folder);
  return {
    code,
    executor: async (folder: string): Promise<Executor> => {
      const { openQueue } = await import("./queue/executor.js");
      const answers = stopping !== undefined;
      return await openQueue({ address, sweep, code, folder, attempts, answers, store, say: onMessage });
    },
  };
}

/** @throws UsageError for options that do not fit */
function checkSweep(options: SweepOptions): SweepOptions {
  const given = checkOptions("sweep", options, sweepRules, ["space", "folder", "goal"]);
  checkSpace("sweep", given.space);
  checkOptions("sweep: goal", given.goal, goalRules, ["figure", "direction"]);
  return given;
}

/** The name of a sweep without one. */
const nameOf = (folder: string) =>
  folder
    .replace(/[\\/]+$/, "")
    .split(/[\\/]/)
    .at(-1)! || "sweep";

/** {@link sweep} at a place of its own: experiments, and queues. */
export async function sweepAt(options: SweepOptions, place: TrialPlace): Promise<SweepResult> {
  const { space, search = random(), seed = 0, goal, stopping, workers = 1, ...rest } = checkSweep(options);
  const { name = nameOf(rest.folder), resume = false, signal, onTrial, onReport } = rest;
  const looksBack = search.learns || stopping !== undefined;
  const count = Math.min(rest.trials ?? search.count(space) ?? 20, search.count(space) ?? Number.POSITIVE_INFINITY);
  await refuseLocked(rest.folder);
  if (resume && !existsSync(join(rest.folder, JOURNAL))) {
    throw new UsageError(`resume: ${rest.folder} holds no sweep to go on with; leave out resume`);
  }
  const folder = await prepareOutputFolder(rest.folder);
  const release = await lockFolder(folder);
  let journal: Journal | undefined;
  let executor: Executor | undefined;
  const stop = new AbortController();
  const ended = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  await rm(join(folder, STOP_FILE), { force: true });
  const looking = setInterval(() => {
    if (existsSync(join(folder, STOP_FILE))) stop.abort(new SweepStopped());
  }, 300).unref();
  try {
    const opened = await Journal.open(join(folder, JOURNAL));
    journal = opened.journal;
    // Without words about it a sweep goes on with the delay that it began with, on any number of workers.
    const delay = rest.delay ?? summed(opened.events).identity?.delay ?? workers;
    const identity: SweepIdentity = {
      ...{ name, space, seed, goal, code: place.code, delay: looksBack ? delay : null },
      search: { name: search.name, ...search.options },
      stopping: stopping === undefined ? null : { name: stopping.name, ...stopping.options },
    };
    const state = stateOf(opened.events, identity, { resume, folder: rest.folder });
    if (opened.events.length === 0) journal.add({ event: "sweep", identity });
    executor = await place.executor(folder);
    const run = new SweepRun(
      { identity, space, search, goal, stopping, delay: looksBack ? delay : undefined, count },
      { journal, executor, store: folderStore(join(folder, "checkpoints")), signal: ended },
      { onTrial, onReport },
      state,
    );
    const trials = await run.toEnd();
    return { name, folder, trials, best: bestOf(trials, goal) };
  } finally {
    clearInterval(looking);
    await executor?.close();
    journal?.close();
    await release();
  }
}

/** What a journal says of trials. */
export interface SweepState {
  readonly identity: SweepIdentity | undefined;
  /** By number. */
  readonly trials: Map<number, TrialRecord>;
  readonly checkpoints: Map<number, string>;
  /** Attempts that were lost, by trial. */
  readonly attempts: Map<number, number>;
}

/** The sum of events. An outcome after the first of a trial does not count. */
export function summed(events: readonly SweepEvent[]): SweepState {
  const state: SweepState = { identity: undefined, trials: new Map(), checkpoints: new Map(), attempts: new Map() };
  let { identity } = state;
  for (const event of events) {
    if (event.event === "sweep") identity = event.identity;
    else if (event.event === "begun") {
      const { number, config, seed } = event;
      if (!state.trials.has(number)) state.trials.set(number, { number, config, seed });
    } else if (event.event === "checkpoint") state.checkpoints.set(event.number, event.reference);
    else if (event.event === "retried") state.attempts.set(event.number, event.attempt);
    else {
      const known = state.trials.get(event.outcome.number);
      if (known !== undefined && known.outcome === undefined) {
        state.trials.set(known.number, { ...known, outcome: event.outcome });
      }
    }
  }
  return { ...state, identity };
}

/** @throws UsageError where the folder holds a sweep that this one is not, or that it must not go on with */
function stateOf(
  events: readonly SweepEvent[],
  identity: SweepIdentity,
  { resume, folder }: { readonly resume: boolean; readonly folder: string },
): SweepState {
  const state = summed(events);
  if (state.identity === undefined) return state;
  if (!resume) {
    throw new UsageError(
      `folder: ${folder} holds the sweep ${state.identity.name}; go on with resume, or name another folder`,
    );
  }
  for (const [name, value] of Object.entries(identity)) {
    const [now, then] = [value, state.identity[name as keyof SweepIdentity]].map((part) => JSON.stringify(part));
    if (now === then) continue;
    const what = name === "code" ? "the trial's code, or the version of Kilograd," : name;
    throw new UsageError(
      `resume: ${what} must be as in ${folder}, ${then!.slice(0, 200)}, given ${now!.slice(0, 200)}; leave out resume and name another folder`,
    );
  }
  return state;
}

/** The finished trial with the best figure; NaN never is. */
export function bestOf(trials: Iterable<TrialRecord>, { figure, direction }: Goal): TrialRecord | undefined {
  let best: TrialRecord | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const trial of trials) {
    if (trial.outcome?.status !== "finished") continue;
    const value = trial.outcome.figures[figure];
    if (value === undefined || Number.isNaN(value)) continue;
    const loss = direction === "minimize" ? value : -value;
    if (best === undefined || loss < least) [best, least] = [trial, loss];
  }
  return best;
}

interface SweepPlan {
  readonly identity: SweepIdentity;
  readonly space: Space;
  readonly search: Search;
  readonly goal: Goal;
  readonly stopping: Stopping | undefined;
  /** Undefined where nothing looks back. */
  readonly delay: number | undefined;
  readonly count: number;
}

interface SweepMeans {
  readonly journal: Journal;
  readonly executor: Executor;
  readonly store: { remove(number: number): Promise<void> };
  readonly signal: AbortSignal;
}

/** A sweep on its way. */
class SweepRun {
  /** Of the trials that ended, by number, where something looks back. */
  private readonly past: (PastTrial | undefined)[] = [];
  private readonly losses: (readonly Loss[] | undefined)[] = [];
  /** All trials below this number ended. */
  private endedBelow = 0;
  /** Ends the wait for a change. */
  private wake: () => void = () => {};

  constructor(
    private readonly plan: SweepPlan,
    private readonly means: SweepMeans,
    private readonly told: { readonly [Name in "onTrial" | "onReport"]: SweepOptions[Name] | undefined },
    private readonly state: SweepState,
  ) {
    for (const trial of state.trials.values()) {
      if (trial.outcome === undefined) continue;
      this.note(trial);
      means.executor.counted?.(trial.number); // The journal may have been all that was written of it.
    }
  }

  async toEnd(): Promise<readonly TrialRecord[]> {
    const { executor, signal } = this.means;
    const running = new Set<Promise<void>>();
    // Ends the others where one fails for a reason that is not its own.
    const failure = new AbortController();
    const ends = AbortSignal.any([signal, failure.signal]);
    const open = this.openNumbers();
    let failed: { readonly error: unknown } | undefined;
    try {
      for (let next = 0; next < open.length || running.size > 0; ) {
        signal.throwIfAborted();
        while (next < open.length && running.size < executor.capacity() && this.isReady(open[next]!)) {
          const run: Promise<void> = this.run(open[next++]!, ends).then(
            () => {
              running.delete(run);
              this.wake();
            },
            (error) => {
              failed ??= { error };
              this.wake();
            },
          );
          running.add(run);
        }
        await this.somethingChanges();
        if (failed !== undefined) throw failed.error;
      }
    } catch (error) {
      failure.abort(error);
      await Promise.allSettled(running);
      throw error;
    }
    const numbers = Array.from({ length: this.plan.count }, (_, number) => number);
    return numbers.map((number) => this.state.trials.get(number)!);
  }

  /**
   * A trial ended, or the executor may have room for another one. Not a race of all that run: each race would stay with
   * the promise of a trial as long as that runs.
   */
  private async somethingChanges(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      timer = setTimeout(resolve, LOOK_AGAIN_MS);
    });
    clearTimeout(timer);
  }

  private openNumbers(): number[] {
    const numbers = Array.from({ length: this.plan.count }, (_, number) => number);
    return numbers.filter((number) => this.state.trials.get(number)?.outcome === undefined);
  }

  /** Whether the trials that it looks back at have ended. */
  private isReady(number: number): boolean {
    const { delay } = this.plan;
    return delay === undefined || number - delay < this.endedBelow;
  }

  private async run(number: number, signal: AbortSignal): Promise<void> {
    const { journal, executor, store } = this.means;
    const trial = this.state.trials.get(number) ?? this.begun(number);
    const order: TrialOrder = {
      ...{ sweep: this.plan.identity.name, code: this.plan.identity.code, number, config: trial.config },
      ...{ seed: trial.seed, attempt: (this.state.attempts.get(number) ?? 0) + 1 },
      checkpoint: this.state.checkpoints.get(number),
    };
    this.told.onTrial?.(trial);
    const outcome = await executor.run(order, this.hooksOf(trial), signal);
    if (outcome.number !== number) throw new UsageError(`sweep: trial ${number} was answered by ${outcome.number}`);
    this.checkGoal(outcome);
    const done: TrialRecord = { ...trial, outcome };
    journal.add({ event: "ended", outcome });
    executor.counted?.(number);
    this.state.trials.set(number, done);
    this.note(done);
    if (this.state.checkpoints.delete(number)) await store.remove(number);
    this.told.onTrial?.(done);
  }

  private begun(number: number): TrialRecord {
    const { space, search, identity, delay } = this.plan;
    const past = search.learns ? (this.past.slice(0, number - delay! + 1) as PastTrial[]) : [];
    const config = search.propose({ space, seed: identity.seed, number, past });
    const trial: TrialRecord = { number, config, seed: trialSeed(identity.seed, number) };
    this.means.journal.add({ event: "begun", ...trial });
    this.state.trials.set(number, trial);
    return trial;
  }

  private hooksOf(trial: TrialRecord): TrialHooks {
    const { number } = trial;
    const own: Loss[] = [];
    return {
      report: (step, figures) => {
        this.told.onReport?.(trial, step, figures);
        const { stopping, goal, delay } = this.plan;
        const figure = figures[goal.figure];
        if (stopping === undefined || figure === undefined) return "continue";
        // An attempt that follows begins anew, or from its checkpoint.
        while (own.length > 0 && own.at(-1)![0] >= step) own.pop();
        own.push([step, this.lossOf(figure)]);
        const until = Math.max(0, number - delay! + 1);
        const past: (readonly Loss[])[] = [];
        const finished: boolean[] = [];
        for (let other = 0; other < until; other++) {
          const { status } = this.past[other]!;
          if (status === "failed") continue;
          past.push(this.losses[other]!);
          finished.push(status === "finished");
        }
        return stopping.decide({ own, past, finished });
      },
      checkpointed: (reference) => {
        this.state.checkpoints.set(number, reference);
        this.means.journal.add({ event: "checkpoint", number, reference });
      },
      retried: (attempt, error) => {
        this.state.attempts.set(number, attempt);
        this.means.journal.add({ event: "retried", number, attempt, error });
      },
    };
  }

  private readonly lossOf = (figure: number) => (this.plan.goal.direction === "minimize" ? figure : -figure);

  /** @throws UsageError for a trial that gave no figure of the goal's name: no other will */
  private checkGoal(outcome: TrialOutcome): void {
    if (outcome.status !== "finished") return;
    const { figure } = this.plan.goal;
    if (Object.hasOwn(outcome.figures, figure)) return;
    const names = Object.keys(outcome.figures);
    throw new UsageError(
      `goal: figure must be one that trials return, ${names.slice(0, 20).join(", ") || "and they return none"}${names.length > 20 ? "..." : ""}; given ${figure}`,
    );
  }

  /** Counts a trial that ended. */
  private note({ number, config, outcome }: TrialRecord): void {
    if (this.plan.delay !== undefined && outcome !== undefined) {
      const { status } = outcome;
      const [series, figures] = status === "failed" ? [{}, {}] : [outcome.series, outcome.figures];
      const loss = this.lossOf((figures as Figures)[this.plan.goal.figure] ?? Number.NaN);
      this.past[number] = { number, config, loss, status, series };
      this.losses[number] = (series[this.plan.goal.figure] ?? []).map(([step, value]) => [step, this.lossOf(value)]);
    }
    while (this.state.trials.get(this.endedBelow)?.outcome !== undefined) this.endedBelow++;
  }
}

/** The state of the sweep in a folder, also of one on its way. @throws UsageError where there is none */
export async function sweepState(folder: string): Promise<SweepState & { readonly identity: SweepIdentity }> {
  check("sweep", "folder", folder, text);
  const state = summed(await Journal.read(join(folder, JOURNAL)));
  if (state.identity === undefined) throw new UsageError(`sweep: ${folder} holds no sweep; name its folder`);
  return { ...state, identity: state.identity };
}
