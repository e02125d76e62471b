// Parts of a run that are computed elsewhere: in worker processes of this machine, or by the workers of a queue. A
// worker runs the experiment's own script up to the place where it names its jobs, and does those that it is asked for.
// Local workers write what they compute into the run's folder. Those of a queue send it, and it is written here.
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { object } from "valibot";
import { parse } from "../../../io/json.js";
import type { Executor, TrialConfig, TrialOrder, TrialResult } from "../../../sweeps/executor.js";
import { processExecutor } from "../../../sweeps/processes.js";
import { KilogradError } from "../../../tensor/errors.js";
import { type Job, type JobPlace, type JobsTold, type WorkerRun, workerRunDigest } from "./experiment.js";
import { type PartFiles, partFiles, queuedJobsDigest, readParts, writeParts } from "./job-parts.js";
import type { JobWorkers, RunContext } from "./run.js";

/** Tries of a job, each from its last checkpoint: a worker that is killed costs one. */
const ATTEMPTS = 3;

/** Workers for a run. The context's signal ends them. */
export function jobWorkers(run: WorkerRun, { workers, queue, store }: JobWorkers, context: RunContext): JobPlace {
  const { signal, say } = context;
  if (queue === undefined) {
    const executor = () =>
      processExecutor({
        ...{ workers, attempts: ATTEMPTS, checkpoints: run.folder, given: run },
        loader: new URL("./job-worker.js", import.meta.url),
      });
    const code = workerRunDigest(run);
    return placeOf(run, { executor, code, sweep: run.experiment, atOnce: workers, signal, config: (job) => ({ job }) });
  }
  const code = queuedJobsDigest();
  const sweep = queueNameOf(run);
  const { experiment, preset, set, seed, precision } = run;
  return placeOf(run, {
    ...{ code, sweep, signal, atOnce: Number.POSITIVE_INFINITY },
    executor: async () => {
      const { openQueue } = await import("../../../sweeps/queue/executor.js");
      const given = { address: queue, sweep, code, folder: run.folder, attempts: ATTEMPTS, answers: false };
      return await openQueue({ ...given, store, say });
    },
    config: (job, before) => ({ run: { experiment, preset, set, seed, precision, before }, job }),
    took: ({ value }) => keepParts(run.folder, value),
  });
}

/** The name of a run's jobs on a queue: the same for a run that goes on, another one for any other folder. */
function queueNameOf({ experiment, preset, folder }: WorkerRun): string {
  const digest = createHash("sha256").update(`${hostname()}\n${folder}`).digest("hex");
  return `run-${experiment}-${preset}-${digest.slice(0, 8)}`;
}

interface Place {
  readonly executor: () => Executor | Promise<Executor>;
  readonly code: string;
  readonly sweep: string;
  readonly signal: AbortSignal;
  /** Jobs that are asked for at once. */
  readonly atOnce: number;
  /** What a worker is told of a job. */
  readonly config: (job: string, before: PartFiles) => TrialConfig;
  /** Keeps what came of a job. */
  readonly took?: (result: TrialResult) => Promise<void>;
}

function placeOf(run: WorkerRun, { executor: opened, code, sweep, signal, atOnce, config, took }: Place): JobPlace {
  return {
    async run(jobs: readonly Job[], told: JobsTold) {
      const before = took === undefined ? {} : await readParts(told.before);
      const executor = await opened();
      const failures: string[] = [];
      const open: number[] = [];
      jobs.forEach(([name], number) => {
        if (told.isKept(name)) executor.counted?.(number);
        else open.push(number);
      });
      const one = async (number: number): Promise<void> => {
        const [name] = jobs[number]!;
        const order: TrialOrder = { sweep, code, number, config: config(name, before), seed: run.seed, attempt: 1 };
        const outcome = await executor.run(
          order,
          {
            report(_, figures) {
              for (const [part, share] of Object.entries(figures)) told.progress(part, share);
              return "continue";
            },
            checkpointed: () => {}, // They lie beside the parts, or with the queue.
          },
          signal,
        );
        if (outcome.status === "failed") failures.push(`${name}: ${outcome.error}`);
        else {
          await took?.(outcome);
          told.finished(name, outcome.seconds);
        }
        executor.counted?.(number);
      };
      try {
        let next = 0;
        const queue = async (): Promise<void> => {
          while (next < open.length) await one(open[next++]!);
        };
        const all = await Promise.allSettled(Array.from({ length: Math.min(atOnce, open.length) }, queue));
        signal.throwIfAborted();
        for (const ended of all) if (ended.status === "rejected") throw ended.reason;
      } finally {
        await executor.close();
      }
      if (failures.length > 0) {
        throw new KilogradError(
          "WORKER",
          `${run.experiment}: ${failures[0]}${failures.length > 1 ? ` (and ${failures.length - 1} more)` : ""}`,
        );
      }
    },
  };
}

/** @throws DataError for what are no parts */
async function keepParts(folder: string, value: unknown): Promise<void> {
  await writeParts(folder, parse(object({ parts: partFiles }), value, "queue: what came of a job").parts);
}
