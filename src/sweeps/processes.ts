// Trials in processes of this machine, each with a device of its own. A worker that is killed costs the trial that it
// ran an attempt, and is replaced.
import { type ChildProcess, fork } from "node:child_process";
import { KilogradError } from "../tensor/errors.js";
import type { Executor, TrialHooks, TrialLink, TrialOrder, TrialOutcome, TrialResult } from "./executor.js";
import { attempted, errorText, type LocalOptions } from "./in-process.js";
import { checkCode, WorkerRefused } from "./run-trial.js";
import { threadVariables } from "./threads.js";
import type { FromWorker, ToWorker, WorkerStart } from "./worker-process.js";

/** What worker processes are started with. */
export interface ProcessOptions extends Omit<LocalOptions, "checkpoints"> {
  /** A module with `load(given): Promise<TrialModule>`. */
  readonly loader: URL;
  /** For `load`: JSON. */
  readonly given: unknown;
  /** The folder with checkpoints. */
  readonly checkpoints: string;
}

/** What workers have to end their trials by themselves before they are killed. */
const GRACE_MS = 1500;
const ENTRY = new URL("./worker-process.js", import.meta.url);

/** A process that runs one order at a time. */
export class WorkerProcess {
  /** Digest of its code, once it has loaded it. */
  readonly ready: Promise<string>;
  private readonly child: ChildProcess;
  private readonly ended: Promise<void>;
  private handle: ((message: FromWorker) => void) | undefined;
  private lost: ((error: Error) => void) | undefined;
  alive = true;

  constructor(start: WorkerStart, environment: Readonly<Record<string, string>>) {
    this.child = fork(ENTRY, [], {
      serialization: "advanced", // NaN and typed arrays as they are.
      stdio: ["ignore", 2, 2, "ipc"], // What trials print is no result.
      env: { ...process.env, ...environment },
      execArgv: [],
    });
    this.child.on("message", (message: FromWorker) => this.handle?.(message));
    this.ended = new Promise((resolve) => {
      const end = (why: string) => {
        this.alive = false;
        this.lost?.(new KilogradError("WORKER", `the worker process ${why}`));
        resolve();
      };
      this.child.on("error", (error) => end(`failed: ${error.message}`));
      this.child.on("exit", (code, signal) =>
        end(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
      );
    });
    this.ready = this.asked({ to: "start", start }, (message, resolve, reject) => {
      if (message.from === "ready") resolve(message.code);
      if (message.from === "refused") reject(new WorkerRefused(message.error));
    });
    this.ready.catch(() => {}); // It is awaited where there is an order.
  }

  private send(message: ToWorker): void {
    // What cannot be sent any more was lost with the process.
    if (this.alive && this.child.connected) this.child.send(message, () => {});
  }

  private async asked<T>(
    message: ToWorker,
    answer: (message: FromWorker, resolve: (value: T) => void, reject: (error: Error) => void) => void,
  ): Promise<T> {
    try {
      return await new Promise<T>((resolve, reject) => {
        this.handle = (message) => answer(message, resolve, reject);
        this.lost = reject;
        if (!this.alive) reject(new KilogradError("WORKER", "the worker process had ended before"));
        this.send(message);
      });
    } finally {
      this.handle = undefined;
      this.lost = undefined;
    }
  }

  run(order: TrialOrder, hooks: TrialHooks): Promise<TrialOutcome> {
    return this.asked<TrialOutcome>({ to: "order", order }, (message, resolve, reject) => {
      if (message.from === "report") {
        const decided = async () => await hooks.report(message.step, message.figures);
        decided().then((decision) => this.send({ to: "decision", decision }), reject);
      } else if (message.from === "checkpointed") hooks.checkpointed(message.reference);
      else if (message.from === "result") resolve(message.result);
      else if (message.from === "error") reject(new TrialError(message.error));
    });
  }

  /** Runs an order whose checkpoints are kept by a link: of a process that was started without a folder for them. */
  async runWith(order: TrialOrder, link: TrialLink): Promise<TrialResult> {
    const { checkpoint } = order;
    const resume = checkpoint === undefined ? undefined : await link.restore(checkpoint);
    return await this.asked<TrialResult>({ to: "order", order, resume }, (message, resolve, reject) => {
      if (message.from === "report") {
        link.report(message.step, message.figures).then((decision) => this.send({ to: "decision", decision }), reject);
      } else if (message.from === "checkpoint") {
        const kept = (error?: unknown) =>
          this.send({ to: "kept", error: error === undefined ? undefined : errorText(error) });
        link.checkpoint(message.bytes).then(() => kept(), kept);
      } else if (message.from === "result") resolve(message.result);
      else if (message.from === "error") reject(new TrialError(message.error));
    });
  }

  /** Asks its trial to end. */
  stop(): void {
    this.send({ to: "stop" });
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** What a trial threw in another process, in that one's words. */
class TrialError extends Error {
  override readonly name = "";
}

/** Runs trials in processes, which are started when there are orders for them. */
export function processExecutor(options: ProcessOptions): Executor {
  const { workers, attempts, loader, given, checkpoints } = options;
  const idle: WorkerProcess[] = [];
  const all = new Set<WorkerProcess>();
  const busy = new Set<WorkerProcess>();
  let count = 0;
  let closed = false;
  const environment = threadVariables(workers);
  const take = (): WorkerProcess => {
    for (;;) {
      const worker = idle.pop();
      if (worker?.alive) return worker;
      if (worker !== undefined) continue;
      const started = new WorkerProcess(
        { loader: loader.href, given, checkpoints, worker: `process ${++count}` },
        environment,
      );
      all.add(started);
      return started;
    }
  };
  return {
    capacity: () => workers,
    run(order, hooks, signal) {
      return attempted(order, hooks, { attempts, signal }, async (order, hooks) => {
        const worker = take();
        busy.add(worker);
        const stop = () => worker.stop();
        let late: NodeJS.Timeout | undefined;
        const end = () => {
          stop();
          late = setTimeout(() => void worker.kill(), GRACE_MS);
        };
        signal.addEventListener("abort", end, { once: true });
        try {
          checkCode(order, await worker.ready);
          if (signal.aborted) end();
          return await worker.run(order, hooks);
        } finally {
          clearTimeout(late);
          signal.removeEventListener("abort", end);
          busy.delete(worker);
          if (!worker.alive || closed || signal.aborted) all.delete(worker);
          if (signal.aborted || closed) await worker.kill();
          else if (worker.alive) idle.push(worker);
        }
      });
    },
    async close() {
      closed = true;
      await Promise.all([...all].map((worker) => worker.kill()));
      all.clear();
    },
  };
}
