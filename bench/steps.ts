// `npm run bench:steps`: whole training steps, as `fit` takes them (batch gathered and uploaded, forward, loss, gradients,
// optimizer, figures read every so often), and steps of input optimisation, as `kilograd optimize` takes them. With
// `-- --profile`, the kernels of each, too.
//
// What is not kernels is found in two runs that take turns: a plain one, timed by the clock, and a profiled one, in which
// timestamps stand around every dispatch. Timestamps around an empty dispatch give what any dispatch costs the driver; that
// is taken off each kernel's time, because it is overhead. Outside = wall time - sum of kernels, per step, as medians over
// the turns: encoding, submitting, waiting, JavaScript and the driver's work per dispatch, as far as no kernel runs
// meanwhile. Where kernels overlap each other, which timestamps keep them from, it comes out too small.
import {
  type Ceilings,
  measureCeilings,
  profiledSteps,
  profileSteps,
  profileText,
  type StepProfile,
} from "../src/experiments/lib/profile.js";
import type { WebGpuDevice } from "../src/tensor/webgpu.js";
import { median, parseOptions, tableLine, withDevice, writeResults } from "./harness.js";
import { makeSubject } from "./subject.js";
import { makeTask, type Workload, workloads } from "./workloads.js";

/** Turns, as far as they fit into SLOW_MS, but the least number at any rate. */
const TURNS = { most: 9, quick: 3, least: 2 };
const SLOW_MS = 15_000;

async function measureWorkload(
  device: WebGpuDevice,
  workload: Workload,
  { quick, ceilings }: { readonly quick: boolean; readonly ceilings: Ceilings | undefined },
) {
  const subject = makeSubject(device, makeTask(workload, { dropout: true }));
  const begun = performance.now();
  await subject.steps(1);
  const firstStepMs = performance.now() - begun;
  const warm = await subject.run(workload.steps);
  const steps = profiledSteps(warm.ms / warm.steps);
  const walls: number[] = [];
  const profiles: StepProfile[] = [];
  const started = performance.now();
  for (let turn = 0; turn < (quick ? TURNS.quick : TURNS.most); turn++) {
    if (turn >= TURNS.least && performance.now() - started > SLOW_MS) break;
    const { ms, steps: taken } = await subject.run(workload.steps);
    walls.push(ms / taken);
    profiles.push(
      await profileSteps(device, { steps, run: (count) => subject.steps(count), ...(ceilings && { ceilings }) }),
    );
  }
  // Nothing was trimmed since the first step: what the pool holds now is what the workload took at most.
  const { liveBytes, pooledBytes } = device.memory();
  await subject.end();
  const stepMsMedian = median(walls);
  const kernelMs = median(profiles.map((profile) => profile.kernelMs));
  const profile = profiles.find((one) => one.kernelMs === kernelMs)!;
  return {
    name: workload.name,
    stepMsMedian,
    stepMsMin: Math.min(...walls),
    kernelMs,
    outsideMs: stepMsMedian - kernelMs,
    outsideShare: 1 - kernelMs / stepMsMedian,
    firstStepMs,
    dispatches: profile.dispatches,
    emptyDispatchMs: profile.emptyDispatchMs,
    /** Of the formulas of products and convolutions, over the wall time. */
    gflops: profile.flops / stepMsMedian / 1e6,
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
  "outside ms",
  "outside",
  "dispatches",
  "GFLOP/s",
  "first ms",
  "peak MiB",
];
const WIDTHS = [18, 9, 9, 10, 10, 7, 10, 7, 8, 8];

const options = parseOptions("Times steps of training and of input optimisation, and what of them is not kernels.");

await withDevice(options, async (device) => {
  const { source } = options.filter;
  const chosen = workloads
    .filter(({ name }) => options.filter.test(name))
    .filter(({ name }) => {
      const slow =
        name === "alexnet-plus b128" && device.adapter.info.architecture === "software" && !source.includes("b128");
      if (slow)
        console.log(
          `${name}: left out on a software adapter, which needs ten seconds a step; --filter "${name}" runs it`,
        );
      return !slow;
    });
  console.log(`\n${tableLine(HEADINGS, WIDTHS)}`);
  const ceilings = options.profile ? await measureCeilings(device) : undefined;
  device.trim();
  const results = [];
  for (const workload of chosen) {
    const result = await measureWorkload(device, workload, { quick: options.quick, ceilings });
    device.trim();
    const times = [result.stepMsMedian, result.stepMsMin, result.kernelMs, result.outsideMs].map((ms) => ms.toFixed(2));
    const rest = [
      result.dispatches,
      result.gflops.toFixed(1),
      result.firstStepMs.toFixed(0),
      (result.peakBytes / 2 ** 20).toFixed(0),
    ];
    console.log(tableLine([result.name, ...times, `${(100 * result.outsideShare).toFixed(0)} %`, ...rest], WIDTHS));
    if (result.profile) console.log(`\n${profileText(result.profile)}\n`);
    results.push(result);
  }
  await writeResults(device, options, "steps", { results });
});
