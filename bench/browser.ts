// `npm run bench:browser`: training steps and prediction in one page of Chromium without a window, by Kilograd and by
// TensorFlow.js on its WebGPU and Wasm backends. The adapter is the one that Chromium brings along, SwiftShader, unless
// `-- --adapter default`. All begin with the same weights and take the same batches. What a contender computes is held
// to ours before anything is timed; then all take turns, round after round. A contender that does not answer is told by
// name, and the others begin again in a new page without it.
//
// `-- --families` has both of our kernel families take part, `--out FILE` writes the figures, `--quick` takes fewer
// turns. KILOGRAD_CHROMIUM is the path of another Chromium.
import { existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { availableParallelism, cpus } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { Option, program } from "commander";
import { type Browser, chromium, type Page } from "playwright-core";
import { build } from "vite";
import { writeFileAtomic } from "../src/io/files.js";
import { temporaryFolder, undoing } from "./cleanup.js";
import { type ContenderReport, relativeDistance } from "./contender-process.js";
import { median, tableLine } from "./harness.js";
import { packed } from "./packed.js";
import { installPeers, peers } from "./peers-folder.js";
import { makeTask, type Task, type TaskSpec, withWeights, workloads, writeTask } from "./workloads.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const OURS = "Kilograd, WebGPU";
const FAMILIES = ["Kilograd, software", "Kilograd, hardware"];
const TFJS = ["tfjs, WebGPU", "tfjs, Wasm"];
/** How many times as fast as each of tfjs's backends a step of small-cnn is meant to be. */
const BARS: Readonly<Record<string, number>> = { "tfjs, WebGPU": 5, "tfjs, Wasm": 2 };

const ROUNDS = { most: 9, quick: 3, least: 3 };
/** Of a contender that needs more in all, no more than the least number of turns are taken. */
const SLOW_MS = 20_000;
/** Time of a contender's run in a round, in which it takes as many steps as fit, at least one. */
const RUN_MS = 1000;
const CHECK_STEPS = 3;
/**
 * How far from ours a contender's steps may lead: losses and probabilities; trained weights by distance, relative to
 * the way gone.
 */
const TOLERANCE = { loss: 1e-4, result: 2e-2, prediction: 1e-4 };
/** A contender that has not answered after so long is left out; compiling on a busy machine takes minutes. */
const PATIENCE_MS = 300_000;

interface Checked {
  readonly losses: readonly number[];
  readonly result: readonly number[];
}
/** What the page gives (browser/page.mjs). */
interface Bench {
  adapter(): Promise<Readonly<Record<string, unknown>>>;
  start(name: string): Promise<string>;
  check(name: string, rates: readonly number[]): Promise<Checked>;
  run(name: string, steps: number): Promise<{ readonly ms: number; readonly steps: number }>;
  end(name: string): Promise<void>;
}

/** Of prediction, times are per 1,024 pictures. */
interface Report extends ContenderReport {
  /** Least times over ours. */
  readonly leastRatio?: number;
}

const types: Readonly<Record<string, string>> = {
  ...{ ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".wasm": "application/wasm" },
  ".json": "application/json",
};

/** Serves a site, and folders by the first part of the path, in isolation: so a page has threads for Wasm. */
async function serve(site: string, folders: Readonly<Record<string, string>>) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, "http://localhost");
    const [, first = "", rest = ""] = /^\/([^/]*)\/(.*)$/.exec(decodeURIComponent(pathname)) ?? [];
    const path = join(folders[first] ?? site, normalize(first in folders ? `/${rest}` : decodeURIComponent(pathname)));
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return void response.writeHead(404).end();
    response.writeHead(200, {
      "content-type": types[extname(path)] ?? "application/octet-stream",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    });
    response.end(readFileSync(path));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

async function launch(adapter: string): Promise<Browser> {
  const executablePath = [process.env["KILOGRAD_CHROMIUM"], "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
    (path) => path !== undefined && existsSync(path),
  );
  if (executablePath === undefined) throw new Error("bench:browser needs Chromium; set KILOGRAD_CHROMIUM to its path");
  return chromium.launch({
    executablePath,
    args: [
      "--enable-unsafe-webgpu",
      ...(adapter === "swiftshader" ? ["--use-webgpu-adapter=swiftshader"] : []),
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    ],
  });
}

/** A contender that does not answer: what it was to do may be on its way for ever, so its page is of no more use. */
class NoAnswer extends Error {}

/** Calls a function of the page. @throws NoAnswer after {@link PATIENCE_MS} */
async function ask<Name extends keyof Bench>(page: Page, name: Name, ...args: Parameters<Bench[Name]>) {
  const answer = page.evaluate(
    ([name, args]) =>
      (globalThis as unknown as { bench: Record<string, (...args: unknown[]) => unknown> }).bench[name]!(...args),
    [name, args] as [string, unknown[]],
  ) as ReturnType<Bench[Name]>;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new NoAnswer(`no answer to "${name}" within ${PATIENCE_MS / 1000} s`);
    timer = setTimeout(() => reject(error), PATIENCE_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Opens the page; what goes wrong on it and is no contender's answer goes to stderr. */
async function openPage(browser: Browser, address: string): Promise<Page> {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", ({ message, stack }) => console.error(stack ?? message));
  page.on("console", (message) => {
    if (message.type() === "error") console.error(message.text());
  });
  page.on("crash", () => console.error("the page has crashed"));
  await page.goto(`${address}index.html`);
  await page.waitForFunction(() => "bench" in globalThis);
  return page;
}

const beginningOf = ({ spec, weights }: Task) =>
  packed(spec.weights.flatMap(({ name, trainable }) => (trainable ? [weights!.get(name)!] : [])));

/** Throws what a contender's first steps have that ours have not. */
function differenceOf({ losses, result }: Checked, ours: Checked, task: Task) {
  const training = task.spec.kind === "train";
  const from = training ? beginningOf(task) : undefined;
  return {
    loss: Math.max(0, ...losses.map((loss, i) => Math.abs(loss / ours.losses[i]! - 1))),
    result: relativeDistance(Float32Array.from(result), Float32Array.from(ours.result), from),
  };
}

/** Compares in one page after the other, until all that are left answer. */
async function compare(browser: Browser, address: string, task: Task, quick: boolean): Promise<Report[]> {
  const silent: Report[] = [];
  for (;;) {
    const page = await openPage(browser, address);
    const left = names.filter((name) => !silent.some(({ contender }) => contender === name));
    let asked = left[0]!;
    const tell = (name: string) => {
      asked = name;
    };
    try {
      const reports = await compareIn(page, task, left, { quick, tell });
      return names.map((name) => [...reports, ...silent].find(({ contender }) => contender === name)!);
    } catch (error) {
      // Without ours there is nothing to compare with.
      if (!(error instanceof NoAnswer) || asked === OURS) throw error;
      console.error(`${asked}: ${error.message}`);
      silent.push({ contender: asked, failure: error.message });
    } finally {
      // A page whose thread is busy for ever does not close.
      void page.close().catch(() => {});
    }
  }
}

/** @param tell is told who is about to be asked. @throws NoAnswer */
async function compareIn(
  page: Page,
  task: Task,
  names: readonly string[],
  { quick, tell }: { readonly quick: boolean; readonly tell: (name: string) => void },
): Promise<Report[]> {
  const training = task.spec.kind === "train";
  const rates = Array.from({ length: CHECK_STEPS }, () => task.spec.optimizer.learningRate);
  const running: { name: string; steps: number; times: number[]; report: Report }[] = [];
  const failed: Report[] = [];
  let ours: Checked | undefined;
  for (const name of names) {
    let report: Report = { contender: name };
    tell(name);
    try {
      const begun = performance.now();
      report = { ...report, with: await ask(page, "start", name) };
      const checked = await ask(page, "check", name, rates);
      ours ??= checked;
      const difference = differenceOf(checked, ours, task);
      report = { ...report, firstStepsMs: performance.now() - begun, difference };
      const most = training ? TOLERANCE.result : TOLERANCE.prediction;
      if (!(difference.loss <= TOLERANCE.loss && difference.result <= most)) throw new Error("differs");
      const warm = await ask(page, "run", name, 1);
      const steps = Math.max(1, Math.min(200, Math.round((RUN_MS * warm.steps) / warm.ms)));
      running.push({ name, steps, times: [], report });
    } catch (error) {
      if (error instanceof NoAnswer) throw error;
      failed.push({ ...report, failure: (error as Error).message.replace("page.evaluate: ", "").split("\n")[0]! });
      await ask(page, "end", name).catch((error) => console.error(`${name}: ${error.message}`));
    }
  }
  for (let round = 0; round < ROUNDS[quick ? "quick" : "most"]; round++) {
    for (const { name, steps, times } of running) {
      if (round >= ROUNDS.least && times.reduce((a, b) => a + b) * steps > SLOW_MS) continue;
      tell(name);
      const { ms, steps: taken } = await ask(page, "run", name, steps);
      times.push(ms / taken);
    }
  }
  for (const { name } of running) {
    tell(name);
    await ask(page, "end", name);
  }
  const own = running.find(({ name }) => name === OURS)?.times ?? [];
  const reports = running.map(({ times, report }) => {
    const [medianMs, leastMs] = [median(times), Math.min(...times)];
    return { ...report, medianMs, leastMs, ratio: medianMs / median(own), leastRatio: leastMs / Math.min(...own) };
  });
  return names.map((name) => [...reports, ...failed].find(({ contender }) => contender === name)!);
}

const options = program
  .description("Times training steps and prediction in a page of Chromium, against TensorFlow.js.")
  .option("--filter <pattern>", "only workloads whose name matches this regular expression", "")
  .option("--quick", "fewer turns", false)
  .option("--families", "both kernel families of ours, too", false)
  .addOption(new Option("--adapter <name>", "of Chromium").choices(["swiftshader", "default"]).default("swiftshader"))
  .option("--out <file>", "where the figures go, as JSON")
  .parse()
  .opts<{ filter: string; quick: boolean; families: boolean; adapter: string; out?: string }>();

const chosen = ["small-cnn b32", "small-cnn b128", "mlp-64 b128"].map((name) => ({ name, kind: "train" as const }));
const tasks: readonly { readonly name: string; readonly kind: TaskSpec["kind"] }[] = [
  ...chosen,
  { name: "predict 1024", kind: "predict" },
];

installPeers(TFJS);
using folder = temporaryFolder("browser");
const site = join(folder.path, "site");
await build({
  ...{ root: join(root, "bench/browser"), configFile: false, logLevel: "error", base: "./" },
  build: { outDir: site, emptyOutDir: true, target: "es2023", chunkSizeWarningLimit: 1e5 },
  worker: { format: "es" },
});
const server = await serve(site, {
  task: join(folder.path, "task"),
  tfjs: join(peers, "node_modules/@tensorflow"),
});
using _server = undoing(server.close);
const browser = await launch(options.adapter);
using _browser = undoing(() => void browser.close());
const first = await openPage(browser, server.address);
const adapter = await ask(first, "adapter");
await first.close();
const host = { processor: cpus()[0]?.model, cores: availableParallelism() };
console.log(`Chromium ${browser.version()}, ${Object.values(adapter).join(" ")}, ${host.cores} x ${host.processor}`);

const names = [OURS, ...(options.families ? FAMILIES : []), ...TFJS];
const WIDTHS = [20, 10, 10, 8, 8, 9, 9, 9];
const results: { name: string; contenders: Report[] }[] = [];
for (const { name, kind } of tasks.filter(({ name }) => new RegExp(options.filter).test(name))) {
  const workload = workloads.find((other) => other.name === (kind === "predict" ? "small-cnn b128" : name))!;
  const made = await withWeights(makeTask(workload, { dropout: false }));
  const task: Task = { ...made, spec: { ...made.spec, name, kind } };
  await writeTask(join(folder.path, "task"), task);
  console.log(
    `\n${tableLine([name, "median ms", "least ms", "ratio", "of least", "first ms", "d loss", "d result"], WIDTHS)}`,
  );
  const contenders = await compare(browser, server.address, task, options.quick);
  for (const { contender, failure, difference, ...times } of contenders) {
    const { medianMs, leastMs, ratio, leastRatio, firstStepsMs } = times;
    const figures = [medianMs, leastMs, ratio, leastRatio].map((value) => value?.toFixed(2) ?? "");
    const differences = difference ? [difference.loss, difference.result].map((d) => d.toExponential(0)) : ["", ""];
    const bar = kind === "train" && name.startsWith("small-cnn") && ratio !== undefined ? BARS[contender] : undefined;
    const verdict = bar === undefined ? "" : `  wanted ${bar}: ${ratio! >= bar ? "yes" : "no"}`;
    const cells = [contender, ...figures, firstStepsMs?.toFixed(0) ?? "", ...differences];
    console.log(`${tableLine(cells, WIDTHS)}${verdict}${failure ? `  ${failure}` : ""}`);
  }
  results.push({ name, contenders });
  if (options.out !== undefined) {
    const date = new Date().toISOString();
    const figures = { date, chromium: browser.version(), adapter, host, quick: options.quick, tolerance: TOLERANCE };
    await writeFileAtomic(options.out, `${JSON.stringify({ ...figures, results }, null, 2)}\n`);
  }
}
