// Pages for browsers of this machine only: a server that answers GET at a few paths, and tells open pages of changes.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { UsageError } from "../../../tensor/errors.js";

/** What is at a path. */
export interface Served {
  readonly type: string;
  readonly body: string | Uint8Array;
  /** Called when a browser has all of it. */
  readonly sent?: () => void;
}

/** Where events are told, as server-sent events. */
export const EVENTS = "/events";

/** A server on 127.0.0.1. It does not keep the process alive. */
export class LocalServer {
  private readonly server: Server;
  /** Connections that are told of changes. */
  private readonly listeners = new Set<ServerResponse>();

  private constructor(private readonly at: (path: string) => Served | undefined) {
    this.server = createServer((request, response) => this.answer(request, response));
  }

  /**
   * Starts serving at a port of this machine, any free one for 0.
   * @param at what is at a path, without its query; undefined where there is nothing
   * @param option of the command line that asked for it, for messages
   * @throws UsageError where the port cannot be had
   */
  static async start(at: (path: string) => Served | undefined, port: number, option: string): Promise<LocalServer> {
    const local = new LocalServer(at);
    await new Promise<void>((resolve, reject) => {
      local.server.once("error", (error: NodeJS.ErrnoException) => {
        const reason = error.code === "EADDRINUSE" ? "something else listens there" : error.message;
        reject(
          new UsageError(
            `${option}: needs a port that is free, given ${port}: ${reason}; leave it out for any free one`,
          ),
        );
      });
      local.server.listen({ host: "127.0.0.1", port }, resolve);
    });
    local.server.unref(); // The run decides when the process ends.
    return local;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get address(): string {
    return `http://localhost:${this.port}/`;
  }

  /** Whether any page listens. */
  get hasListeners(): boolean {
    return this.listeners.size > 0;
  }

  /** Tells all open pages. @param data one line */
  tell(data: string): void {
    for (const listener of this.listeners) listener.write(`data: ${data}\n\n`);
  }

  /** Ends at once; open pages say so. */
  async close(): Promise<void> {
    for (const listener of this.listeners) listener.end();
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    const patience = setTimeout(() => this.server.closeAllConnections(), 200);
    await closed;
    clearTimeout(patience);
  }

  private answer({ headers, method, url = "/" }: IncomingMessage, response: ServerResponse): void {
    // A foreign page may have its name lead here; what a browser then sends as Host is that name.
    const hosts = ["localhost", "127.0.0.1"].map((name) => `${name}:${this.port}`);
    if (!hosts.includes(headers.host ?? "")) {
      refuse(response, 403, "This page is for browsers of this machine.");
      return;
    }
    if (method !== "GET") {
      refuse(response, 405, "Only GET is answered.");
      return;
    }
    const path = url.replace(/\?.*$/s, "");
    const common = {
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": "same-origin",
      "x-frame-options": "DENY",
    };
    if (path === EVENTS) {
      response.writeHead(200, { ...common, "content-type": "text/event-stream" });
      response.write("retry: 2000\n\n");
      this.listeners.add(response);
      response.on("close", () => this.listeners.delete(response));
      return;
    }
    const served = this.at(path);
    if (served === undefined) {
      refuse(response, 404, "There is one page, at /.");
      return;
    }
    response.writeHead(200, { ...common, "content-type": served.type });
    response.end(served.body, served.sent);
  }
}

function refuse(response: ServerResponse, status: number, reason: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${reason}\n`);
}
