// What was read from ONNX, written to ONNX again: operators of every set, networks of exporters, weights that nodes
// share. Kilograd's own reading and ONNX Runtime are the judges.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeModel, encodeModel as encodeOnnx } from "../../../src/nn/formats/onnx/proto.js";
import * as nn from "../../../src/nn/index.js";
import { meanSquaredError } from "../../../src/nn/losses.js";
import { adam } from "../../../src/nn/optimizers.js";
import { sizeOf } from "../../../src/tensor/shape.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { needsPython, runPython } from "../../python.js";
import { cpu, expectEachClose } from "../../support.js";
import { type Described, draft, file, node, numbersFor, withToken } from "./onnx-graphs.js";
import { known, modelOfCase } from "./onnx-node-cases.js";

const load = (bytes: Uint8Array, messages: string[] = []) =>
  nn.loadModel(bytes, { device: cpu, onMessage: (message) => messages.push(message) });
const encoded = (model: nn.Model) => nn.encodeModel(model, { format: "onnx" });

interface Given {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const inputsOf = ({ inputs }: nn.Model, batch = 2): Given[] =>
  inputs.map(({ name, shape }) => ({ shape: [batch, ...shape], values: numbersFor(name, [batch, ...shape]) }));

const predictions = (model: nn.Model, inputs: readonly Given[]) =>
  Promise.all(
    model.callAll(inputs.map(({ shape, values }) => tensor(cpu, values, { shape }))).map(async (output) => ({
      shape: output.shape,
      values: await output.data(),
    })),
  );

/** Holds what is read of the written model to the model. */
async function expectSame(model: nn.Model, inputs: readonly Given[]): Promise<Uint8Array> {
  const written = await encoded(model);
  const found = await predictions(await load(written), inputs);
  for (const [k, { shape, values }] of (await predictions(model, inputs)).entries()) {
    expect(found[k]!.shape).toEqual(shape);
    expectEachClose(found[k]!.values, values, { rtol: 1e-5, atol: 1e-5 });
  }
  return written;
}

/** Graphs of older operator sets, whose nodes have another form today. */
const old: Readonly<Record<string, Described>> = {
  "softmax over all axes from one on": {
    inputs: { x: ["N", 3, 4] },
    nodes: [node("Softmax", ["x"], "s"), node("LogSoftmax", ["s"], "t", { axis: 2 }), node("Sqrt", ["s"], "u")],
    ...{ outputs: ["t", "u"], opset: 11 },
  },
  "axes as attributes": {
    inputs: { x: ["N", 1, 4, 6] },
    nodes: [
      node("Squeeze", ["x"], "s", { axes: [1] }),
      node("ReduceMean", ["s"], "m", { axes: [2], keepdims: 0 }),
      node("ReduceSum", ["s"], "r", { axes: [1], keepdims: 0 }),
      node("Unsqueeze", ["m"], "u", { axes: [2] }),
      node("Mul", ["u", "s"], "y"),
    ],
    ...{ outputs: ["y", "r"], opset: 11 },
  },
  "parts, ends and sizes as attributes": {
    inputs: { x: ["N", 4, 6] },
    nodes: [
      node("Slice", ["x"], "s", { starts: [1], ends: [2 ** 53], axes: [2] }),
      { ...node("Split", ["s"], "a", { split: [1, 3], axis: 1 }), output: ["a", "b"] },
      node("Pad", ["b"], "p", { pads: [0, 1, 0, 0, 0, 2], value: 0.25, mode: "constant" }),
      node("Clip", ["p"], "c", { min: -0.25, max: 0.375 }),
      { ...node("TopK", ["a"], "v", { k: 2 }), output: ["v", "places"] },
      node("Neg", ["v"], "w"),
    ],
    ...{ outputs: ["c", "w", "places"], opset: 9 },
  },
  "operands that stand at an axis": {
    inputs: { x: ["N", 3, 5] },
    nodes: [
      node("Add", ["x", "of_rows"], "a", { broadcast: 1, axis: 1 }),
      node("Mul", ["a", "of_columns"], "m", { broadcast: 1 }),
      node("PRelu", ["m", "slopes"], "y"),
    ],
    weights: { of_rows: [3], of_columns: [5], slopes: [3] },
    ...{ outputs: ["y"], opset: 6 },
  },
  "sizes before Resize": {
    inputs: { x: ["N", 2, 3, 3] },
    nodes: [
      node("Upsample", ["x"], "a", { mode: "linear", scales: [1, 1, 2, 3] }),
      node("Dropout", ["a"], "b", { ratio: 0.5, is_test: 1 }),
      node("HardSigmoid", ["b"], "y", { consumed_inputs: [0] }),
    ],
    ...{ outputs: ["y"], opset: 7 },
  },
  "the first Resize": {
    inputs: { x: ["N", 2, 4, 4] },
    nodes: [node("Resize", ["x", "scales"], "y", { mode: "linear" })],
    weights: {},
    ...{ outputs: ["y"], opset: 10 },
  },
  "sizes that follow from the batch": withToken(6),
  "indices between layers": {
    inputs: { x: ["N", 5] },
    nodes: [
      node("ArgMax", ["x"], "best", { axis: 1, keepdims: 0 }),
      node("Gather", ["table", "best"], "row"),
      node("Equal", ["best", "three"], "is"),
      node("Unsqueeze", ["is", "last"], "column"),
      node("Where", ["column", "row", "x"], "y"),
    ],
    weights: { table: [5, 5] },
    ints: { three: [3], last: [1] },
    outputs: ["y", "best"],
  },
};

/** `file`, with what has values of its own. */
function bytesOf(title: string): Uint8Array {
  const described = old[title]!;
  const model = draft(described);
  if (title !== "the first Resize") return file(described);
  const scales = { name: "scales", dims: [4], dataType: 1, floatData: Float32Array.of(1, 1, 1.5, 2.5) };
  return encodeOnnx({ ...model, graph: { ...model.graph, initializer: [scales] } });
}

interface Network {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
}
const exported = () => {
  const { cases } = JSON.parse(readFileSync("test/nn/formats/onnx-torch.json", "utf8")) as { cases: Network[] };
  return cases.flatMap(({ name, files }) =>
    Object.entries(files).map(([by, bytes]) => [`${name}, by ${by}`, Uint8Array.from(Buffer.from(bytes, "base64"))]),
  ) as [string, Uint8Array][];
};
const networks: readonly (readonly [title: string, () => Uint8Array])[] = [
  ...Object.keys(old).map((title) => [title, () => bytesOf(title)] as const),
  ...exported().map(([title, bytes]) => [title, () => bytes] as const),
];

describe("written and read again", () => {
  test.each(networks)("%s", async (_, bytes) => {
    const model = await load(bytes());
    const written = await expectSame(model, inputsOf(model));
    // Kilograd's own format has it, too.
    const own = await load(await nn.encodeModel(model, { format: "safetensors" }));
    expect(await encoded(own)).toEqual(written);
  });

  test("what comes of an operator of a newer set is of that", async () => {
    const swish = { inputs: { x: ["N", 3] }, nodes: [node("Swish", ["x"], "y")], outputs: ["y"], opset: 24 } as const;
    const { irVersion, opsetImport } = decodeModel(await encoded(await load(file(swish))));
    expect([irVersion, opsetImport[0]!.version]).toEqual([12, 24]);
  });

  test("operators between convolutions have their channels first, as these", async () => {
    const conv = (x: string, w: string, y: string) => node("Conv", [x, w], y, { pads: [1, 1, 1, 1] });
    const described: Described = {
      inputs: { x: ["N", 3, 6, 5] },
      nodes: [
        conv("x", "w1", "a"),
        node("Softsign", ["a"], "b"),
        node("Mul", ["b", "scale"], "c"),
        conv("c", "w2", "y"),
      ],
      weights: { w1: [4, 3, 3, 3], w2: [4, 4, 3, 3], scale: [4, 1, 1] },
      outputs: ["y"],
    };
    const model = await load(file(described));
    const { graph } = decodeModel(await expectSame(model, inputsOf(model)));
    expect(graph!.node.map(({ opType }) => opType)).toEqual([
      ...["Transpose", "Conv", "Softsign", "Mul", "Conv", "Transpose"],
    ]);
  });

  test("what has no form in the newer set is refused by name", async () => {
    const described: Described = {
      inputs: { x: ["N", 4, 6] },
      nodes: [
        node("GroupNormalization", ["x", "scale", "offset"], "n", { num_groups: 2 }),
        node("Cast", ["n"], "int4", { to: 22 }),
        node("Cast", ["int4"], "y", { to: 1 }),
      ],
      weights: { scale: [2], offset: [2] },
      ...{ outputs: ["y"], opset: 18 },
    };
    const model = await load(file(described));
    await expect(encoded(model)).rejects.toThrow(
      'layer "n" has a node GroupNormalization of operator set 18 that has scales of groups, which set 21 has not; save the model as "safetensors"',
    );
  });
});

/** As a model's float32 input, 2^32 - 1 is 2^32, which uint32 has not. */
const BEYOND = new Set(["test_bitcast_uint32_to_int32"]);

test("ONNX's node cases that become models are the same when they are read again", async () => {
  let models = 0;
  for (const each of known) {
    const found = await modelOfCase(each, cpu);
    if (found === undefined || BEYOND.has(each.name)) continue;
    await expectSame(found.model, found.inputs).catch((error: Error) => {
      throw new Error(`${each.name}: ${error.message}`);
    });
    models++;
  }
  // Others have no batch as their first axis.
  expect([models, known.length]).toEqual([862, 1734]);
}, 300_000);

/** What the runtime lacks, refuses or computes in another way; of the first four ONNX's own checker differs. */
const OTHERWISE = new RegExp(
  "averagepool_2d_ceil_last_window|maxpool_2d_ceil_output_size_reduce|mvn|stft|" +
    "qk_matmul_bias_[34]d_mask_causal|bitcast|FLOAT4E2M1|float4e2m1|convinteger_with_padding|dft|" +
    "maxunpool_export_with_output_shape|mod_.*fmod_0|reduce_max_empty_set_bool|" +
    "resize_downsample_scales_(linear_align_corners|cubic)|resize_.*_not_(larger|smaller)|swiglu|top_k_uint64",
);

const { reason } = needsPython("onnxruntime", "numpy");
describe.skipIf(reason !== undefined)(`ONNX Runtime predicts the same ${reason ?? ""}`, () => {
  type Stored = readonly [name: string, shape: readonly number[], data: string];
  type Judged = { readonly error?: string; readonly plain: Stored[]; readonly optimised: Stored[] };
  interface Case {
    readonly title: string;
    readonly model: nn.Model;
    readonly inputs: readonly Given[];
  }

  /** Which cases it fails at, with the reason. */
  async function failuresOf(cases: readonly Case[]): Promise<string[]> {
    const folder = mkdtempSync(join(tmpdir(), "kilograd-onnx-"));
    const given: { file: string; inputs: Stored[] }[] = [];
    for (const [i, { model, inputs }] of cases.entries()) {
      const path = join(folder, `${i}.onnx`);
      writeFileSync(path, await encoded(model));
      const stored = inputs.map(({ shape, values }, k): Stored => {
        return [model.inputs[k]!.name, shape, Buffer.from(values.buffer).toString("base64")];
      });
      given.push({ file: path, inputs: stored });
    }
    const judged = runPython("test/nn/formats/onnx-judge.py", [], JSON.stringify(given)) as Judged[];
    rmSync(folder, { recursive: true });
    const failures: string[] = [];
    for (const [i, { error, plain, optimised }] of judged.entries()) {
      const { title, model, inputs } = cases[i]!;
      if (error !== undefined) failures.push(`${title}: ${error.slice(0, 200)}`);
      const expected = await predictions(model, inputs);
      for (const [k, [, shape, data]] of [...(plain ?? []).entries(), ...(optimised ?? []).entries()]) {
        const values = new Float32Array(Uint8Array.from(Buffer.from(data, "base64")).buffer);
        try {
          expect(shape).toEqual(expected[k]!.shape);
          expectEachClose(values, expected[k]!.values, { rtol: 1e-5, atol: 1e-5 });
        } catch (difference) {
          failures.push(`${title}: ${(difference as Error).message.slice(0, 200)}`);
        }
      }
    }
    return failures;
  }

  test("of what was read", async () => {
    const cases: Case[] = [];
    for (const [title, bytes] of networks) {
      const model = await load(bytes());
      cases.push({ title, model, inputs: inputsOf(model) });
    }
    expect(await failuresOf(cases)).toEqual([]);
  }, 300_000);

  test("of ONNX's node cases", async () => {
    const cases: Case[] = [];
    for (const each of known) {
      const found = OTHERWISE.test(each.name) ? undefined : await modelOfCase(each, cpu);
      if (found !== undefined) cases.push({ title: each.name, ...found });
    }
    expect(await failuresOf(cases)).toEqual([]);
    expect(cases.length).toBe(809);
  }, 300_000);
});

describe("constants that several nodes use", () => {
  const twins: Described = {
    inputs: { a: ["N", 4], b: ["N", 4] },
    nodes: [
      ...["a", "b"].flatMap((name) => [
        node("MatMul", [name, "w"], `${name}1`),
        node("Add", [`${name}1`, "offset"], `${name}2`),
        node("Relu", [`${name}2`], `${name}3`),
      ]),
      node("Sub", ["a3", "b3"], "difference"),
      node("Gemm", ["difference", "v"], "y"),
    ],
    weights: { w: [4, 6], offset: [6], v: [6, 2] },
    outputs: ["y"],
  };

  test("are one layer, which trains as one", async () => {
    const model = await load(file(twins));
    expect(model.layers.map(({ placed }) => placed.layer.className)).toEqual(["Dense", "Subtract", "Dense"]);
    expect(model.calls.map(({ layer }) => layer)).toEqual([0, 0, 1, 2]);
    expect(model.countParameters().total).toBe(24 + 6 + 12);
    await expectSame(model, inputsOf(model));
    // A difference of equals stays none, however long its layer is trained.
    const [x] = inputsOf(model, 8) as [Given];
    const y = { values: new Float32Array(16).fill(1) };
    await model.fit(
      { inputs: [x.values, x.values], targets: y.values },
      { optimizer: adam(), loss: meanSquaredError, epochs: 3, batchSize: 4 },
    );
    const [output] = await predictions(model, [x, x]);
    expect(sizeOf(output!.shape)).toBe(16);
    expectEachClose(output!.values, new Float32Array(16), { rtol: 0, atol: 1e-7 });
  });

  test("in layers of different kinds train apart, and a remark says so", async () => {
    const messages: string[] = [];
    const described: Described = {
      inputs: { x: ["N", 4] },
      nodes: [node("MatMul", ["x", "w"], "a"), node("Tanh", ["a"], "t"), node("Gemm", ["t", "w"], "y", { transB: 1 })],
      weights: { w: [4, 6] },
      outputs: ["y"],
    };
    const model = await load(file(described), messages);
    expect(model.countParameters().total).toBe(48);
    expect(messages).toContainEqual(
      expect.stringContaining(
        'what several layers of different kinds share is a weight of each, and trains apart: "w"',
      ),
    );
  });
});

describe("images of another size become Kilograd's layers", () => {
  const resized = (attributes: Record<string, string>, scales: readonly number[], opset = 18) => {
    const described: Described = {
      inputs: { x: ["N", 2, 4, 5] },
      nodes: [node("Resize", ["x", "", "scales"], "y", attributes)],
      ...{ outputs: ["y"], opset },
    };
    const model = draft(described);
    const values = { name: "scales", dims: [4], dataType: 1, floatData: Float32Array.from(scales) };
    return encodeOnnx({ ...model, graph: { ...model.graph, initializer: [values] } });
  };
  const floor = { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" };
  const halves = { mode: "nearest", coordinate_transformation_mode: "half_pixel" };
  const corners = { mode: "linear", coordinate_transformation_mode: "align_corners" };
  test.each([
    ["UpSampling2D", floor, [1, 1, 2, 3]],
    ["UpSampling2D", halves, [1, 1, 3, 2]],
    ["UpSampling2D", { mode: "linear" }, [1, 1, 2, 2]],
    ["UpSampling2D", { mode: "linear", coordinate_transformation_mode: "pytorch_half_pixel" }, [1, 1, 2, 2]],
    ["Resizing", { mode: "linear" }, [1, 1, 0.5, 0.8]],
    ["OnnxGraph", { ...floor, nearest_mode: "ceil" }, [1, 1, 2, 2]],
    ["OnnxGraph", corners, [1, 1, 2, 2]],
    ["OnnxGraph", { mode: "cubic" }, [1, 1, 2, 2]],
  ] as const)("%s of %j by %j", async (className, attributes, scales) => {
    const model = await load(resized(attributes, scales));
    expect(model.layers.map(({ placed }) => placed.layer.className)).toEqual([className]);
    await expectSame(model, inputsOf(model));
  });
});
