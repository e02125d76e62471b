// What the set-up decides from text alone: which node modules or build are stale. Pure functions: no files, processes
// or network here (scripts/setup.mjs does those). Plain JavaScript without dependencies, because it runs before
// node_modules exists.
import { createHash } from "node:crypto";

/**
 * Why the installed node modules do not match the lock file; undefined when they do. `installed` is npm's own record of
 * what it put there (node_modules/.package-lock.json), which npm writes last, so an interrupted install has none.
 * Optional packages of other platforms are in the lock file only.
 */
export function staleModules(lockText, installedText) {
  if (installedText === undefined) return "absent or incomplete";
  const installed = JSON.parse(installedText).packages;
  for (const [path, wanted] of Object.entries(JSON.parse(lockText).packages)) {
    const found = installed[path];
    if (path === "" || (wanted.optional && !found)) continue;
    if (found?.version !== wanted.version) {
      return `${path.replace(/^.*node_modules\//, "")} is ${found?.version ?? "absent"}, the lock file has ${wanted.version}`;
    }
  }
  return undefined;
}

/**
 * A digest of paths and contents, `[path, text]` in any order: the build is stale when it differs from that of the last
 * build.
 */
export function sourceDigest(files) {
  const hash = createHash("sha256");
  for (const [path, text] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) hash.update(`${path}\0${text}\0`);
  return hash.digest("hex");
}

/** Whether `version` ("20.19.0") is at least `minimum` ("20.19"). */
export function versionAtLeast(version, minimum) {
  return version.localeCompare(minimum, "en", { numeric: true }) >= 0;
}
