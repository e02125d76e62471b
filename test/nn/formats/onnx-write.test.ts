// Models written as ONNX: every class of layers, no transposes between convolutions, and ONNX Runtime's predictions.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VERSION } from "../../../src/io/version.js";
import { unaryTable } from "../../../src/kernels/elementwise-table.js";
import { encodeModel } from "../../../src/nn/checkpoint.js";
import { decodeModel, tensorValues } from "../../../src/nn/formats/onnx/proto.js";
import { permuted } from "../../../src/nn/formats/onnx/write-graph.js";
import { activations, layerWriters } from "../../../src/nn/formats/onnx/write-layers.js";
import * as nn from "../../../src/nn/index.js";
import { layerClasses } from "../../../src/nn/layers/registry.js";
import { UsageError } from "../../../src/tensor/errors.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { npmPackage } from "../../npm-package.js";
import { needsPython, runPython } from "../../python.js";
import { cpu, expectEachClose } from "../../support.js";
import { classesWithoutCase, type Input, onnxCases } from "./onnx-models.js";

const encoded = (model: nn.Model) => encodeModel(model, { format: "onnx" });
const graphOf = async (model: nn.Model) => decodeModel(await encoded(model)).graph!;
const caseOf = (title: string) => onnxCases.find((each) => each.title === title)!;

test("every class of the library's layers has its operators, and a case here", () => {
  expect(layerClasses.map(({ className }) => className).filter((name) => !Object.hasOwn(layerWriters, name))).toEqual(
    [],
  );
  expect(classesWithoutCase()).toEqual([]);
  expect(Object.keys(unaryTable).filter((name) => !Object.hasOwn(activations, name))).toEqual([]);
});

test("axes in another order", () => {
  const given = { shape: [2, 3, 2], data: Float32Array.from({ length: 12 }, (_, i) => i) };
  expect(permuted(given, [2, 0, 1])).toEqual({
    shape: [2, 2, 3],
    data: Float32Array.of(0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11),
  });
  expect(permuted({ shape: [], data: Float32Array.of(3) }, []).data).toEqual(Float32Array.of(3));
});

test("what a file says of itself", async () => {
  const model = caseOf("a classifier").model(cpu);
  const file = decodeModel(await encodeModel(model, { format: "onnx", notes: { data: "digits" } }));
  const { graph, ...head } = file;
  expect(VERSION).toBe(JSON.parse(readFileSync("package.json", "utf8")).version);
  expect(head).toEqual({
    ...{ irVersion: 8, producerName: "kilograd", producerVersion: VERSION, functions: [] },
    opsetImport: [{ domain: "", version: 18 }],
    metadataProps: [{ key: "notes", value: '{"data":"digits"}' }],
  });
  const value = (name: string, ...sizes: number[]) => ({
    name,
    type: {
      tensorType: { elemType: 1, shape: { dim: [{ dimParam: "N" }, ...sizes.map((dimValue) => ({ dimValue }))] } },
    },
  });
  expect(graph!.input).toEqual([value("input", 12, 12, 1)]);
  expect(graph!.output).toEqual([value("dense", 10)]);
  // What training alone does has no operators.
  expect(graph!.node.map(({ opType }) => opType)).toEqual([
    ...["Transpose", "Conv", "Relu", "BatchNormalization", "MaxPool", "Conv", "Mul", "Tanh", "Mul", "Mul", "Add"],
    ...["Transpose", "Flatten", "Gemm", "Softmax"],
  ]);
});

test("channels stay first from the first convolution to the last", async () => {
  const { node, initializer } = await graphOf(caseOf("a residual network").model(cpu));
  expect(node.filter(({ opType }) => opType === "Transpose").map(({ name }) => name)).toEqual(["x0/Transpose"]);
  expect(node.filter(({ opType }) => opType === "Conv").length).toBe(6);
  const kernel = initializer.find(({ name }) => name === "conv2d/kernel")!;
  expect(tensorValues(kernel).shape).toEqual([8, 3, 3, 3]);
});

test("shared layers share their weights", async () => {
  const { initializer, node } = await graphOf(caseOf("a shared layer, called three times").model(cpu));
  expect(initializer.map(({ name }) => name).sort()).toEqual([
    ...["shared/bias", "shared/kernel", "units/bias", "units/kernel"],
  ]);
  expect(node.filter(({ opType }) => opType === "Conv").length).toBe(3);
});

test("names are unique, and nodes come after what they take", async () => {
  for (const { model } of onnxCases) {
    const { node, input, initializer, output } = await graphOf(model(cpu));
    const made = new Set([...input, ...initializer].map(({ name }) => name));
    expect(made.size).toBe(input.length + initializer.length);
    for (const { input: taken, output: given } of node) {
      for (const name of taken) expect(name === "" || made.has(name), name).toBe(true);
      expect(made.has(given[0]!)).toBe(false);
      made.add(given[0]!);
    }
    for (const { name } of output) expect(made.has(name), name).toBe(true);
    expect(new Set(node.map(({ name }) => name)).size).toBe(node.length);
  }
});

test("a user's own layers, and trainings, are refused by name", async () => {
  const doubling = nn.defineLayer({ className: "OnnxDoubling", make: () => ({ call: (x) => x }) });
  const model = nn.sequential({ device: cpu, inputShape: [2] }, [doubling({ name: "twice" })]);
  await expect(encoded(model)).rejects.toThrow(UsageError);
  await expect(encoded(model)).rejects.toThrow(
    'encodeModel: layer "twice" is of a class of your own, OnnxDoubling; say its ONNX operators in nn.defineLayer({ onnx }), or save the model as "safetensors"',
  );
  const dense = nn.sequential({ device: cpu, inputShape: [2] }, [nn.dense({ units: 1 })]);
  const slots = [["dense/kernel/m", dense.weights()[0]!.tensor]] as const;
  await expect(encodeModel(dense, { format: "onnx", slots })).rejects.toThrow(
    'encodeModel: format "onnx" has no place for a training; save it as "safetensors"',
  );
});

test("what a layer's own operators ask for must be there", async () => {
  const layer = (name: string, onnx: (call: nn.OnnxCall) => string) =>
    nn.sequential({ device: cpu, inputShape: [2] }, [
      nn.defineLayer({ className: name, make: () => ({ call: (x) => x }), onnx })({ name: "own" }),
    ]);
  await expect(encoded(layer("OnnxWeightless", (call) => call.weight("scale")))).rejects.toThrow(
    'encodeModel: layer "own" (OnnxWeightless) has no weight "scale", which its onnx wants',
  );
  await expect(encoded(layer("OnnxNothing", () => "" as never))).rejects.toThrow(
    /encodeModel: what onnx of OnnxNothing gives must be a string/,
  );
});

test("a setting that is passed over is refused by name", async () => {
  const model = nn.sequential({ device: cpu, inputShape: [2] }, [nn.elu()]);
  const { layer } = model.layers[0]!.placed;
  Object.assign(layer.config, { shift: 1 });
  await expect(encoded(model)).rejects.toThrow(
    'encodeModel: layer "elu" (ELU) has settings that are not written to ONNX, shift; save the model as "safetensors"',
  );
});

/** Outputs of a model by their names. */
type Found = Readonly<Record<string, { readonly shape: readonly number[]; readonly values: Float32Array }>>;

/** Holds what a judge found to what the reference predicts. */
async function expectPredictions(model: nn.Model, inputs: readonly Input[], found: Found): Promise<void> {
  const x = inputs.map(({ shape, values }) => tensor(cpu, values, { shape }));
  for (const [k, output] of model.callAll(x).entries()) {
    // An input keeps its name.
    const wanted = model.outputNames[k]!;
    const { shape, values } = found[model.inputs.some(({ name }) => name === wanted) ? `${wanted}_1` : wanted]!;
    expect(shape).toEqual(output.shape);
    expectEachClose(values, await output.data(), { rtol: 1e-5, atol: 1e-5 });
  }
}

const { reason } = needsPython("onnxruntime", "numpy");

/** [name, shape, Base64 of float32]. */
type Stored = readonly [name: string, shape: readonly number[], data: string];
type Judged = { readonly error?: string; readonly plain: Stored[]; readonly optimised: Stored[] };

const read = (stored: readonly Stored[]): Found =>
  Object.fromEntries(
    stored.map(([name, shape, data]) => {
      const { buffer } = Uint8Array.from(Buffer.from(data, "base64"));
      return [name, { shape, values: new Float32Array(buffer) }];
    }),
  );

describe.skipIf(reason !== undefined)(`ONNX Runtime predicts the same ${reason ?? ""}`, () => {
  let folder: string;
  let judged: Judged[];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-onnx-"));
    const given = [];
    for (const [i, { model: make, inputs }] of onnxCases.entries()) {
      const model = make(cpu);
      const file = join(folder, `${i}.onnx`);
      writeFileSync(file, await encoded(model));
      const stored = inputs(model).map(({ shape, values }, k): Stored => {
        return [model.inputs[k]!.name, shape, Buffer.from(values.buffer).toString("base64")];
      });
      given.push({ file, inputs: stored });
    }
    judged = runPython("test/nn/formats/onnx-judge.py", [], JSON.stringify(given)) as Judged[];
  }, 300_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(onnxCases.map((each, i) => [each.title, i] as const))("%s", async (_, i) => {
    const { model: make, inputs } = onnxCases[i]!;
    const model = make(cpu);
    const { error, plain, optimised } = judged[i]!;
    expect(error).toBeUndefined();
    for (const found of [plain, optimised]) await expectPredictions(model, inputs(model), read(found));
  });
});

const web = await npmPackage("onnxruntime-web@1.30.0");

/** What is used of it. */
interface Runtime {
  readonly env: { readonly wasm: { numThreads: number }; logLevel: string };
  readonly Tensor: new (type: string, data: Float32Array, dims: readonly number[]) => RuntimeTensor;
  readonly InferenceSession: { create(file: Uint8Array, options: object): Promise<Session> };
}
interface RuntimeTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}
interface Session {
  run(feeds: Readonly<Record<string, RuntimeTensor>>): Promise<Readonly<Record<string, RuntimeTensor>>>;
  release(): Promise<void>;
}

describe.skipIf(web.reason !== undefined)(`ONNX Runtime in WebAssembly predicts the same ${web.reason ?? ""}`, () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await import(pathToFileURL(join(web.folder!, "dist/ort.wasm.min.mjs")).href);
    runtime.env.wasm.numThreads = 1;
    runtime.env.logLevel = "error";
  });

  test.each(onnxCases.map((each) => [each.title, each] as const))("%s", async (_, { model: make, inputs }) => {
    const model = make(cpu);
    const session = await runtime.InferenceSession.create(await encoded(model), { executionProviders: ["wasm"] });
    const given = inputs(model);
    const feeds = given.map(({ shape, values }, k) => {
      return [model.inputs[k]!.name, new runtime.Tensor("float32", values, shape)] as const;
    });
    const outputs = Object.entries(await session.run(Object.fromEntries(feeds)));
    const found = outputs.map(([name, { dims, data }]) => [name, { shape: dims, values: data }]);
    await expectPredictions(model, given, Object.fromEntries(found));
    await session.release();
  });
});
