// Tuning profiles: which family of kernels an adapter gets. Chosen from what the adapter says of itself, overridable
// with KILOGRAD_PROFILE or `openDevice({ profile })`, listed by `kilograd doctor`.
import { UsageError } from "./errors.js";

export type ProfileName = "software" | "hardware";

/**
 * - software: lavapipe (Mesa's llvmpipe) with subgroups of exactly 8 lanes: operands are broadcast between lanes, no
 *   shared memory, one subgroup per workgroup, long rolled loops.
 * - hardware: shared-memory register tiles, 256 invocations per workgroup, no subgroups needed. Right on every adapter.
 */
export interface TuningProfile {
  readonly name: ProfileName;
  /** Lanes of a subgroup where kernels may rely on it, else undefined. */
  readonly subgroupSize: 8 | undefined;
  /** Largest storage binding in bytes; larger tensors are processed in windows. */
  readonly maxBindingBytes: number;
  /** Most storage buffers that a dispatch may bind. */
  readonly maxStorageBuffers: number;
  /** Workgroup memory in bytes. */
  readonly maxWorkgroupBytes: number;
}

export function chooseProfile(adapter: GPUAdapter, forced: string | undefined): TuningProfile {
  const { info, limits, features } = adapter;
  const eightLanes = features.has("subgroups") && info.subgroupMinSize === 8 && info.subgroupMaxSize === 8;
  const software = /llvmpipe|lavapipe/i.test(`${info.description} ${info.device} ${info.architecture}`);
  const name = forced ?? (software && eightLanes ? "software" : "hardware");
  if (name !== "software" && name !== "hardware") {
    throw new UsageError(`openDevice: profile must be "software" or "hardware", got "${name}"`);
  }
  if (name === "software" && !eightLanes) {
    throw new UsageError(
      `openDevice: profile "software" needs subgroups of exactly 8 lanes, this adapter has ${
        features.has("subgroups") ? `${info.subgroupMinSize} to ${info.subgroupMaxSize}` : "none"
      }; use "hardware"`,
    );
  }
  return {
    name,
    subgroupSize: name === "software" ? 8 : undefined,
    maxBindingBytes: Math.floor(limits.maxStorageBufferBindingSize / 256) * 256,
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
  };
}
