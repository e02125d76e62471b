// A Redis of a test's own: on a free port of loopback, in a temporary folder, with its append-only file. No tests in
// here.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Whether Debian's redis-server, or another one, is installed. */
export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;

/** A port of loopback that nobody has. */
function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer();
    server.on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

export class RedisServer {
  private child: ChildProcess | undefined;

  private constructor(
    readonly folder: string,
    readonly port: number,
  ) {}

  /** @param lines of its configuration besides port and folder */
  static async start(lines: readonly string[] = []): Promise<RedisServer> {
    const folder = mkdtempSync(join(tmpdir(), "kilograd-redis-"));
    const server = new RedisServer(folder, await freePort());
    const tls = lines.some((line) => line.startsWith("tls-port"));
    const own = [
      tls ? "port 0" : `port ${server.port}`,
      ...["bind 127.0.0.1", `dir ${folder}`, "appendonly yes", "appendfsync everysec", 'save ""', "loglevel warning"],
      ...lines.map((line) => line.replace("PORT", String(server.port))),
    ];
    writeFileSync(join(folder, "redis.conf"), `${own.join("\n")}\n`);
    await server.up();
    return server;
  }

  get address(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Its address for a user, as `user:password`. */
  addressOf(user: string): string {
    return `redis://${user}@127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.child!.pid!;
  }

  /** Starts it, again with what it had. */
  async up(): Promise<void> {
    const child = spawn("redis-server", [join(this.folder, "redis.conf")], { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
    this.child = child;
    for (let tries = 0; tries < 200; tries++) {
      if (child.exitCode !== null) throw new Error(`redis-server ended: ${said}`);
      if (await this.listens()) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`redis-server does not listen: ${said}`);
  }

  /** Ends it without a chance to save. */
  async kill(): Promise<void> {
    const child = this.child!;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async stop(): Promise<void> {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private listens(): Promise<boolean> {
    return import("node:net").then(
      ({ connect }) =>
        new Promise((done) => {
          const socket = connect(this.port, "127.0.0.1");
          socket.once("connect", () => done(true)).once("error", () => done(false));
          socket.once("connect", () => socket.destroy());
        }),
    );
  }
}
