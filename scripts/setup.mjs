// Makes a fresh clone ready to run, doing only what is missing: node modules from the lock file, the build, a WebGPU adapter. Runs
// before every npm script that needs them; `node scripts/setup.mjs build` does the named steps only. It writes to stderr alone, so
// that a command's results are all there is on stdout. Plain JavaScript without dependencies: node_modules may not exist yet.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { backportsFile, describeSystem, driverPlan, sourceDigest, staleModules, versionAtLeast } from "./system.mjs";

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

const cacheFolder = "node_modules/.cache/kilograd";
const isRoot = process.getuid?.() === 0;

const say = (text) => process.stderr.write(`kilograd set-up: ${text}\n`);
const readText = (path) => (existsSync(path) ? readFileSync(path, "utf8") : undefined);

class SetupError extends Error {}

/** Runs a shell command with its output on stderr. */
function run(command) {
  const { status, signal } = spawnSync(command, { shell: true, stdio: ["ignore", 2, 2] });
  if (status !== 0)
    throw new SetupError(
      `"${command.split("\n")[0]}" failed (${signal ?? `exit code ${status}`}); its output is above`,
    );
}

/** Remembers `value` under `key` until the node modules are installed anew. */
function remember(name, key, value) {
  mkdirSync(cacheFolder, { recursive: true });
  const temporary = join(cacheFolder, `${name}.${process.pid}`);
  writeFileSync(temporary, JSON.stringify({ key, value }));
  renameSync(temporary, join(cacheFolder, `${name}.json`));
}

function recall(name, key) {
  const entry = JSON.parse(readText(join(cacheFolder, `${name}.json`)) ?? "{}");
  return entry.key === key ? entry.value : undefined;
}

function installModules() {
  const reason = staleModules(readFileSync("package-lock.json", "utf8"), readText("node_modules/.package-lock.json"));
  if (!reason) return;
  say(`node modules: ${reason}; running npm ci`);
  // No dependency needs its install script, so none runs.
  run("npm ci --include=dev --ignore-scripts --no-audit --no-fund");
}

function build() {
  const sources = ["tsconfig.json", "tsconfig.build.json"];
  for (const entry of readdirSync("src", { recursive: true }))
    if (entry.endsWith(".ts")) sources.push(join("src", entry));
  const digest = sourceDigest(sources.map((path) => [path, readFileSync(path, "utf8")]));
  if (existsSync("dist/cli.js") && recall("build", digest)) return;
  say(`build: ${existsSync("dist/cli.js") ? "older than the sources" : "absent"}; running tsc`);
  // Built aside and moved into place, so that a failed build leaves the last one and a removed source leaves nothing behind.
  const fresh = `build/dist-${process.pid}`;
  try {
    run(`node node_modules/typescript/bin/tsc -p tsconfig.build.json --outDir ${fresh}`);
    rmSync("dist", { recursive: true, force: true });
    renameSync(fresh, "dist");
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  remember("build", digest, true);
}

/** Everything that a change of adapter shows in without asking Dawn: its version, the driver folders and the loader's variables. */
function adapterKey() {
  const folders = ["/usr/share", "/usr/local/share", "/etc", "/usr/local/etc", join(homedir(), ".local/share")];
  const drivers = folders.map((folder) => join(folder, "vulkan/icd.d")).filter((folder) => existsSync(folder));
  const changed = drivers.map((folder) => [folder, statSync(folder).mtimeMs]);
  const variables = Object.entries(process.env).filter(([name]) => /^(VK_|DAWN|XDG_DATA)/.test(name));
  const { version } = JSON.parse(readFileSync("node_modules/webgpu/package.json", "utf8"));
  return JSON.stringify([version, process.platform, process.arch, changed, variables.sort()]);
}

/** The adapter that Dawn finds, or why it finds none, asked in a child process that may crash or hang. */
function probe() {
  const child = spawnSync(process.execPath, ["scripts/probe-adapter.mjs"], { encoding: "utf8", timeout: 60_000 });
  if (child.status === 0) return { adapter: JSON.parse(child.stdout.trim().split("\n").at(-1)) };
  return {
    failure: child.signal ? `the probe was ended by ${child.signal}: ${child.stderr.trim()}` : child.stderr.trim(),
  };
}

function findAdapter() {
  if (recall("adapter", adapterKey())) return;
  let { adapter, failure } = probe();
  if (!adapter) {
    say(`WebGPU adapter: none. Dawn says:\n${failure}`);
    installDriver();
    ({ adapter, failure } = probe());
    if (!adapter)
      throw new SetupError(`a Vulkan driver is installed, yet there is no WebGPU adapter. Dawn says:\n${failure}`);
  }
  say(`WebGPU adapter: ${adapter.description || adapter.device} (${adapter.vendor} ${adapter.architecture})`);
  remember("adapter", adapterKey(), adapter);
}

function aptSources() {
  const folder = "/etc/apt/sources.list.d";
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(list|sources)$/.test(name)) : [];
  const paths = ["/etc/apt/sources.list", ...names.map((name) => join(folder, name))];
  return paths.filter((path) => existsSync(path)).map((path) => ({ path, text: readFileSync(path, "utf8") }));
}

function installDriver() {
  const system = describeSystem({ platform: process.platform, osRelease: readText("/etc/os-release") });
  const { automatic, note, commands } = driverPlan({ system, isRoot, sources: aptSources() });
  const listing = commands.map((command) => `\n${command}`).join("");
  if (!automatic) throw new SetupError(`on ${system.name}: ${note}${listing}`);
  if (!isRoot && spawnSync("sudo", ["-n", "true"]).status !== 0) {
    throw new SetupError(`${system.name} needs ${note}. Installing it takes root rights; run:${listing}`);
  }
  say(`installing ${note}, by${listing}`);
  const hadBackports = existsSync(backportsFile);
  try {
    for (const command of commands) run(command);
  } catch (error) {
    // A source that does not answer would spoil every later apt-get update.
    if (!hadBackports && existsSync(backportsFile)) run(`${isRoot ? "" : "sudo "}rm ${backportsFile}`);
    throw error;
  }
}

const steps = { modules: installModules, build, adapter: findAdapter };
const minimumNode = "20.19";
try {
  if (!versionAtLeast(process.versions.node, minimumNode)) {
    throw new SetupError(`Node ${minimumNode} or later is required, this is ${process.versions.node}; see nodejs.org`);
  }
  const named = process.argv.slice(2);
  for (const name of named.length > 0 ? named : Object.keys(steps)) {
    const step = steps[name];
    if (!step) throw new SetupError(`unknown step "${name}"; the steps are ${Object.keys(steps).join(", ")}`);
    step();
  }
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
