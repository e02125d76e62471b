// Workers of a queue as commands of their own, which are killed, stopped, interrupted, and whose trials crash and hang.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { queueKilled } from "../../fuzz/queue-kills.js";
import type { TrialConfig, TrialOutcome } from "../../src/sweeps/executor.js";
import { openQueue } from "../../src/sweeps/queue/executor.js";
import { codeDigest } from "../../src/sweeps/trial-file.js";
import { build, kilograd } from "../cli/run.js";
import { hasRedis, RedisServer } from "./redis.js";

const file = resolve("test/sweeps/queue-trial.mjs");
let redis: RedisServer;
let parent: string;

beforeAll(async () => {
  if (!hasRedis) return;
  build();
  parent = mkdtempSync(join(tmpdir(), "kilograd-queue-processes-"));
  redis = await RedisServer.start([`requirepass sehr-geheim`]);
}, 300_000); // The build takes its time.
afterAll(async () => {
  await redis?.stop();
  if (parent) rmSync(parent, { recursive: true, force: true });
});

interface WorkerCommand {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  said(): string;
}

const started: WorkerCommand[] = [];
afterEach(async () => {
  for (const { child } of started) child.kill("SIGKILL");
  await Promise.all(started.splice(0).map(({ ended }) => ended));
});

/** `kilograd worker`, with the queue's address in the environment. */
function startWorker(...args: string[]): WorkerCommand {
  const command = ["dist/cli.js", "worker", "--trial", file, ...args];
  const environment = { ...process.env, KILOGRAD_QUEUE: redis.addressOf(":sehr-geheim") };
  const child = spawn(process.execPath, command, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (more) => (text += more));
  const ended = new Promise<{ code: number | null; signal: string | null }>((done) => {
    child.on("close", (code, signal) => done({ code, signal }));
  });
  const worker = { child, ended, said: () => text };
  started.push(worker);
  return worker;
}

async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; tries < 1800; tries++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never came: ${what}; workers said:\n${started.map(({ said }) => said()).join("\n")}`);
}

/** Whether a process runs. One that ended is still listed until somebody asks how. */
function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return /^[^Z]/.test(stdout.trim());
}

interface Sweep {
  readonly outcomes: Promise<TrialOutcome[]>;
  readonly retried: string[];
  /** Lines of what the trials did. */
  log(): string[];
  close(): Promise<void>;
}

async function startSweep(name: string, configs: readonly TrialConfig[], attempts = 3): Promise<Sweep> {
  const folder = mkdtempSync(join(parent, "sweep-"));
  const log = join(folder, "log");
  const code = codeDigest(file);
  const address = redis.addressOf(":sehr-geheim");
  const queue = await openQueue({ address, sweep: name, code, folder, attempts, answers: false, say: () => {} });
  const retried: string[] = [];
  const signal = new AbortController().signal;
  const outcomes = Promise.all(
    configs.map(async (config, number) => {
      const order = { sweep: name, code, number, config: { ...config, log }, seed: 0, attempt: 1 };
      const outcome = await queue.run(
        order,
        {
          report: () => "continue",
          checkpointed: () => {},
          retried: (attempt, error) => void retried.push(`${number} ${attempt} ${error}`),
        },
        signal,
      );
      queue.counted(number);
      return outcome;
    }),
  );
  outcomes.catch(() => {}); // It is awaited later.
  return {
    ...{ outcomes, retried },
    log: () => (existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : []),
    close: () => queue.close(),
  };
}

const numbered = (length: number, config: (x: number) => TrialConfig = (x) => ({ x })) =>
  Array.from({ length }, (_, x) => config(x));

describe.skipIf(!hasRedis)("workers of a queue", () => {
  test("one that is killed costs an attempt; another goes on from the checkpoint", { timeout: 200_000 }, async () => {
    const sweep = await startSweep("killed", [{ x: 5, sleep: 500, steps: 20 }]);
    const workers = [startWorker(), startWorker()];
    await until(() => workers.every(({ said }) => said().includes("serves sweep")), "both workers");
    await until(() => sweep.log().includes("0 kept 2"), "two checkpoints");
    const holder = Number(/by (\d+)/.exec(sweep.log()[0]!)![1]);
    process.kill(holder, "SIGKILL");
    expect(await sweep.outcomes).toMatchObject([{ status: "finished", attempts: 2, figures: { loss: 5, steps: 20 } }]);
    expect(sweep.retried).toEqual([expect.stringMatching(/^0 1 its worker was lost/)]);
    const lines = sweep.log();
    const again = lines.findLastIndex((line) => line.includes("begins"));
    const kept = lines.slice(0, again).filter((line) => line.includes("kept")).length;
    expect(lines[again]).toMatch(new RegExp(`^0 begins ${kept} `));
    await sweep.close();
  });

  test("one that sleeps loses its trial, and what it brings later is not counted", { timeout: 200_000 }, async () => {
    const sweep = await startSweep("asleep", [{ x: 6, sleep: 500 }]);
    const first = startWorker("--name", "first");
    await until(() => sweep.log().includes("0 kept 1"), "a checkpoint");
    first.child.kill("SIGSTOP");
    startWorker("--name", "second");
    expect(await sweep.outcomes).toMatchObject([{ status: "finished", attempts: 2, worker: "second" }]);
    first.child.kill("SIGCONT");
    await sweep.close();
    // It goes on, and is still of use.
    const next = await startSweep("asleep", numbered(3));
    expect((await next.outcomes).map(({ status }) => status)).toEqual(["finished", "finished", "finished"]);
    await next.close();
  });

  test("crashes of trials end processes of theirs, not the worker, and fail after their attempts", async () => {
    const faults = [undefined, "exit", undefined, "killed", undefined];
    const sweep = await startSweep(
      "crashes",
      numbered(5, (x) => ({ x, ...(faults[x] && { fault: faults[x] }) })),
    );
    const worker = startWorker();
    expect(await sweep.outcomes).toMatchObject([
      { status: "finished" },
      { status: "failed", attempts: 3, error: expect.stringMatching(/ended with code 7/) },
      { status: "finished" },
      { status: "failed", attempts: 3, error: expect.stringMatching(/ended by SIGKILL/) },
      { status: "finished" },
    ]);
    // Each attempt after the first went on from the second checkpoint.
    const begins = sweep.log().filter((line) => line.startsWith("1 begins"));
    expect(begins.map((line) => line.split(" ")[2])).toEqual(["0", "2", "2"]);
    expect(worker.child.exitCode).toBeNull();
    await sweep.close();
  });

  test("trials that hang, or say nothing, are ended", async () => {
    const configs = [{ x: 0, fault: "hangs" }, { x: 1, fault: "silent" }, { x: 2 }];
    const sweep = await startSweep("silent", configs, 2);
    startWorker("--silence", "1.5", "--concurrency", "2");
    const failed = {
      status: "failed",
      attempts: 2,
      error: expect.stringMatching(/gave no sign for 1.5 s, and was ended/),
    };
    expect(await sweep.outcomes).toMatchObject([failed, failed, { status: "finished" }]);
    await sweep.close();
  });

  test.each(["SIGINT", "SIGTERM"] as const)("%s gives the trial back, with its checkpoint", async (signal) => {
    const sweep = await startSweep(`back-${signal}`, [{ x: 1, sleep: 400, steps: 6 }]);
    const first = startWorker("--name", "first");
    await until(() => sweep.log().includes("0 kept 2"), "two checkpoints");
    first.child.kill(signal);
    expect(await first.ended).toEqual({ code: 0, signal: null });
    startWorker("--name", "second");
    expect(await sweep.outcomes).toMatchObject([{ status: "finished", attempts: 1, worker: "second" }]);
    expect(sweep.log().filter((line) => line.includes("begins"))[1]).toMatch(/^0 begins [234]/);
    expect(sweep.retried).toEqual([]);
    await sweep.close();
  });

  test("the processes of trials end with a worker that is killed", async () => {
    const sweep = await startSweep("orphans", [{ x: 1, sleep: 200, steps: 40 }]);
    const worker = startWorker();
    await until(() => sweep.log().length > 1, "the trial");
    const pid = Number(/in (\d+)/.exec(sweep.log()[0]!)![1]);
    worker.child.kill("SIGKILL");
    await until(() => !isAlive(pid), "the end of the trial's process");
    startWorker();
    expect(await sweep.outcomes).toMatchObject([{ status: "finished" }]);
    await sweep.close();
  });

  test("another file, or another version of it, is refused and named; no secret is shown", async () => {
    const sweep = await startSweep("versions", [{ x: 1 }]);
    const other = join(parent, "other.mjs");
    cpSync(file, other);
    writeFileSync(other, `${readFileSync(file, "utf8")}// changed\n`);
    const env = { KILOGRAD_QUEUE: redis.addressOf(":sehr-geheim") };
    const refused = await kilograd(["worker", "--trial", other, "--sweep", "versions"], { env });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(
      `kilograd: worker: refuses sweep versions: it runs the trial ${codeDigest(file).slice(0, 12)}`,
    );
    expect(refused.stderr).toContain(codeDigest(other).slice(0, 12));
    const wrong = { KILOGRAD_QUEUE: redis.addressOf(":sehr-falsch"), KILOGRAD_DEBUG: "1" };
    const outside = await kilograd(["worker", "--trial", file], { env: wrong });
    expect(outside.stderr).toContain("refuses: WRONGPASS");
    expect(refused.stderr + outside.stderr + outside.stdout).not.toMatch(/sehr/);
    const nowhere = await kilograd(["worker", "--trial", file], { env: { KILOGRAD_QUEUE: "" } });
    expect(nowhere).toMatchObject({ code: 2, stderr: expect.stringContaining("needs the address of a queue") });
    const listed = await kilograd(["sweep", "status"], { env });
    expect(listed.stdout).toMatch(
      /^versions: trial [0-9a-f]{12}; 1 waiting, 0 running, .* workers: none; on its way$/m,
    );
    const stopped = await kilograd(["sweep", "stop", "other", "--queue", env.KILOGRAD_QUEUE]);
    expect(stopped).toMatchObject({ code: 2, stderr: expect.stringContaining("has no sweep other; it has versions") });
    const both = await kilograd(["worker", "--trial", file, "--experiment", "digits"], { env });
    expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining("either --trial FILE or --experiment") });
    expect(listed.stdout + stopped.stderr + both.stderr).not.toMatch(/sehr/);
    const noTrial = await kilograd(["worker", "--trial", "package.json"], { env });
    expect(noTrial).toMatchObject({ code: 2, stderr: expect.stringContaining("kilograd: trial: ") });
    startWorker();
    await sweep.outcomes;
    await sweep.close();
  });

  test("a sweep whose process is killed goes on to the same figures, each counted once", {
    timeout: 200_000,
  }, async () => {
    startWorker();
    startWorker("--concurrency", "2");
    /** Runs the program, and kills it when its journal has so many outcomes. */
    const session = async (folder: string, most: number) => {
      const args = [redis.addressOf(":sehr-geheim"), file, folder, join(parent, "log")];
      const child = spawn(process.execPath, ["test/sweeps/queue-sweep.mjs", ...args], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      let [stdout, stderr] = ["", ""];
      child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
      child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
      const ended = new Promise<number | null>((done) => child.on("close", done));
      const watching = setInterval(() => {
        if (outcomesIn(folder).length >= most) child.kill("SIGKILL");
      }, 20);
      const code = await ended;
      clearInterval(watching);
      return { code, stdout, stderr };
    };
    const outcomesIn = (folder: string): number[] => {
      const path = join(folder, "journal.jsonl");
      if (!existsSync(path)) return [];
      const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
      const events = lines.map((line) => JSON.parse(JSON.parse(line).of));
      return events.filter(({ event }) => event === "ended").map(({ outcome }) => outcome.number);
    };
    const [whole, killed] = [join(parent, "whole"), join(parent, "killed")];
    const expected = await session(whole, Number.POSITIVE_INFINITY);
    expect(expected.code, expected.stderr).toBe(0);
    for (const most of [3, 9, 15]) expect((await session(killed, most)).code).toBeNull();
    const last = await session(killed, Number.POSITIVE_INFINITY);
    expect(last.code, last.stderr).toBe(0);
    expect(last.stdout).toBe(expected.stdout);
    expect(outcomesIn(killed).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 24 }, (_, i) => i));
  });

  // `npm run kills -- --suite queue` kills a hundred.
  test("ten that are killed in a sweep of twenty trials", { timeout: 300_000 }, async () => {
    expect(await queueKilled({ trials: 20, kills: 10, workers: 3, every: 1000, seed: 1 })).toEqual([]);
  });
});
