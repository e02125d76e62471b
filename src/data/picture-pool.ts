// Threads that decode pictures, several batches at once. They end when nothing was asked of them for a while, and do
// not keep a process from ending.
import { Worker } from "node:worker_threads";
import { DataError } from "../tensor/errors.js";

/** Pictures to decode. */
export interface PictureTask {
  readonly files: readonly string[];
  /** [height, width] of what is wanted; undefined: those of the first. */
  readonly size: readonly [number, number] | undefined;
  /** Whether pictures of another size are resized; otherwise they cannot be read. */
  readonly resizes: boolean;
  readonly channels: 1 | 3;
}

/** Decoded pictures, those that could not be read left out. */
export interface DecodedPictures {
  /** [n, height, width, channels], in [0, 1]. */
  readonly pixels: Float32Array;
  readonly height: number;
  readonly width: number;
  readonly failures: readonly { readonly index: number; readonly reason: string }[];
}

interface Job {
  readonly task: PictureTask;
  readonly resolve: (result: DecodedPictures) => void;
  readonly reject: (error: unknown) => void;
}

/** Threads without work are ended after so long. */
const IDLE_MS = 5000;

export class PicturePool {
  private readonly idle: Worker[] = [];
  private readonly busy = new Map<Worker, Job>();
  private readonly waiting: Job[] = [];
  private timer: NodeJS.Timeout | undefined;

  /** @param most threads at a time */
  constructor(private readonly most: number) {}

  /** Decodes pictures of one batch, in a thread that is free, or becomes so. */
  decode(task: PictureTask): Promise<DecodedPictures> {
    clearTimeout(this.timer);
    const result = new Promise<DecodedPictures>((resolve, reject) => {
      this.waiting.push({ task, resolve, reject });
    });
    this.assign();
    return result;
  }

  private assign(): void {
    while (this.waiting.length > 0) {
      const worker = this.idle.pop() ?? (this.busy.size < this.most ? this.start() : undefined);
      if (worker === undefined) return;
      const job = this.waiting.shift()!;
      this.busy.set(worker, job);
      worker.ref();
      worker.postMessage(job.task);
    }
  }

  private start(): Worker {
    const worker = new Worker(new URL("./picture-worker.js", import.meta.url), {
      // Nothing of this process's arguments concerns the worker, and its output would stand in the middle of others'.
      execArgv: [],
      stdout: true,
      stderr: true,
    });
    worker.on("message", (result: DecodedPictures) => {
      const job = this.busy.get(worker);
      this.busy.delete(worker);
      worker.unref();
      this.idle.push(worker);
      job?.resolve(result);
      this.assign();
      if (this.busy.size === 0) this.timer = setTimeout(() => void this.end(), IDLE_MS).unref();
    });
    const lost = (reason: string, cause?: unknown) => {
      const job = this.busy.get(worker);
      this.busy.delete(worker);
      this.idle.splice(0, this.idle.length, ...this.idle.filter((other) => other !== worker));
      if (job === undefined) return;
      const { files } = job.task;
      job.reject(
        new DataError(`fromFolder: the thread that decodes ${files[0]} to ${files.at(-1)} ended: ${reason}`, { cause }),
      );
      this.assign();
    };
    worker.on("error", (error) => lost(error.message, error));
    worker.on("exit", (code) => lost(`code ${code}`));
    return worker;
  }

  /** Ends the threads; a later task starts new ones. */
  async end(): Promise<void> {
    clearTimeout(this.timer);
    await Promise.all(this.idle.splice(0).map((worker) => worker.terminate()));
  }
}
