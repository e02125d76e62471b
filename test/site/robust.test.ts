// Pages while they compute, in Chromium: how long the thread that draws and listens is busy at a time, and whether
// memory stays. The long version is `npm run soak:pages`.
//
// A task's time is the processor's, from Chromium's own trace (`tdur`). PerformanceObserver's "longtask" counts
// time on the wall, in which a loaded machine may run something else; then any task is long.
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { growthOf, MOST_GROWTH, type Sample, soakPage } from "../../scripts/soak-pages.mjs";
import { openSite, PATIENCE_MS, program, type Site, status } from "./chromium.js";

/** Milliseconds that a task may take, so that a click is answered at once. */
const LONGEST_TASK_MS = 100;

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of the processor. */
  readonly tdur?: number;
  readonly args: { readonly name?: string };
}

/** A setting goes into the address. */
async function changes(page: Page, field: string, value: string): Promise<void> {
  await page.fill(field, value);
  await page.press(field, "Tab");
  await page.waitForFunction((value) => location.search.includes(`=${value}`), value);
}

/** A computation begins. */
async function begins(page: Page, sign: string): Promise<void> {
  await page.click("#start");
  await page.waitForSelector(sign);
}

/** The pad takes a line. */
async function drawsALine(page: Page): Promise<void> {
  const inkOf = () => page.evaluate(() => (document.getElementById("pad") as HTMLCanvasElement).toDataURL());
  const before = await inkOf();
  const box = (await page.locator("#pad").boundingBox())!;
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 4);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2, box.y + (3 * box.height) / 4, { steps: 5 });
  await page.mouse.up();
  expect(await inkOf()).not.toBe(before);
}

/** A file that is no model is told as one. */
async function refusesAModel(page: Page): Promise<void> {
  await page.setInputFiles("#model", { name: "none.onnx", mimeType: "", buffer: Buffer.from("no model") });
  await page.waitForSelector("#problem:not([hidden])");
}

describe.skipIf(program === undefined)("in Chromium", { timeout: PATIENCE_MS }, () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite();
  }, PATIENCE_MS);
  afterAll(() => site?.close());

  /** Tasks of the main threads of pages while `work` is done, in milliseconds. */
  async function tasksDuring(page: Page, work: () => Promise<void>): Promise<number[]> {
    await site.browser.startTracing(page, { categories: ["toplevel", "__metadata"] });
    await work();
    const trace = JSON.parse((await site.browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] };
    const key = ({ pid, tid }: TraceEvent) => `${pid}/${tid}`;
    const main = new Set(trace.traceEvents.filter(({ args }) => args?.name === "CrRendererMain").map(key));
    return trace.traceEvents
      .filter((event) => event.name.endsWith("RunTask") && event.tdur !== undefined && main.has(key(event)))
      .map(({ tdur }) => tdur! / 1000);
  }

  it.each([
    ["train.html?rate=0.001&batch=32&count=640&epochs=1&seed=3", "#start", /Done/],
    ["depth.html?depth=5&steps=10&seed=2", "#start", /Done/],
    ["dream.html?steps=10&seed=4", "#start", /Done/],
  ] as const)("%s leaves the page free for clicks", async (path, button, done) => {
    const { page } = await site.open(path);
    await page.waitForSelector("nav a[aria-current]");
    const tasks = await tasksDuring(page, async () => {
      await page.click(button);
      await status(page, done);
    });
    // The trace has seen the page at work.
    expect(tasks.length).toBeGreaterThan(20);
    expect(tasks.filter((time) => time > LONGEST_TASK_MS)).toEqual([]);
    await page.close();
  });

  it.each([
    ["train", async (page: Page) => begins(page, "#stop:not([disabled])")],
    ["depth", async (page: Page) => changes(page, "[name=seed]", "7")],
    ["dream", async (page: Page) => changes(page, "[name=seed]", "7")],
    ["faces", async (page: Page) => changes(page, "#threshold", "44")],
    ["draw", drawsALine],
    ["inside", refusesAModel],
    ["kernels", async (page: Page) => begins(page, "#start[disabled]")],
  ] as const)("%s.html answers before a network has come", async (name, interact) => {
    const asked: string[] = [];
    const { page, problems } = await site.open(`${name}.html`, 1100, async (page) => {
      // No answer, for as long as the page is open.
      await page.route("**/*.safetensors", (route) => void asked.push(route.request().url()));
    });
    await page.waitForSelector("nav a[aria-current]");
    expect(await page.locator("button:not([disabled]), input:not([disabled])").count()).toBeGreaterThan(0);
    await interact(page);
    expect(problems).toEqual([]);
    expect(asked.every((url) => url.includes("/networks/"))).toBe(true);
    await page.close();
  });

  it("train.html keeps its memory", async () => {
    const samples = await soakPage(site.browser, site.address, { seconds: 20 });
    const { page, worker, gpu } = samples.at(-1)!;
    expect([page, worker, gpu].every((bytes) => bytes > 100_000)).toBe(true);
    expect(growthOf(samples).filter((fault) => !fault.startsWith("resident"))).toEqual([]);
  });
});

it("growth over the second half is told by what grew", () => {
  const flat: Sample[] = Array.from({ length: 40 }, (_, i) => ({
    ...{ step: i, page: 3e6, worker: 4e6, gpu: 5e6, resident: 6e8 },
  }));
  expect(growthOf(flat)).toEqual([]);
  for (const key of ["page", "worker", "gpu", "resident"] as const) {
    const grown = flat.map((sample, i) => ({ ...sample, [key]: sample[key]! + i * (MOST_GROWTH[key] / 5 + 1e4) }));
    expect(growthOf(grown)).toEqual([expect.stringMatching(`^${key}: grew by`)]);
    // What grows in the beginning alone is no leak.
    const settled = flat.map((sample, i) => ({ ...sample, [key]: sample[key]! + Math.min(i, 10) * 1e8 }));
    expect(growthOf(settled)).toEqual([]);
  }
  expect(growthOf(flat.map((sample) => ({ ...sample, step: 1 })))).toEqual(["no step was done: nothing was watched"]);
  expect(growthOf(flat.map((sample) => ({ ...sample, resident: undefined })))).toEqual([]);
});
