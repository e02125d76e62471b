// Gives a library made for browsers the same WebGPU adapter as ours, through navigator.gpu, and the same wait: without
// it, Node's main thread polls while a result is pending and takes a core from a software adapter.
import { availableParallelism } from "node:os";
import { create, globals } from "webgpu";
import { waitNapping } from "../../build/src/runtime/node-wait.js";

/** Prepares the globals; call before the library is loaded. Says what the adapter is. */
export async function provideWebGpu() {
  for (const [name, value] of Object.entries(globals)) globalThis[name] ??= value;
  for (const [prototype, method] of [
    [GPUBuffer.prototype, "mapAsync"],
    [GPUQueue.prototype, "onSubmittedWorkDone"],
  ]) {
    const original = prototype[method];
    prototype[method] = function (...args) {
      return waitNapping(original.apply(this, args));
    };
  }
  const gpu = create([]);
  provideNavigator({ gpu });
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("no WebGPU adapter");
  return adapter.info.description || adapter.info.device;
}

/** Node 20 has no navigator. */
export function provideNavigator(properties) {
  const value = {
    userAgent: "node",
    hardwareConcurrency: availableParallelism(),
    ...globalThis.navigator,
    ...properties,
  };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
}
