// The built command in a process of its own, watched: for random command lines and for kills.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The built command: from build/fuzz, and from fuzz where tests load this file as it is. */
const [built, source] = ["../../dist/cli.js", "../dist/cli.js"].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);
export const cli = import.meta.url.includes("/build/fuzz/") ? built! : source!;

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What it was sent first, if anything. */
  readonly sent: NodeJS.Signals | undefined;
  readonly milliseconds: number;
}

export interface Watch {
  /** Folder that it runs in. */
  readonly cwd: string;
  /** What it is sent after how many milliseconds; SIGKILL follows where it does not end within `patience` of that. */
  readonly signal: NodeJS.Signals;
  readonly after: number;
  readonly patience: number;
}

/** Most that is kept of an output. */
const MOST_TEXT = 1e6;

/** A proxy where nobody listens: no download, whatever the network. */
const nowhere = "http://127.0.0.1:9";
const offline = { http_proxy: nowhere, https_proxy: nowhere, HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere };

/** `kilograd ...args`, without data of the user's and without a network's help. */
export function command(args: readonly string[], { cwd, signal, after, patience }: Watch): Promise<Ended> {
  return new Promise((done, failed) => {
    const begun = performance.now();
    const child = spawn(process.execPath, [cli, ...args], {
      cwd,
      env: {
        ...process.env,
        ...offline,
        no_proxy: "",
        NO_PROXY: "",
        KILOGRAD_DATA_DIR: "",
        XDG_CACHE_HOME: cwd,
        KILOGRAD_DEBUG: "",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let sent: NodeJS.Signals | undefined;
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (stdout.length < MOST_TEXT) stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (stderr.length < MOST_TEXT) stderr += text;
    });
    const asked = setTimeout(() => {
      sent = signal;
      child.kill(signal);
    }, after);
    const forced = setTimeout(() => child.kill("SIGKILL"), after + patience);
    child.on("error", failed);
    child.on("close", (code, by) => {
      clearTimeout(asked);
      clearTimeout(forced);
      done({ code, signal: by, stdout, stderr, sent, milliseconds: performance.now() - begun });
    });
  });
}
