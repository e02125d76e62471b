// What the built files import: nothing of Node from the core, and no file that waits for itself.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { importedNames } from "./imported.js";

beforeAll(() => {
  const built = spawnSync(process.execPath, ["scripts/setup.mjs", "build"], { encoding: "utf8" });
  expect(built.status, built.stderr).toBe(0);
});

/**
 * What a file imports by a name that stands in it, at once or later, as a bundler sees it: paths below dist/, or
 * packages.
 */
function importsOf(path: string, text = readFileSync(path, "utf8")): string[] {
  const names = importedNames(path, text);
  // Bundlers take these for files that belong to the program, too.
  const urls = [...text.matchAll(/new URL\(\s*["'`]([^"'`]+)["'`]\s*,\s*import\.meta\.url/g)].map(([, name]) => name!);
  return [...names, ...urls].map((name) => (name.startsWith(".") ? posix.join(posix.dirname(path), name) : name));
}

/** What is loaded with a file, and not later. */
function atOnce(path: string): string[] {
  const text = readFileSync(path, "utf8");
  const later = [...text.matchAll(/\bimport\(\s*["']([^"']+)["']\s*\)|new URL\(\s*["']([^"']+)["']/g)];
  const names = later.map(([, called, url]) => called ?? url!);
  const resolved = new Set(names.map((name) => (name.startsWith(".") ? posix.join(posix.dirname(path), name) : name)));
  return importsOf(path, text).filter((name) => !resolved.has(name));
}

/** Packages and modules of Node that are reached from a file, each with the way there. */
function reachedFrom(entry: string, follow: (path: string) => readonly string[] = importsOf): Map<string, string[]> {
  const ways = new Map<string, string[]>([[entry, [entry]]]);
  for (const [path, way] of ways) {
    if (!path.startsWith("dist/")) continue;
    for (const name of follow(path)) if (!ways.has(name)) ways.set(name, [...way, name]);
  }
  return new Map([...ways].filter(([name]) => !name.startsWith("dist/")));
}

/** Files that import each other in a circle by values: types are not in the built files any more. */
function circles(paths: readonly string[], imports: (path: string) => readonly string[]): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  const way: string[] = [];
  const visit = (path: string): void => {
    const at = way.indexOf(path);
    if (at >= 0) found.push([...way.slice(at), path]);
    if (at >= 0 || done.has(path)) return;
    way.push(path);
    for (const next of imports(path)) visit(next);
    way.pop();
    done.add(path);
  };
  for (const path of paths) visit(path);
  return found;
}

/** Packages that a page fetches when it first needs them: archives, and HDF5 in a worker. */
const LATER = ["fflate", "h5wasm"];

describe.each(
  ["dist/index.js", "dist/inputs.js", "dist/applications.js"].filter((path) =>
    existsSync(path.replace("dist", "src").replace(".js", ".ts")),
  ),
)("%s", (entry) => {
  test("needs no package but valibot, and nothing of Node; two packages for formats of files come later", () => {
    const reached = reachedFrom(entry);
    for (const name of ["valibot", ...LATER]) reached.delete(name);
    expect(Object.fromEntries(reached)).toEqual({});
    expect([...reachedFrom(entry, atOnce).keys()].filter((name) => name !== "valibot")).toEqual([]);
  });

  test("asks for nothing that only Node has when it is loaded", () => {
    const script = `delete globalThis.process; delete globalThis.Buffer; await import(${JSON.stringify(`./${entry}`)});`;
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });
});

test("kilograd/node loads neither echarts nor h5wasm nor gifenc nor Dawn before they are used", () => {
  expect([...reachedFrom("dist/index.js").keys()].sort()).toEqual([...LATER, "valibot"]);
  expect([...reachedFrom("dist/node.js").keys()]).toEqual(expect.arrayContaining(["node:fs", "webgpu", "h5wasm"]));
  const script = `
    import { createRequire } from "node:module";
    await import("./dist/node.js");
    const shared = process.report.getReport().sharedObjects.filter((path) => path.endsWith(".node"));
    const loaded = [...Object.keys(createRequire(import.meta.url).cache), ...shared];
    console.log(JSON.stringify(loaded.filter((path) => /echarts|h5wasm|fflate|gifenc|webgpu|dawn/.test(path))));`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual([]);
});

test("no file waits for itself", () => {
  const paths = readdirSync("dist", { recursive: true, encoding: "utf8" })
    .map((path) => `dist/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".js"));
  expect(paths.length).toBeGreaterThan(100);
  const found = circles(paths, (path) => importsOf(path).filter((name) => name.startsWith("dist/")));
  expect(found).toEqual([]);
});

test("what breaks these rules is found", () => {
  const text = `import "./a.js"; export * from "../b.js"; const c = await import("node:fs"); new URL("./w.js", import.meta.url);
    const name = "./node.js"; import(name);`;
  expect(importsOf("dist/x/y.js", text)).toEqual(["dist/x/a.js", "dist/b.js", "node:fs", "dist/x/w.js"]);
  const graph: Record<string, string[]> = { a: ["b", "d"], b: ["c"], c: ["a"], d: ["c"] };
  expect(circles(["a"], (path) => graph[path]!)).toEqual([["a", "b", "c", "a"]]);
});
