// `npm run site [-- build] [--reports FOLDER]`: builds the pages of site/ into site/dist, with the reports of a run of
// all experiments where their folder is given, and serves them on this machine.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";

const root = join(import.meta.dirname, "../site");
const types = {
  ...{ ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" },
  ...{ ".json": "application/json", ".wasm": "application/wasm" },
};

/** Serves built pages to this machine alone; port 0 is any free one. */
export async function serveSite(folder, port = 0) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const file = join(folder, normalize(path.endsWith("/") ? `${path}index.html` : path));
    const found = file.startsWith(folder) && existsSync(file) && statSync(file).isFile();
    if (!found) return void response.writeHead(404).end("there is no such page");
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return { address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** Builds the pages into a folder, with the docs unless `docs` is false. */
export async function buildSite({ outDir = join(root, "dist"), docs = true, reports } = {}) {
  await (await runnerImport(join(root, "build.ts"))).module.buildPages(outDir);
  if (!docs) return;
  const { module } = await runnerImport(join(root, "docs/render.ts"));
  await module.renderDocs(join(outDir, "docs"), { reports });
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({ options: { reports: { type: "string" } }, allowPositionals: true });
  await buildSite(values);
  const folder = join(root, "dist");
  if (positionals[0] === "build") console.log(`The pages are in ${folder}; any static host serves them.`);
  else console.log(`The pages are at ${(await serveSite(folder, 8080)).address} (Ctrl-C ends it)`);
}
