// Opening a WebGPU device: of the adapter that the runtime finds (runtime/), or of a GPU object that the caller has.
import { findRuntime, type GpuSource, type Runtime, wait } from "../runtime/runtime.js";
import { sourceOf } from "../runtime/source.js";
import type { Precision } from "../tensor/device.js";
import { DeviceError, UsageError } from "../tensor/errors.js";
import { WebGpuDevice } from "./device.js";
import { checkPrecision, chooseProfile, isFamilyUnknown, MATRIX_FEATURES, MATRIX_TOGGLES } from "./family.js";
import { giveBack, takeIdle } from "./shared.js";
import { type Choices, settleChoices, settleFamily, tuningMode } from "./tuning.js";

export interface OpenDeviceOptions {
  /**
   * Where the adapter comes from: a browser's or Deno's `navigator.gpu`, or another object of WebGPU. Default: in Node,
   * Bun and Deno Dawn (npm `webgpu`), elsewhere `navigator.gpu`.
   */
  readonly gpu?: GPU;
  /** Tuning profile, "software" or "hardware"; by default chosen from the adapter, or by KILOGRAD_PROFILE. */
  readonly profile?: string;
  /**
   * "float32" (default), or "mixed". With "mixed", matrix products and convolutions have float16 operands and float32
   * sums, on the adapter's matrix units. They are checked against the reference before the device is handed out. Or
   * KILOGRAD_PRECISION. Throws DeviceError where the adapter has no such units, or computes wrongly with them.
   */
  readonly precision?: Precision;
  /** Told which device "auto" took, and why; and what is measured or could not be read for tuning (KILOGRAD_TUNE). */
  readonly onMessage?: (message: string) => void;
  /** Exact timestamps for `timeDispatches` (of Dawn in Node; slower in nothing else). */
  readonly profiling?: boolean;
  /** Flags of Dawn in Node, e.g. ["adapter=llvmpipe"]. */
  readonly dawnFlags?: readonly string[];
  /**
   * Most dispatches will be tiny (layers of some ten units). The driver lavapipe then computes them on the thread that
   * takes work from the queue, as waking its pool costs more than the work. Networks of 20 layers of 32 units take 2.7
   * ms a step instead of 7.4. Large kernels use one core then. Without effect on other drivers, and where
   * LP_NUM_THREADS is set.
   */
  readonly tinyDispatches?: boolean;
}

/** Dawn takes the last of several flags of one name: joins their lists. */
function joinFlags(flags: readonly string[]): string[] {
  const joined = new Map<string, string>();
  for (const flag of flags) {
    const name = flag.split("=", 1)[0]!;
    const before = joined.get(name);
    const isList = /^(enable|disable)-dawn-features$/.test(name);
    joined.set(name, isList && before !== undefined ? `${before},${flag.slice(name.length + 1)}` : flag);
  }
  return [...joined.values()];
}

/** Throws unless a device of mixed precision computes right. */
type PrecisionCheck = (device: WebGpuDevice) => Promise<void>;
let checkMixed: PrecisionCheck | undefined;

/** Sets the check of devices of mixed precision; called by the kernels, which this layer does not know. */
export function provideMixedCheck(check: PrecisionCheck): void {
  checkMixed = check;
}

/** Cores up to which llvmpipe gets two threads for each. */
const FEW_CORES = 8;

/**
 * The value of LP_NUM_THREADS, which llvmpipe reads when devices are looked for; undefined: as it likes. It gives each
 * of its threads, by default one a core, a fixed share of a dispatch's workgroups, so that a dispatch waits for a
 * thread that was held up. With two a core the system evens that out.
 */
export async function driverThreads({ tinyDispatches }: OpenDeviceOptions): Promise<number | undefined> {
  if (tinyDispatches) return 0;
  const { machine } = await findRuntime();
  return machine !== undefined && machine.cores <= FEW_CORES ? 2 * machine.cores : undefined;
}

/** What the driver is loaded with; nothing where LP_NUM_THREADS is set already. */
async function driverEnvironment(runtime: Runtime, options: OpenDeviceOptions): Promise<Record<string, string>> {
  if (runtime.environment("LP_NUM_THREADS") !== undefined) return {};
  const threads = await driverThreads(options);
  return threads === undefined ? {} : { LP_NUM_THREADS: String(threads) };
}

/**
 * Threads of llvmpipe that compute at the same time, for dispatches of several stages; undefined where the thread that
 * takes work from the queue computes, and where the programs of such dispatches could not be compiled beforehand.
 */
function workersOf({ environment, machine }: Runtime, driver: Record<string, string>): number | undefined {
  if (machine === undefined) return undefined;
  const threads = Number(driver["LP_NUM_THREADS"] ?? environment("LP_NUM_THREADS") ?? machine.cores);
  return threads > 0 ? Math.min(threads, machine.cores) : undefined;
}

/**
 * Whether a device gains from compiling ahead (compile-ahead.ts): llvmpipe under lavapipe, with its cache on disk.
 * @param cacheDisabled what the variable MESA_SHADER_CACHE_DISABLE says
 */
export function gainsFromCompilingAhead({ vendor, device, description }: GPUAdapterInfo, cacheDisabled = ""): boolean {
  return !/^(1|true|yes|y)$/i.test(cacheDisabled) && /llvmpipe/i.test(`${vendor} ${device} ${description}`);
}

/** See openDevice. */
export const openWebGpu = (options: OpenDeviceOptions): Promise<WebGpuDevice> => open(options);

/** What finds adapters. @throws UsageError for options that a GPU object cannot have any more */
async function sourceFor(
  runtime: Runtime,
  { gpu, dawnFlags }: OpenDeviceOptions,
  start: { flags: string[]; environment: Record<string, string> },
): Promise<GpuSource | undefined> {
  if (gpu === undefined) return runtime.webgpu(start);
  if (dawnFlags !== undefined) {
    throw new UsageError("openDevice: a gpu that is given has its flags already; leave out dawnFlags, or gpu");
  }
  await runtime.provideGlobals();
  return sourceOf(gpu);
}

/** `trial`: the code shapes of a device that is opened to time them. */
async function open(options: OpenDeviceOptions, trial?: Choices): Promise<WebGpuDevice> {
  const runtime = await findRuntime();
  const { environment } = runtime;
  const profile = options.profile ?? environment("KILOGRAD_PROFILE");
  const precision = checkPrecision(options.precision ?? environment("KILOGRAD_PRECISION") ?? "float32");
  const driver = await driverEnvironment(runtime, options);
  const flags = joinFlags([
    ...(options.profiling ? ["disable-dawn-features=timestamp_quantization"] : []),
    ...(precision === "mixed" ? [`enable-dawn-features=${MATRIX_TOGGLES.join(",")}`] : []),
    ...(options.dawnFlags ?? []),
  ]);
  const source = await sourceFor(runtime, options, { flags, environment: driver });
  const adapter = (await source?.requestAdapter()) ?? null;
  if (source === undefined || adapter === null) {
    throw new DeviceError("NO_ADAPTER", `webgpu: no adapter was found; ${runtime.adviceWithoutAdapter()}`);
  }
  const { description, device: model, vendor } = adapter.info;
  if (/null[- ]backend/i.test(`${description} ${model}`)) {
    throw new DeviceError(
      "NO_ADAPTER",
      "webgpu: only Dawn's null backend was found, which computes nothing; unset DAWNNODE_BACKEND or install a Vulkan driver",
    );
  }
  const named = [vendor, model, description].join(", ");
  const note = options.onMessage ?? (() => {});
  const family = isFamilyUnknown(adapter, { profile, precision })
    ? await settleFamily({
        adapter: named,
        open: (family) => open({ ...options, profile: family }, {}),
        store: runtime.tuningStore,
        note,
      })
    : profile;
  const units = precision === "mixed" ? await import("./matrix-units.js") : undefined;
  const chosen = chooseProfile(adapter, { profile: family, precision }, units && (() => units.matrixUnits(adapter)));
  const mode = tuningMode(environment("KILOGRAD_TUNE"));
  const compilesAhead = source.isOwn && gainsFromCompilingAhead(adapter.info, environment("MESA_SHADER_CACHE_DISABLE"));
  const choices =
    trial ??
    (await settleChoices({
      // One thread says nothing of how fast all of them are.
      mode: mode !== "off" && options.tinyDispatches ? "cached" : mode,
      profile: chosen,
      adapter: named,
      open: (choices) => open(options, choices),
      store: runtime.tuningStore,
      note,
    }));
  const tuning = {
    ...chosen,
    choices,
    workers: chosen.family === "software" && compilesAhead ? workersOf(runtime, driver) : undefined,
    memoryBytes: chosen.onProcessor ? runtime.machine?.memoryBytes : undefined,
  };
  const wanted = ["subgroups", "timestamp-query", "shader-f16"] as GPUFeatureName[];
  // The experimental feature has no place in the types.
  if (tuning.matrices !== undefined) wanted.push(...(MATRIX_FEATURES as readonly string[] as GPUFeatureName[]));
  const descriptor: GPUDeviceDescriptor = {
    requiredFeatures: [...new Set(wanted)].filter((feature) => adapter.features.has(feature)),
    requiredLimits: {
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxBufferSize: adapter.limits.maxBufferSize,
      maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: adapter.limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: adapter.limits.maxComputeWorkgroupSizeX,
      minUniformBufferOffsetAlignment: adapter.limits.minUniformBufferOffsetAlignment,
    },
    label: `kilograd on ${vendor}`,
  };
  // Programs depend on the profile.
  const key = JSON.stringify([source.key, descriptor, tuning]);
  const known = takeIdle(key);
  if (known !== undefined) source.unused(adapter);
  const shared = known ?? {
    ...{ adapter, source, gpu: await deviceOf(adapter, descriptor) },
    ...{ programs: new Map(), layouts: new Map() },
  };
  // An adapter gives one device: another takes another adapter.
  const openAnother = async () => {
    const again = await source.requestAdapter();
    if (again === null) throw new DeviceError("NO_ADAPTER", "the adapter is not there a second time");
    return { adapter: again, device: await deviceOf(again, descriptor) };
  };
  const ahead = compilesAhead ? await import("./compile-ahead.js") : undefined;
  const device = new WebGpuDevice(shared.adapter, shared.gpu, tuning, {
    compileAhead: ahead && new ahead.CompileAhead(openAnother, options.onMessage ?? (() => {})),
    reportsLater: !source.isOwn,
    shared,
    giveBack: () => giveBack(key, shared),
  });
  if (tuning.matrices !== undefined) {
    try {
      if (checkMixed === undefined) throw new DeviceError("LIMIT", "internal: mixed precision without its check");
      await checkMixed(device);
    } catch (error) {
      device.destroy();
      throw error;
    }
  }
  return device;
}

async function deviceOf(adapter: GPUAdapter, descriptor: GPUDeviceDescriptor): Promise<GPUDevice> {
  return wait(adapter.requestDevice(descriptor)).catch((cause: Error) => {
    const { description, device } = adapter.info;
    throw new DeviceError(
      "NO_ADAPTER",
      `webgpu: ${description || device || "the adapter"} gives no device: ${cause.message}`,
      { cause },
    );
  });
}
