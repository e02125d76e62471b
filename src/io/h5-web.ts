// One task of HDF5's library in a worker of a page, with a deadline and a memory limit, as guarded-worker.ts in Node.
import type { Hdf5Task } from "../runtime/runtime.js";
import { UsageError } from "../tensor/errors.js";
import { noAnswer } from "./no-answer.js";

/**
 * The result of a task.
 * @throws DataError where it takes longer than it may, UsageError where the worker's file cannot be loaded; what the
 * library throws passes through as an Error
 */
export function runInWorker({ data, deadlineSeconds, owner }: Omit<Hdf5Task, "module">): Promise<unknown> {
  // Bundlers look for these words.
  const worker = new Worker(new URL("./h5-web-worker.js", import.meta.url), { type: "module" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  return new Promise<unknown>((resolve, reject) => {
    timer = setTimeout(() => {
      reject(noAnswer(owner, deadlineSeconds));
    }, 1000 * deadlineSeconds);
    worker.onmessage = ({ data: answer }: MessageEvent<{ result: unknown } | { failure: string }>) => {
      if ("failure" in answer) reject(new Error(answer.failure));
      else resolve(answer.result);
    };
    worker.onerror = ({ message }) => {
      const reason = message ? `: ${message}` : "";
      reject(
        new UsageError(
          `${owner}: HDF5's worker cannot be loaded${reason}; a bundler must know new Worker(new URL(...)), as vite and webpack do`,
        ),
      );
    };
    worker.postMessage(data);
  }).finally(() => {
    clearTimeout(timer);
    worker.terminate(); // Also out of a loop in WebAssembly.
  });
}
