// Which WebGPU adapter a process will find, and with which environment it has to be started for that. An adapter of the
// system comes first, whatever else is installed. The answer takes a second of driver loading, so it is remembered in
// the cache folder.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as v from "valibot";
import { writeFileAtomic } from "../io/files.js";
import { cacheFolder } from "../runtime/node-cache-folder.js";
import { userDriver, type Variables, waysToAdapter } from "./user-driver.js";

const Adapter = v.object({
  vendor: v.string(),
  architecture: v.string(),
  device: v.string(),
  description: v.string(),
});
export type Adapter = v.InferOutput<typeof Adapter>;

/** What Dawn finds: an adapter and the variables it takes, or why there is none. */
export type Finding =
  | { readonly adapter: Adapter; readonly variables: Variables; readonly remembered: boolean }
  | { readonly failure: string };

// A program of its own, because a broken driver may crash the process that loads it. Its text is here, not in a file,
// so that it runs from the sources and from the build alike. The first argument is the address of the `webgpu` module.
const PROBE = `
const { create, globals } = await import(process.argv[1]);
Object.assign(globalThis, globals);
globalThis.gpu = create([]); // Dawn lives as long as this object does.
const adapter = await globalThis.gpu.requestAdapter();
const fail = (reason) => { console.error(reason); process.exit(1); };
if (!adapter) fail("Dawn finds no adapter");
const { vendor, architecture, device, description } = adapter.info;
if (device === "null-backend") fail("Dawn offers its null backend only, which computes nothing");
await adapter.requestDevice();
process.stdout.write("\\n" + JSON.stringify({ vendor, architecture, device, description }) + "\\n", () => process.exit(0));
`;

const require = createRequire(import.meta.url);

/**
 * The adapter that a process with these variables finds, asked in a child process that may crash or hang; or why it
 * finds none.
 */
export function probe(variables: Variables): { readonly adapter: Adapter } | { readonly failure: string } {
  const module = pathToFileURL(require.resolve("webgpu")).href;
  const { status, signal, stdout, stderr, error } = spawnSync(
    process.execPath,
    ["--input-type=module", "--eval", PROBE, module],
    { encoding: "utf8", timeout: 60_000, env: { ...process.env, ...variables } },
  );
  if (status === 0) return { adapter: v.parse(Adapter, JSON.parse(stdout.trim().split("\n").at(-1)!)) };
  if (error !== undefined) return { failure: `the probe did not end by itself: ${error.message}` };
  return { failure: signal ? `the probe was ended by ${signal}: ${stderr.trim()}` : stderr.trim() };
}

/** The first way that leads to an adapter, remembered until anything changes that decides it. */
export async function findAdapter(ask = probe): Promise<Finding> {
  const driver = userDriver();
  const ways = waysToAdapter(driver);
  const key = adapterKey(driver?.folder);
  const known = recall(key);
  const way = ways.find(({ name }) => name === known?.way);
  if (known && way) return { adapter: known.adapter, variables: way.variables, remembered: true };
  let failure = "";
  for (const { name, variables } of ways) {
    const found = ask(variables);
    if ("adapter" in found) {
      await remember({ key, way: name, adapter: found.adapter });
      return { adapter: found.adapter, variables, remembered: false };
    }
    // What the last way says is what matters: it has the most to work with.
    failure = found.failure;
  }
  return { failure };
}

/**
 * The variables that a process has to be started with; none where the system has an adapter, or where nothing leads to
 * one.
 */
export async function adapterVariables(): Promise<Variables> {
  if (userDriver() === undefined) return {};
  const found = await findAdapter();
  return "adapter" in found ? found.variables : {};
}

/**
 * Everything that a change of adapter shows in without asking Dawn: its version, drivers, libraries, GPUs, the loader's
 * variables.
 */
function adapterKey(folder: string | undefined): string {
  const folders = ["/usr/share", "/usr/local/share", "/etc", "/usr/local/etc", join(homedir(), ".local/share")];
  // The linker's cache changes with every library that is installed.
  const watched = [...folders.map((path) => join(path, "vulkan/icd.d")), "/etc/ld.so.cache"];
  const changed = watched.filter((path) => existsSync(path)).map((path) => [path, statSync(path).mtimeMs]);
  const nodes = ["/dev", "/dev/dri"].filter((path) => existsSync(path)).flatMap((path) => readdirSync(path));
  const gpus = nodes.filter((name) => /^(nvidia|card|renderD|dxg)/.test(name)).sort();
  const variables = Object.entries(process.env).filter(([name]) =>
    /^(VK_|DAWN|XDG_(DATA|CONFIG)|LD_LIBRARY_PATH)/.test(name),
  );
  const { version } = require("webgpu/package.json");
  const { platform, arch } = process;
  return JSON.stringify([version, platform, arch, changed, gpus, variables.sort(), folder ?? null]);
}

const Memory = v.object({ key: v.string(), way: v.string(), adapter: Adapter });
const memoryFile = () => join(cacheFolder(), "adapter.json");

function recall(key: string): v.InferOutput<typeof Memory> | undefined {
  if (!existsSync(memoryFile())) return undefined;
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(memoryFile(), "utf8"));
  } catch {
    return undefined; // Asked again and written anew.
  }
  const memory = v.safeParse(Memory, content);
  return memory.success && memory.output.key === key ? memory.output : undefined;
}

async function remember(memory: v.InferOutput<typeof Memory>): Promise<void> {
  try {
    mkdirSync(cacheFolder(), { recursive: true });
    await writeFileAtomic(memoryFile(), JSON.stringify(memory));
  } catch {
    // A cache folder that cannot be written costs a second at every start, no more.
  }
}
