// Starting a program anew with the environment that its adapter takes. The linker reads LD_LIBRARY_PATH as a process
// starts, and Dawn looks for the Vulkan loader by name.
import { spawn } from "node:child_process";
import { adapterVariables } from "./choose.js";
import type { Variables } from "./user-driver.js";

/** Set for a program that was started anew: the process that waits for it. */
const WAITING = "KILOGRAD_STARTED_BY";

/**
 * Returns where this process has the environment that its adapter takes. Otherwise it starts this program anew with
 * that environment and its own arguments, passes signals on, and ends as that one ends. To be called before anything is
 * printed or opened.
 */
export async function startWithAdapter(): Promise<void> {
  if (process.env[WAITING] === String(process.ppid)) {
    delete process.env[WAITING];
    // Whoever waits was killed, which cannot be passed on.
    process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
    process.channel?.unref();
    return;
  }
  const variables = await adapterVariables();
  if (Object.keys(variables).length > 0) await startAnew(variables);
}

function startAnew(variables: Variables): Promise<never> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: { ...process.env, ...variables, [WAITING]: String(process.pid) },
    // A group of its own, so that a signal to the whole group, such as Ctrl-C, comes once: from here.
    detached: true,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2", "SIGWINCH"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  process.on("SIGTSTP", () => {
    child.kill("SIGSTOP");
    process.kill(process.pid, "SIGSTOP");
  });
  process.on("SIGCONT", () => child.kill("SIGCONT"));
  return new Promise((_, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (signal === null) process.exit(code ?? 1);
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    });
  });
}
