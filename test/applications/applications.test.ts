// Architectures of published networks: counts of parameters, names and shapes of weights in Keras's order, and what
// they give for the same weights, all as Keras and torchvision have them (references.json, by references.py, in
// float64).
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as applications from "../../src/applications.js";
import { grad } from "../../src/autograd/differentiate.js";
import { square } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { encodeModel, loadModel } from "../../src/nn/checkpoint.js";
import { crossEntropy } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose } from "../support.js";
import { pictureValues, weightValues } from "./formula.js";

/** Without its layers. */
const { classToken, positionEmbedding, ...zoo } = applications;
type Network = keyof typeof zoo;

interface Reference {
  readonly network: Network;
  readonly options: applications.ApplicationOptions;
  /** Parameters of the network as it was published. */
  readonly published: { readonly total: number; readonly trainable: number };
  /** Options with which ours is that, where defaults are others. */
  readonly publishedOptions?: object;
  /** Of a line "layer/weight [shape]" for each weight. */
  readonly weights: string;
  /** Whether the lines are sorted: torchvision has weights in an order of its own. */
  readonly sorted?: boolean;
  /** Counters that Keras counts as parameters. */
  readonly counters?: number;
  readonly output: { readonly shape: readonly number[]; readonly values: readonly number[] };
}

const { references } = JSON.parse(readFileSync(new URL("references.json", import.meta.url), "utf8")) as {
  references: Reference[];
};
const cases = references.map((each) => [`${each.network} ${JSON.stringify(each.options)}`, each] as const);
const BATCH = 2;

const made = ({ network, options }: Reference) => zoo[network]({ ...options, classifierActivation: "linear" });

async function outputOf(reference: Reference, device: Device): Promise<ArrayLike<number>> {
  const model = made(reference).build({
    device,
    weights: (name, { shape }) => tensor(device, weightValues(name, shape), { shape }),
  });
  const shape = [BATCH, ...model.inputShape];
  const x = tensor(device, pictureValues(shape), { shape });
  const y = model.call(x);
  const values = await y.data();
  expect(y.shape).toEqual(reference.output.shape);
  for (const each of [x, y, model]) each.dispose();
  return values;
}

test("every network has a reference", () => {
  expect([...new Set(references.map(({ network }) => network))].sort()).toEqual(Object.keys(zoo).sort());
});

test.each(cases)(
  "%s: parameters as published",
  (_, { network, options, published, publishedOptions, counters = 0 }) => {
    const { variant } = options as applications.ResNet50Options;
    const whole = publishedOptions ?? (variant === undefined ? {} : { variant });
    const { total, trainable } = zoo[network](whole).countParameters();
    expect({ total: total + counters, trainable }).toEqual(published);
  },
);

test.each(cases)("%s: weights have the names and shapes of their source", (_, reference) => {
  const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const lines = made(reference).layers.flatMap(({ name, weights }) =>
    weights.map((weight) => `${name}/${snakeCase(weight.name)} [${weight.shape.join(", ")}]`),
  );
  if (reference.sorted) lines.sort();
  expect(createHash("sha256").update(lines.join("\n")).digest("hex")).toBe(reference.weights);
});

test("Keras counts 4,253,864 parameters of MobileNet, and so on", () => {
  const count = (network: Network, options = {}) => zoo[network](options).countParameters().total;
  const bare = { includeTop: false };
  expect({
    mobileNet: [count("mobileNet"), count("mobileNet", bare)],
    mobileNetV2: [count("mobileNetV2"), count("mobileNetV2", bare)],
    resNet50: [count("resNet50"), count("resNet50", bare)],
    vgg16: [count("vgg16"), count("vgg16", bare)],
    miniXception: count("miniXception"),
    resNet8: count("resNet8"),
    resNet20: count("resNet20"),
  }).toEqual({
    mobileNet: [4_253_864, 3_228_864],
    mobileNetV2: [3_538_984, 2_257_984],
    resNet50: [25_636_712, 23_587_712],
    vgg16: [138_357_544, 14_714_688],
    miniXception: 58_423,
    resNet8: 78_666,
    resNet20: 274_442,
  });
  expect(applications.mobileNetV2().summary()).toContain("Total params: 3,538,984 (13.50 MB)");
});

describe("on the reference", () => {
  test.each(cases)("%s gives what its source gives", async (_, reference) => {
    expectClose(await outputOf(reference, cpu), reference.output.values, { rtol: 1e-9 });
  });
});

describeProfiles((device) => {
  test.each(cases)("%s gives what its source gives", { timeout: 120_000 }, async (_, reference) => {
    expectClose(await outputOf(reference, device()), reference.output.values, { rtol: 1e-5 });
  });
});

/** Small, of pictures [32, 32, 3] and two classes. */
const small: Readonly<Record<Network, object>> = {
  lenet5: {},
  mobileNet: { alpha: 0.25 },
  mobileNetV2: { alpha: 0.1 },
  resNet8: { width: 4 },
  resNet18: { width: 4 },
  resNet20: { width: 4 },
  resNet50: { width: 4 },
  vgg16: { alpha: 1 / 32 },
  miniXception: { width: 4, inputShape: [64, 64, 3] },
  denseNet121: { growth: 4 },
  efficientNetB0: { alpha: 0.1 },
  visionTransformer: { layers: 1, heads: 2, width: 8, dropout: 0.1 },
};
const networks = Object.keys(small) as Network[];

test.each(networks)(
  "%s learns two pictures, and its gradients reach the pictures",
  { timeout: 120_000 },
  async (network) => {
    const options = { inputShape: [32, 32, 3], classes: 2, ...small[network] } as const;
    const model: Model = zoo[network](options).build({ device: cpu, seed: 1 });
    const inputs = pictureValues([2, ...model.inputShape]);
    const { history } = await model.fit(
      { inputs, targets: Int32Array.of(0, 1) },
      { optimizer: adam({ learningRate: 3e-3 }), loss: crossEntropy, epochs: 6, batchSize: 2 },
    );
    expect(history["loss"]!.at(-1)).toBeLessThan(history["loss"]![0]!);
    const x = tensor(cpu, inputs, { shape: [2, ...model.inputShape] });
    const gradient = await grad((picture) => sum(square(model.logits(picture))))(x).data();
    expect(gradient.every(Number.isFinite)).toBe(true);
    expect(gradient.some((value) => value !== 0)).toBe(true);
    const again = await loadModel(await encodeModel(model), { device: cpu });
    expect(await again.call(x).data()).toEqual(await model.call(x).data());
  },
);

test("options are checked", () => {
  expect(() => applications.mobileNetV2({ alpha: 0 })).toThrow(
    "mobileNetV2: alpha must be a finite number in (0, 16], got 0",
  );
  expect(() => applications.resNet18({ alpha: 1 } as object)).toThrow(UsageError);
  expect(() => applications.resNet50({ variant: "timm" as "keras" })).toThrow(/"keras", "torchvision"/);
  expect(() => applications.vgg16({ inputShape: [224, 224] as never })).toThrow(UsageError);
  expect(() => applications.lenet5({ inputShape: [4, 4, 1] })).toThrow(ShapeError);
  expect(() => applications.visionTransformer({ inputShape: [30, 32, 3] })).toThrow(
    "visionTransformer: patches must divide the picture",
  );
});

test("without the classifier there is the last feature map, or one number for each channel", () => {
  const inputShape = [64, 96, 3] as const;
  expect(applications.mobileNetV2({ inputShape, includeTop: false }).outputShapes).toEqual([[2, 3, 1280]]);
  for (const pooling of ["avg", "max"] as const) {
    expect(applications.resNet18({ inputShape, includeTop: false, pooling }).outputShapes).toEqual([[512]]);
  }
  expect(applications.visionTransformer({ includeTop: false }).outputShapes).toEqual([[192]]);
  expect(applications.mobileNetV2({ alpha: 0.35, inputShape: [96, 96, 3] }).name).toBe("mobilenetv2_0.35_96");
  expect(applications.resNet20({ name: "mine" }).name).toBe("mine");
});
