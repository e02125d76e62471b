// Checkpoints of trials on a queue: small ones in Redis, larger ones in a folder that all workers share. A reference
// says where the bytes are, how many, and their digest, so that damaged ones are never gone on with.
import { createHash } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { readOpened, writeFileAtomic } from "../../io/files.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import type { Client } from "./connection.js";
import type { SweepKeys } from "./scripts.js";

/** Bytes of the largest checkpoint that goes through Redis: longer ones would keep others waiting. */
export const MOST_IN_REDIS = 8 * 2 ** 20;

const REFERENCE = /^(redis|folder):(\d{1,8}):(\d{1,15}):([0-9a-f]{64})$/;

/** Checkpoints of one sweep. `folder` is that of the worker, where it has one. */
export class Checkpoints {
  constructor(
    private readonly client: Client,
    private readonly keys: SweepKeys,
    private readonly folder: string | undefined,
    private readonly sweep: string,
  ) {}

  /**
   * Keeps a checkpoint instead of those before.
   * @returns its reference; undefined where a later attempt has one, which then stays
   * @throws UsageError for one that is too large for Redis, without a folder
   */
  async keep(number: number, attempt: number, bytes: Uint8Array): Promise<string | undefined> {
    const key = this.keys.checkpoint(number);
    const digest = createHash("sha256").update(bytes).digest("hex");
    if (bytes.length <= MOST_IN_REDIS) {
      const reference = `redis:${number}:${bytes.length}:${digest}`;
      const kept = await this.client.kilogradKeep(
        key,
        attempt,
        reference,
        Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
      );
      if (kept === 1 && this.folder !== undefined) await this.removeFiles(number);
      return kept === 1 ? reference : undefined;
    }
    if (this.folder === undefined) {
      throw new UsageError(
        `checkpoint: at most ${MOST_IN_REDIS / 2 ** 20} MiB go through Redis, got ${(bytes.length / 2 ** 20).toFixed(1)}; ` +
          "start the workers with --store FOLDER, a folder that all of them share",
      );
    }
    const reference = `folder:${number}:${bytes.length}:${digest}`;
    await mkdir(this.path(), { recursive: true });
    const name = fileName(number, digest);
    await writeFileAtomic(join(this.path(), name), bytes);
    const kept = await this.client.kilogradKeep(key, attempt, reference, "");
    if (kept === 1) await this.removeFiles(number, name);
    return kept === 1 ? reference : undefined;
  }

  /**
   * The bytes of a reference; undefined for one in Redis that is gone with what Redis has lost.
   * @throws DataError for bytes that are not those of the reference, and for a folder's that cannot be read
   */
  async read(reference: string): Promise<Uint8Array | undefined> {
    const [, where, trial, size, digest] = REFERENCE.exec(reference) ?? [];
    if (where === undefined) throw new DataError("checkpoint: its reference is not one of this version");
    const number = Number(trial);
    let bytes: Uint8Array;
    if (where === "redis") {
      const [kept, found] = await this.client.hmgetBuffer(this.keys.checkpoint(number), "reference", "bytes");
      if (!found || kept?.toString() !== reference) return undefined;
      bytes = found;
    } else {
      if (this.folder === undefined) {
        throw new UsageError(
          `checkpoint: that of trial ${number} is in a shared folder; start this worker with --store FOLDER, too`,
        );
      }
      const path = join(this.path(), fileName(number, digest!));
      bytes = await readOpened(path, (file) => {
        if (file.size !== Number(size)) throw new DataError(`checkpoint: ${path} has not the size that it had`);
        return file.read(new Uint8Array(file.size), 0);
      });
    }
    if (bytes.length === Number(size) && createHash("sha256").update(bytes).digest("hex") === digest) return bytes;
    throw new DataError(`checkpoint: that of trial ${number} is damaged: its digest is another`);
  }

  /** Of a trial that has its outcome: what is in the folder. What is in Redis goes with the outcome. */
  async finished(number: number): Promise<void> {
    if (this.folder !== undefined) await this.removeFiles(number);
  }

  private path(): string {
    return join(this.folder!, this.sweep);
  }

  private async removeFiles(number: number, except?: string): Promise<void> {
    const entries = await readdir(this.path()).catch(() => []); // Nothing was ever kept there.
    for (const entry of entries) {
      if (entry.startsWith(`trial-${number}-`) && entry !== except) await rm(join(this.path(), entry), { force: true });
    }
  }
}

const fileName = (number: number, digest: string) => `trial-${number}-${digest.slice(0, 16)}.bin`;
