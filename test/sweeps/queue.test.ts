// Sweeps through a real Redis, with coordinators and workers in this process: who may have a sweep, what is counted,
// what is refused, what is kept. Processes that are killed are in queue-kills.test.ts.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Trial, TrialConfig, TrialHooks, TrialOutcome } from "../../src/sweeps/executor.js";
import { MOST_IN_REDIS } from "../../src/sweeps/queue/blobs.js";
import { openQueue, type QueueExecutor, type QueueOptions } from "../../src/sweeps/queue/executor.js";
import { inProcess } from "../../src/sweeps/queue/in-process.js";
import { endSweep, queuedSweeps } from "../../src/sweeps/queue/manage.js";
import { openStore } from "../../src/sweeps/queue/stores.js";
import { LOCK_MS, STALLED_MS, TAKEOVER_MS } from "../../src/sweeps/queue/times.js";
import { type QueueWorkerOptions, serveQueue } from "../../src/sweeps/queue/worker.js";
import { namedDigest } from "../../src/sweeps/trial-file.js";
import { hasRedis, RedisServer } from "./redis.js";

const code = namedDigest("queue.test.ts");
let redis: RedisServer;
let parent: string;

beforeAll(async () => {
  if (!hasRedis) return;
  parent = mkdtempSync(join(tmpdir(), "kilograd-queue-"));
  redis = await RedisServer.start();
});
afterAll(async () => {
  await redis?.stop();
  if (parent) rmSync(parent, { recursive: true, force: true });
});

const newFolder = () => mkdtempSync(join(parent, "sweep-"));

/** What both sides were told, in order. */
const said: string[] = [];
const say = (message: string) => void said.push(message);

let count = 0;
const open = (options: Partial<QueueOptions> = {}): Promise<QueueExecutor> =>
  openQueue({
    ...{
      address: redis.address,
      sweep: `sweep-${count++}`,
      code,
      folder: newFolder(),
      attempts: 3,
      answers: false,
      say,
    },
    ...options,
  });

/** A worker in this process, until it is stopped. */
function startWorker(trial: Trial, options: Partial<QueueWorkerOptions> = {}) {
  const ended = new AbortController();
  const runner = inProcess({ code, trial });
  const serving = serveQueue({ address: redis.address, runner, say, signal: ended.signal, ...options });
  serving.catch(() => {}); // It is awaited when it is stopped.
  return {
    serving,
    async stop() {
      ended.abort(new Error("the worker is stopped"));
      await serving;
    },
  };
}

interface Driving {
  readonly hooks?: Partial<TrialHooks>;
  readonly signal?: AbortSignal;
  readonly sweep: string;
}

/** Runs trials as a sweep does, as many at once as there is room for, and gives each outcome as it was counted. */
async function drive(
  queue: QueueExecutor,
  configs: readonly TrialConfig[],
  { sweep, hooks = {}, signal = new AbortController().signal }: Driving,
): Promise<TrialOutcome[]> {
  const outcomes: TrialOutcome[] = [];
  let next = 0;
  const some = async () => {
    while (next < configs.length) {
      const number = next++;
      const order = { sweep, code, number, config: configs[number]!, seed: number, attempt: 1 };
      const outcome = await queue.run(order, { report: () => "continue", checkpointed: () => {}, ...hooks }, signal);
      outcomes.push(outcome);
      queue.counted(outcome.number);
    }
  };
  await Promise.all(Array.from({ length: 4 }, some));
  return outcomes.sort((a, b) => a.number - b.number);
}

const numbered = (length: number, config: (x: number) => TrialConfig = (x) => ({ x })) =>
  Array.from({ length }, (_, x) => config(x));
const plain: Trial = ({ x }) => ({ loss: Number(x) });

/** Waits for something that another process, or another loop, comes to. */
async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never came: ${what}; said:\n${said.join("\n")}`);
}

describe.skipIf(!hasRedis)("a queue", () => {
  test("brings every trial's outcome once, with figures as they are, and leaves nothing behind", async () => {
    const queue = await open({ sweep: "plain" });
    const worker = startWorker(async ({ x }, { seed, report }) => {
      await report(1, { loss: Number.NaN, size: Number.NEGATIVE_INFINITY });
      return { figures: { loss: Number(x), bad: Number.NaN, large: Number.POSITIVE_INFINITY }, value: { seed } };
    });
    const reported: unknown[] = [];
    const hooks: Partial<TrialHooks> = {
      report: (step, figures) => {
        reported.push([step, figures]);
        return "continue";
      },
    };
    const outcomes = await drive(queue, numbered(30), { sweep: "plain", hooks });
    expect(outcomes.map(({ number }) => number)).toEqual(numbered(30).map(({ x }) => x));
    expect(outcomes[7]).toMatchObject({
      ...{
        status: "finished",
        attempts: 1,
        value: { seed: 7 },
        figures: { loss: 7, bad: Number.NaN, large: Infinity },
      },
      series: { loss: [[1, Number.NaN]], size: [[1, -Infinity]] },
    });
    await until(() => reported.length === 30, "reports");
    expect(reported[0]).toEqual([1, { loss: Number.NaN, size: -Infinity }]);
    await queue.close();
    await worker.stop();
    const client = new Redis(redis.port, "127.0.0.1");
    await until(async () => (await client.keys("*plain*")).length === 0, "an empty Redis");
    client.disconnect();
  });

  test("asks the sweep after each report where trials may be stopped", async () => {
    const queue = await open({ sweep: "stopping", answers: true });
    const worker = startWorker(async ({ x }, { report }) => {
      for (let step = 0; step < 10; step++) {
        if ((await report(step, { loss: Number(x) })) === "stop") return { loss: Number(x), step };
      }
      return { loss: Number(x), step: 10 };
    });
    const hooks: Partial<TrialHooks> = {
      report: (step, { loss }) => (step === 3 && loss! % 2 === 1 ? "stop" : "continue"),
    };
    const outcomes = await drive(queue, numbered(6), { sweep: "stopping", hooks });
    expect(outcomes.map((outcome) => [outcome.status, "figures" in outcome && outcome.figures["step"]])).toEqual(
      numbered(6).map(({ x }) => (Number(x) % 2 === 1 ? ["stopped", 3] : ["finished", 10])),
    );
    await queue.close();
    await worker.stop();
  });

  test("a trial that fails is tried as often as it may be, from its checkpoint, and others go on", async () => {
    const queue = await open({ sweep: "poison" });
    const begun: unknown[] = [];
    const trial: Trial = async ({ x }, { checkpoint, resume, number }) => {
      if (number === 1) begun.push(resume?.[0]);
      if (number === 1) await checkpoint(Uint8Array.of((resume?.[0] ?? 0) + 1));
      if (number === 1) throw new Error("this trial\nalways fails");
      if (number === 2 && resume === undefined) {
        await checkpoint(Uint8Array.of(42));
        throw new Error("once");
      }
      return { loss: Number(x), resumed: resume?.[0] ?? 0 };
    };
    const worker = startWorker(trial);
    const [retried, checkpoints] = [[] as unknown[], [] as string[]];
    const hooks: Partial<TrialHooks> = {
      retried: (attempt, error) => void retried.push([attempt, error]),
      checkpointed: (reference) => void checkpoints.push(reference),
    };
    const outcomes = await drive(queue, numbered(5), { sweep: "poison", hooks });
    expect(outcomes[1]).toEqual({ status: "failed", number: 1, error: "this trial always fails", attempts: 3 });
    expect(outcomes[2]).toMatchObject({ status: "finished", attempts: 2, figures: { loss: 2, resumed: 42 } });
    expect(outcomes.filter(({ status }) => status === "finished")).toHaveLength(4);
    expect(begun).toEqual([undefined, 1, 2]);
    expect(retried.toSorted()).toEqual([
      [1, "once"],
      [1, "this trial always fails"],
      [2, "this trial always fails"],
    ]);
    expect(checkpoints).toHaveLength(4);
    await queue.close();
    await worker.stop();
  });

  test("another sweep of the same name is refused, the same one goes on when its process is gone", async () => {
    const folder = newFolder();
    const queue = await open({ sweep: "name", folder });
    await expect(open({ sweep: "name" })).rejects.toThrow("a sweep of another folder has the name name on this queue");
    await expect(open({ sweep: "name", folder })).rejects.toThrow(/is coordinated by process \d+ of /);
    const other = namedDigest("another");
    const ended = new AbortController();
    const running = drive(queue, numbered(4), { sweep: "name", signal: ended.signal });
    ended.abort(new Error("the sweep is interrupted"));
    await expect(running).rejects.toThrow("the sweep is interrupted");
    await queue.close();
    await expect(open({ sweep: "name" })).rejects.toThrow("a sweep of another folder");
    await expect(open({ sweep: "name", folder, code: other })).rejects.toThrow("began with the trial");
    const again = await open({ sweep: "name", folder });
    const worker = startWorker(plain);
    expect(await drive(again, numbered(4), { sweep: "name" })).toHaveLength(4);
    await again.close();
    await worker.stop();
  });

  test("outcomes that came while nobody coordinated are there for whoever goes on, until they are counted", async () => {
    const folder = newFolder();
    const first = await open({ sweep: "going-on", folder });
    const runs: number[] = [];
    const worker = startWorker(async ({ x }, { number }) => {
      runs.push(number);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { loss: Number(x) };
    });
    const order = (number: number) => ({ sweep: "going-on", code, number, config: { x: number }, seed: 0, attempt: 1 });
    const hooks: TrialHooks = { report: () => "continue", checkpointed: () => {} };
    const never = new AbortController().signal;
    const outcomes = numbered(12).map((_, number) => first.run(order(number), hooks, never));
    for (const outcome of outcomes) outcome.catch(() => {});
    // Its journal has the first two; then it ends without a word, as one that was killed.
    for (const number of [0, 1]) {
      await outcomes[number];
      first.counted(number);
    }
    await until(() => runs.length === 12, "all trials");
    const crash = first as unknown as { failure: unknown };
    await new Promise((resolve) => setTimeout(resolve, 300));
    crash.failure = new Error("killed");
    await first.close();
    const client = new Redis(redis.port, "127.0.0.1");
    await client.del("kilograd:sweep:going-on:alive");
    client.disconnect();
    const second = await open({ sweep: "going-on", folder });
    const got = await Promise.all(numbered(10).map((_, i) => second.run(order(i + 2), hooks, never)));
    expect(got.map(({ number }) => number)).toEqual(numbered(10).map((_, i) => i + 2));
    for (const { number } of got) second.counted(number);
    expect(runs.toSorted((a, b) => a - b)).toEqual(numbered(12).map(({ x }) => x));
    // One whose journal lost it is run again.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await second.run(order(5), hooks, never)).toMatchObject({ number: 5, status: "finished" });
    expect(runs).toHaveLength(13);
    second.counted(5);
    await second.close();
    await worker.stop();
  });

  test("workers refuse a sweep of other code, by name", async () => {
    const other = namedDigest("a newer version");
    const queue = await open({ sweep: "versions", code: other });
    const named = startWorker(plain, { sweep: "versions" });
    await expect(named.serving).rejects.toThrow(
      `worker: refuses sweep versions: it runs the trial ${other.slice(0, 12)} of Kilograd`,
    );
    said.length = 0;
    const any = startWorker(plain, { name: "any" });
    await until(() => said.some((text) => text.startsWith("worker: refuses sweep versions")), "a refusal");
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(said.filter((text) => text.includes("refuses"))).toHaveLength(1);
    expect(said.filter((text) => text.includes("any: serves"))).toEqual([]);
    await any.stop();
    await queue.close();
  });

  test("a sweep that is called back ends its trials on the workers", async () => {
    const queue = await open({ sweep: "back" });
    const ended: string[] = [];
    const worker = startWorker(
      (_, { signal, number }) =>
        new Promise((_, failed) => {
          signal.addEventListener("abort", () => {
            ended.push(`${number} ${(signal.reason as Error).message}`);
            failed(signal.reason);
          });
        }),
    );
    const stop = new AbortController();
    const running = drive(queue, numbered(1), { sweep: "back", signal: stop.signal });
    running.catch(() => {});
    await until(async () => said.some((text) => text.includes("serves sweep back")), "the worker");
    await new Promise((resolve) => setTimeout(resolve, 500));
    stop.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    await until(() => ended.length === 1, "the trial's end");
    expect(ended).toEqual(["0 the sweep called the trial back"]);
    await queue.close();
    await worker.stop();
  });

  test("a worker that is stopped gives its trial back, which another one goes on with", async () => {
    const queue = await open({ sweep: "given-back" });
    const slow: Trial = async (_, { checkpoint, signal }) => {
      await checkpoint(Uint8Array.of(9));
      await new Promise((_, failed) => signal.addEventListener("abort", () => failed(signal.reason)));
      return { loss: 0 };
    };
    const first = startWorker(slow, { name: "first" });
    let kept = 0;
    const hooks: Partial<TrialHooks> = { checkpointed: () => void kept++ };
    const running = drive(queue, numbered(1), { sweep: "given-back", hooks });
    await until(() => kept === 1, "a checkpoint");
    await first.stop();
    const second = startWorker((_, { resume }) => ({ loss: resume?.[0] ?? 0 }), { name: "second" });
    expect(await running).toMatchObject([{ figures: { loss: 9 }, attempts: 1, worker: "second" }]);
    await queue.close();
    await second.stop();
  });

  test("the trial of a worker that hangs is another's within the time that the documentation states", async () => {
    const page = readFileSync("docs/sweeps.md", "utf8").replace(/\s+/g, " ");
    expect(TAKEOVER_MS).toBe(LOCK_MS + 2 * STALLED_MS);
    expect(page).toContain(`another one has its trial within ${TAKEOVER_MS / 1000} s`);
    expect(page).toContain(
      `a lock of ${LOCK_MS / 1000} s, renewed every ${LOCK_MS / 3000} s, and a look at lost locks`,
    );
    const queue = await open({ sweep: "times" });
    const stop = new AbortController();
    const running = drive(queue, numbered(1), { sweep: "times", signal: stop.signal });
    running.catch(() => {});
    const worker = startWorker((_, { signal }) => new Promise((_, failed) => signal.addEventListener("abort", failed)));
    const client = new Redis(redis.port, "127.0.0.1");
    // What BullMQ was told, as Redis has it: by itself it takes 30 s for both, and looks twice.
    const left = (key: string) => client.pttl(`kilograd:jobs:times:${key}`);
    await until(async () => (await left("trial-0:lock")) > 0, "a lock");
    for (let look = 0; look < 40; look++) {
      expect(await left("trial-0:lock")).toBeLessThanOrEqual(LOCK_MS);
      expect(await left("stalled-check")).toBeLessThanOrEqual(STALLED_MS);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    client.disconnect();
    stop.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    await queue.close();
    await worker.stop();
  });

  test("Redis is killed and comes back: nothing is lost", async () => {
    const own = await RedisServer.start();
    const queue = await open({ sweep: "restart", address: own.address });
    const runs: number[] = [];
    const trial: Trial = async ({ x }, { number }) => {
      runs.push(number);
      await new Promise((resolve) => setTimeout(resolve, 10));
      return { loss: Number(x) };
    };
    const worker = startWorker(trial, { address: own.address, concurrency: 2 });
    let counted = 0;
    const running = drive(queue, numbered(150), { sweep: "restart" });
    const kills = (async () => {
      for (let kill = 0; kill < 3; kill++) {
        await until(() => runs.length > 40 * (kill + 1), "trials");
        await own.kill();
        await new Promise((resolve) => setTimeout(resolve, 300));
        await own.up();
        counted++;
      }
    })();
    const outcomes = await running;
    await kills;
    expect(counted).toBe(3);
    expect(outcomes.map(({ number }) => number)).toEqual(numbered(150).map(({ x }) => x));
    expect(outcomes.every(({ status }) => status === "finished")).toBe(true);
    await queue.close();
    await worker.stop();
    await own.stop();
  });

  test("Redis loses everything: the sweep puts its orders there anew", async () => {
    const queue = await open({ sweep: "flushed" });
    const client = new Redis(redis.port, "127.0.0.1");
    const running = drive(queue, numbered(4), { sweep: "flushed" });
    await until(async () => (await client.keys("kilograd:jobs:flushed:trial-*")).length === 4, "jobs");
    await client.flushall();
    client.disconnect();
    const worker = startWorker(plain);
    expect(await running).toHaveLength(4);
    await queue.close();
    await worker.stop();
  });

  test("large checkpoints go through a shared folder, or fail by name; damaged ones are not gone on with", async () => {
    const client = new Redis(redis.port, "127.0.0.1");
    const large = new Uint8Array(MOST_IN_REDIS + 1).fill(7);
    const trial: Trial = async ({ size }, { checkpoint, resume, number }) => {
      if (resume !== undefined) return { loss: resume.length, last: resume.at(-1)! };
      await checkpoint(large.subarray(0, Number(size)));
      if (number === 2) await client.hset("kilograd:sweep:stores:checkpoint:2", "bytes", "other");
      throw new Error("after the checkpoint");
    };
    const sizes = numbered(3, (x) => ({ size: [large.length, MOST_IN_REDIS, 5][x]! }));
    const queue = await open({ sweep: "stores", attempts: 2 });
    const without = startWorker(trial);
    const outcomes = await drive(queue, sizes, { sweep: "stores" });
    expect(outcomes).toMatchObject([
      { status: "failed", error: expect.stringMatching(/at most 8 MiB go through Redis, got 8.0; start .* --store/) },
      { status: "finished", figures: { loss: MOST_IN_REDIS, last: 7 } },
      { status: "failed", error: "checkpoint: that of trial 2 is damaged: its digest is another" },
    ]);
    await queue.close();
    await without.stop();
    const store = newFolder();
    const again = await open({ sweep: "stores", attempts: 2 });
    const worker = startWorker(trial, { store: await openStore(store) });
    expect(await drive(again, sizes.slice(0, 1), { sweep: "stores" })).toMatchObject([
      { status: "finished", figures: { loss: large.length, last: 7 } },
    ]);
    await until(() => readdirSync(join(store, "stores")).length === 0, "an empty folder");
    await again.close();
    await worker.stop();
    client.disconnect();
  });

  test("is looked at, and a sweep on it is ended, from outside", async () => {
    const queue = await open({ sweep: "ended-outside" });
    const running = drive(queue, numbered(6), { sweep: "ended-outside" });
    running.catch(() => {});
    await until(async () => (await queuedSweeps(redis.address, say))[0]?.waiting === 4, "orders");
    expect(await queuedSweeps(redis.address, say)).toEqual([
      { name: "ended-outside", code, coordinated: true, workers: [], waiting: 4, running: 0, uncounted: 0 },
    ]);
    await expect(endSweep(redis.address, "other", say)).rejects.toThrow("has no sweep other; it has ended-outside");
    await endSweep(redis.address, "ended-outside", say);
    expect(await queuedSweeps(redis.address, say)).toEqual([]);
    await expect(running).rejects.toThrow("sweep ended-outside was ended on the queue");
    await queue.close();
    expect(await queuedSweeps(redis.address, say)).toEqual([]);
    await (await open({ sweep: "ended-outside" })).close();
  });

  test("what is no message is left out: it is never run, and nothing ends by it", async () => {
    const queue = await open({ sweep: "hostile" });
    const client = new Redis(redis.port, "127.0.0.1");
    const { Queue } = await import("bullmq");
    const jobs = new Queue("hostile", { connection: client, prefix: "kilograd:jobs" });
    said.length = 0;
    const order = { sweep: "hostile", code, number: 1, config: {}, seed: 0, attempt: 1 };
    const bad: readonly unknown[] = [
      "no JSON",
      JSON.stringify({ ...order, code: "../../etc/passwd" }),
      JSON.stringify({ ...order, number: 2 ** 31 }),
      JSON.stringify({ ...order, code: namedDigest("other") }),
      JSON.stringify({ ...order, sweep: "another" }),
      JSON.stringify({ ...order, attempt: -1 }),
      JSON.stringify({ ...order, config: "process.exit()" }),
      { constructor: { prototype: {} } },
      JSON.stringify(order), // Under another number than its own.
    ];
    await jobs.addBulk(
      bad.map((data, i) => ({ name: "trial", data, opts: { jobId: `trial-${100 + i}`, removeOnComplete: true } })),
    );
    const texts = ["{", "[]", '{"kind":"report"}', '{"__proto__":{"status":"finished"}}', '{"status":"finished"}'];
    for (const stream of ["reports", "outcomes"]) {
      for (const text of texts) await client.xadd(`kilograd:sweep:hostile:${stream}`, "*", "message", text);
    }
    await client.zadd("kilograd:sweep:hostile:workers", Date.now(), "a worker", Date.now(), '{"id":"x"}');
    await client.sadd("kilograd:sweeps", "../..", "absent");
    await client.set("kilograd:sweep:absent:about", '{"protocol":7}');
    let ran = 0;
    const worker = startWorker((config) => {
      ran++;
      return plain(config, undefined as never);
    });
    expect(await drive(queue, numbered(3), { sweep: "hostile" })).toHaveLength(3);
    await until(() => said.filter((text) => text.includes("left out a job")).length === bad.length, "all bad jobs");
    expect(ran).toBe(3);
    expect(said.filter((text) => text.includes("left out what is no message")).length).toBeGreaterThanOrEqual(10);
    expect(said.some((text) => text.includes("protocol must be 1"))).toBe(true);
    await jobs.close();
    await client.del("kilograd:sweeps", "kilograd:sweep:absent:about");
    client.disconnect();
    await queue.close();
    await worker.stop();
  });
});
