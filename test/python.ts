// Python as a judge: other libraries read what Kilograd writes, or compute what it computes. `KILOGRAD_PYTHON` names
// the program, else it is python3. Tests that need a package are skipped by name where that has none. No tests here.
import { spawnSync } from "node:child_process";
import { python, pythonPackages } from "../scripts/python.mjs";

export { python };

/**
 * What a test needs of Python: `reason` says in words what is missing, for its name, and is undefined where all is
 * there.
 * @example
 * const { reason } = needsPython("onnxruntime");
 * test.skipIf(reason)(`ONNX Runtime gives the same ${reason ?? ""}`, () => { ... });
 */
export function needsPython(...names: readonly string[]): { readonly reason: string | undefined } {
  const found = pythonPackages(names);
  const missing = names.filter((name) => found[name] === undefined);
  return { reason: missing.length === 0 ? undefined : `(${python} has no ${missing.join(", ")})` };
}

/** Runs a script, given `input`, and gives what it prints as JSON. @throws Error with what it says of its failure */
export function runPython(script: string, args: readonly string[] = [], input = ""): unknown {
  const options = { encoding: "utf8", input, maxBuffer: 2 ** 30 } as const;
  const { status, stdout, stderr, error } = spawnSync(python, [script, ...args], options);
  if (status === 0) return JSON.parse(stdout);
  throw new Error(`${python} ${script}: ${error?.message ?? stderr.slice(-4000)}`);
}
