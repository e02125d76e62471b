// Parts of a run that are computed in worker processes. A worker runs the experiment's own script up to the place where
// it names its jobs, and does those that it is asked for. What they compute lies as parts in the run's folder.

import type { TrialOrder } from "../../../sweeps/executor.js";
import { processExecutor } from "../../../sweeps/processes.js";
import { KilogradError } from "../../../tensor/errors.js";
import { type JobPlace, type WorkerRun, workerRunDigest } from "./experiment.js";

/** Tries of a job, each from its last checkpoint: a worker that is killed costs one. */
const ATTEMPTS = 3;

/** Workers for a run. @param signal ends them */
export function jobWorkers(run: WorkerRun, workers: number, signal: AbortSignal): JobPlace {
  const code = workerRunDigest(run);
  return {
    async run(jobs, told) {
      const executor = processExecutor({
        ...{ workers, attempts: ATTEMPTS, checkpoints: run.folder, given: run },
        loader: new URL("./job-worker.js", import.meta.url),
      });
      const failures: string[] = [];
      const one = async (number: number): Promise<void> => {
        const [name] = jobs[number]!;
        const order: TrialOrder = {
          ...{ sweep: run.experiment, code, number, config: { job: name }, seed: run.seed, attempt: 1 },
        };
        const outcome = await executor.run(
          order,
          {
            report(_, figures) {
              for (const [part, share] of Object.entries(figures)) told.progress(part, share);
              return "continue";
            },
            checkpointed: () => {}, // They lie beside the parts.
          },
          signal,
        );
        if (outcome.status === "failed") failures.push(`${name}: ${outcome.error}`);
        else told.finished(name, outcome.seconds);
      };
      try {
        let next = 0;
        const queue = async (): Promise<void> => {
          while (next < jobs.length) await one(next++);
        };
        const all = await Promise.allSettled(Array.from({ length: Math.min(workers, jobs.length) }, queue));
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
