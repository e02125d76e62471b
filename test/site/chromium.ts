// The built pages in Chromium without a window, on the adapter that it brings along. What a test shares with others: a
// browser for a file of tests, pages that note what goes wrong on them, and what their workers told.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { buildSite, serveSite } from "../../scripts/site.mjs";

/** Undefined where there is none. */
export const program = [process.env["KILOGRAD_CHROMIUM"], "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (path) => path !== undefined && existsSync(path),
);
/** A busy machine compiles for minutes. */
export const PATIENCE_MS = 600_000;

/** A page, and what went wrong on it: errors, lines on the console, requests to anybody else. */
export interface OpenPage {
  readonly page: Page;
  readonly problems: string[];
}

/** The built site and a browser. */
export interface Site {
  readonly browser: Browser;
  readonly address: string;
  /** @param before what is done with the page before it is asked for */
  open(path: string, width?: number, before?: (page: Page) => Promise<void>): Promise<OpenPage>;
  close(): Promise<void>;
}

/** Builds and serves the site, and starts a browser. @param more arguments of the browser */
export async function openSite(more: readonly string[] = []): Promise<Site> {
  // A folder of its own: files of tests run side by side.
  const outDir = mkdtempSync(join(tmpdir(), "kilograd-site-"));
  await buildSite({ outDir, docs: false });
  const served = await serveSite(outDir);
  const asRoot = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const args = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", ...asRoot, ...more];
  const browser = await chromium.launch({ executablePath: program!, args });
  return {
    browser,
    address: served.address,
    async open(path, width = 1100, before) {
      const page = await browser.newPage({ viewport: { width, height: 900 } });
      page.setDefaultTimeout(PATIENCE_MS);
      await listen(page);
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) problems.push(message.text());
      });
      page.on("request", (request) => {
        const { origin, protocol } = new URL(request.url());
        if (protocol !== "blob:" && protocol !== "data:" && `${origin}/` !== served.address)
          problems.push(request.url());
      });
      await before?.(page);
      await page.goto(`${served.address}${path}`);
      return { page, problems };
    },
    async close() {
      await browser.close();
      served.close();
      rmSync(outDir, { recursive: true });
    },
  };
}

/** Waits for what the page says of itself; a problem that it shows ends the test. */
export async function status(page: Page, pattern: RegExp): Promise<void> {
  const found = await page.waitForFunction((source) => {
    const problem = document.getElementById("problem");
    if (problem !== null && !problem.hidden) return problem.textContent;
    return new RegExp(source).test(document.getElementById("status")?.textContent ?? "");
  }, pattern.source);
  const problem = await found.jsonValue();
  if (problem !== true) throw new Error(`the page says: ${problem}`);
}

/** Notes what workers tell the page and answer it. */
const listen = (page: Page) =>
  page.addInitScript(() => {
    const told: unknown[] = [];
    const answered: unknown[] = [];
    Object.assign(globalThis, { told, answered });
    const Plain = globalThis.Worker;
    globalThis.Worker = class extends Plain {
      constructor(...given: ConstructorParameters<typeof Worker>) {
        super(...given);
        this.addEventListener("message", ({ data }) => {
          if ("event" in data) told.push(data.value);
          else answered.push(data.value);
        });
      }
    };
  });

/** What the worker told the page, by events. */
export const told = <T>(page: Page) =>
  page.evaluate(() => (globalThis as unknown as { told: unknown[] }).told) as Promise<T[]>;
/** What the worker answered, call by call. */
export const answered = <T>(page: Page) =>
  page.evaluate(() => (globalThis as unknown as { answered: unknown[] }).answered) as Promise<T[]>;
