// The folder of what other libraries need to take part in bench:peers and bench:models.
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const peers = fileURLToPath(new URL("../../bench/peers", import.meta.url));

/** A Python, which takes part where it has PyTorch. */
export const python = process.env["KILOGRAD_PYTHON"] ?? "python3";

/** Installs the libraries that contenders need, where they are not what the lock file says. */
export function installPeers(names: readonly string[]): void {
  if (!names.some((name) => /^(jax-js|tfjs|ONNX)/.test(name))) return;
  const modified = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (modified(join(peers, "node_modules/.package-lock.json")) >= modified(join(peers, "package-lock.json"))) return;
  console.log(`installing other libraries into ${peers}/node_modules`);
  const npm = spawnSync("npm ci --ignore-scripts --no-audit --no-fund", { cwd: peers, shell: true, stdio: "inherit" });
  if (npm.status !== 0) throw new Error(`npm ci in ${peers} failed; its output is above`);
}
