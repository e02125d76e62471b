// The `@example` of every docstring is run, in a folder of its own, with the names of the package, those of the file
// that it stands in, and variables that its text takes for granted: `common`, and what `given` has for it. What cannot
// be run here stands in `notRun`, with the reason.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import ts from "typescript";
import { object } from "valibot";
import { afterAll, expect, test } from "vitest";
import * as applications from "../../src/applications.js";
import { digits } from "../../src/data/digits.js";
import * as inputs from "../../src/inputs.js";
import { encodeRgbPng } from "../../src/io/png.js";
import * as node from "../../src/node.js";
import * as sweeps from "../../src/sweeps.js";
import { integer } from "../../src/tensor/options.js";
import type { Shape } from "../../src/tensor/shape.js";
import { cpu } from "../support.js";

const { nn, optim, tensor } = node;

interface Example {
  /** Below src. */
  readonly file: string;
  /** What it is an example of. */
  readonly name: string;
  readonly code: string;
}

/** Every example below src. */
function examples(): Example[] {
  const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
  return files.sort().flatMap((file) => {
    const text = readFileSync(join("src", file), "utf8");
    return [...text.matchAll(/\/\*\*.*?\*\//gs)].flatMap((comment) => {
      const after = text.slice(comment.index + comment[0].length);
      const name = /(?!(?:export|default|async|function|const|class|interface|type|readonly)\b)\b[a-z]\w*/i.exec(
        after,
      )![0];
      return [...comment[0].matchAll(/@example(.*?)(?=\n\s*\* @|\*\/)/gs)].map(([, code]) => ({
        ...{ file: file.replaceAll("\\", "/"), name },
        code: code!.replace(/\n\s*\* ?/g, "\n").trim(),
      }));
    });
  });
}

const notRun: Readonly<Record<string, string>> = {
  loadFer2013: "needs a data set",
  fetchFile: "fetches a file",
  decodeMnist: "fetches files",
};

const random = (shape: Shape) =>
  tensor(
    cpu,
    Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i + 1)),
    { shape },
  );

/** A small classifier of digits; its layers have the names that examples use. */
function classifier() {
  const conv = () => nn.conv2d({ filters: 2, kernelSize: 3, activation: "relu" });
  return nn.sequential({ device: cpu, seed: 1, inputShape: [28, 28, 1] }, [
    ...[conv(), nn.maxPool2d(4), conv(), nn.flatten(), nn.dense({ units: 10, activation: "softmax" })],
  ]);
}

const set = digits({ seed: 1, trainCount: 64, testCount: 16 });

/** What many examples take for granted. */
const common = () => ({
  ...{ device: cpu, x: random([4, 6]), v: random([4, 6]), optimizer: optim.adam(), ...set },
  ...{ model: classifier(), image: tensor(cpu, set.test.images.subarray(0, 784), { shape: [1, 28, 28, 1] }) },
});

const convolution = () => ({ x: random([1, 6, 6, 2]), kernel: random([3, 3, 2, 4]), bias: random([4]) });
const signal = () => ({ signal: random([1, 8, 2]), kernel: random([3, 2, 4]) });
const pictures = (channels = 3) => ({ images: random([2, 32, 32, channels]) });
const found = async () => {
  const snapshotSteps = [0, 1, 2];
  const objective = inputs.objectives.logit(3);
  return { found: await inputs.optimizeInputs(classifier(), { objective, steps: 2, snapshotSteps }) };
};
const answered = (bytes: Uint8Array) => ({ response: new Response(Uint8Array.from(bytes)) });

/** What examples need besides, by their names; files are made in the folder where they run. */
const given: Readonly<Record<string, () => object | Promise<object>>> = {
  convTranspose2d: () => ({ x: random([1, 4, 4, 2]), kernel: random([3, 3, 4, 2]) }),
  ...{ conv1d: signal, maxPool1d: signal, avgPool1d: signal, conv2d: convolution, conv2dMaxPool2d: convolution },
  einsum: () => ({
    ...{ a: random([2, 3]), b: random([3, 4]), square: random([3, 3]) },
    ...{ queries: random([1, 2, 3, 4]), keys: random([1, 5, 3, 4]) },
  }),
  prelu: () => ({ ...pictures(), slopes: random([3]) }),
  depthwiseConv2d: () => ({ ...pictures(16), kernel: random([3, 3, 16, 1]) }),
  matmul: () => ({ kernel: random([6, 3]), bias: random([3]) }),
  clipByNorm: () => ({ gradient: random([3]), x: random([2, 3, 4]) }),
  resize: pictures,
  argsort: () => ({ scores: random([5]) }),
  topK: () => ({ logits: random([2, 10]) }),
  tile: () => ({ x: random([3, 4]) }),
  split: () => ({ x: random([8, 6]) }),
  unstack: () => ({ parameters: random([5, 2]) }),
  reshape: () => ({ x: random([32, 14, 14, 24]) }),
  ...{ slice: pictures, pad: pictures },
  recompute: () => ({
    x: random([2, 6]),
    block: nn.sequential({ device: cpu, seed: 1, inputShape: [6] }, [nn.dense({ units: 2 })]),
  }),
  shuffledIndices: () => ({ epochs: 1, seed: 1, batch: new Float32Array(32 * 784) }),
  fromFolder() {
    for (const name of ["rose", "tulip"]) {
      mkdirSync(join("flowers", name), { recursive: true });
      for (let i = 0; i < 10; i++) {
        const pixels = Uint8Array.from({ length: 64 * 64 * 3 }, (_, at) => (at * (i + 1)) % 256);
        writeFileSync(join("flowers", name, `${i}.png`), encodeRgbPng(pixels, { width: 64, height: 64 }));
      }
    }
    const layers = [nn.globalAvgPool2d(), nn.dense({ units: 2 })];
    return { model: nn.sequential({ device: cpu, seed: 1, inputShape: [64, 64, 3] }, layers) };
  },
  fromIdx() {
    const { images, labels } = set.train;
    const file = (header: readonly number[], bytes: ArrayLike<number>) => {
      const head = new DataView(new ArrayBuffer(4 * header.length));
      for (const [i, value] of header.entries()) head.setUint32(4 * i, value);
      return Buffer.concat([Buffer.from(head.buffer), Buffer.from(Uint8Array.from(bytes))]);
    };
    writeFileSync(
      "train-images-idx3-ubyte",
      file(
        [0x803, 64, 28, 28],
        Array.from(images, (v) => Math.round(255 * v)),
      ),
    );
    writeFileSync("train-labels-idx1-ubyte", file([0x801, 64], labels));
    return {};
  },
  filmStrip: async () => ({ objective: inputs.objectives.logit(3), steps: 3 }),
  encodeGif: found,
  lbfgs: () => ({ start: random([1, 28, 28, 1]) }),
  interpolate: () => ({ map: { values: new Float32Array(49), shape: [1, 7, 7, 1] } }),
  adapt() {
    const layers = [nn.normalization(), nn.flatten(), nn.dense({ units: 10 })];
    return { model: nn.sequential({ device: cpu, seed: 1, inputShape: [28, 28, 1] }, layers) };
  },
  parse: () => ({ object, text: '{ "epoch": 3 }' }),
  decodeNpy: () => answered(node.io.encodeNpy(Float32Array.of(1, 2), { shape: [2] })),
  encodeNpy: () => ({ y: random([2, 3]) }),
  decodeNpz: () => answered(node.io.encodeNpz({ x_test: { data: Float32Array.of(1, 2), shape: [2] } })),
  tensorBoard: () => ({ loss: node.loss.crossEntropy }),
  confusionMatrix: () => ({
    report: new node.io.Report({ title: "Digits" }),
    test: { ...set.test, classNames: Array.from({ length: 10 }, (_, i) => `${i}`) },
  }),
  multiHeadAttention: () => ({ x: nn.input({ shape: [5, 8] }), mask: nn.input({ shape: [5, 5] }) }),
  add: () => ({ left: nn.input({ shape: [3] }), right: nn.input({ shape: [3] }) }),
  async loadWeights() {
    const model = classifier();
    await nn.saveKerasModel("model.weights.h5", model);
    // A state dict of a network with one layer more.
    const conv = () => nn.conv2d({ filters: 2, kernelSize: 3, activation: "relu" });
    const layers = [...[conv(), nn.maxPool2d(4), conv(), nn.flatten()], nn.dense({ units: 10, name: "dense" })];
    const longer = [...layers, nn.dense({ units: 3, name: "fc" })];
    const other = nn.sequential({ device: cpu, seed: 2, inputShape: [28, 28, 1] }, longer);
    await nn.saveModel("resnet.safetensors", other, { format: "pytorch" });
    return { model };
  },
  sweep: () => ({ train: async (rate: number, units: number) => rate * units }),
  writeSweepReport: async () => {
    const space = { rate: sweeps.choice([1, 2]) };
    const trial: sweeps.Trial = async ({ rate }) => ({ loss: rate as number });
    await sweeps.sweep({ space, trial, folder: "out/first-sweep", goal: { figure: "loss", direction: "minimize" } });
    return {};
  },
  checkOptions: () => ({ options: { strides: 2 }, rules: { strides: integer({ from: 1 }) } }),
};

const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
const folder = mkdtempSync(join(tmpdir(), "kilograd-examples-"));
const home = process.cwd();
afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

const all = examples();

test("there are examples, and what is said of them is of some that are there", () => {
  expect(all.length).toBeGreaterThan(100);
  const names = new Set(all.map(({ name }) => name));
  expect([...Object.keys(given), ...Object.keys(notRun)].filter((name) => !names.has(name))).toEqual([]);
});

test.skip.for(Object.entries(notRun))("%s: %s", () => {});

test.for(all.filter(({ name }) => !(name in notRun)))("$file, $name", async ({ file, name, code }) => {
  process.chdir(mkdtempSync(join(folder, "example-")));
  const own = await import(/* @vite-ignore */ resolve(home, "src", file));
  const scope: Record<string, unknown> = {
    ...{ ...applications, ...inputs, ...sweeps, ...node, ...node.io, ...own, ...common() },
    ...(await given[name]?.()),
  };
  const { outputText } = ts.transpileModule(`async () => {\n${code}\n}`, {
    compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext },
  });
  const names = Object.keys(scope).filter((each) => each !== "default");
  const run = new AsyncFunction(...names, `return (${outputText.trim().replace(/;$/, "")})();`);
  await run(...names.map((each) => scope[each]));
});
