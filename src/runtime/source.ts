// Adapters of a GPU object: a browser's, Deno's, or one that a caller has made.
import { DeviceError } from "../tensor/errors.js";
import type { GpuSource } from "./runtime.js";

const numbers = new WeakMap<GPU, number>();
let count = 0;

/** A source of adapters of a GPU object that somebody else made. */
export function sourceOf(gpu: GPU): GpuSource {
  const number = numbers.get(gpu) ?? ++count;
  numbers.set(gpu, number);
  return { key: `gpu ${number}`, isOwn: false, requestAdapter: () => adapterOf(gpu), unused: () => {} };
}

/** Asks at once: a driver is loaded, where one is, when this returns. */
export function adapterOf(gpu: GPU): Promise<GPUAdapter | null> {
  return gpu.requestAdapter({ powerPreference: "high-performance" }).catch((cause: unknown) => {
    // Dawn rejects with a string.
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DeviceError("NO_ADAPTER", `webgpu: no adapter was found: ${reason}`, { cause });
  });
}
