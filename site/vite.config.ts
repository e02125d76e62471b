// How the pages are built: static files that work from any host under any path, without a server of their own.
import { readdirSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

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

export default defineConfig({
  root: import.meta.dirname,
  plugins: [heads],
  // Paths are relative to the page.
  base: "./",
  build: {
    outDir: "dist",
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
    plugins: () => [shaders],
    rolldownOptions: { treeshake: { manualPureFunctions: makers } },
  },
});
