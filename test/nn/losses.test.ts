// Losses against figures from NumPy, in float64:
//   logSoftmax(z) = z - max - log(sum(exp(z - max))); q = clip(p / sum(p), 1e-7, 1 - 1e-7)
//   crossEntropy = -sum(t * logSoftmax(z)); fromProbabilities = -sum(t * log(q))
//   binaryCrossEntropy = -mean(t * log(c) + (1 - t) * log(1 - c)), c = clip(p, 1e-7, 1 - 1e-7)
//   binaryCrossEntropyFromLogits = mean(max(x, 0) - x t + log1p(exp(-|x|))); meanSquaredError = mean((p - t)^2)
// And against Keras's, values per sample and gradients: training.json, which training.py writes.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { gradcheck, gradgradcheck } from "../../src/autograd/gradcheck.js";
import { abs, mul, sub } from "../../src/autograd/ops/elementwise.js";
import { mean } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import type { LossFunction, LossWithOptions } from "../../src/nn/loss.js";
import * as loss from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { scope } from "../../src/tensor/scope.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose } from "../support.js";
import { describeDevices, plain, stripes, weightsOf } from "./small.js";

const ids = new Int32Array([1, 2]);
const soft = [
  [0.2, 0.5, 0.3],
  [0, 0.9, 0.1],
];
const logits = [
  [1, 2, -1],
  [0.5, -0.3, 0.2],
];
const probabilities = [
  [0.2, 0.5, 0.1],
  [0, 2, 2],
];
const binary = [
  [0.9, 0.1, 0],
  [0.3, 0.5, 1],
];
const binaryLogits = [
  [2, -40, 3],
  [0.1, -0.2, 50],
];
const binaryTargets = [
  [1, 0, 1],
  [0, 0.5, 1],
];

type Case = [
  name: string,
  loss: loss.Loss,
  prediction: NestedArray,
  target: NestedArray | Int32Array,
  perSample: number[],
];
const cases: Case[] = [
  ["crossEntropy, ids", loss.crossEntropy, logits, ids, [0.34901221676818633, 1.0839687492408236]],
  ["crossEntropy, soft", loss.crossEntropy, logits, soft, [1.4490122167681863, 1.5339687492408238]],
  [
    "from probabilities, ids",
    loss.crossEntropyFromProbabilities,
    probabilities,
    new Int32Array([1, 0]),
    [0.4700036292457356, 16.11809565095832],
  ],
  ["from probabilities, soft", loss.crossEntropyFromProbabilities, probabilities, soft, [1.1360931493507966, Math.LN2]],
  ["binaryCrossEntropy", loss.binaryCrossEntropy, binary, binaryTargets, [5.442938894091324, 0.34994074149956095]],
  [
    "binaryCrossEntropyFromLogits",
    loss.binaryCrossEntropyFromLogits,
    binaryLogits,
    binaryTargets,
    [0.058505120872238185, 0.48084517648505426],
  ],
  ["meanSquaredError", loss.meanSquaredError, binary, binaryTargets, [0.34, 0.03]],
];

describeDevices((device, kind) => {
  test.each(cases)("%s", async (_, fn, predictionValues, targetValues, expected) => {
    const prediction = tensor(device(), predictionValues);
    const target = tensor(device(), targetValues);
    const digits = kind === "cpu" ? 12 : 5;
    const perSample = scope(() => fn.perSample(prediction, target));
    const found = await perSample.data();
    expect(perSample.shape).toEqual([2]);
    // 1 - 1e-7 is no float32 number: what is clipped there is off by 2e-8.
    for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, digits);
    const mean = fn(prediction, target);
    expect(mean.shape).toEqual([]);
    expect(await mean.item()).toBeCloseTo((expected[0]! + expected[1]!) / 2, digits);
    for (const t of [prediction, target, perSample, mean]) t.dispose();
  });

  test.each(cases)("%s is NaN where its prediction is, and so is the gradient", async (_, fn, values, targetValues) => {
    const [first, second] = values as number[][];
    const prediction = tensor(device(), [[Number.NaN, ...first!.slice(1)], second!]);
    prediction.requiresGrad = true;
    const value = fn(prediction, tensor(device(), targetValues));
    backward(value);
    expect(await value.item()).toBeNaN();
    const gradient = await prediction.grad!.data();
    expect(gradient[0]).toBeNaN();
    expect(Array.from(gradient.slice(first!.length)).every(Number.isFinite)).toBe(true);
  });

  test.each(cases.filter(([name]) => name.endsWith("ids")))(
    "%s is NaN for ids that are no classes",
    async (_, fn, values) => {
      for (const id of [-1, 3, 2 ** 31 - 1]) {
        const prediction = tensor(device(), values);
        prediction.requiresGrad = true;
        const target = tensor(device(), Int32Array.of(1, id));
        const perSample = await fn.perSample(prediction, target).data();
        expect(Array.from(perSample, Number.isNaN)).toEqual([false, true]);
        const value = fn(prediction, target);
        backward(value);
        expect(await value.item()).toBeNaN();
        const gradient = await prediction.grad!.data();
        expect(Array.from(gradient, Number.isNaN)).toEqual([false, false, false, true, true, true]);
      }
    },
  );

  test.each(cases.filter(([, fn]) => !fn.classifies))("%s refuses targets of another shape", (_, fn, prediction) => {
    const wrong = () => scope(() => fn(tensor(device(), prediction), tensor(device(), ids)));
    expect(wrong).toThrow(ShapeError);
    expect(wrong).toThrow("needs an f32 target of the prediction's shape [2, 3], got i32 [2]");
  });
});

interface GoldenLoss {
  readonly loss: string;
  readonly options: object;
  readonly prediction: NestedArray;
  readonly ids: boolean;
  readonly target: NestedArray;
  readonly perSample: number[];
  readonly gradient: NestedArray;
}
const golden = JSON.parse(readFileSync(new URL("training.json", import.meta.url), "utf8")) as {
  readonly keras: string;
  readonly losses: readonly GoldenLoss[];
};
const everyLoss = Object.entries(loss) as [name: string, value: loss.Loss][];
const lossOf = ({ loss: name, options }: GoldenLoss): loss.Loss => {
  const found = (loss as unknown as Readonly<Record<string, LossWithOptions<object>>>)[name]!;
  return Object.keys(options).length === 0 ? found : found.with(options);
};
const titled = golden.losses.map((each) => {
  const { loss: name, options, ids, prediction } = each;
  const rank = Array.isArray((prediction as number[][][])[0]![0]) ? ", rank 3" : "";
  return [`${name} ${JSON.stringify(options)}${ids ? " of ids" : ""}${rank}`, each] as const;
});
const targetOn = (device: Device, { ids, target }: GoldenLoss) => tensor(device, target, ids ? { dtype: "i32" } : {});

test("every loss is compared with Keras's, with each of its options", () => {
  expect(new Set(golden.losses.map(({ loss: name }) => name))).toEqual(new Set(everyLoss.map(([name]) => name)));
  for (const [name, value] of everyLoss) {
    expect(value.lossName).toBe(name);
    if (!("with" in value)) continue;
    const used = new Set(golden.losses.flatMap((each) => (each.loss === name ? Object.keys(each.options) : [])));
    const refuse = () => (value as LossWithOptions<object>).with({ never: 1 });
    // The message lists what there is.
    const [, known] = /options are ([\w, ]+)/.exec(errorOf(refuse).message)!;
    expect([...used].sort(), name).toEqual(known!.split(", ").sort());
  }
});

function errorOf(fn: () => unknown): Error {
  try {
    fn();
  } catch (error) {
    return error as Error;
  }
  throw new Error("there was no error");
}

const onEachDevice = (body: (device: () => Device, rtol: number) => void) => {
  describe("reference", () => body(() => cpu, 1e-9));
  describeProfiles((device) => body(device, 3e-6));
};

onEachDevice((device, rtol) => {
  test.each(titled)("%s is Keras's", async (label, each) => {
    const fn = lossOf(each);
    const prediction = tensor(device(), each.prediction);
    prediction.requiresGrad = true;
    const target = targetOn(device(), each);
    const perSample = scope(() => fn.perSample(prediction, target));
    expect(perSample.shape).toEqual([each.perSample.length]);
    expectClose(await perSample.data(), each.perSample, { rtol, label: `${label} per sample` });
    const value = scope(() => fn(prediction, target));
    expect(value.shape).toEqual([]);
    const expected = each.perSample.reduce((a, b) => a + b) / each.perSample.length;
    expectClose([await value.item()], [expected], { rtol, label });
    backward(value);
    const gradient = (each.gradient as number[]).flat(3);
    expectClose(await prediction.grad!.data(), gradient, { rtol: 10 * rtol, label: `${label}: gradient` });
    for (const t of [prediction, target, perSample, value]) t.dispose();
  });

  test.each(titled)("%s: a NaN makes its sample's loss NaN, and no other's", async (_, each) => {
    const fn = lossOf(each);
    const values = (each.prediction as number[]).flat(3);
    const shape = tensor(device(), each.prediction).shape;
    const prediction = tensor(device(), [Number.NaN, ...values.slice(1)], { shape });
    const found = await fn.perSample(prediction, targetOn(device(), each)).data();
    expect(Array.from(found, Number.isNaN)).toEqual([true, ...each.perSample.slice(1).map(() => false)]);
    expect(await fn(prediction, targetOn(device(), each)).item()).toBeNaN();
  });

  test.each(titled.filter(([, { ids }]) => ids))(
    "%s: an id that is no class makes its sample's loss NaN",
    async (_, each) => {
      const fn = lossOf(each);
      const classes = (each.prediction as number[][])[0]!.length;
      for (const id of [-1, classes, 2 ** 31 - 1]) {
        const target = tensor(device(), [id, ...(each.target as number[]).slice(1)], { dtype: "i32" });
        const found = await fn.perSample(tensor(device(), each.prediction), target).data();
        expect(Array.from(found, Number.isNaN)).toEqual([true, ...each.perSample.slice(1).map(() => false)]);
      }
    },
  );

  test.each(titled)("%s of no samples: none per sample, and no mean", async (_, each) => {
    const fn = lossOf(each);
    const [, ...sample] = tensor(device(), each.prediction).shape;
    const prediction = tensor(device(), [], { shape: [0, ...sample] });
    const target = each.ids ? tensor(device(), new Int32Array(0)) : tensor(device(), [], { shape: [0, ...sample] });
    const none = fn.perSample(prediction, target);
    expect(none.shape).toEqual([0]);
    expect(() => fn(prediction, target)).toThrow(ShapeError);
  });
});

test.each(titled)("%s: gradcheck", async (_, each) => {
  const fn = lossOf(each);
  for (const form of [fn.perSample, fn]) await gradcheck((x) => form(x, targetOn(x.device, each)), [each.prediction]);
  // Of targets where they are no limits: at 0, say, logarithms are cut off.
  const inside = (each.target as number[]).flat(3).every((value) => ![-1, 0, 1].includes(value));
  if (!each.ids && inside) await gradcheck((x, t) => fn(x, t), [each.prediction, each.target]);
});

/** Probabilities are cut off at 1, where slopes have a jump. */
const insideLimits = (values: NestedArray): NestedArray =>
  typeof values === "number" ? (values === 1 ? 0.93 : values) : (values as NestedArray[]).map(insideLimits);

test.each(titled)("%s: gradgradcheck", async (_, each) => {
  const fn = lossOf(each);
  // Of targets, too, where these are no limits; see above.
  const inside = (each.target as number[]).flat(3).every((value) => ![-1, 0, 1].includes(value));
  const prediction = insideLimits(each.prediction);
  if (each.ids || !inside) await gradgradcheck((x) => fn(x, targetOn(x.device, each)), [prediction]);
  else await gradgradcheck((x, t) => fn(x, t), [prediction, each.target]);
});

test("an infinite logit of a class that is not wanted leaves the focal loss finite", async () => {
  const logits = tensor(cpu, [[1, Number.NEGATIVE_INFINITY, 2]]);
  logits.requiresGrad = true;
  const value = loss.focalCrossEntropy(logits, tensor(cpu, Int32Array.of(0)));
  backward(value);
  const p = 1 / (1 + Math.E);
  expect(await value.item()).toBeCloseTo(-0.25 * (1 - p) ** 2 * Math.log(p), 12);
  expect((await logits.grad!.data())[1]).toBe(0);
});

test("options are checked", () => {
  expect(() => loss.crossEntropy.with({ labelSmoothing: 2 })).toThrow(UsageError);
  expect(() => loss.crossEntropy.with({ labelSmoothing: 2 })).toThrow(
    "crossEntropy: labelSmoothing must be a finite number from 0 to 1, got 2",
  );
  expect(() => loss.huber.with({ delta: 0 })).toThrow("huber: delta must be a finite number above 0, got 0");
  const focal = loss.focalCrossEntropy.with({ alpha: [1, 2] });
  const logits = tensor(cpu, [[1, 2, 3]]);
  expect(() => focal(logits, tensor(cpu, Int32Array.of(1)))).toThrow(
    "alpha must be a number or one for each of 3 classes, got 2",
  );
  expect(() => loss.cosineSimilarity(tensor(cpu, [1]), tensor(cpu, [1]))).toThrow("needs predictions [N, ..., C]");
});

describeDevices((device) => {
  const squares: LossFunction = (prediction, target) => mul(sub(prediction, target), sub(prediction, target));
  const data = { inputs: stripes(60).inputs, targets: Float32Array.from({ length: 240 }, (_, i) => (i % 3) / 3) };

  test("a user's own loss is a function: a scalar, or a loss per sample, as the loss of that formula", async () => {
    const run = async (fn: LossFunction) => {
      const model = plain().build({ device: device(), seed: 1 });
      const options = { optimizer: sgd(), loss: fn, batchSize: 16, epochs: 2, validationSplit: 0.2, metrics: [] };
      const { history } = await model.fit(data, options);
      const evaluated = await model.evaluate(data, { loss: fn, metrics: [] });
      const x = tensor(device(), data.inputs.slice(0, 72), { shape: [2, 6, 6, 1] });
      const step = model.trainStep(x, tensor(device(), data.targets.slice(0, 8), { shape: [2, 4] }), {
        ...{ optimizer: sgd(), loss: fn },
      });
      return { history, evaluated, step: await step.item(), weights: await weightsOf(model) };
    };
    const expected = await run(loss.meanSquaredError);
    expect(await run((prediction, target) => mean(squares(prediction, target)))).toEqual(expected);
    const perSample = await run((prediction, target) => mean(squares(prediction, target), { axes: 1 }));
    expect(perSample.evaluated.loss).toBeCloseTo(expected.evaluated.loss, 5);
    expect(perSample.history["val_loss"]![1]).toBeCloseTo(expected.history["val_loss"]![1]!, 5);
  });

  test("a function that gives no loss is refused by its name", async () => {
    const model = plain().build({ device: device(), seed: 1 });
    const wrong: [LossFunction, string][] = [
      [
        function wide(prediction, target) {
          return abs(sub(prediction, target));
        },
        "wide: a loss must be f32, a scalar or one for each of 60 samples, got f32 [60, 4]; take mean(loss, axes)",
      ],
      [(() => undefined) as unknown as LossFunction, "must be a tensor, got undefined"],
      [(async (x: Tensor) => x) as unknown as LossFunction, "the loss must be synchronous, it returned a promise"],
    ];
    for (const [fn, message] of wrong) {
      await expect(model.evaluate(data, { loss: fn })).rejects.toThrow(message);
      await expect(model.fit(data, { loss: fn, optimizer: sgd(), batchSize: 60 })).rejects.toThrow(message);
    }
    await expect(model.evaluate(data, { loss: "mse" as never })).rejects.toThrow(
      "evaluate: loss must be a loss, such as loss.crossEntropy, or a function of prediction and target, got",
    );
    model.dispose();
  });
});
