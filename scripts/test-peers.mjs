// `npm run test:peers`: the tests whose judges are other libraries. It begins with the judges that it finds. Tests of
// those that are missing are skipped by name, here and in `npm test`. Other arguments go to vitest.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { python, pythonPackages } from "./python.mjs";

/** Packages of Python by their names for people. */
const judges = {
  ...{ Keras: "keras", "tf-keras": "tf_keras", PyTorch: "torch", ONNX: "onnx", "ONNX Runtime": "onnxruntime" },
  ...{ Captum: "captum", TensorBoard: "tensorboard", NumPy: "numpy", safetensors: "safetensors" },
};
const row = (name, what) => console.log(`  ${name.padEnd(14)}${what}`);

const found = pythonPackages(Object.values(judges));
console.log(`Judges of ${python}, which KILOGRAD_PYTHON names:`);
for (const [name, packageName] of Object.entries(judges)) {
  row(name, found[packageName] ?? `missing (pip install ${packageName.replace("_", "-")})`);
}
// Tests that need several versions of one package have variables of their own.
for (const [variable, program] of Object.entries(process.env)) {
  if (!/^KILOGRAD_\w+_PYTHON$/.test(variable) || !program) continue;
  const others = pythonPackages(Object.values(judges), program);
  const names = Object.entries(judges).filter(([, packageName]) => others[packageName] !== undefined);
  console.log(`Judges of ${program}, which ${variable} names:`);
  for (const [name, packageName] of names) row(name, others[packageName]);
}
const { status: hasNpm, stdout: npm } = spawnSync("npm", ["--version"], { encoding: "utf8" });
console.log("Packages of JavaScript are fetched by:");
row("npm", hasNpm === 0 ? npm.trim() : "missing");

/** What a test file calls that has such a judge. */
const asks = /\b(needsPython|npmPackage)\(|KILOGRAD_\w*PYTHON/;
const files = readdirSync("test", { recursive: true, encoding: "utf8" })
  .map((path) => `test/${path.replaceAll("\\", "/")}`)
  .filter((path) => path.endsWith(".test.ts") && asks.test(readFileSync(path, "utf8")));
console.log(`\n${files.join("\n")}\n`);
const { status, signal } = spawnSync(
  process.execPath,
  ["node_modules/vitest/vitest.mjs", "run", ...files, ...process.argv.slice(2)],
  { stdio: "inherit" },
);
process.exitCode = signal === null ? status : 1;
