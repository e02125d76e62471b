// Browsers, their workers, and whatever else has the web's interfaces alone.
import type { Hdf5Task, Runtime } from "./runtime.js";
import { sourceOf } from "./source.js";
import { webStore } from "./web-store.js";

export const webRuntime: Runtime = {
  name: "web",
  webgpu: async () => {
    const gpu = globalThis.navigator?.gpu;
    return gpu && sourceOf(gpu);
  },
  provideGlobals: async () => {},
  adviceWithoutAdapter: () => "use a browser with WebGPU, and enable it there",
  // A page's main thread may not block, and does not spin while it waits.
  wait: (promise) => promise,
  environment: () => undefined,
  machine: undefined,
  tuningStore: () => (typeof indexedDB === "undefined" ? undefined : webStore),
  files: undefined,
  // Its code is loaded when it is first used.
  get hdf5() {
    if (typeof Worker === "undefined") return undefined;
    return async (task: Hdf5Task) => (await import("../io/h5-web.js")).runInWorker(task);
  },
  // A console has lines.
  terminal: { write: (text) => console.info(text.trimEnd()) },
  collectGarbage: () => {}, // Pages cannot ask for it, and their WebGPU is another process's.
  warn: (message) => console.warn(message),
};
