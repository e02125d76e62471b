// `kilograd sweep`: trials of a file or of an experiment over a space of parameters, in worker processes or on a queue;
// and what became of them.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { prepareOutputFolder, readTextIfAny } from "../io/files.js";
import { refuseLocked } from "../io/folder-lock.js";
import type { Executor } from "../sweeps/executor.js";
import { processExecutor } from "../sweeps/processes.js";
import { grid, random, type Search, sobol } from "../sweeps/search.js";
import { checkSpace, configAt, type Space } from "../sweeps/space.js";
import { asha, median, type Stopping } from "../sweeps/stopping.js";
import {
  type Goal,
  STOP_FILE,
  type SweepOptions,
  SweepStopped,
  sweepAt,
  sweepState,
  type TrialPlace,
  type TrialRecord,
} from "../sweeps/sweep.js";
import { sweepPage, writeSweepReport } from "../sweeps/sweep-report.js";
import { tpe } from "../sweeps/tpe.js";
import { codeDigest } from "../sweeps/trial-file.js";
import { UsageError } from "../tensor/errors.js";
import { oneOf } from "../tensor/options.js";
import { changedSettings, presetOf } from "./lib/frame/experiment.js";
import { showProgress } from "./lib/frame/progress.js";
import { registeredExperiment } from "./lib/frame/registry.js";
import type { RunContext } from "./lib/frame/run.js";
import { commandText, counted } from "./lib/report/text.js";
import { type SweptExperiment, settingText, sweptDigest } from "./sweep-trial.js";

export interface SweepCommandOptions {
  /** JSON, or a file of JSON; default: what the trial's file exports as `space`. */
  readonly space?: string;
  /** Name of a figure; default: what the trial's file exports as `goal`. */
  readonly minimize?: string;
  readonly maximize?: string;
  readonly trials?: number;
  readonly workers?: number;
  readonly search?: string;
  readonly stopping?: string;
  readonly seed?: number;
  readonly name?: string;
  readonly out?: string;
  readonly resume?: boolean;
  readonly delay?: number;
  readonly attempts?: number;
  readonly queue?: string;
  /** Of the queue's workers, too: see `openStore`. */
  readonly store?: string;
  /** For experiments. */
  readonly preset?: string;
  readonly set?: readonly string[];
  readonly dataDir?: string;
}

/** How searches and early stopping are named on the command line. */
const searches: Readonly<Record<string, () => Search>> = { random, grid, sobol, tpe };
const stoppings: Readonly<Record<string, () => Stopping>> = { asha, median };

/** What is tried: where its trials run, and what its file says of space and goal. */
interface Subject {
  readonly name: string;
  readonly space: unknown;
  readonly goal: unknown;
  readonly code: string;
  /** What worker processes load. */
  readonly worker: (folder: string) => { readonly loader: URL; readonly given: unknown };
  /** @throws UsageError for a space that does not fit */
  readonly check: (space: Space) => void;
}

/** @throws UsageError for a file that is no trial, an unknown experiment, options that do not fit */
export async function sweepCommand(what: string, options: SweepCommandOptions, context: RunContext) {
  const { workers = 1, seed = 0, search = "random", stopping, resume = false, attempts = 3 } = options;
  const made = named("search", searches, search)();
  const stops = stopping === undefined ? undefined : named("stopping", stoppings, stopping)();
  const isFile = /\.[cm]?js$/.test(what);
  const subject = isFile ? await fileSubject(what) : await experimentSubject(what, options);
  const space = checkSpace("sweep", options.space === undefined ? subject.space : await spaceOf(options.space));
  subject.check(space);
  const goal = goalOf(options, subject);
  const out = options.out ?? join("out", `sweep-${subject.name}`);
  const name = options.name ?? subject.name;
  const place: TrialPlace = {
    code: subject.code,
    executor: async (folder): Promise<Executor> => {
      if (options.queue !== undefined) {
        const { openQueue } = await import("../sweeps/queue/executor.js");
        const answers = stops !== undefined;
        return await openQueue({
          ...{ address: options.queue, sweep: name, code: subject.code, folder, attempts, answers, say: context.say },
          store: options.store,
        });
      }
      return processExecutor({
        workers,
        attempts,
        checkpoints: join(folder, "checkpoints"),
        ...subject.worker(folder),
      });
    },
  };
  const shown = new SweepView(out, context);
  const sweepOptions: SweepOptions = {
    ...{ space, search: made, goal, folder: out, name, seed, workers, attempts, resume, signal: context.signal },
    ...(options.trials !== undefined && { trials: options.trials }),
    ...(options.delay !== undefined && { delay: options.delay }),
    ...(stops && { stopping: stops }),
    onTrial: (trial) => shown.trial(trial),
  };
  shown.begin(Math.min(options.trials ?? made.count(space) ?? 20, made.count(space) ?? Number.POSITIVE_INFINITY));
  context.savable?.(true); // The journal, and the checkpoints of the trials that run.
  try {
    const { folder, trials, best } = await sweepAt(sweepOptions, place);
    shown.end();
    await writeSweepReport(folder);
    return { folder, metrics: metricsOf(name, goal, trials, best), summary: summaryOf(goal, trials, best) };
  } catch (error) {
    shown.end();
    if (context.signal.aborted || error instanceof SweepStopped) {
      await writeSweepReport(out);
      context.say(`What is finished is kept. Go on with\n  ${againText(what, options, out)}`);
    }
    throw error;
  } finally {
    context.savable?.(false);
  }
}

function named<T>(option: string, all: Readonly<Record<string, T>>, name: string): T {
  const rule = oneOf(...Object.keys(all));
  if (rule.accepts(name)) return all[name]!;
  throw new UsageError(`${option}: must be ${rule.expected}, given ${JSON.stringify(name)}`);
}

async function fileSubject(file: string): Promise<Subject> {
  const path = resolve(file);
  const code = codeDigest(path);
  const { loadTrialFile } = await import("../sweeps/trial-file.js");
  await loadTrialFile(path); // Its faults are told once, here.
  const exported = (await import(pathToFileURL(path).href)) as { readonly space?: unknown; readonly goal?: unknown };
  return {
    name: path
      .split(/[\\/]/)
      .at(-1)!
      .replace(/\.[cm]?js$/, ""),
    ...{ space: exported.space, goal: exported.goal, code },
    worker: () => ({ loader: new URL("../sweeps/trial-file.js", import.meta.url), given: { file: path } }),
    check: () => {},
  };
}

async function experimentSubject(experiment: string, options: SweepCommandOptions): Promise<Subject> {
  const { load } = registeredExperiment(experiment);
  const preset = presetOf(options.preset ?? "quick");
  const settings = (await load()).experiment.presets[preset];
  const set = options.set ?? [];
  changedSettings(experiment, settings, set);
  const given = (folder: string): SweptExperiment => ({
    ...{ experiment, preset, set, folder },
    ...(options.dataDir !== undefined && { dataDir: resolve(options.dataDir) }),
  });
  return {
    ...{ name: experiment, space: undefined, goal: undefined, code: sweptDigest(given("")) },
    worker: (folder) => ({
      loader: new URL("./sweep-trial.js", import.meta.url),
      given: given(join(folder, "trials")),
    }),
    check(space) {
      for (const position of [0, 0.999999]) {
        const config = configAt(space, new Array<number>(Object.keys(space).length).fill(position));
        changedSettings(
          experiment,
          settings,
          Object.entries(config).map(([name, value]) => settingText(name, value)),
        );
      }
    },
  };
}

async function spaceOf(given: string): Promise<unknown> {
  const isText = given.trimStart().startsWith("{");
  const json = isText ? given : await readTextIfAny(given);
  if (json === undefined)
    throw new UsageError(`space: must be JSON or a file of JSON, given ${given}, which is not there`);
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new UsageError(`space: ${isText ? "" : `${given} `}is no JSON: ${(cause as Error).message}`, { cause });
  }
}

function goalOf({ minimize, maximize }: SweepCommandOptions, { goal }: Subject): Goal {
  if (minimize !== undefined && maximize !== undefined) {
    throw new UsageError("goal: a sweep minimizes one figure or maximizes one; give --minimize or --maximize");
  }
  if (minimize !== undefined) return { figure: minimize, direction: "minimize" };
  if (maximize !== undefined) return { figure: maximize, direction: "maximize" };
  if (goal !== undefined) return goal as Goal; // Checked as that of `sweep` is.
  throw new UsageError(
    "goal: needs a figure; give --minimize NAME or --maximize NAME, or export goal from the trial's file",
  );
}

const againText = (
  what: string,
  { json: _, live: __, ...options }: SweepCommandOptions & { json?: unknown; live?: unknown },
  out: string,
) => {
  const { dataDir, queue, ...rest } = options;
  // An address may hold a password.
  const hidden = queue === undefined ? {} : { queue: "..." };
  return commandText(["sweep", what], { ...rest, "data-dir": dataDir, ...hidden, out, resume: true });
};

const countsOf = (trials: readonly TrialRecord[]) => {
  const of = (status: string) => trials.filter(({ outcome }) => outcome?.status === status).length;
  return { finished: of("finished"), stopped: of("stopped"), failed: of("failed") };
};

function metricsOf(name: string, goal: Goal, trials: readonly TrialRecord[], best: TrialRecord | undefined) {
  return { command: "sweep", name, goal, trials: trials.length, ...countsOf(trials), best: best ?? null };
}

function summaryOf({ figure }: Goal, trials: readonly TrialRecord[], best: TrialRecord | undefined): string {
  const { finished, stopped, failed } = countsOf(trials);
  const counts = [
    `${counted(trials.length, "trial")}: ${finished} finished`,
    ...(stopped > 0 ? [`${stopped} stopped early`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ].join(", ");
  if (best?.outcome?.status !== "finished") return `${counts}. No trial has the figure ${figure}.`;
  return `${counts}\nbest ${figure} ${best.outcome.figures[figure]}, trial ${best.number}: ${JSON.stringify(best.config)}`;
}

/** A sweep as it is shown while it is on its way. */
class SweepView {
  private ended = 0;
  private failed = 0;
  private total = 0;
  private progress: ReturnType<typeof showProgress> | undefined;
  /** What the journal had, and what was told since. */
  private state: Awaited<ReturnType<typeof sweepState>> | undefined;
  private readonly told = new Map<number, TrialRecord>();
  private reading = false;

  constructor(
    private readonly folder: string,
    private readonly context: RunContext,
  ) {}

  begin(total: number): void {
    this.total = total;
    if (!this.context.quiet) this.progress = showProgress("trials", total);
    if (this.context.live === undefined) return;
    // It is drawn when a browser asks for it.
    this.context.live.page = (events) => this.state && sweepPage(this.state, { reloadOn: events });
  }

  trial(trial: TrialRecord): void {
    const { number, outcome } = trial;
    if (outcome !== undefined) {
      this.ended++;
      if (outcome.status === "failed") this.failed++;
    }
    const text = this.failed > 0 ? `${this.failed} failed` : "";
    this.progress?.update(this.ended, text);
    if (this.context.live === undefined) return;
    (this.state?.trials ?? this.told).set(number, trial);
    this.context.live.progress("trials", this.ended / this.total, text);
    if (this.state !== undefined || this.reading) return;
    this.reading = true;
    // What is read while it is written ends with a whole line.
    void sweepState(this.folder).then(
      (state) => {
        for (const [number, trial] of this.told) state.trials.set(number, trial);
        this.state = state;
      },
      () => {}, // The sweep itself tells what is wrong with its journal.
    );
  }

  end(): void {
    this.progress?.end();
  }
}

/** `kilograd sweep status`: what stands in the journal. @throws UsageError where there is no sweep */
export async function sweepStatus(folder: string) {
  const { identity, trials } = await sweepState(folder);
  const all = [...trials.values()];
  const goal = identity.goal as Goal;
  const { bestOf } = await import("../sweeps/sweep.js");
  const best = bestOf(all, goal);
  const isRunning = await refuseLocked(folder).then(
    () => false,
    () => true,
  );
  const open = all.filter(({ outcome }) => outcome === undefined).length;
  const metrics = { ...metricsOf(identity.name, goal, all, best), begun: open, running: isRunning };
  const state = isRunning
    ? `is on its way, ${counted(open, "trial")} begun`
    : `is not on its way, ${counted(open, "trial")} to go on with`;
  return {
    folder,
    metrics,
    summary: `${identity.name} ${state}\n${summaryOf(
      goal,
      all.filter(({ outcome }) => outcome !== undefined),
      best,
    )}`,
  };
}

/**
 * `kilograd sweep stop`: asks the process that runs the sweep in a folder to end. @throws UsageError where none does
 */
export async function sweepStop(folder: string): Promise<void> {
  await sweepState(folder);
  const isRunning = await refuseLocked(folder).then(
    () => false,
    () => true,
  );
  if (!isRunning) throw new UsageError(`sweep: none is on its way in ${folder}; nothing is to be stopped`);
  await writeFile(join(await prepareOutputFolder(folder), STOP_FILE), "");
}

/** `kilograd sweep report`: writes the page anew. @throws UsageError where there is no sweep */
export async function sweepReport(folder: string): Promise<string> {
  if (!existsSync(folder)) throw new UsageError(`sweep: ${folder} is not there; name the folder of a sweep`);
  return (await writeSweepReport(folder)).report;
}
