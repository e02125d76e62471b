// Networks that ONNX files are tried with: every class of layers where channels are first and where they are last, and
// graphs with branches, shared layers, several inputs and outputs. No tests here.

import { miniXception, resNet8, visionTransformer } from "../../../src/applications.js";
import { mul } from "../../../src/autograd/ops/elementwise.js";
import { unaryTable } from "../../../src/kernels/elementwise-table.js";
import type { GraphNode } from "../../../src/nn/graph.js";
import * as nn from "../../../src/nn/index.js";
import { layerClasses } from "../../../src/nn/layers/registry.js";
import type { Model } from "../../../src/nn/model.js";
import type { ModelConfig } from "../../../src/nn/model-config.js";
import type { Device } from "../../../src/tensor/device.js";
import { RandomStream } from "../../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../../src/tensor/shape.js";
import { layerCases } from "../layer-cases.js";

/** Of a model: [2, ...shape]. */
export interface Input {
  readonly shape: Shape;
  readonly values: Float32Array;
}

export interface OnnxCase {
  readonly title: string;
  readonly model: (device: Device) => Model;
  readonly inputs: (model: Model) => Input[];
  /** Classes of layers in it. */
  readonly classes: readonly string[];
}

/** Numbers that derive from the names: weights of about one, positive variances. */
export function randomWeights(model: Model): void {
  for (const { name, tensor } of model.weights()) {
    const random = new RandomStream(7, name);
    const fan = tensor.rank > 1 ? sizeOf(tensor.shape) / tensor.shape.at(-1)! : 1;
    const draw = /variance/i.test(name)
      ? () => 0.5 + random.uniform()
      : () => (2 * random.uniform() - 1) * Math.sqrt(3 / fan);
    tensor.assign(Float32Array.from({ length: tensor.size }, draw));
  }
}

type Range = readonly [low: number, high: number];

const drawn = (model: Model, [low, high]: Range) =>
  model.inputs.map(({ name, shape }) => {
    const random = new RandomStream(8, name);
    const values = Float32Array.from({ length: 2 * sizeOf(shape) }, () => low + (high - low) * random.uniform());
    return { shape: [2, ...shape], values };
  });

const classesOf = (model: ModelConfig): string[] => model.layers.map(({ className }) => className);

type Nodes = (...inputs: GraphNode[]) => GraphNode | GraphNode[];

/** A network of nodes; inputs are drawn from `range`. */
function graph(title: string, shapes: readonly Shape[], nodes: Nodes, range: Range = [-1.5, 1.5]): OnnxCase {
  const described = () => {
    const inputs = shapes.map((shape, i) => nn.input({ shape, name: `x${i}` }));
    return nn.architecture({ inputs, outputs: [nodes(...inputs)].flat() });
  };
  return {
    title,
    model: (device) => {
      const model = described().build({ device, seed: 1 });
      randomWeights(model);
      return model;
    },
    inputs: (model) => drawn(model, range),
    classes: classesOf(described().config()),
  };
}

/** An architecture of kilograd/applications. */
const published = (title: string, architecture: () => nn.Architecture): OnnxCase => ({
  title,
  model(device) {
    const model = architecture().build({ device, seed: 1 });
    randomWeights(model);
    return model;
  },
  inputs: (model) => drawn(model, [-1, 1]),
  classes: classesOf(architecture().config()),
});

/** Of layers one after the other. */
const chain = (title: string, shape: Shape, layers: () => readonly nn.CallableLayer[], range?: Range): OnnxCase =>
  graph(title, [shape], (x) => layers().reduce((node, layer) => layer(node), x!), range);

const image = [7, 6, 3];
/** What gives channels first. */
const conv = () => nn.conv2d({ filters: 4, kernelSize: 3, padding: "same" });
const conv1d = () => nn.conv1d({ filters: 4, kernelSize: 3, padding: "same" });

/** Layers that stand behind an image, where it comes in, and behind a convolution. */
const behindImages: Readonly<Record<string, () => nn.CallableLayer>> = {
  "convolution with strides and dilations": () =>
    nn.conv2d({ filters: 5, kernelSize: [3, 2], dilations: [2, 1], activation: "relu" }),
  "convolution same with strides": () => nn.conv2d({ filters: 3, kernelSize: 3, strides: 2, padding: "same" }),
  "convolution with padding of its own": () =>
    nn.conv2d({
      filters: 3,
      kernelSize: 3,
      padding: [
        [2, 1],
        [0, 3],
      ],
    }),
  "convolution that leaves out rows": () =>
    nn.conv2d({
      filters: 3,
      kernelSize: 2,
      strides: [2, 1],
      padding: [
        [0, -3],
        [1, -2],
      ],
    }),
  depthwise: () => nn.depthwiseConv2d({ kernelSize: [2, 3], strides: 2, depthMultiplier: 3, padding: "same" }),
  separable: () => nn.separableConv2d({ filters: 5, kernelSize: 3, depthMultiplier: 2, activation: "swish" }),
  "max pooling": () => nn.maxPool2d({ poolSize: 3, strides: 2, padding: "same" }),
  "max pooling with padding of its own": () =>
    nn.maxPool2d({
      poolSize: 3,
      strides: 2,
      padding: [
        [2, 0],
        [1, 2],
      ],
    }),
  "mean pooling": () => nn.avgPool2d({ poolSize: [3, 2], strides: 2, padding: "same" }),
  "mean pooling with padding of its own": () =>
    nn.avgPool2d({
      poolSize: 3,
      strides: 1,
      padding: [
        [2, 0],
        [1, 2],
      ],
    }),
  "mean pooling that leaves out rows": () =>
    nn.avgPool2d({
      poolSize: 2,
      strides: 2,
      padding: [
        [0, -3],
        [0, -2],
      ],
    }),
  "global maximum": () => nn.globalMaxPool2d(),
  "global mean": () => nn.globalAvgPool2d(),
  "global maximum that keeps axes": () => nn.globalMaxPool2d({ keepDims: true }),
  "global mean that keeps axes": () => nn.globalAvgPool2d({ keepDims: true }),
  padding: () =>
    nn.zeroPadding2d([
      [1, 0],
      [2, 3],
    ]),
  cropping: () =>
    nn.cropping2d([
      [1, 0],
      [2, 1],
    ]),
  "nearest of whole factors": () => nn.upSampling2d([2, 3]),
  "bilinear upsampling": () => nn.upSampling2d({ size: 2, interpolation: "bilinear" }),
  "batch normalisation": () => nn.batchNorm({ epsilon: 1e-2 }),
  "layer normalisation": () => nn.layerNorm(),
  "layer normalisation of whole images": () => nn.layerNorm({ axis: [1, 2, 3], center: false }),
  "layer normalisation of rows": () => nn.layerNorm({ axis: [1, 3] }),
  "instance normalisation": () => nn.instanceNorm({ epsilon: 1e-2 }),
  "instance normalisation without factors": () => nn.instanceNorm({ scale: false, center: false }),
  "group normalisation": () => nn.groupNorm({ groups: 1 }),
  normalization: () => nn.normalization(),
  "normalization of positions": () => nn.normalization({ axis: [1, 3] }),
  "normalization undone": () => nn.normalization({ mean: 0.5, variance: 2, invert: true }),
  rescaling: () => nn.rescaling({ scale: 0.5, offset: 0.25 }),
  dense: () => nn.dense({ units: 3, activation: "tanh" }),
  flatten: () => nn.flatten(),
  permute: () => nn.permute([3, 1, 2]),
  reshape: () => nn.reshape([6, -1]),
  prelu: () => nn.prelu({ sharedAxes: [1, 2] }),
  "prelu of each element": () => nn.prelu(),
  relu: () => nn.relu({ maxValue: 0.5, negativeSlope: 0.1, threshold: 0.2 }),
  relu6: () => nn.relu({ maxValue: 0.4 }),
  "leaky relu": () => nn.leakyRelu(0.2),
  elu: () => nn.elu({ alpha: 0.5 }),
  softmax: () => nn.softmax(),
  "softmax along rows": () => nn.softmax({ axis: 1 }),
  "activation softmax": () => nn.activation("softmax"),
  dropout: () => nn.dropout(0.5),
};

/** The same for sequences. */
const behindSequences: Readonly<Record<string, () => nn.CallableLayer>> = {
  "causal convolution": () => nn.conv1d({ filters: 3, kernelSize: 3, dilations: 2, padding: "causal" }),
  "convolution in groups": () => nn.conv1d({ filters: 4, kernelSize: 2, strides: 2, groups: 2, padding: "same" }),
  "max pooling": () => nn.maxPool1d({ poolSize: 3, strides: 2, padding: "same" }),
  "mean pooling": () => nn.avgPool1d({ poolSize: 3, strides: 1, padding: "same" }),
  "global maximum": () => nn.globalMaxPool1d(),
  "global mean": () => nn.globalAvgPool1d({ keepDims: true }),
  padding: () => nn.zeroPadding1d([1, 2]),
  cropping: () => nn.cropping1d([2, 1]),
  upsampling: () => nn.upSampling1d(3),
  "batch normalisation": () => nn.batchNorm(),
  "layer normalisation": () => nn.layerNorm({ epsilon: 1e-5 }),
  "group normalisation": () => nn.groupNorm({ groups: 2 }),
  dense: () => nn.dense({ units: 3, useBias: false }),
  softmax: () => nn.softmax({ axis: 1 }),
};

const titled = (
  layers: Readonly<Record<string, () => nn.CallableLayer>>,
  shape: Shape,
  before: () => nn.CallableLayer,
): OnnxCase[] =>
  Object.entries(layers).flatMap(([title, make]) => [
    chain(`${title}, where it comes in`, shape, () => [make()]),
    chain(`${title}, behind a convolution`, shape, () => [before(), make()]),
  ]);

/** Kernels, strides, paddings and what is added at the end of transposed convolutions. */
const transposed: OnnxCase[] = (["valid", "same"] as const).flatMap((padding) =>
  [1, 2, 3, 4].flatMap((kernelSize) =>
    [1, 2, 3].flatMap((strides) =>
      [null, ...Array.from({ length: strides }, (_, more) => more)].map((outputPadding) =>
        chain(
          `transposed convolution, ${padding}, kernel ${kernelSize}, strides ${strides}, more ${outputPadding}`,
          [3, 4, 2],
          () => [nn.conv2dTranspose({ filters: 2, kernelSize, strides, padding, outputPadding })],
        ),
      ),
    ),
  ),
);
const dilated = (["valid", "same"] as const).map((padding) =>
  chain(`transposed convolution, ${padding}, dilated`, [5, 4, 2], () => [
    nn.conv2dTranspose({ filters: 3, kernelSize: [3, 2], dilations: 2, padding, activation: "relu" }),
  ]),
);

const resized: OnnxCase[] = (["nearest", "bilinear"] as const).flatMap((interpolation) =>
  [
    [3, 2],
    [14, 12],
    [10, 9],
    [21, 5],
    [4, 17],
    [7, 6],
  ].map(([height, width]) =>
    chain(`${interpolation} to ${height} x ${width}`, image, () => [
      nn.resizing({ height: height!, width: width!, interpolation }),
    ]),
  ),
);

/** Of each, at values where it is defined. */
const activations: OnnxCase[] = ["linear", "softmax", ...Object.keys(unaryTable)].flatMap((name) => {
  const { domain } = (unaryTable as Readonly<Record<string, { domain?: Range }>>)[name] ?? {};
  return [
    chain(`activation ${name}`, [5], () => [nn.activation(name as nn.ActivationName)], domain ?? [-3, 3]),
    chain(
      `activation ${name} of a layer`,
      [5],
      // Positive everywhere, so that logarithms and roots are defined.
      () => [
        nn.activation("softmax"),
        nn.dense({ units: 5, kernelInitializer: "ones", activation: name as nn.ActivationName, trainable: false }),
      ],
    ),
  ];
});

const both = (x: GraphNode, y: GraphNode) => [x, y] as const;

const merged: OnnxCase[] = Object.entries({
  add: nn.add,
  subtract: nn.subtract,
  multiply: nn.multiply,
  average: nn.average,
  maximum: nn.maximum,
  minimum: nn.minimum,
}).flatMap(([name, make]) => [
  graph(`${name} behind convolutions`, [image, image], (x, y) => make()([conv()(x!), conv()(y!)])),
  graph(`${name} of channels first and last`, [[7, 6, 4], image], (x, y) => make()([x!, conv()(y!)])),
  graph(`${name} with sizes of 1`, [[7, 6, 4]], (x) =>
    make()([conv()(x!), nn.globalAvgPool2d({ keepDims: true })(x!)]),
  ),
  graph(`${name} of other ranks`, [[7, 6, 4], [4]], (x, y) => make()([conv()(x!), y!])),
]);

const concatenated: OnnxCase[] = [1, 2, 3, -1].map((axis) =>
  graph(`concatenate along ${axis}`, [image, [7, 6, 4]], (x, y) => nn.concatenate({ axis })([conv()(x!), y!])),
);

/** A layer that the library has not, with its operators. */
const scaling = nn.defineLayer({
  className: "OnnxScaling",
  make: () => ({
    weights: (shape) => [{ name: "scale", shape: shape.slice(-1), initializer: "ones" }],
    call: (x, { scale }) => mul(x, scale!),
  }),
  onnx: ({ inputs: [x], op, weight }) => op("Mul", [x!, weight("scale")]),
});

/** Two blocks of a small transformer over 4 x 4 patches. */
const transformer = graph("a transformer", [[8, 8, 3]], (x) => {
  const patches = nn.conv2d({ filters: 12, kernelSize: 4, strides: 4, name: "patches" })(x!);
  let tokens: GraphNode = nn.reshape([4, 12])(patches);
  for (let i = 0; i < 2; i++) {
    const normed = nn.layerNorm({ epsilon: 1e-6 })(tokens);
    tokens = nn.add()([tokens, nn.multiHeadAttention({ numHeads: 3, keyDim: 4, dropout: 0.1 })([normed, normed])]);
    const hidden = nn.dense({ units: 24, activation: "gelu" })(nn.layerNorm()(tokens));
    tokens = nn.add()([tokens, nn.dense({ units: 12 })(nn.dropout(0.1)(hidden))]);
  }
  return nn.dense({ units: 5, activation: "softmax" })(nn.globalAvgPool1d()(nn.layerNorm()(tokens)));
});

const residual = graph("a residual network", [[16, 16, 3]], (x) => {
  const block = (node: GraphNode, filters: number, strides: number) => {
    const conv = (of: GraphNode, kernelSize: number, strides: number) =>
      nn.batchNorm()(nn.conv2d({ filters, kernelSize, strides, padding: "same", useBias: false })(of));
    const inner = conv(nn.activation("relu")(conv(node, 3, strides)), 3, 1);
    return nn.activation("relu")(nn.add()([inner, strides === 1 ? node : conv(node, 1, strides)]));
  };
  const features = block(block(nn.conv2d({ filters: 8, kernelSize: 3, padding: "same" })(x!), 8, 1), 16, 2);
  return nn.dense({ units: 4, activation: "softmax" })(nn.globalAvgPool2d()(features));
});

const graphs: OnnxCase[] = [
  chain("a layer of a user's own", image, () => [conv(), scaling(), conv()]),
  published("a vision transformer", () =>
    visionTransformer({ inputShape: [8, 8, 3], layers: 1, heads: 2, width: 8, classes: 3 }),
  ),
  published("a residual network of CIFAR-10", () => resNet8()),
  published("a mini-Xception", () => miniXception({ inputShape: [48, 48, 1] })),
  transformer,
  residual,
  chain("a classifier", [12, 12, 1], () => [
    nn.conv2d({ filters: 6, kernelSize: 3, activation: "relu" }),
    nn.batchNorm(),
    nn.maxPool2d(2),
    nn.dropout(0.25),
    nn.conv2d({ filters: 8, kernelSize: 3, activation: "lecunTanh" }),
    nn.spatialDropout2d(0.25),
    nn.flatten(),
    nn.gaussianNoise(0.1),
    nn.dense({ units: 10, activation: "softmax" }),
  ]),
  chain("an autoencoder", [8, 8, 3], () => [
    nn.conv2d({ filters: 6, kernelSize: 3, strides: 2, padding: "same", activation: "swish" }),
    nn.groupNorm({ groups: 3 }),
    nn.upSampling2d({ size: 2, interpolation: "bilinear" }),
    nn.conv2dTranspose({ filters: 3, kernelSize: 3, padding: "same", activation: "sigmoid" }),
  ]),
  chain(
    "embedded ids",
    [9],
    () => [
      nn.embedding({ inputDim: 11, outputDim: 6 }),
      nn.conv1d({ filters: 4, kernelSize: 3, padding: "causal", activation: "elu" }),
      nn.globalMaxPool1d(),
      nn.dense({ units: 2 }),
    ],
    [0, 11],
  ),
  graph("a shared layer, called three times", [image, image], (x, y) => {
    const shared = nn.conv2d({ filters: 3, kernelSize: 3, padding: "same", name: "shared" });
    const units = nn.dense({ units: 2, name: "units" });
    const both = nn.add()([shared(shared(x!)), shared(y!)]);
    return [units(nn.flatten()(both)), units(nn.flatten()(x!))];
  }),
  graph("a layer of slopes where channels are first and last", [[7, 6, 4]], (x) => {
    const slopes = nn.prelu({ sharedAxes: [1, 2], name: "slopes" });
    return nn.add()([slopes(x!), slopes(conv()(x!))]);
  }),
  graph("an input that is an output, and one output twice", [[4], [7, 6, 4]], (x, y) => {
    const features = conv()(y!);
    return [x!, features, nn.dropout(0.5)(y!), features, nn.dense({ units: 2 })(x!)];
  }),
  graph("names that others have", [[4]], (x) => {
    const first = nn.dense({ units: 3, name: "x0" })(x!);
    return [first, nn.dense({ units: 2, name: "x0/Gemm" })(first), nn.dense({ units: 2, name: "x0/kernel" })(first)];
  }),
  graph(
    "products",
    [
      [3, 4],
      [5, 4],
    ],
    (x, y) => nn.dot({ axes: 2 })(both(x!, y!)),
  ),
  graph("cosines", [[6], [6]], (x, y) => nn.dot({ axes: 1, normalize: true })(both(x!, y!))),
  graph(
    "attention with a key",
    [
      [4, 5],
      [3, 2],
      [3, 6],
    ],
    (x, y, z) =>
      nn.multiHeadAttention({ numHeads: 2, keyDim: 3, valueDim: 2, outputDim: 4, useBias: false })([x!, y!, z!]),
  ),
  graph(
    "attention with masks",
    [
      [4, 6],
      [4, 4],
      [1, 4],
    ],
    (x, y, z) => {
      const causal = nn.multiHeadAttention({ numHeads: 2, keyDim: 3, useCausalMask: true });
      const masked = nn.multiHeadAttention({ numHeads: 2, keyDim: 3 });
      return [causal([x!, x!]), masked([x!, x!, x!, y!]), causal([x!, x!, x!, z!])];
    },
  ),
  chain("normalisations of vectors", [6], () => [
    nn.batchNorm(),
    nn.layerNorm(),
    nn.groupNorm({ groups: 2 }),
    nn.instanceNorm(),
    nn.normalization(),
    nn.gaussianDropout(0.1),
    nn.repeatVector(3),
    nn.spatialDropout1d(0.1),
  ]),
];

export const onnxCases: readonly OnnxCase[] = [
  ...layerCases.map(
    (each): OnnxCase => ({
      title: `Keras's ${each.title}`,
      model(device) {
        const model = nn.fromConfig(each.model, { device });
        for (const [i, { tensor }] of model.weights().entries()) tensor.assign(each.weightValues[i]![2]);
        return model;
      },
      inputs: () => each.inputs.map((shape, i) => ({ shape, values: Float32Array.from(each.values[i]!) })),
      classes: [each.layer],
    }),
  ),
  ...titled(behindImages, image, conv),
  ...titled(behindSequences, [8, 6], conv1d),
  ...transposed,
  ...dilated,
  ...resized,
  ...activations,
  ...merged,
  ...concatenated,
  ...graphs,
];

/** Classes of the library that no case has. */
export const classesWithoutCase = (): string[] => {
  const there = new Set(onnxCases.flatMap(({ classes }) => classes));
  return layerClasses.map(({ className }) => className).filter((name) => !there.has(name));
};
