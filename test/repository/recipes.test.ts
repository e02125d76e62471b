// Follows recipes of CONTRIBUTING.md to the letter in a copy of the sources: what they say is enough, and compiles.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "kilograd-recipes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The code blocks of a section of CONTRIBUTING.md. */
function blocksOf(title: string): string[] {
  const text = readFileSync("CONTRIBUTING.md", "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith(title));
  return [...section!.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code!);
}

function run(...command: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: folder, encoding: "utf8" });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}

/** What both are used for: function, method, layer and its activation, with gradients, in stored models. */
const program = `
import { celu, gradcheck, nn, openDevice, tensor } from "./dist/index.js";
const device = await openDevice("cpu");
const x = tensor(device, [[-1, 2]]);
const model = nn.sequential({ device, inputShape: [2] }, [nn.activation("celu"), nn.scaling()]);
const again = nn.fromConfig(model.config(), { device });
await gradcheck((t) => celu(t, { alpha: 2 }), [[[-1, 2, 0.5]]]);
model.layer("scaling").weights.scale.assign([10, 100]);
const loaded = await nn.loadModel(await nn.encodeModel(model), { device });
const node = nn.scaling({ name: "own" })(nn.input({ shape: [2] }));
const found = [celu(x), celu(x, { alpha: 2 }), x.celu({ alpha: 3 }), again.call(x), loaded.call(x)];
let refused = "";
try { x.celu({ slope: 1 }); } catch (error) { refused = error.message; }
const values = await Promise.all(found.map(async (t) => [...await t.data()]));
console.log(JSON.stringify({ values, refused, shape: node.shape, parameters: model.countParameters().total }));
`;

test("an elementwise op is one row and one export, a layer one file and its lines", { timeout: 300_000 }, () => {
  const [row, exported, ...others] = blocksOf("Add an elementwise op");
  const [layer, ...more] = blocksOf("Add a layer");
  expect([...others, ...more]).toEqual([]);
  for (const name of ["src", "tsconfig.json", "tsconfig.build.json", "package.json"]) {
    cpSync(name, join(folder, name), { recursive: true });
  }
  symlinkSync(resolve("node_modules"), join(folder, "node_modules"));
  const change = (path: string, edit: (text: string) => string) => {
    const before = readFileSync(join(folder, path), "utf8");
    const after = edit(before);
    expect(after).not.toBe(before);
    writeFileSync(join(folder, path), after);
  };
  change("src/kernels/elementwise-table.ts", (text) =>
    text.replace(/^export const unaryTable = .*\{$/m, (line) => `${line}\n${row}`),
  );
  change("src/autograd/ops/elementwise.ts", (text) => `${text}\n${exported}`);
  writeFileSync(join(folder, "src/nn/layers/scaling.ts"), layer!);
  change("src/nn/layers/registry.ts", (text) =>
    text.replace(/^import /m, 'import { Scaling } from "./scaling.js";\nimport ').replace(/,?\s*\];/, ", Scaling];"),
  );
  change("src/nn/index.ts", (text) => `${text}export { scaling } from "./layers/scaling.js";\n`);
  run(join("node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.build.json");
  writeFileSync(join(folder, "program.mjs"), program);
  const { values, refused, shape, parameters } = JSON.parse(run("program.mjs"));
  const at = (alpha: number) => [alpha * Math.expm1(-1 / alpha), 2];
  expect(values).toEqual([at(1), at(2), at(3), at(1), [10 * Math.expm1(-1), 200]]);
  expect(refused).toMatch(/^celu: .*slope/);
  expect([shape, parameters]).toEqual([[2], 2]);
});
