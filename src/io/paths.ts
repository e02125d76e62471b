// What nn asks of the place where it runs: lines of a file, and words for whoever runs the program.
import { findFiles, findRuntime, type Terminal } from "../runtime/runtime.js";

export type { Terminal };

/**
 * Writes lines to a file, or adds them to it. @throws KilogradError `FILE_WRITE`, UsageError where there are no files
 */
export async function writeLines(owner: string, path: string, lines: string, append: boolean): Promise<void> {
  const files = await findFiles(owner);
  await files.log(path, lines, append);
}

/** Tells whoever runs the program: in Node a warning of the process. */
export async function warn(message: string): Promise<void> {
  const runtime = await findRuntime();
  runtime.warn(message);
}

/** Where progress goes: in Node standard error. */
export async function terminal(): Promise<Terminal> {
  return (await findRuntime()).terminal;
}
