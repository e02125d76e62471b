// Kills of workers of a queue, for kills.ts: a sweep runs through a real Redis on several workers, each a command of
// its own, while they are killed at random moments, or the processes in which they run trials. Each trial must be
// counted once, and each attempt must begin from the last checkpoint that was kept before it.
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openQueue } from "../src/sweeps/queue/executor.js";
import { uniform } from "../src/sweeps/space.js";
import { sweepAt } from "../src/sweeps/sweep.js";
import { codeDigest } from "../src/sweeps/trial-file.js";
import { RandomStream } from "../src/tensor/random.js";
import { RedisServer } from "../test/sweeps/redis.js";
import { cli } from "./process.js";

export interface QueueKills {
  readonly trials: number;
  readonly kills: number;
  readonly workers: number;
  readonly seed: number;
  /** Milliseconds between kills, at most. */
  readonly every: number;
  readonly say?: (text: string) => void;
}

/** Six steps, a checkpoint after each; what it did stands in a file. */
const TRIAL = `
import { appendFileSync } from "node:fs";
const log = (line) => appendFileSync(process.env.KILLS_LOG, line + "\\n");
export default async function trial({ x }, { number, report, checkpoint, resume }) {
  let step = resume?.[0] ?? 0;
  log(number + " begins " + step + " " + process.pid + " " + process.ppid);
  for (; step < 6; ) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    await report(step, { loss: x });
    await checkpoint(Uint8Array.of(++step));
    log(number + " kept " + step);
  }
  log(number + " ends " + step);
  return { loss: x, steps: step };
}
`;

/** Attempts on their way, by trial: the process of each, and its worker. */
function onTheirWay(log: string): (readonly [process: number, worker: number])[] {
  const found = new Map<string, readonly [number, number]>();
  for (const line of log.split("\n")) {
    const [number, what, , pid, parent] = line.split(" ");
    if (what === "begins") found.set(number!, [Number(pid), Number(parent)]);
    if (what === "ends") found.delete(number!);
  }
  return [...found.values()];
}

/** Gives what was wrong. */
export async function queueKilled({
  trials,
  kills,
  workers,
  seed,
  every,
  say = () => {},
}: QueueKills): Promise<string[]> {
  const random = new RandomStream(seed, "kills queue");
  const folder = mkdtempSync(join(tmpdir(), "kilograd-queue-kills-"));
  const [file, log] = [join(folder, "trial.mjs"), join(folder, "log")];
  writeFileSync(file, TRIAL);
  appendFileSync(log, "");
  const redis = await RedisServer.start();
  const running = new Map<number, ChildProcess>();
  let ended = false;
  let killed = 0;
  let started = 0;
  const start = (slot: number) => {
    const name = `worker-${started++}`;
    const args = [cli, "worker", "--queue", redis.address, "--trial", file, "--name", name];
    const child = spawn(process.execPath, args, { env: { ...process.env, KILLS_LOG: log }, stdio: "ignore" });
    running.set(slot, child);
    child.on("exit", () => {
      if (!ended) start(slot);
    });
  };
  for (let slot = 0; slot < workers; slot++) start(slot);
  const killing = (async () => {
    while (!ended && killed < kills) {
      await new Promise((resolve) => setTimeout(resolve, random.uniform() * every));
      // Mostly what runs a trial: the trial's own process, or its worker.
      const attempts = onTheirWay(readFileSync(log, "utf8"));
      const any = running.get(random.integer(workers))!.pid!;
      const one = attempts[random.integer(Math.max(1, attempts.length))];
      const victim = random.uniform() < 0.1 ? any : one?.[random.integer(2)];
      if (victim === undefined) continue;
      try {
        if (!ended) process.kill(victim, "SIGKILL");
        killed++;
      } catch {
        // It is gone, and its trial waits for somebody who takes it over.
      }
    }
  })();
  const findings: string[] = [];
  try {
    const counts = new Map<number, number>();
    const code = codeDigest(file);
    const result = await sweepAt(
      {
        ...{ name: "kills", space: { x: uniform(0, 1) }, trials, seed, folder: join(folder, "sweep"), attempts: 100 },
        goal: { figure: "loss", direction: "minimize" },
        onTrial: ({ number, outcome }) => {
          if (outcome !== undefined) counts.set(number, (counts.get(number) ?? 0) + 1);
          if (outcome !== undefined && counts.size % 20 === 0) say(`queue: ${counts.size} trials, ${killed} kills`);
        },
      },
      {
        code,
        executor: (folder) =>
          openQueue({
            ...{ address: redis.address, sweep: "kills", code, folder, attempts: 100, answers: false },
            say: (text) => say(text),
          }),
      },
    );
    if (killed < kills) findings.push(`queue: only ${killed} of ${kills} kills while the sweep ran`);
    if (counts.size !== trials) findings.push(`queue: ${counts.size} of ${trials} trials were counted`);
    for (const [number, count] of counts)
      if (count !== 1) findings.push(`queue: trial ${number} counted ${count} times`);
    for (const { number, config, outcome } of result.trials) {
      if (outcome?.status !== "finished") findings.push(`queue: trial ${number}: ${JSON.stringify(outcome)}`);
      else if (outcome.figures["loss"] !== config["x"]) findings.push(`queue: trial ${number} has another's figures`);
    }
    findings.push(...checkLog(readFileSync(log, "utf8")));
  } finally {
    ended = true;
    for (const child of running.values()) child.kill("SIGKILL");
    await killing;
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  return findings;
}

/** Each attempt begins at the last checkpoint that its trial had kept, or at one whose word was cut off by the kill. */
function checkLog(text: string): string[] {
  const findings: string[] = [];
  const kept = new Map<string, number>();
  let resumed = 0;
  for (const line of text.trim().split("\n")) {
    const [number, what, step] = line.split(" ") as [string, string, string];
    const last = kept.get(number) ?? 0;
    if (what === "kept") kept.set(number, Math.max(last, Number(step)));
    else if (what === "begins" && Number(step) < last)
      findings.push(`queue: trial ${number} began at ${step}, its checkpoint was ${last}`);
    else if (what === "begins" && Number(step) > 0) resumed++;
  }
  if (resumed === 0) findings.push("queue: no trial went on from a checkpoint");
  return findings;
}
