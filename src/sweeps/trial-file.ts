// A trial's file: a module whose default export is the trial, and the digest by which workers know that they have the
// same one.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { DataError, UsageError } from "../tensor/errors.js";
import { callable, describe } from "../tensor/options.js";
import type { Trial, TrialModule } from "./executor.js";

/** Of this package. */
export const packageVersion = (): string => createRequire(import.meta.url)("kilograd/package.json").version;

/** What a module imports or exports from files beside it. */
const RELATIVE = /(?:\bfrom|\bimport)\s*\(?\s*["'](\.{1,2}\/[^"'\n]+)["']/g;

/**
 * SHA-256 of a file, of the files that it imports by relative paths, and of this package's version. What it takes of
 * packages is not part of it.
 * @throws DataError for a file that cannot be read
 */
export function codeDigest(path: string): string {
  const hash = createHash("sha256").update(`kilograd ${packageVersion()}\n`);
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (cause) {
      throw new DataError(`trial: cannot read ${file}: ${(cause as Error).message}`, { cause });
    }
    hash.update(`${text.length}\n`).update(text);
    // In comments and texts, too: a file more in the digest does no harm, as long as it is there.
    for (const [, found] of text.matchAll(RELATIVE)) {
      const next = resolve(dirname(file), found!);
      if (existsSync(next)) visit(next);
    }
  };
  visit(resolve(path));
  return hash.digest("hex");
}

/** Digest of a trial that is no file of its own: of its name, settings and this package's version. */
export function namedDigest(identity: unknown): string {
  return createHash("sha256")
    .update(`kilograd ${packageVersion()}\n${JSON.stringify(identity)}`)
    .digest("hex");
}

/**
 * Loads a trial's file.
 * @throws UsageError for a file that cannot be loaded, or whose default export is no function
 */
export async function loadTrialFile(path: string): Promise<TrialModule> {
  const code = codeDigest(path);
  let module: { readonly default?: unknown };
  try {
    module = await import(pathToFileURL(resolve(path)).href);
  } catch (cause) {
    throw new UsageError(`trial: ${path} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  if (callable.accepts(module.default)) return { code, trial: module.default as Trial };
  throw new UsageError(
    `trial: ${path} must export a function (config, { seed, report }) as default, has ${describe(module.default)}`,
  );
}

/** For worker processes: see `WorkerStart`. */
export const load = ({ file }: { readonly file: string }): Promise<TrialModule> => loadTrialFile(file);
