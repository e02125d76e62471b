// Tuning profiles: which family of kernels an adapter gets. Chosen from what the adapter says of itself, overridable
// with KILOGRAD_PROFILE or `openDevice({ profile })`, listed by `kilograd doctor`; and the precision of matrix
// products.
import type { Precision } from "../tensor/device.js";
import { UsageError } from "../tensor/errors.js";
import type { Choices } from "./tuning.js";

/** Which kernels an adapter gets; see TuningProfile. */
export type KernelFamily = "software" | "hardware";

/** Lanes of a subgroup that the software family is written for: 8 of lavapipe, 4 of SwiftShader. */
export type SubgroupLanes = 4 | 8;

/**
 * Matrix units: fragments L [m, k] and R [k, n] of float16 and C [m, n] of float32 that a subgroup of `lanes`
 * invocations multiplies at once.
 */
export interface MatrixUnits {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly lanes: number;
}

/**
 * - software: processors with subgroups of exactly 8 or 4 lanes, such as lavapipe (Mesa's llvmpipe) and SwiftShader:
 *   operands are broadcast between lanes, no shared memory, one subgroup per workgroup, long rolled loops.
 * - hardware: tiles in workgroup memory (float32 in registers, or on matrix units), no subgroups needed. Right on every
 *   adapter.
 */
export interface TuningProfile {
  readonly family: KernelFamily;
  /** Of the software family's subgroups; by default 8. */
  readonly lanes?: SubgroupLanes;
  /** What mixed precision computes with; undefined: everything is float32. */
  readonly matrices?: MatrixUnits | undefined;
  /** Largest storage binding in bytes; larger tensors are processed in slices. */
  readonly maxBindingBytes: number;
  /** Most storage buffers that a dispatch may bind. */
  readonly maxStorageBuffers: number;
  /** Workgroup memory in bytes. */
  readonly maxWorkgroupBytes: number;
  /**
   * Workgroups that run at the same time, where that is known and one may wait for another: lavapipe's threads.
   * Undefined: dispatches cost little, or workgroups must not wait.
   */
  readonly workers?: number | undefined;
  /**
   * The adapter is a processor: its compiler takes the square of a program's length, and the lanes of a subgroup are
   * one thread.
   */
  readonly onProcessor?: boolean;
  /**
   * Memory of the machine, where the adapter is its processor: the system gives more, and ends the process when it is
   * used.
   */
  readonly memoryBytes?: number | undefined;
  /** Code shapes that measurement chose, by tunable (tuning.ts). */
  readonly choices?: Choices;
}

/** Lanes of the software family's subgroups, and invocations of its workgroups. */
export const subgroupLanes = ({ lanes = 8 }: Pick<TuningProfile, "lanes">): SubgroupLanes => lanes;

/**
 * Invocations of a workgroup. On software adapters every kernel has workgroups of one subgroup: a recorded step merges
 * only equal ones.
 */
export const workgroupLanes = (profile: Pick<TuningProfile, "family" | "lanes">, onHardware: number): number =>
  profile.family === "software" ? subgroupLanes(profile) : onHardware;

/** What a caller or the environment asks for. */
export interface ProfileWishes {
  readonly profile?: string | undefined;
  readonly precision?: string | undefined;
}

/** @throws UsageError for a name that is none */
export function checkPrecision(name: string): Precision {
  if (name === "float32" || name === "mixed") return name;
  throw new UsageError(`openDevice: precision must be "float32" or "mixed", got "${name}"`);
}

/** Lanes that the software family can have on an adapter: of its subgroups, if all are of one such size. */
function lanesOf({ info, features }: Pick<GPUAdapter, "info" | "features">): SubgroupLanes | undefined {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  return features.has("subgroups") && least === most && (least === 4 || least === 8) ? least : undefined;
}

const describes = ({ description, device, architecture }: GPUAdapterInfo, names: RegExp) =>
  names.test(`${description} ${device} ${architecture}`);
/** Mesa's, Google's (Chromium's) and Microsoft's software adapters. */
const isProcessor = (info: GPUAdapterInfo) => describes(info, /llvmpipe|lavapipe|swiftshader|basic render/i);

/**
 * Whether the family has to be found by measurement: either could be the adapter's, and it is none of those whose
 * family is known. GPUs have wider subgroups, or subgroups of several sizes.
 */
export function isFamilyUnknown(adapter: GPUAdapter, { profile, precision }: ProfileWishes): boolean {
  return profile === undefined && precision !== "mixed" && lanesOf(adapter) !== undefined && !isProcessor(adapter.info);
}

/** @param matrices gives those of the adapter, for precision "mixed" */
export function chooseProfile(
  adapter: GPUAdapter,
  { profile, precision = "float32" }: ProfileWishes,
  matrices?: () => MatrixUnits,
): TuningProfile {
  const { info, limits, features } = adapter;
  const mixed = checkPrecision(precision) === "mixed";
  const lanes = lanesOf(adapter);
  const name = profile ?? (isProcessor(info) && lanes !== undefined && !mixed ? "software" : "hardware");
  if (name !== "software" && name !== "hardware") {
    throw new UsageError(`openDevice: profile must be "software" or "hardware", got "${name}"`);
  }
  if (name === "software" && mixed) {
    throw new UsageError(`openDevice: precision "mixed" is of profile "hardware" alone; leave out one of the two`);
  }
  if (name === "software" && lanes === undefined) {
    throw new UsageError(
      `openDevice: profile "software" needs subgroups of exactly 4 or 8 lanes, this adapter has ${
        features.has("subgroups") ? `${info.subgroupMinSize} to ${info.subgroupMaxSize}` : "none"
      }; use "hardware"`,
    );
  }
  return {
    family: name,
    ...(lanes !== undefined && { lanes }),
    matrices: mixed ? matrices?.() : undefined,
    maxBindingBytes: Math.floor(limits.maxStorageBufferBindingSize / 256) * 256,
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
    onProcessor: isProcessor(info),
  };
}

/** Features that mixed precision needs, and the one that Dawn lists with the toggle allow_unsafe_apis alone. */
export const MATRIX_FEATURES = ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups"] as const;

/** Dawn's toggles for them; it hides float16 on NVIDIA, where older drivers failed its tests. */
export const MATRIX_TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"] as const;
