// What a worker process loads that does jobs of runs: the experiment's script, which is run up to its jobs, see
// job-workers.ts. For local workers the run is given, and its folder is theirs. Those of a queue are told with each
// order which run it is of. Orders name experiments, settings and jobs, and never code.
import { existsSync, statSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { array, object, picklist, string } from "valibot";
import { parse, ruled, text } from "../../../io/json.js";
import type { TrialContext, TrialModule } from "../../../sweeps/executor.js";
import { KilogradError } from "../../../tensor/errors.js";
import { integer } from "../../../tensor/options.js";
import {
  type Job,
  type JobPlace,
  presetNames,
  serveExperiment,
  type WorkerRun,
  workerRunDigest,
} from "./experiment.js";
import { partFiles, queuedJobsDigest, readParts, writeParts } from "./job-parts.js";
import { LiveState } from "./live.js";
import { registeredExperiment } from "./registry.js";
import { WorkFolder } from "./work-folder.js";

/** What a worker of a queue is given instead of a run: JSON. */
export interface QueuedJobs {
  /** In which it has a folder of its own, for a job at a time. */
  readonly scratch: string;
  readonly dataDir?: string | undefined;
}

/** Milliseconds between two words of progress. */
const TELL_EVERY_MS = 500;
/** Milliseconds between two looks for a checkpoint that goes to the queue. */
const KEEP_EVERY_MS = 5000;

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

/** Runs scripts of experiments for one order after the other. */
class Scripts {
  private context!: TrialContext;
  private readonly told = new Told(() => this.context);
  private known: WorkerRun | undefined;
  private jobs: Promise<ReadonlyMap<string, Job[1]>> | undefined;

  /** Does a job of a run. The script of the last run is kept for the next job of it. */
  async compute(run: WorkerRun, job: string, context: TrialContext): Promise<void> {
    this.context = context;
    this.told.begin();
    if (run !== this.known) this.jobs = undefined;
    this.known = run;
    this.jobs ??= this.begin(run).catch((error) => {
      this.jobs = undefined; // Data that could not be had may be there the next time.
      throw error;
    });
    const compute = (await this.jobs).get(job);
    if (compute === undefined) throw new KilogradError("WORKER", `${run.experiment}: has no job ${job}`);
    await compute();
  }

  /** Runs the script up to its jobs, where it stays. */
  private async begin(run: WorkerRun): Promise<ReadonlyMap<string, Job[1]>> {
    const { experiment } = await registeredExperiment(run.experiment).load();
    process.env["KILOGRAD_PRECISION"] = run.precision;
    const device = await this.context.device({ tinyDispatches: experiment.tinyDispatches ?? false });
    const scripts = this;
    return await new Promise((resolve, reject) => {
      const place: JobPlace = {
        serves: true,
        run(jobs) {
          resolve(new Map(jobs));
          return new Promise(() => {}); // What comes after is the other process's.
        },
      };
      const surroundings = {
        ...{ openDevice: async () => device, say: () => {}, live: this.told, quiet: true },
        /** Of the order at hand. */
        get signal() {
          return scripts.context.signal;
        },
      };
      serveExperiment(run, experiment, device, surroundings, place).catch(reject);
    });
  }
}

export async function load(given: WorkerRun | QueuedJobs): Promise<TrialModule> {
  const scripts = new Scripts();
  if ("scratch" in given) return queued(given, scripts);
  await registeredExperiment(given.experiment).load(); // Its faults are told before the first order.
  return {
    code: workerRunDigest(given),
    async trial({ job }, context) {
      await scripts.compute(given, String(job), context);
      return {};
    },
  };
}

const orderSchema = object({
  run: object({
    ...{ experiment: text, preset: picklist(presetNames), set: array(string()) },
    seed: ruled<number>(integer({ from: 0, below: 2 ** 32 })),
    precision: picklist(["float32", "mixed"]),
    before: partFiles,
  }),
  job: text,
});

/** Jobs of any run, whose parts go back with the outcome. */
async function queued({ scratch, dataDir }: QueuedJobs, scripts: Scripts): Promise<TrialModule> {
  const folder = await mkdtemp(join(scratch, "jobs-"));
  const parts = join(folder, "parts");
  let run: { readonly of: string; readonly run: WorkerRun } | undefined;
  return {
    code: queuedJobsDigest(),
    async trial(config, context) {
      const { run: asked, job } = parse(orderSchema, config, "queue: an order of a job");
      const of = JSON.stringify(asked);
      if (run?.of !== of) run = { of, run: { ...asked, dataDir, folder } };
      await rm(parts, { recursive: true, force: true });
      await writeParts(folder, asked.before);
      const checkpoint = WorkFolder.shared(folder).pathOf(job, ".checkpoint");
      if (context.resume !== undefined) await writeFile(checkpoint, context.resume);
      const keeping = keptFrom(checkpoint, context);
      try {
        await scripts.compute(run.run, job, context);
      } finally {
        await keeping.end();
      }
      const files = (await readdir(parts)).filter(
        (name) => name.endsWith(".safetensors") && !Object.hasOwn(asked.before, name),
      );
      const made = await readParts(files.map((name) => join(parts, name)));
      await rm(parts, { recursive: true, force: true });
      return { figures: {}, value: { parts: made } };
    },
  };
}

/** Sends a checkpoint that a training writes to a file, now and then, where it has changed. */
function keptFrom(path: string, context: TrialContext): { end(): Promise<void> } {
  const writtenAt = () => (existsSync(path) ? statSync(path).mtimeMs : 0);
  let last = writtenAt();
  let sending: Promise<void> = Promise.resolve();
  let isSending = false;
  const send = async (): Promise<void> => {
    isSending = true;
    try {
      last = writtenAt();
      await context.checkpoint(await readFile(path));
    } catch (error) {
      if (context.signal.aborted) return;
      // The job goes on: its result is what counts.
      process.stderr.write(`kilograd: a checkpoint was not kept: ${(error as Error).message}\n`);
    } finally {
      isSending = false;
    }
  };
  const timer = setInterval(() => {
    if (!isSending && writtenAt() > last) sending = send();
  }, KEEP_EVERY_MS);
  return {
    end() {
      clearInterval(timer);
      return sending;
    },
  };
}
