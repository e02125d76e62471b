// `npm run test:runtimes [-- NAME ...]`: runs runtime-tests/check.mjs against the build in Node 20, 22, 24 and 26, Bun and Deno, and prints
// a table. The runtimes are packages of the npm registry at the versions below, installed in a temporary folder that goes afterwards.
// Where the registry cannot be reached they are skipped, which is said.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startWithAdapter } from "../dist/driver/launch.js";

const system = { win32: "win" }[process.platform] ?? process.platform;
const node = (version) => ({
  package: `node-${system}-${process.arch}@${version}`,
  program: system === "win" ? "bin/node.exe" : "bin/node",
  args: [],
});
const bunArch = process.arch === "arm64" ? "aarch64" : process.arch;
const bunSystem = { win32: "windows" }[process.platform] ?? process.platform;
const libc = process.platform === "linux" ? "-glibc" : "";
const end = process.platform === "win32" ? ".exe" : "";
const runtimes = {
  // The oldest that package.json allows.
  "node-20": node("20.19.0"),
  "node-22": node("22.23.5"),
  "node-24": node("24.22.3"),
  "node-26": node("26.12.1"),
  bun: { package: `@oven/bun-${bunSystem}-${bunArch}@1.4.5`, program: `bin/bun${end}`, args: ["run"] },
  deno: {
    package: `@deno/${process.platform}-${process.arch}${libc}@2.9.6`,
    program: `deno${end}`,
    // It takes what npm has installed.
    args: ["run", "--allow-all", "--node-modules-dir=manual", "--no-lock"],
  },
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in runtimes));
if (unknown.length > 0) {
  console.error(`test-runtimes: unknown runtime "${unknown[0]}"; there are ${Object.keys(runtimes).join(", ")}`);
  process.exit(2);
}
// The runtimes inherit the environment that the adapter takes.
await startWithAdapter();

let failed = false;
for (const name of names.length > 0 ? names : Object.keys(runtimes)) {
  const { package: wanted, program, args } = runtimes[name];
  const folder = mkdtempSync(join(tmpdir(), "kilograd-runtimes-"));
  try {
    const install = [
      "install",
      "--prefix",
      folder,
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      "--no-save",
      "--loglevel=error",
      "--fetch-retry-mintimeout=1000",
    ];
    // npm is a script, which Windows starts by a shell only.
    const npm = spawnSync("npm", [...install, wanted], {
      encoding: "utf8",
      stdio: ["ignore", 2, "pipe"],
      timeout: 300_000,
      shell: process.platform === "win32",
    });
    if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT/.test(npm.stderr)) {
      console.log(
        `${wanted.padEnd(32)} skipped, and what follows: npm's registry cannot be reached\n${npm.stderr.trim()}`,
      );
      break;
    }
    if (npm.status !== 0) throw new Error(`npm did not install it: ${npm.error?.message ?? npm.stderr.trim()}`);
    const path = join(folder, "node_modules", wanted.replace(/(?<=.)@[^@]*$/, ""), program);
    const begun = performance.now();
    const { status, signal, stdout, stderr, error } = spawnSync(path, [...args, "runtime-tests/check.mjs"], {
      encoding: "utf8",
      timeout: 300_000,
    });
    if (status !== 0) throw new Error(`${error?.message ?? signal ?? `exit code ${status}`}\n${stdout}${stderr}`);
    const { adapter, errors, wrong } = JSON.parse(stdout.trim().split("\n").at(-1));
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    const largest = Object.entries(errors).map(([what, value]) => `${what} ${value.toExponential(0)}`);
    if (wrong.length > 0) throw new Error(`wrong: ${wrong.join(", ")} (${largest.join(", ")})`);
    console.log(`${wanted.padEnd(32)} passed  ${seconds.padStart(5)} s  ${largest.join(", ")}  [${adapter}]`);
  } catch (problem) {
    failed = true;
    console.log(`${wanted.padEnd(32)} FAILED  ${problem.message}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
if (failed) process.exitCode = 1;
