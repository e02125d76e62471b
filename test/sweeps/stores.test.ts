// Stores for what is too large for Redis: a folder, and a bucket of a real S3-like server, with sweeps whose
// checkpoints and outcomes go through it. What is refused is named, and no credential is shown.
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Trial, TrialHooks, TrialOutcome } from "../../src/sweeps/executor.js";
import { MOST_IN_REDIS } from "../../src/sweeps/queue/blobs.js";
import { openQueue } from "../../src/sweeps/queue/executor.js";
import { inProcess } from "../../src/sweeps/queue/in-process.js";
import { MOST_MESSAGE } from "../../src/sweeps/queue/messages.js";
import { openStore } from "../../src/sweeps/queue/stores.js";
import { serveQueue } from "../../src/sweeps/queue/worker.js";
import { namedDigest } from "../../src/sweeps/trial-file.js";
import { hasRedis, RedisServer } from "./redis.js";
import { S3Server, s3Program } from "./s3.js";

const found = s3Program();
const reason = found.reason ?? "";
let parent: string;
let redis: RedisServer | undefined;
let s3: S3Server | undefined;

beforeAll(async () => {
  parent = mkdtempSync(join(tmpdir(), "kilograd-stores-"));
  if (found.reason === undefined) s3 = await S3Server.start(found);
  if (hasRedis) redis = await RedisServer.start();
});
afterAll(async () => {
  await s3?.stop();
  await redis?.stop();
  rmSync(parent, { recursive: true, force: true });
});
afterEach(() => vi.unstubAllEnvs());

const clear = () => {
  for (const name of ["REGION", "DEFAULT_REGION", "ENDPOINT_URL", "ENDPOINT_URL_S3", "SESSION_TOKEN"])
    vi.stubEnv(`AWS_${name}`, "");
};
const stub = (environment: Readonly<Record<string, string>>) => {
  clear();
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
};

/** A store as the tests see it. */
interface Kind {
  /** What `--store` is given. */
  readonly name: string;
  readonly keys: () => string[];
  readonly damage: (key: string) => void;
}
let folders = 0;
function folderKind(): Kind {
  const name = join(parent, `folder-${folders++}`);
  return {
    name,
    keys: () =>
      readdirSync(name, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(name.length + 1)),
    damage: (key) => writeFileSync(join(name, key), new Uint8Array(statSync(join(name, key)).size)),
  };
}
function bucketKind(): Kind {
  stub(s3!.environment);
  return {
    name: "s3://trials/some/prefix/",
    keys: () => s3!.keys().map((key) => key.replace("some/prefix/", "")),
    damage: (key) => s3!.damage(`some/prefix/${key}`),
  };
}

describe.each([
  ["a folder", "", folderKind],
  ["a bucket", reason, bucketKind],
])("%s %s", (_, why, kind) => {
  test.skipIf(why)("keeps bytes by keys, and removes them by their beginnings", async () => {
    const { name, keys } = kind();
    const store = await openStore(name);
    const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => i % 251);
    await store.put("sweep/trial-1-a", bytes);
    await store.put("sweep/trial-1-b", bytes.subarray(1, 4));
    await store.put("sweep/trial-11-a", new Uint8Array(0));
    expect(Buffer.compare(await store.get("sweep/trial-1-a", bytes.length), bytes)).toBe(0);
    expect([...(await store.get("sweep/trial-1-b", 3))]).toEqual([1, 2, 3]);
    expect(await store.get("sweep/trial-11-a", 0)).toHaveLength(0);
    await store.put("sweep/trial-1-b", Uint8Array.of(9));
    expect([...(await store.get("sweep/trial-1-b", 1))]).toEqual([9]);
    await expect(store.get("sweep/trial-1-a", 5)).rejects.toThrow(/must have 5 bytes, has 3000000/);
    await expect(store.get("sweep/trial-2-a", 5)).rejects.toThrow(expect.objectContaining({ name: "DataError" }));
    await store.removeAll("sweep/trial-1-", "sweep/trial-1-b");
    await store.removeAll("nothing/trial-1-");
    expect(keys().sort()).toEqual(["sweep/trial-1-b", "sweep/trial-11-a"]);
    await store.removeAll("sweep/");
    expect(keys()).toEqual([]);
  });

  test.skipIf(why || !hasRedis)("takes checkpoints and outcomes of a sweep that are too large for Redis", async () => {
    const { name, keys, damage } = kind();
    const large = new Uint8Array(MOST_IN_REDIS + 1).fill(7);
    const sizes = [MOST_MESSAGE + 1, MOST_IN_REDIS + 1];
    let damaged = 0;
    const trial: Trial = async (_, { checkpoint, resume, number }) => {
      if (number < 2) return { figures: { loss: number }, value: "x".repeat(sizes[number]!) };
      if (number === 2 && resume === undefined) {
        await checkpoint(large);
        throw new Error("after its checkpoint");
      }
      if (number === 3 && damaged++ === 0) {
        await checkpoint(large);
        damage(keys().find((key) => key.includes("checkpoint-3-"))!);
        throw new Error("after its checkpoint");
      }
      return { loss: resume?.length ?? 0, last: resume?.at(-1) ?? 0 };
    };
    const outcomes = await swept("stores", trial, name);
    expect(outcomes.map((outcome) => "value" in outcome && outcome.value)).toEqual([
      ...sizes.map((size) => "x".repeat(size)),
      ...[false, false],
    ]);
    expect(outcomes.map((outcome) => ({ ...outcome, value: undefined }))).toMatchObject([
      { status: "finished", figures: { loss: 0 } },
      { status: "finished", figures: { loss: 1 } },
      { status: "finished", figures: { loss: large.length, last: 7 } },
      { status: "failed", error: "checkpoint: that of trial 3 is damaged: its digest is another" },
    ]);
    expect(keys()).toEqual([]);
    const client = new Redis(redis!.port, "127.0.0.1");
    await vi.waitFor(async () => expect(await client.keys("*stores*")).toEqual([]));
    client.disconnect();
  });
});

/** Runs four trials through the queue, with a worker in this process. */
async function swept(
  sweep: string,
  trial: Trial,
  store?: string,
  before: () => Promise<void> = async () => {},
): Promise<TrialOutcome[]> {
  const code = namedDigest(sweep);
  const folder = mkdtempSync(join(parent, "sweep-"));
  const ended = new AbortController();
  const given = { address: redis!.address, say: () => {} };
  const queue = await openQueue({ ...given, sweep, code, folder, attempts: 2, answers: false, store });
  await before();
  const kept = store === undefined ? undefined : await openStore(store);
  const serving = serveQueue({ ...given, runner: inProcess({ code, trial }), store: kept, signal: ended.signal });
  const hooks: TrialHooks = { report: () => "continue", checkpointed: () => {} };
  const never = new AbortController().signal;
  const outcomes = await Promise.all(
    [0, 1, 2, 3].map(async (number) => {
      const order = { sweep, code, number, config: {}, seed: 0, attempt: 1 };
      const outcome = await queue.run(order, hooks, never);
      queue.counted(number);
      return outcome;
    }),
  );
  await queue.close();
  ended.abort();
  await serving;
  return outcomes;
}

test.skipIf(!hasRedis)(
  "without a store an outcome above a message goes through Redis, and a larger one fails by name",
  async () => {
    const trial: Trial = (_, { number }) => ({
      figures: { loss: number },
      value: "x".repeat([MOST_MESSAGE + 1, MOST_IN_REDIS + 1][number] ?? 1),
    });
    expect(await swept("without", trial)).toMatchObject([
      { status: "finished", value: "x".repeat(MOST_MESSAGE + 1) },
      { status: "failed", attempts: 1, error: expect.stringMatching(/has 8.0 MiB, and at most 8 go .* --store/) },
      { status: "finished" },
      { status: "finished" },
    ]);
  },
);

test.skipIf(!hasRedis)("an outcome that Redis lost costs an attempt, which may be the last", async () => {
  const client = new Redis(redis!.port, "127.0.0.1");
  const lose = async () => {
    const all = client.multi().hset("kilograd:sweep:lost:failures", 2, 1);
    for (const number of [1, 2]) {
      const reference = `redis:${number}:5:${"0".repeat(64)}`;
      const text = JSON.stringify({ status: "kept", number, reference });
      all.xadd("kilograd:sweep:lost:outcomes", `1-${number}`, "outcome", text);
      all.hset("kilograd:sweep:lost:finished", number, `1-${number}`);
    }
    await all.exec();
  };
  const outcomes = await swept("lost", (_, { number }) => ({ loss: number }), undefined, lose);
  client.disconnect();
  expect(outcomes).toMatchObject([
    { status: "finished", attempts: 1 },
    { status: "finished", attempts: 2 },
    { status: "failed", error: "no attempt is left, and none came to an outcome" },
    { status: "finished", attempts: 1 },
  ]);
});

const secret = /sehr|geheim|lang/;
const failureOf = async (work: () => Promise<unknown>) => {
  const error = await work().then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  expect(error).toBeInstanceOf(Error);
  expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(secret);
  return error!;
};

test.each([
  ["s3://", {}, /must be a folder, or s3:\/\/bucket\/prefix/],
  ["s3://trials/../other", {}, /must be a folder, or s3/],
  ["s3://trials/a b", {}, /must be a folder, or s3/],
  ["https://trials", {}, /must be a folder, or s3/],
  ["s3://trials", { AWS_ACCESS_KEY_ID: "" }, /needs credentials; set AWS_ACCESS_KEY_ID in the environment/],
  ["s3://trials", { AWS_ENDPOINT_URL: "ftp://127.0.0.1" }, /AWS_ENDPOINT_URL must be https/],
  ["s3://trials", { AWS_ENDPOINT_URL: "http://kg:sehr-geheim@127.0.0.1" }, /AWS_ENDPOINT_URL must be https/],
])("refuses %s with %j", async (name, environment, message) => {
  stub({ AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "sehr-geheim", ...environment });
  const error = await failureOf(() => openStore(name));
  expect(error.name).toBe("UsageError");
  expect(error.message).toMatch(message);
});

describe.skipIf(reason)(`a server that refuses ${reason}`, () => {
  test.each([
    ["a wrong secret", { AWS_SECRET_ACCESS_KEY: "sehr-falsch" }, "trials", /answers 403 to GET, SignatureDoesNotMatch/],
    ["an unknown key", { AWS_ACCESS_KEY_ID: "sehr-fremd" }, "trials", /answers 403 to GET, InvalidAccessKeyId/],
    ["a bucket that is not there", {}, "nothing", /answers 404 to GET, NoSuchBucket/],
  ])("%s", async (_, environment, bucket, message) => {
    stub({ ...s3!.environment, ...environment });
    expect((await failureOf(() => openStore(`s3://${bucket}/a`))).message).toMatch(message);
  });

  test("one that is away, after some tries", { timeout: 30_000 }, async () => {
    const other = await S3Server.start(found);
    stub(other.environment);
    const store = await openStore("s3://trials");
    await other.stop();
    const error = await failureOf(() => store.put("sweep/a", Uint8Array.of(1)));
    expect(error.message).toMatch(/^store: s3:\/\/trials: cannot reach http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/);
  });
});
