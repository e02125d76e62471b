// Damaged files of every format that is read. A reader gives what is whole, or an error of this library that names the
// file, in bounded time and memory; sizes that disagree with the bytes are never taken.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { zipSync } from "fflate";
import { loadCifar10 } from "../src/data/cifar10.js";
import { parseFer2013 } from "../src/data/fer2013.js";
import { inflate } from "../src/data/gzip.js";
import { parseIdx } from "../src/data/idx.js";
import { readIdx } from "../src/data/idx-file.js";
import { parseTar } from "../src/data/tar.js";
import { parsePgm } from "../src/experiments/lib/faces/frames.js";
import { WorkFolder } from "../src/experiments/lib/frame/work-folder.js";
import { parseTargets } from "../src/experiments/lib/inputs/target.js";
import { runGuarded } from "../src/io/guarded-worker.js";
import { decodeH5, type H5Group, readH5 } from "../src/io/h5-files.js";
import { modelIn, weightsOf } from "../src/io/keras-h5.js";
import { decodeNpy, encodeNpy } from "../src/io/npy.js";
import { decodeNpz, encodeNpz } from "../src/io/npz.js";
import { decodeSafetensors, encodeSafetensors, type Safetensors, type StoredTensor } from "../src/io/safetensors.js";
import { readSafetensors } from "../src/io/safetensors-file.js";
import { isHdf5 } from "../src/io/signatures.js";
import { tuningFile } from "../src/io/tuning-file.js";
import { zipData, zipEntries } from "../src/io/zip.js";
import { architecture } from "../src/nn/architecture.js";
import { earlyStopping } from "../src/nn/callbacks/index.js";
import { encodeModel, encodeModelFiles, loadWeights, readModelFile } from "../src/nn/checkpoint.js";
import { fromKerasModel } from "../src/nn/formats/keras.js";
import { fromKerasH5, weightsFor } from "../src/nn/formats/keras-h5.js";
import { encodeModel as encodeOnnx } from "../src/nn/formats/onnx/proto.js";
import { saveKerasModel } from "../src/nn/keras-models.js";
import { batchNorm } from "../src/nn/layers/batch-norm.js";
import { conv2d } from "../src/nn/layers/conv2d.js";
import { flatten } from "../src/nn/layers/core.js";
import { dense } from "../src/nn/layers/dense.js";
import { maxPool2d } from "../src/nn/layers/pooling.js";
import { crossEntropy } from "../src/nn/losses.js";
import { sgd } from "../src/nn/optimizers.js";
import { checkedModelConfig, storedShape } from "../src/nn/stored-config.js";
import { buildModel } from "../src/nn/stored-model.js";
import type { CpuDevice } from "../src/tensor/cpu.js";
import { DataError, KilogradError } from "../src/tensor/errors.js";
import type { RandomStream } from "../src/tensor/random.js";
import { openDevice } from "../src/webgpu/open-device.js";
import { smallGraph } from "../test/nn/formats/small-graph.js";
import { mutateBytes, mutateJson, mutateText } from "./mutate.js";
import { type Finding, pick, type Suite } from "./suite.js";

/** Resident memory that a trial may add, in bytes. */
const MOST_MEMORY = 500e6;

/** A damaged input is read; what is read, is checked by `sized`, which throws where sizes disagree. */
export interface Reader {
  readonly name: string;
  /** Share of the trials. */
  readonly weight: number;
  /** Damages and reads. A foreign error, and an UnequalSizes, are findings. */
  readonly trial: (random: RandomStream, sources: Sources) => unknown;
}

/** A file that begins as ONNX files do, so that it is read as one. */
function onnxOnly(bytes: Uint8Array): Uint8Array {
  const whole = bytes.length < 3 ? new Uint8Array(3) : bytes;
  whole.set([0x08, 0x08, 0x12]);
  return whole;
}

const onnxInput = (name: string, ...sizes: number[]) => ({
  name,
  type: {
    tensorType: { elemType: 1, shape: { dim: [{ dimParam: "N" }, ...sizes.map((dimValue) => ({ dimValue }))] } },
  },
});

/** An ONNX file of operators that read shapes, sizes and indices out of constants. */
const onnxGraph = encodeOnnx({
  irVersion: 8,
  producerName: "fuzz",
  opsetImport: [{ domain: "", version: 17 }],
  graph: {
    name: "net",
    input: [onnxInput("x", 2, 4, 6)],
    output: [{ name: "y" }],
    node: [
      { opType: "Shape", input: ["x"], output: ["shape"] },
      { opType: "Gather", input: ["shape", "zero"], output: ["n"] },
      { opType: "Concat", input: ["n", "rest"], output: ["size"], attribute: [{ name: "axis", type: 2, i: 0n }] },
      { opType: "Expand", input: ["token", "size"], output: ["tokens"] },
      { opType: "Pad", input: ["x", "pads"], output: ["padded"] },
      { opType: "Slice", input: ["padded", "begin", "end", "axis"], output: ["part"] },
      { opType: "Concat", input: ["tokens", "part"], output: ["all"], attribute: [{ name: "axis", type: 2, i: 1n }] },
      { opType: "Resize", input: ["all", "", "scales"], output: ["large"] },
      { opType: "Reshape", input: ["large", "flat"], output: ["rows"] },
      { opType: "Tile", input: ["rows", "twice"], output: ["y"] },
    ],
    initializer: [
      ...Object.entries({ zero: [0], rest: [1, 4, 6], begin: [1], end: [3], axis: [1], flat: [0, -1], twice: [1, 2] }),
      ["pads", [0, 1, 0, 0, 0, 1, 0, 0]] as const,
    ]
      .map(([name, values]) => ({
        ...{ name, dims: [values.length], dataType: 7, int64Data: BigInt64Array.from(values, BigInt) },
      }))
      .concat([
        { name: "token", dims: [1, 1, 4, 6], dataType: 1, floatData: new Float32Array(24).fill(0.5) },
        { name: "scales", dims: [4], dataType: 1, floatData: Float32Array.of(1, 1, 2, 2) },
      ] as never),
  },
});

/** Whole files, made once. */
interface Sources {
  readonly folder: string;
  readonly device: CpuDevice;
  readonly safetensors: Uint8Array;
  readonly model: Safetensors;
  readonly checkpoint: Safetensors;
  readonly h5: Uint8Array;
  readonly h5Tree: Awaited<ReturnType<typeof readH5>>;
  /** Name of the shard, JSON, shard. */
  readonly tfjs: readonly [string, unknown, Uint8Array];
  readonly pytorch: Uint8Array;
  readonly npz: Uint8Array;
  readonly onnx: Uint8Array;
  readonly kerasFile: Uint8Array;
  /** Of its weights. */
  readonly placesTree: Awaited<ReturnType<typeof readH5>>;
}

class UnequalSizes extends Error {}

function sized(holds: boolean, what: string): void {
  if (!holds) throw new UnequalSizes(what);
}
const sizeOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

function checkTensors({ tensors }: Pick<Safetensors, "tensors">): void {
  for (const [name, { shape, data }] of tensors) {
    sized(data.length === sizeOf(shape), `"${name}" of shape [${shape}] has ${data.length} elements`);
  }
}

function idx(shape: number[], data: Uint8Array): Uint8Array {
  const header = new DataView(new ArrayBuffer(4 + 4 * shape.length));
  header.setUint32(0, 0x0800 + shape.length);
  for (const [axis, size] of shape.entries()) header.setUint32(4 + 4 * axis, size);
  return Buffer.concat([new Uint8Array(header.buffer), data]);
}
const wholeIdx = idx(
  [3, 4, 5],
  Uint8Array.from({ length: 60 }, (_, i) => i),
);

function tar(files: Readonly<Record<string, Uint8Array>>, field?: (size: number) => Uint8Array): Buffer {
  const blocks = Object.entries(files).map(([name, bytes]) => {
    const header = Buffer.alloc(512);
    header.write(name);
    header.set(field?.(bytes.length) ?? Buffer.from(bytes.length.toString(8).padStart(11, "0")), 124);
    header.write("0ustar", 156);
    header.fill(0x20, 148, 156);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
    );
    return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
const wholeTar = {
  "folder/a.bin": new Uint8Array(600).fill(1),
  b: new Uint8Array(5).fill(2),
  empty: new Uint8Array(0),
};

const cifarBatch = (images: number) =>
  Uint8Array.from({ length: images * 3073 }, (_, i) => (i % 3073 === 0 ? (i / 3073) % 10 : i % 256));
const cifar = tar({
  "cifar-10-batches-bin/data_batch_1.bin": cifarBatch(2),
  "cifar-10-batches-bin/test_batch.bin": cifarBatch(1),
});

const faces = Buffer.from(
  [
    "emotion,pixels,Usage",
    ...["Training", "PublicTest", "PrivateTest"].map(
      (usage, i) => `${i},${Array.from({ length: 2304 }, (_, at) => (at * (i + 1)) % 256).join(" ")},${usage}`,
    ),
  ].join("\n"),
);

const pgm = Buffer.concat([Buffer.from("P5\n7 5\n255\n"), Buffer.alloc(35, 9), Buffer.from("P5 2 2 255\n1234")]);

const tuning = {
  format: 1,
  measurements: { machine: { matmul: { options: ["a", "b"], milliseconds: [1, 2], chosen: "a" } } },
};
const run = {
  ...{ experiment: "tiny", preset: "quick", seed: 1, version: "0.1.0" },
  ...{ settings: { epochs: 2, data: "digits" }, finished: false },
};

/**
 * A graph of two outputs that is called twice, an operation, and an activation that is a layer, in both forms of calls.
 */
const nestedOf = (call: (...from: [string, number, number][]) => unknown, shape: string, first: number) => {
  const layer = (name: string, class_name: string, config: object, ...nodes: unknown[]) => ({
    ...{ name, class_name, config: { name, ...config }, inbound_nodes: nodes },
  });
  const leaky = { class_name: "LeakyReLU", config: { alpha: 0.1 } };
  const inner = {
    layers: [
      layer("i", "InputLayer", { [shape]: [null, 4] }),
      layer("d", "Dense", { units: 4, activation: leaky }, call(["i", 0, 0])),
      layer("e", "Dense", { units: 4, activation: "hard_sigmoid", trainable: false }, call(["d", 0, 0])),
    ],
    ...{
      input_layers: [["i", 0, 0]],
      output_layers: [
        ["e", 0, 0],
        ["d", 0, 0],
      ],
    },
  };
  const chain = { layers: [layer("c", "Dense", { units: 4, [shape]: [null, 4] }), layer("r", "RandomFlip", {})] };
  return {
    class_name: "Functional",
    config: {
      name: "outer",
      layers: [
        layer("x", "InputLayer", { [shape]: [null, 4] }),
        layer("inner", "Functional", inner, call(["x", 0, 0]), call(["inner", first, 1])),
        layer("chain", "Sequential", chain, call(["inner", first + 1, 0])),
        layer("sum", "Add", {}, call(["chain", first, 0], ["inner", first, 0])),
        layer("relu", "TFOpLambda", { function: "nn.relu" }, ["sum", 0, 0, { name: null }]),
      ],
      input_layers: [["x", 0, 0]],
      output_layers: [["relu", 0, 0]],
    },
  };
};
const nestedOfKeras2 = nestedOf((...from) => from.map((each) => [...each, {}]), "batch_input_shape", 1);
const nestedOfKeras3 = nestedOf(
  (...from) => {
    const tensors = from.map((history) => ({ class_name: "__keras_tensor__", config: { keras_history: history } }));
    return { args: tensors.length === 1 ? tensors : [tensors], kwargs: {} };
  },
  "batch_shape",
  0,
);

const data = {
  inputs: Float32Array.from({ length: 8 * 36 }, (_, i) => Math.sin(i)),
  targets: Int32Array.from({ length: 8 }, (_, i) => i % 3),
};
const layers = () => [
  conv2d({ filters: 2, kernelSize: 3, activation: "relu" }),
  batchNorm(),
  maxPool2d(2),
  flatten(),
  dense({ units: 3, activation: "softmax" }),
];
const build = (device: CpuDevice) => architecture({ inputShape: [6, 6, 1] }, layers()).build({ device, seed: 1 });
const fitOptions = () => ({
  optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }),
  loss: crossEntropy,
  batchSize: 4,
  epochs: 2,
  callbacks: [earlyStopping({ monitor: "loss", restoreBestWeights: true })],
});

/** A file's metadata with one JSON text in it damaged, and at times a tensor's description. */
function damagedMetadata(random: RandomStream, { tensors, metadata }: Safetensors): Uint8Array {
  const key = pick(random, Object.keys(metadata));
  const text = metadata[key]!;
  const changed =
    /^[[{]/.test(text) && random.integer(5) > 0
      ? JSON.stringify(mutateJson(random, JSON.parse(text)))
      : mutateText(random, text);
  const kept = new Map(tensors);
  if (random.integer(10) === 0) {
    const name = pick(random, [...kept.keys()]);
    const tensor = kept.get(name)!;
    kept.delete(name);
    if (random.integer(2) === 0) kept.set(name, { ...tensor, shape: [tensor.data.length] } as StoredTensor);
    else kept.set(`${name}x`, tensor);
  }
  return encodeSafetensors(kept, { ...metadata, [key]: changed });
}

/** The header as JSON with one part damaged, under its right length. */
function damagedHeader(random: RandomStream, bytes: Uint8Array): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const text = Buffer.from(JSON.stringify(mutateJson(random, header)) ?? "");
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([prefix, text, bytes.subarray(8 + length)]);
}

function fileIn({ folder }: Sources, name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** A tree of plain data, bytes included, with one part damaged. */
function damagedTree(random: RandomStream, tree: unknown): unknown {
  if (tree instanceof Uint8Array) return tree.slice(0, random.integer(tree.length + 1));
  if (typeof tree === "string") {
    return /^[[{]/.test(tree) && random.integer(4) > 0
      ? JSON.stringify(mutateJson(random, JSON.parse(tree)))
      : mutateText(random, tree);
  }
  if (typeof tree !== "object" || tree === null) return pick(random, [0, 1, 8, 16, 32, 64, "float", "int", "other"]);
  const keys = Object.keys(tree);
  if (keys.length === 0) return tree;
  const key = pick(random, keys);
  const value = (tree as Record<string, unknown>)[key];
  if (Array.isArray(tree)) return tree.map((part, i) => (i === Number(key) ? damagedTree(random, part) : part));
  // Members and attributes may be missing; what the worker always gives is there.
  if (random.integer(8) === 0 && !["attributes", "groups", "arrays", "shape", "bytes", "kind", "bits"].includes(key)) {
    return Object.fromEntries(Object.entries(tree).filter(([name]) => name !== key));
  }
  return { ...tree, [key]: damagedTree(random, value) };
}

const wholeFloats = Float32Array.of(1, 2, 3, 4, 5, 6);
const wholeNpy = [
  encodeNpy(wholeFloats, { shape: [2, 3] }),
  encodeNpy(Uint8Array.of(1, 2, 3)),
  // Big-endian, in Fortran's order.
  Buffer.from(
    Buffer.from(encodeNpy(Int16Array.of(1, 2, 3, 4), { shape: [2, 2] }))
      .toString("latin1")
      .replace("<i2", ">i2")
      .replace("False, ", "True,  "),
    "latin1",
  ),
];
/** Stored, and compressed. */
const wholeNpz = [
  encodeNpz({ a: wholeFloats, b: { data: Int32Array.of(1, 2), shape: [2, 1] } }),
  zipSync({ "a.npy": encodeNpy(wholeFloats), "b/c.npy": encodeNpy(new Float64Array(300)) }),
];
const graphFiles = ["w.bin", smallGraph.json, smallGraph.shard] as const;

export const allReaders: readonly Reader[] = [
  {
    name: "safetensors",
    weight: 20,
    trial(random, { safetensors }) {
      const bytes = random.integer(2) === 0 ? mutateBytes(random, safetensors) : damagedHeader(random, safetensors);
      const found = decodeSafetensors(bytes, "file");
      checkTensors(found);
      const stored = [...found.tensors.values()].reduce((sum, { data: { length } }) => sum + length, 0);
      sized(stored <= bytes.length, `${stored} elements came of ${bytes.length} bytes`);
    },
  },
  {
    name: "safetensors files",
    weight: 4,
    async trial(random, sources) {
      checkTensors(await readSafetensors(fileIn(sources, "file", mutateBytes(random, sources.safetensors))));
    },
  },
  {
    name: "models",
    weight: 14,
    async trial(random, sources) {
      const file = await readModelFile(fileIn(sources, "file", damagedMetadata(random, sources.model)));
      const model = buildModel(file, sources.device);
      for (const { tensor } of model.weights()) sized(tensor.size === sizeOf(tensor.shape), "a weight");
      model.dispose();
    },
  },
  {
    name: "checkpoints",
    weight: 8,
    async trial(random, sources) {
      const { training } = await readModelFile(fileIn(sources, "file", damagedMetadata(random, sources.checkpoint)));
      if (training === undefined) return;
      const { epoch, stepInEpoch, iterations, sampleCount = Number.MAX_SAFE_INTEGER, batchSize = 1 } = training;
      const counts = [epoch, stepInEpoch, iterations, sampleCount, batchSize].every(
        (n) => Number.isSafeInteger(n) && n >= 0,
      );
      sized(counts && stepInEpoch * batchSize < sampleCount + batchSize, "the position");
    },
  },
  {
    name: "resumed trainings",
    weight: 1,
    async trial(random, sources) {
      const path = fileIn(sources, "file", damagedMetadata(random, sources.checkpoint));
      const model = build(sources.device);
      const options = fitOptions();
      const history = await model.fit(data, { ...options, resume: path }).finally(() => {
        options.optimizer.dispose();
        model.dispose();
      });
      sized(history.timing.steps <= 4, `${history.timing.steps} of 4 steps were done`);
    },
  },
  {
    name: "TensorFlow.js",
    weight: 10,
    async trial(random, { device, tfjs }) {
      const [name, json, shard] = random.integer(2) === 0 ? tfjs : graphFiles;
      const damaged =
        random.integer(8) === 0 ? mutateText(random, JSON.stringify(json)) : JSON.stringify(mutateJson(random, json));
      const bytes = random.integer(4) === 0 ? mutateBytes(random, shard) : shard;
      const file = await readModelFile({ "model.json": Buffer.from(damaged ?? ""), [name]: bytes });
      const model = buildModel(file, device);
      for (const { tensor } of model.weights()) sized(tensor.size === sizeOf(tensor.shape), "a weight");
      model.dispose();
    },
  },
  {
    name: "state dicts of PyTorch",
    weight: 6,
    async trial(random, { device, pytorch }) {
      const bytes = random.integer(2) === 0 ? mutateBytes(random, pytorch) : damagedHeader(random, pytorch);
      const model = build(device);
      const map = { conv2d: mutateText(random, "conv2d") };
      await loadWeights(model, bytes, random.integer(4) === 0 ? { map } : {}).finally(() => model.dispose());
    },
  },
  {
    name: "ONNX",
    weight: 10,
    async trial(random, { device, onnx }) {
      const file = await readModelFile(onnxOnly(mutateBytes(random, random.integer(2) === 0 ? onnx : onnxGraph)));
      const model = buildModel(file, device);
      for (const { tensor } of model.weights()) sized(tensor.size === sizeOf(tensor.shape), "a weight");
      model.dispose();
    },
  },
  {
    name: "npy",
    weight: 10,
    trial(random) {
      const bytes = pick(random, wholeNpy);
      const { data: elements, shape } = decodeNpy(mutateBytes(random, bytes), "file");
      sized(elements.length === sizeOf(shape), `[${shape}] of ${elements.length} elements`);
    },
  },
  {
    name: "npz",
    weight: 10,
    async trial(random) {
      const bytes = mutateBytes(random, pick(random, wholeNpz));
      let total = 0;
      for (const [name, { data: elements, shape }] of await decodeNpz(bytes, "file")) {
        sized(elements.length === sizeOf(shape), `${name} [${shape}] of ${elements.length} elements`);
        total += elements.byteLength;
      }
      // Half floats and bytes of bool become wider.
      sized(total <= 8 * (1032 * bytes.length + 1024), `${total} bytes of ${bytes.length}`);
    },
  },
  {
    name: "weights of NumPy",
    weight: 6,
    async trial(random, { device, npz }) {
      const model = build(device);
      const map = { conv2d: mutateText(random, "conv2d") };
      const bytes = mutateBytes(random, npz);
      await loadWeights(model, bytes, random.integer(4) === 0 ? { map } : {}).finally(() => model.dispose());
    },
  },
  {
    name: "idx",
    weight: 12,
    trial(random) {
      const { shape, data: elements } = parseIdx(mutateBytes(random, wholeIdx), { name: "file", rank: 3 });
      sized(elements.length === sizeOf(shape), `[${shape}] of ${elements.length} bytes`);
    },
  },
  {
    name: "idx in gzip",
    weight: 3,
    async trial(random, sources) {
      const bytes =
        random.integer(2) === 0
          ? mutateBytes(random, gzipSync(wholeIdx))
          : gzipSync(Buffer.concat([mutateBytes(random, wholeIdx), Buffer.alloc(random.integer(2) * 1_000_000)]));
      const { shape, data: elements } = await readIdx(fileIn(sources, "file", bytes), 3);
      sized(elements.length === sizeOf(shape), `[${shape}] of ${elements.length} bytes`);
    },
  },
  {
    name: "gzip",
    weight: 4,
    async trial(random) {
      const bytes = await inflate(mutateBytes(random, gzipSync(Buffer.alloc(5000, 7))), { most: 10_000 }).catch(
        (error: NodeJS.ErrnoException) => {
          // Its callers put zlib's error, or that of the limit, into one of theirs.
          if (/^Z_/.test(error.code ?? "") || /may have$/.test(error.message)) return new Uint8Array(0);
          throw error;
        },
      );
      sized(bytes.length <= 10_000, `${bytes.length} bytes came`);
    },
  },
  {
    name: "tar",
    weight: 12,
    trial(random) {
      const archive =
        random.integer(2) === 0
          ? mutateBytes(random, tar(wholeTar))
          : tar(wholeTar, (size) => {
              const field = mutateBytes(random, Buffer.from(`${size.toString(8).padStart(11, "0")} `));
              return Uint8Array.from({ length: 12 }, (_, i) => field[i] ?? 0);
            });
      const files = parseTar(archive, "file");
      const total = [...files.values()].reduce((sum, { length }) => sum + length, 0);
      sized(total <= archive.length, `${total} bytes in ${archive.length}`);
    },
  },
  {
    name: "CIFAR-10",
    weight: 1,
    async trial(random, sources) {
      const folder = join(sources.folder, "cifar");
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "cifar-10-binary.tar"), mutateBytes(random, cifar));
      const { train, test } = await loadCifar10({ dataDir: folder });
      for (const { images, labels, count } of [train, test]) {
        sized(images.length === count * 3072 && labels.length === count, `${count} images`);
        sized(
          labels.every((label) => label >= 0 && label < 10),
          "labels",
        );
      }
    },
  },
  {
    name: "FER2013",
    weight: 3,
    trial(random) {
      const csv = random.integer(2) === 0 ? mutateBytes(random, faces) : Buffer.from(mutateText(random, `${faces}`));
      for (const { images, labels, count } of Object.values(parseFer2013(csv, "file"))) {
        sized(images.length === count * 2304 && labels.length === count, `${count} faces`);
        sized(
          labels.every((label) => label >= 0 && label < 7),
          "labels",
        );
        sized(
          images.every((value) => value >= 0 && value <= 1),
          "pixels",
        );
      }
    },
  },
  {
    name: "pictures of ffmpeg",
    weight: 5,
    async trial(random) {
      const bytes = mutateBytes(random, pgm);
      async function* pieces() {
        for (let at = 0; at < bytes.length; at += 16) yield bytes.subarray(at, at + 16);
      }
      for await (const { width, height, pixels } of parsePgm(pieces())) {
        sized(pixels.length === width * height, `${width} x ${height} of ${pixels.length} pixels`);
      }
    },
  },
  {
    name: "Keras's trees",
    weight: 8,
    trial(random, { h5Tree }) {
      const tree = damagedTree(random, h5Tree) as typeof h5Tree;
      const found = weightsOf(tree, "file");
      if (found.kind === "layers") {
        for (const { weights } of found.layers) {
          for (const { name, shape, data: elements } of weights) sized(elements.length === sizeOf(shape), name);
        }
      }
      const { weights } = fromKerasH5(modelIn(tree, "file"), "file");
      for (const [name, { shape, data: elements }] of weights) sized(elements.length === sizeOf(shape), name);
    },
  },
  {
    name: ".keras archives",
    weight: 8,
    async trial(random, { kerasFile }) {
      const bytes = mutateBytes(random, kerasFile);
      for (const name of zipEntries(bytes, "file").keys()) {
        const { length } = await entryOf(bytes, name);
        sized(length <= 1032 * bytes.length + 1024, `${length} bytes of ${bytes.length}`);
      }
    },
  },
  {
    name: "Keras's models within models",
    weight: 12,
    trial(random) {
      const damaged = mutateJson(random, pick(random, [nestedOfKeras2, nestedOfKeras3]));
      const { config } = fromKerasModel(damaged, "file", undefined, "2.15.0");
      const { layers } = storedShape(checkedModelConfig(config, "file"), "file");
      sized(layers.length === config.layers.length, `${layers.length} of ${config.layers.length} layers`);
    },
  },
  {
    name: "Keras's weights by place",
    weight: 6,
    trial(random, { placesTree, device }) {
      const found = weightsOf(damagedTree(random, placesTree) as typeof placesTree, "file");
      const model = build(device);
      try {
        for (const [name, { shape, data: elements }] of weightsFor(model, found, "file")) {
          sized(elements.length === sizeOf(shape), name);
        }
      } finally {
        model.dispose();
      }
    },
  },
  {
    name: ".keras files",
    weight: 0.1,
    async trial(random, sources) {
      await readModelFile(fileIn(sources, "file.keras", mutateBytes(random, sources.kerasFile)));
    },
  },
  {
    name: ".h5 files",
    weight: 0.15,
    async trial(random, sources) {
      const bytes = mutateBytes(random, sources.h5);
      const path = fileIn(sources, "file.h5", bytes);
      // A worker that a failure ends starts anew for each damaged file, which takes most of the time.
      const read = random.integer(50) === 0 ? readH5(path, { deadlineSeconds: DEADLINE }) : quickH5(bytes, path);
      fromKerasH5(modelIn(await read, path), path);
    },
  },
  {
    name: "measurements",
    weight: 2,
    async trial(random, sources) {
      const text = JSON.stringify(tuning);
      const damaged =
        random.integer(2) === 0 ? mutateText(random, text) : (JSON.stringify(mutateJson(random, tuning)) ?? "");
      writeFileSync(join(sources.folder, "tuning.json"), damaged);
      const read = await tuningFile(sources.folder).read();
      for (const { options, milliseconds, chosen } of Object.values(read).flatMap((machine) =>
        Object.values(machine),
      )) {
        sized(options.length === milliseconds.length && options.includes(chosen), "a measurement");
      }
    },
  },
  {
    name: "folders of runs",
    weight: 1,
    async trial(random, sources) {
      const folder = join(sources.folder, "run");
      mkdirSync(join(folder, "parts"), { recursive: true });
      const identity = { ...run, precision: "float32" };
      const whole = random.integer(2) === 0;
      writeFileSync(join(folder, "run.json"), JSON.stringify(whole ? run : mutateJson(random, run)));
      const work = await WorkFolder.open(folder, identity, { resume: true });
      await work.begin();
      await work.write("one", { loss: [1, Number.NaN], pixels: Float32Array.of(1, 2, 3) });
      const path = work.pathOf("one");
      writeFileSync(path, mutateBytes(random, readFileSync(path)));
      const read = await work.read<{ loss: number[]; pixels: Float32Array }>("one");
      sized(read.loss[0] === 1 && read.pixels.join() === "1,2,3", "a part of a run");
    },
  },
  {
    name: "targets",
    weight: 6,
    trial(random) {
      const text = pick(random, ["3", "all", "2:0.5,3:0.5", "0,0,.5,.5,0,0,0,0,0,0", "[0,0,1,0,0,0,0,0,0,0]"]);
      for (const { probabilities } of parseTargets(mutateText(random, mutateText(random, text)))) {
        const sum = probabilities.reduce((a, b) => a + b, 0);
        sized(probabilities.length === 10 && Math.abs(sum - 1) < 1e-5, `a target of sum ${sum}`);
      }
    },
  },
];

/** Shorter than the usual one: files that the library never ends reading are to be told within a trial's time. */
const DEADLINE = 8;

/** A file by a worker that stays after a failure. @throws DataError for damage */
async function quickH5(bytes: Uint8Array, path: string): Promise<H5Group> {
  if (!isHdf5(bytes)) throw new DataError(`${path}: is no HDF5`);
  const mostBytes = 2 ** 28;
  const task = {
    module: new URL("./h5-worker.js", import.meta.url),
    ...{ again: true, deadlineSeconds: DEADLINE, mostBytes, owner: path },
    data: { task: "read", content: bytes, mostBytes, skip: [] },
  };
  const found = (await runGuarded(task).catch((error: Error) => {
    // The last failure of a worker ends it.
    if (error instanceof KilogradError || !error.message.includes("HDF5-DIAG")) throw error;
    return { failure: error.message.split("\n")[0] };
  })) as { readonly result?: H5Group; readonly failure?: string };
  if (found.result === undefined) throw new DataError(`${path}: is damaged: ${found.failure}`);
  return found.result;
}

async function entryOf(archive: Uint8Array, name: string): Promise<Uint8Array> {
  const entry = zipEntries(archive, "file").get(name);
  return entry === undefined ? new Uint8Array(0) : zipData(archive, entry, "file");
}

let sources: Promise<Sources> | undefined;
const allSources = () => (sources ??= makeSources());

async function makeSources(): Promise<Sources> {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-fuzz-"));
  const device = (await openDevice("cpu")) as CpuDevice;
  const tensors = new Map<string, StoredTensor>([
    ["kernel", { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
    ["mean", { dtype: "F64", shape: [2], data: Float64Array.of(1, 2) }],
    ["step", { dtype: "U32", shape: [], data: Uint32Array.of(7) }],
    ["mask", { dtype: "U8", shape: [3], data: Uint8Array.of(1, 0, 1) }],
  ]);
  const model = build(device);
  const path = join(folder, "checkpoint");
  const options = fitOptions();
  await model.fit(data, { ...options, checkpoint: { path }, maxSteps: 3 });
  const checkpoint = await readSafetensors(path);
  const { training: _, ...metadata } = checkpoint.metadata;
  const weights = new Map([...checkpoint.tensors].filter(([name]) => !name.includes(":")));
  const h5 = join(folder, "model.h5");
  await saveKerasModel(h5, model);
  const h5Tree = await readH5(h5);
  const kerasFile = await encodeModel(model, { format: "keras" });
  const placesTree = await decodeH5(await entryOf(kerasFile, "model.weights.h5"), "file");

  const small = build(device);
  const tfjsFiles = await encodeModelFiles(small, { format: "tfjs" });
  const [, shard] = Object.keys(tfjsFiles);
  return {
    folder,
    device,
    safetensors: encodeSafetensors(tensors, { epoch: "3" }),
    model: { tensors: weights, metadata, skipped: new Map() },
    checkpoint,
    h5: readFileSync(h5),
    h5Tree,
    tfjs: [shard!, JSON.parse(new TextDecoder().decode(tfjsFiles["model.json"]!)), tfjsFiles[shard!]!],
    pytorch: await encodeModel(small, { format: "pytorch" }),
    npz: await encodeModel(small, { format: "npz" }),
    onnx: await encodeModel(small, { format: "onnx" }),
    kerasFile,
    placesTree,
  };
}

/** One trial of a reader. */
export async function trialOf(reader: Reader, random: RandomStream): Promise<Finding | undefined> {
  const whole = await allSources();
  const before = process.memoryUsage.rss();
  try {
    await reader.trial(random, whole);
  } catch (error) {
    if (!(error instanceof KilogradError)) {
      return `${reader.name}: ${error instanceof Error ? `${error.constructor.name}: ${error.stack}` : String(error)}`;
    }
    if (error.message.length > 2000) return `${reader.name}: a message of ${error.message.length} characters`;
  }
  const grown = process.memoryUsage.rss() - before;
  return grown > MOST_MEMORY ? `${reader.name}: took ${(grown / 1e6).toFixed(0)} MB` : undefined;
}

export async function endReaders(): Promise<void> {
  if (sources === undefined) return;
  const { folder, device } = await sources;
  sources = undefined;
  device.destroy();
  rmSync(folder, { recursive: true, force: true });
}

const totalWeight = allReaders.reduce((sum, { weight }) => sum + weight, 0);

/** Makes the whole files. */
async function beginReaders(): Promise<void> {
  await allSources();
}

/** One reader alone. */
export const readerSuite = (reader: Reader): Suite => ({
  name: reader.name,
  count: 20_000,
  begin: beginReaders,
  run: (random) => trialOf(reader, random),
  end: endReaders,
});

export const readers: Suite = {
  name: "readers",
  count: 100_000,
  begin: beginReaders,
  run(random) {
    let left = random.uniform() * totalWeight;
    return trialOf(allReaders.find(({ weight }) => (left -= weight) < 0) ?? allReaders[0]!, random);
  },
  end: endReaders,
};
