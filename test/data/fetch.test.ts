// fetchFile against a local server with every fault that a mirror may have, and against other processes.

import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { cacheFolder, type FetchOptions, type FetchProgress, type FileSpec, fetchFile } from "../../src/data/fetch.js";
import { DataError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { build } from "../cli/run.js";

const hash = (algorithm: string, bytes: Uint8Array): string => createHash(algorithm).update(bytes).digest("hex");
const randomBytes = (stream: string): Uint8Array => {
  const random = new RandomStream(1, stream);
  return Uint8Array.from({ length: 300_000 }, () => random.integer(256)); // gzip cannot shrink it
};
const content = randomBytes("content");
const packed = gzipSync(content);
const half = packed.length >> 1;
const sha256 = { algorithm: "sha256", hex: hash("sha256", content) } as const;

/** Answers one request; `hit` counts the requests for this path from 1. */
type Answer = (request: IncomingMessage, response: ServerResponse, hit: number) => void;

const full: Answer = (_, response) => response.writeHead(200, { "content-length": packed.length }).end(packed);
const status =
  (code: number): Answer =>
  (_, response) =>
    response.writeHead(code).end("no");
const ranged: Answer = (request, response, hit) => {
  const start = /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1];
  if (start === undefined) return full(request, response, hit);
  const from = Number(start);
  if (from >= packed.length) return response.writeHead(416, { "content-range": `bytes */${packed.length}` }).end();
  const rest = packed.subarray(from);
  const range = `bytes ${from}-${packed.length - 1}/${packed.length}`;
  return response.writeHead(206, { "content-range": range, "content-length": rest.length }).end(rest);
};
/** Sends the first half under a promise of the whole; then `after` happens to the connection. */
const sendHalf =
  (after: (response: ServerResponse) => void): Answer =>
  (_, response) => {
    response.writeHead(200, { "content-length": packed.length });
    response.write(packed.subarray(0, half), () => setTimeout(() => after(response), 20));
  };
const dropMidway = sendHalf((response) => response.destroy());
const hang: Answer = () => {};
/** `first` for the first request, `then` for all later ones. */
const firstThen =
  (first: Answer, then: Answer): Answer =>
  (request, response, hit) =>
    (hit === 1 ? first : then)(request, response, hit);

let server: Server;
let base: string;
let folder: string;
const routes = new Map<string, Answer>();
const requests: { path: string; range: string | undefined; at: number }[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    const path = request.url!;
    requests.push({ path, range: request.headers.range, at: performance.now() });
    const hit = requests.filter((earlier) => earlier.path === path).length;
    (routes.get(path) ?? status(404))(request, response, hit);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  vi.stubEnv("no_proxy", "127.0.0.1");
  folder = mkdtempSync(join(tmpdir(), "kilograd-fetch-"));
  routes.clear();
  requests.length = 0;
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** A file whose mirrors are the given routes. */
function fileAt(answers: Record<string, Answer>, checksum: FileSpec["checksum"] = sha256): FileSpec {
  for (const [path, answer] of Object.entries(answers)) routes.set(path, answer);
  const mirrors = Object.keys(answers).map((path) => base + path);
  return { name: "set/file.gz", mirrors, checksum, mostBytes: content.length };
}
const quick = (more: FetchOptions = {}): FetchOptions => ({
  cacheDir: folder,
  backoff: 5,
  bodyTimeout: 2_000,
  ...more,
});
const cacheEntries = (): string[] => readdirSync(join(folder, "set"));
const ranges = (): (string | undefined)[] => requests.map(({ range }) => range);
const same = (bytes: Uint8Array): boolean => Buffer.compare(bytes, content) === 0;
async function failure(promise: Promise<unknown>): Promise<DataError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DataError);
  return error as DataError;
}

describe("a mirror that works", () => {
  it("gives the file once; afterwards it comes from the cache, as published", async () => {
    const spec = fileAt({ "/a": full });
    const progress: FetchProgress[] = [];
    const messages: string[] = [];
    const options = quick({ onProgress: (p) => progress.push(p), onMessage: (m) => messages.push(m) });
    const first = await fetchFile(spec, options);
    expect(same(first.bytes)).toBe(true);
    expect(first.downloadedFrom).toBe(`${base}/a`);
    expect(first.path).toBe(join(folder, "set", "file.gz"));
    expect(progress.at(-1)).toEqual({
      name: "set/file.gz",
      url: `${base}/a`,
      receivedBytes: packed.length,
      totalBytes: packed.length,
    });
    expect(messages).toEqual([`downloading ${base}/a`]);

    const second = await fetchFile(spec, options);
    expect(same(second.bytes)).toBe(true);
    expect(second.downloadedFrom).toBeUndefined();
    expect(requests).toHaveLength(1);
    expect(cacheEntries()).toEqual(["file.gz"]);
    expect(readFileSync(first.path).equals(packed)).toBe(true);
  });

  it("may serve other gzip envelopes, or uncompressed bytes; md5 serves as checksum", async () => {
    const md5 = { algorithm: "md5", hex: hash("md5", content) } as const;
    const plain = fileAt({ "/plain": (_, response) => response.end(content) }, md5);
    expect(same((await fetchFile(plain, quick())).bytes)).toBe(true);
    const stored = gzipSync(content, { level: 0 });
    const other = { ...fileAt({ "/stored": (_, response) => response.end(stored) }), name: "set/other.gz" };
    expect(same((await fetchFile(other, quick())).bytes)).toBe(true);
  });

  it("may redirect", async () => {
    routes.set("/b", full);
    const spec = fileAt({ "/a": (_, response) => response.writeHead(302, { location: "/b" }).end() });
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
  });
});

describe("a download that breaks off", () => {
  it("is continued by range after a dropped connection", async () => {
    const spec = fileAt({ "/a": firstThen(dropMidway, ranged) });
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${half}-`]);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });

  it("is continued after a body that fell silent", async () => {
    const spec = fileAt({
      "/a": firstThen(
        sendHalf(() => {}),
        ranged,
      ),
    });
    expect(same((await fetchFile(spec, quick({ bodyTimeout: 200 }))).bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${half}-`]);
  });

  it("is left and continued where it only drips", async () => {
    const drip: Answer = (_, response) => {
      response.writeHead(200, { "content-length": packed.length });
      let sent = 0;
      const timer = setInterval(() => response.write(packed.subarray(sent, (sent += 3))), 20);
      response.on("close", () => clearInterval(timer));
    };
    const withPassword = (spec: FileSpec): FileSpec => ({
      ...spec,
      mirrors: spec.mirrors.map((url) => url.replace("//", "//user:secret@")),
    });
    const said: string[] = [];
    const slow = { bodyTimeout: 200, leastRate: 10_000 };
    const { bytes } = await fetchFile(
      withPassword(fileAt({ "/drip": firstThen(drip, ranged) })),
      quick({ ...slow, onMessage: (message) => said.push(message) }),
    );
    expect(same(bytes)).toBe(true);
    expect(ranges()[1]).toMatch(/^bytes=\d+-$/);
    expect(said.join("\n")).toMatch(
      /\/drip: too slow: \d+ bytes in [\d.]+ s, at least 10000 a second must come; attempt 2/,
    );
    // The user's name and password are nobody's business.
    expect(said.join("\n")).not.toMatch(/user|secret/);
    const other = { ...withPassword(fileAt({ "/always": drip })), name: "set/other.gz" };
    const { message } = await failure(fetchFile(other, quick({ ...slow, attempts: 2 })));
    expect(message).toContain(`  ${base}/always: too slow: `);
    expect(message).not.toMatch(/user|secret/);
  });

  it("is continued after a short body that did not say its length", async () => {
    const short: Answer = (_, response) => response.end(packed.subarray(0, half));
    const spec = fileAt({ "/a": firstThen(short, ranged) });
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${half}-`]);
  });

  it("begins again where the server ignores ranges", async () => {
    const spec = fileAt({ "/a": firstThen(dropMidway, full) });
    const { bytes, path } = await fetchFile(spec, quick());
    expect(same(bytes)).toBe(true);
    expect(readFileSync(path).equals(packed)).toBe(true);
  });

  it.each([
    ["begins elsewhere", { "content-range": `bytes ${half - 7}-${packed.length - 1}/${packed.length}` }],
    ["has no Content-Range", {}],
  ])("begins again where the answered range %s", async (_, headers) => {
    const badRange: Answer = (__, response) => response.writeHead(206, headers).end(packed.subarray(half));
    const spec = fileAt({ "/a": (q, s, hit) => [dropMidway, badRange, ranged][hit - 1]!(q, s, hit) });
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${half}-`, undefined]);
  });

  it("begins again where the continuation belongs to another version of the file", async () => {
    const older = gzipSync(randomBytes("older version"), { level: 1 });
    const halfOfOlder: Answer = (_, response) => {
      response.writeHead(200, { "content-length": packed.length });
      response.write(older.subarray(0, half), () => setTimeout(() => response.destroy(), 20));
    };
    const spec = fileAt({ "/a": firstThen(halfOfOlder, ranged) });
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${half}-`, undefined]);
  });

  it("is continued by a later call, and a complete one is found complete", async () => {
    const spec = fileAt({ "/a": dropMidway });
    await failure(fetchFile(spec, quick({ attempts: 1 })));
    expect(cacheEntries()).toHaveLength(1);
    expect(cacheEntries()[0]).toMatch(/\.free\.partial$/);
    requests.length = 0;
    routes.set("/a", ranged);
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([`bytes=${half}-`]);

    // All bytes came, but the process ended before the rename.
    rmSync(join(folder, "set", "file.gz"));
    const slow = fileAt({ "/a": dropMidway });
    await failure(fetchFile(slow, quick({ attempts: 1 })));
    writeFileSync(join(folder, "set", cacheEntries()[0]!), packed);
    requests.length = 0;
    routes.set("/a", ranged);
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([`bytes=${packed.length}-`]);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });
});

describe("a mirror with a fault", () => {
  it("is left at once for 404 and for wrong content", async () => {
    const foreign = gzipSync("something else");
    const spec = fileAt({ "/gone": status(404), "/wrong": (_, response) => response.end(foreign), "/good": full });
    expect((await fetchFile(spec, quick())).downloadedFrom).toBe(`${base}/good`);
    expect(requests.map(({ path }) => path)).toEqual(["/gone", "/wrong", "/good"]);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });

  it("leaves nothing behind when another one gives the file", async () => {
    const spec = fileAt({ "/drops": dropMidway, "/good": full });
    expect((await fetchFile(spec, quick({ attempts: 2 }))).downloadedFrom).toBe(`${base}/good`);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });

  it("is tried again for 500, 503 and 429, later and later", async () => {
    const spec = fileAt({
      "/a": (request, response, hit) => [status(500), status(503), status(429), full][hit - 1]!(request, response, hit),
    });
    await fetchFile(spec, quick({ backoff: 40 }));
    const gaps = requests.slice(1).map(({ at }, i) => at - requests[i]!.at);
    expect(gaps).toHaveLength(3);
    for (const [i, gap] of gaps.entries()) expect(gap).toBeGreaterThanOrEqual(0.5 * 40 * 2 ** i - 2);
  });

  it("is left after the last attempt, and the error lists every mirror with its fault", async () => {
    const spec = fileAt({
      "/gone": status(404),
      "/broken": status(500),
      "/silent": hang,
      "/drops": dropMidway,
      "/wrong": (_, response) => response.end(gzipSync("something else")),
      "/page": (_, response) => response.end("<html>log in here</html>"),
    });
    const unreachable = "http://127.0.0.1:9/file";
    const messages: string[] = [];
    const options = quick({ attempts: 2, bodyTimeout: 150, onMessage: (message) => messages.push(message) });
    const error = await failure(fetchFile({ ...spec, mirrors: [...spec.mirrors, unreachable] }, options));
    expect(error.code).toBe("DATA");
    const lines = error.message.split("\n");
    expect(lines).toHaveLength(9);
    expect(lines[0]).toBe("fetch: set/file.gz could be had from none of its 7 mirrors:");
    expect(lines[1]).toBe(`  ${base}/gone: HTTP status 404`);
    expect(lines[2]).toBe(`  ${base}/broken: HTTP status 500 (2 attempts)`);
    expect(lines[3]).toMatch(/\/silent: Headers Timeout Error \(2 attempts\)$/);
    expect(lines[4]).toMatch(/\/drops: .+ \(2 attempts\)$/);
    expect(lines[5]).toContain(`/wrong: 34 bytes came, but the sha256 of the uncompressed bytes is `);
    expect(lines[5]).toContain(`expected ${sha256.hex}`);
    expect(lines[6]).toContain("/page: 24 bytes came, but the sha256");
    expect(lines[7]).toMatch(/127\.0\.0\.1:9\/file: .*ECONNREFUSED.* \(2 attempts\)$/);
    expect(lines[8]).toMatch(/--data-dir or KILOGRAD_DATA_DIR/);
    expect(messages).toContain(`${base}/broken: HTTP status 500; attempt 2 of 2 follows`);
    expect(cacheEntries().filter((name) => !name.endsWith(".free.partial"))).toEqual([]);
  });
});

describe("a mirror that sends more than the file can have", () => {
  const most = Math.ceil(content.length * 1.01) + 4096;
  /** Goes on until the other side hangs up. */
  const endless: Answer = (_, response) => {
    response.writeHead(200);
    const piece = Buffer.alloc(64 * 1024);
    const send = () => {
      while (!response.destroyed && response.write(piece));
    };
    response.on("drain", send).on("error", () => {});
    send();
  };

  it("is left at the limit, or at the announcement, and another one is asked", async () => {
    const announced: Answer = (_, response) => response.writeHead(200, { "content-length": 1e9 }).end("x");
    const progress: FetchProgress[] = [];
    const spec = fileAt({ "/announced": announced, "/endless": endless, "/good": full });
    const { downloadedFrom } = await fetchFile(spec, quick({ onProgress: (p) => progress.push(p) }));
    expect(downloadedFrom).toBe(`${base}/good`);
    expect(Math.max(...progress.map(({ receivedBytes }) => receivedBytes))).toBeLessThanOrEqual(most);
    expect(cacheEntries()).toEqual(["file.gz"]);
    const error = await failure(
      fetchFile({ ...spec, name: "set/other.gz", mirrors: spec.mirrors.slice(0, 2) }, quick()),
    );
    expect(error.message).toContain(`/announced: sends 1000000000 bytes, the file has at most ${most}`);
    expect(error.message).toMatch(/\/endless: sends \d+ bytes, the file has at most/);
    expect(requests.filter(({ path }) => path === "/endless")).toHaveLength(2);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });

  it("is left where its gzip becomes too much, and a cached file that is too large is replaced", async () => {
    const bomb = gzipSync(Buffer.alloc(50e6));
    const spec = fileAt({
      "/bomb": (_, response) => response.writeHead(200).end(bomb),
    });
    const error = await failure(fetchFile(spec, quick()));
    expect(error.message).toContain("but it holds more than the 300,000 bytes that it may have");
    writeFileSync(join(folder, "set", "file.gz"), Buffer.alloc(most + 1));
    const messages: string[] = [];
    const again = fileAt({ "/a": full });
    expect(same((await fetchFile(again, quick({ onMessage: (message) => messages.push(message) }))).bytes)).toBe(true);
    expect(messages[0]).toContain(`it has ${most + 1} bytes, more than the ${most} it may have`);
  });
});

describe("the cache", () => {
  it("reports a damaged file and downloads it again", async () => {
    mkdirSync(join(folder, "set"));
    const path = join(folder, "set", "file.gz");
    for (const damaged of [packed.subarray(0, half), gzipSync("another"), Buffer.alloc(0)]) {
      writeFileSync(path, damaged);
      const messages: string[] = [];
      const spec = fileAt({ "/a": full });
      const { bytes } = await fetchFile(spec, quick({ onMessage: (message) => messages.push(message) }));
      expect(same(bytes)).toBe(true);
      expect(messages[0]).toMatch(/file\.gz is damaged \(.+\); downloading it again$/);
    }
    expect(requests).toHaveLength(3);
  });

  it("is all that is used when offline", async () => {
    const spec = fileAt({ "/a": full });
    expect((await failure(fetchFile(spec, quick({ offline: true })))).message).toContain("downloads are switched off");
    expect(requests).toHaveLength(0);
    await fetchFile(spec, quick());
    expect(same((await fetchFile(spec, quick({ offline: true }))).bytes)).toBe(true);
  });

  it("that cannot be written is an error of its own, not the mirrors'", async () => {
    writeFileSync(join(folder, "not-a-folder"), "");
    const spec = fileAt({ "/a": full });
    const error = await failure(fetchFile(spec, quick({ cacheDir: join(folder, "not-a-folder") })));
    expect(error.message).toMatch(/cannot use the cache file .*not-a-folder.*ENOTDIR.*XDG_CACHE_HOME/);
    expect(requests).toHaveLength(0);
  });

  it("lies in XDG_CACHE_HOME when that is absolute, else in ~/.cache", () => {
    vi.stubEnv("XDG_CACHE_HOME", "/some/cache");
    expect(cacheFolder()).toBe("/some/cache/kilograd");
    vi.stubEnv("HOME", "/home/somebody");
    for (const ignored of ["relative", ""]) {
      vi.stubEnv("XDG_CACHE_HOME", ignored);
      expect(cacheFolder()).toBe("/home/somebody/.cache/kilograd");
    }
  });
});

describe("several at once", () => {
  it("within a process all succeed", async () => {
    const spec = fileAt({ "/a": firstThen(dropMidway, ranged) });
    const results = await Promise.all(Array.from({ length: 4 }, () => fetchFile(spec, quick())));
    for (const { bytes } of results) expect(same(bytes)).toBe(true);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });

  it("a success removes what killed downloads of any mirror left", async () => {
    const { pid } = spawnSync(process.execPath, ["--eval", ""]); // It has ended.
    const host = hash("sha256", Buffer.from(hostname())).slice(0, 8);
    mkdirSync(join(folder, "set"));
    const name = (url: string, owner: string, file = "file.gz") =>
      `${file}.${hash("sha256", Buffer.from(url)).slice(0, 8)}.${owner}.partial`;
    const left = [name("a", `${host}-${pid}-0123abcd`), name("b", "free")];
    const kept = [name("a", `${host}-${process.pid}-0123abcd`), name("a", `${host}-${pid}-0123abcd`, "file.gz2")];
    for (const entry of [...left, ...kept]) writeFileSync(join(folder, "set", entry), "part");
    await fetchFile(fileAt({ "/a": full }), quick());
    expect(cacheEntries().sort()).toEqual(["file.gz", ...kept].sort());
  });

  it("as processes all succeed, and a killed one's download is continued", async () => {
    build();
    const child = writeChild(folder);
    const start = (spec: FileSpec): ChildProcess =>
      fork(child, [JSON.stringify({ spec, options: quick({ bodyTimeout: 60_000 }) })], {
        stdio: ["ignore", "ignore", "inherit", "ipc"],
      });
    const ended = async (process: ChildProcess): Promise<unknown> => (await once(process, "exit"))[0];

    // Neither has the file before both have asked, however slow their start is.
    const waiting: (() => void)[] = [];
    const together: Answer = (_, response) => {
      response.writeHead(200, { "content-length": packed.length });
      response.write(packed.subarray(0, half));
      waiting.push(() => response.end(packed.subarray(half)));
      if (waiting.length === 2) for (const end of waiting) end();
    };
    const spec = fileAt({ "/a": together });
    const both = [start(spec), start(spec)];
    expect(await Promise.all(both.map(ended))).toEqual([0, 0]);
    expect(requests).toHaveLength(2);
    expect(cacheEntries()).toEqual(["file.gz"]);
    expect(same((await fetchFile(spec, quick({ offline: true }))).bytes)).toBe(true);

    rmSync(join(folder, "set", "file.gz"));
    requests.length = 0;
    routes.set(
      "/a",
      sendHalf(() => {}),
    );
    const victim = start(spec);
    const partialSize = (): number =>
      cacheEntries().reduce((bytes, name) => bytes + readFileSync(join(folder, "set", name)).length, 0);
    while (partialSize() < half) await sleep(10);
    // A living process keeps its partial file for itself.
    routes.set("/a", full);
    await fetchFile({ ...spec, name: "set/file.gz" }, quick());
    expect(ranges()).toEqual([undefined, undefined]);
    rmSync(join(folder, "set", "file.gz"));
    victim.kill("SIGKILL");
    await ended(victim);
    requests.length = 0;
    routes.set("/a", ranged);
    expect(same((await fetchFile(spec, quick())).bytes)).toBe(true);
    expect(ranges()).toEqual([`bytes=${half}-`]);
    expect(cacheEntries()).toEqual(["file.gz"]);
  });
});

/** A program in `folder` that fetches with the build; its exit code is 0 when the fetch succeeds. */
function writeChild(folder: string): string {
  const main = join(folder, "main.mjs");
  writeFileSync(
    main,
    `import { fetchFile } from ${JSON.stringify(pathToFileURL(resolve("dist/data/fetch.js")).href)};
    const { spec, options } = JSON.parse(process.argv[2]);
    await fetchFile(spec, options);
    process.disconnect();`,
  );
  return main;
}
