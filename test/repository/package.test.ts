// The package that `npm pack` makes, used from another folder: it installs, runs, ends by itself, and its types
// compile.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

/** The blocks of JavaScript of a page that name `kilograd/inputs`, and those after them, as one script. */
function examplesOf(page: string): string {
  const blocks = Array.from(readFileSync(page, "utf8").matchAll(/^```js\n(.*?)^```$/gms), (match) => match[1]!);
  return blocks.slice(blocks.findIndex((block) => block.includes('"kilograd/inputs"'))).join("\n");
}

test.each([["docs/inputs.md", /^\[ 4, 28, 28, 1 \].*\n\[ 100, 10 \]\n$/s]])(
  "what %s shows of kilograd/inputs runs",
  { timeout: 240_000 },
  (page, output) => {
    writeFileSync(join(consumer, "examples.js"), examplesOf(page));
    expect(run("node examples.js", consumer)).toMatch(output);
  },
);

test("an image is optimised, attacked in both balls and explained by public names alone", () => {
  writeFileSync(
    join(consumer, "inputs.js"),
    `import { data, loss, nn, openDevice, optim } from "kilograd";
     import { attackImages, attacks, attributions, objectives, optimizeInputs } from "kilograd/inputs";
     const { train, test } = data.digits({ seed: 1, trainCount: 1500, testCount: 40 });
     const device = await openDevice("webgpu");
     const model = nn.sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
       nn.conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }), nn.maxPool2d(2), nn.flatten(),
       nn.dense({ units: 10, activation: "softmax" }),
     ]);
     await model.fit(train, { optimizer: optim.adam({ learningRate: 3e-3 }), loss: loss.crossEntropy, epochs: 2 });
     const target = Float32Array.from({ length: 10 }, (_, i) => (i === 3 ? 1 : 0));
     const { snapshots } = await optimizeInputs(model, { objective: objectives.targetProbabilities(target), steps: 100 });
     const attacked = {};
     for (const [norm, epsilon] of [["linf", 0.1], ["l2", 1.5]]) {
       const { accuracy, distances } = await attackImages(model, test, attacks.pgd({ norm, epsilon }));
       attacked[norm] = { accuracy, farthest: Math.max(...distances[norm]) };
     }
     const { accuracy: clean } = await model.evaluate(test, { loss: loss.crossEntropy });
     const { values, outputs, delta } = await attributions.integratedGradients(model, test, { target: test.labels });
     console.log(JSON.stringify({ three: snapshots.at(-1).outputs[3], clean, attacked, sizes: [values.length, outputs.length],
       worst: Math.max(...delta.map(Math.abs)) / Math.max(...outputs.map(Math.abs)) }));
     device.destroy();`,
  );
  const found = JSON.parse(run("node inputs.js", consumer));
  expect(found.three).toBeGreaterThan(0.99);
  expect(found.clean).toBeGreaterThan(0.8);
  for (const [norm, epsilon] of [
    ["linf", 0.1],
    ["l2", 1.5],
  ] as const) {
    expect(found.attacked[norm].accuracy).toBeLessThan(found.clean - 0.2);
    expect(found.attacked[norm].farthest).toBeLessThan(epsilon * (1 + 1e-5));
  }
  expect(found.sizes).toEqual([40 * 784, 40]);
  // Completeness: attributions sum to the difference of the answers.
  expect(found.worst).toBeLessThan(0.01);
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
       import { type Attack, attacks, attributions, type Objective, objectives } from "kilograd/inputs";
       import { type MobileNetV2Options, mobileNetV2 } from "kilograd/applications";
       const device = await openDevice("webgpu");
       export const network = (options: MobileNetV2Options): nn.Architecture => mobileNetV2(options);
       export const gpu: GPUDevice = device.gpu;
       export const x = tensor(device, [1]);
       export const attack: Attack = attacks.pgd({ norm: "l2", epsilon: 1 });
       export const objective: Objective = objectives.sumOf(objectives.logit(3), objectives.channel("conv2d", 0));
       export const explain = (model: nn.Model) => attributions.saliency(model, new Float32Array(784), { target: 3 });
       // @ts-expect-error: an attack needs its radius
       attacks.fgsm({ norm: "l2" });
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
