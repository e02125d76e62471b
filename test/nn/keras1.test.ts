// Models in the words of Keras 1, by the get_config of the layers in Keras 1.2.2: they become the same layers as in
// those of Keras 3, and their weights find their places, kernels of Theano turned around.
import { expect, test } from "vitest";
import type { KerasLayerWeights } from "../../src/io/keras-h5.js";
import { fromKerasConfig } from "../../src/nn/formats/keras.js";
import { fromKerasH5 } from "../../src/nn/formats/keras-h5.js";
import type { FunctionalConfig } from "../../src/nn/model-config.js";
import { buildModel } from "../../src/nn/stored-model.js";
import { DataError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";

const nothing = { W_regularizer: null, b_regularizer: null, W_constraint: null, b_constraint: null };
const layers = [
  {
    class_name: "Convolution2D",
    config: {
      ...{
        name: "convolution2d_1",
        batch_input_shape: [null, 6, 6, 1],
        nb_filter: 2,
        nb_row: 3,
        nb_col: 2,
        bias: true,
      },
      ...{ init: "he_normal", activation: "relu", border_mode: "same", subsample: [2, 1], dim_ordering: "tf" },
      ...nothing,
      W_regularizer: { name: "WeightRegularizer", l1: 0, l2: 0.25 },
    },
  },
  { class_name: "BatchNormalization", config: { name: "bn", mode: 0, axis: 3, epsilon: 0.001, momentum: 0.99 } },
  {
    class_name: "MaxPooling2D",
    config: { name: "pool", pool_size: [2, 2], strides: [2, 2], border_mode: "valid", dim_ordering: "tf" },
  },
  { class_name: "Dropout", config: { name: "drop", p: 0.25 } },
  { class_name: "Reshape", config: { name: "reshape", target_shape: [3, 2] } },
  {
    class_name: "Convolution1D",
    config: { name: "c1", nb_filter: 3, filter_length: 2, subsample_length: 1, border_mode: "valid", bias: true },
  },
  { class_name: "Flatten", config: { name: "flatten" } },
  {
    class_name: "Dense",
    config: {
      name: "dense",
      output_dim: 4,
      init: "glorot_uniform",
      activation: "hard_sigmoid",
      bias: true,
      ...nothing,
    },
  },
];

test("words of Keras 1 are those of now", () => {
  const { layers: found } = fromKerasConfig(
    { class_name: "Sequential", config: layers.slice(0, 4) },
    "f",
    undefined,
    "1.2.2",
  );
  expect(found.map(({ className }) => className)).toEqual(["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]);
  const [conv, , pool, drop] = found.map(({ config }) => config);
  expect(conv).toMatchObject({ filters: 2, kernelSize: [3, 2], strides: [2, 1], padding: "same", useBias: true });
  expect(conv).toMatchObject({ kernelInitializer: { name: "heNormal" }, kernelL2: 0.25, activation: "relu" });
  expect(pool).toMatchObject({ poolSize: [2, 2], strides: [2, 2], padding: "valid" });
  expect(drop).toMatchObject({ rate: 0.25 });
});

test("weights find their places, and Theano's kernels are turned around", async () => {
  const values = (shape: number[], from: number) => ({
    dtype: "F32" as const,
    shape,
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i + from) / 2),
  });
  const dense = 6;
  const groups = (kernel2d: Float32Array<ArrayBuffer>, kernel1d: Float32Array<ArrayBuffer>): KerasLayerWeights[] => [
    {
      name: "convolution2d_1",
      weights: [
        { ...values([3, 2, 1, 2], 0), name: "convolution2d_1_W", data: kernel2d },
        { ...values([2], 50), name: "convolution2d_1_b" },
      ],
    },
    {
      name: "bn",
      weights: ["gamma", "beta", "running_mean", "running_std"].map((name, i) => ({
        ...{ dtype: "F32" as const, shape: [2], data: Float32Array.of(1 + i / 4, 0.5 + i / 8) },
        name: `bn_${name}`,
      })),
    },
    {
      name: "c1",
      weights: [
        { ...values([2, 1, 2, 3], 7), name: "c1_W", data: kernel1d },
        { ...values([3], 60), name: "c1_b" },
      ],
    },
    {
      name: "dense",
      weights: [
        { ...values([dense, 4], 9), name: "dense_W" },
        { ...values([4], 70), name: "dense_b" },
      ],
    },
  ];
  const [kernel2d, kernel1d] = [values([3, 2, 1, 2], 0).data, values([2, 2, 3], 7).data];
  /** Cells of a kernel in the other order. */
  const reversed = (kernel: Float32Array<ArrayBuffer>, size: number) =>
    Float32Array.from(kernel, (_, i) => kernel[kernel.length - size * (Math.floor(i / size) + 1) + (i % size)]!);
  const build = (backend: string, content: KerasLayerWeights[]) => {
    const file = {
      modelConfig: { class_name: "Sequential", config: layers },
      layers: content,
      backend,
      version: "1.2.2",
    };
    return buildModel(fromKerasH5(file, "file.h5"), cpu);
  };
  const [plain, turned] = [
    build("tensorflow", groups(kernel2d, kernel1d)),
    build("theano", groups(reversed(kernel2d, 2), reversed(kernel1d, 6))),
  ];
  const x = tensor(
    cpu,
    Array.from({ length: 36 }, (_, i) => Math.cos(i)),
    { shape: [1, 6, 6, 1] },
  );
  const [y, same] = [await plain.call(x).data(), await turned.call(x).data()];
  expectClose(same, y, { rtol: 1e-12 });
  // The activation of Keras 1: 0.2 z + 0.5 between 0 and 1.
  const outputs = plain.layerOutputs(x);
  const z = await outputs.find(({ name }) => name === "dense")!.output.data();
  expectClose(
    y,
    Array.from(z, (value) => Math.min(1, Math.max(0, 0.2 * value + 0.5))),
    { rtol: 1e-6 },
  );
  expect(plain.layer("c1").weights["kernel"]!.shape).toEqual([2, 2, 3]);
});

const merge = (config: object) => ({
  class_name: "Model",
  config: {
    layers: [
      { class_name: "InputLayer", name: "a", config: { name: "a", batch_input_shape: [null, 3] }, inbound_nodes: [] },
      {
        class_name: "Merge",
        name: "m",
        config: { name: "m", ...config },
        inbound_nodes: [[["a", 0, 0], ["a", 0, 0]]], // biome-ignore format: one call
      },
    ],
    ...{ input_layers: [["a", 0, 0]], output_layers: [["m", 0, 0]] },
  },
});

test.each([
  ["sum", "Add"],
  ["mul", "Multiply"],
  ["ave", "Average"],
  ["max", "Maximum"],
  ["concat", "Concatenate"],
  ["dot", "Dot"],
])("Merge with the mode %s is %s", (mode, className) => {
  const config = merge({ mode, concat_axis: 1, dot_axes: [1, 1], mode_type: "raw" });
  const { layers: found, calls } = fromKerasConfig(config, "f", undefined, "1.2.2") as FunctionalConfig;
  expect(found.map((layer) => layer.className)).toEqual([className]);
  expect(calls).toEqual([{ layer: "m", inputs: [0, 0] }]);
});

test.each<[string, unknown, RegExp]>([
  [
    "a merge by a function",
    merge({ mode: "twice", mode_type: "lambda" }),
    /layer "m" \(Merge\): a Merge with the mode "twice"/,
  ],
  [
    "channels first",
    { class_name: "Sequential", config: [{ ...layers[0]!, config: { ...layers[0]!.config, dim_ordering: "th" } }] },
    /data_format must be "channels_last", is "channels_first"/,
  ],
  [
    "statistics of each sample",
    {
      class_name: "Sequential",
      config: [layers[0], { class_name: "BatchNormalization", config: { name: "bn", mode: 1 } }],
    },
    /layer "bn" \(BatchNormalization\): mode must be 0, is 1/,
  ],
])("refuses %s", (_, config, message) => {
  const act = () => fromKerasConfig(config, "f", undefined, "1.2.2");
  expect(act).toThrow(DataError);
  expect(act).toThrow(message);
});
