// `npm run bench:steps`: whole training steps, as `fit` takes them, and steps of input optimisation, as
// `kilograd optimize` takes them. A training step is: batch gathered and uploaded, forward, loss, gradients, optimizer,
// figures read every so often. With `-- --profile`, the kernels of each, too.
//
// Plain runs, timed by the clock, take turns with runs that measure what of a step is not kernels (measureOverhead),
// per step
//   host: JavaScript, encoding, submitting and waiting while nothing runs,
//   driver = dispatches x the time of an empty dispatch in a pass: the least that launching kernels costs.
// Outside = host + driver, kernels = the plain run's wall time - outside; medians over the turns.
import {
  type Ceilings,
  measureCeilings,
  measureOverhead,
  type Overhead,
  onSoftware,
  profiledSteps,
  profileSteps,
  profileText,
  type StepProfile,
} from "../src/experiments/lib/training/profile.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { median, openBenchDevice, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";
import { makeSubject, settled } from "./subject.js";
import { hasTinyDispatches, makeTask, type Task, type Workload, workloads } from "./workloads.js";

/** Turns, as far as they fit into SLOW_MS, but the least number at any rate. */
const TURNS = { most: 9, quick: 3, least: 2 };
const SLOW_MS = 15_000;
/** Of a run that measures what is not kernels: a run's wait for its end may be 2 ms too long. */
const MOST_STEPS = 100;

async function measureWorkload(
  device: WebGpuDevice,
  { workload, task }: { readonly workload: Workload; readonly task: Task },
  { quick, ceilings }: { readonly quick: boolean; readonly ceilings: Ceilings | undefined },
) {
  const subject = makeSubject(device, task);
  const begun = performance.now();
  await subject.steps(1);
  const firstStepMs = performance.now() - begun;
  const warm = await settled(subject, workload.steps);
  // Nothing was trimmed since the first step: what the pool holds now is what the workload took at most.
  const { liveBytes, pooledBytes } = device.memory();
  const stepMs = warm.ms / warm.steps;
  const steps = profiledSteps(stepMs);
  const walls: number[] = [];
  const overheads: Overhead[] = [];
  const run = (count: number) => subject.steps(count);
  const profiles: StepProfile[] = [];
  const started = performance.now();
  for (let turn = 0; turn < (quick ? TURNS.quick : TURNS.most); turn++) {
    if (turn >= TURNS.least && performance.now() - started > SLOW_MS) break;
    const { ms, steps: taken } = await subject.run(workload.steps);
    walls.push(ms / taken);
    overheads.push(await measureOverhead(device, { steps: profiledSteps(stepMs, MOST_STEPS), run }));
    // Without the table, one is enough to count operations.
    if (ceilings !== undefined || turn === 0) {
      profiles.push(await profileSteps(device, { steps, run, ...(ceilings && { ceilings }) }));
    }
  }
  await subject.end();
  const profile = profiles.reduce((a, b) => (b.kernelMs < a.kernelMs ? b : a));
  const wallMs = median(walls);
  const hostMs = median(overheads.map((overhead) => overhead.hostMs));
  const driverMs = median(overheads.map((overhead) => overhead.driverMs));
  const outsideMs = hostMs + driverMs;
  return {
    name: workload.name,
    ...{ stepMsMedian: wallMs, stepMsMin: Math.min(...walls), firstStepMs },
    ...{ kernelMs: wallMs - outsideMs, outsideMs, outsideShare: outsideMs / wallMs, hostMs, driverMs },
    dispatches: overheads.at(-1)!.dispatches,
    /** Of the formulas of products and convolutions, over the wall time. */
    gflops: profile.flops / wallMs / 1e6,
    peakBytes: liveBytes + pooledBytes,
    turns: walls.length,
    ...(ceilings && { profile }),
  };
}

const HEADINGS = [
  "",
  "median ms",
  "least ms",
  "kernels ms",
  "host ms",
  "driver ms",
  "outside",
  "dispatches",
  "GFLOP/s",
  "first ms",
  "peak MiB",
];
const WIDTHS = [18, 9, 9, 10, 9, 9, 7, 10, 7, 8, 8];

const options = parseOptions("Times steps of training and of input optimisation, and what of them is not kernels.");

await withDevice(options, async (device) => {
  // As the commands do.
  await using forTinyDispatches = await openBenchDevice(options, { tinyDispatches: true });
  const slow = onSoftware(device) && !options.filter.source.includes("b128") ? "alexnet-plus b128" : undefined;
  if (slow)
    console.log(`left out on a software adapter, which needs ten seconds a step: ${slow}; --filter b128 has it`);
  const chosen = workloads.filter(({ name }) => options.filter.test(name) && name !== slow);
  const write = await resultsFile(device, options, "steps");
  const ceilings = options.profile ? await measureCeilings(device) : undefined;
  device.trim();
  console.log(`\n${tableLine(HEADINGS, WIDTHS)}`);
  const results = [];
  for (const workload of chosen) {
    const task = makeTask(workload, { dropout: true });
    const tinyDispatches = hasTinyDispatches(task.spec);
    const on = tinyDispatches ? forTinyDispatches : device;
    const result = {
      tinyDispatches,
      ...(await measureWorkload(on, { workload, task }, { quick: options.quick, ceilings })),
    };
    on.trim();
    const times = [result.stepMsMedian, result.stepMsMin, result.kernelMs, result.hostMs, result.driverMs].map((ms) =>
      ms.toFixed(2),
    );
    const rest = [
      result.dispatches,
      result.gflops.toFixed(1),
      result.firstStepMs.toFixed(0),
      (result.peakBytes / 2 ** 20).toFixed(0),
    ];
    console.log(tableLine([result.name, ...times, `${(100 * result.outsideShare).toFixed(0)} %`, ...rest], WIDTHS));
    if (result.profile) console.log(`\n${profileText(result.profile)}\n`);
    results.push(result);
    await write({ ...(ceilings && { ceilings }), results });
  }
});
