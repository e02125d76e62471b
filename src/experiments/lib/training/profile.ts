// Where the time of a step goes: its kernels by time, with their rates and their shares of the adapter's ceilings. The
// ceilings are measured here, too. By timestamp queries, so not of the CPU device.

import { defineKernel, type Kernel } from "../../../tensor/kernel.js";
import { scope } from "../../../tensor/scope.js";
import type { Shape } from "../../../tensor/shape.js";
import { empty, runInto } from "../../../tensor/tensor.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import { type TuningProfile, workgroupLanes } from "../../../webgpu/family.js";
import { GRID_INDEX, gridOf } from "../../../webgpu/program.js";
import { shapesKey } from "../../../webgpu/timer.js";
import { percent } from "../report/text.js";

/** What the adapter reaches in loops that do nothing else. */
export interface Ceilings {
  /** 10^9 multiply and add operations per second. */
  readonly gflops: number;
  /** 10^9 bytes per second, read and written. */
  readonly gbs: number;
}

/** A kernel's part in a step. */
export interface KernelShare {
  readonly kernel: string;
  readonly inputs: readonly Shape[];
  readonly outputs: readonly Shape[];
  readonly calls: number;
  readonly dispatches: number;
  readonly ms: number;
  /** Of the time of all kernels. */
  readonly share: number;
  /** Operations by the direct formula; absent for kernels that memory traffic decides. */
  readonly flops?: number;
  /** Their rate. */
  readonly gflops?: number;
  /** Inputs and outputs, once a call. */
  readonly gbs: number;
  /** The larger of its shares of the two ceilings. */
  readonly ofCeiling?: number;
  /** Code shapes in their order, with the time of each; an empty dispatch's time is not taken off. */
  readonly programs: readonly { readonly program: string; readonly ms: number }[];
}

/** Per step. */
export interface StepProfile {
  /** Steps profiled. */
  readonly steps: number;
  /** Time of all kernels, without what an empty dispatch takes. */
  readonly kernelMs: number;
  readonly dispatches: number;
  /** Time between the timestamps around an empty dispatch: overhead, taken off every dispatch. */
  readonly emptyDispatchMs: number;
  readonly flops: number;
  readonly ceilings?: Ceilings;
  /** Longest first. */
  readonly kernels: readonly KernelShare[];
}

/** Steps of a run that are not like the later ones: the first makes what outlives it, the second is recorded. */
const UNLIKE = 2;

/**
 * Profiles steps. `run(count)` runs that many from the beginning; what it does besides them, before or after, drops
 * out, because a long run is compared with a short one.
 */
export async function profileSteps(
  device: WebGpuDevice,
  { steps, run, ceilings }: { steps: number; run: (count: number) => Promise<void>; ceilings?: Ceilings },
): Promise<StepProfile> {
  await run(UNLIKE);
  const emptyDispatchMs = await measureEmptyDispatch(device);
  const short = await device.timeDispatches(() => run(UNLIKE));
  const long = await device.timeDispatches(() => run(UNLIKE + steps));
  const before = new Map(short.map((time) => [shapesKey(time), time]));
  /** By the dispatches that a long run has more. */
  const isPartOfAStep = (more: number) => more >= 0.5;
  const kernels = long.flatMap((time): Omit<KernelShare, "share">[] => {
    const earlier = before.get(shapesKey(time));
    const perStep = (amount: "calls" | "dispatches" | "milliseconds" | "flops" | "bytes") =>
      ((time[amount] ?? 0) - (earlier?.[amount] ?? 0)) / steps;
    const dispatches = perStep("dispatches");
    if (!isPartOfAStep(dispatches * steps)) return [];
    const ms = Math.max(0, perStep("milliseconds") - dispatches * emptyDispatchMs);
    const rate = (amount: "flops" | "bytes") => (ms === 0 ? 0 : perStep(amount) / ms / 1e6);
    const gflops = time.flops === undefined ? undefined : rate("flops");
    const gbs = rate("bytes");
    return [
      {
        ...{
          kernel: time.kernel,
          inputs: time.inputs,
          outputs: time.outputs,
          calls: perStep("calls"),
          dispatches,
          ms,
          gbs,
        },
        ...(gflops !== undefined && { flops: perStep("flops"), gflops }),
        ...(ceilings && { ofCeiling: Math.max((gflops ?? 0) / ceilings.gflops, gbs / ceilings.gbs) }),
        programs: [...time.programs].flatMap(([program, total]) => {
          const { dispatches, milliseconds } = earlier?.programs.get(program) ?? { dispatches: 0, milliseconds: 0 };
          return isPartOfAStep(total.dispatches - dispatches)
            ? [{ program, ms: (total.milliseconds - milliseconds) / steps }]
            : [];
        }),
      },
    ];
  });
  const sum = (of: (kernel: (typeof kernels)[number]) => number) => kernels.reduce((total, k) => total + of(k), 0);
  const kernelMs = sum(({ ms }) => ms);
  return {
    ...{ steps, kernelMs, emptyDispatchMs, ...(ceilings && { ceilings }) },
    dispatches: sum(({ dispatches }) => dispatches),
    flops: sum(({ flops = 0 }) => flops),
    kernels: kernels.map((kernel) => ({ ...kernel, share: kernel.ms / kernelMs })).sort((a, b) => b.ms - a.ms),
  };
}

/** How many steps to profile of a kind that takes `stepMs`: some, within a few seconds. */
export function profiledSteps(stepMs: number | undefined, most = 20): number {
  return Math.min(most, Math.max(1, Math.round(2000 / (stepMs ?? 2000))));
}

/** What of a step is not kernels, in milliseconds. */
export interface Overhead {
  /** While no kernel runs: JavaScript, encoding, submitting, waiting. */
  readonly hostMs: number;
  /** What as many empty dispatches in one pass take. */
  readonly driverMs: number;
  readonly dispatches: number;
}

/**
 * Measures what of a step is not kernels. `run` as in profileSteps. Timestamps stand at the begin and the end of passes
 * only. What lies between them is taken off the clock's time of the same run, so that the adapter's speed may change
 * from run to run. On llvmpipe a pass's timestamps themselves take 50 to 100 us: they rasterise, which wakes threads.
 * What they take within a pass, where passes are put between all of a step's dispatches, is taken off once a step. As
 * much as that again remains.
 */
export async function measureOverhead(
  device: WebGpuDevice,
  { steps, run }: { steps: number; run: (count: number) => Promise<void> },
): Promise<Overhead> {
  const timed = async (count: number, each: "pass" | "launch") => {
    const before = device.counters.dispatches;
    let wallMs = 0;
    const passMs = await device.timePasses(async () => {
      const begun = performance.now();
      await run(count);
      wallMs = performance.now() - begun;
    }, each);
    return { passMs, hostMs: wallMs - passMs, dispatches: device.counters.dispatches - before };
  };
  /** Of a long run less a short one. */
  const perStep = async (each: "pass" | "launch") => {
    const [short, long] = [await timed(UNLIKE, each), await timed(UNLIKE + steps, each)];
    const of = (key: keyof typeof long) => (long[key] - short[key]) / steps;
    return { passMs: of("passMs"), hostMs: of("hostMs"), dispatches: of("dispatches") };
  };
  const { passMs, hostMs, dispatches } = await perStep("pass");
  const stampMs =
    device.profile.onProcessor && dispatches > 1
      ? Math.max(0, ((await perStep("launch")).passMs - passMs) / (dispatches - 1))
      : 0;
  let emptyMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const ms = await device.timePasses(() => callEmpty(device));
    emptyMs = Math.min(emptyMs, ms / EMPTY_CALLS);
  }
  return { hostMs: Math.max(0, hostMs - stampMs), driverMs: dispatches * emptyMs, dispatches };
}

const EMPTY_CALLS = 64;

function callEmpty(device: WebGpuDevice): void {
  scope(() => {
    const y = empty(device, [4], "f32");
    for (let i = 0; i < EMPTY_CALLS; i++) runInto(emptyKernel, [], [y], {});
  });
}

const COLUMNS = ["kernel", "shapes", "calls", "ms", "share", "GFLOP/s", "GB/s", "of ceiling"] as const;

/** The table that `--profile` prints; kernels below a thousandth of the time are summed up. */
export function profileText(profile: StepProfile): string {
  const { kernels, kernelMs, dispatches, emptyDispatchMs, steps, ceilings } = profile;
  const shown = kernels.filter(({ share }) => share >= 0.001);
  const rest = kernels.slice(shown.length);
  const restMs = rest.reduce((sum, { ms }) => sum + ms, 0);
  const rows = [
    COLUMNS,
    ...shown.flatMap((k) => [
      [
        k.kernel,
        shapesText(k),
        k.calls.toFixed(Math.abs(k.calls - Math.round(k.calls)) < 1e-6 ? 0 : 1),
        k.ms.toFixed(3),
        percent(k.share, 1),
        k.gflops?.toFixed(1) ?? "",
        k.gbs.toFixed(1),
        k.ofCeiling === undefined ? "" : percent(k.ofCeiling, 0),
      ],
      // Of a call in several dispatches, each.
      ...(k.programs.length > 1 ? k.programs.map(({ program, ms }) => ["", `  ${program}`, "", ms.toFixed(3)]) : []),
    ]),
    ...(rest.length === 0 ? [] : [[`${rest.length} more`, "", "", restMs.toFixed(3), percent(restMs / kernelMs, 1)]]),
  ].map((row) => row.map(String));
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  const ceilingText = ceilings
    ? `; ceilings ${ceilings.gflops.toFixed(0)} GFLOP/s, ${ceilings.gbs.toFixed(1)} GB/s`
    : "";
  return [
    `Kernels of a step: ${kernelMs.toFixed(2)} ms in ${dispatches.toFixed(0)} dispatches (mean of ${steps} steps${ceilingText})`,
    `An empty dispatch's ${(1000 * emptyDispatchMs).toFixed(0)} us are taken off each.`,
    ...lines,
  ].join("\n");
}

/** The output; where the work depends on the inputs, the first two of them, too. */
function shapesText({ inputs, outputs, gflops }: KernelShare): string {
  const from = gflops === undefined ? [] : inputs.slice(0, 2);
  return [...from, outputs[0] ?? []].map((shape) => `[${shape}]`).join(" ");
}

/** Whether the adapter is a processor. */
export const onSoftware = ({ adapter }: WebGpuDevice): boolean =>
  /llvmpipe|lavapipe|swiftshader/i.test(
    `${adapter.info.description} ${adapter.info.device} ${adapter.info.architecture}`,
  );

const onWebGpuOnly = () => {
  throw new Error("profiles are made on WebGPU only");
};

const emptyKernel = defineKernel<object>({
  name: "empty",
  cpu: onWebGpuOnly,
  webgpu: ({ outputs: [y], dispatch }) => {
    dispatch({
      key: "",
      program: () => ({ workgroupSize: [1], body: "y[0] = 0.0;" }),
      bindings: [{ name: "y", view: y!, type: "f32", access: "read_write" }],
      workgroups: [1],
    });
  },
});

/** Milliseconds between the timestamps around a dispatch that does nothing, the least of several means. */
async function measureEmptyDispatch(device: WebGpuDevice): Promise<number> {
  return leastMs(device, { kernel: emptyKernel, elements: 4, params: {}, calls: 32 });
}

/** Least mean time by timestamps of a call that reads and writes fresh memory. */
async function leastMs<Params>(
  device: WebGpuDevice,
  options: { kernel: Kernel<Params>; elements: number; params: Params; calls: number; reads?: boolean },
): Promise<number> {
  const { kernel, elements, params, calls, reads = false } = options;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const [time] = await device.timeDispatches(() =>
      scope(() => {
        const [x, y] = [reads ? [empty(device, [elements], "f32")] : [], empty(device, [elements], "f32")];
        for (let call = 0; call < calls; call++) runInto(kernel, x, [y], params);
      }),
    );
    least = Math.min(least, time!.milliseconds / calls);
  }
  return least;
}

/** Invocations of a workgroup. */
const lanesOf = (profile: TuningProfile) => workgroupLanes(profile, 256);

/** Every invocation multiplies and adds in `chains` independent chains of vec4f. Output [invocations, 4]. */
const multiplyAdd = (chains: number, unrolled: number) =>
  defineKernel<{ trips: number; workgroups: number }>({
    name: "multiplyAdd",
    cpu: onWebGpuOnly,
    webgpu: ({ outputs: [y], profile, params: { trips, workgroups }, dispatch }) => {
      const names = Array.from({ length: chains }, (_, i) => `a${i}`);
      dispatch({
        key: `${chains} ${unrolled}`,
        program: () => ({
          workgroupSize: [lanesOf(profile)],
          body: `
  let x = vec4f(u.factor);
  let z = vec4f(f32(lane));
  ${names.map((name, i) => `var ${name} = vec4f(${i}.0);`).join(" ")}
  for (var k = 0u; k < u.trips; k++) {
    ${`${names.map((name) => `${name} = fma(${name}, x, z);`).join(" ")}\n    `.repeat(unrolled)}
  }
  y[global.x] = ${names.join(" + ")};`,
        }),
        bindings: [{ name: "y", view: y!, type: "vec4f", access: "read_write" }],
        sizes: { trips },
        numbers: { factor: 0.5 },
        workgroups: [workgroups],
      });
    },
  });

/** y = x; every invocation copies `trips` vec4f, a workgroup's width apart. */
const copyLoop = defineKernel<{ trips: number }>({
  name: "copyLoop",
  cpu: onWebGpuOnly,
  webgpu: ({ inputs: [x], outputs: [y], profile, params: { trips }, dispatch }) => {
    const width = lanesOf(profile);
    dispatch({
      key: "vec4f",
      program: () => ({
        workgroupSize: [width],
        body: `
  let first = ${GRID_INDEX} * u.trips * ${width} + lane;
  for (var k = 0u; k < u.trips; k++) { y[first + k * ${width}] = x[first + k * ${width}]; }`,
      }),
      bindings: [
        { name: "x", view: x!, type: "vec4f" },
        { name: "y", view: y!, type: "vec4f", access: "read_write" },
      ],
      sizes: { trips },
      workgroups: gridOf(y!.size / 4 / width / trips),
    });
  },
});

/** The best of several forms of each loop, by timestamps. */
export async function measureCeilings(device: WebGpuDevice): Promise<Ceilings> {
  const width = lanesOf(device.profile);
  const software = onSoftware(device);
  const [workgroups, trips] = software ? [Math.ceil(512 / width), 2048] : [4096, 512];
  let gflops = 0;
  for (const [chains, unrolled] of [
    [4, 4],
    [8, 4],
    [16, 1],
    [16, 4],
    [32, 1],
  ] as const) {
    const kernel = multiplyAdd(chains, unrolled);
    const elements = workgroups * width * 4;
    const ms = await leastMs(device, { kernel, elements, params: { trips, workgroups }, calls: 1 });
    gflops = Math.max(gflops, (2 * elements * trips * chains * unrolled) / ms / 1e6);
  }
  let gbs = 0;
  for (const elements of software ? [2 ** 20, 2 ** 24] : [2 ** 24, 2 ** 26]) {
    if (4 * elements > device.profile.maxBindingBytes) continue;
    for (const length of software ? [128, 512] : [1, 8]) {
      const params = { trips: Math.min(length, elements / 4 / width) };
      const ms = await leastMs(device, { kernel: copyLoop, elements, params, calls: 1, reads: true });
      gbs = Math.max(gbs, (8 * elements) / ms / 1e6);
    }
  }
  return { gflops, gbs };
}
