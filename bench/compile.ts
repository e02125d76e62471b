// `npm run bench:compile`: how long the driver takes to compile each program of the steps that bench:steps times,
// merged ones included, from an empty cache. The programs are collected by running each workload for a few steps; a
// process of its own, whose driver has an empty folder for its cache, then compiles one after the other. With lavapipe
// this is what a first step waits for; merged programs nobody waits for.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { wait } from "../src/runtime/runtime.js";
import type { Program } from "../src/webgpu/commands.js";
import { type DriverProgram, runOverNothing } from "../src/webgpu/compile-ahead.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { openDevice } from "../src/webgpu/open-device.js";
import { compilationSeconds } from "../src/webgpu/recorded/compile-cost.js";
import { temporaryFolder } from "./cleanup.js";
import { type Options, openBenchDevice, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";
import { makeSubject, settled } from "./subject.js";
import { hasTinyDispatches, makeTask, workloads } from "./workloads.js";

/** Seconds that each program takes in a new process, in their order. */
async function compile(programs: readonly DriverProgram[]): Promise<number[]> {
  using temporary = temporaryFolder("compile");
  const cache = temporary.path;
  const child = fork(fileURLToPath(import.meta.url), {
    env: { ...process.env, MESA_SHADER_CACHE_DIR: cache, MESA_GLSL_CACHE_DIR: cache, [CHILD]: "1" },
  });
  try {
    return await new Promise<number[]>((resolve, reject) => {
      child.on("message", resolve as (seconds: unknown) => void);
      child.on("error", reject);
      child.on("exit", (code) =>
        reject(new Error(`the compiling process ended with code ${code}; its output is above`)),
      );
      child.send(programs);
    });
  } finally {
    child.kill();
  }
}

/** Set for the process that compiles. */
const CHILD = "KILOGRAD_BENCH_COMPILE";

async function serveCompilations(): Promise<void> {
  const programs = await new Promise<readonly DriverProgram[]>((resolve) =>
    process.once("message", resolve as (programs: unknown) => void),
  );
  await using device = await openDevice("webgpu");
  const { gpu } = device as WebGpuDevice;
  const seconds: number[] = [];
  for (const program of programs) {
    const begun = performance.now();
    await wait(runOverNothing(gpu, program));
    seconds.push((performance.now() - begun) / 1000);
  }
  process.send!(seconds);
}

interface Collected {
  readonly program: Program;
  /** Workloads. */
  readonly usedBy: string[];
}

/** Programs of the workloads that a filter lets through, each once. */
async function collect(options: Options): Promise<Collected[]> {
  const found = new Map<string, Collected>();
  // Sizes are no part of a program: a larger batch of it brings none.
  const chosen = workloads.filter(({ name }) => options.filter.test(name) && name !== "alexnet-plus b128");
  for (const workload of chosen) {
    const task = makeTask(workload, { dropout: true });
    await using device = await openBenchDevice(options, { tinyDispatches: hasTinyDispatches(task.spec) });
    const subject = makeSubject(device, task);
    await settled(subject, 1);
    await subject.end();
    for (const program of device.compiled) {
      const known = found.get(program.code);
      if (known === undefined) found.set(program.code, { program, usedBy: [workload.name] });
      else known.usedBy.push(workload.name);
    }
    console.log(`${workload.name}: ${device.compiled.length} programs`);
  }
  return [...found.values()];
}

const WIDTHS = [16, 7, 9, 0];
/** Lines of the table: the slowest. */
const SHOWN = 20;

async function main(): Promise<void> {
  const options = parseOptions("Times the compilation of every program of the steps that bench:steps times.");
  await withDevice(options, async (device) => {
    const write = await resultsFile(device, options, "compile");
    const collected = await collect(options);
    const seconds = await compile(
      collected.map(({ program: { code, accesses, parameterNames } }) => ({ code, accesses, parameterNames })),
    );
    const results = collected
      .map(({ program, usedBy }, i) => ({
        ...{ kernel: program.kernel, key: program.key, usedBy, seconds: seconds[i]! },
        estimatedSeconds: compilationSeconds([program]),
      }))
      .toSorted((a, b) => b.seconds - a.seconds);
    console.log(`\n${tableLine(["kernel", "seconds", "estimated", "used by"], WIDTHS)}`);
    for (const { kernel, usedBy, seconds, estimatedSeconds } of results.slice(0, SHOWN)) {
      console.log(tableLine([kernel, seconds.toFixed(2), estimatedSeconds.toFixed(2), usedBy.join(", ")], WIDTHS));
    }
    await write({ results });
  });
}

if (process.env[CHILD]) await serveCompilations();
else await main();
