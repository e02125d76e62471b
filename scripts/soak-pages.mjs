// `npm run soak:pages -- [--minutes 10]`: trains in the page "Train" in Chromium and watches memory: JavaScript's of
// the page and of its worker after their rubbish is collected, the adapter's by the engine's own count, and what the
// browser's processes hold. Exit code 1 where one grows over the second half.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { buildSite, serveSite } from "./site.mjs";

const MIB = 2 ** 20;
/** Growth over the second half that is no leak: losses and curves kept, compiled code, the allocator's play. */
export const MOST_GROWTH = { page: 1 * MIB, worker: 2 * MIB, gpu: 0, resident: 64 * MIB };
/** Settings of a training that no test waits for the end of. */
const ENDLESS = "train.html?rate=0.001&batch=32&count=20000&epochs=50&seed=1";
/** Samples of a soak. */
const SAMPLES = 40;

/** Bytes of JavaScript that are in use in a page and in its worker, after what is in use no more is collected. */
async function heaps(session, workers) {
  const used = async (send) => {
    await send("HeapProfiler.collectGarbage");
    return (await send("Runtime.getHeapUsage")).usedSize;
  };
  return {
    page: await used((method) => session.send(method)),
    worker: await used((method) => workers.send(method)),
  };
}

/** Asks the worker of a page through the browser's tools: its answers come as messages of the page's session. */
async function toolsOfWorker(session) {
  const waiting = new Map();
  let last = 0;
  const attached = new Promise((resolve) => {
    session.on("Target.attachedToTarget", ({ sessionId, targetInfo }) => {
      if (targetInfo.type === "worker") resolve(sessionId);
    });
  });
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { id, result, error } = JSON.parse(message);
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error === undefined) resolve?.(result);
    else reject?.(new Error(error.message));
  });
  await session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const sessionId = await attached;
  return {
    send: (method) =>
      new Promise((resolve, reject) => {
        last++;
        waiting.set(last, { resolve, reject });
        const message = JSON.stringify({ id: last, method, params: {} });
        session.send("Target.sendMessageToTarget", { sessionId, message }).catch(reject);
      }),
  };
}

/** Bytes that the processes of a browser hold; undefined where the system does not say. */
async function residentBytes(tools) {
  const { processInfo } = await tools.send("SystemInfo.getProcessInfo");
  const pages = processInfo.map(({ id }) => `/proc/${id}/status`).filter((path) => existsSync(path));
  if (pages.length === 0) return undefined;
  return pages.reduce((sum, path) => {
    const [, kib] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(path, "utf8")) ?? [undefined, 0];
    return sum + 1024 * Number(kib);
  }, 0);
}

/** Trains for so long in a page of the site at `address`; gives samples in bytes, with the steps that were done. */
export async function soakPage(browser, address, { seconds, say = () => {} }) {
  const page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  // What the page's worker is asked besides by the page itself.
  await page.addInitScript(() => {
    const Plain = globalThis.Worker;
    globalThis.Worker = class extends Plain {
      constructor(...given) {
        super(...given);
        let last = 0;
        globalThis.askWorker = (name, ...args) =>
          new Promise((resolve) => {
            const id = `soak ${++last}`;
            const listen = ({ data }) => {
              if (data.id !== id) return;
              this.removeEventListener("message", listen);
              resolve(data.value);
            };
            this.addEventListener("message", listen);
            this.postMessage({ id, name, args });
          });
      }
    };
  });
  const session = await page.context().newCDPSession(page);
  const tools = await browser.newBrowserCDPSession();
  await page.goto(`${address}${ENDLESS}`);
  const workers = await toolsOfWorker(session);
  await page.click("#start");
  await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Step "));
  const samples = [];
  const begun = performance.now();
  while (samples.length < SAMPLES) {
    const due = ((samples.length + 1) * 1000 * seconds) / SAMPLES;
    await page.waitForTimeout(Math.max(0, due - (performance.now() - begun)));
    const step = Number(/^Step (\d+)/.exec(await page.textContent("#status"))?.[1]);
    const memory = await page.evaluate(() => globalThis.askWorker("memory"));
    const used = await heaps(session, workers);
    const gpu = memory.liveBytes + memory.pooledBytes;
    const sample = { step, ...used, gpu, resident: await residentBytes(tools) };
    samples.push(sample);
    say(sample);
  }
  await page.click("#stop");
  await page.close();
  return samples;
}

/** What grew over the second half of a soak. */
export function growthOf(samples) {
  const half = samples.slice(Math.floor(samples.length / 2));
  const mean = (list, key) => list.reduce((sum, sample) => sum + sample[key], 0) / list.length;
  const quarter = Math.max(1, Math.floor(half.length / 2));
  const faults = Object.entries(MOST_GROWTH).flatMap(([key, most]) => {
    if (half.some((sample) => sample[key] === undefined)) return [];
    const growth = mean(half.slice(-quarter), key) - mean(half.slice(0, quarter), key);
    if (growth <= most) return [];
    return [`${key}: grew by ${(growth / MIB).toFixed(2)} MiB over the second half, at most ${most / MIB} are no leak`];
  });
  // A training that has ended holds its memory, too.
  if (!(samples.at(-1).step > half.at(-quarter - 1).step)) faults.push("no step was done: nothing was watched");
  return faults;
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" } } });
  await buildSite();
  const site = await serveSite(join(import.meta.dirname, "../site/dist"));
  const browser = await chromium.launch({
    executablePath: process.env.KILOGRAD_CHROMIUM ?? "/usr/bin/chromium",
    args: [
      ...["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    ],
  });
  const mib = (bytes) => (bytes === undefined ? "?" : (bytes / MIB).toFixed(2).padStart(8));
  console.log("    step  page MiB  worker MiB  adapter MiB  processes MiB");
  const samples = await soakPage(browser, site.address, {
    seconds: 60 * Number(values.minutes),
    say: ({ step, page, worker, gpu, resident }) =>
      console.log(`${String(step).padStart(8)}  ${[page, worker, gpu, resident].map(mib).join("   ")}`),
  });
  await browser.close();
  site.close();
  const faults = growthOf(samples);
  console.log(faults.join("\n") || "Memory is flat.");
  process.exitCode = faults.length === 0 ? 0 : 1;
}
