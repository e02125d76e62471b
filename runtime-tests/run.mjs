// `npm run test:runtimes [-- NAME ...]`: the package as npm packs it, in Node 20, 22, 24 and 26, Bun, Deno (with Dawn,
// and with its own WebGPU) and Chromium (in a page and in a worker); prints a table. check.js is what each has to get
// right. Runtimes and bundlers are packages of npm's registry at the versions below, in a temporary folder that goes
// afterwards; Chromium is the system's. What cannot be had is skipped, by name.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { startWithAdapter } from "../dist/driver/launch.js";

const system = { win32: "win" }[process.platform] ?? process.platform;
const end = process.platform === "win32" ? ".exe" : "";
const node = (version) => ({
  package: `node-${system}-${process.arch}@${version}`,
  program: system === "win" ? "bin/node.exe" : "bin/node",
  args: ["node.js"],
});
const bunArch = process.arch === "arm64" ? "aarch64" : process.arch;
const bunSystem = { win32: "windows" }[process.platform] ?? process.platform;
const libc = process.platform === "linux" ? "-glibc" : "";
const deno = {
  package: `@deno/${process.platform}-${process.arch}${libc}@2.9.6`,
  program: `deno${end}`,
  // It takes what npm has installed.
  args: ["run", "--allow-all", "--node-modules-dir=manual", "--no-lock", "--unstable-webgpu", "node.js"],
};
const runtimes = {
  // The oldest that package.json allows.
  "node-20": node("20.19.0"),
  "node-22": node("22.23.5"),
  "node-24": node("24.22.3"),
  "node-26": node("26.12.1"),
  bun: { package: `@oven/bun-${bunSystem}-${bunArch}@1.4.5`, program: `bin/bun${end}`, args: ["run", "node.js"] },
  deno,
  "deno-own-webgpu": { ...deno, args: [...deno.args, "navigator"] },
  chromium: { package: "vite@8.3.8", program: "bin/vite.js", browser: true },
};
const browsers = [
  process.env.KILOGRAD_CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];
const DEADLINE_MS = 300_000;

class Skipped extends Error {}

const folder = mkdtempSync(join(tmpdir(), "kilograd-runtimes-"));
const removeFolder = () => rmSync(folder, { recursive: true, force: true });
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    removeFolder();
    process.exit(1);
  });
}

/** Runs npm in a folder. @throws Skipped where its registry cannot be reached */
function npm(where, ...args) {
  const { status, stderr, error } = spawnSync("npm", args, {
    cwd: where,
    encoding: "utf8",
    stdio: ["ignore", "ignore", "pipe"],
    timeout: DEADLINE_MS,
    // npm is a script, which Windows starts by a shell only.
    shell: process.platform === "win32",
  });
  if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT/.test(stderr)) {
    throw new Skipped(`npm's registry cannot be reached: ${stderr.trim().split("\n")[0]}`);
  }
  if (status !== 0) throw new Error(`npm ${args[0]} failed: ${error?.message ?? stderr.trim()}`);
}

const install = (where, ...packages) =>
  npm(
    where,
    "install",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--prefer-offline",
    "--fetch-retry-mintimeout=1000",
    ...packages,
  );

/** A project that has the package installed, as a user has it. */
function makeProject() {
  const project = join(folder, "project");
  cpSync("runtime-tests", project, { recursive: true });
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
  // The build is there already.
  npm(process.cwd(), "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder);
  install(
    project,
    join(
      folder,
      readdirSync(folder).find((name) => name.endsWith(".tgz")),
    ),
  );
  return project;
}

/** The path of a package's program, which is installed in a folder of its own. */
function installed({ package: wanted, program }) {
  const name = wanted.replace(/(?<=.)@[^@]*$/, "");
  const where = join(folder, name.replaceAll("/", "+"));
  if (!existsSync(where)) {
    mkdirSync(where);
    writeFileSync(join(where, "package.json"), "{}");
    install(where, wanted);
  }
  return join(where, "node_modules", name, program);
}

function run(program, args, options) {
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, {
    encoding: "utf8",
    timeout: DEADLINE_MS,
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(`${error?.message ?? signal ?? `exit code ${status}`}\n${stdout}${stderr}`);
}

/** What the check found, by the place where it ran. */
async function results(runtime, project) {
  if (!runtime.browser) {
    const stdout = run(installed(runtime), runtime.args, { cwd: project });
    return { "": JSON.parse(stdout.trim().split("\n").at(-1)) };
  }
  const browser = browsers.find((path) => path && existsSync(path));
  if (browser === undefined) throw new Skipped("Chromium is not installed; KILOGRAD_CHROMIUM may name it");
  const site = join(folder, "site");
  // With no configuration at all; esbuild's bundle is not run, its errors are what is asked for.
  run(process.execPath, [installed(runtime), "build", "--outDir", site, "--logLevel", "warn"], {
    cwd: join(project, "browser"),
  });
  run(
    installed({ package: "esbuild@0.28.2", program: "bin/esbuild" }),
    ["check.js", "--bundle", "--format=esm", "--outfile=bundle.js"],
    { cwd: project },
  );
  if (/["']node:/.test(readFileSync(join(project, "bundle.js"), "utf8")))
    throw new Error("esbuild's bundle names node:");
  return inBrowser(browser, site);
}

/** Shows a built page to a browser without a window, and waits for what page and worker tell. */
async function inBrowser(browser, site) {
  const found = {};
  const { promise, resolve, reject } = Promise.withResolvers?.() ?? deferred();
  const types = { ".html": "text/html", ".js": "text/javascript" };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    if (request.method === "POST") {
      let text = "";
      for await (const piece of request) text += piece;
      const result = JSON.parse(text);
      found[path.split("/").at(-1)] = result;
      response.end();
      if (result.failure !== undefined) reject(new Error(`in the ${path.split("/").at(-1)}: ${result.failure}`));
      if (found.page && found.worker) resolve(found);
      return;
    }
    const file = join(site, path === "/" ? "index.html" : path);
    if (!existsSync(file)) return void response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" });
    response.end(readFileSync(file));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  // SwiftShader, which Chromium brings along: a GPU's driver need not be there.
  const flags = ["--headless=new", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--no-first-run"];
  const rights = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const profile = `--user-data-dir=${join(folder, "chromium")}`;
  const child = spawn(browser, [...flags, ...rights, profile, `http://127.0.0.1:${server.address().port}/`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (text) => {
    said = (said + text).slice(-4000);
  });
  const gone = new Promise((exited) => child.once("exit", exited));
  child.once("error", reject);
  child.once("exit", (code) => reject(new Error(`Chromium ended with code ${code} before it was done\n${said}`)));
  const timer = setTimeout(() => reject(new Error(`no answer within ${DEADLINE_MS / 1000} s\n${said}`)), DEADLINE_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    child.kill();
    await gone;
    server.closeAllConnections();
    server.close();
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in runtimes));
if (unknown.length > 0) {
  console.error(`test:runtimes: unknown runtime "${unknown[0]}"; there are ${Object.keys(runtimes).join(", ")}`);
  process.exit(2);
}
// The runtimes inherit the environment that the adapter takes.
await startWithAdapter();

try {
  let project;
  for (const name of names.length > 0 ? names : Object.keys(runtimes)) {
    const runtime = runtimes[name];
    const begun = performance.now();
    const line = (where, outcome) => {
      const what = runtime.browser ? name : `${name} (${runtime.package})`;
      console.log(`${`${what} ${where}`.padEnd(48)} ${outcome}`);
    };
    try {
      project ??= makeProject();
      for (const [where, { adapter, errors, wrong }] of Object.entries(await results(runtime, project))) {
        const largest = Object.entries(errors).map(([what, value]) => `${what} ${value.toExponential(0)}`);
        if (wrong.length > 0) throw new Error(`${where} wrong: ${wrong.join(", ")} (${largest.join(", ")})`);
        const seconds = ((performance.now() - begun) / 1000).toFixed(1);
        line(where, `passed  ${seconds.padStart(5)} s  ${largest.join(", ")}  [${adapter}]`);
      }
    } catch (problem) {
      if (!(problem instanceof Skipped)) process.exitCode = 1;
      line("", `${problem instanceof Skipped ? "skipped" : "FAILED"}  ${problem.message}`);
    }
  }
} finally {
  removeFolder();
}
