// What a run and the workers of a queue agree on: the code that both have, and files of parts as messages hold them.
import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipe, record, regex, string } from "valibot";
import { writeFileAtomic } from "../../../io/files.js";
import { namedDigest } from "../../../sweeps/trial-file.js";

/** Digest of what the workers of a queue run: jobs of any experiment of this version. */
export const queuedJobsDigest = (): string => namedDigest("jobs of experiments");

/** Files of a run's folder for parts, as they are sent: base64 by name. */
export type PartFiles = Readonly<Record<string, string>>;
export const partFiles = record(
  pipe(string(), regex(/^[\w+-][\w.+-]{0,200}\.safetensors$/, "a part's file name")),
  string("base64"),
);

/** Files as they are sent. */
export async function readParts(paths: readonly string[]): Promise<PartFiles> {
  const read = async (path: string) => [basename(path), await readFile(path, "base64")] as const;
  return Object.fromEntries(await Promise.all(paths.map(read)));
}

/** Puts files that were sent into a run's folder. */
export async function writeParts(folder: string, files: PartFiles): Promise<void> {
  await mkdir(join(folder, "parts"), { recursive: true });
  for (const [file, text] of Object.entries(files)) {
    await writeFileAtomic(join(folder, "parts", file), Buffer.from(text, "base64"));
  }
}
