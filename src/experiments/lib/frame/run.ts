// What every run has: its surroundings (device, signal, messages), what it says of the machine, and its folder of
// results.
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { readTextIfAny, writeFileAtomic, writeJson } from "../../../io/files.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import type { OpenDeviceOptions } from "../../../webgpu/open-device.js";
import type { Pictures } from "../report/grids.js";
import type { CommandOptions } from "../report/text.js";
import type { JobPlace, WorkerRun } from "./experiment.js";
import type { LiveState } from "./live.js";

/** Workers of this machine, or those of a queue where one is named. */
export interface JobWorkers {
  readonly workers: number;
  readonly queue?: string | undefined;
  readonly store?: string | undefined;
}

/** What a run is given by the command line. */
export interface RunContext {
  /** The adapter's device, opened when first asked for with these options. Whoever made the context destroys it. */
  readonly openDevice: (options?: Pick<OpenDeviceOptions, "tinyDispatches">) => Promise<WebGpuDevice>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Told whether there is something that an interrupted run would save; one that has nothing is ended at any time. */
  readonly savable?: (is: boolean) => void;
  /** Tells the user something while the run goes on; never part of the results. */
  readonly say: (message: string) => void;
  /** Where a browser looks on. */
  readonly live?: LiveState;
  /** Where jobs are done that are not the run's own; without it a run computes everything itself. */
  readonly jobWorkers?: (run: WorkerRun, where: JobWorkers, context: RunContext) => JobPlace;
  /** Whether progress is shown to nobody: that of a trial among many. */
  readonly quiet?: boolean;
}

/** A classifier's figures over a set of images. */
export interface Figures {
  /** Mean cross-entropy. */
  readonly loss: number;
  /** Share of right answers. */
  readonly accuracy: number;
}

const require = createRequire(import.meta.url);
const versionOf = (name: string): string => require(name).version;

/** Versions of this package and of what it ran on. */
export function versions(): Record<string, string> {
  return {
    kilograd: versionOf("kilograd/package.json"),
    node: process.versions.node,
    webgpu: versionOf("webgpu/package.json"),
  };
}

/**
 * Backend of Dawn in Node: the one that DAWNNODE_BACKEND names, else the system's own. Dawn offers adapters of that one
 * backend only, but does not tell which it is.
 */
export function backendName(): string {
  const named = process.env["DAWNNODE_BACKEND"];
  if (named) return named.toLowerCase();
  return { win32: "d3d12", darwin: "metal" }[process.platform as string] ?? "vulkan";
}

/** What the device is, for `metrics.json` and reports. */
export function describeAdapter({ adapter, profile, precision }: WebGpuDevice) {
  const { vendor, architecture, device, description } = adapter.info;
  return { description, device, vendor, architecture, backend: backendName(), profile: profile.family, precision };
}

/** The option of every command that has the device compute as this one does; none where that is the default. */
export function precisionOption({ precision }: WebGpuDevice): CommandOptions {
  return { precision: precision === "float32" ? undefined : precision };
}

/** One line about the machine, for the foot of reports. */
export function machineText(device: WebGpuDevice): string {
  const { description, device: name, profile } = describeAdapter(device);
  return `${description || name} (${profile} profile), Node ${process.versions.node}, Kilograd ${versions()["kilograd"]}`;
}

/** What a run leaves in its folder, besides what it wrote before. */
export interface RunResults {
  /** By file name. */
  readonly pictures: Pictures;
  readonly report: string;
  readonly metrics: Readonly<Record<string, unknown>>;
}

/**
 * Writes pictures, report.html and, last, metrics.json: where that is there and names a picture, the picture is there.
 * Pictures that an earlier run in the same folder left are removed.
 */
export async function writeResults(folder: string, { pictures, report, metrics }: RunResults): Promise<void> {
  const metricsPath = join(folder, "metrics.json");
  const stale = (await picturesOf(metricsPath)).filter((name) => !pictures.has(name));
  for (const [name, content] of pictures) await writeFileAtomic(join(folder, name), content);
  await writeFileAtomic(join(folder, "report.html"), report);
  await writeJson(metricsPath, metrics);
  for (const name of stale) await rm(join(folder, name), { force: true });
}

/** File names of the pictures that an earlier run wrote, by its metrics.json. */
async function picturesOf(metricsPath: string): Promise<string[]> {
  const images: unknown = parsed((await readTextIfAny(metricsPath)) ?? "")?.["images"];
  if (!Array.isArray(images)) return [];
  // Only names that a run gives: nothing outside of the folder, whatever the file says.
  return images.flatMap((image) => (/^[\w+-]+\.(png|svg)$/.test(String(image?.file)) ? [String(image.file)] : []));
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not ours; it is replaced.
  }
}
