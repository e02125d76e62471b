// `kilograd worker`: runs trials of sweeps that are on a queue.
import { resolve } from "node:path";
import { prepareOutputFolder } from "../io/files.js";
import { processRunner } from "../sweeps/queue/process-runner.js";
import { serveQueue } from "../sweeps/queue/worker.js";
import { codeDigest } from "../sweeps/trial-file.js";
import { UsageError } from "../tensor/errors.js";
import type { RunContext } from "./lib/frame/run.js";

export interface WorkerOptions {
  /** Address; default that of the environment, where lists of processes do not show it. */
  readonly queue?: string;
  readonly trial: string;
  readonly sweep?: string;
  readonly name?: string;
  readonly concurrency?: number;
  readonly store?: string;
  /** Seconds. */
  readonly silence?: number;
}

/** Until the context's signal. */
export async function worker(options: WorkerOptions, { signal, say, savable }: RunContext): Promise<void> {
  const { trial, concurrency = 1, silence = 600, sweep, name } = options;
  const address = options.queue ?? process.env["KILOGRAD_QUEUE"];
  if (!address) {
    throw new UsageError("worker: needs the address of a queue; give --queue redis://..., or set KILOGRAD_QUEUE");
  }
  const file = resolve(trial);
  const store = options.store === undefined ? undefined : await prepareOutputFolder(options.store);
  const loader = new URL("../sweeps/trial-file.js", import.meta.url);
  const runner = await processRunner({ code: codeDigest(file), loader, given: { file }, slots: concurrency, silence });
  savable?.(true); // Trials go back to the queue.
  try {
    await serveQueue({ address, runner, sweep, name, concurrency, store, say, signal });
  } finally {
    await runner.close();
  }
}
