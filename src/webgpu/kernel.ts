// What a kernel has to have for WebGPU (tensor/kernel.ts).
import type { Spec } from "../tensor/dtype.js";
import type { TuningProfile } from "./family.js";
import type { GpuCall } from "./program.js";

declare module "../tensor/kernel.js" {
  interface Implementations<Params> {
    /** Records dispatches. */
    readonly webgpu: (call: GpuCall<Params>) => void;
    /**
     * What the WebGPU side computes on its way with these params and the kernel's gradients can use, by name. They are
     * further outputs, in this order, which a caller may allocate or leave out. See Device.byproducts.
     */
    readonly byproducts?: (params: Params, profile: TuningProfile) => Readonly<Record<string, Spec>>;
  }
}
