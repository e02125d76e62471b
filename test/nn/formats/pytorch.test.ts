// State dicts of PyTorch into architectures, and back. Expected outputs: pytorch.py.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeSafetensors, encodeSafetensors, type StoredTensor } from "../../../src/io/safetensors.js";
import { model as functional, sequential } from "../../../src/nn/architecture.js";
import { input } from "../../../src/nn/graph.js";
import * as nn from "../../../src/nn/index.js";
import { DataError, UsageError } from "../../../src/tensor/errors.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { needsPython, runPython } from "../../python.js";
import { cpu, expectClose } from "../../support.js";

interface Stored {
  readonly file: string;
  readonly shape: number[];
  readonly output: number[];
}
type Network = Readonly<Record<"float32" | "float16" | "bfloat16", Stored>> & {
  readonly inputs: number[][];
  readonly shapes: number[][];
};
const { networks } = JSON.parse(readFileSync("test/nn/formats/pytorch.json", "utf8")) as {
  networks: Record<string, Network>;
};

const bytesOf = (name: string, dtype: "float32" | "float16" | "bfloat16" = "float32") =>
  new Uint8Array(Buffer.from(networks[name]![dtype].file, "base64"));

/** The same networks here: images are [h, w, c], paddings are layers, momentum and epsilon PyTorch's. */
const architectures: Readonly<Record<string, () => nn.Model>> = {
  cnn: () =>
    sequential({ device: cpu, inputShape: [6, 8, 3] }, [
      nn.conv2d({ filters: 8, kernelSize: 3, padding: "same", useBias: false }),
      nn.batchNorm({ epsilon: 1e-5 }),
      nn.relu(),
      nn.depthwiseConv2d({ kernelSize: 3, padding: "same", depthMultiplier: 2 }),
      nn.conv2d({ filters: 12, kernelSize: 1, activation: "relu" }),
      nn.maxPool2d(2),
      nn.conv2dTranspose({ filters: 6, kernelSize: 3, strides: 2 }),
      nn.conv2d({ filters: 4, kernelSize: 3, groups: 2 }),
      nn.flatten(),
      nn.dense({ units: 10 }),
      nn.batchNorm({ epsilon: 1e-5 }),
      nn.relu(),
      nn.dropout(0.5),
      nn.dense({ units: 3 }),
    ]),
  autoencoder: () =>
    sequential({ device: cpu, inputShape: [6, 8, 2] }, [
      nn.zeroPadding2d(1),
      nn.conv2d({ filters: 3, kernelSize: 3, strides: 2 }),
      nn.flatten(),
      nn.batchNorm({ epsilon: 1e-5 }),
      nn.dense({ units: 5, activation: "tanh" }),
      nn.dense({ units: 36 }),
      nn.prelu(),
      nn.reshape([3, 4, 3]),
      nn.conv2dTranspose({ filters: 2, kernelSize: 2, strides: 2 }),
    ]),
  sequence: () =>
    sequential({ device: cpu, inputShape: [8, 3] }, [
      nn.conv1d({ filters: 8, kernelSize: 3 }),
      nn.groupNorm({ groups: 2, epsilon: 1e-5 }),
      nn.prelu({ sharedAxes: [1] }),
      nn.maxPool1d(2),
      nn.flatten(),
      nn.dense({ units: 4 }),
    ]),
  attention() {
    const [x, other] = [input({ shape: [5, 8] }), input({ shape: [4, 6] })];
    const own = nn.multiHeadAttention({ numHeads: 2, keyDim: 4, name: "attn" })([x, x]);
    const normed = nn.layerNorm({ epsilon: 1e-5, name: "norm" })(nn.add()([x, own]));
    const cross = nn.multiHeadAttention({ numHeads: 4, keyDim: 2, name: "cross" })([normed, other]);
    return functional({
      device: cpu,
      inputs: [x, other],
      outputs: nn.dense({ units: 3, name: "fc" })(nn.add()([normed, cross])),
    });
  },
  residual: () => residual(["stem", "right", "left", "head"]),
};

function residual(names: readonly (string | undefined)[]): nn.Model {
  const [stem, right, left, head] = names.map((name) => (name === undefined ? {} : { name }));
  const x = input({ shape: [5, 4, 2] });
  const start = nn.conv2d({ filters: 4, kernelSize: 3, padding: "same", useBias: false, ...stem })(x);
  const first = nn.conv2d({ filters: 4, kernelSize: 3, padding: "same", activation: "relu", ...right })(start);
  const sum = nn.add()([nn.conv2d({ filters: 4, kernelSize: 3, padding: "same", ...left })(first), start]);
  return functional({ device: cpu, inputs: x, outputs: nn.dense({ units: 2, ...head })(nn.globalAvgPool2d()(sum)) });
}

/** [n, c, ...] of PyTorch as [n, ..., c], and back. */
function channelsLast(values: readonly number[], [channels, ...sizes]: readonly number[], back = false): number[] {
  const cells = sizes.reduce((product, size) => product * size, 1);
  const count = channels! * cells;
  return Array.from(values, (_, i) => {
    const [n, at] = [Math.floor(i / count), i % count];
    const [c, cell] = back ? [Math.floor(at / cells), at % cells] : [at % channels!, Math.floor(at / channels!)];
    return values[n * count + (back ? cell * channels! + c : c * cells + cell)]!;
  });
}

/** In PyTorch's order. */
async function outputOf(model: nn.Model, name: string, inputs = networks[name]!.inputs): Promise<number[]> {
  const { shapes, float32 } = networks[name]!;
  const images = name !== "attention";
  const xs = inputs.map((values, i) => {
    const data = Float32Array.from(images ? channelsLast(values, shapes[i]!) : values);
    return tensor(cpu, data, { shape: [2, ...model.inputs[i]!.shape] });
  });
  const y = [...(await model.call(xs.length === 1 ? xs[0]! : xs).data())];
  return images && float32.shape.length > 2 ? channelsLast(y, float32.shape.slice(1), true) : y;
}

describe.each(Object.keys(networks))("%s", (name) => {
  test("predicts as PyTorch does", async () => {
    const model = architectures[name]!();
    await nn.loadWeights(model, bytesOf(name));
    expectClose(await outputOf(model, name), networks[name]!.float32.output, { rtol: 1e-5, label: name });
  });

  test("is written as PyTorch wrote it, to the bit", async () => {
    const model = architectures[name]!();
    await nn.loadWeights(model, bytesOf(name));
    const written = decodeSafetensors(await nn.encodeModel(model, { format: "pytorch" })).tensors;
    const theirs = [...decodeSafetensors(bytesOf(name)).tensors].filter(([key]) => !key.endsWith("tracked"));
    // Modules of nn.Sequential have numbers, which the layers here do not know.
    const rest = (key: string) => key.replace(/^\d+\./, "");
    const content = (tensors: Iterable<readonly [string, StoredTensor]>) =>
      [...tensors]
        .map(
          ([key, { shape, data }]) =>
            `${/^\d/.test(key) || name in sequences ? rest(key).split(".").at(-1) : key} [${shape}] ${data}`,
        )
        .sort();
    expect(content(written)).toEqual(content(theirs));
  });
});
/** Networks whose layers have names of their own here. */
const sequences = { cnn: true, autoencoder: true, sequence: true };

test.each(["float16", "bfloat16"] as const)("%s", async (dtype) => {
  const model = architectures["cnn"]!();
  await nn.loadWeights(model, bytesOf("cnn", dtype));
  expectClose(await outputOf(model, "cnn"), networks["cnn"]![dtype].output, { rtol: 1e-5, label: dtype });
});

describe("names", () => {
  test("layers of one shape that only names tell apart are refused, and told", async () => {
    const model = residual([]);
    const refused = nn.loadWeights(model, bytesOf("residual"));
    await expect(refused).rejects.toThrow(UsageError);
    await expect(nn.loadWeights(residual([]), bytesOf("residual"))).rejects.toThrow(
      /"left", "right" .*may each be any of the layers "conv2d_1", "conv2d_2".*option map/,
    );
  });

  test.each<[string, NonNullable<nn.LoadWeightsOptions["map"]>]>([
    ["a record of modules", { right: "conv2d_1", left: "conv2d_2" }],
    ["a record of tensors", { "right.weight": "conv2d_1/kernel", "right.bias": "conv2d_1.bias" }],
    ["a function", (name) => name.replace("right", "conv2d_1").replace("left", "conv2d_2")],
    ["a function of some", (name) => (name.startsWith("left") ? name.replace("left", "conv2d_2") : undefined)],
  ])("%s", async (_, map) => {
    const model = residual([]);
    await nn.loadWeights(model, bytesOf("residual"), { map });
    expectClose(await outputOf(model, "residual"), networks["residual"]!.float32.output, { rtol: 1e-5 });
  });

  test("what is not needed is passed over", async () => {
    const model = residual(["stem", "right", "left"]);
    const { tensors } = decodeSafetensors(bytesOf("residual"));
    tensors.set("extra.weight", { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) });
    const bytes = encodeSafetensors(tensors);
    await expect(nn.loadWeights(model, bytes)).rejects.toThrow(/"extra\.weight" \[2\] belongs to no layer/);
    await nn.loadWeights(model, bytes, { map: { extra: null } });
    await expect(nn.loadWeights(model, bytes, { map: { extras: null } })).rejects.toThrow(
      /no tensor or module "extras"/,
    );
  });

  test("everything that is wrong is in one message", async () => {
    const { tensors } = decodeSafetensors(bytesOf("residual"));
    tensors.delete("right.bias");
    tensors.set("head.weight", { dtype: "F32", shape: [3, 4], data: new Float32Array(12) });
    tensors.set("left.bias", { dtype: "I32", shape: [4], data: new Int32Array(4) });
    const refused = nn.loadWeights(residual(["stem", "right", "left", "head"]), encodeSafetensors(tensors));
    await expect(refused).rejects.toThrow(
      /"left\.bias" for layer "left" must be of floats, is I32; "head\.weight" for layer "head" should be \[2, 4\], is \[3, 4\];.*"right\.bias" \[4\] for layer "right" \(Conv2D\) is missing/,
    );
  });

  test("a vector that joins flattened images has no order in PyTorch that could be told", async () => {
    const x = input({ shape: [3, 3, 2] });
    const numbers = input({ shape: [4] });
    const flat = nn.flatten()(nn.conv2d({ filters: 2, kernelSize: 2 })(x));
    const outputs = nn.dense({ units: 2 })(nn.concatenate()([flat, numbers]));
    const model = functional({ device: cpu, inputs: [x, numbers], outputs });
    await expect(nn.encodeModel(model, { format: "pytorch" })).rejects.toThrow(/concatenate/);
  });
});

describe("pickles", () => {
  const first = (name: string) => {
    const header = new Uint8Array(30 + name.length);
    header.set([0x50, 0x4b, 3, 4]);
    header[26] = name.length;
    header.set(new TextEncoder().encode(name), 30);
    return header;
  };
  test.each([
    ["an archive", first("archive/data.pkl")],
    ["a program", first("net/data/0")],
    ["an old one", Uint8Array.of(0x80, 0x02, 0x8a, 0x0a, 0x6c)],
  ])("%s is refused with the lines that convert it", async (_, bytes) => {
    for (const refused of [nn.loadModel(bytes, { device: cpu }), nn.loadWeights(residual([]), bytes)]) {
      await expect(refused).rejects.toThrow(DataError);
      await expect(refused).rejects.toThrow(
        /torch\.load\("model\.pt", map_location="cpu", weights_only=True\); safetensors\.torch\.save_file/,
      );
    }
  });

  test("are not written", async () => {
    await expect(nn.saveModel("model.pt", residual([]))).rejects.toThrow(UsageError);
    await expect(nn.saveModel("model.pt", residual([]), { format: "pytorch" })).rejects.toThrow(/pickles/);
  });
});

test("a state dict is no model", async () => {
  await expect(nn.loadModel(bytesOf("cnn"), { device: cpu })).rejects.toThrow(/nn\.loadWeights\(model, path\)/);
});

const torch = needsPython("torch", "safetensors");

test.skipIf(torch.reason)(`PyTorch loads what is written, and predicts the same ${torch.reason ?? ""}`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-pytorch-"));
  try {
    for (const name of Object.keys(networks)) {
      const model = architectures[name]!();
      await nn.loadWeights(model, bytesOf(name));
      const { tensors } = decodeSafetensors(await nn.encodeModel(model, { format: "pytorch" }));
      // The layers of nn.Sequential in their order.
      const theirs = [...decodeSafetensors(bytesOf(name)).tensors.keys()].filter((key) => !key.endsWith("tracked"));
      const numbers = [...new Set(theirs.map((key) => key.split(".")[0]!))].sort((a, b) => Number(a) - Number(b));
      const layers = [...new Set([...tensors.keys()].map((key) => key.split(".")[0]!))];
      const renamed = new Map(
        [...tensors].map(([key, each]) => {
          const [layer, ...rest] = key.split(".");
          const place = name in sequences ? numbers[layers.indexOf(layer!)] : layer;
          return [[place, ...rest].join("."), each];
        }),
      );
      writeFileSync(join(folder, `${name}.safetensors`), encodeSafetensors(renamed));
    }
    const given = Object.fromEntries(Object.entries(networks).map(([name, { inputs }]) => [name, inputs]));
    const outputs = runPython("test/nn/formats/pytorch.py", [folder], JSON.stringify(given)) as Record<
      string,
      number[]
    >;
    for (const [name, { float32 }] of Object.entries(networks)) {
      expectClose(outputs[name]!, float32.output, { rtol: 1e-6, label: name });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
