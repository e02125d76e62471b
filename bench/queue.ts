// `npm run bench:queue -- [--trials 10000] [--workers 4]`: trials that do nothing, through a Redis on this machine.
// Prints trials a second, the coordinator's memory over time, and processor seconds of each side. Needs redis-server.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openQueue, type QueueExecutor } from "../src/sweeps/queue/executor.js";
import { uniform } from "../src/sweeps/space.js";
import { sweepAt } from "../src/sweeps/sweep.js";
import { codeDigest } from "../src/sweeps/trial-file.js";
import { RedisServer } from "../test/sweeps/redis.js";

const { values } = parseArgs({
  options: { trials: { type: "string", default: "10000" }, workers: { type: "string", default: "4" } },
});
const [trials, workers] = [Number(values.trials), Number(values.workers)];
const cli = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

/** Processor seconds of a process, and of those that it has started where asked for (proc(5)), in Linux. */
function processorSeconds(pid: number, withStarted: boolean): number {
  const of = (path: string) => readFileSync(path, "latin1");
  try {
    const fields = of(`/proc/${pid}/stat`).split(") ").at(-1)!.split(" ");
    const own = (Number(fields[11]) + Number(fields[12])) / 100;
    if (!withStarted) return own;
    const children = of(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
    return own + children.reduce((sum, child) => sum + processorSeconds(child, true), 0);
  } catch {
    return Number.NaN; // Another system.
  }
}

const folder = mkdtempSync(join(tmpdir(), "kilograd-bench-queue-"));
const file = join(folder, "trial.mjs");
writeFileSync(file, "export default ({ x }) => ({ loss: x });\n");
const redis = await RedisServer.start();
const started: ChildProcess[] = [];
try {
  for (let i = 0; i < workers; i++) {
    const args = [cli, "worker", "--queue", redis.address, "--trial", file];
    started.push(spawn(process.execPath, args, { stdio: "ignore" }));
  }
  const code = codeDigest(file);
  let begun = 0;
  let ended = 0;
  const memory: number[] = [];
  const seconds = () => [
    processorSeconds(process.pid, false), // Which has started all others.
    ...[redis.pid, ...started.map(({ pid }) => pid!)].map((pid) => processorSeconds(pid, true)),
  ];
  let before: number[] = [];
  await sweepAt(
    {
      ...{ name: "bench", space: { x: uniform(0, 1) }, trials, folder: join(folder, "sweep") },
      goal: { figure: "loss", direction: "minimize" },
      onTrial: ({ outcome }) => {
        if (outcome === undefined) return;
        if (++ended % 1000 === 0) memory.push(Math.round(process.memoryUsage.rss() / 1e6));
      },
    },
    {
      code,
      executor: async (folder) => {
        const given = { address: redis.address, sweep: "bench", code, folder, attempts: 3, answers: false };
        const queue: QueueExecutor = await openQueue({ ...given, say: (text) => console.log(text) });
        while (queue.workers < workers) await new Promise((resolve) => setTimeout(resolve, 100));
        before = seconds();
        begun = performance.now();
        return queue;
      },
    },
  );
  const took = (performance.now() - begun) / 1000;
  const [coordinator, server, ...each] = seconds().map((now, i) => now - before[i]!);
  console.log(`${trials} trials on ${workers} workers in ${took.toFixed(1)} s: ${(trials / took).toFixed(0)} a second`);
  console.log(`memory of the coordinator, MB, after each 1000: ${memory.join(" ")}`);
  console.log(
    `processor seconds: coordinator ${coordinator!.toFixed(1)}, Redis ${server!.toFixed(1)}, ` +
      `workers ${each.map((one) => one.toFixed(1)).join(" ")}`,
  );
} finally {
  for (const child of started) child.kill("SIGKILL");
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
}
