// Runs the built command as users do, in a process of its own. `build()` first.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { resolve } from "node:path";

/**
 * Makes dist/ what the sources are now. Another test file may be doing the same: then the second attempt finds it done.
 */
export function build(attempts = 2): void {
  const { status, stderr } = spawnSync(process.execPath, ["scripts/setup.mjs", "build"], { encoding: "utf8" });
  if (status !== 0 && attempts > 1) build(attempts - 1);
  else if (status !== 0) throw new Error(`the build failed:\n${stderr}`);
}

export interface Outcome {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** Milliseconds after which it is killed; default 100 s. */
  readonly timeout?: number;
  /** Called with everything that stderr has held so far, whenever something comes. */
  readonly onStderr?: (text: string, child: ChildProcess) => void;
}

/** `kilograd ...args` to its end, without data of the user's; killed after its time. */
export const kilograd = (args: readonly string[], options?: RunOptions): Promise<Outcome> =>
  run("dist/cli.js", args, options);

/** The outcome of a command, and what is in a folder after it. */
export type OutcomeOfSeveral = Outcome & { readonly files: readonly string[] };

/** Commands one after the other in one process; each must end by itself. */
export async function kilogradSeveral(
  commands: readonly (readonly string[])[],
  folder: string,
): Promise<OutcomeOfSeveral[]> {
  const { code, stdout, stderr } = await run("test/cli/several.mjs", [JSON.stringify(commands), folder]);
  if (code !== 0) throw new Error(`several commands: exit code ${code}\n${stderr}`);
  return JSON.parse(stdout);
}

function run(
  script: string,
  args: readonly string[],
  { env = {}, cwd, onStderr, timeout = 100_000 }: RunOptions = {},
): Promise<Outcome> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [resolve(script), ...args], {
      cwd,
      env: { ...process.env, KILOGRAD_DATA_DIR: "", ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout,
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      onStderr?.(stderr, child);
    });
    child.on("error", failed);
    child.on("close", (code, signal) => done({ code, signal, stdout, stderr }));
  });
}
