// A worker of a queue: serves the sweeps whose code is the worker's own, takes their orders one after the other for
// each of its slots, and gives back what it cannot finish.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Job, Worker } from "bullmq";
import { DataError, KilogradError, UsageError } from "../../tensor/errors.js";
import { check, integer, type Rule } from "../../tensor/options.js";
import type { Decision, TrialFailure, TrialLink, TrialOrder, TrialOutcome, TrialResult } from "../executor.js";
import { WorkerRefused } from "../run-trial.js";
import { parseAddress, type QueueAddress } from "./address.js";
import { Blobs, MOST_IN_REDIS } from "./blobs.js";
import { type Client, type Connection, connect, queueError } from "./connection.js";
import {
  type About,
  fits,
  type KeptOutcome,
  lineOf,
  type Report,
  readAbout,
  readAnswer,
  readOrder,
  sweepName,
  textOf,
  type WorkerInfo,
  write,
} from "./messages.js";
import { answersKey, JOBS_PREFIX, SWEEPS_KEY, type SweepKeys, sweepKeys } from "./scripts.js";
import type { BlobStore } from "./stores.js";
import { ASK_AGAIN_MS, HEARTBEAT_MS, LEAVING_MS, LOCK_MS, STALLED_MS } from "./times.js";

/** Runs attempts at trials, for as many at once as it is asked to. */
export interface TrialRunner {
  /** Of the code that it runs. */
  readonly code: string;
  /** @throws what the trial threw; and, soon after `link.signal`, its reason */
  run(order: TrialOrder, link: TrialLink): Promise<TrialResult>;
  close(): Promise<void>;
}

export interface QueueWorkerOptions {
  readonly address: string;
  readonly runner: TrialRunner;
  /** For people; default host and process. */
  readonly name?: string | undefined;
  /** Trials at once; default 1. */
  readonly concurrency?: number | undefined;
  /** Serves this sweep alone: one of other code is an error then. */
  readonly sweep?: string | undefined;
  /** What all machines share, for checkpoints and outcomes that are too large for Redis. */
  readonly store?: BlobStore | undefined;
  /** Told what whoever started the worker should know. */
  readonly say: (message: string) => void;
  /** Ends the worker: trials go back to the queue, with their checkpoints. */
  readonly signal: AbortSignal;
}

/** How often is looked for sweeps where none is served, in milliseconds. */
const LOOK_MS = 1000;
/** Reports that wait in Redis while no coordinator reads. */
const MOST_REPORTS = 10_000;

export const workerName: Rule = {
  expected: "a name of at most 100 letters, digits and . : - _",
  accepts: (value) => typeof value === "string" && /^[\w.:-]{1,100}$/.test(value),
};
export const slotsRule = integer({ from: 1, to: 1024 });

/** Why an attempt is given up. */
class Given extends Error {
  /** @param back whether the trial goes back to the queue; otherwise it is another's, or nobody's */
  constructor(
    message: string,
    readonly back: boolean,
  ) {
    super(message);
  }
}

/**
 * Serves a queue until the signal.
 * @throws UsageError where the named sweep runs other code; KilogradError `QUEUE` where the queue cannot be used
 */
export async function serveQueue(options: QueueWorkerOptions): Promise<void> {
  const host = hostname().replace(/[^\w.-]/g, "-");
  const { name = `${host}:${process.pid}`, concurrency = 1 } = options;
  check("worker", "name", name, workerName);
  check("worker", "concurrency", concurrency, slotsRule);
  if (options.sweep !== undefined) check("worker", "sweep", options.sweep, sweepName);
  const address = parseAddress(options.address);
  const connection = await connect(address, options.say);
  try {
    const { Worker, WaitingError } = await import("bullmq");
    const info = { id: `${host}:${process.pid}:${randomBytes(6).toString("hex")}`, name, slots: concurrency };
    const answers = new Answers(connection.client, await connection.another(), info.id);
    const serving = new QueueWorker(connection, answers, info, options, { Worker, WaitingError });
    await serving.serve();
  } catch (error) {
    throw queueError(error, address);
  } finally {
    connection.close();
  }
}

/** What the coordinator answers to reports. */
class Answers {
  private readonly waiting = new Map<string, (decision: Decision) => void>();
  private reading = false;

  constructor(
    private readonly client: Client,
    /** Waits for answers. */
    private readonly reader: Client,
    private readonly worker: string,
  ) {}

  /** Sends a report until it is answered. */
  async ask(keys: SweepKeys, report: Extract<Report, { kind: "report" }>, signal: AbortSignal): Promise<Decision> {
    const { number, attempt, step } = report;
    const question = `${number} ${attempt} ${step}`;
    const text = write(`trial ${number}: report`, report);
    const send = () => this.client.xadd(keys.reports, "MAXLEN", "~", MOST_REPORTS, "*", "message", text);
    let again: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise<Decision>((answered, failed) => {
        signal.throwIfAborted();
        onAbort = () => failed(signal.reason);
        signal.addEventListener("abort", onAbort);
        this.waiting.set(question, answered);
        if (!this.reading) void this.read();
        send().catch(failed);
        again = setInterval(() => send().catch(failed), ASK_AGAIN_MS);
      });
    } finally {
      clearInterval(again);
      signal.removeEventListener("abort", onAbort!);
      this.waiting.delete(question);
    }
  }

  private async read(): Promise<void> {
    this.reading = true;
    try {
      while (this.waiting.size > 0) {
        const [, text] = (await this.reader.blpop(answersKey(this.worker), 1)) ?? [];
        if (text === undefined) continue;
        const { number, attempt, step, decision } = readAnswer(text);
        this.waiting.get(`${number} ${attempt} ${step}`)?.(decision);
      }
    } catch {
      // The connection is closed, or it was no answer: reports are sent again.
    } finally {
      this.reading = false;
    }
  }
}

/** A trial on its way. */
interface Running {
  readonly number: number;
  readonly abort: AbortController;
}

class QueueWorker {
  private readonly client: Client;
  private readonly address: QueueAddress;
  private readonly refused = new Map<string, string>();

  constructor(
    connection: Connection,
    private readonly answers: Answers,
    private readonly info: WorkerInfo,
    private readonly options: QueueWorkerOptions,
    private readonly bullmq: Pick<typeof import("bullmq"), "Worker" | "WaitingError">,
  ) {
    this.client = connection.client;
    this.address = connection.address;
  }

  async serve(): Promise<void> {
    const { signal, sweep: only, say } = this.options;
    let waited = false;
    while (!signal.aborted) {
      const names = only === undefined ? await this.client.smembers(SWEEPS_KEY) : [only];
      let served = false;
      for (const name of names.sort()) {
        if (signal.aborted) break;
        const about = await this.aboutOf(name);
        if (about === undefined) continue;
        served = true;
        say(`worker ${this.info.name}: serves sweep ${name}`);
        await new Serving(
          this.client,
          this.address,
          name,
          about,
          this.answers,
          this.info,
          this.options,
          this.bullmq,
        ).run(() => this.othersWait(name));
      }
      if (served || signal.aborted) continue;
      if (!waited)
        say(
          `worker ${this.info.name}: waits for ${only === undefined ? "sweeps" : `sweep ${only}`} on ${this.address.shown}`,
        );
      waited = true;
      await sleep(LOOK_MS, signal);
    }
  }

  /** What a sweep says of itself, where it is one to serve. A refusal is said once. */
  private async aboutOf(name: string): Promise<About | undefined> {
    const { say, sweep: only, runner } = this.options;
    if (!sweepName.accepts(name)) return undefined;
    const text = await this.client.get(sweepKeys(name).about);
    if (text === null) {
      this.refused.delete(name);
      return undefined;
    }
    if (this.refused.get(name) === text) return undefined;
    try {
      const about = readAbout(text);
      if (about.code === runner.code) return about;
      throw new UsageError(
        `worker: refuses sweep ${name}: it runs the trial ${about.code.slice(0, 12)} of Kilograd ${about.version}, this worker has ` +
          `${runner.code.slice(0, 12)}; start it with the same file and the same version`,
      );
    } catch (error) {
      if (only !== undefined || !(error instanceof KilogradError)) throw error;
      this.refused.set(name, text);
      say((error as Error).message);
      return undefined;
    }
  }

  /** Whether another sweep has trials that wait, which this worker may serve. */
  private async othersWait(served: string): Promise<boolean> {
    if (this.options.sweep !== undefined) return false;
    for (const name of await this.client.smembers(SWEEPS_KEY)) {
      if (name === served || !sweepName.accepts(name)) continue;
      if ((await this.client.llen(`${JOBS_PREFIX}:${name}:wait`)) === 0) continue;
      if ((await this.aboutOf(name)) !== undefined) return true;
    }
    return false;
  }
}

/** One sweep that is served. */
class Serving {
  private readonly keys: SweepKeys;
  private readonly blobs: Blobs;
  private readonly running = new Map<string, Running>();
  private readonly ended = new AbortController();
  private readonly worker: Worker;
  /** When a trial was last had. */
  private busy = performance.now();
  private failure: unknown;

  constructor(
    private readonly client: Client,
    private readonly address: QueueAddress,
    private readonly sweep: string,
    private readonly about: About,
    private readonly answers: Answers,
    private readonly info: WorkerInfo,
    private readonly options: QueueWorkerOptions,
    private readonly bullmq: Pick<typeof import("bullmq"), "Worker" | "WaitingError">,
  ) {
    this.keys = sweepKeys(sweep);
    this.blobs = new Blobs(client, this.keys, options.store, sweep);
    this.worker = new bullmq.Worker(sweep, (job, token) => this.process(job, token!), {
      connection: client,
      prefix: JOBS_PREFIX,
      skipVersionCheck: true,
      autorun: false,
      concurrency: info.slots,
      lockDuration: LOCK_MS,
      // BullMQ looks twice as often: a lock is renewed three times before it would run out.
      lockRenewTime: LOCK_MS / 3,
      stalledInterval: STALLED_MS,
      // Attempts are counted here, so that the outcome of a trial that ends its workers is told.
      maxStalledCount: 2 ** 31 - 1,
      drainDelay: 2,
      runRetryDelay: 500,
    });
    // Of connections, which tells its own, and of jobs whose locks are gone, which follows.
    this.worker.on("error", () => {});
    this.worker.on("lockRenewalFailed", (jobs) => {
      for (const job of jobs) this.running.get(job)?.abort.abort(new Given("another worker has the trial", false));
    });
  }

  /** Until the signal, the end of the sweep, or its being idle while others wait. */
  async run(othersWait: () => Promise<boolean>): Promise<void> {
    const { signal } = this.options;
    const onAbort = () => this.ended.abort();
    signal.addEventListener("abort", onAbort);
    const ended = this.ended.signal;
    if (signal.aborted) this.ended.abort();
    const working = this.worker.run().catch((error) => {
      this.failure ??= error;
      this.ended.abort();
    });
    try {
      while (!ended.aborted && (await this.beat())) {
        await sleep(HEARTBEAT_MS, ended);
        const idle = this.running.size === 0 && performance.now() - this.busy > 2 * HEARTBEAT_MS;
        if (idle && (await othersWait())) break;
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.ended.abort(); // Jobs that come now go back.
      await this.worker.pause(true);
      for (const { abort } of this.running.values()) abort.abort(new Given("the worker ends", true));
      const leaving = Promise.all([
        this.client.zrem(this.keys.workers, JSON.stringify(this.info)),
        this.worker.close().then(() => working),
      ]).then(() => this.tidy());
      // Where Redis is away the trials are taken over later, as those of a worker that was killed.
      await Promise.race([leaving, new Promise((resolve) => setTimeout(resolve, LEAVING_MS).unref())]);
    }
    if (this.failure !== undefined) throw this.failure;
  }

  /** Removes what the library writes for every worker, also after the sweep with all its keys is gone. */
  private async tidy(): Promise<void> {
    if ((await this.client.exists(this.keys.about)) > 0) return;
    const jobs = `${JOBS_PREFIX}:${this.sweep}`;
    await this.client.del(`${jobs}:meta`, `${jobs}:stalled-check`);
  }

  /** Says that this worker is there, and asks after its trials. Gives whether the sweep goes on. */
  private async beat(): Promise<boolean> {
    const running = [...this.running.values()];
    const pipeline = this.client.pipeline();
    pipeline.get(this.keys.about);
    for (const { number } of running) {
      pipeline.getbit(this.keys.counted, number).hexists(this.keys.finished, String(number));
      pipeline.sismember(this.keys.withdrawn, number);
    }
    const found = ((await pipeline.exec()) ?? []).map(([error, value]) => {
      if (error) throw error;
      return value;
    });
    const [about, ...states] = found;
    running.forEach(({ abort }, i) => {
      const [counted, finished, withdrawn] = states.slice(3 * i, 3 * i + 3);
      if (withdrawn === 1) abort.abort(new Given("the sweep called the trial back", false));
      if (counted === 1 || finished === 1) abort.abort(new Given("another worker has finished the trial", false));
    });
    const goesOn = about !== null && readAbout(about as string).owner === this.about.owner;
    if (goesOn) await this.client.kilogradHeard(this.keys.workers, JSON.stringify(this.info));
    else for (const { abort } of running) abort.abort(new Given("the sweep has ended", false));
    return goesOn;
  }

  /** One job: an attempt at a trial, and what comes of it. */
  private async process(job: Job, token: string): Promise<void> {
    const { say } = this.options;
    let order: TrialOrder;
    try {
      order = readOrder(job.data);
      if (order.sweep !== this.sweep || order.code !== this.about.code) {
        throw new DataError("queue: an order of another sweep, or of other code");
      }
      if (job.id !== `trial-${order.number}`) throw new DataError("queue: an order under another number");
    } catch (error) {
      // The coordinator misses it, and sends it anew.
      say(`worker ${this.info.name}: left out a job of sweep ${this.sweep}: ${this.address.redact(lineOf(error))}`);
      return;
    }
    const { number } = order;
    const abort = new AbortController();
    if (this.ended.signal.aborted) abort.abort(new Given("the worker ends", true));
    this.running.set(job.id, { number, abort });
    try {
      await this.attempt(order, job, abort);
    } catch (error) {
      if (!(error instanceof Given)) throw error;
      if (!error.back) return;
      await job.moveToWait(token);
      throw new this.bullmq.WaitingError();
    } finally {
      this.running.delete(job.id);
      this.busy = performance.now();
    }
  }

  /** @throws Given where the trial has no outcome yet */
  private async attempt(order: TrialOrder, job: Job, abort: AbortController): Promise<void> {
    const { number } = order;
    const { finished, counted, withdrawn, failures } = this.keys;
    const [toRun, failed, reference] = await this.client.kilogradBegin(
      ...([finished, counted, withdrawn, failures, this.keys.checkpoint(number), number] as const),
    );
    if (toRun === 0) return;
    const lost = job.stalledCounter > 0 ? await this.lost(number, job.stalledCounter) : 0;
    const before = Math.max(order.attempt - 1, Number(failed) + lost);
    if (lost > 0) {
      await this.failed(number, before, "its worker was lost: killed, cut off, or without an answer for too long");
    }
    if (before >= this.about.attempts) {
      // Those before ended without an outcome that could be read.
      if (lost === 0) await this.failed(number, before, "no attempt is left, and none came to an outcome");
      return;
    }
    const attempt = before + 1;
    let result: TrialResult;
    try {
      const checkpoint = reference || order.checkpoint;
      const bytes = checkpoint === undefined ? undefined : await this.restored(number, checkpoint);
      const given: TrialOrder = { ...order, attempt, checkpoint: bytes === undefined ? undefined : checkpoint };
      abort.signal.throwIfAborted();
      result = await this.options.runner.run(given, this.link(given, bytes, abort));
    } catch (error) {
      if (abort.signal.aborted) throw abort.signal.reason;
      if (error instanceof WorkerRefused) {
        this.failure ??= error; // The file was changed after this worker had begun.
        this.ended.abort();
        throw new Given(error.message, true);
      }
      await this.client.hincrby(this.keys.failures, String(number), 1);
      const line = this.address.redact(lineOf(error));
      await this.failed(number, attempt, line);
      if (attempt >= this.about.attempts) return;
      throw new Given(line, true);
    }
    await this.finish({ ...result, number, attempts: attempt, worker: this.info.name });
  }

  /** How often the worker of a job was lost since that was last counted: BullMQ counts, too. */
  private async lost(number: number, stalled: number): Promise<number> {
    const field = `${number} lost`;
    const known = Number((await this.client.hget(this.keys.failures, field)) ?? 0);
    const lost = Math.max(0, stalled - known);
    await this.client
      .multi()
      .hset(this.keys.failures, field, stalled)
      .hincrby(this.keys.failures, String(number), lost)
      .exec();
    return lost;
  }

  /** What is said of an attempt that failed; the outcome, where it was the last. */
  private async failed(number: number, attempt: number, error: string): Promise<void> {
    this.options.say(`worker ${this.info.name}: trial ${number}, attempt ${attempt}: ${error}`);
    if (attempt < this.about.attempts) return this.tell({ kind: "retried", number, attempt, error });
    await this.finish({ status: "failed", number, error, attempts: attempt });
  }

  private async finish(outcome: TrialOutcome): Promise<void> {
    const text = textOf(outcome);
    const kept = fits(text) ? undefined : await this.keptOutcome(outcome, text);
    const { about, outcomes, finished, counted } = this.keys;
    const checkpoint = this.keys.checkpoint(outcome.number);
    const message = kept === undefined ? text : write("queue", kept);
    const isFirst = await this.client.kilogradFinish(
      ...([about, outcomes, finished, counted, checkpoint, outcome.number, message, this.about.owner] as const),
    );
    if (kept?.status === "kept" && isFirst === 0) await this.blobs.dropOutcome(kept.reference);
    await this.blobs.finished(outcome.number);
  }

  /** Where an outcome is that is too large for a message; a failure for one that is too large for everything. */
  private async keptOutcome({ number, attempts }: TrialOutcome, text: string): Promise<KeptOutcome | TrialFailure> {
    try {
      if (text.length > MOST_IN_REDIS && !this.about.store) {
        throw new UsageError(
          `trial ${number}: its outcome has ${(text.length / 2 ** 20).toFixed(1)} MiB, and at most ${MOST_IN_REDIS / 2 ** 20} go ` +
            "through Redis; start the sweep with --store, and its workers with the same",
        );
      }
      return { status: "kept", number, reference: await this.blobs.keepOutcome(number, text) };
    } catch (error) {
      if (!(error instanceof KilogradError)) throw error;
      return { status: "failed", number, attempts, error: lineOf(error) };
    }
  }

  private async tell(report: Report): Promise<void> {
    const text = write(`trial ${report.number}: report`, report);
    await this.client.xadd(this.keys.reports, "MAXLEN", "~", MOST_REPORTS, "*", "message", text);
  }

  /** The bytes of a checkpoint, where they are still there. */
  private async restored(number: number, reference: string): Promise<Uint8Array | undefined> {
    const bytes = await this.blobs.readCheckpoint(reference);
    if (bytes === undefined) {
      this.options.say(`worker ${this.info.name}: trial ${number} begins anew: its checkpoint is gone, Redis lost it`);
    }
    return bytes;
  }

  private link({ number, attempt }: TrialOrder, bytes: Uint8Array | undefined, abort: AbortController): TrialLink {
    const { signal } = abort;
    return {
      worker: this.info.name,
      signal,
      report: async (step, figures) => {
        const report = { kind: "report", worker: this.info.id, number, attempt, step, figures } as const;
        if (this.about.answers) return this.answers.ask(this.keys, report, signal);
        await this.tell(report);
        return "continue";
      },
      checkpoint: async (given) => {
        signal.throwIfAborted();
        const reference = await this.blobs.keepCheckpoint(number, attempt, given);
        if (reference === undefined) abort.abort(new Given("another worker has the trial", false));
        if (reference === undefined) throw signal.reason;
        await this.tell({ kind: "checkpoint", number, reference });
      },
      restore: async () => bytes!,
    };
  }
}

/** Resolves after a time, or with the signal. */
function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) return done();
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      done();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", over);
  });
}
