// What a worker process of a run loads: the experiment's script, which is run up to its jobs, see job-workers.ts.
import type { TrialContext, TrialModule } from "../../../sweeps/executor.js";
import { KilogradError } from "../../../tensor/errors.js";
import { type Job, type JobPlace, serveExperiment, type WorkerRun, workerRunDigest } from "./experiment.js";
import { LiveState } from "./live.js";
import { registeredExperiment } from "./registry.js";

/** Milliseconds between two words of progress. */
const TELL_EVERY_MS = 500;

/** Progress of parts, told to the process that gave the order. */
class Told extends LiveState {
  private step = 0;
  private last = 0;

  constructor(private readonly context: () => TrialContext) {
    super("");
  }

  override progress(name: string, share: number): void {
    if (performance.now() - this.last < TELL_EVERY_MS) return;
    this.last = performance.now();
    void this.context().report(++this.step, { [name]: share });
  }

  override point(): void {}

  /** Reports of an order begin anew. */
  begin(): void {
    this.step = 0;
  }
}

export async function load(run: WorkerRun): Promise<TrialModule> {
  const { experiment } = await registeredExperiment(run.experiment).load();
  process.env["KILOGRAD_PRECISION"] = run.precision;
  let context: TrialContext;
  const told = new Told(() => context);
  let named: Promise<ReadonlyMap<string, Job[1]>> | undefined;
  /** Runs the script up to its jobs, where it stays. */
  const begin = async (): Promise<ReadonlyMap<string, Job[1]>> => {
    const device = await context.device({ tinyDispatches: experiment.tinyDispatches ?? false });
    return await new Promise((resolve, reject) => {
      const place: JobPlace = {
        serves: true,
        run(jobs) {
          resolve(new Map(jobs));
          return new Promise(() => {}); // What comes after is the other process's.
        },
      };
      const surroundings = {
        ...{ openDevice: async () => device, say: () => {}, live: told, quiet: true },
        /** Of the order at hand. */
        get signal() {
          return context.signal;
        },
      };
      serveExperiment(run, experiment, device, surroundings, place).catch(reject);
    });
  };
  return {
    code: workerRunDigest(run),
    async trial({ job }, given) {
      context = given;
      told.begin();
      const jobs = await (named ??= begin());
      const compute = jobs.get(String(job));
      if (compute === undefined) throw new KilogradError("WORKER", `${run.experiment}: has no job ${String(job)}`);
      await compute();
      return {};
    },
  };
}
