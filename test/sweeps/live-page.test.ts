// The page of a sweep of 1,000 trials in Chromium, while it grows: it shows what comes without being loaded anew, keeps
// what its reader did, and fits a phone. With KILOGRAD_TEST_PICTURES=FOLDER it leaves pictures there, and tasks.json:
// milliseconds of the page's tasks above 50 ms, at first and while it grew.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LiveServer } from "../../src/experiments/lib/frame/live.js";
import type { TrialResult } from "../../src/sweeps/executor.js";
import { random } from "../../src/sweeps/search.js";
import { choice, int, logUniform, type Space, uniform } from "../../src/sweeps/space.js";
import type { TrialRecord } from "../../src/sweeps/sweep.js";
import { sweepPage } from "../../src/sweeps/sweep-report.js";

const program = [process.env["KILOGRAD_CHROMIUM"], "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (path) => path !== undefined && existsSync(path),
);
/** Where pictures of the page go, for eyes. */
const pictures = process.env["KILOGRAD_TEST_PICTURES"];

const space: Space = {
  rate: logUniform(1e-4, 1e-1),
  units: int(8, 512),
  dropout: uniform(0, 0.5),
  activation: choice(["relu", "tanh", "elu"]),
  optimizer: choice(["adam", "sgd"]),
};

/** A trial that ended, or was stopped, or failed, with a curve of thirty reports. */
function trialOf(number: number): TrialRecord {
  const config = random().propose({ space, seed: 3, number, past: [] }) as { rate: number; units: number };
  const best = 0.99 - 0.08 * (Math.log10(config.rate) + 2.4) ** 2 - 3 / config.units;
  if (number % 50 === 49) {
    const failed = { status: "failed", number, error: "Error: the loss is not finite", attempts: 3 } as const;
    return { number, config, seed: number, outcome: failed };
  }
  const length = number % 3 === 2 ? 9 : 30;
  const accuracy = Array.from({ length }, (_, step) => [step + 1, best * (1 - Math.exp(-(step + 1) / 5))] as const);
  const outcome: TrialResult = {
    status: length === 9 ? "stopped" : "finished",
    ...{ number, attempts: 1, seconds: 12.5 + (number % 7) },
    ...{ figures: { accuracy: accuracy.at(-1)![1] }, series: { accuracy }, worker: "process 1" },
  };
  return { number, config, seed: number, outcome };
}

const identity = {
  ...{ name: "digits", space, seed: 3, goal: { figure: "accuracy", direction: "maximize" }, code: "0".repeat(64) },
  ...{ delay: 4, search: { name: "tpe" }, stopping: { name: "asha" } },
};

describe.skipIf(program === undefined)("in Chromium", { timeout: 600_000 }, () => {
  let browser: Browser;
  let live: LiveServer;
  const state = { identity, trials: new Map<number, TrialRecord>(), checkpoints: new Map(), attempts: new Map() };
  const grow = (to: number) => {
    while (state.trials.size < to) state.trials.set(state.trials.size, trialOf(state.trials.size));
    live.state.progress("trials", to / 1000);
  };

  beforeAll(async () => {
    const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
    browser = await chromium.launch({ executablePath: program!, args });
    live = await LiveServer.start("Sweep digits");
    live.state.page = (events) => sweepPage(state, { reloadOn: events });
    grow(700);
  }, 120_000);
  afterAll(async () => {
    await live?.close();
    await browser?.close();
  });

  const problems: string[] = [];
  async function open(width: number): Promise<Page> {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    page.setDefaultTimeout(120_000);
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(message.text());
    });
    await page.addInitScript(() => {
      const tasks: number[] = [];
      Object.assign(globalThis, { tasks });
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) tasks.push(duration);
      }).observe({ type: "longtask", buffered: true });
    });
    await page.goto(live.address);
    return page;
  }
  const shown = (page: Page, trials: string) => page.waitForSelector(`header .subtitle:has-text("${trials} trials")`);
  const picture = async (page: Page, name: string) => {
    if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  };

  test("it grows in place, with its reader's order, place and focus", async () => {
    const page = await open(1100);
    await shown(page, "700");
    const head = page.locator("table.sortable th button", { hasText: "units" });
    await head.click();
    await head.click();
    await page.evaluate(() => Object.assign(globalThis, { loadedOnce: true }));
    const before = await page.evaluate(() => scrollY);
    const tasksBefore = await page.evaluate(() => (globalThis as unknown as { tasks: number[] }).tasks.splice(0));
    for (const count of [800, 900, 1000]) {
      grow(count);
      await shown(page, count.toLocaleString("en-US"));
    }
    // Its last sections follow in the next frames.
    await page.waitForFunction(() =>
      document.querySelector("table.sortable figcaption, .table figcaption")?.textContent?.includes("1,000"),
    );
    expect(await page.evaluate(() => (globalThis as unknown as { loadedOnce?: boolean }).loadedOnce)).toBe(true);
    expect(Math.abs((await page.evaluate(() => scrollY)) - before)).toBeLessThan(900);
    const units = await page.$$eval("table.sortable tbody tr", (rows) =>
      rows.map((row) => Number(row.querySelectorAll("td")[4]?.textContent)),
    );
    expect(units).toHaveLength(250);
    expect(units).toEqual(units.toSorted((a, b) => b - a));
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("units");
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    expect(nodes).toBeLessThan(8000);
    const tasks = await page.evaluate(() => (globalThis as unknown as { tasks: number[] }).tasks);
    if (pictures)
      writeFileSync(join(pictures, "tasks.json"), JSON.stringify({ first: tasksBefore, growing: tasks, nodes }));
    await picture(page, "sweep-1100");
    await page.close();
  });

  test("at 390 pixels nothing reaches beyond the page", async () => {
    const page = await open(390);
    await shown(page, "1,000");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await picture(page, "sweep-390");
    await page.close();
  });

  test("text that is being selected stays, and what came meanwhile is shown afterwards", async () => {
    const page = await open(1100);
    await shown(page, "1,000");
    await page.evaluate(() => getSelection()!.selectAllChildren(document.querySelector("h1")!));
    grow(1001);
    await new Promise((later) => setTimeout(later, 2500));
    expect(await page.evaluate(() => String(getSelection()))).toContain("Sweep digits");
    await page.evaluate(() => getSelection()!.removeAllRanges());
    await shown(page, "1,001");
    await page.close();
  });

  test("nothing went wrong on any of them", () => {
    expect(problems).toEqual([]);
  });
});
