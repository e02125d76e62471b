// A worker process of this machine: it loads what it is told to run, then runs a trial for each order that it gets, and
// ends when its sweep does, also where that was killed.

import { folderStore } from "./checkpoints.js";
import type { Decision, Figures, TrialLink, TrialModule, TrialOrder, TrialResult } from "./executor.js";
import { errorText } from "./in-process.js";
import { runTrial, workerDevices } from "./run-trial.js";

/** What a worker is started with: a module whose `load` gives the trial. */
export interface WorkerStart {
  /** Address of the module. */
  readonly loader: string;
  /** What its `load` is given: JSON. */
  readonly given: unknown;
  readonly worker: string;
  /** Where checkpoints are; undefined where they go to whoever gave the order. */
  readonly checkpoints?: string;
}

/** To a worker. */
export type ToWorker =
  | { readonly to: "start"; readonly start: WorkerStart }
  | { readonly to: "order"; readonly order: TrialOrder; readonly resume?: Uint8Array | undefined }
  | { readonly to: "decision"; readonly decision: Decision }
  | { readonly to: "kept"; readonly error?: string | undefined }
  | { readonly to: "stop" };

/** From a worker. */
export type FromWorker =
  | { readonly from: "ready"; readonly code: string }
  | { readonly from: "refused"; readonly error: string }
  | { readonly from: "report"; readonly step: number; readonly figures: Figures }
  | { readonly from: "checkpointed"; readonly reference: string }
  | { readonly from: "checkpoint"; readonly bytes: Uint8Array }
  | { readonly from: "result"; readonly result: TrialResult }
  | { readonly from: "error"; readonly error: string };

// Where whoever gave orders is gone, so is this process in a moment: see below.
const send = (message: FromWorker) => process.send?.(message, undefined, undefined, () => {});

// What an interrupt of the whole group of processes means is decided by the sweep.
process.on("SIGINT", () => {});
// Whoever gave orders is gone. Not process.exit(): that takes a driver down under its threads.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));

const stopped = new AbortController();
const devices = workerDevices();
let start: WorkerStart;
let module: TrialModule;
/** Who waits for an answer, the first one first. */
const decided: ((decision: Decision) => void)[] = [];
const kept: ((error: string | undefined) => void)[] = [];

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

/** Checkpoints in a folder, or with whoever gave the order, who restored the last one. */
function checkpointsOf(order: TrialOrder, resume: Uint8Array | undefined): Pick<TrialLink, "checkpoint" | "restore"> {
  if (start.checkpoints === undefined) {
    return {
      checkpoint: (bytes) =>
        new Promise((resolve, reject) => {
          kept.push((error) => (error === undefined ? resolve() : reject(new Error(error))));
          send({ from: "checkpoint", bytes });
        }),
      restore: async () => resume!,
    };
  }
  const store = folderStore(start.checkpoints);
  return {
    checkpoint: async (bytes) => {
      send({ from: "checkpointed", reference: await store.write(order.number, bytes) });
    },
    restore: (reference) => store.read(reference),
  };
}

async function run(order: TrialOrder, resume: Uint8Array | undefined): Promise<void> {
  try {
    const result = await runTrial(
      order,
      module,
      {
        worker: start.worker,
        signal: stopped.signal,
        report: (step, figures) =>
          new Promise<Decision>((resolve) => {
            decided.push(resolve);
            send({ from: "report", step, figures });
          }),
        ...checkpointsOf(order, resume),
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
  else if (message.to === "order") void run(message.order, message.resume);
  else if (message.to === "decision") decided.shift()?.(message.decision);
  else if (message.to === "kept") kept.shift()?.(message.error);
  else stopped.abort(new Error("the sweep ends"));
});
