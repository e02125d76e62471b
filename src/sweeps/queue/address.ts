// Where a queue is: the address as it is given, what of it may be shown, and texts without its secrets.
import { readFileSync } from "node:fs";
import { DataError, UsageError } from "../../tensor/errors.js";

/** What a connection takes of an address. */
export interface QueueAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Number of the database. */
  readonly database: number;
  /** Undefined without TLS. Files are read. */
  readonly tls:
    | { readonly servername?: string; readonly ca?: string; readonly cert?: string; readonly key?: string }
    | undefined;
  /** For people: without user, password and files. */
  readonly shown: string;
  /** A text without what is secret in the address, as it stands there and as it is sent. */
  redact(text: string): string;
}

const FORM = "redis://[[user]:password@]host[:port][/database], or rediss:// for TLS";
const FILES = ["ca", "cert", "key"] as const;

/**
 * Reads an address. Of one with TLS, `?ca=FILE&cert=FILE&key=FILE&servername=NAME` name certificates in PEM and the
 * name that the server's has to have. A server's certificate is always verified.
 * @throws UsageError for what is no such address, without repeating it: it may hold a password
 * @throws DataError for a file that cannot be read
 */
export function parseAddress(text: string): QueueAddress {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    // Without a cause: its message repeats the text.
    throw new UsageError(
      `queue: the address must be ${FORM}, the one that is given cannot be read; write /, @, : and % of a password as %2F, %40, %3A, %25`,
    );
  }
  const secure = url.protocol === "rediss:";
  if (!secure && url.protocol !== "redis:") {
    throw new UsageError(`queue: the address must be ${FORM}, the one that is given begins otherwise`);
  }
  if (url.hostname === "")
    throw new UsageError(`queue: the address must be ${FORM}, the one that is given names no host`);
  const database = /^\/?(\d{0,4})$/.exec(url.pathname)?.[1];
  if (database === undefined) {
    throw new UsageError(`queue: after the host the address may have a / and the number of a database: ${FORM}`);
  }
  // Brackets belong to addresses of IPv6 in a URL, and not to the host's name.
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? 6379 : Number(url.port);
  const [username, password] = [decoded(url.username), decoded(url.password)];
  const secrets = [password, url.password, password && encodeURIComponent(password)]
    .filter((secret) => secret !== undefined && secret !== "")
    .sort((a, b) => b!.length - a!.length) as string[];
  return {
    ...{ host, port, database: Number(database) },
    username: username || undefined,
    password: password || undefined,
    tls: tlsOf(url, secure, host),
    shown: `${url.protocol}//${url.host}${database ? `/${database}` : ""}`,
    redact: (shown) => secrets.reduce((left, secret) => left.replaceAll(secret, "***"), shown),
  };
}

function tlsOf(url: URL, secure: boolean, host: string): QueueAddress["tls"] {
  const tls: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    if (!secure || !(name === "servername" || (FILES as readonly string[]).includes(name))) {
      throw new UsageError(
        "queue: after ? the address may have ca, cert, key and servername, and these with rediss:// only; user and password " +
          "stand before the host",
      );
    }
    tls[name] = name === "servername" ? value : readPem(value);
  }
  // Certificates are of names; where the host is a number of the net, it is looked up among the certificate's numbers.
  return secure ? { ...(!/^[\d.]+$|:/.test(host) && { servername: host }), ...tls } : undefined;
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new DataError(`queue: cannot read ${path} of the address: ${(cause as Error).message}`, { cause });
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UsageError("queue: user and password of the address must have each % as %25");
  }
}

/** Any text with the passwords of all addresses in it hidden: for what shows command lines. */
export const redactAddresses = (text: string): string =>
  text.replace(/\b(rediss?:\/\/)[^\s"'@/]*@/gi, (_, scheme: string) => `${scheme}***@`);
