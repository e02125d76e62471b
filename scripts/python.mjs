// Python as a judge of what tests and benches compare with: which program it is, and which packages it has.
import { spawnSync } from "node:child_process";

/** What KILOGRAD_PYTHON names, else python3. */
export const python = process.env["KILOGRAD_PYTHON"] || "python3";

const code = `
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))`;

/** Versions of installed packages by their names, as pip has them; those that are missing are left out. */
export function pythonPackages(names, program = python) {
  const { status, stdout } = spawnSync(program, ["-c", code, ...names], { encoding: "utf8" });
  return status === 0 ? JSON.parse(stdout) : {};
}
