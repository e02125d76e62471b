// The docs of the site in Chromium: guides, pages and names in the shell of the other pages, a search by keyboard, at
// 390 pixels, without an error, and without a request to anybody else; what axe finds. That they are built at all says
// that TypeDoc has no warning: no link leads nowhere, and no type that a public name needs is private.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildSite, serveSite } from "../../scripts/site.mjs";
import { expectToStand } from "./stands.js";

const program = [process.env["KILOGRAD_CHROMIUM"], "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (path) => path !== undefined && existsSync(path),
);
/** A busy machine builds for minutes. */
const PATIENCE_MS = 900_000;

const folder = mkdtempSync(join(tmpdir(), "kilograd-docs-"));
const outDir = join(folder, "site");
const reports = join(folder, "runs");

beforeAll(async () => {
  mkdirSync(join(reports, "digits-reference"), { recursive: true });
  const report =
    '<!doctype html><html lang="en"><head><title>Digits &amp; networks</title></head><body>A report</body></html>';
  writeFileSync(join(reports, "digits-reference/report.html"), report);
  await buildSite({ outDir, reports });
}, PATIENCE_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const pages = () =>
  readdirSync(join(outDir, "docs"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".html"));

it("has a page for every guide, which the contents list", () => {
  const contents = readFileSync("docs/README.md", "utf8");
  const guides = readdirSync("docs/guides");
  for (const guide of guides) expect(contents).toContain(`](guides/${guide})`);
  const found = pages().filter((path) => path.startsWith("guides/"));
  expect(found.sort()).toEqual(guides.map((guide) => `guides/${guide.replace(".md", ".html")}`).sort());
});

it("has the policy of the other pages on every page, and nothing that it forbids", () => {
  const policyOf = (page: string) => /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)?.[1];
  const policy = policyOf(readFileSync(join(outDir, "train.html"), "utf8"));
  expect(policy).toContain("script-src 'self'");
  const own = pages().filter((path) => !path.startsWith("reports/"));
  expect(own.length).toBeGreaterThan(500);
  for (const path of own) {
    const page = readFileSync(join(outDir, "docs", path), "utf8");
    expect(policyOf(page), path).toBe(policy);
    expect(page, path).not.toMatch(/<script(?![^>]* src=)|<style|<[^>]+ (style|on[a-z]+)="/);
  }
});

it("links to pages and places that there are", () => {
  const ids = new Map<string, Set<string>>();
  const read = (path: string) => readFileSync(join(outDir, "docs", path), "utf8");
  for (const path of pages()) ids.set(path, new Set([...read(path).matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!)));
  const broken = pages().flatMap((path) =>
    [...read(path).matchAll(/<a [^>]*?href="([^"]*)"/g)].flatMap(([, href]) => {
      const url = new URL(href!, `http://site/docs/${path}`);
      if (url.host !== "site") return [];
      const target = decodeURIComponent(url.pathname).replace(/^\/docs\//, "");
      const found = ids.get(target);
      if (found === undefined)
        return existsSync(join(outDir, decodeURIComponent(url.pathname))) ? [] : [`${path}: ${href}`];
      const place = decodeURIComponent(url.hash.slice(1));
      return place === "" || found.has(place) ? [] : [`${path}: ${href}`];
    }),
  );
  expect(broken).toEqual([]);
});

it("shows the reports that it is given, each as it is, and refuses a folder without any", async () => {
  const list = readFileSync(join(outDir, "docs/reports.html"), "utf8");
  expect(list).toContain('<a href="reports/digits-reference.html">Digits &amp; networks</a>');
  const given = readFileSync(join(reports, "digits-reference/report.html"));
  expect(readFileSync(join(outDir, "docs/reports/digits-reference.html")).equals(given)).toBe(true);
  await expect(buildSite({ outDir: join(folder, "none"), reports: folder })).rejects.toThrow(/report\.html/);
});

describe.skipIf(program === undefined)("in Chromium", { timeout: PATIENCE_MS }, () => {
  let browser: Browser;
  let site: { readonly address: string; close(): void };
  beforeAll(async () => {
    site = await serveSite(outDir);
    const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
    browser = await chromium.launch({ executablePath: program!, args });
  }, PATIENCE_MS);
  afterAll(async () => {
    await browser?.close();
    site?.close();
  });

  async function open(path: string, { width = 1100, dark = false } = {}) {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: dark ? "dark" : "light" });
    page.setDefaultTimeout(PATIENCE_MS);
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(site.address)) problems.push(request.url());
    });
    await page.goto(`${site.address}docs/${path}`);
    await page.waitForSelector("nav a[aria-current]");
    return { page, problems };
  }

  it.each([
    ["index.html", false],
    ["guides/own-kernel.html", true],
    ["performance.html", false],
    ["reports.html", false],
    ["api/kilograd.html", true],
    ["api/kilograd/Tensor.html", false],
    ["api/kilograd/nn/conv2d.html", true],
  ])("%s stands at 390 pixels, and says nothing to the console", async (path, dark) => {
    const { page, problems } = await open(path, { width: 390, dark });
    expect(await page.textContent("h1")).not.toBe("");
    await expectToStand(page, problems);
    await page.close();
  });

  it("finds a function and a guide by keyboard alone, and asks for the index when somebody searches", async () => {
    const { page, problems } = await open("guides/train.html");
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    expect(asked).toEqual([]);
    await page.keyboard.press("/");
    await page.keyboard.type("gradcheck");
    await page.waitForSelector("#found > [aria-selected=true]");
    expect(asked).toEqual(["/docs/search.json"]);
    await page.keyboard.press("Enter");
    await page.waitForURL(/api\/kilograd\/gradcheck\.html/);
    expect(await page.textContent("h1")).toContain("gradcheck");
    await page.waitForSelector("nav a[aria-current]");
    await page.keyboard.press("/");
    await page.keyboard.type("own kernel");
    await page.waitForSelector("#found > [aria-selected=true]");
    const titles = await page.locator("#found b").allTextContents();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowUp");
    expect(await page.textContent("#found [aria-selected=true] b")).toBe(titles[0]);
    await page.keyboard.press("Enter");
    await page.waitForURL(/guides\/own-kernel\.html/);
    // What nobody wrote is not found, and an emptied field shows nothing.
    await page.waitForSelector("nav a[aria-current]");
    await page.keyboard.press("/");
    await page.keyboard.type("zzyzzx");
    await page.waitForFunction(() => document.getElementById("found-status")?.textContent === "Nothing found.");
    expect(problems).toEqual([]);
    await page.close();
  });
});
