// A worker process of this machine: it loads what it is told to run, then runs a trial for each order that it gets, and
// ends when its sweep does, also where that was killed.

import { folderStore } from "./checkpoints.js";
import type { Decision, Figures, TrialModule, TrialOrder, TrialResult } from "./executor.js";
import { errorText } from "./in-process.js";
import { runTrial, workerDevices } from "./run-trial.js";

/** What a worker is started with: a module whose `load` gives the trial. */
export interface WorkerStart {
  /** Address of the module. */
  readonly loader: string;
  /** What its `load` is given: JSON. */
  readonly given: unknown;
  readonly worker: string;
  /** Where checkpoints are. */
  readonly checkpoints: string;
}

/** To a worker. */
export type ToWorker =
  | { readonly to: "start"; readonly start: WorkerStart }
  | { readonly to: "order"; readonly order: TrialOrder }
  | { readonly to: "decision"; readonly decision: Decision }
  | { readonly to: "stop" };

/** From a worker. */
export type FromWorker =
  | { readonly from: "ready"; readonly code: string }
  | { readonly from: "refused"; readonly error: string }
  | { readonly from: "report"; readonly step: number; readonly figures: Figures }
  | { readonly from: "checkpointed"; readonly reference: string }
  | { readonly from: "result"; readonly result: TrialResult }
  | { readonly from: "error"; readonly error: string };

const send = (message: FromWorker) => process.send?.(message);

// What an interrupt of the whole group of processes means is decided by the sweep.
process.on("SIGINT", () => {});
// Whoever gave orders is gone. Not process.exit(): that takes a driver down under its threads.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));

const stopped = new AbortController();
const devices = workerDevices();
let start: WorkerStart;
let module: TrialModule;
let decided: ((decision: Decision) => void) | undefined;

async function begin(given: WorkerStart): Promise<void> {
  start = given;
  try {
    const { load } = (await import(given.loader)) as { load: (given: unknown) => Promise<TrialModule> };
    module = await load(given.given);
    send({ from: "ready", code: module.code });
  } catch (error) {
    send({ from: "refused", error: (error as Error)?.message ?? String(error) });
  }
}

async function run(order: TrialOrder): Promise<void> {
  const checkpoints = folderStore(start.checkpoints);
  try {
    const result = await runTrial(
      order,
      module,
      {
        worker: start.worker,
        signal: stopped.signal,
        report: (step, figures) =>
          new Promise<Decision>((resolve) => {
            decided = resolve;
            send({ from: "report", step, figures });
          }),
        checkpoint: async (bytes) => {
          send({ from: "checkpointed", reference: await checkpoints.write(order.number, bytes) });
        },
        restore: (reference) => checkpoints.read(reference),
      },
      devices.open,
    );
    send({ from: "result", result });
  } catch (error) {
    send({ from: "error", error: errorText(error) });
  }
}

process.on("message", (message: ToWorker) => {
  if (message.to === "start") void begin(message.start);
  else if (message.to === "order") void run(message.order);
  else if (message.to === "decision") decided?.(message.decision);
  else stopped.abort(new Error("the sweep ends"));
});
