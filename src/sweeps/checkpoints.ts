// Checkpoints of trials in a folder: one file each, written whole or not at all.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { readOpened, removeFile, writeFileAtomic } from "../io/files.js";
import { DataError } from "../tensor/errors.js";
import type { CheckpointStore } from "./executor.js";

/** A store in a folder of this machine, or of one that it shares. References are names of files in it. */
export function folderStore(folder: string): CheckpointStore {
  const nameOf = (number: number) => `trial-${number}.checkpoint`;
  return {
    async write(number, bytes) {
      await mkdir(folder, { recursive: true });
      await writeFileAtomic(join(folder, nameOf(number)), bytes);
      return nameOf(number);
    },
    async read(reference) {
      // Out of a journal or a queue: nothing outside of the folder, whatever it says.
      if (!/^trial-\d+\.checkpoint$/.test(reference)) {
        throw new DataError(`checkpoint: must be one of ${folder}, given ${JSON.stringify(reference)}`);
      }
      return await readOpened(join(folder, reference), ({ size, read }) => read(new Uint8Array(size), 0));
    },
    remove: (number) => removeFile(join(folder, nameOf(number))),
  };
}
