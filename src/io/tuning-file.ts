// Keeps measurements of code shapes (tensor/tuning.ts) in the cache folder. Importing this file does; deleting the JSON
// file does no harm.
import { mkdir, readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { cacheFolder } from "../tensor/cache-folder.js";
import { type Measurements, provideTuningStore, type TuningStore } from "../tensor/tuning.js";
import { writeFileAtomic } from "./files.js";

const FORMAT = 1;

/** `tuning.json` in the cache folder, or in `folder`. */
export function tuningFile(folder = cacheFolder()): TuningStore & { readonly path: string } {
  const path = join(folder, "tuning.json");
  const processors = cpus();
  return {
    path,
    // A software adapter is the processor, and does not name it.
    machine: `${processors.length} x ${processors[0]?.model.trim() ?? "unknown processor"}`,
    async read() {
      const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return undefined;
        throw error;
      });
      if (text === undefined) return {};
      let content: { format?: unknown; measurements?: unknown } | null;
      try {
        content = JSON.parse(text);
      } catch (cause) {
        throw new Error(`${path} is not JSON`, { cause });
      }
      if (content?.format !== FORMAT) throw new Error(`${path} has format ${content?.format}, not ${FORMAT}`);
      return content.measurements;
    },
    async write(measurements: Measurements) {
      await mkdir(dirname(path), { recursive: true });
      await writeFileAtomic(path, `${JSON.stringify({ format: FORMAT, measurements }, null, 2)}\n`);
    },
  };
}

provideTuningStore(tuningFile());
