// How much a browser loads of each page before it can compute, and what of that waits for a network.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { buildSite } from "../../scripts/site.mjs";

/**
 * Most bytes of the engine, by gzip, and of a page's own code and data besides. "Without formats" is what loads before
 * a file is read: formats and the layers that only files name come later.
 */
const MOST_ENGINE = 130_000;
const MOST_OWN = 10_000;
const PAGES = ["depth", "draw", "dream", "faces", "inside", "kernels", "train"];
/** Names of files with what belongs to pages: their workers, and the strokes of the built-in digits. */
const OWN = /^(service|worker|training|networks|digits)-/;
const NETWORKS = 2_000_000;

const outDir = mkdtempSync(join(tmpdir(), "kilograd-budget-"));
const files = new Map<string, string>();

beforeAll(async () => {
  await buildSite({ outDir, docs: false });
  const assets = join(outDir, "assets");
  for (const name of readdirSync(assets)) {
    if (name.endsWith(".js")) files.set(name, readFileSync(join(assets, name), "utf8"));
  }
}, 300_000);
afterAll(() => rmSync(outDir, { recursive: true }));

/** A file with what it imports before it runs. */
function closure(name: string, found = new Set<string>()): Set<string> {
  const code = files.get(name);
  if (code === undefined) throw new Error(`the site has no ${name}`);
  if (found.has(name)) return found;
  found.add(name);
  for (const [, other] of code.matchAll(/(?:from|import)\s*["'`]\.\/([\w.-]+\.js)["'`]/g)) closure(other!, found);
  return found;
}

/** The files of each page's worker, by what worker.ts imports. */
function services(): Map<string, Set<string>> {
  const worker = [...files].find(([name]) => name.startsWith("worker-"))!;
  const entries = [...worker[1].matchAll(/([a-z]+):\(?(?:async)?\(?\)?=>[^,}]*?import\([`"']\.\/([\w.-]+\.js)[`"']/g)];
  return new Map(entries.map(([, page, file]) => [page!, closure(file!)]));
}

it("loads no more of the engine than a page needs", () => {
  const found = services();
  expect([...found.keys()].sort()).toEqual(PAGES);
  // The loop of `fit` comes with its first call.
  closure([...files.keys()].find((name) => name.startsWith("loop-"))!, found.get("train"));
  const bytesOf = (names: Iterable<string>) =>
    [...names].reduce((sum, name) => sum + gzipSync(files.get(name)!, { level: 9 }).length, 0);
  for (const [page, names] of found) {
    const all = [...names];
    const engine = bytesOf(all.filter((name) => !OWN.test(name)));
    expect(engine, `${page}, bytes of the engine by gzip`).toBeGreaterThan(50_000);
    expect(engine, `${page}, bytes of the engine by gzip`).toBeLessThanOrEqual(MOST_ENGINE);
    const own = bytesOf(all.filter((name) => OWN.test(name)));
    expect(own, `${page}, its own bytes by gzip`).toBeGreaterThan(500);
    expect(own, `${page}, its own bytes by gzip`).toBeLessThanOrEqual(MOST_OWN);
  }
});

it("leaves the float64 reference out", () => {
  for (const [page, names] of services()) {
    const code = [...names].map((name) => files.get(name)!).join("\n");
    // What kernels say for it, and its device.
    const kernels = [...code.matchAll(/name:[`"']\w+[`"'],cpu(:void 0)?/g)];
    expect(kernels.length, page).toBeGreaterThan(10);
    expect(
      kernels.filter(([, left]) => left === undefined).map(([text]) => text),
      page,
    ).toEqual([]);
    expect(code, page).not.toContain("cpu device: used after destroy()");
  }
});

it("leaves formats of files to whoever reads one", () => {
  const now = new Set([...services().values()].flatMap((names) => [...names]));
  const later = [...files.keys()].filter((name) => !now.has(name));
  // By what only they say.
  for (const words of ["model_weights", "keras_version"]) {
    const holding = [...files].filter(([, code]) => code.includes(words)).map(([name]) => name);
    expect(holding.length, words).toBeGreaterThan(0);
    for (const name of holding) expect(later, `${words} in ${name}`).toContain(name);
  }
});

it("ships networks of two megabytes at most", () => {
  const folder = join(outDir, "networks");
  const sizes = readdirSync(folder).map((name) => readFileSync(join(folder, basename(name))).length);
  expect(sizes.length).toBeGreaterThan(4);
  expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(NETWORKS);
});
