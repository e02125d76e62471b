// What an experiment is, and a run of it. A run has settings from a preset, and parts that are kept when it is
// interrupted. Time is told at the start and on the way, and results are written at the end. The experiments themselves
// are the scripts in experiments/.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ImageDataset } from "../../../data/dataset.js";
import { removeFile } from "../../../io/files.js";
import type { KeyFigure, Report } from "../../../io/report.js";
import type { Architecture } from "../../../nn/architecture.js";
import { readModelFile, saveModel } from "../../../nn/checkpoint.js";
import type { Model } from "../../../nn/model.js";
import { buildModel } from "../../../nn/stored-model.js";
import { namedDigest } from "../../../sweeps/trial-file.js";
import type { Precision } from "../../../tensor/device.js";
import { KilogradError, UsageError } from "../../../tensor/errors.js";
import { check, describe, meantHint } from "../../../tensor/options.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import type { Pictures } from "../report/grids.js";
import { addQuestions, type Question } from "../report/questions/questions.js";
import { commandText, counted, duration } from "../report/text.js";
import { checkDataName, loadData } from "./data.js";
import { ExperimentProgress, nowhere, type PartProgress } from "./experiment-progress.js";
import { describeAdapter, machineText, precisionOption, type RunContext, versions, writeResults } from "./run.js";
import { settingRule } from "./setting-rules.js";
import { WorkFolder } from "./work-folder.js";

export const presetNames = ["quick", "reference"] as const;
export type PresetName = (typeof presetNames)[number];

/** A preset's settings: names with plain values, all of which `--set name=value` can change. */
export type Settings = Readonly<Record<string, unknown>>;

/** An experiment: one script exports one as `experiment`, lib/frame/registry.ts names it. */
export interface Experiment<S extends Settings = Settings> {
  readonly presets: Readonly<Record<PresetName, S>>;
  /** Whether its networks are tiny, see `OpenDeviceOptions`; default false. */
  readonly tinyDispatches?: boolean;
  /** Does everything, from data to report. */
  run(run: ExperimentRun<S>): Promise<ExperimentResult>;
}

/** What an experiment gives back; the frame writes it. */
export interface ExperimentResult {
  /** With sections, without cards. */
  readonly report: Report;
  /** The cards at the top of the report; the first one also stands in the index of `run all`. */
  readonly figures: readonly KeyFigure[];
  /** By file name. */
  readonly pictures?: Pictures;
  /** What goes into metrics.json besides what every run has. */
  readonly metrics: Readonly<Record<string, unknown>>;
  /** What the run answers; the report ends with it. */
  readonly questions?: readonly Question[];
  /** The lines of library code that do the same, from recipes.ts. */
  readonly recipe?: string;
  /** Lines for the terminal. */
  readonly summary: string;
}

/** An experiment whose presets have the same settings. */
export function defineExperiment<S extends Settings>(experiment: Experiment<S>): Experiment<S> {
  return experiment;
}

export interface ExperimentOptions {
  readonly preset?: string;
  readonly seed?: number;
  readonly dataDir?: string;
  readonly out?: string;
  readonly resume?: boolean;
  /**
   * That of the context's device; default: KILOGRAD_PRECISION, float32. A run goes on in the precision that it began
   * in.
   */
  readonly precision?: Precision;
  /** "name=value" each, instead of the preset's. */
  readonly set?: readonly string[];
  /** Processes that compute parts which do not need each other, see `ExperimentRun.ahead`; default: none. */
  readonly workers?: number;
  /** Address of a queue whose workers compute them instead, see `kilograd worker`. */
  readonly queue?: string;
  /** What the queue's workers have, too: for parts above 8 MiB. */
  readonly store?: string;
}

/** A part of a run that needs no other one, by its name. What it computes is kept as parts. */
export type Job = readonly [name: string, compute: () => Promise<unknown>];

/** Where jobs of a run are done besides in the run itself. */
export interface JobPlace {
  /** Of a worker: it is asked for jobs by name. */
  readonly serves?: boolean;
  /** Resolves when all of them are kept. */
  run(jobs: readonly Job[], told: JobsTold): Promise<void>;
}

/** What a run has to jobs that are done elsewhere. */
export interface JobsTold {
  /** Whether a job need not be done any more. */
  isKept(name: string): boolean;
  /** Files of the parts that the script asked for before it named its jobs: what is done elsewhere may hang on them. */
  readonly before: readonly string[];
  progress(name: string, share: number): void;
  finished(name: string, seconds: number): void;
}

/** A run: what an experiment's script works with. */
export class ExperimentRun<S extends Settings = Settings> {
  private readonly progress: ExperimentProgress;
  private computed = false;
  /** Names of the parts that the script has asked for. */
  private readonly asked = new Set<string>();

  constructor(
    readonly name: string,
    readonly preset: PresetName,
    readonly settings: S,
    readonly seed: number,
    readonly device: WebGpuDevice,
    private readonly work: WorkFolder,
    private readonly dataDir: string | undefined,
    private readonly context: RunContext,
    /** What differs from the preset, "name=value" each. */
    private readonly changes: readonly string[],
    private readonly place?: JobPlace,
  ) {
    this.progress = new ExperimentProgress(context.quiet ? nowhere : process.stderr);
  }

  /** Whether this is a worker's, which computes parts for another process: time is estimated there. */
  get serves(): boolean {
    return this.place?.serves ?? false;
  }

  /** Aborted by Ctrl-C. */
  get signal(): AbortSignal {
    return this.context.signal;
  }

  /** Tells the user something while the run goes on. */
  say(message: string): void {
    this.context.say(message);
  }

  /** Where a browser looks on. */
  get live(): RunContext["live"] {
    return this.context.live;
  }

  /** Says whether there is something that an interrupt would save: see RunContext. */
  savable(is: boolean): void {
    this.context.savable?.(is);
  }

  /** Where results are written. */
  get folder(): string {
    return this.work.path;
  }

  /** Last line of reports: the machine, and the command that does the same again. */
  get footer(): string {
    return `${machineText(this.device)}. ${this.command}`;
  }

  /** The command of this run, with all that differs from its preset. */
  get command(): string {
    const { name, preset, seed, dataDir, device, changes } = this;
    return commandText(["run", name], {
      ...{ preset, seed, "data-dir": dataDir, ...precisionOption(device), set: changes },
    });
  }

  /**
   * How a figure with a goal is shown. Goals are those of the reference preset: a shorter run may meet but not miss
   * them.
   */
  readonly judged = (met: boolean): { tone?: "good" | "bad" } =>
    met ? { tone: "good" } : this.preset === "reference" ? { tone: "bad" } : {};

  /** What the run has taken so far, with all its sessions; a session that only reads parts back does not count. */
  get seconds(): number {
    return (
      this.work.earlierSeconds + (this.computed || this.work.earlierSeconds === 0 ? this.progress.totalSeconds : 0)
    );
  }

  /** "mnist" or "digits". @throws UsageError or DataError naming the file at fault */
  images(name: string, counts: { readonly train?: number; readonly test?: number } = {}): Promise<ImageDataset> {
    checkDataName(name);
    return loadData(name, { ...this.loading, trainCount: counts.train, testCount: counts.test });
  }

  /** For loaders of other data sets: the folder the user named, the signal, messages. */
  get loading() {
    const { signal, say } = this.context;
    return { dataDir: this.dataDir, signal, say };
  }

  /**
   * Says how long the run will take; later messages tell the time left by it.
   * @param seconds of each part, estimated from a measured step; finished ones of an earlier run do not count
   * @param basis what was measured: "12 networks, 67,500 steps of 1.3 to 3.2 ms"
   */
  plan(seconds: Readonly<Record<string, number>>, basis: string): void {
    const open = Object.entries(seconds).filter(([name]) => !this.work.has(name));
    const finished = Object.keys(seconds).length - open.length;
    const total = open.reduce((sum, [, value]) => sum + value, 0);
    const { device, description } = describeAdapter(this.device);
    this.say(
      `${this.name}: about ${duration(Math.max(1, total))} on ${description || device}, by a measured step: ${basis}.` +
        (finished > 0 ? ` ${counted(finished, "part")} of ${Object.keys(seconds).length} done before.` : ""),
    );
    this.progress.plan(new Map(open));
  }

  /**
   * One part of the run: computed, or read back where an earlier run had finished it.
   * @param compute gives JSON with typed arrays anywhere in it; tells its progress; looks at `signal` now and then
   */
  async part<T>(name: string, compute: (progress: PartProgress) => Promise<T>): Promise<T> {
    this.asked.add(name);
    if (this.work.has(name)) return this.work.read<T>(name);
    return this.tracked(name, async (progress) => {
      const value = await compute(progress);
      await this.work.write(name, value);
      return value;
    });
  }

  /**
   * A part that is a trained model, with notes: trained, or read back. The caller disposes it.
   * @param train changes the model in place and gives JSON to keep with it
   */
  async model<Notes extends Readonly<Record<string, unknown>>>(
    name: string,
    { architecture, seed = this.seed, train }: ModelPart<Notes>,
  ): Promise<{ readonly model: Model; readonly notes: Notes }> {
    this.asked.add(name);
    const path = this.work.pathOf(name);
    if (this.work.has(name)) {
      const file = await readModelFile(path);
      return { model: buildModel(file, this.device), notes: file.notes as Notes };
    }
    const checkpoint = this.work.pathOf(name, ".checkpoint");
    const model = architecture.build({ device: this.device, seed });
    try {
      return await this.tracked(name, async (progress) => {
        const notes = await train(model, { progress, checkpoint, started: existsSync(checkpoint) });
        await saveModel(path, model, { notes });
        await removeFile(checkpoint);
        return { model, notes };
      });
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /**
   * Jobs that do not need each other: with workers they are done in these, several at once, and kept as parts. Whatever
   * asks for the parts afterwards reads them back. Without workers nothing happens, and the parts are computed when
   * they are asked for. Figures are the same. Once in a run.
   */
  async ahead(jobs: readonly Job[]): Promise<void> {
    if (this.place === undefined) return;
    const isKept = (name: string) => !this.serves && this.work.has(name);
    if (jobs.every(([name]) => isKept(name))) return;
    await this.work.begin();
    this.computed = true;
    this.savable(true);
    try {
      await this.place.run(jobs, {
        isKept,
        before: [...this.asked].map((name) => this.work.pathOf(name)),
        progress: (name, share) => this.live?.progress(name, share),
        finished: (name, seconds) => {
          this.progress.end(name, seconds);
          this.live?.finished(name, seconds);
        },
      });
    } finally {
      this.savable(false);
      await this.work.note(this.seconds);
    }
  }

  private async tracked<T>(name: string, compute: (progress: PartProgress) => Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    await this.work.begin();
    this.computed = true;
    const begun = performance.now();
    try {
      const told = this.progress.begin(name);
      this.live?.progress(name, 0);
      const value = await compute((share, text) => {
        told(share, text);
        this.live?.progress(name, share, text);
      });
      const seconds = (performance.now() - begun) / 1000;
      this.progress.end(name, seconds);
      this.live?.finished(name, seconds);
      await this.work.note(this.seconds);
      return value;
    } finally {
      this.savable(false);
      this.progress.stop();
    }
  }
}

export interface ModelPart<Notes> {
  readonly architecture: Architecture;
  /** Default: the run's. */
  readonly seed?: number;
  readonly train: (model: Model, part: ModelPartContext) => Promise<Notes>;
}

export interface ModelPartContext {
  readonly progress: PartProgress;
  /** Where `fit` may keep a checkpoint; removed when the part is finished. */
  readonly checkpoint: string;
  /** Whether an interrupted run left one there. */
  readonly started: boolean;
}

/**
 * Runs an experiment and writes its results. @throws UsageError for options that do not fit, before anything is written
 */
export async function runExperiment(
  name: string,
  experiment: Experiment,
  options: ExperimentOptions,
  context: RunContext,
) {
  const preset = presetOf(options.preset ?? "quick");
  const settings = changedSettings(name, experiment.presets[preset], options.set ?? []);
  const seed = options.seed ?? 0;
  const out = options.out ?? join("out", `${name}-${preset}`);
  const precision = options.precision ?? (process.env["KILOGRAD_PRECISION"] || "float32");
  const work = await WorkFolder.open(
    out,
    { experiment: name, preset, seed, precision, version: versions()["kilograd"]!, settings },
    { resume: options.resume ?? false },
  );
  try {
    const { workers = 1, queue, store } = options;
    const changes = changesOf(settings, experiment.presets[preset]);
    const job = {
      experiment: name,
      preset,
      set: changes,
      seed,
      dataDir: options.dataDir,
      precision,
      folder: work.path,
    };
    const elsewhere = workers > 1 || queue !== undefined;
    const place = elsewhere ? context.jobWorkers?.(job, { workers, queue, store }, context) : undefined;
    return await runIn(work, experiment, { name, preset, settings, seed, out }, options, context, place);
  } finally {
    await work.release();
  }
}

/** Digest of what workers run. */
export const workerRunDigest = ({ experiment, preset, set, seed, precision }: WorkerRun): string =>
  namedDigest({ experiment, preset, set, seed, precision });

/** What a worker needs to know of a run to do its jobs: JSON. */
export interface WorkerRun {
  readonly experiment: string;
  readonly preset: PresetName;
  /** What differs from the preset, "name=value" each. */
  readonly set: readonly string[];
  readonly seed: number;
  readonly dataDir: string | undefined;
  readonly precision: string;
  readonly folder: string;
}

/** Runs an experiment's script in a worker, up to `ahead`, whose jobs `place` is given. Never comes to results. */
export async function serveExperiment(
  { experiment: name, preset, set, seed, dataDir, folder }: WorkerRun,
  experiment: Experiment,
  device: WebGpuDevice,
  context: RunContext,
  place: JobPlace,
): Promise<never> {
  const settings = changedSettings(name, experiment.presets[preset], set);
  const work = WorkFolder.shared(folder);
  const run = new ExperimentRun(name, preset, settings, seed, device, work, dataDir, context, set, place);
  await experiment.run(run);
  throw new KilogradError("WORKER", `${name}: has no parts that workers could compute`);
}

async function runIn(
  work: WorkFolder,
  experiment: Experiment,
  identity: {
    readonly name: string;
    readonly preset: PresetName;
    readonly settings: Settings;
    readonly seed: number;
    readonly out: string;
  },
  { dataDir, workers, queue, store }: ExperimentOptions,
  context: RunContext,
  place: JobPlace | undefined,
) {
  const { name, preset, settings, seed, out } = identity;
  const device = await context.openDevice({ tinyDispatches: experiment.tinyDispatches ?? false });
  const changes = changesOf(settings, experiment.presets[preset]);
  const run = new ExperimentRun(name, preset, settings, seed, device, work, dataDir, context, changes, place);
  try {
    const result = await experiment.run(run);
    const { report, figures, pictures = new Map(), metrics: own, questions = [], recipe = "", summary } = result;
    const metrics = {
      ...{ command: "run", experiment: name, preset, seed, config: settings },
      ...{ adapter: describeAdapter(device), versions: versions() },
      ...own,
      questions,
      images: [...pictures.keys()].map((file) => ({ file })),
      timing: { ...(own["timing"] as object | undefined), totalSeconds: run.seconds },
      memory: { peakBytes: device.memory().peakBytes },
    };
    report.figures(figures);
    report.section("Configuration", (section) => section.properties({ preset, seed, ...settings }));
    addQuestions(report, questions, recipe);
    await writeResults(work.path, { pictures, report: report.html(), metrics });
    await work.finish(run.seconds);
    return { folder: work.path, metrics, figures, summary: `${summary}\n${duration(run.seconds)} in all` };
  } catch (error) {
    if (context.signal.aborted) {
      await work.note(run.seconds);
      const again = commandText(["run", name], {
        ...{
          preset,
          seed,
          "data-dir": dataDir,
          ...precisionOption(device),
          set: changes,
          workers,
          store,
          out,
          resume: true,
        },
        ...(queue !== undefined && { queue: "..." }), // It may hold a password.
      });
      context.say(`What is finished is kept. Go on with\n  ${again}`);
    }
    throw error;
  }
}

/** @throws UsageError for an unknown preset */
export function presetOf(name: string): PresetName {
  const found = presetNames.find((preset) => preset === name);
  if (found !== undefined) return found;
  throw new UsageError(`preset: must be ${presetNames.join(" or ")}, given "${name}"`);
}

/**
 * A preset's settings with some changed, each to a value of the same kind within its limits.
 * @param changes "name=value" each
 * @throws UsageError for unknown names and values that do not fit
 */
export function changedSettings<S extends Settings>(experiment: string, settings: S, changes: readonly string[]): S {
  const changed: Record<string, unknown> = { ...settings };
  for (const change of changes) {
    const [, name = "", text = ""] = /^(\w+)=(.*)$/s.exec(change) ?? [];
    if (!Object.hasOwn(settings, name)) {
      const known = Object.keys(settings);
      throw new UsageError(
        `set: needs NAME=VALUE with a setting of ${experiment} (${known.join(", ")}), given ${describe(change)}${name === "" ? "" : meantHint(name, known)}`,
      );
    }
    const value = parsedValue(text);
    const [wanted, given] = [settings[name], value].map(kindOf);
    if (wanted !== given) {
      throw new UsageError(
        `set: ${name} must be a ${wanted} as ${JSON.stringify(settings[name])}, given ${describe(text)}`,
      );
    }
    const rule = settingRule(name, settings[name]);
    if (rule !== undefined) check("set", name, value, rule);
    changed[name] = value;
  }
  return changed as S;
}

/** What settings differ in from a preset's, "name=value" each. */
function changesOf(settings: Settings, preset: Settings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => {
    const text = JSON.stringify(value);
    if (text === JSON.stringify(preset[name])) return [];
    return [`${name}=${typeof value === "string" && parsedValue(value) === value ? value : text}`];
  });
}

const kindOf = (value: unknown) => (Array.isArray(value) ? "list" : typeof value);

function parsedValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // A word needs no quotes.
  }
}
