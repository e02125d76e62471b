// Opening a WebGPU device. In Node, WebGPU comes from the npm package `webgpu` (Dawn); in a browser from navigator.gpu.
import type { Precision } from "../tensor/device.js";
import { DeviceError } from "../tensor/errors.js";
import { wait } from "../tensor/wait.js";
import { CompileAhead, gainsFromCompilingAhead } from "./compile-ahead.js";
import { WebGpuDevice } from "./device.js";
import { checkPrecision, chooseProfile, MATRIX_FEATURES, MATRIX_TOGGLES } from "./family.js";
import { gpuSource, isNode } from "./instance.js";
import { giveBack, takeIdle } from "./shared.js";
import { type Choices, settleChoices, tuningMode } from "./tuning.js";

export interface OpenDeviceOptions {
  /** Tuning profile, "software" or "hardware"; by default chosen from the adapter, or by KILOGRAD_PROFILE. */
  readonly profile?: string;
  /**
   * "float32" (default), or "mixed": matrix products and convolutions of float16 operands with float32 sums on the
   * adapter's matrix units, checked against the reference before the device is handed out. Or KILOGRAD_PRECISION. Throws
   * DeviceError where the adapter has no such units, or computes wrongly with them.
   */
  readonly precision?: Precision;
  /** Told which device "auto" took, and why; and what is measured or could not be read for tuning (KILOGRAD_TUNE). */
  readonly onMessage?: (message: string) => void;
  /** Exact timestamps for `profileDispatches` (Node only; slower in nothing else). */
  readonly profiling?: boolean;
  /** Dawn flags for Node, e.g. ["adapter=llvmpipe"]. */
  readonly dawnFlags?: readonly string[];
  /**
   * Most dispatches will be tiny (layers of some ten units). lavapipe then computes them on the thread that takes work from
   * the queue: waking its pool costs more than the work (networks of 20 layers of 32 units: 2.7 ms a step instead of 7.4).
   * Large kernels use one core then. Without effect on other drivers, and where LP_NUM_THREADS is set.
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

const coresOf = async () => (await import("node:os")).availableParallelism();

/** Bytes, or those that a container may use of them. */
async function memoryOfMachine(): Promise<number> {
  const all = (await import("node:os")).totalmem();
  return Math.min(all, process.constrainedMemory() || all);
}

/** Cores up to which llvmpipe gets two threads for each. */
const FEW_CORES = 8;

/**
 * The value of LP_NUM_THREADS, which llvmpipe reads when devices are looked for; undefined: as it likes. It gives each of its
 * threads, by default one a core, a fixed share of a dispatch's workgroups, so that a dispatch waits for a thread that was
 * held up. With two a core the system evens that out.
 */
export async function driverThreads({ tinyDispatches }: OpenDeviceOptions): Promise<number | undefined> {
  if (tinyDispatches) return 0;
  const cores = await coresOf();
  return cores <= FEW_CORES ? 2 * cores : undefined;
}

/** What the driver is loaded with; nothing where LP_NUM_THREADS is set already. */
async function driverEnvironment(options: OpenDeviceOptions): Promise<Record<string, string>> {
  if (!isNode || process.env["LP_NUM_THREADS"] !== undefined) return {};
  const threads = await driverThreads(options);
  return threads === undefined ? {} : { LP_NUM_THREADS: String(threads) };
}

/**
 * Threads of llvmpipe that compute at the same time, for dispatches of several stages; undefined where the thread that takes
 * work from the queue computes, and where the programs of such dispatches could not be compiled beforehand.
 */
async function workersOf(info: GPUAdapterInfo, driver: Record<string, string>): Promise<number | undefined> {
  if (!isNode || !gainsFromCompilingAhead(info)) return undefined;
  const cores = await coresOf();
  const threads = Number({ ...process.env, ...driver }["LP_NUM_THREADS"] ?? cores);
  return threads > 0 ? Math.min(threads, cores) : undefined;
}

/** See openDevice. */
export const openWebGpu = (options: OpenDeviceOptions): Promise<WebGpuDevice> => open(options);

/** What to do where Dawn finds no adapter. */
async function adviceWithoutAdapter(): Promise<string> {
  if (!isNode) return "use a browser with WebGPU, and enable it there";
  if (process.platform !== "linux") return "install the current driver of the GPU's vendor";
  const { existsSync } = await import("node:fs");
  const { cacheFolder } = await import("../tensor/cache-folder.js");
  // What driver/install.ts leaves for programs that are not Kilograd's own.
  const environment = `${cacheFolder()}/driver/env.sh`;
  if (existsSync(environment) && !process.env["LD_LIBRARY_PATH"]?.includes(`${cacheFolder()}/driver/`)) {
    return `start this program in a shell after \`. ${environment}\`, which leads to the driver that is installed there`;
  }
  return "install the GPU's Vulkan driver, or run `npx kilograd doctor --install-driver`: Mesa's software driver, without root rights";
}

/** `trial`: the code shapes of a device that is opened to time them. */
async function open(options: OpenDeviceOptions, trial?: Choices): Promise<WebGpuDevice> {
  const environment = (name: string) => (isNode ? process.env[name] || undefined : undefined);
  const profile = options.profile ?? environment("KILOGRAD_PROFILE");
  const precision = checkPrecision(options.precision ?? environment("KILOGRAD_PRECISION") ?? "float32");
  const driver = await driverEnvironment(options);
  const flags = joinFlags([
    ...(options.profiling ? ["disable-dawn-features=timestamp_quantization"] : []),
    ...(precision === "mixed" ? [`enable-dawn-features=${MATRIX_TOGGLES.join(",")}`] : []),
    ...(options.dawnFlags ?? []),
  ]);
  const source = await gpuSource(flags, driver);
  const adapter = (await source?.requestAdapter()) ?? null;
  if (source === undefined || adapter === null) {
    throw new DeviceError("NO_ADAPTER", `webgpu: no adapter was found; ${await adviceWithoutAdapter()}`);
  }
  const { description, device: model, vendor } = adapter.info;
  if (/null[- ]backend/i.test(`${description} ${model}`)) {
    throw new DeviceError(
      "NO_ADAPTER",
      "webgpu: only Dawn's null backend was found, which computes nothing; unset DAWNNODE_BACKEND or install a Vulkan driver",
    );
  }
  const chosen = chooseProfile(adapter, { profile, precision });
  const mode = tuningMode(environment("KILOGRAD_TUNE"));
  const choices =
    trial ??
    (await settleChoices({
      // One thread says nothing of how fast all of them are.
      mode: mode !== "off" && options.tinyDispatches ? "cached" : mode,
      profile: chosen,
      adapter: [vendor, model, description].join(", "),
      open: (choices) => open(options, choices),
      note: options.onMessage ?? (() => {}),
    }));
  const tuning = {
    ...chosen,
    choices,
    workers: chosen.name === "software" ? await workersOf(adapter.info, driver) : undefined,
    memoryBytes: chosen.onProcessor && isNode ? await memoryOfMachine() : undefined,
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
    ...{ adapter, gpu: await deviceOf(adapter, descriptor) },
    ...{ programs: new Map(), layouts: new Map() },
  };
  // An adapter gives one device: another takes another adapter.
  const openAnother = async () => {
    const again = await source.requestAdapter();
    if (again === null) throw new DeviceError("NO_ADAPTER", "the adapter is not there a second time");
    return { adapter: again, device: await deviceOf(again, descriptor) };
  };
  const device = new WebGpuDevice(shared.adapter, shared.gpu, tuning, {
    compileAhead:
      isNode && gainsFromCompilingAhead(adapter.info)
        ? new CompileAhead(openAnother, options.onMessage ?? (() => {}))
        : undefined,
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
