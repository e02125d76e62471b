// `npm run bench:sweep -- [--trials 8] [--rounds 3] [--workers 1,2,4] [--threads default,1,2]`: what helps where worker
// processes share a software adapter. The same sweep of small trainings is run with each number of workers and with
// each setting of LP_NUM_THREADS (default: what sweeps set by themselves), in turns, so that a slow minute of the
// machine is no setting's alone. Prints seconds of each round, and trials a minute by the best one.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    trials: { type: "string", default: "8" },
    rounds: { type: "string", default: "3" },
    workers: { type: "string", default: "1,2,4" },
    threads: { type: "string", default: "default,1,2" },
  },
});
const [trials, rounds] = [Number(values.trials), Number(values.rounds)];
const cli = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const library = pathToFileURL(fileURLToPath(new URL("../../dist/index.js", import.meta.url))).href;

const folder = mkdtempSync(join(tmpdir(), "kilograd-bench-sweep-"));
const file = join(folder, "trial.mjs");
writeFileSync(
  file,
  `import { data, loss, nn, optim } from ${JSON.stringify(library)};
export default async function trial({ rate }, { seed, device }) {
  const { train, test } = data.digits({ seed: 1, trainCount: 2000, testCount: 200 });
  const layers = [
    nn.conv2d({ filters: 8, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2), nn.flatten(),
    nn.dense({ units: 64, activation: "relu" }), nn.dense({ units: 10, activation: "softmax" }),
  ];
  const model = nn.sequential({ device: await device(), seed, inputShape: [28, 28, 1] }, layers);
  const optimizer = optim.adam({ learningRate: rate });
  const options = { optimizer, loss: loss.crossEntropy, validationData: test, epochs: 2, batchSize: 64 };
  const { history } = await model.fit(train, options);
  for (const each of [model, optimizer]) each.dispose();
  return { accuracy: history.val_accuracy.at(-1) };
}
`,
);
const space = JSON.stringify({ rate: { kind: "logUniform", from: 1e-3, to: 1e-2 } });

/** Seconds of a sweep. */
async function seconds(workers: string, threads: string, out: string): Promise<number> {
  const given = ["--space", space, "--maximize", "accuracy", "--trials", String(trials), "--workers", workers];
  const { LP_NUM_THREADS: _, ...environment } = process.env;
  const begun = performance.now();
  const child = spawn(process.execPath, [cli, "sweep", file, ...given, "--out", out], {
    env: threads === "default" ? environment : { ...environment, LP_NUM_THREADS: threads },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const code = await new Promise((done) => child.on("close", done));
  if (code !== 0) throw new Error(`kilograd sweep ended with ${code}`);
  return (performance.now() - begun) / 1000;
}

const settings = values.workers
  .split(",")
  .flatMap((workers) => values.threads.split(",").map((threads) => ({ workers, threads, took: [] as number[] })));
try {
  for (let round = 0; round < rounds; round++) {
    for (const [i, setting] of settings.entries()) {
      setting.took.push(await seconds(setting.workers, setting.threads, join(folder, `${round}-${i}`)));
    }
  }
  console.log(`${trials} trials, ${rounds} rounds in turns; seconds of each round, trials a minute by the best`);
  for (const { workers, threads, took } of settings) {
    const rate = (60 * trials) / Math.min(...took);
    const each = took.map((one) => one.toFixed(1).padStart(6)).join(" ");
    console.log(`workers ${workers}  LP_NUM_THREADS ${threads.padEnd(7)} ${each}   ${rate.toFixed(1)}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
