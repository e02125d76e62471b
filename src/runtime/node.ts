// Node, and Bun and Deno, which have its modules: WebGPU is Dawn's (npm `webgpu`).
import { existsSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { besideFile, logToFile, readOpened, writeFileAtomic } from "../io/files.js";
import { runGuarded } from "../io/guarded-worker.js";
import { tuningFile } from "../io/tuning-file.js";
import { cacheFolder } from "./node-cache-folder.js";
import { dawnSource, provideDawnGlobals } from "./node-dawn.js";
import { collectGarbage } from "./node-garbage.js";
import { waitNapping } from "./node-wait.js";
import type { Runtime } from "./runtime.js";

export const nodeRuntime: Runtime = {
  name: "node",
  webgpu: dawnSource,
  provideGlobals: provideDawnGlobals,
  adviceWithoutAdapter,
  wait: waitNapping,
  environment: (name) => process.env[name] || undefined,
  get machine() {
    const all = totalmem();
    // What a container may use of it.
    return { cores: availableParallelism(), memoryBytes: Math.min(all, process.constrainedMemory() || all) };
  },
  tuningStore: () => tuningFile(),
  files: { read: readOpened, beside: besideFile, write: writeFileAtomic, log: logToFile },
  hdf5: ({ module, ...task }) =>
    module === undefined
      ? runGuarded({ module: new URL("../io/h5-worker.js", import.meta.url), again: true, ...task })
      : runGuarded({ module, ...task }),
  get terminal() {
    return process.stderr;
  },
  collectGarbage,
  warn: (message) => process.emitWarning(message, "KilogradWarning"),
};

function adviceWithoutAdapter(): string {
  if (process.platform !== "linux") return "install the current driver of the GPU's vendor";
  // What driver/install.ts leaves for programs that are not Kilograd's own.
  const environment = `${cacheFolder()}/driver/env.sh`;
  if (existsSync(environment) && !process.env["LD_LIBRARY_PATH"]?.includes(`${cacheFolder()}/driver/`)) {
    return `start this program in a shell after \`. ${environment}\`, which leads to the driver that is installed there`;
  }
  return "install the GPU's Vulkan driver, or run `npx kilograd doctor --install-driver`: Mesa's software driver, without root rights";
}
