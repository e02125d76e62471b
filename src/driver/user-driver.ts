// A Vulkan driver of the user's own: packages unpacked in the cache folder, found through environment variables that a
// process must be started with. This file knows where it lies and what these variables are; install.ts puts it there.
// Linux only.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { cacheFolder } from "../runtime/node-cache-folder.js";
import { describeSystem, type System } from "./system.js";

/** Environment variables by name. */
export type Variables = Readonly<Record<string, string>>;

const Installed = v.object({
  format: v.literal(1),
  /** Name of the folder beside this record. */
  folder: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  /** What the packages were made for; libraries of one release say nothing on another. */
  release: v.string(),
  architecture: v.string(),
  /** Version by package. */
  packages: v.record(v.string(), v.string()),
  /** Paths in the folder: the drivers' manifests, and the folders of their libraries. */
  manifests: v.array(v.string()),
  libraries: v.array(v.string()),
});
/** What driver/installed.json holds. */
export type Installed = v.InferOutput<typeof Installed>;

export interface UserDriver extends Installed {
  /** Absolute. */
  readonly path: string;
}

/** Where drivers are kept: `driver` in the cache folder. */
export const driversFolder = (): string => join(cacheFolder(), "driver");

/** The system that this process runs on. */
export function thisSystem(): System {
  const file = "/etc/os-release";
  return describeSystem({
    platform: process.platform,
    osRelease: existsSync(file) ? readFileSync(file, "utf8") : undefined,
  });
}

/** The installed driver; undefined where there is none, or none that is whole and made for this system. */
export function userDriver(): UserDriver | undefined {
  if (process.platform !== "linux") return undefined;
  const record = join(driversFolder(), "installed.json");
  if (!existsSync(record)) return undefined;
  const installed = parsed(readFileSync(record, "utf8"));
  if (installed === undefined) return undefined; // Not ours; an installation replaces it.
  if (installed.release !== thisSystem().release || installed.architecture !== process.arch) return undefined;
  const path = join(driversFolder(), installed.folder);
  const parts = [...installed.manifests, ...installed.libraries];
  return parts.every((part) => existsSync(join(path, part))) ? { ...installed, path } : undefined;
}

function parsed(text: string): Installed | undefined {
  try {
    return v.parse(Installed, JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Whether a process with this environment finds the driver's libraries. */
export function isInUse(driver: UserDriver, environment: NodeJS.ProcessEnv = process.env): boolean {
  const paths = environment["LD_LIBRARY_PATH"]?.split(":") ?? [];
  return driver.libraries.every((folder) => paths.includes(join(driver.path, folder)));
}

/** The installed driver where this process was started with it. */
export function driverInUse(): UserDriver | undefined {
  const driver = userDriver();
  return driver && isInUse(driver) ? driver : undefined;
}

/**
 * The ways to an adapter, the preferred one first: the system as it is; the system's drivers by our loader (a GPU's
 * driver without libvulkan1 is such a case); our drivers by our loader. A VK_DRIVER_FILES that the user set is never
 * overruled.
 */
export function waysToAdapter(
  driver: UserDriver | undefined,
  environment: NodeJS.ProcessEnv = process.env,
): readonly { readonly name: "system" | "loader" | "driver"; readonly variables: Variables }[] {
  if (driver === undefined || isInUse(driver, environment)) return [{ name: "system", variables: {} }];
  const folders = driver.libraries.map((folder) => join(driver.path, folder));
  const libraries = [...folders, ...foreignLibraries(environment)].join(":");
  const loader = { LD_LIBRARY_PATH: libraries };
  // Read as the program starts, unlike VK_DRIVER_FILES; the older name is the only one that loaders before 1.3.207
  // know.
  const files = driver.manifests.map((file) => join(driver.path, file)).join(":");
  const ours = { ...loader, VK_DRIVER_FILES: files, VK_ICD_FILENAMES: files };
  return [
    { name: "system", variables: {} },
    { name: "loader", variables: loader },
    ...(files === "" || namedDrivers(environment) !== undefined ? [] : [{ name: "driver", variables: ours } as const]),
  ];
}

/** The variable by which the user names the drivers to use; undefined where none does. */
export function namedDrivers(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  return DRIVER_NAMES.find((name) => environment[name] && !isOurs(environment[name]));
}

/** Takes out of an environment what a driver of ours added to it. */
export function leaveDriver(environment: NodeJS.ProcessEnv = process.env): void {
  for (const name of DRIVER_NAMES) if (isOurs(environment[name] ?? "")) delete environment[name];
  const libraries = foreignLibraries(environment);
  if (libraries.length > 0) environment["LD_LIBRARY_PATH"] = libraries.join(":");
  else delete environment["LD_LIBRARY_PATH"];
}

const DRIVER_NAMES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
const isOurs = (path: string) => path.startsWith(`${driversFolder()}/`);
const foreignLibraries = (environment: NodeJS.ProcessEnv) =>
  (environment["LD_LIBRARY_PATH"] ?? "").split(":").filter((path) => path !== "" && !isOurs(path));
