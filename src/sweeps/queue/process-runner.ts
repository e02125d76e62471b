// Attempts in processes of their own, one for each slot of a worker. A trial that crashes takes its process with it,
// and not the worker, which says so to the queue; one that hangs is ended.
import { KilogradError } from "../../tensor/errors.js";
import { WorkerProcess } from "../processes.js";
import { checkCode } from "../run-trial.js";
import { threadVariables } from "../threads.js";
import { GRACE_MS } from "./times.js";
import type { TrialRunner } from "./worker.js";

export interface ProcessRunnerOptions {
  /** Digest of the trial's code. */
  readonly code: string;
  /** A module with `load(given): Promise<TrialModule>`. */
  readonly loader: URL;
  /** For `load`: JSON. */
  readonly given: unknown;
  /** Trials at once. */
  readonly slots: number;
  /** Seconds after which an attempt is ended that neither reports, nor keeps a checkpoint, nor ends. */
  readonly silence: number;
}

/** Runs attempts in processes, the first of which has loaded the trial. @throws UsageError where it cannot be loaded */
export async function processRunner(options: ProcessRunnerOptions): Promise<TrialRunner> {
  const { code, loader, given, slots, silence } = options;
  const idle: WorkerProcess[] = [];
  const all = new Set<WorkerProcess>();
  // The queue's address is none of a trial's business.
  const environment = { ...threadVariables(slots), KILOGRAD_QUEUE: "" };
  const take = (name: string): WorkerProcess => {
    for (let worker = idle.pop(); worker !== undefined; worker = idle.pop()) if (worker.alive) return worker;
    const start = { loader: loader.href, given, worker: name };
    const started = new WorkerProcess(start, environment);
    all.add(started);
    return started;
  };
  const first = take("a worker");
  try {
    await first.ready;
    idle.push(first);
  } catch (error) {
    await first.kill();
    throw error;
  }
  return {
    code,
    async run(order, link) {
      const worker = take(link.worker);
      let timer: NodeJS.Timeout | undefined;
      let silent: Error | undefined;
      const listen = () => {
        if (link.signal.aborted) return;
        clearTimeout(timer);
        timer = setTimeout(() => {
          silent = new KilogradError("WORKER", `the trial gave no sign for ${silence} s, and was ended`);
          void worker.kill();
        }, 1000 * silence);
      };
      /** What is waited for meanwhile is not the trial. */
      const heard = async <T>(answer: Promise<T>): Promise<T> => {
        if (!link.signal.aborted) clearTimeout(timer);
        const answered = await answer;
        listen();
        return answered;
      };
      const onAbort = () => {
        worker.stop();
        clearTimeout(timer);
        timer = setTimeout(() => void worker.kill(), GRACE_MS);
      };
      link.signal.addEventListener("abort", onAbort, { once: true });
      try {
        checkCode(order, await worker.ready);
        listen();
        if (link.signal.aborted) onAbort();
        return await worker.runWith(order, {
          ...{ worker: link.worker, signal: link.signal },
          restore: (reference) => link.restore(reference),
          report: (step, figures) => heard(link.report(step, figures)),
          checkpoint: (bytes) => heard(link.checkpoint(bytes)),
        });
      } catch (error) {
        if (link.signal.aborted) throw link.signal.reason;
        throw silent ?? error;
      } finally {
        clearTimeout(timer);
        link.signal.removeEventListener("abort", onAbort);
        // Its signal stays aborted.
        if (link.signal.aborted) await worker.kill();
        if (worker.alive) idle.push(worker);
        else all.delete(worker);
      }
    },
    async close() {
      await Promise.all([...all].map((worker) => worker.kill()));
      all.clear();
    },
  };
}
