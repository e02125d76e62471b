// How the pages are built: static files that work from any host under any path, without a server of their own.
import { readdirSync } from "node:fs";
import { build, type InlineConfig, type Plugin, type Rolldown } from "vite";

const pages = [...readdirSync(import.meta.dirname).filter((name) => name.endsWith(".html")), "docs/index.html"];

/** Scripts, styles, workers and networks of the page's own, and nothing else; a test records what is asked for. */
const policy = [
  "default-src 'none'",
  ...["script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:", "worker-src 'self'", "connect-src 'self'"],
  // A dropped video is a blob.
  ...["media-src blob:", "base-uri 'none'", "form-action 'none'"],
].join("; ");

/** What stands in the head of every page, from whose folder `root` leads to that of the site. */
const sharedHead = (root: string) => `<head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta http-equiv="Content-Security-Policy" content="${policy}" />
    <link rel="icon" href="${root}icon.svg" />
    <link rel="stylesheet" href="${root}src/style.css" />`;

const heads: Plugin = {
  name: "heads",
  transformIndexHtml: {
    order: "pre",
    handler: (page, { path }) => page.replace("<head>", sharedHead(path.startsWith("/docs/") ? "../" : "./")),
  },
};

/** Calls that only make what they give: an engine without what no page uses leaves them out. */
const makers = [
  ...["defineKernel", "defineLayer", "defineLoss", "defineLossWithOptions", "defineUpdate", "gradientsKernel"],
  ...["unaryOf", "binaryOf", "scaled", "merging", "winogradChoice"],
  ...["anyOf", "instanceOf", "integer", "listOf", "number", "oneOf", "oneOrPair", "ruled"],
  ...["literal", "looseObject", "nullish", "object", "picklist", "pipe", "variant"],
];

/** Shaders stand in templates, with indents and comments that no browser needs. */
const shaders: Plugin = {
  name: "shaders",
  transform: (code, id) =>
    /\/src\/(kernels|webgpu)\//.test(id) ? code.replace(/\n[ \t]+/g, "\n").replace(/^\/\/.*\n/gm, "") : undefined,
};

/**
 * Pages compute on WebGPU alone, and nothing there can open the float64 reference: what `defineKernel` is told for it
 * stays out.
 */
const reference: Plugin = {
  name: "reference",
  transform(code) {
    if (!code.includes("defineKernel(")) return undefined;
    const found: Place[] = [];
    findReferences(this.parse(code), found);
    // From the end, so that places before stay.
    return found
      .reverse()
      .reduce((rest, { start, end }) => `${rest.slice(0, start)}cpu: undefined${rest.slice(end)}`, code);
  },
};

interface Place {
  readonly start: number;
  readonly end: number;
}

/** What is looked at of a node of a syntax tree (ESTree). */
interface SyntaxNode extends Place {
  readonly type?: string;
  readonly callee?: { readonly name?: string };
  readonly arguments?: readonly {
    readonly properties?: readonly (Place & { readonly key?: { readonly name?: string } })[];
  }[];
}

/** Places of the members `cpu` of what `defineKernel` is called with. */
function findReferences(node: unknown, found: Place[]): void {
  if (typeof node !== "object" || node === null) return;
  const { type, callee, arguments: given = [] } = node as SyntaxNode;
  if (type === "CallExpression" && callee?.name === "defineKernel") {
    found.push(...(given[0]?.properties ?? []).filter(({ key }) => key?.name === "cpu"));
  } else {
    for (const child of Object.values(node)) findReferences(child, found);
  }
}

/** What is no part of the engine: the pages themselves, and the strokes of the built-in digits. */
const PAGES_OWN = /\/site\/src\/|\/data\/digits\./;

/** The page that trains by `fit`, whose loop comes with its first call. */
const [TRAINS, LOOP] = ["train", /\/nn\/training\/loop\./];

/** Pages from which on a module counts as every page's. */
const NEARLY_ALL = 6;

/**
 * Files by module: those of the engine that the same pages load before they run are one file, and what nearly all load
 * is another. Few large files pack better than many small ones. `chunks` is a build without such files.
 */
function filesOf(chunks: ReadonlyMap<string, Rolldown.RenderedChunk>): Map<string, string> {
  const pages = new Map<string, Set<string>>();
  const walk = (chunk: string, page: string) => {
    const found = pages.get(chunk) ?? new Set();
    if (found.has(page)) return;
    pages.set(chunk, found.add(page));
    const { imports = [], dynamicImports = [] } = chunks.get(chunk) ?? {};
    const needed = dynamicImports.filter(
      (next) => page === TRAINS && LOOP.test(chunks.get(next)?.facadeModuleId ?? ""),
    );
    for (const next of [...imports, ...needed]) walk(next, page);
  };
  for (const [chunk, { facadeModuleId }] of chunks) {
    const page = /\/site\/src\/(\w+)\/service\.ts$/.exec(facadeModuleId ?? "")?.[1];
    if (page !== undefined) walk(chunk, page);
  }
  const files = new Map<string, string>();
  for (const [chunk, of] of pages) {
    if (of.size < 2) continue;
    const name = of.size >= NEARLY_ALL ? "engine" : [...of].sort().join("-");
    for (const id of chunks.get(chunk)!.moduleIds) if (!PAGES_OWN.test(id)) files.set(id, name);
  }
  return files;
}

function config(outDir: string, files: ReadonlyMap<string, string>, collect: Plugin | undefined): InlineConfig {
  return {
    configFile: false,
    logLevel: "error",
    root: import.meta.dirname,
    plugins: [heads],
    // Paths are relative to the page.
    base: "./",
    build: {
      outDir,
      write: collect === undefined,
      emptyOutDir: true,
      target: "es2023",
      // Its polyfill would be for browsers without WebGPU.
      modulePreload: { polyfill: false },
      // A page whose policy forbids data: loads files.
      assetsInlineLimit: 0,
      rolldownOptions: { input: pages.map((name) => `${import.meta.dirname}/${name}`) },
    },
    worker: {
      format: "es",
      plugins: () => [shaders, reference, ...(collect === undefined ? [] : [collect])],
      rolldownOptions: {
        treeshake: { manualPureFunctions: makers },
        output: {
          codeSplitting: { includeDependenciesRecursively: false, groups: [{ name: (id) => files.get(id) ?? null }] },
        },
      },
    },
  };
}

/** Builds the pages into a folder. */
export async function buildPages(outDir: string): Promise<void> {
  const chunks = new Map<string, Rolldown.RenderedChunk>();
  const collect: Plugin = {
    name: "collect",
    generateBundle(_, bundle) {
      for (const part of Object.values(bundle)) if (part.type === "chunk") chunks.set(part.fileName, part);
    },
  };
  await build(config(outDir, new Map(), collect));
  await build(config(outDir, filesOf(chunks), undefined));
}
