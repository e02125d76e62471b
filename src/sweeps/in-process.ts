// Trials in this process: one after the other, or several at once that share a device.
import type {
  CheckpointStore,
  Executor,
  TrialHooks,
  TrialLink,
  TrialModule,
  TrialOrder,
  TrialOutcome,
} from "./executor.js";
import { runTrial, WorkerRefused, workerDevices } from "./run-trial.js";

/** What every executor of this machine is told. */
export interface LocalOptions {
  /** Trials at once. */
  readonly workers: number;
  /** Tries of a trial before it has failed. */
  readonly attempts: number;
  readonly checkpoints: CheckpointStore;
}

/** An error of a trial in one line. */
export const errorText = (error: unknown): string =>
  (error instanceof Error ? [error.name, error.message].filter(Boolean).join(": ") : String(error))
    .replace(/\s*\n\s*/g, " ")
    .slice(0, 2000) || "an error without words";

/** Tries an order until it has an outcome. @param attempt gives an outcome, or throws what cost the try */
export async function attempted(
  order: TrialOrder,
  hooks: TrialHooks,
  { attempts, signal }: { readonly attempts: number; readonly signal: AbortSignal },
  attempt: (order: TrialOrder, hooks: TrialHooks) => Promise<TrialOutcome>,
): Promise<TrialOutcome> {
  let { checkpoint } = order;
  const kept: TrialHooks = {
    ...hooks,
    report: (step, figures) => hooks.report(step, figures),
    checkpointed(reference) {
      checkpoint = reference;
      hooks.checkpointed(reference);
    },
  };
  for (let number = order.attempt; ; number++) {
    signal.throwIfAborted();
    try {
      return await attempt({ ...order, attempt: number, checkpoint }, kept);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof WorkerRefused) throw error;
      const text = errorText(error);
      if (number >= attempts) return { status: "failed", number: order.number, error: text, attempts: number };
      hooks.retried?.(number, text);
    }
  }
}

/** Runs trials in this process. They share its device, and one that never ends is never ended. */
export function inProcessExecutor(module: TrialModule, { workers, attempts, checkpoints }: LocalOptions): Executor {
  const devices = workerDevices();
  return {
    capacity: () => workers,
    run: (order, hooks, signal) =>
      attempted(order, hooks, { attempts, signal }, (order, hooks) => {
        const link: TrialLink = {
          worker: "this process",
          signal,
          report: async (step, figures) => hooks.report(step, figures),
          checkpoint: async (bytes) => hooks.checkpointed(await checkpoints.write(order.number, bytes)),
          restore: (reference) => checkpoints.read(reference),
        };
        return runTrial(order, module, link, devices.open);
      }),
    close: () => devices.close(),
  };
}
