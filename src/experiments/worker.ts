// `kilograd worker`: runs trials of sweeps that are on a queue. And what a queue has, for `kilograd sweep`.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { prepareOutputFolder } from "../io/files.js";
import { endSweep, queuedSweeps } from "../sweeps/queue/manage.js";
import { processRunner } from "../sweeps/queue/process-runner.js";
import { openStore } from "../sweeps/queue/stores.js";
import { serveQueue } from "../sweeps/queue/worker.js";
import { codeDigest } from "../sweeps/trial-file.js";
import { UsageError } from "../tensor/errors.js";
import { changedSettings, presetOf } from "./lib/frame/experiment.js";
import { queuedJobsDigest } from "./lib/frame/job-parts.js";
import type { QueuedJobs } from "./lib/frame/job-worker.js";
import { registeredExperiment } from "./lib/frame/registry.js";
import type { RunContext } from "./lib/frame/run.js";
import { type SweptExperiment, sweptDigest } from "./sweep-trial.js";

export interface WorkerOptions {
  /** Address; default that of the environment, where lists of processes do not show it. */
  readonly queue?: string;
  /** File of the trial. Either this or `experiment`. */
  readonly trial?: string;
  /** Name of an experiment, with what the sweep has of preset and settings; "all": jobs of `kilograd run --queue`. */
  readonly experiment?: string;
  readonly preset?: string;
  readonly set?: readonly string[];
  readonly dataDir?: string;
  /** Where the runs of an experiment are written. */
  readonly out?: string;
  readonly sweep?: string;
  readonly name?: string;
  readonly concurrency?: number;
  /** See `openStore`. */
  readonly store?: string;
  /** Seconds. */
  readonly silence?: number;
}

/** An address as it is given, or that of the environment. @throws UsageError where there is none */
export function queueAddress(owner: string, given: string | undefined): string {
  const address = given ?? process.env["KILOGRAD_QUEUE"];
  if (address) return address;
  throw new UsageError(`${owner}: needs the address of a queue; give --queue redis://..., or set KILOGRAD_QUEUE`);
}

/** Until the context's signal. */
export async function worker(options: WorkerOptions, { signal, say, savable }: RunContext): Promise<void> {
  const { concurrency = 1, silence = 600, sweep, name } = options;
  const address = queueAddress("worker", options.queue);
  const store = options.store === undefined ? undefined : await openStore(options.store);
  const scratch = await mkdtemp(join(tmpdir(), "kilograd-worker-"));
  try {
    const runner = await processRunner({ ...(await codeOf(options, scratch)), slots: concurrency, silence });
    savable?.(true); // Trials go back to the queue.
    try {
      await serveQueue({ address, runner, sweep, name, concurrency, store, say, signal });
    } finally {
      await runner.close();
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What the worker runs. @throws UsageError unless it is one file, one experiment, or jobs of all */
async function codeOf(options: WorkerOptions, scratch: string) {
  const { trial, experiment, preset = "quick", set = [], out } = options;
  const data = options.dataDir === undefined ? {} : { dataDir: resolve(options.dataDir) };
  if ((trial === undefined) === (experiment === undefined)) {
    throw new UsageError(
      "worker: needs what it runs; give either --trial FILE or --experiment NAME, as the sweep has it",
    );
  }
  if (trial !== undefined) {
    const file = resolve(trial);
    const loader = new URL("../sweeps/trial-file.js", import.meta.url);
    return { code: codeDigest(file), loader, given: { file } };
  }
  if (experiment === "all") {
    if (options.preset !== undefined || set.length > 0 || out !== undefined) {
      throw new UsageError("worker: --preset, --set and --out are the run's; leave them out with --experiment all");
    }
    const given: QueuedJobs = { scratch, ...data };
    return { code: queuedJobsDigest(), loader: new URL("./lib/frame/job-worker.js", import.meta.url), given };
  }
  const { load } = registeredExperiment(experiment!);
  changedSettings(experiment!, (await load()).experiment.presets[presetOf(preset)], set);
  const folder = await prepareOutputFolder(out ?? `out/worker-${experiment}`);
  const given: SweptExperiment = { experiment: experiment!, preset, set, folder, ...data };
  return { code: sweptDigest(given), loader: new URL("./sweep-trial.js", import.meta.url), given };
}

/** `kilograd sweep status --queue`: the sweeps on a queue. */
export async function queueStatus(queue: string | undefined, say: (message: string) => void) {
  const sweeps = await queuedSweeps(queueAddress("sweep", queue), say);
  const lines = sweeps.map(({ name, code, coordinated, workers, waiting, running, uncounted }) =>
    [
      `${name}: trial ${code?.slice(0, 12) ?? "of another version"}`,
      `${waiting} waiting, ${running} running, ${uncounted} ended and not in a journal yet`,
      `workers: ${workers.join(", ") || "none"}`,
      coordinated ? "on its way" : "its process is gone: go on with it by --resume, or end it by `kilograd sweep stop`",
    ].join("; "),
  );
  return { metrics: { sweeps }, summary: lines.join("\n") || "no sweep is on the queue" };
}

/**
 * `kilograd sweep stop NAME --queue`: takes a sweep off a queue. @throws UsageError where there is none of this name
 */
export function queueStop(name: string, queue: string | undefined, say: (message: string) => void): Promise<void> {
  return endSweep(queueAddress("sweep", queue), name, say);
}
