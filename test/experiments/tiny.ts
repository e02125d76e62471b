// Runs an experiment's script with tiny settings on the built-in digits, into a folder of its own.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import {
  type Experiment,
  type ExperimentOptions,
  runExperiment,
  type Settings,
} from "../../src/experiments/lib/frame/experiment.js";
import type { RunContext } from "../../src/experiments/lib/frame/run.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";

/** Call at the top of a test file: opens a device before its tests and removes everything after them. */
export function tinyRuns() {
  let device: WebGpuDevice;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-experiment-"));
    device = await openDevice("webgpu");
  });
  afterAll(() => {
    device.destroy();
    rmSync(folder, { recursive: true });
  });
  const contextOf = ({ signal, onSay }: { readonly signal?: AbortSignal; readonly onSay?: (text: string) => void }) => {
    const said: string[] = [];
    const context: RunContext = {
      openDevice: async () => device,
      signal: signal ?? new AbortController().signal,
      say: (text) => {
        said.push(text);
        onSay?.(text);
      },
    };
    return { said, context };
  };
  return {
    at: (name: string) => join(folder, name),
    context: contextOf,
    /** Runs `experiment`; gives its results, the report and everything it said. */
    async run<S extends Settings>(
      experiment: Experiment<S>,
      { signal, onSay, ...options }: ExperimentOptions & Parameters<typeof contextOf>[0],
    ) {
      const { said, context } = contextOf({ ...(signal && { signal }), ...(onSay && { onSay }) });
      const asked = { out: join(folder, "out"), ...options };
      const results = await runExperiment("tiny", experiment as unknown as Experiment, asked, context);
      const report = readFileSync(join(results.folder, "report.html"), "utf8");
      const titles = [...report.matchAll(/<svg class="kilograd-chart" role="img" aria-label="([^"]*)"/g)].map(
        (m) => m[1],
      );
      expect(new Set(titles).size, `titles of charts differ: ${titles.join("; ")}`).toBe(titles.length);
      const sections = [...report.matchAll(/<h2>([^<]*)<\/h2>/g)].map((m) => m[1]!);
      for (const [, shown] of report.matchAll(/ Shown in “([^”]*)”\.<\/p>/g)) expect(sections).toContain(shown);
      const metrics = JSON.parse(readFileSync(join(results.folder, "metrics.json"), "utf8"));
      return { ...results, report, metrics, said: said.join("\n") };
    },
  };
}
