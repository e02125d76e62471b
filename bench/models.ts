// `npm run bench:models`: published networks with equal weights and pictures through Kilograd, TensorFlow.js on WebGPU
// and Wasm, ONNX Runtime Web and PyTorch's CPU build. MobileNetV2 predicts, and gives gradients of its pictures, one
// and eight at a time; ResNet-18 is trained, and its memory watched. Every contender is a process of its own. What it
// gives is held to ours before anything is timed; then all take turns, round after round.
//
// `-- --size 64 --quick` is a trial with small pictures. KILOGRAD_PYTHON names a Python that has PyTorch.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { saveModel } from "../src/nn/checkpoint.js";
import { CpuDevice } from "../src/tensor/cpu.js";
import { tensor } from "../src/tensor/tensor.js";
import { driverThreads } from "../src/webgpu/open.js";
import { temporaryFolder } from "./cleanup.js";
import { ContenderProcess, type ContenderReport, relativeDistance } from "./contender-process.js";
import { median, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";
import {
  architectureOfTask,
  type ModelTask,
  type ModelWorkload,
  makeModelTask,
  modelWorkloads,
  trainedWeights,
  writeModelTask,
} from "./models-task.js";
import { installPeers, peers, python } from "./peers-folder.js";
import type { Memory } from "./protocol.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const OURS = "Kilograd, WebGPU";
const commands: Readonly<Record<string, readonly string[]>> = {
  [OURS]: [process.execPath, join(root, "build/bench/models-contender.js")],
  "tfjs, WebGPU": [process.execPath, join(peers, "models-tfjs.mjs"), "webgpu"],
  "tfjs, Wasm": [process.execPath, join(peers, "models-tfjs.mjs"), "wasm"],
  "ONNX Runtime Web, WebGPU": [process.execPath, join(peers, "models-onnx.mjs"), "webgpu"],
  "ONNX Runtime Web, Wasm": [process.execPath, join(peers, "models-onnx.mjs"), "wasm"],
  "PyTorch, CPU": [python, join(peers, "models-pytorch.py")],
  "PyTorch, CPU, channels last": [python, join(peers, "models-pytorch.py"), "channels_last"],
};

const ROUNDS = { most: 9, least: 3 };
/** Time of a contender's run in a round, in which it takes as many steps as fit, at least one. */
const RUN_MS = 1000;
/**
 * Of a training. What a relu lets through is decided by the last bits where its input is near 0, so that one step of
 * ResNet-18 differs by 0.03 to 0.6 % from float64, ours and theirs, and a second one by some percent.
 */
const CHECK_STEPS = 1;
/** Seconds that a contender may take to start or for its first step, on a software adapter without a cache. */
const PATIENCE = 1800;
/** How far results may be from ours: relative to the way that a training has gone, or to the result's length. */
const TOLERANCE = { loss: 1e-3, result: 2e-2 };

interface Report extends ContenderReport {
  readonly memory?: Memory;
}

/** The network as a file of ONNX, for those that read nothing else. */
async function writeOnnx(folder: string, { spec, weights }: ModelTask): Promise<void> {
  if (spec.kind !== "predict") return;
  await using device = new CpuDevice();
  const model = architectureOfTask(spec).build({
    device,
    weights: (name, { shape }) => tensor(device, weights.get(name)!, { shape }),
  });
  await saveModel(join(folder, "model.onnx"), model);
}

async function compare(workload: ModelWorkload, names: readonly string[], quick: boolean): Promise<Report[]> {
  using temporary = temporaryFolder("models");
  const folder = temporary.path;
  const running: { contender: ContenderProcess; steps: number; times: number[]; report: Report }[] = [];
  const reports: Report[] = [];
  try {
    const task = makeModelTask(workload);
    await writeModelTask(folder, task);
    if (names.some((name) => name.startsWith("ONNX"))) await writeOnnx(folder, task);
    const from = task.spec.kind === "train" ? trainedWeights(task) : undefined;
    const threads = await driverThreads({ tinyDispatches: false });
    const rates = new Array<number>(CHECK_STEPS).fill(task.spec.learningRate);
    let ours: { readonly losses: readonly number[]; readonly result: Float32Array } | undefined;
    for (const name of names) {
      const command = [...commands[name]!, ...(quick && name === OURS ? ["quick"] : [])];
      const contender = new ContenderProcess(command, folder, { cwd: peers, threads, patience: PATIENCE });
      let report: Report = { contender: name };
      try {
        report = { ...report, with: await contender.ready() };
        const out = join(folder, "result");
        const { losses } = await contender.ask({ do: "check", rates, out });
        const bytes = readFileSync(out);
        const result = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
        ours ??= { losses, result };
        const difference = {
          loss: Math.max(0, ...losses.map((loss, i) => Math.abs(loss / ours!.losses[i]! - 1))),
          result: relativeDistance(result, ours.result, from),
        };
        report = { ...report, difference };
        const { ms, steps, memory } = await contender.ask({ do: "run", steps: 1 });
        report = { ...report, ...(memory && { memory }) };
        if (!(difference.loss <= TOLERANCE.loss && difference.result <= TOLERANCE.result)) throw new Error("differs");
        running.push({ contender, steps: Math.max(1, Math.round((RUN_MS * steps) / ms)), times: [], report });
      } catch (error) {
        contender.end();
        reports.push({ ...report, failure: (error as Error).message });
      }
    }
    for (let round = 0; round < (quick ? ROUNDS.least : ROUNDS.most); round++) {
      for (const each of running) {
        const { ms, steps, memory } = await each.contender.ask({ do: "run", steps: each.steps });
        each.times.push(ms / steps);
        if (memory) each.report = { ...each.report, memory };
      }
    }
    const oursMs = median(running.find(({ report }) => report.contender === OURS)?.times ?? []);
    for (const { times, report } of running) {
      const medianMs = median(times);
      reports.push({ ...report, medianMs, leastMs: Math.min(...times), ratio: medianMs / oursMs });
    }
    return names.flatMap((name) => reports.filter(({ contender }) => contender === name));
  } finally {
    for (const { contender } of running) contender.end();
  }
}

const mebibytes = (bytes: number | undefined) => (bytes === undefined ? "" : (bytes / 2 ** 20).toFixed(0));
const WIDTHS = [28, 10, 10, 7, 8, 9, 11, 12];
const HEADINGS = ["median ms", "least ms", "ratio", "d loss", "d result", "device MiB", "process MiB"];

const options = parseOptions("Times published networks against tfjs, ONNX Runtime Web and PyTorch.");
await withDevice(options, async (device) => {
  const names = Object.keys(commands).filter((name) => name === OURS || options.peers.test(name));
  installPeers(names);
  const write = await resultsFile(device, options, "models");
  const results: { name: string; contenders: Report[] }[] = [];
  for (const workload of modelWorkloads(options.size).filter(({ name }) => options.filter.test(name))) {
    console.log(`\n${tableLine([workload.name, ...HEADINGS], WIDTHS)}`);
    const able = names.filter((name) => {
      if (workload.kind === "predict") return true;
      return workload.kind === "train" ? /^(Kilograd|PyTorch)/.test(name) : !/^(ONNX)|tfjs, Wasm/.test(name);
    });
    const contenders = await compare(workload, able, options.quick);
    for (const { contender, medianMs, leastMs, ratio, difference, memory, failure } of contenders) {
      const times =
        medianMs === undefined ? ["", "", ""] : [medianMs.toFixed(1), leastMs!.toFixed(1), ratio!.toFixed(2)];
      const differences = difference ? [difference.loss, difference.result].map((d) => d.toExponential(0)) : ["", ""];
      const figures = [...times, ...differences, mebibytes(memory?.device), mebibytes(memory?.process)];
      console.log(`${tableLine([contender, ...figures], WIDTHS)}${failure ? `  ${failure}` : ""}`);
    }
    results.push({ name: workload.name, contenders });
    await write({ size: options.size, tolerance: TOLERANCE, results });
  }
});
