// Calls what the package exports, found by reflection: functions, classes, and methods of tensors, models, layers,
// plans, optimizers, schedules, reports. Arguments are right ones, of which most trials spoil some. Whatever is given,
// what comes is a result or an error of this library, at the call, at a later read, or from the device; anything else
// is a finding.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as Applications from "../src/applications.js";
import * as Inputs from "../src/inputs.js";
import { binaryTable, type UnaryRow, unaryTable } from "../src/kernels/elementwise-table.js";
import type { Device, Tensor } from "../src/node.js";
import * as K from "../src/node.js";
import * as Sweeps from "../src/sweeps.js";
import { describe, object } from "../src/tensor/options.js";
import { type RandomStream, randomKey } from "../src/tensor/random.js";
import { type Finding, pick, type Suite } from "./suite.js";

/** What a trial works with; all tensors are its own. */
class Trial {
  constructor(
    readonly random: RandomStream,
    readonly device: Device,
    /** For tensors that are on the wrong one. */
    readonly other: Device,
    readonly folder: string,
  ) {}

  f32(shape: readonly number[] = [2, 3], device = this.device): Tensor {
    const size = shape.reduce((product, n) => product * n, 1);
    return K.tensor(
      device,
      Float32Array.from({ length: size }, () => this.random.normal()),
      { shape },
    );
  }

  /** Class ids of two samples. */
  ids(): Tensor {
    return K.tensor(this.device, Int32Array.of(1, 0));
  }

  parameter(): Tensor {
    const leaf = this.f32();
    leaf.requiresGrad = true;
    return leaf;
  }

  layers() {
    return [K.nn.dense({ units: 3, activation: "relu" }), K.nn.dropout(0.5), K.nn.dense({ units: 2 })];
  }

  model() {
    return K.nn.sequential({ device: this.device, inputShape: [3] }, this.layers());
  }

  /** Of two images [4, 4, 1], for what kilograd/inputs asks. */
  classifier() {
    return K.nn.sequential({ device: this.device, inputShape: [4, 4, 1] }, [
      K.nn.conv2d({ filters: 2, kernelSize: 3, activation: "relu", name: "maps" }),
      K.nn.flatten(),
      K.nn.dense({ units: 2, activation: "softmax" }),
    ]);
  }

  seen() {
    return new Inputs.Activations(this.classifier(), this.f32([2, 4, 4, 1]));
  }

  file(name: string): Fixed {
    return new Fixed(join(this.folder, name));
  }
}

/** An IDX file of zeros. */
function idx(shape: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + shape.reduce((product, size) => product * size, 1));
  bytes.set([0, 0, 8, shape.length, ...shape.flatMap((size) => [0, 0, 0, size])]);
  return bytes;
}

/** A value that no trial spoils: what keeps a call from running for ever, or from writing elsewhere. */
class Fixed {
  constructor(readonly value: unknown) {}
}

/** Thrown by functions that the fuzz gives: a user's error, which is to pass through. */
class UsersError extends Error {}

/** What a function of a user does with what it is given; that it is not given it is its own fault. */
function usersOwn(x: Tensor | undefined): Tensor {
  if (x === undefined) throw new UsersError("called without inputs");
  return x;
}

const normalized = (t: Trial) =>
  K.nn.sequential({ device: t.device, inputShape: [3] }, [K.nn.normalization(), K.nn.dense({ units: 2 })]);
const rows4 = () => Float32Array.from({ length: 12 }, (_, i) => Math.sin(i));
const samples = () => ({ inputs: rows4(), targets: Int32Array.of(0, 1, 1, 0) });
const images = () => ({
  images: new Float32Array(16),
  labels: new Int32Array(4),
  count: 4,
  imageShape: [2, 2, 1],
});
const pictures = () => Float32Array.from({ length: 32 }, (_, i) => (1 + Math.sin(i)) / 2);
const { attacks, objectives, parametrizations, regularizers, transforms } = Inputs;
/** What every attribution takes. */
const explained: Right = (t) => [t.classifier(), pictures(), { target: [0, 1], of: "logits", batchSize: 1 }];
const explainedBy =
  (options: object): Right =>
  (t) => [t.classifier(), pictures(), { target: [0, 1], ...options }];
const inBall: Right = () => [{ norm: pick(pickless, ["linf", "l2"]), epsilon: 0.1 }];
const searching =
  (options: object): Right =>
  () => [{ norm: pick(pickless, ["linf", "l2"]), epsilon: 0.1, ...options }];
/** A part of an optimisation that is called at once, too. */
const optimized = () => ({
  objective: objectives.logit(1),
  count: new Fixed(2),
  steps: new Fixed(2),
  transforms: [transforms.jitter(1)],
  regularizers: [regularizers.l2(0.1)],
  seed: 1,
});
const cell = () => ({
  pixels: [0, 0.5, 1, 0],
  width: 2,
  height: 2,
  caption: ["a"],
  highlight: "good",
  figures: { a: 1 },
});
const stored = () => new Map([["a", { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) }]]);
const scalar = (x: Tensor) => x.mul(x).sum();
const training = () => ({
  optimizer: K.optim.sgd({ learningRate: 0.1 }),
  loss: K.loss.crossEntropy,
  epochs: 1,
  batchSize: 2,
  maxSteps: new Fixed(2),
  shuffle: true,
});
const evaluation = () => ({
  loss: K.loss.crossEntropy,
  batchSize: 2,
  metrics: [
    ...["accuracy", K.metric.topK({ k: 1 }), K.metric.auc({ thresholds: 5 })],
    { name: "own", statistics: (x: Tensor) => usersOwn(x).sum(), result: ([total]: number[]) => total },
  ],
});

/** Right arguments of what is called. */
type Right = (t: Trial) => readonly unknown[];

const none: Right = () => [];
const application = () => ({
  ...{ inputShape: [32, 32, 3], classes: 2, includeTop: true, pooling: "avg" },
  ...{ classifierActivation: "linear", name: "a" },
});
const unary: Right = (t) => [t.f32()];
const binary: Right = (t) => [t.f32(), pick(t.random, [t.f32(), t.f32([3]), 2])];
/** Parameters of a row are options. */
const ofRow =
  ({ parameters }: UnaryRow): Right =>
  (t) => [t.f32(), ...(parameters ? [Object.fromEntries(parameters.map(({ name, value }) => [name, value]))] : [])];
const reduction: Right = (t) =>
  pick<Right>(t.random, [unary, (u) => [u.f32(), 0], (u) => [u.f32(), { axes: [0, 1], keepDims: true }]])(t);
const alongOne: Right = (t) => [t.f32(), pick<unknown>(t.random, [-1, { axis: 0 }])];
const classLoss: Right = (t) => [t.f32(), t.ids()];
const elementLoss: Right = (t) => [t.f32(), t.f32()];
const forGrad: Right = () => [scalar];
const layerOptions: Right = () => [{ name: "a", trainable: true }];
const windows: Right = () => [pick<unknown>(pickless, [2, { poolSize: 2, strides: [1, 2], padding: "same" }])];
const data: Right = () => [{ dataDir: "nowhere", cacheDir: "cache", attempts: 1 }];
/** Losses with their mean, their values per sample and, where they have options, `with`. */
const ofLosses = (names: string, right: Right, options?: object): Record<string, Right> =>
  Object.fromEntries(
    names
      .split(" ")
      .flatMap((name) => [
        [`loss.${name}`, right],
        [`loss.${name}.perSample`, right],
        ...(options === undefined ? [] : [[`loss.${name}.with`, () => [options]] as [string, Right]]),
      ]),
  );
const named = (names: string, right: Right) => Object.fromEntries(names.split(" ").map((name) => [name, right]));

/** Where no trial is at hand. */
const pickless = new K.RandomStream(1);

/** Right arguments of everything that is called, by name; methods as Class#method. */
const rights: Readonly<Record<string, Right>> = {
  ...Object.fromEntries(Object.entries(unaryTable).map(([name, row]) => [name, ofRow(row)])),
  ...named(Object.keys(binaryTable).join(" "), binary),
  ...named("sum sumSquares mean max min logSumExp", reduction),
  ...named("argmax softmax logSoftmax", alongOne),
  ...named("zerosLike onesLike detach keep globalAvgPool2d", unary),
  ...named("zeros ones", (t) => [t.device, [2, 3], "f32"]),
  ...named("grad valueAndGrad", forGrad),
  ...named("scope noGrad", (t) => [() => t.f32()]),
  ...ofLosses("crossEntropy crossEntropyFromProbabilities", classLoss, { labelSmoothing: 0.1 }),
  ...ofLosses("focalCrossEntropy focalCrossEntropyFromProbabilities", classLoss, { gamma: 1, alpha: [1, 1, 2] }),
  ...ofLosses("binaryCrossEntropy binaryCrossEntropyFromLogits", elementLoss, { labelSmoothing: 0.1 }),
  ...ofLosses("binaryFocalCrossEntropy binaryFocalCrossEntropyFromLogits", elementLoss, {
    ...{ gamma: 1, alpha: 0.5, applyClassBalancing: true, labelSmoothing: 0.1 },
  }),
  ...ofLosses("huber", elementLoss, { delta: 2 }),
  ...ofLosses("categoricalHinge", classLoss),
  ...ofLosses(
    "meanSquaredError meanAbsoluteError logCosh klDivergence cosineSimilarity hinge squaredHinge",
    elementLoss,
  ),
  "metric.topK": () => [{ k: 2, name: "top2" }],
  ...named("metric.precision metric.recall", () => [{ threshold: 0.3, classId: 1, name: "a" }]),
  "metric.f1Score": () => [{ average: "micro", threshold: 0.3, name: "a" }],
  "metric.auc": () => [{ curve: "pr", thresholds: 20, name: "a" }],
  ...named("metric.meanAbsoluteError metric.meanSquaredError", () => [{ name: "a" }]),
  ...named("nn.flatten nn.batchNorm nn.layerNorm nn.groupNorm nn.instanceNorm nn.normalization", layerOptions),
  ...named("nn.globalAvgPool1d nn.globalAvgPool2d nn.globalMaxPool1d nn.globalMaxPool2d", layerOptions),
  ...named("nn.maxPool2d nn.avgPool2d", windows),
  ...named("nn.maxPool1d nn.avgPool1d", () => [{ poolSize: 2, strides: 1, padding: "same" }]),
  ...named("nn.zeroPadding1d nn.zeroPadding2d", () => [{ padding: [1, 2] }]),
  ...named("nn.cropping1d nn.cropping2d", () => [{ cropping: [1, 2] }]),
  ...named("nn.spatialDropout1d nn.spatialDropout2d nn.gaussianDropout", () => [{ rate: 0.5, name: "a" }]),
  ...named("nn.glorotUniform nn.glorotNormal nn.heUniform nn.heNormal nn.lecunUniform nn.lecunNormal", none),
  ...named("nn.zeros nn.ones nn.terminateOnNaN isRecording", none),
  ...named("data.loadMnist data.loadCifar10", data),
  ...named("nn.csvLogger nn.jsonlLogger", (t) => [t.file("log"), { append: true }]),
  clip: (t) => [t.f32(), -1, 1],
  cast: (t) => [t.f32(), pick(t.random, ["f32", "i32", "u32"])],
  where: (t) => [t.f32(), t.f32(), t.f32([3])],
  ...named("gradcheck gradgradcheck", () => [scalar, [[0.1, -0.4]], { eps: 1e-6, raise: true }]),
  ...named("vjp jacobian hessian hvp recompute", forGrad),
  customGradient: () => [
    (x: K.Tensor) => ({ value: x.exp(), gradient: (dy: K.Tensor, y: K.Tensor) => dy.mul(y), saved: [x.exp()] }),
    { name: "own", derivable: false },
  ],
  customKernel: () => [
    {
      ...{ name: "own", inputs: ["x"], numbers: ["slope"], sizes: () => ({ n: 2 }), declarations: "const two = 2.0;" },
      ...{
        output: (x: K.Spec) => x,
        wgsl: "y[i] = two * u.slope * x[i];",
        cpu: () => 0,
        gradient: (dy: K.Tensor) => dy,
      },
    },
  ],
  batchNorm: (t) => {
    const [gamma, beta, runningMean, runningVariance] = [t.f32([3]), t.f32([3]), t.f32([3]), K.ones(t.device, [3])];
    return [t.f32(), { gamma, beta, runningMean, runningVariance, training: true, momentum: 0.9, epsilon: 1e-3 }];
  },
  conv2d: (t) => [
    t.f32([1, 4, 4, 2]),
    t.f32([3, 3, 2, 2]),
    { strides: [1, 2], padding: "same", dilations: 1, bias: t.f32([2]), activation: "relu" },
  ],
  conv1d: (t) => [
    t.f32([1, 5, 2]),
    t.f32([3, 2, 4]),
    { strides: 1, padding: "causal", dilations: 2, groups: 1, bias: t.f32([4]), activation: "tanh" },
  ],
  ...named("maxPool1d avgPool1d", (t) => [t.f32([1, 5, 2]), { poolSize: 2, strides: 1, padding: [0, 1] }]),
  depthwiseConv2d: (t) => [
    t.f32([1, 4, 4, 2]),
    t.f32([3, 3, 2, 2]),
    { strides: [1, 2], padding: "same", dilations: 1, bias: t.f32([4]), activation: "relu" },
  ],
  resize: (t) => [t.f32([1, 4, 4, 2]), { size: [3, 5], interpolation: "nearest" }],
  tile: (t) => [t.f32(), [2, 1, 3]],
  split: (t) => [t.f32(), pick<unknown>(t.random, [3, [1, 2]]), 1],
  unstack: (t) => [t.f32(), { axis: 1 }],
  ...named("prod any all", reduction),
  ...named("isNan isFinite", unary),
  ...named("variance std", (t) => [t.f32(), { axes: [0, 1], keepDims: true, correction: 1 }]),
  norm: (t) => [t.f32(), { axis: 1, order: pick(t.random, [2, 1, Number.POSITIVE_INFINITY, 3]), keepDims: true }],
  normalize: (t) => [t.f32(), { axis: 1, order: 2, epsilon: 1e-12 }],
  clipByNorm: (t) => [t.f32(), 1, { axis: 1 }],
  cumsum: (t) => [t.f32(), { axis: 1, exclusive: true, reverse: true }],
  ...named("sort argsort", (t) => [t.f32(), { axis: 0, descending: true }]),
  topK: (t) => [t.f32(), 2, { axis: 1, largest: false }],
  einsum: (t) => ["ij,kj->ik", t.f32(), t.f32()],
  convTranspose2d: (t) => [
    t.f32([1, 3, 3, 2]),
    t.f32([3, 3, 4, 2]),
    {
      strides: 2,
      padding: "same",
      outputPadding: [1, 0],
      dilations: 1,
      bias: t.f32([4]),
      activation: "relu",
    },
  ],
  full: (t) => [t.device, [2, 3], 7, "i32"],
  arange: (t) => [t.device, 5, { start: 1, step: 2, dtype: "i32" }],
  eye: (t) => [t.device, 3, "f32"],
  dropout: (t) => [t.f32(), { rate: 0.5, key: randomKey(1), offset: 0 }],
  gather: (t) => [t.f32(), t.ids(), 0],
  oneHot: (t) => [t.ids(), 3],
  matmul: (t) => [t.f32(), t.f32([3, 2]), { transposeA: false, bias: t.f32([2]), activation: "tanh" }],
  l2Penalty: (t) => [[{ tensor: t.f32(), factor: 0.1 }]],
  maxPool2d: (t) => [t.f32([1, 4, 4, 2]), { poolSize: 2, strides: 1, padding: "same", activation: "relu" }],
  avgPool2d: (t) => [
    t.f32([1, 4, 4, 2]),
    {
      poolSize: [2, 1],
      strides: 1,
      padding: [
        [0, 1],
        [0, 0],
      ],
    },
  ],
  randomBernoulli: (t) => [t.device, [2, 3], randomKey(1), { probability: 0.5, offset: 4 }],
  randomNormal: (t) => [t.device, [2, 3], randomKey(1), { mean: 0, standardDeviation: 2, offset: 4 }],
  randomUniform: (t) => [t.device, [2, 3], randomKey(1), { low: -1, high: 2, offset: 4 }],
  randomCounters: () => [5],
  randomKey: () => [1, "stream"],
  softmaxCrossEntropy: (t) => [t.f32(), pick(t.random, [t.ids(), t.f32()]), { reduction: "mean" }],
  concat: (t) => [[t.f32(), t.f32()], 1],
  stack: (t) => [[t.f32(), t.f32()], { axis: 1 }],
  expandDims: (t) => [t.f32(), 1],
  flip: (t) => [t.f32(), [0, 1]],
  pad: (t) => [
    t.f32(),
    [
      [1, 0],
      [0, 2],
    ],
    1,
  ],
  reshape: (t) => [t.f32(), [3, -1]],
  slice: (t) => [t.f32(), [0, 1], [-1, 2]],
  squeeze: (t) => [t.f32([2, 1, 3]), 1],
  transpose: (t) => [t.f32(), [1, 0]],
  backward: (t) => [scalar(t.parameter()), { retainTape: true }],
  tensor: (t) => [
    t.device,
    [
      [1, 2],
      [3, 4],
    ],
    { shape: [4], dtype: "i32" },
  ],
  openDevice: () => ["cpu", { profile: "software", precision: "float32" }],
  StepPlan: (t) => [t.device, (x: Tensor) => [usersOwn(x).mul(2)], { eager: false, variant: () => "" }],
  RandomStream: () => [1, "stream"],
  Tensor: (t) => [t.f32().storage, [2, 3], "f32"],
  "Tensor.unscoped": (t) => [t.f32().storage, [2, 3], "f32"],
  "data.gatherRows": () => [rows4(), 3, [0, 2], new Float32Array(6)],
  "data.shuffledIndices": () => [10, 1, 0],
  "data.limitImages": () => [images(), 2],
  "data.sliceImages": () => [images(), 1, 3],
  "data.splitImages": () => [images(), 0.5],
  "data.decodeMnist": () => {
    const [images, labels] = [idx([1, 28, 28]), idx([1])];
    return [{ trainImages: images, trainLabels: labels, testImages: images, testLabels: labels }];
  },
  "data.fromFolder": (t) => [
    t.file("pictures"),
    { size: [4, 4], channels: 1, batchSize: 2, shuffle: true, seed: 1, onError: "skip", prefetch: 1, threads: 1 },
  ],
  "data.fromIdx": (t) => [t.file("images"), t.file("labels"), { batchSize: 2, shuffle: true, seed: 1 }],
  "data.fromCifar10": (t) => [[t.file("batch.bin")], { batchSize: 2, shuffle: true, seed: 1 }],
  "data.decodeCifar10": () => [new Uint8Array(1024)],
  "data.decodeFer2013": () => [new TextEncoder().encode("emotion,pixels,Usage\n0,1 2,Training\n")],
  "data.digits": () => [{ seed: 1, trainCount: 2, testCount: 1 }],
  "data.loadDataset": () => ["digits", { seed: 1, trainCount: 2, testCount: 1 }],
  "data.loadMnistOrDigits": () => [{ dataDir: "nowhere", seed: 1, trainCount: 2 }],
  "data.loadFer2013": () => [{ dataDir: "nowhere" }],
  "io.lineChart": () => [
    {
      title: "t",
      width: 300,
      height: 200,
      series: [{ name: "a", y: [1, 2], x: [0, 1], errors: [0.1, 0.2], dashed: true, colour: 1 }],
      x: { label: "x", scale: "linear", min: 0, max: 3 },
      y: { percent: true },
      referenceLines: [{ value: 1, label: "r", axis: "y" }],
    },
  ],
  "io.barChart": () => [
    {
      categories: ["a", "b"],
      series: [{ name: "s", values: [1, 2], errors: [0, 1] }],
      showValues: true,
      values: { min: 0 },
    },
  ],
  "io.parallelChart": () => [
    {
      ...{
        title: "t",
        width: 300,
        height: 200,
        axes: [
          { label: "a", ticks: [{ at: 0, text: "0" }] },
          { label: "b", ticks: [] },
        ],
      },
      groups: [
        {
          name: "g",
          look: "strong",
          lines: [
            [0, 1],
            [0.5, Number.NaN],
          ],
        },
      ],
    },
  ],
  "io.confusionMatrix": () => [
    {
      labels: ["a", "b"],
      counts: [
        [1, 2],
        [3, 4],
      ],
      title: "t",
    },
  ],
  "io.prepareOutputFolder": (t) => [t.file("out")],
  "io.toJson": () => [{ a: [1, Number.NaN], b: { c: "d" } }],
  "io.writeFileAtomic": (t) => [t.file("text"), "text"],
  "io.writeJson": (t) => [t.file("json"), { a: 1 }],
  "io.encodeGrayPng": () => [[0, 0.5, 1, 0], { width: 2, height: 2, scale: 2 }],
  "io.encodeRgbPng": () => [new Float32Array(12), { width: 2, height: 2, scale: 2 }],
  "io.pictureGrid": () => [[[cell(), null], [cell()]], { scale: 2, rowLabels: ["r"], columnLabels: ["c"] }],
  "io.Report": () => [{ title: "t", subtitle: "s", footer: "f", reloadOn: "/events" }],
  "io.Section": () => [[]],
  "io.decodeNpy": () => [K.io.encodeNpy(Float32Array.of(1, 2))],
  "io.encodeNpy": () => [Float32Array.of(1, 2, 3, 4), { shape: [2, 2] }],
  "io.readNpy": () => [K.io.encodeNpy(Float32Array.of(1, 2))],
  "io.writeNpy": (t) => [t.file("x.npy"), Float32Array.of(1, 2), { shape: [2] }],
  "io.decodeNpz": () => [K.io.encodeNpz({ a: Float32Array.of(1, 2) })],
  "io.encodeNpz": () => [{ a: Float32Array.of(1, 2), b: { data: Int32Array.of(1, 2), shape: [2, 1] } }],
  "io.readNpz": () => [K.io.encodeNpz({ a: Float32Array.of(1, 2) })],
  "io.writeNpz": (t) => [t.file("x.npz"), { a: Float32Array.of(1, 2) }],
  "io.decodeSafetensors": () => [K.io.encodeSafetensors(stored() as never), "name"],
  "io.encodeSafetensors": () => [stored(), { key: "value" }],
  "io.readSafetensors": (t) => [t.file("a.safetensors")],
  "io.writeSafetensors": (t) => [t.file("b.safetensors"), stored(), { key: "value" }],
  "nn.Architecture": (t) => [{ inputShape: [3], name: "a" }, t.layers()],
  "nn.architecture": (t) => [{ inputShape: [3], name: "a" }, t.layers()],
  "nn.architectureFromConfig": (t) => [K.nn.architecture({ inputShape: [3] }, t.layers()).config()],
  "nn.fromConfig": (t) => [K.nn.architecture({ inputShape: [3] }, t.layers()).config(), { device: t.device, seed: 1 }],
  "nn.input": () => [{ shape: [3], name: "x" }],
  "nn.model": (t) => {
    const x = K.nn.input({ shape: [3] });
    return [{ inputs: x, outputs: [K.nn.dense({ units: 2 })(x)], name: "a", device: t.device, seed: 1 }];
  },
  ...named("nn.add nn.subtract nn.multiply nn.average nn.maximum nn.minimum", () => [{ name: "a" }]),
  "nn.dot": () => [{ axes: [1, -1], normalize: true }],
  "nn.multiHeadAttention": () => [{ numHeads: 2, keyDim: 3, valueDim: 2, dropout: 0.1, outputDim: 4 }],
  "nn.embedding": () => [{ inputDim: 5, outputDim: 2, embeddingsInitializer: "uniform" }],
  "nn.gaussianNoise": () => [{ stddev: 0.5 }],
  "nn.rescaling": () => [{ scale: 0.5, offset: 1 }],
  "nn.permute": () => [[2, 1], { name: "a" }],
  "nn.repeatVector": () => [3, { name: "a" }],
  "nn.relu": () => [{ maxValue: 6, negativeSlope: 0.1, threshold: 0 }],
  "nn.leakyRelu": () => [{ negativeSlope: 0.1 }],
  "nn.elu": () => [{ alpha: 0.5 }],
  "nn.prelu": () => [{ alphaInitializer: "zeros", sharedAxes: [1] }],
  "nn.softmax": () => [{ axis: -1 }],
  "nn.adapt": (t) => [normalized(t), samples(), { batchSize: 2 }],
  "nn.defineLayer": () => [
    {
      className: "Fuzzed",
      options: { start: { expected: "a number", accepts: Number.isFinite } },
      required: [],
      make: () => ({ config: { start: 1 }, call: usersOwn }),
      keras: {},
    },
  ],
  "nn.concatenate": () => [{ axis: 1, name: "a" }],
  "nn.sequential": (t) => [{ inputShape: [3], name: "a", device: t.device, seed: 1 }, t.layers()],
  "nn.compose": (t) => [[t.model()], { name: "a" }],
  "nn.Sequential": (t) => [{ name: "a", inputShape: [3], device: t.device, seed: 1 }, t.model().layers],
  "nn.BoundLayer": (t) => [t.model().layers[0]!.placed, t.model().layers[0]!.weights],
  "nn.LossScaler": (t) => [t.device, { initialScale: 2, growth: 2, backoff: 0.5, interval: 10 }],
  "nn.earlyStopping": () => [{ monitor: "loss", mode: "min", patience: 1, minDelta: 0, restoreBestWeights: true }],
  "nn.modelCheckpoint": (t) => [{ path: t.file("{epoch}.safetensors"), monitor: "loss", saveBestOnly: true }],
  "nn.tensorBoard": (t) => [{ path: t.file("events"), everySteps: 1, histogramEpochs: 1, images: () => ({}) }],
  "nn.progressBar": () => [{ stream: { write: () => true }, everySeconds: 1 }],
  "nn.reduceLrOnPlateau": () => [{ monitor: "loss", factor: 0.5, patience: 1, cooldown: 1, minLearningRate: 0 }],
  "nn.confusionMatrix": (t) => [t.model(), samples(), { batchSize: 2, threshold: 0.5 }],
  "nn.loadModel": (t) => [t.file("model.safetensors"), { device: t.device }],
  "nn.readModelFile": (t) => [t.file("model.safetensors")],
  "nn.loadWeights": (t) => [t.model(), t.file("model.safetensors")],
  "nn.encodeModelFiles": (t) => [t.model(), { format: pick(t.random, ["tfjs", "safetensors"]) }],
  "nn.encodeModel": (t) => [t.model(), { notes: { a: 1 } }],
  "nn.encodeKerasModel": (t) => [t.model(), { notes: { a: 1 } }],
  "nn.saveModel": (t) => [t.file("saved.safetensors"), t.model(), { notes: { a: 1 } }],
  "nn.saveKerasModel": (t) => [t.file("saved.h5"), t.model(), { notes: { a: 1 } }],
  "nn.constant": () => [1],
  "nn.normal": () => [{ mean: 0, standardDeviation: 1 }],
  "nn.uniform": () => [{ minimum: -1, maximum: 1 }],
  "nn.conv2d": () => [
    { filters: 2, kernelSize: 3, strides: 1, padding: "same", dilations: [1, 1], kernelInitializer: "heNormal" },
  ],
  "nn.conv1d": () => [{ filters: 2, kernelSize: 3, strides: 1, padding: "causal", dilations: 1, groups: 1 }],
  "nn.depthwiseConv2d": () => [
    { kernelSize: 3, depthMultiplier: 2, padding: "same", depthwiseInitializer: "heNormal" },
  ],
  "nn.separableConv2d": () => [{ filters: 2, kernelSize: [2, 1], strides: [1, 2], pointwiseL2: 0.1 }],
  "nn.conv2dTranspose": () => [
    { filters: 2, kernelSize: 3, strides: [2, 1], padding: "same", outputPadding: [1, 0], dilations: 1 },
  ],
  "nn.upSampling1d": () => [{ size: 2 }],
  "nn.upSampling2d": () => [{ size: [2, 3], interpolation: "bilinear" }],
  "nn.resizing": () => [{ height: 3, width: 4, interpolation: "nearest" }],
  "nn.dense": () => [
    { units: 2, activation: "relu", useBias: true, kernelInitializer: K.nn.uniform(), kernelL2: 0.1, name: "a" },
  ],
  "nn.activation": () => ["relu", { name: "a" }],
  "nn.dropout": () => [{ rate: 0.5, name: "a" }],
  "nn.reshape": () => [[1, 3], { name: "a" }],
  "optim.adam": () => [{ learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, emaMomentum: 0.9 }],
  "optim.adamW": () => [{ learningRate: K.optim.constantRate(0.1), weightDecay: 0.1 }],
  "optim.sgd": () => [{ learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1, clipNorm: 1 }],
  "optim.rmsprop": () => [{ rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true, clipValue: 1 }],
  "optim.adagrad": () => [{ initialAccumulator: 0.1, epsilon: 1e-7, globalClipNorm: 1 }],
  "optim.adadelta": () => [{ rho: 0.9, epsilon: 1e-7, weightDecay: 0.1 }],
  "optim.lion": () => [{ beta1: 0.9, beta2: 0.99, gradientAccumulationSteps: 2 }],
  ...named("optim.adamax optim.nadam", () => [{ beta1: 0.9, beta2: 0.99, epsilon: 1e-7, weightDecay: 0.1 }]),
  "optim.constantRate": () => [0.1],
  "optim.cosineDecay": () => [{ learningRate: 0.1, decaySteps: 10, finalShare: 0.1, warmupSteps: 2 }],
  "optim.exponentialDecay": () => [{ learningRate: 0.1, decaySteps: 10, decayRate: 0.5 }],
  "optim.stepDecay": () => [{ learningRate: 0.1, everySteps: 10, factor: 0.5 }],

  ...named("applications.lenet5", () => [{ ...application(), inputShape: [28, 28, 1] }]),
  ...named("applications.resNet8 applications.resNet18 applications.resNet20", () => [{ ...application(), width: 4 }]),
  "applications.resNet50": () => [{ ...application(), width: 4, variant: "torchvision" }],
  "applications.mobileNet": () => [{ ...application(), alpha: 0.25, dropout: 0.1 }],
  ...named("applications.mobileNetV2 applications.vgg16", () => [{ ...application(), alpha: 0.25 }]),
  "applications.miniXception": () => [{ ...application(), inputShape: [64, 64, 1], width: 4 }],
  "applications.denseNet121": () => [{ ...application(), growth: 4 }],
  "applications.efficientNetB0": () => [{ ...application(), alpha: 0.1, dropout: 0.1, dropConnect: 0.1 }],
  "applications.visionTransformer": () => [
    {
      ...{ inputShape: [8, 8, 3], classes: 2, includeTop: true, classifierActivation: "linear", name: "a" },
      ...{ patchSize: 4, layers: 1, heads: 2, width: 8, mlpWidth: 6, dropout: 0.1 },
    },
  ],
  ...named("applications.classToken applications.positionEmbedding", layerOptions),
  "sweeps.choice": () => [["a", "b", null], { when: { x: 1 } }],
  ...named("sweeps.uniform sweeps.logUniform", () => [0.1, 1, { when: { x: [1, 2] } }]),
  "sweeps.int": () => [1, 8, { log: true, when: { x: 1 } }],
  "sweeps.grid": () => [{ points: { x: 2 } }],
  ...named("sweeps.random sweeps.sobol", () => []),
  "sweeps.tpe": () => [{ startup: 1, candidates: 2 }],
  "sweeps.median": () => [{ startup: 1, minSteps: 1 }],
  "sweeps.asha": () => [{ minSteps: 1, factor: 2 }],
  "sweeps.writeSweepReport": (t) => [t.file("no sweep")],
  "sweeps.sweep": (t) => [
    {
      space: { kind: Sweeps.choice(["a", "b"]), x: Sweeps.uniform(0, 1, { when: { kind: "a" } }) },
      trial: async (_: unknown, { report }: Sweeps.TrialContext) => {
        await report(1, { loss: 1 });
        return { loss: t.random.uniform() };
      },
      ...{
        search: Sweeps.tpe({ startup: 1 }),
        stopping: Sweeps.asha(),
        goal: { figure: "loss", direction: "minimize" },
      },
      ...{
        folder: t.file(`sweep ${t.random.bits()}`),
        trials: new Fixed(3),
        workers: 2,
        delay: 2,
        seed: 1,
        attempts: 1,
      },
    },
  ],
  "inputs.adversary": () => [{ attack: attacks.pgd({ norm: "l2", epsilon: 1, steps: 2 }), cleanShare: 0.5 }],
  "inputs.attackImages": (t) => [
    t.classifier(),
    { inputs: pictures(), targets: Int32Array.of(0, 1) },
    pick(t.random, [attacks.fgsm({ norm: "linf", epsilon: 0.1 }), attacks.deepFool({ norm: "l2", steps: 2 })]),
    { seed: 1, batchSize: 1 },
  ],
  "inputs.lbfgs": (t) => [
    (x: Tensor) => scalar(usersOwn(x)),
    pick<unknown>(t.random, [t.f32(), [t.f32()]]),
    { steps: 3, evaluations: 5, learningRate: 1, gradientTolerance: 1e-7, changeTolerance: 1e-9, historySize: 2 },
  ],
  "inputs.distancesBetween": () => [pictures(), pictures(), 2],
  "inputs.attacks.fgsm": inBall,
  "inputs.attacks.pgd": searching({ steps: 2, relativeStep: 0.1, randomStart: true }),
  "inputs.attacks.apgd": searching({ steps: 2, loss: "ce", targetClasses: 1 }),
  "inputs.attacks.autoAttack": searching({ steps: 2, queries: 2 }),
  "inputs.attacks.carliniWagner": () => [{ steps: 2, binarySearchSteps: 2, stepSize: 0.1, confidence: 0, epsilon: 1 }],
  "inputs.attacks.deepFool": searching({ steps: 2, candidates: 2, overshoot: 0.1 }),
  "inputs.attacks.fab": searching({ steps: 2, targetClasses: 1 }),
  "inputs.attacks.square": searching({ queries: 2, rescaleSchedule: true }),
  ...named("inputs.attributions.saliency", explainedBy({ absolute: false })),
  ...named("inputs.attributions.inputTimesGradient inputs.attributions.guidedBackprop", explained),
  "inputs.attributions.integratedGradients": explainedBy({ baseline: 0.1, steps: new Fixed(2) }),
  "inputs.attributions.smoothGrad": explainedBy({ samples: new Fixed(2), standardDeviation: 0.1, kind: "vargrad" }),
  "inputs.attributions.gradCam": explainedBy({ layer: "maps", relu: true }),
  "inputs.attributions.occlusion": explainedBy({ slidingWindowShape: [2, 2, 1], strides: [2, 1, 1], baseline: 0 }),
  "inputs.attributions.deletionCurve": explainedBy({ attribution: pictures(), steps: new Fixed(2), baseline: 0 }),
  "inputs.attributions.interpolate": () => [
    { values: pictures(), shape: [2, 4, 4, 1] },
    { size: [new Fixed(3), new Fixed(5)], mode: "bilinear" },
  ],
  "inputs.trainGenerators": (t) => [
    t.classifier(),
    {
      ...{ samples: pictures(), targets: Int32Array.of(1, 0), seed: 1, learningRate: 0.1, confidence: 0.9 },
      ...{ startSteps: new Fixed(1), rounds: new Fixed(1), fitSteps: new Fixed(1), foolSteps: new Fixed(1) },
    },
  ],
  "inputs.noiseImages": () => [{ count: new Fixed(2), shape: [2, 2], seed: 1 }],
  "inputs.settlingRate": () => [0.1, 10],
  "inputs.filmStrip": () => [{ snapshots: [{ step: 0, images: pictures() }], shape: [2, 4, 4, 1] }, { image: 1 }],
  "inputs.logarithmicSteps": () => [100, 5],
  "inputs.optimizeInputs": (t) => [
    t.classifier(),
    pick<object>(t.random, [
      optimized(),
      { ...optimized(), parametrization: parametrizations.fourier(), snapshotSteps: [1] },
      { ...optimized(), objective: objectives.perImage(objectives.layer("maps"), objectives.neuron("maps", 1)) },
      { ...optimized(), count: undefined, starts: pictures(), optimizer: K.optim.sgd({ learningRate: 0.1 }) },
    ]),
  ],
  "inputs.objectives.targetProbabilities": () => [[0.5, 0.5]],
  "inputs.objectives.logOdds": ({ random }) => [[0.5, 0.5], pick(random, [{}, { rivals: 0.5, balance: 2 }])],
  "inputs.objectives.outputs": () => [[0.5, 0.5]],
  "inputs.objectives.logit": () => [pick<unknown>(pickless, [1, [0, 1]])],
  "inputs.objectives.channel": () => ["maps", 1],
  "inputs.objectives.neuron": () => ["maps", [1, 1, 0]],
  ...named("inputs.objectives.layer inputs.objectives.deepDream", () => ["maps"]),
  "inputs.objectives.direction": () => ["maps", [1, 2], { cosinePower: 1 }],
  "inputs.objectives.content": () => ["maps", new Float32Array(16)],
  "inputs.objectives.style": () => [["maps"], new Float32Array(16)],
  ...named("inputs.objectives.sumOf inputs.objectives.perImage", () => [objectives.logit(1), objectives.layer("maps")]),
  "inputs.objectives.scaled": () => [objectives.logit(1), -2],
  "inputs.parametrizations.pixels": () => [{ limits: [0, 1] }],
  "inputs.parametrizations.blurred": () => [parametrizations.pixels(), { sigma: 1 }],
  "inputs.parametrizations.fourier": () => [{ decayPower: 1, decorrelate: true, limits: [0, 1] }],
  "inputs.parametrizations.pyramid": () => [{ levels: 2, decorrelate: false, limits: [0, 1] }],
  ...named("inputs.regularizers.l1 inputs.regularizers.l2 inputs.regularizers.totalVariation", () => [0.1]),
  "inputs.regularizers.blur": () => [0.1, { sigma: 1 }],
  "inputs.regularizers.scheduled": () => [regularizers.l2(1), K.optim.constantRate(0.1)],
  "inputs.transforms.jitter": () => [1],
  "inputs.transforms.pad": () => [1, { value: 0.5 }],
  "inputs.transforms.crop": none,
  "inputs.transforms.rotate": () => [10],
  "inputs.transforms.scale": () => [{ from: 0.9, to: 1.1 }],
  "inputs.Activations": (t) => [t.classifier(), t.f32([2, 4, 4, 1])],
  ...named("Activations#logits Activations#outputs", none),
  "Activations#layer": () => ["maps"],
  "Activations#rows": () => [0, 1],
  "io.encodeGif": () => [[cell(), cell()], { seconds: 0.1, lastSeconds: 1, scale: new Fixed(2) }],

  ...named("Tensor#data Tensor#item Tensor#dispose Tensor#Symbol.dispose", none),
  "Tensor#checkPin": none,
  "Tensor#onDispose": () => [() => {}],
  "Tensor#assign": () => [[1, 2, 3, 4, 5, 6]],
  "Tensor#alias": () => [[3, 2]],
  ...named("Sequential#penalty Sequential#weights Sequential#namedTensors Sequential#parameters", none),
  ...named("Sequential#summary Sequential#countParameters Sequential#config", none),
  ...named("Sequential#dispose Sequential#Symbol.dispose", none),
  ...named("Sequential#call Sequential#callAll Sequential#logits Sequential#layerOutputs", (t) => [
    t.f32(),
    { training: true, step: 1 },
  ]),
  "Sequential#layer": () => ["dense"],
  ...named("Sequential#apply Sequential#applyAll", () => [K.nn.input({ shape: [3] }), { name: "a", until: "dense" }]),
  "Sequential#fit": () => [samples(), training()],
  "Sequential#evaluate": () => [samples(), evaluation()],
  ...named("Sequential#predict Sequential#predictAll", () => [
    pick<unknown>(pickless, [rows4(), samples()]),
    { batchSize: 2 },
  ]),
  "Sequential#trainStep": (t) => [t.f32(), t.ids(), { optimizer: K.optim.sgd(), loss: K.loss.crossEntropy }],
  ...named("Architecture#countParameters Architecture#multiplyAdds Architecture#summary Architecture#config", none),
  "Architecture#hasTinyDispatches": () => [32],
  "Architecture#build": (t) => [
    { device: t.device, seed: 1, weights: (_: string, spec: { shape: number[] }) => t.f32(spec.shape) },
  ],
  "StepPlan#run": () => [{ values: Float32Array.of(1, 2), shape: [2] }],
  "StepPlan#dispose": none,
  ...named("RandomStream#bits RandomStream#uniform RandomStream#normal", none),
  "RandomStream#integer": () => [10],
  "LossScaler#state": () => [K.optim.sgd({ gradientAccumulationSteps: 2 })],
  ...named("LossScaler#report LossScaler#dispose", none),
  "LossScaler#step": (t) => [K.optim.sgd(), [t.parameter()], [t.f32()]],
  "Optimizer#step": (t) => [[t.parameter()], [t.f32()]],
  "Optimizer#swapAverages": (t) => [[t.parameter()]],
  "Optimizer#averagesInUse": (t) => [[t.parameter()]],
  "Optimizer#slotTensors": (t) => [t.parameter()],
  "Optimizer#resumeAt": () => [3, 0.1],
  ...named("Optimizer#config Optimizer#dispose", none),
  "Schedule#at": () => [3],
  "Report#figures": () => [[{ label: "l", value: 1, note: "n", tone: "good" }]],
  "Report#section": () => ["title", (section: K.io.Section) => section.text("text")],
  "Report#html": none,
  ...named("Section#text Section#heading Section#note Section#code", () => ["text"]),
  "Section#list": () => [["a", "b"]],
  "Section#table": () => [
    {
      columns: ["a", { label: "b", reference: true }],
      rows: [
        [1, null],
        ["x", { text: 2, tone: "bad" }],
      ],
    },
  ],
  "Section#chart": () => ["<svg></svg>", "caption"],
  "Section#picture": () => [K.io.encodeGrayPng([0], { width: 1, height: 1 }), { alt: "a", caption: "c", zoom: 2 }],
  "Section#grid": () => [[[cell(), null], [cell()]], { alt: "a", caption: "c", rowLabels: ["r"], columnLabels: ["c"] }],
  "Section#properties": () => [{ a: 1, b: { c: [1, 2] } }],
  "Section#row": () => [(row: K.io.Section) => row.text("a")],
  "Section#details": () => ["title", (section: K.io.Section) => section.text("a")],
  ...named("Device#memory Device#flush Device#sync Device#resetCounters", none),
};

/** What is not called, and why. */
const left: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["classToken", "positionEmbedding"].map((name) => [
      `applications.${name}.onnx`,
      "is called by the writer of ONNX, for a layer of a model",
    ]),
  ),
  ...Object.fromEntries(
    ["DataError", "DeviceError", "DisposedError", "KilogradError", "ShapeError", "UsageError"].map((name) => [
      name,
      "errors are made by the library; Error itself takes what it is given",
    ]),
  ),
  ...Object.fromEntries(
    [
      ...["walk", "rows", "lend", "requireOneOutput", "layerOf", "shapeOf", "fused", "checkedInputs"].map(
        (name) => `Sequential#${name}`,
      ),
      ...["outputsOf", "after", "again", "modeOf", "compute", "stepsFor"].map((name) => `Sequential#${name}`),
      ...["Architecture#rows", "Architecture#bind", "Architecture#multiplyAddsOf", "StepPlan#recordingOf"],
    ].map((name) => [name, "private"]),
  ),
  ...Object.fromEntries(
    ["StepPlan#drop", "StepPlan#outputsOf", "Section#append", "Optimizer#change", "Optimizer#meet"].map((name) => [
      name,
      "private",
    ]),
  ),
  "Optimizer#slotsOf": "private",
  "StepPlan#fn": "private: the user's function",
};

/** Objects whose methods are called, by the class that the names of `rights` have. */
const instances: Readonly<Record<string, (t: Trial) => object>> = {
  Tensor: (t) => t.f32(),
  Sequential: (t) => t.model(),
  Architecture: (t) => K.nn.architecture({ inputShape: [3] }, t.layers()),
  StepPlan: (t) => new K.StepPlan(t.device, (x) => [usersOwn(x).mul(2)]),
  RandomStream: () => new K.RandomStream(1),
  LossScaler: (t) => new K.nn.LossScaler(t.device),
  Optimizer: () => K.optim.adam({ emaMomentum: 0.5, clipNorm: 1, gradientAccumulationSteps: 2 }),
  Schedule: () => K.optim.cosineDecay({ learningRate: 0.1, decaySteps: 10 }),
  Report: () => new K.io.Report({ title: "t" }),
  Section: () => new K.io.Section([]),
  Activations: (t) => t.seen(),
};

type Call = (t: Trial, args: readonly unknown[]) => unknown;

const isClass = (value: unknown) => /^class\b/.test(Function.prototype.toString.call(value));

/** Every exported function and class of a namespace and of those inside it, and functions that belong to them. */
function exported(namespace: object, prefix: string): [string, Call][] {
  return Object.entries(namespace).flatMap(([name, value]): [string, Call][] => {
    const full = prefix + name;
    if (typeof value === "object" && Object.prototype.toString.call(value) === "[object Module]") {
      return exported(value, `${full}.`);
    }
    if (typeof value !== "function") return [];
    const made: Call = isClass(value) ? (_, args) => Reflect.construct(value, args) : (_, args) => value(...args);
    const own = Object.getOwnPropertyNames(value).filter((part) => typeof value[part] === "function");
    const parts = own.filter((part) => part !== "prototype");
    return [
      [full, made],
      ...parts.map((part): [string, Call] => [`${full}.${part}`, (_, args) => value[part](...args)]),
    ];
  });
}

/** Every method of an object, those of its class and of the classes above included. */
function methods(owner: string, make: (t: Trial) => object, example: object): [string, Call][] {
  const found = new Map<string, Call>();
  for (let level = example; level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    for (const key of Reflect.ownKeys(level)) {
      const { value } = Object.getOwnPropertyDescriptor(level, key)!;
      if (typeof value !== "function" || key === "constructor") continue;
      const name = key === Symbol.dispose ? "Symbol.dispose" : String(key);
      found.set(`${owner}#${name}`, (t, args) =>
        (make(t) as Record<PropertyKey, (...a: unknown[]) => unknown>)[key]!(...args),
      );
    }
  }
  return [...found];
}

/** Right arguments of what is called, those of a method of tensors by the function of its name. */
function rightArguments(name: string): Right | undefined {
  const given = rights[name];
  if (given !== undefined || !name.startsWith("Tensor#")) return given;
  const fn = Object.hasOwn(rights, name.slice("Tensor#".length)) ? rights[name.slice("Tensor#".length)] : undefined;
  return fn && ((t) => fn(t).slice(1));
}

/** Whatever JavaScript may hand over. */
function wild(t: Trial): unknown {
  const { random } = t;
  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  const own: Record<string, unknown> = {};
  own["own"] = own;
  const disposed = t.f32();
  disposed.dispose();
  const makers: readonly (() => unknown)[] = [
    () => undefined,
    () => null,
    () => pick(random, [true, false]),
    () => pick(random, [0, 1, 2, 3, -1, -0, 0.5, 300, -7]),
    () => pick(random, [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-320, 1e308]),
    () => pick(random, [1e10, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e19]),
    () => pick(random, ["", "x", "f32", "f64", "relu", "same", "0", "a/b", "__proto__", "\0", "é".repeat(300)]),
    () => pick(random, [10n, Symbol("s"), /x/, new Date(0), new Date(Number.NaN)]),
    () => pick(random, [[], {}, [1, 2], [[1], [2]], [[1, 2], [3]], ["a"], [null], [[]], [1, [2]], new Array(5)]),
    () => pick(random, [[2, 3], [0], [-1], [1.5], [1e5, 1e5], [1e9, 1e9], new Array(40).fill(1), [Number.NaN]]),
    () => pick(random, [cyclic, own, Object.create(null), { length: 3 }, { length: -1 }, { length: 2 ** 40 }]),
    () =>
      pick(random, [new Map(), new Set([1]), new Map([["a", 1]]), new WeakMap(), new Error("e"), new Boolean(true)]),
    () =>
      pick(random, [
        new Float32Array(6),
        new Float64Array(2),
        new Int32Array(3),
        new Uint32Array(0),
        new Uint8Array(9),
      ]),
    () =>
      pick(random, [BigInt64Array.of(1n), new DataView(new ArrayBuffer(8)), new ArrayBuffer(8), new Float32Array(600)]),
    () => pick(random, [() => undefined, () => 1, async () => 1, class Some {}, Math.sin, (x: unknown) => x]),
    () =>
      pick(random, [
        () => {
          throw new UsersError("from a function of the user");
        },
        () => Promise.resolve(),
      ]),
    () => pick(random, [Promise.resolve(1), new Proxy({}, {}), new Proxy([], {}), globalThis, Object.prototype]),
    () => pick(random, [{ axis: 0 }, { axes: [0, 1] }, { keepDims: true }, { lr: 1 }, { shape: [2] }, { name: "n" }]),
    () => pick(random, [{ axis: 0, axes: 1 }, { seed: 1, stream: 2 }, { values: [1], shape: [1] }, { training: 1 }]),
    () => t.f32(pick(random, [[2, 3], [], [0], [3], [1, 4, 4, 2], [2, 1, 3]])),
    () => pick(random, [t.ids(), t.parameter(), disposed, K.cast(t.ids(), "u32"), t.f32([2, 3], t.other)]),
    () => pick<unknown>(random, [t.device, t.other, closed]),
    () => pick<unknown>(random, [t.model(), K.optim.adam(), K.loss.crossEntropy, K.nn.flatten(), samples(), K]),
  ];
  return pick(random, makers)();
}

const closed = await K.openDevice("cpu");
closed.destroy();

const isPlain = (value: unknown): value is Record<string, unknown> =>
  object.accepts(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value));

/** `value` with one thing in it changed, or another value. */
function spoiled(t: Trial, value: unknown, depth = 0): unknown {
  const { random } = t;
  if (value instanceof Fixed) return value;
  const inside = random.uniform() < 0.7 && depth < 4;
  if (inside && isPlain(value)) {
    const name = pick(random, [...Object.keys(value), "more", "axis", "dtype", "toString"]);
    const change = random.uniform();
    if (value[name] instanceof Fixed) return value;
    if (change < 0.1) return Object.fromEntries(Object.entries(value).filter(([key]) => key !== name));
    return { ...value, [name]: Object.hasOwn(value, name) ? spoiled(t, value[name], depth + 1) : wild(t) };
  }
  if (inside && Array.isArray(value) && value.length > 0) {
    const at = random.integer(value.length);
    const change = random.uniform();
    if (change < 0.1) return value.toSpliced(at, 1);
    if (change < 0.2) return [...value, wild(t)];
    return value.with(at, spoiled(t, value[at], depth + 1));
  }
  return wild(t);
}

function withoutFixed(value: unknown): unknown {
  if (value instanceof Fixed) return value.value;
  if (Array.isArray(value) && value.some((part) => part instanceof Fixed || typeof part === "object")) {
    return value.includes(value) ? value : value.map(withoutFixed);
  }
  if (!isPlain(value) || Object.values(value).includes(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, withoutFixed(part)]));
}

/** Arguments for a call, from right ones: as they are, or with one or more of them spoiled. */
function drawArguments(t: Trial, right: Right): readonly unknown[] {
  const { random } = t;
  let args: readonly unknown[] = right(t);
  for (let times = pick(random, [0, 1, 1, 1, 2, 3]); times > 0; times--) {
    const at = random.integer(args.length + 1);
    if (at === args.length) args = random.uniform() < 0.5 ? [...args, wild(t)] : args;
    else if (!(args[at] instanceof Fixed) && random.uniform() < 0.1) args = args.slice(0, at);
    else args = args.with(at, spoiled(t, args[at]));
  }
  return args.map(withoutFixed);
}

/** The tensors in what a call gave. */
function tensorsIn(value: unknown, depth = 0): Tensor[] {
  if (value instanceof K.Tensor) return value.disposed ? [] : [value];
  if (depth > 2 || typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.slice(0, 4).flatMap((part) => tensorsIn(part, depth + 1));
  return isPlain(value) ? Object.values(value).flatMap((part) => tensorsIn(part, depth + 1)) : [];
}

const mayEscape = (error: unknown) => error instanceof K.KilogradError || error instanceof UsersError;

/** The names that are called, and those of exports without right arguments, which a test finds. */
export const callsOf = (t: Trial): Map<string, Call> =>
  new Map([
    ...exported(K, ""),
    ...exported(Inputs, "inputs."),
    ...exported(Applications, "applications."),
    ...exported(Sweeps, "sweeps."),
    ...Object.entries(instances).flatMap(([owner, make]) => methods(owner, make, make(t))),
    ...["memory", "flush", "sync", "resetCounters"].map((name): [string, Call] => [
      `Device#${name}`,
      ({ device }, args) => (device as unknown as Record<string, Callable>)[name]!.apply(device, [...args]),
    ]),
  ]);
type Callable = (...args: unknown[]) => unknown;

/** Names that are neither called nor left out with a reason, and names that are no exports. */
export function uncovered(t: Trial): { missing: string[]; unknown: string[] } {
  const names = callsOf(t);
  const known = (name: string) => rightArguments(name) !== undefined || Object.hasOwn(left, name);
  const used = (name: string) => names.has(name) || name.startsWith("Device#");
  return {
    missing: [...names.keys()].filter((name) => !known(name)),
    unknown: [...Object.keys(rights), ...Object.keys(left)].filter((name) => !used(name)),
  };
}

/** Trials between two openings of the device, which gives back what calls that failed halfway left. */
const TRIALS_OF_A_DEVICE = 500;

/** A suite on the cpu device, and for a part of the trials on WebGPU. */
export function exportsSuite(
  shareOnWebGpu: number,
): Suite & { readonly trial: (random: RandomStream) => Promise<Trial> } {
  const before = { folder: process.cwd(), data: process.env["KILOGRAD_DATA_DIR"] };
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown) => rejections.push(reason);
  let folder = "";
  let calls: [string, Call][] | undefined;
  let cpu: Device | undefined;
  let gpu: Device | undefined;
  let trials = 0;

  /** Data sets are looked for in an empty folder, and so never on the network; files without a folder go to ours. */
  function prepare(): void {
    folder = mkdtempSync(join(tmpdir(), "kilograd-fuzz-"));
    mkdirSync(join(folder, "data"));
    process.env["KILOGRAD_DATA_DIR"] = join(folder, "data");
    process.chdir(folder);
    process.on("unhandledRejection", onRejection);
  }

  async function trial(random: RandomStream): Promise<Trial> {
    if (folder === "") prepare();
    if (trials++ % TRIALS_OF_A_DEVICE === 0) {
      gpu?.destroy();
      gpu = undefined;
    }
    cpu ??= await K.openDevice("cpu");
    if (random.uniform() >= shareOnWebGpu) return new Trial(random, cpu, gpu ?? (await K.openDevice("cpu")), folder);
    gpu ??= await K.openDevice("webgpu");
    return new Trial(random, gpu, cpu, folder);
  }

  async function run(random: RandomStream): Promise<Finding | undefined> {
    const t = await trial(random);
    if (calls === undefined) {
      calls = [...callsOf(t)].filter(([name]) => !Object.hasOwn(left, name));
      await K.nn.saveModel(join(folder, "model.safetensors"), t.model());
      await K.io.writeSafetensors(join(folder, "a.safetensors"), stored() as never);
      writeFileSync(join(folder, "damaged"), "no model");
    }
    const [name, call] = pick(random, calls);
    const args = drawArguments(t, rightArguments(name)!);
    const words = `${name}(${args.map((value) => describe(value)).join(", ")}) on ${t.device.kind}`;
    const faults: unknown[] = [];
    const guarded = async (act: () => unknown): Promise<unknown> => {
      try {
        return await act();
      } catch (error) {
        if (!mayEscape(error)) faults.push(error);
        return undefined;
      }
    };
    let result = await guarded(() => call(t, args));
    // What grad() and the like give is called, too.
    if (typeof result === "function") {
      const fn = result as Callable;
      result = await guarded(() => fn(...drawArguments(t, unary)));
    }
    for (const tensor of tensorsIn(result)) {
      await guarded(() => tensor.data());
      tensor.dispose();
    }
    await guarded(() => t.device.sync());
    await new Promise((resolve) => setImmediate(resolve));
    faults.push(...rejections.splice(0).filter((reason) => !mayEscape(reason)));
    if (faults.length === 0) return undefined;
    return `${words}: ${faults.map((fault) => (fault instanceof Error ? fault.stack : describe(fault))).join("\n")}`;
  }

  return {
    name: "exports",
    count: 10_000,
    run,
    trial,
    async end() {
      if (folder === "") return;
      cpu?.destroy();
      gpu?.destroy();
      process.off("unhandledRejection", onRejection);
      process.chdir(before.folder);
      if (before.data === undefined) delete process.env["KILOGRAD_DATA_DIR"];
      else process.env["KILOGRAD_DATA_DIR"] = before.data;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
