// Addresses of queues: what is read of them, what is refused, and that no secret of theirs is ever shown. With users,
// rights and TLS of a real Redis.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { parseAddress, redactAddresses } from "../../src/sweeps/queue/address.js";
import { connect } from "../../src/sweeps/queue/connection.js";
import { openQueue } from "../../src/sweeps/queue/executor.js";
import { inProcess } from "../../src/sweeps/queue/in-process.js";
import { serveQueue } from "../../src/sweeps/queue/worker.js";
import { namedDigest } from "../../src/sweeps/trial-file.js";
import { hasRedis, RedisServer } from "./redis.js";

describe("an address", () => {
  test("has host, port, user, password and database", () => {
    const { redact: _, ...all } = parseAddress("redis://kg:p%40ss%2F@queue.example:7000/3");
    expect(all).toEqual({
      ...{ host: "queue.example", port: 7000, username: "kg", password: "p@ss/", database: 3, tls: undefined },
      shown: "redis://queue.example:7000/3",
    });
    const plain = { port: 6379, username: undefined, password: undefined, database: 0 };
    expect(parseAddress("redis://localhost")).toMatchObject({ host: "localhost", ...plain });
    expect(parseAddress("redis://:secret@[::1]:1/")).toMatchObject({ host: "::1", port: 1, password: "secret" });
  });

  test("with TLS names the server that is meant", () => {
    expect(parseAddress("rediss://queue.example").tls).toEqual({ servername: "queue.example" });
    expect(parseAddress("rediss://10.0.0.1").tls).toEqual({});
    expect(parseAddress("rediss://10.0.0.1?servername=queue.example").tls).toEqual({ servername: "queue.example" });
    expect(() => parseAddress("rediss://a?ca=/no/such/file")).toThrow("cannot read /no/such/file");
  });

  test.each([
    "http://kg:geheim@host",
    "redis://",
    "kg:geheim@host",
    "redis://kg:ge/heim@host",
    "redis://kg:geheim@host/one",
    "redis://kg:geheim@host?ca=/tmp/x",
    "rediss://kg:geheim@host?password=geheim",
    "redis://kg:geh%eim@host",
    "redis://kg:geheim@host:70000",
    "",
  ])("%s is refused, and not repeated", (address) => {
    let error: unknown;
    try {
      parseAddress(address);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ name: "UsageError", message: expect.stringMatching(/^queue: /) });
    expect(inspect(error)).not.toMatch(/geh|heim/);
  });

  test("takes its password out of texts, as it stands there and as it is sent", () => {
    const { redact } = parseAddress("redis://kg:p%40ss%2F@host");
    expect(redact("AUTH kg p@ss/ of redis://kg:p%40ss%2F@host")).toBe("AUTH kg *** of redis://kg:***@host");
    expect(redactAddresses("sweep --queue rediss://a:b@c:1/2 --out d")).toBe(
      "sweep --queue rediss://***@c:1/2 --out d",
    );
    expect(redactAddresses("--queue=redis://:b@c redis://d")).toBe("--queue=redis://***@c redis://d");
  });
});

const PASSWORD = "sehr-geheim";
const code = namedDigest("queue-address.test.ts");

describe.skipIf(!hasRedis)("a Redis with users and TLS", () => {
  let folder: string;
  let redis: RedisServer;
  const said: string[] = [];
  const say = (message: string) => void said.push(message);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-address-"));
    const openssl = (args: string) => {
      const { status, stderr } = spawnSync("openssl", args.split(" "), { cwd: folder, encoding: "utf8" });
      if (status !== 0) throw new Error(stderr);
    };
    openssl(
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem " +
        "-subj /CN=queue.test -addext subjectAltName=DNS:queue.test",
    );
    // The rights of docs/sweeps.md.
    const rights = /ACL SETUSER kilograd on ><password> (.*)/.exec(readFileSync("docs/sweeps.md", "utf8"))![1]!;
    redis = await RedisServer.start([
      ...[
        `user default off`,
        `user kilograd on >${PASSWORD} ${rights}`,
        `user poor on >${PASSWORD} ~kilograd:* +ping +hello`,
      ],
      ...["tls-port PORT", `tls-cert-file ${folder}/cert.pem`, `tls-key-file ${folder}/key.pem`],
      ...[`tls-ca-cert-file ${folder}/cert.pem`, "tls-auth-clients no"],
    ]);
  });
  afterAll(async () => {
    await redis?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const address = (who: string, query = `?ca=${folder}/cert.pem&servername=queue.test`) =>
    `rediss://${who}@127.0.0.1:${redis.port}${query}`;

  test("runs a sweep for a user with the rights of the documentation", async () => {
    const ended = new AbortController();
    const given = { address: address(`kilograd:${PASSWORD}`), say };
    const queue = await openQueue({ ...given, sweep: "tls", code, folder, attempts: 1, answers: true });
    const runner = inProcess({
      code,
      trial: async (_, { report, checkpoint }) => {
        await report(0, { loss: 1 });
        await checkpoint(new Uint8Array(10));
        throw new Error(`cannot reach ${given.address}`);
      },
    });
    const serving = serveQueue({ ...given, runner, signal: ended.signal });
    const order = { sweep: "tls", code, number: 0, config: {}, seed: 0, attempt: 1 };
    const outcome = await queue.run(order, { report: () => "continue", checkpointed: () => {} }, ended.signal);
    expect(outcome).toMatchObject({ status: "failed", error: expect.stringMatching(/kilograd:\*\*\*@127\.0\.0\.1/) });
    queue.counted(0);
    await queue.close();
    ended.abort();
    await serving;
  });

  test.each([
    ["a wrong password", () => address("kilograd:sehr-falsch"), /refuses: WRONGPASS/],
    ["an unknown user", () => address(`niemand:${PASSWORD}`), /refuses: WRONGPASS/],
    ["nobody", () => address("").replace("//@", "//"), /refuses: NOAUTH/],
    ["a user with too few rights", () => address(`poor:${PASSWORD}`), /lets this user do too little: NOPERM/],
    ["a certificate that nobody knows", () => address(`kilograd:${PASSWORD}`, ""), /self-signed certificate/],
    [
      "a certificate of another name",
      () => address(`kilograd:${PASSWORD}`, `?ca=${folder}/cert.pem&servername=other.test`),
      /other\.test/,
    ],
    [
      "an address without TLS",
      () => address(`kilograd:${PASSWORD}`, "").replace("rediss", "redis"),
      /cannot use redis:/,
    ],
  ])("refuses %s, in words without secrets", async (_, of, words) => {
    // ioredis has words of its own for some of these.
    const printed = (["log", "warn", "error"] as const).map((name) => vi.spyOn(console, name));
    const error = await connect(parseAddress(of()), say).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect((error as Error | undefined)?.message).toMatch(words);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/sehr/);
    expect(printed.flatMap((spy) => spy.mock.calls)).toEqual([]);
    for (const spy of printed) spy.mockRestore();
  });

  test("said nothing secret", () => {
    expect(said.join("\n")).not.toMatch(/sehr|heim/);
  });
});
