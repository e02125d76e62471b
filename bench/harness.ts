// Measuring kernels with benchmark.js: one cycle enqueues a kernel many times and waits once for the device. Also the
// options, the table and the JSON file that all benchmarks share. What is measured is in kernels.ts, steps.ts,
// peers.ts.
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Benchmark from "benchmark";
import { Option, program } from "commander";
import { describeAdapter, versions } from "../src/experiments/lib/frame/run.js";
import { onSoftware } from "../src/experiments/lib/training/profile.js";
import { prepareOutputFolder, writeFileAtomic } from "../src/io/files.js";
import type { Spec } from "../src/tensor/dtype.js";
import type { Kernel } from "../src/tensor/kernel.js";
import { scope } from "../src/tensor/scope.js";
import { sizeOf } from "../src/tensor/shape.js";
import { empty, runInto, type Tensor, tensor } from "../src/tensor/tensor.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { type OpenDeviceOptions, openDevice } from "../src/webgpu/open-device.js";

export interface Options {
  /** Part of the name, or a regular expression for it. */
  readonly filter: RegExp;
  /** Of bench:peers, as `filter`. */
  readonly peers: RegExp;
  readonly quick: boolean;
  /** Tuning profile; by default the adapter's. */
  readonly tuning?: "software" | "hardware";
  /** List the kernels of a step. */
  readonly profile: boolean;
  readonly out: string;
  /** Pixels along both sides of a picture (bench:models). */
  readonly size: number;
  /** What stands before the options, where a benchmark takes that. */
  readonly argument: string;
}

/** Options of the command line; `argument` names what has to stand before them. */
export function parseOptions(description: string, argument?: string): Options {
  if (argument !== undefined) program.argument(argument);
  const { filter, peers, ...rest } = program
    .description(description)
    .option("--filter <pattern>", "only benchmarks whose name matches this regular expression", "")
    .option("--peers <pattern>", "only peers whose name matches this regular expression (bench:peers)", "")
    .option("--quick", "fewer samples", false)
    .addOption(new Option("--tuning <name>", "tuning profile").choices(["software", "hardware"]))
    .option("--profile", "list the kernels of a step by time", false)
    .option("--size <pixels>", "pixels along both sides of a picture (bench:models)", Number, 224)
    .option("--out <folder>", "where the JSON goes", fileURLToPath(new URL("../../bench/results", import.meta.url)))
    .parse()
    .opts<Omit<Options, "filter" | "peers" | "argument"> & { filter: string; peers: string }>();
  return { filter: new RegExp(filter), peers: new RegExp(peers), argument: program.args[0] ?? "", ...rest };
}

/** The middle value, NaN of none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Work of one call: arithmetic, memory traffic at the least, or both, where either may be what it waits for. */
export type Work = { readonly flops: number; readonly bytes?: number } | { readonly bytes: number };

/** One kernel at one shape. */
export interface KernelCase {
  readonly group: string;
  readonly name: string;
  readonly work: Work;
  /** Makes inputs and outputs; `run` records one call. */
  readonly prepare: (device: WebGpuDevice) => { readonly tensors: readonly Tensor[]; readonly run: () => void };
}

/** Random values in [-1, 1), quickly made: a tensor of 38 million elements is among those measured. */
function randomTensor(device: WebGpuDevice, { shape, dtype }: Spec): Tensor {
  const size = sizeOf(shape);
  if (dtype !== "f32") return tensor(device, new Int32Array(size), { shape, dtype });
  const values = new Float32Array(size);
  let state = 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    values[i] = state * 2 ** -31;
  }
  return tensor(device, values, { shape });
}

interface KernelCaseOptions<Params> {
  readonly kernel: Kernel<Params>;
  /** Shapes (f32) or specs. */
  readonly inputs: readonly (readonly number[] | Spec)[];
  readonly outputs: readonly (readonly number[] | Spec)[];
  readonly params: Params;
  /** Floating-point operations; without it, all inputs and outputs count once as memory traffic. */
  readonly flops?: number;
  /** Memory traffic counts beside the operations; default false. */
  readonly streams?: boolean;
  /** Outputs are read, too. */
  readonly inPlace?: boolean;
}

const specOf = (given: readonly number[] | Spec): Spec => ("dtype" in given ? given : { shape: given, dtype: "f32" });

/** A case that runs a kernel on random inputs. */
export function kernelCase<Params>(group: string, name: string, options: KernelCaseOptions<Params>): KernelCase {
  const { kernel, params, flops, streams = false, inPlace = false } = options;
  const [inputs, outputs] = [options.inputs.map(specOf), options.outputs.map(specOf)];
  const elements = (specs: readonly Spec[]) => specs.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const bytes = 4 * (elements(inputs) + elements(outputs) * (inPlace ? 2 : 1));
  return {
    group,
    name,
    work: flops === undefined ? { bytes } : { flops, ...(streams && { bytes }) },
    prepare(device) {
      const from = inputs.map((spec) => randomTensor(device, spec));
      const to = outputs.map((spec) => (inPlace ? randomTensor(device, spec) : empty(device, spec.shape, spec.dtype)));
      return { tensors: [...from, ...to], run: () => runInto(kernel, from, to, params) };
    },
  };
}

/** What benchmark.js found, per call. */
export interface Timing {
  readonly medianMs: number;
  readonly minMs: number;
  readonly meanMs: number;
  /** Relative margin of error of the mean at 95 %, in percent. */
  readonly rmePercent: number;
  readonly samples: number;
  /** Calls per cycle. */
  readonly calls: number;
}

/** A cycle lasts at least this long, so that the wait at its end, up to 2 ms too long (wait.ts), does not matter. */
const CYCLE_MS = { full: 200, quick: 50 };

/** Times `call`, which records work on the device. */
export async function measure(device: WebGpuDevice, name: string, call: () => void, quick: boolean): Promise<Timing> {
  const cycleMs = CYCLE_MS[quick ? "quick" : "full"];
  const cycle = async (count: number) => {
    for (let i = 0; i < count; i++) scope(call);
    await device.sync();
  };
  // The first call compiles, the second finds the memory pool filled.
  await cycle(1);
  let calls = 1;
  for (;;) {
    const start = performance.now();
    await cycle(calls);
    const elapsed = performance.now() - start;
    if (elapsed >= cycleMs) break;
    calls = Math.ceil(calls * Math.min(10, Math.max(1.2, (1.1 * cycleMs) / elapsed)));
  }
  const stats = await new Promise<Benchmark.Stats>((resolve, reject) => {
    const benchmark = new Benchmark(
      name,
      (deferred: Benchmark.Deferred) => {
        cycle(calls).then(
          () => deferred.resolve(),
          (error: Error) => {
            reject(error);
            benchmark.abort();
          },
        );
      },
      {
        defer: true,
        initCount: 1,
        minTime: cycleMs / 1000,
        minSamples: quick ? 3 : 8,
        maxTime: quick ? 0.2 : 1,
        onComplete: () => resolve(benchmark.stats),
        onError: () => reject(benchmark.error),
      },
    );
    benchmark.run({ async: true });
  });
  const sorted = (stats.sample as number[]).toSorted((a, b) => a - b);
  const perCall = (seconds: number) => (seconds * 1000) / calls;
  return {
    medianMs: perCall(sorted[sorted.length >> 1]!),
    minMs: perCall(sorted[0]!),
    meanMs: perCall(stats.mean),
    rmePercent: stats.rme,
    samples: sorted.length,
    calls,
  };
}

/** Prepares, measures and frees a case. */
export async function measureCase(device: WebGpuDevice, item: KernelCase, quick: boolean): Promise<Timing> {
  const { tensors, run } = item.prepare(device);
  try {
    return await measure(device, item.name, run, quick);
  } finally {
    for (const t of tensors) t.dispose();
    device.trim();
  }
}

/** The device of a benchmark, which can time its passes. */
export function openBenchDevice({ tuning }: Options, options: OpenDeviceOptions = {}): Promise<WebGpuDevice> {
  return openDevice("webgpu", { ...options, profiling: true, ...(tuning && { profile: tuning }) });
}

/** Opens the device, tells what it is, runs `body`, closes it. Errors end the process with code 1. */
export async function withDevice(options: Options, body: (device: WebGpuDevice) => Promise<void>): Promise<void> {
  try {
    await using device = await openBenchDevice(options);
    const { description, device: name, profile } = describeAdapter(device);
    console.log(`${description || name}, profile ${profile}, ${availableParallelism()} x ${cpus()[0]?.model ?? "?"}`);
    await body(device);
  } catch (error) {
    console.error((error as Error).stack);
    process.exitCode = 1;
  }
}

/**
 * A file `NAME-PROFILE-ADAPTER-DATE.json`, whose path it tells, with what the figures depend on. The function it gives
 * writes results into it, again whenever there are more: a run that is cut short leaves what it found.
 */
export async function resultsFile(device: WebGpuDevice, options: Options, name: string) {
  const date = new Date();
  const folder = await prepareOutputFolder(options.out);
  const stamp = date.toISOString().slice(0, 19).replaceAll(":", "-");
  const { description, device: adapter } = describeAdapter(device);
  // A GPU's description may be its driver's alone.
  const model = (onSoftware(device) && description ? description.split(":")[0]! : adapter)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  const kernels = device.precision === "mixed" ? "mixed" : device.profile.family;
  const path = join(folder, `${name}-${kernels}-${model}-${stamp}.json`);
  const header = {
    date: date.toISOString(),
    adapter: describeAdapter(device),
    precision: device.precision,
    versions: versions(),
    host: { processor: cpus()[0]?.model, cores: availableParallelism(), platform: process.platform },
    quick: options.quick,
  };
  console.log(`results: ${path}`);
  return (results: Readonly<Record<string, unknown>>) =>
    writeFileAtomic(path, `${JSON.stringify({ ...header, ...results }, null, 2)}\n`);
}

/** Columns aligned, the first to the left. */
export function tableLine(cells: readonly (string | number)[], widths: readonly number[]): string {
  return cells
    .map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]!) : String(cell).padStart(widths[i]!)))
    .join("  ");
}
