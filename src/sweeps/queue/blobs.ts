// Checkpoints of trials on a queue, and outcomes that are too large for a message: small ones in Redis, larger ones in
// a store that all machines share. A reference says where the bytes are, how many, and their digest, so that damaged
// ones are never gone on with.
import { createHash } from "node:crypto";
import { DataError, UsageError } from "../../tensor/errors.js";
import type { Client } from "./connection.js";
import type { SweepKeys } from "./scripts.js";
import type { BlobStore } from "./stores.js";

/** Bytes of the largest checkpoint or outcome that goes through Redis: longer ones would keep others waiting. */
export const MOST_IN_REDIS = 8 * 2 ** 20;

const REFERENCE = /^(redis|store):(\d{1,8}):(\d{1,15}):([0-9a-f]{64})$/;

const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const asBuffer = ({ buffer, byteOffset, length }: Uint8Array) => Buffer.from(buffer, byteOffset, length);

/** What is kept of one sweep's trials. `store` is that of this process, where it has one. */
export class Blobs {
  constructor(
    private readonly client: Client,
    private readonly keys: SweepKeys,
    private readonly store: BlobStore | undefined,
    private readonly sweep: string,
  ) {}

  /**
   * Keeps a checkpoint instead of those before.
   * @returns its reference; undefined where a later attempt has one, which then stays
   * @throws UsageError for one that is too large for Redis, without a store
   */
  async keepCheckpoint(number: number, attempt: number, bytes: Uint8Array): Promise<string | undefined> {
    const inRedis = bytes.length <= MOST_IN_REDIS;
    const { reference, name } = this.referenceTo("checkpoint", number, bytes, inRedis);
    if (!inRedis) await this.store!.put(name, bytes);
    const key = this.keys.checkpoint(number);
    const kept = await this.client.kilogradKeep(key, attempt, reference, inRedis ? asBuffer(bytes) : "");
    if (kept === 1) await this.store?.removeAll(this.begin("checkpoint", number), inRedis ? undefined : name);
    return kept === 1 ? reference : undefined;
  }

  /**
   * The bytes of a checkpoint; undefined for one in Redis that is gone with what Redis has lost.
   * @throws DataError for bytes that are not those of the reference, and for a store's that cannot be read
   */
  readCheckpoint(reference: string): Promise<Uint8Array | undefined> {
    return this.read("checkpoint", reference, async (number) => {
      const [kept, found] = await this.client.hmgetBuffer(this.keys.checkpoint(number), "reference", "bytes");
      return kept?.toString() === reference ? found : null;
    });
  }

  /** Keeps an outcome. @throws UsageError for one that is too large for Redis, without a store */
  async keepOutcome(number: number, text: string): Promise<string> {
    const bytes = Buffer.from(text);
    const inRedis = bytes.length <= MOST_IN_REDIS;
    const { reference, name } = this.referenceTo("outcome", number, bytes, inRedis);
    if (inRedis) await this.client.set(this.keys.blob(name), bytes);
    else await this.store!.put(name, bytes);
    return reference;
  }

  /** Forgets an outcome that a journal has, or that came second. */
  async dropOutcome(reference: string): Promise<void> {
    const [, where, number, , digest] = REFERENCE.exec(reference) ?? [];
    if (where === undefined) return;
    const name = this.nameOf("outcome", Number(number), digest!);
    if (where === "redis") await this.client.del(this.keys.blob(name));
    else await this.store?.removeAll(name);
  }

  /** The text of an outcome; undefined for one in Redis that is gone. @throws DataError as `readCheckpoint` does */
  async readOutcome(reference: string): Promise<string | undefined> {
    const bytes = await this.read("outcome", reference, (_, name) => this.client.getBuffer(this.keys.blob(name)));
    return bytes && Buffer.from(bytes).toString();
  }

  /** Of a trial that has its outcome: its checkpoints in the store. Those in Redis go with the outcome. */
  async finished(number: number): Promise<void> {
    await this.store?.removeAll(this.begin("checkpoint", number));
  }

  private begin(what: "checkpoint" | "outcome", number: number): string {
    return `${this.sweep}/${what}-${number}-`;
  }

  private nameOf(what: "checkpoint" | "outcome", number: number, digest: string): string {
    return `${this.begin(what, number)}${digest.slice(0, 16)}`;
  }

  private referenceTo(what: "checkpoint" | "outcome", number: number, bytes: Uint8Array, inRedis: boolean) {
    if (!inRedis && this.store === undefined) {
      throw new UsageError(
        `${what}: at most ${MOST_IN_REDIS / 2 ** 20} MiB go through Redis, got ${(bytes.length / 2 ** 20).toFixed(1)}; start ` +
          "sweep and workers with the same --store, a folder that all of them share or s3://bucket/prefix",
      );
    }
    const digest = digestOf(bytes);
    const reference = `${inRedis ? "redis" : "store"}:${number}:${bytes.length}:${digest}`;
    return { reference, name: this.nameOf(what, number, digest) };
  }

  private async read(
    what: "checkpoint" | "outcome",
    reference: string,
    inRedis: (number: number, name: string) => Promise<Uint8Array | null | undefined>,
  ): Promise<Uint8Array | undefined> {
    const [, where, trial, size, digest] = REFERENCE.exec(reference) ?? [];
    if (where === undefined) throw new DataError(`${what}: its reference is not one of this version`);
    const number = Number(trial);
    const name = this.nameOf(what, number, digest!);
    let bytes: Uint8Array;
    if (where === "redis") {
      const found = await inRedis(number, name);
      if (!found) return undefined;
      bytes = found;
    } else {
      if (this.store === undefined) {
        throw new UsageError(
          `${what}: that of trial ${number} is in a store; give this process the same --store as the others`,
        );
      }
      bytes = await this.store.get(name, Number(size));
    }
    if (bytes.length === Number(size) && digestOf(bytes) === digest) return bytes;
    throw new DataError(`${what}: that of trial ${number} is damaged: its digest is another`);
  }
}
