// Devices for kernel tests: each family of kernels, the float64 reference, and an adapter with tiny bindings.
import { afterAll, beforeAll, describe } from "vitest";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { openDevice } from "../../src/tensor/open.js";
import { WebGpuDevice } from "../../src/tensor/webgpu.js";

const probe = await openDevice("webgpu");
const { subgroupMinSize, subgroupMaxSize } = probe.adapter.info;
const eightLanes = probe.adapter.features.has("subgroups") && subgroupMinSize === 8 && subgroupMaxSize === 8;
probe.destroy();

/** Describes `body` once per tuning profile that this adapter can run. */
export function describeProfiles(body: (device: () => WebGpuDevice) => void): void {
  for (const profile of ["software", "hardware"]) {
    describe.skipIf(profile === "software" && !eightLanes)(`${profile} profile`, () => {
      let device: WebGpuDevice;
      beforeAll(async () => {
        device = await openDevice("webgpu", { profile });
      });
      afterAll(() => device.destroy());
      body(() => device);
    });
  }
}

/** The same adapter with bindings of at most `bytes` (a multiple of 256), so that small tensors need windows. */
export function withSmallBindings(device: WebGpuDevice, bytes: number): WebGpuDevice {
  return new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, maxBindingBytes: bytes });
}

export const cpu = new CpuDevice();
