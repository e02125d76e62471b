// What a benchmark has to take away behind it, such as temporary folders, also where Ctrl-C or a kill ends it early.
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";

const open = new Set<() => void>();

function end(signal: NodeJS.Signals): void {
  // The last first: a folder may hold what came later.
  for (const undo of [...open].reverse()) undo();
  process.exit(128 + constants.signals[signal]);
}

/**
 * Does `undo` at the end of the block that is `using` what this gives, and where SIGINT or SIGTERM ends the process
 * before.
 */
export function undoing(undo: () => void): Disposable {
  if (open.size === 0) process.on("SIGINT", end).on("SIGTERM", end);
  open.add(undo);
  return {
    [Symbol.dispose]() {
      if (!open.delete(undo)) return;
      if (open.size === 0) process.off("SIGINT", end).off("SIGTERM", end);
      undo();
    },
  };
}

/** An empty folder that goes with its content, see {@link undoing}. */
export function temporaryFolder(name: string): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), `kilograd-${name}-`));
  return Object.assign(
    undoing(() => rmSync(path, { recursive: true, force: true })),
    { path },
  );
}
