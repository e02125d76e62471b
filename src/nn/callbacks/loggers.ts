// Figures of every epoch as lines of a file, written as training goes: CSV and JSONL.
import { writeLines } from "../../io/paths.js";
import { boolean, check, checkOptions, text } from "../../tensor/options.js";
import type { Callback } from "./callback.js";

export interface LoggerOptions {
  /** Adds to a file that is there instead of replacing it, for a resumed training; default false. */
  readonly append?: boolean;
}

/** One line per epoch, one column per figure, after a line with their names. */
export function csvLogger(path: string, options: LoggerOptions = {}): Callback {
  check("csvLogger", "path", path, text);
  const { append = false } = checkOptions("csvLogger", options, { append: boolean });
  let begun = append;
  return {
    name: "csvLogger",
    async onEpochEnd(epoch, logs) {
      const line = [epoch, ...Object.values(logs)].join(",");
      const header = ["epoch", ...Object.keys(logs)].join(",");
      await writeLines("csvLogger", path, begun ? `${line}\n` : `${header}\n${line}\n`, begun);
      begun = true;
    },
  };
}

/** One JSON object per epoch and line; figures that are not finite are null. */
export function jsonlLogger(path: string, options: LoggerOptions = {}): Callback {
  check("jsonlLogger", "path", path, text);
  const { append = false } = checkOptions("jsonlLogger", options, { append: boolean });
  let begun = append;
  return {
    name: "jsonlLogger",
    async onEpochEnd(epoch, logs) {
      await writeLines("jsonlLogger", path, `${JSON.stringify({ epoch, ...logs })}\n`, begun);
      begun = true;
    },
  };
}
