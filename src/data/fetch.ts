// Downloads one published file into the cache folder: several mirrors, timeouts, retries, resume, checksum, atomic
// rename. Safe between processes without locks: everyone writes a partial file of their own, and the finished file
// appears by rename. It knows nothing of what is inside the file, and it is no general HTTP client.

import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Dispatcher, EnvHttpProxyAgent, interceptors, request } from "undici";
import { cacheFolder } from "../runtime/node-cache-folder.js";
import { isAlive } from "../runtime/node-processes.js";
import { DataError } from "../tensor/errors.js";
import { boolean, callable, integer, type Rules, text } from "../tensor/options.js";
import { inflate } from "./gzip.js";

export { cacheFolder };

/** A file as published: where it may be had and what its uncompressed bytes must be. */
export interface FileSpec {
  /** Path inside the cache folder, e.g. `mnist/train-images-idx3-ubyte.gz`. */
  readonly name: string;
  /** Complete URLs, tried in this order. */
  readonly mirrors: readonly string[];
  /**
   * Of the uncompressed bytes, because mirrors pack the same content into different gzip envelopes; or of the file as
   * published.
   */
  readonly checksum: {
    readonly algorithm: "sha256" | "md5";
    readonly hex: string;
    /** Default "content", the uncompressed bytes. */
    readonly of?: "content" | "file";
  };
  /** How many bytes the uncompressed content has at most. Nothing longer is downloaded, or uncompressed. */
  readonly mostBytes: number;
}

/** Of a file whose content has at most so many bytes: gzip may make content that it cannot shrink a little longer. */
const mostFileBytes = ({ mostBytes }: FileSpec): number => Math.ceil(mostBytes * 1.01) + 4096;

/** How far the download of one file has come. */
export interface FetchProgress {
  readonly name: string;
  readonly url: string;
  readonly receivedBytes: number;
  /** Absent where the server does not say. */
  readonly totalBytes?: number;
}

/** Options of {@link fetchFile}; all have defaults. */
export interface FetchOptions {
  /** Default: `kilograd` in the cache folder of the user, `$XDG_CACHE_HOME` or `~/.cache`. */
  readonly cacheDir?: string;
  /** Use only what is in the cache. */
  readonly offline?: boolean;
  /** Tries per mirror, 4 by default. Only faults that may pass are tried again: a 404 moves on to the next mirror. */
  readonly attempts?: number;
  /** Milliseconds to connect, 10,000 by default. */
  readonly connectTimeout?: number;
  /** Milliseconds of silence before headers or between two pieces of the body, 15,000 by default. */
  readonly bodyTimeout?: number;
  /**
   * Bytes a second that must come, 1,024 by default, counted over every `bodyTimeout` again. A slower connection counts
   * as broken, so that a whole download has an end: at the latest the file's size divided by this.
   */
  readonly leastRate?: number;
  /** Milliseconds before the second attempt, 500 by default; doubles each time, with +-50 % jitter. */
  readonly backoff?: number;
  /** Called for every piece that arrives. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Called with a line for the user: a download that starts, an attempt that failed, a damaged cached file. */
  readonly onMessage?: (message: string) => void;
}

const BODY_TIMEOUT = 15_000;

const milliseconds = integer({ from: 0, to: 2 ** 31 - 1 });

/** Rules of the options of what downloads. */
export const fetchRules: Rules<FetchOptions> = {
  cacheDir: text,
  offline: boolean,
  attempts: integer({ from: 1, to: 100 }),
  connectTimeout: milliseconds,
  bodyTimeout: milliseconds,
  leastRate: integer({ from: 0 }),
  backoff: milliseconds,
  onProgress: callable,
  onMessage: callable,
};

/** What {@link fetchFile} resolves to. */
export interface FetchedFile {
  /** The file in the cache, as published (still compressed). */
  readonly path: string;
  /** Its uncompressed bytes, checksum verified. */
  readonly bytes: Uint8Array;
  /** The mirror it was downloaded from, `undefined` when it was in the cache already. */
  readonly downloadedFrom: string | undefined;
}

/** A fault of a mirror or of the way to it. `retry`: may pass, so that another attempt makes sense. */
class MirrorFault extends Error {
  constructor(
    message: string,
    readonly retry: boolean,
  ) {
    super(message);
  }
}

/**
 * The file from the cache, or downloaded into it. A cached file whose checksum is wrong is reported and replaced.
 * A download that broke off, in this run or an earlier one, is continued where the server supports ranges.
 *
 * @throws DataError when no mirror gives the file (naming each with its fault), or the cache cannot be written.
 * @example
 * const { bytes } = await fetchFile({ name: "mnist/t10k-labels-idx1-ubyte.gz", mirrors: [...], checksum: {...} });
 */
export async function fetchFile(spec: FileSpec, options: FetchOptions = {}): Promise<FetchedFile> {
  const path = join(options.cacheDir ?? cacheFolder(), spec.name);
  const cached = await readCached(spec, path, options);
  if (cached) return { path, bytes: cached, downloadedFrom: undefined };
  if (options.offline) {
    throw new DataError(`fetch: ${path} is missing or damaged, and downloads are switched off; ${otherWays}`);
  }
  await local(path, () => mkdir(dirname(path), { recursive: true }));

  const { connectTimeout = 10_000, bodyTimeout = BODY_TIMEOUT } = options;
  const agent = new EnvHttpProxyAgent({
    connect: { timeout: connectTimeout },
    headersTimeout: bodyTimeout,
    bodyTimeout,
  });
  const dispatcher = agent.compose(interceptors.redirect({ maxRedirections: 5 }));
  const faults: string[] = [];
  try {
    for (const url of spec.mirrors) {
      try {
        const bytes = await fetchFromMirror(spec, url, path, dispatcher, options);
        await local(path, () => removeAbandoned(path));
        return { path, bytes, downloadedFrom: url };
      } catch (error) {
        if (!(error instanceof MirrorFault)) throw error;
        faults.push(`  ${shown(url)}: ${error.message}`);
      }
    }
  } finally {
    await agent.destroy();
  }
  throw new DataError(
    `fetch: ${spec.name} could be had from none of its ${spec.mirrors.length} mirrors:\n${faults.join("\n")}\n` +
      `check the network, or ${otherWays}`,
  );
}

/** A URL for messages, without the user and the password that it may hold. */
function shown(url: string): string {
  if (!URL.canParse(url)) return "(no URL)";
  const parsed = new URL(url);
  [parsed.username, parsed.password] = ["", ""];
  return parsed.href;
}

const otherWays = "put the data files into a folder and name it with --data-dir or KILOGRAD_DATA_DIR";

async function readCached(spec: FileSpec, path: string, options: FetchOptions): Promise<Uint8Array | undefined> {
  const size = (await local(path, () => stat(path).catch(absent)))?.size;
  if (size === undefined) return undefined;
  try {
    if (size > mostFileBytes(spec))
      throw new Error(`it has ${size} bytes, more than the ${mostFileBytes(spec)} it may have`);
    return await verified(spec, await local(path, () => readFile(path)));
  } catch (error) {
    options.onMessage?.(
      `${path} is damaged (${(error as Error).message})${options.offline ? "" : "; downloading it again"}`,
    );
    return undefined;
  }
}

async function fetchFromMirror(
  spec: FileSpec,
  url: string,
  path: string,
  dispatcher: Dispatcher,
  options: FetchOptions,
): Promise<Uint8Array> {
  const { attempts = 4, backoff = 500, onMessage } = options;
  const partial = await local(path, () => claimPartial(path, url));
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        if (attempt === 1) onMessage?.(`downloading ${shown(url)}`);
        const arrival = await download(spec, url, partial, dispatcher, options);
        const bytes = await verifyDownload(spec, partial, arrival);
        await local(path, () => rename(partial, path));
        return bytes;
      } catch (error) {
        if (!(error instanceof MirrorFault)) throw error;
        if (!error.retry) throw error;
        if (attempt >= attempts) throw new MirrorFault(`${error.message} (${attempts} attempts)`, false);
        onMessage?.(`${shown(url)}: ${error.message}; attempt ${attempt + 1} of ${attempts} follows`);
        await sleep(backoff * 2 ** (attempt - 1) * (0.5 + Math.random()));
      }
    }
  } finally {
    await local(path, () => releasePartial(partial, path, url));
  }
}

/** How a body came: whole, as the continuation of what was there, or not at all because nothing was missing. */
type Arrival = "whole" | "continued" | "complete";

/** One request: appends to `partial` where the server continues it, and otherwise writes it from the beginning. */
async function download(
  spec: FileSpec,
  url: string,
  partial: string,
  dispatcher: Dispatcher,
  { onProgress, bodyTimeout = BODY_TIMEOUT, leastRate = 1024 }: FetchOptions,
): Promise<Arrival> {
  const have = (await local(partial, () => stat(partial).catch(absent)))?.size ?? 0;
  const { statusCode, headers, body } = await remote(() =>
    request(url, {
      dispatcher,
      headers: { "accept-encoding": "identity", ...(have > 0 && { range: `bytes=${have}-` }) },
    }),
  );
  const range = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(String(headers["content-range"] ?? ""));
  const continues = statusCode === 206 && have > 0 && Number(range?.[1]) === have;
  if (statusCode !== 200 && !continues) {
    body.on("error", () => {}).destroy();
    // 416: nothing follows what is here. Either it is complete, which the checksum decides, or it is of another
    // version.
    if (statusCode === 416 && have > 0) return "complete";
    if (statusCode === 206) {
      await local(partial, () => rm(partial, { force: true }));
      throw new MirrorFault(
        `asked for bytes ${have}-, the answer has Content-Range "${headers["content-range"] ?? "(none)"}"`,
        have > 0,
      );
    }
    throw new MirrorFault(`HTTP status ${statusCode}`, statusCode >= 500 || [408, 425, 429].includes(statusCode));
  }
  const most = mostFileBytes(spec);
  const tooLong = async (bytes: number): Promise<MirrorFault> => {
    body.on("error", () => {}).destroy();
    await local(partial, () => rm(partial, { force: true }));
    return new MirrorFault(`sends ${bytes} bytes, the file has at most ${most}`, false);
  };
  const announced = Number(continues ? range?.[2] : (headers["content-length"] ?? Number.NaN));
  const total = Number.isFinite(announced) ? announced : undefined;
  if (total !== undefined && total > most) throw await tooLong(total);
  let received = continues ? have : 0;
  // The dispatcher ends a silence; a drip is ended here, where the next piece comes.
  let since = { at: performance.now(), received };
  const checkRate = (): void => {
    const seconds = (performance.now() - since.at) / 1000;
    if (1000 * seconds < bodyTimeout) return;
    const came = received - since.received;
    if (came < leastRate * seconds) {
      body.on("error", () => {}).destroy();
      throw new MirrorFault(
        `too slow: ${came} bytes in ${seconds.toFixed(1)} s, at least ${leastRate} a second must come`,
        true,
      );
    }
    since = { at: performance.now(), received };
  };
  const file = await local(partial, () => open(partial, continues ? "a" : "w"));
  try {
    await remote(async () => {
      for await (const piece of body as AsyncIterable<Uint8Array>) {
        received += piece.length;
        if (received > most) throw await tooLong(received);
        await local(partial, () => file.appendFile(piece));
        checkRate();
        onProgress?.({
          name: spec.name,
          url,
          receivedBytes: received,
          ...(total !== undefined && { totalBytes: total }),
        });
      }
    });
  } finally {
    await file.close();
  }
  if (total !== undefined && received !== total) throw new MirrorFault(`${received} of ${total} bytes came`, true);
  return continues ? "continued" : "whole";
}

/** Accepts the whole download, or says why not. What cannot become right by appending to it is deleted. */
async function verifyDownload(spec: FileSpec, partial: string, arrival: Arrival): Promise<Uint8Array> {
  const raw = await local(partial, () => readFile(partial));
  try {
    return await verified(spec, raw);
  } catch (error) {
    const message = (error as Error).message;
    // Node's zlib gives Z_BUF_ERROR where a gzip stream ends too early: the body was short without saying so.
    const short = (error as NodeJS.ErrnoException).code === "Z_BUF_ERROR";
    if (!short || arrival === "complete") await local(partial, () => rm(partial));
    // Two halves that do not fit may be of two versions: worth a start from zero. A wrong whole stays wrong.
    throw new MirrorFault(`${raw.length} bytes came, but ${message}`, short || arrival !== "whole");
  }
}

async function verified(spec: FileSpec, raw: Uint8Array): Promise<Uint8Array> {
  const bytes = await inflate(raw, { most: spec.mostBytes });
  const { algorithm, hex, of = "content" } = spec.checksum;
  const actual = createHash(algorithm)
    .update(of === "file" ? raw : bytes)
    .digest("hex");
  if (actual !== hex) {
    const what = of === "file" ? "file" : "uncompressed bytes";
    throw new Error(`the ${algorithm} of the ${what} is ${actual}, expected ${hex}`);
  }
  return bytes;
}

// Partial files are named `FILE.URLHASH.OWNER.partial`. OWNER is `HOSTHASH-PID-RANDOM`, or `free` after its process
// gave up.
const hash8 = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8);
const freePartial = (path: string, url: string): string => `${path}.${hash8(url)}.free.partial`;
const abandonedAfter = 10 * 60_000; // ms without a write; a live download writes or gives up much sooner

/** Partial files of `path` that nobody writes any more, whatever URL they came from. */
async function abandonedPartials(path: string): Promise<string[]> {
  const found: string[] = [];
  const host = hash8(hostname());
  for (const entry of await readdir(dirname(path))) {
    const parts = entry.startsWith(`${basename(path)}.`) ? entry.slice(basename(path).length + 1).split(".") : [];
    if (parts.length !== 3 || parts[2] !== "partial") continue;
    const [ownerHost, pid] = parts[1]!.split("-");
    const info = await stat(join(dirname(path), entry)).catch(absent);
    const abandoned =
      ownerHost === "free" ||
      (ownerHost === host && !isAlive(Number(pid))) ||
      Date.now() - (info?.mtimeMs ?? 0) > abandonedAfter;
    if (info && abandoned) found.push(join(dirname(path), entry));
  }
  return found;
}

/** A partial file name of our own; an abandoned download of the same URL is taken over by renaming it (one wins). */
async function claimPartial(path: string, url: string): Promise<string> {
  const prefix = `${path}.${hash8(url)}.`;
  const own = `${prefix}${hash8(hostname())}-${process.pid}-${randomBytes(4).toString("hex")}.partial`;
  for (const candidate of await abandonedPartials(path)) {
    if (!candidate.startsWith(prefix)) continue;
    try {
      await rename(candidate, own);
      return own;
    } catch (error) {
      absent(error as NodeJS.ErrnoException); // somebody else took it first
    }
  }
  return own;
}

/** After a download that succeeded: what was left of others is of no use. */
async function removeAbandoned(path: string): Promise<void> {
  for (const partial of await abandonedPartials(path)) await rm(partial, { force: true });
}

/** After a download that failed: leaves what came for the next run to continue, or removes it where nothing came. */
async function releasePartial(partial: string, path: string, url: string): Promise<void> {
  const size = (await stat(partial).catch(absent))?.size;
  if (size === 0) await rm(partial);
  else if (size) await rename(partial, freePartial(path, url));
}

/** For `.catch`: a file that is not there is `undefined`; every other fault stays one. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}

/** Runs a step on the cache folder; its faults end the fetch, because no other mirror would help. */
async function local<T>(path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw new DataError(
      `fetch: cannot use the cache file ${path}: ${(error as Error).message}; ` +
        "make the folder writable or set XDG_CACHE_HOME to one that is",
      { cause: error },
    );
  }
}

/** Runs a step on the network; its faults count against the mirror. */
async function remote<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof DataError || error instanceof MirrorFault) throw error;
    const { message, code } = error as NodeJS.ErrnoException;
    throw new MirrorFault(message || code || String(error), true);
  }
}
