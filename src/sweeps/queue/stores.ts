// Where bytes go that are too large for Redis: a folder that all machines share, or a bucket of an S3-like store. Keys
// are made here and in results of this version; whatever else lies there is left alone.
import { createHash } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { AwsClient } from "aws4fetch";
import { leftoverOf, prepareOutputFolder, readOpened, writeFileAtomic } from "../../io/files.js";
import { DataError, KilogradError, UsageError } from "../../tensor/errors.js";

/** Bytes by keys of the form `sweep/name`. */
export interface BlobStore {
  /** Written whole or not at all. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** @throws DataError where there are none, or not so many */
  get(key: string, size: number): Promise<Uint8Array>;
  /** Removes all whose keys begin so, except one. Nothing where there is none. */
  removeAll(begin: string, except?: string): Promise<void>;
}

/** How a store is named, for messages. */
export const STORE_FORM = "a folder, or s3://bucket/prefix";

/**
 * Opens a store: a folder, which is made, or `s3://bucket/prefix`, which is looked at once.
 * @throws UsageError for a name or for variables that do not fit; KilogradError `STORE` for a bucket that refuses
 */
export async function openStore(name: string): Promise<BlobStore> {
  if (!/^[a-z0-9]+:\/\//i.test(name)) return folderBlobs(await prepareOutputFolder(name));
  const store = new BucketStore(name, process.env);
  await store.look();
  return store;
}

function folderBlobs(folder: string): BlobStore {
  return {
    async put(key, bytes) {
      const path = join(folder, key);
      await mkdir(join(path, ".."), { recursive: true });
      await writeFileAtomic(path, bytes);
    },
    get(key, size) {
      const path = join(folder, key);
      return readOpened(path, (file) => {
        if (file.size !== size) throw new DataError(`store: ${path} must have ${size} bytes, has ${file.size}`);
        return file.read(new Uint8Array(file.size), 0);
      });
    },
    async removeAll(begin, except) {
      const at = begin.lastIndexOf("/") + 1;
      const parent = join(folder, begin.slice(0, at));
      const entries = await readdir(parent).catch(() => []); // Nothing was ever kept there.
      for (const entry of entries) {
        const key = begin.slice(0, at) + (leftoverOf(entry) ?? entry);
        if (key.startsWith(begin) && key !== except) await rm(join(parent, entry), { force: true });
      }
    },
  };
}

/** Milliseconds that one request may take: at 10 MB a second some gigabytes. */
const REQUEST_MS = 300_000;
/** Tries of a request that does not get through, or that the store is too busy for. */
const TRIES = 4;
/** What a list of keys may have: one of a sweep's trial has a few. */
const MOST_LISTED = 1000;

/** A bucket, by path: every S3-like store takes that, and names with dots need no certificate of their own. */
class BucketStore implements BlobStore {
  private readonly bucket: string;
  private readonly prefix: string;
  private readonly endpoint: string;
  private readonly region: string;
  private readonly secrets: readonly string[];
  private client: AwsClient | undefined;

  constructor(
    private readonly shown: string,
    private readonly environment: Readonly<Record<string, string | undefined>>,
  ) {
    const [, bucket, prefix = ""] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([\w.\-/]*))?$/.exec(shown) ?? [];
    const parts = prefix.split("/").filter(Boolean);
    if (bucket === undefined || parts.some((part) => /^\.+$/.test(part))) {
      throw new UsageError(
        `store: must be ${STORE_FORM}, of letters, digits and . - _ /; given ${shown.slice(0, 200)}`,
      );
    }
    this.bucket = bucket;
    this.prefix = parts.map((part) => `${part}/`).join("");
    const { AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL } = environment;
    this.region = AWS_REGION || AWS_DEFAULT_REGION || "us-east-1";
    this.endpoint = endpointOf(AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL || `https://s3.${this.region}.amazonaws.com`);
    const names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].filter((name) => !environment[name]);
    if (names.length > 0) {
      throw new UsageError(`store: ${shown} needs credentials; set ${names.join(" and ")} in the environment`);
    }
    this.secrets = [environment["AWS_SECRET_ACCESS_KEY"]!, environment["AWS_ACCESS_KEY_ID"]!].concat(
      environment["AWS_SESSION_TOKEN"] || [],
    );
  }

  /** @throws as a request does: where the bucket is not there, or not for these credentials */
  async look(): Promise<void> {
    await this.list("", 1);
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    // The store compares it with what has arrived.
    const digest = createHash("sha256").update(bytes).digest("hex");
    await this.request("PUT", this.pathOf(key), { body: bytes, headers: { "x-amz-content-sha256": digest } });
  }

  async get(key: string, size: number): Promise<Uint8Array> {
    const response = await this.request("GET", this.pathOf(key));
    const given = Number(response.headers.get("content-length") ?? size);
    if (given !== size) {
      await response.body?.cancel();
      throw new DataError(`store: ${this.shown}: ${key} must have ${size} bytes, has ${given}`);
    }
    return new Uint8Array(await this.sent(response.arrayBuffer()));
  }

  async removeAll(begin: string, except?: string): Promise<void> {
    for (const key of await this.list(begin, MOST_LISTED)) {
      if (key !== except) await (await this.request("DELETE", this.pathOf(key))).body?.cancel();
    }
  }

  /** Keys that begin so. What is no key of this version's is passed over. */
  private async list(begin: string, most: number): Promise<string[]> {
    const query = new URLSearchParams({ "list-type": "2", prefix: this.prefix + begin, "max-keys": String(most) });
    const response = await this.request("GET", `?${query.toString().replaceAll("+", "%20")}`);
    const text = await this.sent(response.text());
    const keys = Array.from(text.matchAll(/<Key>([\w.\-/]+)<\/Key>/g), (match) => match[1]!);
    return keys.flatMap((key) => (key.startsWith(this.prefix + begin) ? [key.slice(this.prefix.length)] : []));
  }

  private readonly pathOf = (key: string) => `/${this.prefix}${key}`;

  private async request(
    method: string,
    path: string,
    init: { readonly body?: Uint8Array; readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Response> {
    const client = await this.opened();
    const url = `${this.endpoint}/${this.bucket}${path}`;
    for (let tries = 1; ; tries++) {
      try {
        const signal = AbortSignal.timeout(REQUEST_MS);
        const response = await this.sent(
          client.fetch(url, { ...init, method, signal, redirect: "error" } as RequestInit),
        );
        if (response.ok) return response;
        throw this.refusal(method, response.status, await this.sent(response.text()));
      } catch (error) {
        const mayPass = error instanceof KilogradError && error.code === AWAY;
        if (!mayPass || tries === TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** tries));
      }
    }
  }

  private async opened(): Promise<AwsClient> {
    if (this.client === undefined) {
      const { AwsClient } = await import("aws4fetch");
      const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = this.environment;
      this.client = new AwsClient({
        ...{ accessKeyId: AWS_ACCESS_KEY_ID!, secretAccessKey: AWS_SECRET_ACCESS_KEY!, service: "s3" },
        ...{ region: this.region, retries: TRIES },
        ...(AWS_SESSION_TOKEN && { sessionToken: AWS_SESSION_TOKEN }),
      });
    }
    return this.client;
  }

  /** Errors of the network in words of their own: theirs may hold the request. */
  private async sent<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      const { cause, message } = error as Error & { cause?: NodeJS.ErrnoException };
      const why = cause?.message || cause?.code || message;
      throw new KilogradError(AWAY, `store: ${this.shown}: cannot reach ${this.endpoint}: ${this.redacted(why)}`);
    }
  }

  /** What a store answers, which may repeat what was signed. */
  private refusal(method: string, status: number, text: string): KilogradError {
    const of = (name: string) => new RegExp(`<${name}>([^<]{1,300})</${name}>`).exec(text)?.[1];
    const why = [of("Code"), of("Message")].filter(Boolean).join(": ");
    const message = this.redacted(`store: ${this.shown}: answers ${status} to ${method}${why ? `, ${why}` : ""}`);
    if (status === 404 && of("Code") === "NoSuchKey") return new DataError(message);
    return new KilogradError(
      "STORE",
      `${message}; see that bucket, AWS_ENDPOINT_URL, AWS_REGION and the credentials of the environment belong together`,
    );
  }

  private redacted(text: string): string {
    return this.secrets.reduce((left, secret) => left.replaceAll(secret, "***"), text).replace(/\s*\n\s*/g, " ");
  }
}

/** Code of an error that may pass. */
const AWAY = "STORE_AWAY";

/** @throws UsageError for what is no address of a server, or holds user, path or query */
function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash;
  if (plain) return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
  throw new UsageError(
    "store: AWS_ENDPOINT_URL must be https://host[:port] or http://host[:port]; credentials stand in AWS_ACCESS_KEY_ID and " +
      "AWS_SECRET_ACCESS_KEY",
  );
}
