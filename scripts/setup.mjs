// Makes a fresh clone ready to run, doing only what is missing: node modules from the lock file, the build, a WebGPU
// adapter. Runs before every npm script that needs them; `node scripts/setup.mjs build` does the named steps only. It
// writes to stderr alone, so that a command's results are all there is on stdout. Plain JavaScript without
// dependencies: node_modules may not exist yet.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { sourceDigest, staleModules, versionAtLeast } from "./system.mjs";

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

const cacheFolder = "node_modules/.cache/kilograd";

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
    if (/\.(ts|js)$/.test(entry)) sources.push(join("src", entry));
  const digest = sourceDigest(sources.map((path) => [path, readFileSync(path, "utf8")]));
  if (existsSync("dist/cli.js") && recall("build", digest)) return;
  say(`build: ${existsSync("dist/cli.js") ? "older than the sources" : "absent"}; running tsc`);
  // Built aside and moved into place, so that a failed build leaves the last one and a removed source leaves nothing
  // behind.
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

async function findAdapter() {
  const { ensureAdapter } = await import("../dist/driver/install.js");
  await ensureAdapter(say);
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
    await step();
  }
} catch (error) {
  // The build's own errors have a code.
  if (!(error instanceof SetupError || error.code === "NO_ADAPTER" || error.code === "FILE_WRITE")) throw error;
  say(error.message);
  process.exitCode = 1;
}
