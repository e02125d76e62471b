// Measurements of code shapes (webgpu/tuning.ts) in the cache folder. Deleting the JSON file does no harm.
import { mkdir, readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { array, check, literal, object, pipe } from "valibot";
import { cacheFolder } from "../runtime/node-cache-folder.js";
import { number } from "../tensor/options.js";
import type { Measurements, TuningStore } from "../webgpu/tuning.js";
import { writeFileAtomic } from "./files.js";
import { parseJson, recordOf, ruled, text } from "./json.js";

const FORMAT = 1;

const measurement = pipe(
  object(
    {
      options: array(text, "a list of texts"),
      milliseconds: array(ruled<number>(number({ from: 0 })), "a list of times"),
      chosen: text,
    },
    "an object",
  ),
  check(({ options, chosen }) => options.includes(chosen), "one whose choice is among its options"),
  check(({ options, milliseconds }) => options.length === milliseconds.length, "one with a time of each option"),
);
const content = object(
  { format: literal(FORMAT, String(FORMAT)), measurements: recordOf(recordOf(measurement)) },
  "an object",
);

/** `tuning.json` in the cache folder, or in `folder`. */
export function tuningFile(folder = cacheFolder()): TuningStore & { readonly path: string } {
  const path = join(folder, "tuning.json");
  const processors = cpus();
  return {
    path,
    // A software adapter is the processor, and does not name it.
    machine: `${processors.length} x ${processors[0]?.model.trim() ?? "unknown processor"}`,
    async read() {
      const json = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return undefined;
        throw error;
      });
      if (json === undefined) return {};
      return parseJson(content, json, path).measurements;
    },
    async write(measurements: Measurements) {
      await mkdir(dirname(path), { recursive: true });
      await writeFileAtomic(path, `${JSON.stringify({ format: FORMAT, measurements }, null, 2)}\n`);
    },
  };
}
