// `npm run bench:peers`: the same models, weights and batches through other libraries, on the same WebGPU adapter and
// on their CPU backends. Every contender is a process of its own. Before anything is timed it takes some steps from the
// same beginning, and what they lead to must be what ours lead to. Then all take turns, round after round. Dropout is
// left out for everybody, because its random numbers differ. PyTorch takes part where the Python of
// KILOGRAD_PYTHON, or `python3` in the path, has it, beside a GPU through CUDA, too.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onSoftware } from "../src/experiments/lib/training/profile.js";
import { settlingRate } from "../src/inputs/optimise.js";
import { driverThreads } from "../src/webgpu/open.js";
import { temporaryFolder } from "./cleanup.js";
import { ContenderProcess, type ContenderReport, relativeDistance } from "./contender-process.js";
import { median, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";
import { packed } from "./packed.js";
import { installPeers, peers, python } from "./peers-folder.js";
import {
  hasTinyDispatches,
  makeTask,
  type Task,
  type Workload,
  withWeights,
  workloads,
  writeTask,
} from "./workloads.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Commands by name; the task's folder is added. Ours comes first; JavaScript only where Wasm cannot do a workload. */
const OURS = "Kilograd, WebGPU";
const [WASM, INSTEAD] = ["tfjs, Wasm", "tfjs, JavaScript"];
const commands: Readonly<Record<string, readonly string[]>> = {
  [OURS]: [process.execPath, join(root, "build/bench/contender.js")],
  "jax-js, WebGPU": [process.execPath, join(peers, "jax.mjs"), "webgpu"],
  "tfjs, WebGPU": [process.execPath, join(peers, "tfjs.mjs"), "webgpu"],
  "jax-js, Wasm": [process.execPath, join(peers, "jax.mjs"), "wasm"],
  [WASM]: [process.execPath, join(peers, "tfjs.mjs"), "wasm"],
  [INSTEAD]: [process.execPath, join(peers, "tfjs.mjs"), "cpu"],
  "PyTorch, CPU": [python, join(peers, "pytorch.py")],
};
/** Beside a GPU's adapter. */
const gpuCommands: typeof commands = {
  "PyTorch, CUDA": [python, join(peers, "pytorch.py"), "cuda"],
  "PyTorch, CUDA with TF32": [python, join(peers, "pytorch.py"), "cuda", "tf32"],
};

/** Rounds; who needs more than SLOW_MS in all has the least number of turns. */
const ROUNDS = { most: 9, least: 3 };
const SLOW_MS = 10_000;
/** Time of a contender's run in a round, in which it takes as many steps as fit, at least one. */
const RUN_MS = 400;
const CHECK_STEPS = 3;
/** How far from ours a contender's steps may lead: losses relatively; results by distance, relative to the way gone. */
const TOLERANCE = { loss: 1e-3, result: 2e-2 };

/** Where a task begins, in the order of a check's result. */
function beginningOf({ spec, inputs, weights }: Task): Float32Array {
  if (spec.kind === "optimize") return inputs;
  return packed(spec.weights.flatMap(({ name, trainable }) => (trainable ? [weights!.get(name)!] : [])));
}

interface Checked {
  readonly losses: readonly number[];
  readonly result: Float32Array;
}

/** Runs one workload through everybody. */
async function compare(workload: Workload, names: readonly string[], quick: boolean): Promise<ContenderReport[]> {
  using temporary = temporaryFolder("peers");
  const folder = temporary.path;
  const running: {
    name: string;
    contender: ContenderProcess;
    steps: number;
    times: number[];
    report: ContenderReport;
  }[] = [];
  const reports: ContenderReport[] = [];
  try {
    const task = await withWeights(makeTask(workload, { dropout: false }));
    await writeTask(folder, task);
    // Everybody's WebGPU adapter has as many threads as ours would choose.
    const threads = await driverThreads({ tinyDispatches: hasTinyDispatches(task.spec) });
    const { learningRate } = task.spec.optimizer;
    const schedule = settlingRate(learningRate, CHECK_STEPS);
    const rates = Array.from({ length: CHECK_STEPS }, (_, i) =>
      workload.kind === "train" ? learningRate : schedule.at(i),
    );
    let ours: Checked | undefined;
    for (const name of names) {
      if (name === INSTEAD && running.some((other) => other.name === WASM)) continue;
      const contender = new ContenderProcess((commands[name] ?? gpuCommands[name])!, folder, { cwd: peers, threads });
      let report: ContenderReport = { contender: name };
      try {
        report = { ...report, with: await contender.ready() };
        const out = join(folder, "result");
        const begun = performance.now();
        const { losses } = await contender.ask({ do: "check", rates, out });
        report = { ...report, firstStepsMs: performance.now() - begun };
        const bytes = readFileSync(out);
        const checked = { losses, result: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4) };
        ours ??= checked;
        const difference = {
          loss: Math.max(...losses.map((loss, i) => Math.abs(loss / ours!.losses[i]! - 1))),
          result: relativeDistance(checked.result, ours.result, beginningOf(task)),
        };
        report = { ...report, difference };
        if (!(difference.loss <= TOLERANCE.loss && difference.result <= TOLERANCE.result)) throw new Error("differs");
        const warm = await contender.ask({ do: "run", steps: 1 });
        const steps = Math.max(1, Math.min(200, Math.round((RUN_MS * warm.steps) / warm.ms)));
        running.push({ name, contender, steps, times: [], report });
      } catch (error) {
        contender.end();
        reports.push({ ...report, failure: (error as Error).message });
      }
    }
    for (let round = 0; round < (quick ? ROUNDS.least : ROUNDS.most); round++) {
      for (const { contender, steps, times } of running) {
        if (round >= ROUNDS.least && times.reduce((a, b) => a + b) * steps > SLOW_MS) continue;
        const { ms, steps: taken } = await contender.ask({ do: "run", steps });
        times.push(ms / taken);
      }
    }
    const oursMs = median(running.find(({ name }) => name === OURS)?.times ?? []);
    for (const { times, report } of running) {
      const medianMs = median(times);
      reports.push({ ...report, medianMs, leastMs: Math.min(...times), ratio: medianMs / oursMs });
    }
    return names.flatMap((name) => reports.filter(({ contender }) => contender === name));
  } finally {
    for (const { contender } of running) contender.end();
  }
}

const short = (ms: number) => (ms < 1 ? ms.toFixed(2) : ms < 20 ? ms.toFixed(1) : ms.toFixed(0));

/** A row of the Markdown table: ours, the fastest JavaScript peer over it, everybody. */
function markdownRow(name: string, reports: readonly ContenderReport[], columns: readonly string[]): string {
  const cells = columns.map((column) => {
    const { medianMs, ratio, failure } = reports.find(({ contender }) => contender === column) ?? {};
    if (medianMs === undefined) return failure === "differs" ? "differs" : "-";
    return column === OURS ? short(medianMs) : `${short(medianMs)} (${ratio!.toFixed(ratio! < 10 ? 1 : 0)} x)`;
  });
  return `| ${[name, ...cells].join(" | ")} |`;
}

const options = parseOptions("Times training and input optimisation against jax-js, TensorFlow.js and PyTorch.");
const WIDTHS = [20, 10, 10, 8, 10, 10];

await withDevice(options, async (device) => {
  const chosen = workloads.filter(({ name }) =>
    options.filter.source === "(?:)" ? !name.startsWith("alexnet") : options.filter.test(name),
  );
  const all = { ...commands, ...(!onSoftware(device) && gpuCommands) };
  const names = Object.keys(all).filter((name) => name === OURS || options.peers.test(name));
  installPeers(names);
  const write = await resultsFile(device, options, "peers");
  const results: { name: string; contenders: ContenderReport[] }[] = [];
  for (const workload of chosen) {
    console.log(`\n${tableLine([workload.name, "median ms", "least ms", "ratio", "d loss", "d result"], WIDTHS)}`);
    const reports = await compare(workload, names, options.quick);
    for (const { contender, medianMs, leastMs, ratio, difference, failure } of reports) {
      const times = medianMs === undefined ? ["", "", ""] : [short(medianMs), short(leastMs!), ratio!.toFixed(2)];
      const differences = difference ? [difference.loss, difference.result].map((d) => d.toExponential(0)) : ["", ""];
      console.log(`${tableLine([contender, ...times, ...differences], WIDTHS)}${failure ? `  ${failure}` : ""}`);
    }
    results.push({ name: workload.name, contenders: reports });
    await write({ dropout: "left out", tolerance: TOLERANCE, results });
  }
  const columns = names.filter((name) =>
    results.some(({ contenders }) => contenders.some((c) => c.contender === name && c.medianMs)),
  );
  console.log(`\n| ms per step (ratio) | ${columns.join(" | ")} |\n|---${"|---".repeat(columns.length)}|`);
  for (const { name, contenders } of results) console.log(markdownRow(name, contenders, columns));
});
