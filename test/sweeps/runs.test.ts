// Runs of experiments whose networks are trained elsewhere, in processes of this machine and by workers of a queue: the
// figures are those of one process to the bit, whatever becomes of the workers.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { build, kilograd, type RunOptions } from "../cli/run.js";
import { hasRedis, RedisServer } from "./redis.js";

let folder: string;
let redis: RedisServer | undefined;
beforeAll(async () => {
  build();
  folder = mkdtempSync(join(tmpdir(), "kilograd-runs-"));
  if (hasRedis) redis = await RedisServer.start(["requirepass sehr-geheim"]);
}, 600_000);
afterAll(async () => {
  await redis?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const started: ChildProcess[] = [];
afterEach(async () => {
  await Promise.all(
    started.splice(0).map((child) => {
      const ended = new Promise((done) => child.once("exit", done));
      if (child.exitCode !== null || child.signalCode !== null) return undefined;
      child.kill("SIGKILL");
      return ended;
    }),
  );
});

const address = () => redis!.addressOf(":sehr-geheim");

/** `kilograd worker --experiment all`. What it says is in the answer's text. */
function startWorker(): { readonly child: ChildProcess; said(): string } {
  const child = spawn(process.execPath, ["dist/cli.js", "worker", "--experiment", "all"], {
    env: { ...process.env, KILOGRAD_DATA_DIR: "", KILOGRAD_QUEUE: address() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (more) => (text += more));
  started.push(child);
  return { child, said: () => text };
}

/** What of metrics comes again: no times, no memory. */
function figures(out: string): unknown {
  return JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"), (key, value) =>
    /timing|seconds|memory|stepMs/i.test(key) ? undefined : value,
  );
}

const set = (...settings: string[]) => ["data=digits", ...settings].flatMap((setting) => ["--set", setting]);
const runs: Readonly<Record<string, readonly string[]>> = {
  digits: set(
    ...["trainImages=320", "testImages=40", "epochs=1", "imagesOf=[]", "variantEpochs=0", "heldOut=[]", "slowStepMs=0"],
    ...['models=["mlp-64","small-cnn"]', "averaged=[]", "replicates=2"],
  ),
  "weight-decay": set(
    ...["trainImages=320", "testImages=40", "epochs=1", "smallEpochs=1", "convolutionalEpochs=1", "replicates=2"],
    "factors=[0.0001,0.01]",
  ),
};

/** Parts on which the names of jobs may hang: whether a model's steps are too slow for a whole training. */
const partsBefore: Readonly<Record<string, readonly string[]>> = {
  digits: ["mlp-64_a_measured_step.safetensors", "small-cnn_a_measured_step.safetensors"],
  "weight-decay": [],
};

async function run(
  name: string,
  out: string,
  more: readonly string[] = [],
  options: RunOptions = {},
): Promise<unknown> {
  const ended = await kilograd(["run", name, ...runs[name]!, "--out", out, ...more], { timeout: 300_000, ...options });
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stdout + ended.stderr).not.toMatch(/sehr|heim/);
  return figures(out);
}

const keysOf = async () => {
  const client = new Redis(redis!.port, "127.0.0.1", { password: "sehr-geheim" });
  const keys = await client.keys("*:run-*");
  client.disconnect();
  return keys;
};

describe.each(["digits", "weight-decay"])("kilograd run %s", (name) => {
  const whole: Record<string, Promise<unknown>> = {};
  const alone = () => (whole[name] ??= run(name, join(folder, `${name}-alone`)));

  test("with --workers comes to the same figures", { timeout: 600_000 }, async () => {
    const several = await run(name, join(folder, `${name}-workers`), ["--workers", "2"]);
    expect(several).toEqual(await alone());
  });

  test.skipIf(!hasRedis)("with --queue comes to the same figures", { timeout: 600_000 }, async () => {
    const out = join(folder, `${name}-queue`);
    const running = run(name, out, ["--queue", address()]);
    // What a worker is told: names and settings. Data it has of its own, by name and digest; code it is never sent.
    const client = new Redis(redis!.port, "127.0.0.1", { password: "sehr-geheim" });
    let jobs: string[] = [];
    while (jobs.length === 0) {
      await Promise.race([running, new Promise((later) => setTimeout(later, 100))]);
      jobs = await client.keys(`kilograd:jobs:run-${name}-quick-*:trial-0`);
    }
    const order = JSON.parse(JSON.parse((await client.hget(jobs[0]!, "data"))!));
    client.disconnect();
    expect(Object.keys(order.config.run).sort()).toEqual([
      "before",
      "experiment",
      "precision",
      "preset",
      "seed",
      "set",
    ]);
    expect(Object.keys(order.config.run.before)).toEqual(partsBefore[name]);
    expect(JSON.stringify(order)).not.toContain(folder);
    const workers = [startWorker(), startWorker()];
    const several = await running;
    expect(several).toEqual(await alone());
    // Each of the networks was trained by a worker, and sent as the parts that one process keeps.
    expect(readdirSync(join(out, "parts")).sort()).toEqual(readdirSync(join(folder, `${name}-alone`, "parts")).sort());
    expect(workers.every(({ said }) => said().includes(`serves sweep run-${name}-quick-`))).toBe(true);
    expect(workers.map(({ said }) => said()).join("")).not.toMatch(/sehr|heim/);
    // The last worker tidies up when it has seen the end.
    await vi.waitFor(async () => expect(await keysOf()).toEqual([]), { timeout: 60_000, interval: 500 });
  });
});

describe.skipIf(!hasRedis)("a run over a queue", { timeout: 600_000 }, () => {
  test("whose process and whose worker are killed goes on to the same figures", async () => {
    const name = "weight-decay";
    const out = join(folder, "killed");
    const first = startWorker();
    const words = ["run", name, ...runs[name]!, "--out", out, "--queue", address()];
    const child = spawn(process.execPath, ["dist/cli.js", ...words], {
      env: { ...process.env, KILOGRAD_DATA_DIR: "" },
      stdio: "ignore",
    });
    started.push(child);
    const ended = new Promise((done) => child.once("exit", done));
    const kept = () =>
      existsSync(join(out, "parts")) ? readdirSync(join(out, "parts")).filter((file) => !file.includes("step")) : [];
    while (kept().length < 2) {
      expect(child.exitCode, first.said()).toBe(null);
      await new Promise((later) => setTimeout(later, 50));
    }
    child.kill("SIGKILL");
    first.child.kill("SIGKILL");
    await ended;
    startWorker();
    const alone = join(folder, `${name}-alone`);
    if (!existsSync(join(alone, "metrics.json"))) await run(name, alone);
    expect(await run(name, out, ["--queue", address(), "--resume"])).toEqual(figures(alone));
    await vi.waitFor(async () => expect(await keysOf()).toEqual([]), { timeout: 60_000, interval: 500 });
  });

  test("is part of run all, and what a worker of it may not be given is named", async () => {
    const help = spawnSync(process.execPath, ["dist/cli.js", "run", "--help"], { encoding: "utf8" }).stdout;
    expect(help).toContain("--queue <address>");
    const refused = await kilograd(["worker", "--experiment", "all", "--preset", "quick", "--queue", address()]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("leave them out with --experiment all") });
    const wrong = await kilograd(["run", "digits", ...runs["digits"]!, "--out", join(folder, "wrong"), "--queue", "x"]);
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining("queue: the address must be redis://") });
  });
});
