// One task in a worker thread, with a deadline and a memory limit. It is for libraries that read what comes from
// outside and may never return, or take all memory. The thread that asks stays free, and signals are handled as ever.
import { Worker } from "node:worker_threads";
import { DataError } from "../tensor/errors.js";
import { noAnswer } from "./no-answer.js";

export interface GuardedTask {
  /** A module in JavaScript that reads `workerData` and posts one message: the result. */
  readonly module: URL;
  readonly data: unknown;
  /** Memory that moves into the worker instead of being copied. */
  readonly transfer?: readonly ArrayBuffer[];
  readonly deadlineSeconds: number;
  /** Of JavaScript's objects in the worker. Typed arrays and WebAssembly are for the module to limit. */
  readonly mostBytes: number;
  /** Begins messages: what is read. */
  readonly owner: string;
}

/**
 * The result of a task.
 * @throws DataError where it takes longer or more memory than it may; what the module throws passes through as an Error
 */
export function runGuarded(task: GuardedTask): Promise<unknown> {
  const { module, data, transfer = [], deadlineSeconds, mostBytes, owner } = task;
  const worker = new Worker(module, {
    workerData: data,
    transferList: [...transfer],
    // Nothing of this process's arguments concerns the worker, and its output would stand in the middle of others'.
    execArgv: [],
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: Math.ceil(mostBytes / 2 ** 20) },
  });
  let timer: NodeJS.Timeout | undefined;
  return new Promise<unknown>((resolve, reject) => {
    timer = setTimeout(() => {
      reject(noAnswer(owner, deadlineSeconds));
    }, 1000 * deadlineSeconds);
    worker.once("message", resolve);
    worker.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "ERR_WORKER_OUT_OF_MEMORY") reject(error);
      else reject(new DataError(`${owner}: takes more than ${mostBytes} bytes of memory to read`, { cause: error }));
    });
    worker.once("exit", (code) => reject(new Error(`the worker ended with code ${code} and no answer`)));
  }).finally(async () => {
    clearTimeout(timer);
    await worker.terminate(); // Also out of a loop in WebAssembly.
  });
}
