// The package that `npm pack` makes, used from another folder: it installs, runs, ends by itself, and its types compile.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "kilograd-package-"));
const consumer = join(folder, "consumer");

/** Runs a shell command to its end and returns its standard output; what it printed is in the error when it fails. */
function run(command: string, cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, { cwd, shell: true, encoding: "utf8", timeout: 100_000 });
  if (status !== 0) throw new Error(`${command}: exit code ${status}\n${stdout}${stderr}`);
  return stdout;
}

beforeAll(() => {
  run(`npm pack --pack-destination ${folder}`, process.cwd());
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  mkdirSync(consumer);
  writeFileSync(join(consumer, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }));
  run(`npm install --prefer-offline --ignore-scripts --no-audit --no-fund ${join(folder, archive)}`, consumer);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the package holds the build and its papers, not the sources", () => {
  const names = readdirSync(join(consumer, "node_modules/kilograd"));
  expect(names).toEqual(expect.arrayContaining(["dist", "LICENSE", "README.md", "package.json"]));
  expect(names.filter((name) => ["src", "test", "scripts", "bench", "docs"].includes(name))).toEqual([]);
});

test("a script in another folder trains a network on WebGPU, asks for an input gradient, and ends by itself", () => {
  writeFileSync(
    join(consumer, "script.js"),
    `import { data, loss, nn, openDevice, optim, tensor, valueAndGrad } from "kilograd";
     const { train, test } = data.digits({ seed: 1, trainCount: 512, testCount: 64 });
     const device = await openDevice("webgpu");
     const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
       nn.conv2d({ filters: 8, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2), nn.flatten(), nn.dense({ units: 10 }),
     ]);
     const { history } = await model.fit(train, { optimizer: optim.adam(), loss: loss.crossEntropy, epochs: 3, batchSize: 32 });
     const image = tensor(device, test.images.subarray(0, 784), { shape: [1, 28, 28, 1] });
     const target = tensor(device, Int32Array.of(3));
     const { grad } = valueAndGrad((x) => loss.crossEntropy(model.call(x), target))(image);
     const largest = (await grad.data()).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
     console.log(JSON.stringify({ losses: history.loss, largest }));
     device.destroy();`,
  );
  const { losses, largest } = JSON.parse(run("node script.js", consumer));
  expect(losses).toHaveLength(3);
  expect(losses[2]).toBeLessThan(losses[0]);
  expect(largest).toBeGreaterThan(0);
});

test("the command is installed with it", () => {
  expect(run("npx --no-install kilograd --help", consumer)).toContain("doctor");
});

describe("its types compile in a strict project that names no types itself", () => {
  /** With the compiler in a folder's node_modules. */
  function compile(compiler: string, options: object): void {
    writeFileSync(
      join(consumer, "typed.ts"),
      `import { openDevice, tensor } from "kilograd";
       import { data, io, nn } from "kilograd/node";
       const device = await openDevice("webgpu");
       export const gpu: GPUDevice = device.gpu;
       export const x = tensor(device, [1]);
       export const images: Promise<data.ImageDataset> = data.loadMnist({ dataDir: "mnist" });
       export const report = new io.Report({ title: "title" });
       export const bar: nn.Callback = nn.progressBar({ stream: { write: () => true } });
       // @ts-expect-error: the types are real ones, so a name that does not exist is an error
       device.thereIsNoSuchName;
       // @ts-expect-error: those of WebGPU, too
       device.gpu.thereIsNoSuchName;`,
    );
    const compilerOptions = {
      strict: true,
      skipLibCheck: false,
      types: [],
      target: "es2022",
      noEmit: true,
      ...options,
    };
    writeFileSync(join(consumer, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["typed.ts"] }));
    run(`node ${join(compiler, "node_modules/typescript/bin/tsc")} -p .`, consumer);
  }

  const projects = [
    ["as Node resolves", { module: "nodenext" }],
    ["as a bundler resolves", { module: "esnext", moduleResolution: "bundler" }],
    ["without the DOM", { module: "nodenext", lib: ["es2022"] }],
  ] as const;

  test.each(projects)("%s, TypeScript 5", (_, options) => compile(resolve("."), options));

  describe("TypeScript 7", () => {
    const compiler = join(folder, "typescript-7");
    let absent: string | undefined;
    beforeAll(() => {
      mkdirSync(compiler);
      writeFileSync(join(compiler, "package.json"), JSON.stringify({ name: "compiler", private: true }));
      try {
        run("npm install --prefer-offline --ignore-scripts --no-audit --no-fund typescript@7.0.2", compiler);
      } catch (error) {
        absent = (error as Error).message;
      }
    });

    test.for(projects)("%s", ([, options], context) => {
      // The repository has version 5, and a machine need not reach the registry.
      context.skip(/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENOTCACHED/.test(absent ?? ""), absent);
      expect(absent).toBeUndefined();
      compile(compiler, options);
    });
  });
});
