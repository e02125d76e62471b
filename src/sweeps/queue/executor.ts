// The coordinator's side of a queue: orders become jobs of BullMQ, and outcomes, reports and checkpoints come back by
// streams of Redis. What a trial came to is kept in Redis until the sweep has it in its journal, so that whatever ends
// in between, each trial is counted once.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Queue } from "bullmq";
import { readTextIfAny, writeFileAtomic } from "../../io/files.js";
import { isAlive } from "../../runtime/node-processes.js";
import { DataError, KilogradError, UsageError } from "../../tensor/errors.js";
import { check } from "../../tensor/options.js";
import type { Executor, TrialHooks, TrialOrder, TrialOutcome } from "../executor.js";
import { packageVersion } from "../trial-file.js";
import { parseAddress, type QueueAddress } from "./address.js";
import { Blobs } from "./blobs.js";
import { type Client, type Connection, connect, queueError } from "./connection.js";
import {
  type About,
  checkNumber,
  type KeptOutcome,
  PROTOCOL,
  type Report,
  readAbout,
  readOutcome,
  readOutcomeOrKept,
  readReport,
  readWorker,
  sweepName,
  write,
} from "./messages.js";
import { answersKey, ENDED, JOBS_PREFIX, SWEEPS_KEY, type SweepKeys, sweepKeys } from "./scripts.js";
import { type BlobStore, openStore } from "./stores.js";
import { ALIVE_MS, HEARTBEAT_MS, LEAVING_MS } from "./times.js";

export interface QueueOptions {
  /** `redis://...` or `rediss://...`. */
  readonly address: string;
  /** Name of the sweep, which is one on the queue. */
  readonly sweep: string;
  /** Digest of the trial's code. */
  readonly code: string;
  /** The sweep's folder: who has it may go on with the sweep. */
  readonly folder: string;
  /** Attempts of a trial. */
  readonly attempts: number;
  /** Whether trials wait for a decision after each report: with early stopping. */
  readonly answers: boolean;
  /** A folder or `s3://bucket/prefix` that the workers have, too: for outcomes that are too large for Redis. */
  readonly store?: string | undefined;
  /** Told what whoever runs the sweep should know. */
  readonly say: (message: string) => void;
}

/** An order on its way. */
interface Pending {
  readonly order: TrialOrder;
  readonly hooks: TrialHooks;
  readonly signal: AbortSignal;
  readonly resolve: (outcome: TrialOutcome) => void;
  readonly reject: (reason: unknown) => void;
  /** Attempts that the hooks were told of. */
  told: number;
  /** When its job was last seen to be, or to be needed. */
  seen: number;
}

/** Orders for so many seconds wait for each slot of a worker, one at least and at most so many. */
const AHEAD_SECONDS = 0.25;
const MOST_AHEAD = 32;
/** Milliseconds for which outcomes that the journal has are gathered before Redis forgets them. */
const COUNT_MS = 50;
/** Milliseconds for which orders are gathered. */
const ADD_MS = 5;
/** Jobs that are added at once. */
const MOST_ADDED = 500;
/** Messages that are read at once. */
const MOST_READ = 128;
/** Milliseconds after which a job that has not come back is looked for. */
const LOOK_MS = 10_000;
/** Milliseconds for which the answers to a worker wait for it. */
const ANSWERS_MS = 60_000;
/** The file in the sweep's folder by which the queue knows who may go on. */
const OWNER_FILE = "queue-owner";

const jobOf = (number: number) => `trial-${number}`;

const host = hostname().replace(/[^\w.-]/g, "-");

/** A name for who coordinates, that tells others the process. */
const coordinatorName = () => `${host}:${process.pid}:${randomBytes(6).toString("hex")}`;

/** Whether the process in such a name was one of this machine, and is gone. */
function isGone(name: string): boolean {
  const [where, pid] = name.split(":");
  return where === host && !isAlive(Number(pid));
}

/** Such a name for people. */
function processIn(name: string): string {
  const [where, pid] = name.split(":");
  return `process ${pid} of ${where}`;
}

/** The secret of a sweep's folder, made where there is none. */
async function ownerOf(folder: string): Promise<string> {
  const path = join(folder, OWNER_FILE);
  const found = (await readTextIfAny(path))?.trim();
  if (found !== undefined) {
    if (/^[0-9a-f]{64}$/.test(found)) return found;
    throw new DataError(
      `queue: ${path} is damaged; delete it, and end the sweep on the queue by \`kilograd sweep stop\``,
    );
  }
  const made = randomBytes(32).toString("hex");
  await writeFileAtomic(path, `${made}\n`);
  return made;
}

/**
 * Opens the queue for a sweep.
 * @throws UsageError where another sweep has its name, or another process goes on with it; KilogradError `QUEUE` where
 * the queue cannot be used
 */
export async function openQueue(options: QueueOptions): Promise<QueueExecutor> {
  check("queue", "name of the sweep", options.sweep, sweepName);
  const address = parseAddress(options.address);
  const owner = await ownerOf(options.folder);
  const store = options.store === undefined ? undefined : await openStore(options.store);
  const connection = await connect(address, options.say);
  try {
    const about: About = {
      ...{ protocol: PROTOCOL, owner, code: options.code, version: packageVersion() },
      ...{ attempts: options.attempts, answers: options.answers, store: store !== undefined },
    };
    const name = coordinatorName();
    const isNew = await claim(connection.client, options.sweep, name, about, options.say);
    const { Queue } = await import("bullmq");
    const queue = new Queue(options.sweep, {
      connection: connection.client,
      prefix: JOBS_PREFIX,
      skipVersionCheck: true,
      // Nobody reads BullMQ's own events.
      streams: { events: { maxLen: 10 } },
    });
    queue.on("error", () => {}); // Of the connection, which tells its own.
    return new QueueExecutor(connection, await connection.another(), queue, name, about, isNew, store, options);
  } catch (error) {
    connection.close();
    throw queueError(error, address);
  }
}

/**
 * Takes the sweep's name. A process that was killed just now keeps it for some seconds; one that is there says so
 * again. Gives whether nobody had it.
 */
async function claim(
  client: Client,
  sweep: string,
  name: string,
  about: About,
  say: QueueOptions["say"],
): Promise<boolean> {
  const keys = sweepKeys(sweep);
  const text = write("queue", about);
  let dead = "";
  for (let before = Number.POSITIVE_INFINITY; ; ) {
    const isNew = (await client.exists(keys.about)) === 0;
    const [known, process] = await client.kilogradClaim(
      ...([keys.about, keys.alive, SWEEPS_KEY, text, name, ALIVE_MS, sweep, about.owner, dead] as const),
    );
    if (process === name) {
      try {
        checkSame(sweep, readAbout(known), about);
      } catch (error) {
        await client.del(keys.alive);
        throw error;
      }
      await client.set(keys.about, text); // Whether reports are answered, and how many attempts, may be other ones now.
      return isNew;
    }
    if (process === "") {
      throw new UsageError(
        `queue: a sweep of another folder has the name ${sweep} on this queue; go on with it by its folder, choose another name, ` +
          `or end it by \`kilograd sweep stop ${sweep} --queue ...\``,
      );
    }
    if (isGone(process) || process === ENDED) dead = process;
    else {
      const left = await client.pttl(keys.alive);
      if (left > before) {
        throw new UsageError(`queue: sweep ${sweep} is coordinated by ${processIn(process)}; wait for it, or end that`);
      }
      if (before === Number.POSITIVE_INFINITY) say(`queue: waits for ${processIn(process)}, which had sweep ${sweep}`);
      before = left;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** @throws UsageError for a sweep that goes on with other code than it began with */
function checkSame(sweep: string, known: About, about: About): void {
  if (known.code === about.code) return;
  throw new UsageError(
    `queue: sweep ${sweep} began with the trial ${known.code.slice(0, 12)} of Kilograd ${known.version}, this one is ` +
      `${about.code.slice(0, 12)} of ${about.version}; go on with the same, or end the sweep by \`kilograd sweep stop\``,
  );
}

export class QueueExecutor implements Executor {
  private readonly keys: SweepKeys;
  private readonly blobs: Blobs;
  private readonly address: QueueAddress;
  private readonly client: Client;
  private readonly pending = new Map<number, Pending>();
  /** Outcomes that came before their orders, of an earlier process. */
  private readonly early = new Map<number, TrialOutcome>();
  /** Entries of the stream by number, of outcomes that are not counted yet. */
  private readonly entries = new Map<number, string>();
  /** References of those that were too large for the stream. */
  private readonly kept = new Map<number, string>();
  /** Numbers that are counted, and are not asked for again. */
  private readonly done = new Set<number>();
  private toAdd: Pending[] = [];
  private toCount: number[] = [];
  private readonly signals = new WeakSet<AbortSignal>();
  private slots = 0;
  private working = 0;
  private withoutWorkers = 0;
  /** What a trial takes, as a mean over the last ones; the first are taken to be long. */
  private seconds = AHEAD_SECONDS;
  private interrupted = false;
  private failure: KilogradError | undefined;
  private closing: Promise<void> | undefined;
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly reading: Promise<void>;
  /** Writes that are on their way. */
  private readonly writing = new Set<Promise<unknown>>();

  constructor(
    private readonly connection: Connection,
    /** Waits for messages. */
    private readonly reader: Client,
    private readonly queue: Queue,
    /** See {@link coordinatorName}. */
    private readonly name: string,
    private readonly about: About,
    private readonly isNew: boolean,
    store: BlobStore | undefined,
    private readonly options: QueueOptions,
  ) {
    this.client = connection.client;
    this.address = connection.address;
    this.keys = sweepKeys(options.sweep);
    this.blobs = new Blobs(this.client, this.keys, store, options.sweep);
    this.reading = this.read();
    this.write(this.beat());
    this.timers.push(setInterval(() => this.write(this.beat()), HEARTBEAT_MS));
    this.timers.push(setInterval(() => this.write(this.look()), LOOK_MS / 2));
  }

  /** How many workers serve the sweep. */
  get workers(): number {
    return this.working;
  }

  /**
   * Twice the trials that run, so that a worker that has finished one finds the next; of short trials as many as keep
   * the workers busy for a while, which then come and go in larger parcels.
   */
  capacity(): number {
    const ahead = Math.ceil(AHEAD_SECONDS / Math.max(this.seconds, AHEAD_SECONDS / MOST_AHEAD));
    return Math.max(1, this.slots * (1 + ahead));
  }

  run(order: TrialOrder, hooks: TrialHooks, signal: AbortSignal): Promise<TrialOutcome> {
    return new Promise((done, failed) => {
      if (this.failure) throw this.failure;
      signal.throwIfAborted();
      const { number } = order;
      checkNumber(number);
      this.done.delete(number);
      const early = this.early.get(number);
      if (early !== undefined) {
        this.early.delete(number);
        return done(early);
      }
      this.endBy(signal);
      const ended = <T>(then: (value: T) => void) => {
        return (value: T) => {
          this.pending.delete(number);
          then(value);
        };
      };
      const pending: Pending = {
        ...{ order, hooks, signal, resolve: ended(done), reject: ended(failed) },
        ...{ told: order.attempt - 1, seen: Date.now() },
      };
      this.pending.set(number, pending);
      this.add(pending);
    });
  }

  counted(number: number): void {
    if (this.toCount.length === 0) setTimeout(() => this.write(this.count()), COUNT_MS).unref();
    this.toCount.push(number);
    this.done.add(number);
    this.early.delete(number);
  }

  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    const cleaning = (async () => {
      await Promise.allSettled(this.writing);
      if (this.toCount.length > 0) await this.count();
      // Where nothing is left to do, nothing stays behind; otherwise whoever has the folder goes on.
      const finished = !this.interrupted && !this.failure && this.pending.size === 0 && this.entries.size === 0;
      if (finished) await removeSweep(this.client, this.options.sweep);
      else if (this.failure === undefined) await this.client.del(this.keys.alive);
    })();
    // A server that is away now must not keep the process.
    const patience = new Promise((resolve) => setTimeout(resolve, LEAVING_MS).unref());
    await Promise.race([cleaning.catch(() => {}), patience]);
    this.connection.close();
    await this.reading;
  }

  /** Does not wait for a write, and ends with its failure. */
  private write(work: Promise<unknown>): void {
    this.writing.add(work);
    work.catch((error) => this.fail(error)).finally(() => this.writing.delete(work));
  }

  private fail(error: unknown): void {
    if (this.closing || this.failure) return;
    this.failure = queueError(error, this.address);
    for (const { reject } of [...this.pending.values()]) reject(this.failure);
  }

  private add(pending: Pending): void {
    if (this.toAdd.length === 0) setTimeout(() => this.write(this.addAll()), ADD_MS);
    this.toAdd.push(pending);
  }

  private async addAll(): Promise<void> {
    const orders = this.toAdd.filter(({ order }) => this.pending.has(order.number));
    this.toAdd = [];
    for (let from = 0; from < orders.length; from += MOST_ADDED) {
      const some = orders.slice(from, from + MOST_ADDED);
      if (!this.isNew) {
        // What an earlier process called back, or counted without its journal knowing.
        const pipeline = this.client.pipeline();
        for (const { order } of some) {
          pipeline.setbit(this.keys.counted, order.number, 0).srem(this.keys.withdrawn, order.number);
        }
        await pipeline.exec();
      }
      await this.queue.addBulk(
        some.map(({ order }) => ({
          name: "trial",
          data: write(`trial ${order.number}: its order`, order),
          // A job of the same trial that is there stays as it is.
          opts: { jobId: jobOf(order.number), removeOnComplete: true, removeOnFail: true },
        })),
      );
      for (const each of some) each.seen = Date.now();
    }
  }

  /** Calls back the orders of a signal when it is aborted. Many have the same. */
  private endBy(signal: AbortSignal): void {
    if (this.signals.has(signal)) return;
    this.signals.add(signal);
    const withdraw = () => {
      this.interrupted = true;
      const orders = [...this.pending.values()].filter((pending) => pending.signal === signal);
      this.write(this.withdraw(orders.map(({ order }) => order.number)));
      for (const { reject } of orders) reject(signal.reason);
    };
    signal.addEventListener("abort", withdraw, { once: true });
  }

  private async withdraw(numbers: readonly number[]): Promise<void> {
    if (numbers.length === 0) return;
    await this.client.sadd(this.keys.withdrawn, ...numbers);
    // Nothing happens to those that a worker has.
    await Promise.all(numbers.map((number) => this.queue.remove(jobOf(number))));
  }

  private async count(): Promise<void> {
    const numbers = this.toCount;
    this.toCount = [];
    if (numbers.length === 0) return;
    const { finished, counted, failures, outcomes } = this.keys;
    const pairs = numbers.flatMap((number) => [number, this.entries.get(number) ?? ""]);
    const kept = numbers.flatMap((number) => this.kept.get(number) ?? []);
    for (const number of numbers) {
      this.entries.delete(number);
      this.kept.delete(number);
    }
    for (let from = 0; from < pairs.length; from += MOST_ADDED) {
      const some = pairs.slice(from, from + MOST_ADDED);
      await this.client.kilogradCount(finished, counted, failures, outcomes, ...some);
    }
    for (const reference of kept) await this.blobs.dropOutcome(reference);
  }

  /** Reads outcomes and reports, from the first that is there. */
  private async read(): Promise<void> {
    const { outcomes, reports } = this.keys;
    const last = new Map([
      [outcomes, "0"],
      [reports, "0"],
    ]);
    while (!this.closing && !this.failure) {
      try {
        const from = [last.get(outcomes)!, last.get(reports)!];
        const found = await this.reader.xread("COUNT", MOST_READ, "BLOCK", 2000, "STREAMS", outcomes, reports, ...from);
        for (const [stream, entries] of found ?? []) {
          if (entries.length === 0) continue;
          last.set(stream, entries.at(-1)![0]);
          if (stream === outcomes)
            for (const [entry, fields] of entries) await this.tookOutcome(entry, fields[1] ?? "");
          else await this.tookReports(entries.map(([, fields]) => fields[1] ?? ""));
        }
        // What was read is not needed any more; of what came while nobody read, only the latest.
        const isNew = last.get(reports) !== from[1];
        if (isNew) this.write(this.client.xtrim(reports, "MINID", last.get(reports)!));
      } catch (error) {
        if (!this.closing) this.fail(error);
      }
    }
  }

  /** What is no message of this version is left out, and said. */
  private readable<T>(read: (text: string) => T, text: string): T | undefined {
    try {
      return read(text);
    } catch (error) {
      this.options.say(`queue: left out what is no message: ${this.address.redact((error as Error).message)}`);
      return undefined;
    }
  }

  private async tookOutcome(entry: string, text: string): Promise<void> {
    const found = this.readable(readOutcomeOrKept, text);
    if (found === undefined) {
      this.write(this.client.xdel(this.keys.outcomes, entry));
      return;
    }
    const { number } = found;
    if (this.done.has(number)) {
      // The journal had it from an earlier process, which was killed before it said so.
      this.write(this.client.xdel(this.keys.outcomes, entry));
      if (found.status === "kept") this.write(this.blobs.dropOutcome(found.reference));
      return;
    }
    const outcome = found.status === "kept" ? await this.outcomeAt(entry, found) : found;
    if (outcome === undefined) return;
    this.entries.set(number, entry);
    if (outcome.status !== "failed") this.seconds += (outcome.seconds - this.seconds) / 16;
    const pending = this.pending.get(number);
    if (pending === undefined) this.early.set(number, outcome);
    else pending.resolve(outcome);
  }

  /** An outcome that was too large for the stream; undefined for one that is lost, whose trial is then run again. */
  private async outcomeAt(entry: string, { number, reference }: KeptOutcome): Promise<TrialOutcome | undefined> {
    let why = "Redis lost it";
    try {
      const text = await this.blobs.readOutcome(reference);
      const outcome = text === undefined ? undefined : readOutcome(text);
      if (outcome?.number === number) {
        this.kept.set(number, reference);
        return outcome;
      }
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      why = error.message;
    }
    this.options.say(`queue: trial ${number} is run again: its outcome cannot be read: ${this.address.redact(why)}`);
    const { outcomes, finished, failures } = this.keys;
    // It costs an attempt: one that is always damaged must come to an end.
    await this.client
      .multi()
      .hincrby(failures, String(number), 1)
      .hdel(finished, String(number))
      .xdel(outcomes, entry)
      .exec();
    const pending = this.pending.get(number);
    if (pending !== undefined) this.add(pending);
    return undefined;
  }

  private async tookReports(texts: readonly string[]): Promise<void> {
    const answers = this.client.pipeline();
    for (const text of texts) {
      const report = this.readable(readReport, text);
      const pending = report && this.pending.get(report.number);
      // A worker asks again, by when an order that goes on may be there.
      if (pending !== undefined) await this.tookReport(pending, report!, answers);
    }
    if (answers.length > 0) this.write(answers.exec());
  }

  private async tookReport(pending: Pending, report: Report, answers: ReturnType<Client["pipeline"]>): Promise<void> {
    const { hooks } = pending;
    if (report.kind === "checkpoint") return hooks.checkpointed(report.reference);
    if (report.kind === "retried") {
      if (report.attempt <= pending.told) return;
      pending.told = report.attempt;
      return hooks.retried?.(report.attempt, this.address.redact(report.error));
    }
    const { worker, number, attempt, step } = report;
    const decision = await hooks.report(step, report.figures);
    if (!this.about.answers) return;
    answers.rpush(answersKey(worker), write("queue", { number, attempt, step, decision }));
    answers.pexpire(answersKey(worker), ANSWERS_MS);
  }

  /** Says that this process is there, and asks who works. */
  private async beat(): Promise<void> {
    const { about, alive, workers } = this.keys;
    const { sweep } = this.options;
    const text = write("queue", this.about);
    const [, process] = await this.client.kilogradClaim(
      ...([about, alive, SWEEPS_KEY, text, this.name, ALIVE_MS, sweep, this.about.owner, ""] as const),
    );
    if (process === ENDED) throw new KilogradError("QUEUE", `queue: sweep ${sweep} was ended on the queue`);
    if (process !== this.name) {
      const by = process === "" ? "by one of another folder" : `by ${processIn(process)}`;
      throw new KilogradError("QUEUE", `queue: sweep ${sweep} was taken over ${by}; this one ends`);
    }
    const found = (await this.client.kilogradWorkers(workers, ALIVE_MS)).flatMap(
      (worker) => this.readable(readWorker, worker) ?? [],
    );
    this.working = found.length;
    this.slots = found.reduce((sum, { slots }) => sum + slots, 0);
    this.withoutWorkers = this.slots > 0 ? 0 : this.withoutWorkers + 1;
    if (this.withoutWorkers === 2) {
      this.options.say(`queue: no worker serves sweep ${sweep}; start some by \`kilograd worker --queue ...\``);
    }
  }

  /** Adds jobs anew that Redis lost, as a restart without its last second does. */
  private async look(): Promise<void> {
    const now = Date.now();
    const late = [...this.pending.values()].filter(({ seen }) => now - seen > LOOK_MS);
    if (late.length === 0) return;
    const pipeline = this.client.pipeline();
    for (const { order } of late) {
      pipeline.exists(`${JOBS_PREFIX}:${this.options.sweep}:${jobOf(order.number)}`);
      pipeline.hexists(this.keys.finished, String(order.number));
    }
    const found = (await pipeline.exec()) ?? [];
    late.forEach((pending, i) => {
      pending.seen = now;
      const isThere = found[2 * i]?.[1] === 1 || found[2 * i + 1]?.[1] === 1;
      if (!isThere && this.pending.get(pending.order.number) === pending) this.add(pending);
    });
  }
}

/** Removes everything of a sweep from a queue. Workers that have trials of it drop them. */
export async function removeSweep(client: Client, sweep: string): Promise<void> {
  const { checkpoint, blob, ...plain } = sweepKeys(sweep);
  await client.srem(SWEEPS_KEY, sweep);
  await client.del(...Object.values(plain));
  for (const begin of [checkpoint(0).slice(0, -1), blob(""), `${JOBS_PREFIX}:${sweep}:`]) {
    let cursor = "0";
    do {
      const [next, found] = await client.scan(cursor, "MATCH", `${begin}*`, "COUNT", 1000);
      if (found.length > 0) await client.unlink(...found);
      cursor = next;
    } while (cursor !== "0");
  }
}
