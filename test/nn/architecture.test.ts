// Architectures without weights: shapes, names, counts, the summary table, configurations, and what does not fit.
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { expect, test, vi } from "vitest";
import { architecture, type ModelConfig } from "../../src/nn/architecture.js";
import { architectureFromConfig } from "../../src/nn/from-config.js";
import type { LayerClass } from "../../src/nn/layer.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { avgPool2d, globalAvgPool2d, maxPool2d } from "../../src/nn/layers/pooling.js";
import { layerClasses } from "../../src/nn/layers/registry.js";
import { reshape } from "../../src/nn/layers/reshape.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";

const relu = { activation: "relu" } as const;
const image = { inputShape: [28, 28, 1] };

/** Counts that Keras 3 gives for the same layers. */
test("a network of 62.7 million parameters is counted at once", () => {
  const same = (filters: number) => conv2d({ filters, kernelSize: 3, padding: "same", ...relu });
  const drawn = vi.spyOn(RandomStream.prototype, "uniform");
  const model = architecture(image, [
    ...[96, 256].flatMap((filters) => [same(filters), batchNorm(), same(filters), batchNorm(), maxPool2d(2)]),
    ...[same(384), same(384), same(256), maxPool2d({ poolSize: 2, strides: 1 }), flatten()],
    ...[4096, 4096, 1024].flatMap((units) => [dense({ units, ...relu }), dropout(0.5)]),
    dense({ units: 10, activation: "softmax" }),
  ]);
  expect(model.countParameters()).toEqual({ total: 62_735_658, trainable: 62_734_250, nonTrainable: 1408 });
  expect(model.summary()).toContain("Total params: 62,735,658 (239.32 MB)");
  // Drawing the weights would take many seconds.
  expect(drawn).not.toHaveBeenCalled();
  drawn.mockRestore();
});

test("multiply-adds: dense kernels once, convolutions at every output pixel, nothing for biases and normalisation", () => {
  const model = architecture({ inputShape: [8, 8, 3] }, [
    conv2d({ filters: 4, kernelSize: 3, strides: 2, ...relu }),
    batchNorm(),
    flatten(),
    dense({ units: 5 }),
  ]);
  expect(model.multiplyAdds()).toBe(3 * 3 * (3 * 3 * 3 * 4) + 36 * 5);
  expect([1, 1e5].map((batch) => model.hasTinyDispatches(batch))).toEqual([true, false]);
});

/** Keras 3's words, widths and units. */
test("summary", () => {
  const model = architecture({ inputShape: [8, 8, 1], name: "tiny" }, [
    conv2d({ filters: 2, kernelSize: 3, ...relu }),
    batchNorm(),
    flatten(),
    dense({ units: 3, name: "answer" }),
  ]);
  expect(model.summary()).toBe(`Model: "tiny"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ conv2d (Conv2D)                 │ (None, 6, 6, 2)        │            20 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ batch_normalization             │ (None, 6, 6, 2)        │             8 │
│ (BatchNormalization)            │                        │               │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ flatten (Flatten)               │ (None, 72)             │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ answer (Dense)                  │ (None, 3)              │           219 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 247 (988.00 B)
 Trainable params: 243 (972.00 B)
 Non-trainable params: 4 (16.00 B)`);
});

test("layers are named as in Keras, around names that are given", () => {
  const model = architecture(image, [
    maxPool2d(2),
    avgPool2d({ poolSize: 2, padding: "same" }),
    conv2d({
      filters: 3,
      kernelSize: [3, 1],
      strides: [1, 2],
      dilations: [2, 1],
      padding: [
        [1, 0],
        [0, 2],
      ],
    }),
    conv2d({ filters: 3, kernelSize: 2, name: "conv2d_1" }),
    conv2d({ filters: 5, kernelSize: 1 }),
    globalAvgPool2d(),
    reshape([5, 1]),
    flatten(),
    activation("gelu"),
  ]);
  expect(model.layers.map(({ name, outputShape }) => [name, outputShape])).toEqual([
    ["max_pooling2d", [14, 14, 1]],
    ["average_pooling2d", [7, 7, 1]],
    // Height: 7 + 1 - 5 + 1; width: floor((7 + 2 - 1) / 2) + 1.
    ["conv2d", [4, 5, 3]],
    ["conv2d_1", [3, 4, 3]],
    ["conv2d_2", [3, 4, 5]],
    ["global_average_pooling2d", [5]],
    ["reshape", [5, 1]],
    ["flatten", [5]],
    ["activation", [5]],
  ]);
});

test("a configuration survives JSON", () => {
  const model = architecture({ ...image, name: "all" }, [
    conv2d({
      filters: 2,
      kernelSize: 3,
      kernelL2: 0.1,
      useBias: false,
      kernelInitializer: { name: "normal", mean: 0, standardDeviation: 0.1 },
    }),
    batchNorm({ epsilon: 0.01, trainable: false }),
    activation("tanh"),
    avgPool2d({ poolSize: 2, strides: 1, padding: "same" }),
    globalAvgPool2d({ name: "pool" }),
    dropout(0.1),
    reshape([2, 1]),
    flatten(),
    dense({ units: 2, activation: "lecunTanh", biasInitializer: "ones" }),
  ]);
  const again = architectureFromConfig(JSON.parse(JSON.stringify(model.config())) as ModelConfig);
  expect(again.config()).toEqual(model.config());
  expect(again.layers.map(({ weights }) => weights)).toEqual(model.layers.map(({ weights }) => weights));
  expect(again.countParameters()).toEqual({ total: 18 + 8 + 6, trainable: 18 + 6, nonTrainable: 8 });
});

test.each<[string, () => unknown, string]>([
  [
    "dense on numbers without an axis",
    () => architecture({ inputShape: [] }, [dense({ units: 3 })]),
    'sequential: layer "dense" (Dense) needs inputs of one axis or more, got []',
  ],
  [
    "a convolution after flatten",
    () => architecture(image, [flatten(), conv2d({ filters: 1, kernelSize: 3 })]),
    'layer "conv2d" (Conv2D) needs images [height, width, channels], got [784]',
  ],
  [
    "a window larger than the image",
    () => architecture(image, [maxPool2d(14), maxPool2d({ poolSize: 3, name: "last" })]),
    'layer "last" (MaxPooling2D) on [2, 2, 1]: the kernel must fit',
  ],
  [
    "another size in reshape",
    () => architecture(image, [reshape([5, 5])]),
    'layer "reshape" (Reshape) a target shape must keep the size, got [5, 5] (25) for [28, 28, 1] (784)',
  ],
])("%s names the layer", (_, build, message) => {
  expect(build).toThrow(ShapeError);
  expect(build).toThrow(message);
});

test.each<[string, () => unknown, string]>([
  ["no layers", () => architecture(image, []), "needs at least one layer"],
  ["a name given twice", () => architecture(image, [flatten({ name: "a" }), dropout({ rate: 0, name: "a" })]), '"a"'],
  ["units", () => dense({ units: 0 }), "Dense: units must be a whole number from 1, got 0"],
  [
    "strides",
    () => conv2d({ filters: 1, kernelSize: 3, strides: [1, 0.5] }),
    "Conv2D: strides must be a whole number from 1 to 65536, or a pair of them, got [1, 0.5]",
  ],
  ["padding", () => maxPool2d({ poolSize: 2, padding: "full" as "same" }), 'padding must be "valid", "same"'],
  ["rate", () => dropout(1), "Dropout: rate must be a finite number in [0, 1), got 1"],
  ["activation", () => activation("swoosh" as "relu"), 'activation must be one of "linear", "softmax", "neg"'],
  [
    "initialiser",
    () => dense({ units: 1, kernelInitializer: "xavier" as "ones" }),
    "Dense: kernelInitializer must be an initialiser such as nn.uniform() gives it, or one of glorotUniform",
  ],
  [
    "class",
    () =>
      architectureFromConfig({
        ...({} as ModelConfig),
        className: "Sequential",
        inputShape: [1],
        layers: [{ className: "LSTM", config: {} }],
      }),
    "class must be one of Dense, Conv2D",
  ],
  ["configuration", () => architectureFromConfig({ layers: [] } as unknown as ModelConfig), "needs a model's config()"],
])("wrong %s", (_, build, message) => {
  expect(build).toThrow(UsageError);
  expect(build).toThrow(message);
});

test("weights that are given must be what the layers have", () => {
  const device = new CpuDevice();
  const model = architecture({ inputShape: [2] }, [dense({ units: 3, useBias: false })]);
  for (const wrong of [
    tensor(device, [[1, 2, 3]]),
    tensor(device, new Int32Array(6), { shape: [2, 3] }),
    tensor(new CpuDevice(), new Float32Array(6), { shape: [2, 3] }),
  ]) {
    expect(() => model.build({ device, weights: () => wrong })).toThrow(ShapeError);
  }
  expect(() => model.build({ device, weights: () => tensor(device, [1]) })).toThrow(
    "sequential: the weight dense/kernel must be f32 [2, 3], got f32 [1]",
  );
});

test("every class of layers is in the registry", async () => {
  const defined: string[] = [];
  for (const file of readdirSync("src/nn/layers")) {
    const path = `../../src/nn/layers/${basename(file, ".ts")}.js`;
    const module: Record<string, unknown> = await import(path);
    for (const value of Object.values(module)) {
      const { className } = Object(value) as Partial<LayerClass>;
      if (className !== undefined && typeof value === "function") defined.push(className);
    }
  }
  expect(defined.sort()).toEqual(layerClasses.map(({ className }) => className).sort());
});
