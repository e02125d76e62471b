// Opening devices by name, the reference among them; how an adapter is found is in open.ts.
import type { CpuDevice } from "../tensor/cpu.js";
import type { Device } from "../tensor/device.js";
import { DeviceError } from "../tensor/errors.js";
import {
  boolean,
  callable,
  check,
  checkOptions,
  havingMethod,
  listOf,
  oneOf,
  type Rules,
  string,
} from "../tensor/options.js";
import type { WebGpuDevice } from "./device.js";
import { type OpenDeviceOptions, openWebGpu } from "./open.js";

export type { OpenDeviceOptions };

export type DeviceKind = "webgpu" | "cpu" | "auto";

const kinds = oneOf("webgpu", "cpu", "auto");

/** A class that Deno and browsers have, and a package for Node; tests have an object. */
const gpuObject = havingMethod("requestAdapter", "an object of WebGPU, such as navigator.gpu");

const openRules: Rules<OpenDeviceOptions> = {
  gpu: gpuObject,
  profile: string,
  precision: string,
  onMessage: callable,
  profiling: boolean,
  dawnFlags: listOf(string),
  tinyDispatches: boolean,
};

/** Its code comes with the first one. */
const reference = async () => new (await import("../tensor/cpu.js")).CpuDevice();

/**
 * Opens a device.
 * - "webgpu": the system's adapter, with every limit and optional feature that the kernels use. Throws DeviceError
 *   NO_ADAPTER where there is none; Dawn's null backend, which computes nothing, is refused.
 * - "cpu": the float64 reference.
 * - "auto": webgpu where there is an adapter, else cpu; `onMessage` is told which.
 *
 * Release it with `destroy()` or `await using`.
 */
export async function openDevice(kind: "cpu", options?: OpenDeviceOptions): Promise<CpuDevice>;
export async function openDevice(kind: "webgpu", options?: OpenDeviceOptions): Promise<WebGpuDevice>;
export async function openDevice(kind: DeviceKind, options?: OpenDeviceOptions): Promise<Device>;
export async function openDevice(kind: DeviceKind, given: OpenDeviceOptions = {}): Promise<Device> {
  check("openDevice", "kind", kind, kinds);
  const options = checkOptions("openDevice", given, openRules);
  switch (kind) {
    case "cpu":
      return reference();
    case "webgpu":
      return openWebGpu(options);
    case "auto":
      try {
        const device = await openWebGpu(options);
        options.onMessage?.(`device: webgpu, ${device.adapter.info.description || device.adapter.info.device}`);
        return device;
      } catch (error) {
        if (!(error instanceof DeviceError && error.code === "NO_ADAPTER")) throw error;
        options.onMessage?.(`device: cpu (float64 reference, slow), because ${error.message}`);
        return reference();
      }
  }
}
