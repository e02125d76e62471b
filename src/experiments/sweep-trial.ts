// An experiment as a trial of a sweep: its settings are the parameters, its numbers the figures. Worker processes load
// it by this file.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Figures, TrialModule } from "../sweeps/executor.js";
import { namedDigest } from "../sweeps/trial-file.js";
import { object } from "../tensor/options.js";
import { runExperiment } from "./lib/frame/experiment.js";
import { registeredExperiment } from "./lib/frame/registry.js";

/** JSON that says which experiment is tried, and where. */
export interface SweptExperiment {
  readonly experiment: string;
  readonly preset: string;
  /** "name=value" each, for all trials. */
  readonly set: readonly string[];
  readonly dataDir?: string | undefined;
  /** Each trial has a folder in it. */
  readonly folder: string;
}

/** Digest of what is tried: the same on every machine. */
export const sweptDigest = ({ experiment, preset, set }: SweptExperiment): string =>
  namedDigest({ experiment, preset, set, precision: process.env["KILOGRAD_PRECISION"] || "float32" });

/** A parameter as `--set` takes it. */
export const settingText = (name: string, value: unknown): string =>
  `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`;

export async function load(given: SweptExperiment): Promise<TrialModule> {
  const { experiment: name, preset, set, dataDir, folder } = given;
  const { experiment } = await registeredExperiment(name).load();
  return {
    code: sweptDigest(given),
    async trial(config, { number, seed, signal, device }) {
      const out = join(folder, `trial-${number}`);
      const options = {
        ...{ preset, seed, out, resume: existsSync(join(out, "run.json")) },
        set: [...set, ...Object.entries(config).map(([setting, value]) => settingText(setting, value))],
        ...(dataDir !== undefined && { dataDir }),
      };
      const context = { openDevice: device, signal, say: () => {}, quiet: true };
      const { metrics } = await runExperiment(name, experiment, options, context);
      return { figures: figuresOf(metrics), value: { folder: `trial-${number}` } };
    },
  };
}

/** Figures of a trial at most: a report has a column for each in its CSV. */
const MOST_FIGURES = 300;
/** Longer lists are curves. */
const LONGEST_LIST = 16;
const NO_FIGURES = ["config", "images", "memory", "timing", "versions", "adapter", "seed"];

/** The numbers of a run's metrics by their paths: "factors.0.best". */
export function figuresOf(metrics: Readonly<Record<string, unknown>>): Figures {
  const figures: Record<string, number> = {};
  const visit = (path: string, value: unknown): void => {
    if (Object.keys(figures).length >= MOST_FIGURES) return;
    if (typeof value === "number") figures[path] = value;
    else if (Array.isArray(value) ? value.length <= LONGEST_LIST : object.accepts(value)) {
      for (const [name, part] of Object.entries(value as object)) visit(`${path}.${name}`, part);
    }
  };
  for (const [name, value] of Object.entries(metrics)) if (!NO_FIGURES.includes(name)) visit(name, value);
  return figures;
}
