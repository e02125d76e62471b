// Holds the order of the layers under src/ (tensor <- webgpu, kernels <- autograd <- nn <- inputs, sweeps <-
// experiments) and keeps WebGPU's types where they belong.
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { importedNames } from "./imported.js";

/**
 * What each folder of src/ may import besides itself. Files directly in src/ (the public API, the command) may import
 * anything.
 */
const mayImport: Record<string, readonly string[]> = {
  runtime: ["tensor", "webgpu", "io"],
  tensor: [],
  webgpu: ["tensor", "runtime"],
  kernels: ["tensor", "webgpu"],
  autograd: ["tensor", "kernels"],
  nn: ["tensor", "kernels", "autograd", "data", "io"],
  applications: ["tensor", "autograd", "nn"],
  inputs: ["tensor", "kernels", "autograd", "nn"],
  experiments: ["tensor", "webgpu", "kernels", "autograd", "nn", "inputs", "data", "io", "driver", "sweeps"],
  sweeps: ["tensor", "webgpu", "nn", "data", "io", "runtime"],
  data: ["tensor", "runtime", "io"],
  io: ["tensor", "webgpu", "runtime"],
  driver: ["tensor", "io", "runtime"],
};
const mayNameWebGpu = /^src\/(runtime|webgpu|kernels)\//;

/** Every breach of the rules in one file, as `path: what`. */
function breaches(path: string, text: string): string[] {
  const found: string[] = [];
  const folder = path.split("/").length > 2 ? path.split("/")[1]! : "";
  if (folder && !mayImport[folder]) found.push(`${path}: src/${folder} has no place in the order of layers yet`);
  for (const fileName of importedNames(path, text)) {
    if (!fileName.startsWith(".")) continue;
    const target = posix.join(posix.dirname(path), fileName);
    const targetFolder = target.split("/").length > 2 ? target.split("/")[1]! : "";
    if (folder && folder !== targetFolder && !mayImport[folder]?.includes(targetFolder)) {
      found.push(`${path}: imports ${target}`);
    }
  }
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && /^GPU[A-Z]/.test(node.text)) names.add(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest));
  if (!mayNameWebGpu.test(path)) for (const name of names) found.push(`${path}: names ${name}`);
  return found;
}

test("every file under src/ keeps to the layers", () => {
  const paths = readdirSync("src", { recursive: true, encoding: "utf8" })
    .map((path) => `src/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".ts"));
  expect(paths.length).toBeGreaterThan(0);
  expect(paths.flatMap((path) => breaches(path, readFileSync(path, "utf8")))).toEqual([]);
});

test("breaches are found", () => {
  const found = [
    ...breaches("src/tensor/shape.ts", 'import type { Layer } from "../nn/layer.js";'),
    ...breaches("src/kernels/deep/matmul.ts", 'export * as tape from "../../autograd/tape.js"; import "../tile.js";'),
    ...breaches("src/io/png.ts", 'const later = import("../kernels/matmul.js");'),
    ...breaches(
      "src/data/idx.ts",
      'import { readFileSync } from "node:fs"; import { Tensor } from "../tensor/tensor.js";',
    ),
    ...breaches("src/nn/layer.ts", '// GPUDevice in a comment\nlet buffer: GPUBuffer; const text = "GPUQueue";'),
    ...breaches("src/webgpu/device.ts", "let buffer: GPUBuffer;"),
    ...breaches("src/autograd/grad.ts", 'import * as everything from "../index.js";'),
    ...breaches("src/index.ts", 'export * from "./nn/layer.js";'),
    ...breaches("src/extra/file.ts", ""),
  ];
  expect(found).toEqual([
    "src/tensor/shape.ts: imports src/nn/layer.js",
    "src/kernels/deep/matmul.ts: imports src/autograd/tape.js",
    "src/io/png.ts: imports src/kernels/matmul.js",
    "src/nn/layer.ts: names GPUBuffer",
    "src/autograd/grad.ts: imports src/index.js",
    "src/extra/file.ts: src/extra has no place in the order of layers yet",
  ]);
});
