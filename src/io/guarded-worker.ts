// One task in a worker thread, with a deadline and a memory limit. It is for libraries that read what comes from
// outside and may never return, or take all memory. The thread that asks stays free, and signals are handled as ever.
import { Worker } from "node:worker_threads";
import { DataError } from "../tensor/errors.js";
import { noAnswer } from "./no-answer.js";

export interface GuardedTask {
  /** A module in JavaScript that reads `workerData` and posts one message: the result. */
  readonly module: URL;
  /** The module takes further tasks as messages. Its worker is used again after an answer, and ends after a failure. */
  readonly again?: boolean;
  readonly data: unknown;
  /** Memory that moves into the worker instead of being copied. */
  readonly transfer?: readonly ArrayBuffer[];
  readonly deadlineSeconds: number;
  /** Of JavaScript's objects in the worker. Typed arrays and WebAssembly are for the module to limit. */
  readonly mostBytes: number;
  /** Begins messages: what is read. */
  readonly owner: string;
}

interface Waiting {
  readonly worker: Worker;
  readonly module: string;
  readonly limit: number;
  /** Ends its waiting. */
  readonly leave: () => void;
}

/** Limits of workers that are used again are multiples of this, so that tasks of other sizes fit. */
const LIMIT_STEP = 256 * 2 ** 20;
/** WebAssembly keeps its memory: a worker of larger tasks is not kept. */
const MOST_KEPT_BYTES = 2 * LIMIT_STEP;
/** How long a worker waits for the next task. Meanwhile it lets the process end. */
const PATIENCE_MS = 5000;

let waiting: Waiting | undefined;

/**
 * The result of a task.
 * @throws DataError where it takes longer or more memory than it may; what the module throws passes through as an Error
 */
export async function runGuarded(task: GuardedTask): Promise<unknown> {
  const { module, again = false, deadlineSeconds, owner } = task;
  const limit = again ? LIMIT_STEP * Math.ceil(task.mostBytes / LIMIT_STEP) : task.mostBytes;
  const worker = (again ? takeWaiting(task, limit) : undefined) ?? start(task, limit);
  let timer: NodeJS.Timeout | undefined;
  let forget = () => {};
  const answer = new Promise<unknown>((resolve, reject) => {
    timer = setTimeout(() => {
      reject(noAnswer(owner, deadlineSeconds));
    }, 1000 * deadlineSeconds);
    forget = listen(worker, {
      message: resolve,
      error(error) {
        if (error.code !== "ERR_WORKER_OUT_OF_MEMORY") reject(error);
        else reject(new DataError(`${owner}: takes more than ${limit} bytes of memory to read`, { cause: error }));
      },
      exit: (code) => reject(new Error(`the worker ended with code ${code} and no answer`)),
    });
  });
  let isKept = false;
  try {
    const result = await answer;
    isKept = again && limit <= MOST_KEPT_BYTES;
    return result;
  } finally {
    clearTimeout(timer);
    forget();
    if (isKept) keep(worker, module.href, limit);
    else await worker.terminate(); // Also out of a loop in WebAssembly.
  }
}

interface Listeners {
  readonly message?: (result: unknown) => void;
  readonly error: (error: NodeJS.ErrnoException) => void;
  readonly exit: (code: number) => void;
}

/** Returns what ends it. `removeAllListeners` would take Node's own, too, and no message would come any more. */
function listen(worker: Worker, { message = () => {}, error, exit }: Listeners): () => void {
  worker.once("message", message).once("error", error).once("exit", exit);
  return () => {
    worker.off("message", message).off("error", error).off("exit", exit);
  };
}

function start({ module, data, transfer = [] }: GuardedTask, limit: number): Worker {
  return new Worker(module, {
    workerData: data,
    transferList: [...transfer],
    // Nothing of this process's arguments concerns the worker, and its output would stand in the middle of others'.
    execArgv: [],
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: Math.ceil(limit / 2 ** 20) },
  });
}

/** The worker that waits, where it is of this module and has this limit: it has the task then. */
function takeWaiting({ module, data, transfer = [] }: GuardedTask, limit: number): Worker | undefined {
  if (waiting?.module !== module.href || waiting.limit !== limit) return undefined;
  const { worker, leave } = waiting;
  leave();
  worker.ref();
  worker.postMessage(data, [...transfer]);
  return worker;
}

/** Has a worker wait, instead of the one that does. */
function keep(worker: Worker, module: string, limit: number): void {
  const before = waiting;
  before?.leave();
  void before?.worker.terminate();
  const timer = setTimeout(() => {
    leave();
    void worker.terminate();
  }, PATIENCE_MS).unref();
  const leave = () => {
    waiting = undefined;
    clearTimeout(timer);
    forget();
  };
  // It has no task that could fail. Should it end, the next task gets another.
  const forget = listen(worker, { error: leave, exit: leave });
  worker.unref();
  waiting = { worker, module, limit, leave };
}
