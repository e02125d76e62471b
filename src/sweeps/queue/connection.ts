// Connections to Redis. ioredis and BullMQ are loaded when the first queue is used. Errors of theirs hold what was
// sent, passwords among it: only their messages go on, without the address's secrets.
import type { Redis } from "ioredis";
import { KilogradError, UsageError } from "../../tensor/errors.js";
import type { QueueAddress } from "./address.js";
import { defineScripts, type Scripts } from "./scripts.js";

/** A connection, with the commands of scripts.ts. */
export type Client = Redis & Scripts;

export interface Connection {
  readonly address: QueueAddress;
  readonly client: Client;
  /** Another connection, for commands that wait. It is closed with this one. */
  another(): Promise<Client>;
  /** Ends the connections at once: what waits for an answer fails. */
  close(): void;
}

/** Milliseconds between attempts to reach a server that was reached before. */
const RETRY_MS = 500;

/** A message of ioredis, of the system or of TLS, in one line. */
function reasonOf(error: unknown, address: QueueAddress): string {
  const { message, code, errors } = error as NodeJS.ErrnoException & { errors?: readonly Error[] };
  // Of a name with several addresses comes an error without a message, with one for each.
  const text = message || errors?.map((each) => each.message).join(", ") || code || String(error);
  return address.redact(text.replace(/\s*\n\s*/g, " "));
}

/** An error of a connection without what was sent, which is user and password at its beginning. */
function withoutCommand<T>(error: T): T {
  delete (error as { command?: unknown }).command;
  return error;
}

/** An error of the queue without anything secret. Errors of this library pass. */
export function queueError(error: unknown, address: QueueAddress): KilogradError {
  if (error instanceof KilogradError) return error;
  return new KilogradError("QUEUE", `queue: ${address.shown}: ${reasonOf(error, address)}`);
}

/** What to do about a server that refuses. */
function refusal(reason: string, address: QueueAddress): Error {
  const begin = `queue: ${address.shown}`;
  if (/^(WRONGPASS|NOAUTH|ERR invalid password|ERR AUTH|ERR Client sent AUTH)/i.test(reason)) {
    return new UsageError(`${begin} refuses: ${reason}; give user and password in the address, see docs/sweeps.md`);
  }
  if (/^NOPERM/i.test(reason)) {
    return new UsageError(`${begin} lets this user do too little: ${reason}; docs/sweeps.md has what is needed`);
  }
  return new KilogradError(
    "QUEUE",
    `queue: cannot use ${address.shown}: ${reason}; see that Redis runs there and that the address fits it`,
  );
}

/**
 * Connects. A server that cannot be reached now is an error; one that goes away later is waited for.
 * @param say told when the server is away, and when it is back
 * @throws UsageError where the server refuses user, password or rights; KilogradError `QUEUE` where it is not there
 */
export async function connect(address: QueueAddress, say: (message: string) => void): Promise<Connection> {
  const { Redis } = await import("ioredis");
  const opened: Client[] = [];
  let reached = false;
  let away = false;
  /** @param check whether the server is asked with INFO if it is ready, which one that loads its data is not yet */
  const open = async (check: boolean): Promise<Client> => {
    let last: unknown;
    const client = new Redis({
      ...{ host: address.host, port: address.port, db: address.database, lazyConnect: true },
      ...(address.username !== undefined && { username: address.username }),
      ...(address.password !== undefined && { password: address.password }),
      ...(address.tls !== undefined && { tls: address.tls }),
      maxRetriesPerRequest: null,
      enableReadyCheck: check,
      connectTimeout: 10_000,
      keepAlive: 10_000,
      retryStrategy: () => (reached ? RETRY_MS : null),
    }) as Client;
    client.on("error", (error) => {
      last = withoutCommand(error);
      if (!reached || away) return;
      away = true;
      say(`queue: ${address.shown} is away (${reasonOf(error, address)}): waiting for it`);
    });
    client.on("ready", () => {
      if (away) say(`queue: ${address.shown} is back`);
      away = false;
    });
    defineScripts(client);
    opened.push(client);
    // BullMQ makes its connections that wait out of this one.
    const duplicate = client.duplicate.bind(client);
    client.duplicate = (...args) => {
      const made = duplicate(...args);
      made.on("error", withoutCommand);
      opened.push(made as Client);
      return made;
    };
    try {
      await client.connect();
      // Older servers answer anybody, and say with the first command that they wait for a password.
      if (check) await client.ping();
      else await checkServer(client, address, say);
    } catch (error) {
      client.disconnect();
      throw error instanceof KilogradError ? error : refusal(reasonOf(last ?? error, address), address);
    }
    reached = check;
    return client;
  };
  // Where a user may not ask with INFO, ioredis would print so to the console, and go on: it is asked once before.
  const first = await open(false);
  first.disconnect();
  const client = await open(true);
  return {
    ...{ address, client, another: () => open(true) },
    close() {
      for (const each of opened) each.disconnect();
    },
  };
}

/** @throws UsageError for a server that is too old, or may throw away what it is given */
async function checkServer(client: Client, address: QueueAddress, say: (message: string) => void): Promise<void> {
  const facts = new Map(
    (await client.info()).split(/\r?\n/).map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at), line.slice(at + 1)] as const;
    }),
  );
  const version = facts.get("redis_version") ?? "0";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major * 100 + minor < 602) {
    throw new UsageError(`queue: ${address.shown} must be Redis 6.2 or later, or Valkey, it is ${version}`);
  }
  const policy = facts.get("maxmemory_policy");
  if (policy !== undefined && policy !== "noeviction") {
    throw new UsageError(
      `queue: ${address.shown} must not throw keys away, its maxmemory-policy is ${policy}; set it to noeviction`,
    );
  }
  if (facts.get("aof_enabled") === "0") {
    say(
      `queue: ${address.shown} keeps no append-only file: after a restart of it, trials that were on their way begin anew`,
    );
  }
}
