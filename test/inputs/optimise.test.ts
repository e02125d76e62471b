// Gradient descent on images: it reaches its targets, moves nothing but the images, and gives each image its own way.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseTargets } from "../../src/experiments/lib/inputs/target.js";
import { gaussianKernel, noiseImages } from "../../src/inputs/images.js";
import { channel, logit, logOdds, neuron, scaled, sumOf, targetProbabilities } from "../../src/inputs/objective.js";
import { type OptimizeInputsOptions, optimizeInputs, settlingRate } from "../../src/inputs/optimise.js";
import { blurred, pixels } from "../../src/inputs/parametrisation.js";
import type { Objective, Parametrization, Regularizer, Transform } from "../../src/inputs/parts.js";
import { l2, totalVariation } from "../../src/inputs/regularisers.js";
import { jitter } from "../../src/inputs/transforms.js";
import { sequential } from "../../src/nn/architecture.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";
import { SIZE, smallModel, trainedModel } from "./small-model.js";
import "../../src/autograd/methods.js";

let device: WebGpuDevice;
let model: Model;

beforeAll(async () => {
  device = await openDevice("webgpu");
  model = await trainedModel(device);
});
afterAll(() => device.destroy());

/** Options for images from noise, one per target. */
function from(targets: string, options: Partial<OptimizeInputsOptions> = {}): OptimizeInputsOptions {
  const list = targets.split("|").flatMap((text) => parseTargets(text));
  const starts = noiseImages({ count: list.length, shape: [28, 28, 1] });
  const wanted = Float32Array.from(list.flatMap(({ probabilities }) => probabilities));
  return { objective: targetProbabilities(wanted), starts, steps: 60, regularizers: [l2(1e-4)], ...options };
}

test("targets of one digit are met at 99 %, mixed ones within 0.01, in [0, 1] throughout", async () => {
  const {
    snapshots,
    loss,
    objective: entropy,
  } = await optimizeInputs(model, from("all|2:0.5,3:0.5|1:0.5,7:0.5", { steps: 300 }));
  expect(snapshots.map(({ step }) => step)).toEqual([0, 100, 200, 300]);
  expect(loss).toHaveLength(300);
  for (const { images } of snapshots) expect(images.every((pixel) => pixel >= 0 && pixel <= 1)).toBe(true);
  const { outputs: probabilities } = snapshots.at(-1)!;
  for (let digit = 0; digit < 10; digit++) expect(probabilities[10 * digit + digit]).toBeGreaterThanOrEqual(0.99);
  for (const [row, digit] of [
    [10, 2],
    [10, 3],
    [11, 1],
    [11, 7],
  ] as const) {
    expect(Math.abs(probabilities[10 * row + digit]! - 0.5)).toBeLessThan(0.01);
  }
  // The cross-entropy of one digit is -log of its probability, and the loss adds the penalty.
  expect(entropy[0]![4]).toBeCloseTo(-Math.log(snapshots[0]!.outputs[44]!), 4);
  const squares = snapshots[0]!.images.subarray(4 * SIZE, 5 * SIZE).reduce((sum, x) => sum + x * x, 0);
  expect(loss[0]![4]! - entropy[0]![4]!).toBeCloseTo(1e-4 * squares, 4);
});

test("no gradient of a weight is computed, and the weights stay as they are and trainable", async () => {
  const before = await Promise.all(model.parameters().map((parameter) => parameter.data()));
  device.resetCounters();
  await optimizeInputs(model, from("3|8", { steps: 4 }));
  const { byKernel } = device.counters;
  expect(byKernel.get("convPoolInputGradient")).toBeGreaterThanOrEqual(4);
  expect([...byKernel.keys()].filter((name) => /KernelGradient|Gradients/.test(name))).toEqual([]);
  expect(model.parameters()).toHaveLength(4);
  expect(await Promise.all(model.parameters().map((parameter) => parameter.data()))).toEqual(before);
});

test("a step is one forward pass and one pass back to the image", async () => {
  const reference = smallModel(new CpuDevice());
  const calls = async (steps: number) => {
    reference.device.resetCounters();
    await optimizeInputs(reference, from("3", { steps, snapshotEvery: 100 }));
    return reference.device.counters.byKernel;
  };
  const [few, more] = [new Map(await calls(2)), new Map(await calls(5))];
  const perStep = (kernel: string) => ((more.get(kernel) ?? 0) - (few.get(kernel) ?? 0)) / 3;
  // On the reference a call counts once. The dense layer multiplies forward and, backward, to its input; not to its
  // kernel.
  expect(perStep("matmul")).toBe(2);
  expect(perStep("convPool")).toBe(1);
  expect(perStep("convPoolInputGradient")).toBe(1);
  expect(perStep("convPoolKernelGradient")).toBe(0);
  expect(perStep("adam")).toBe(1);
});

test("an image's way does not depend on the others of its batch", async () => {
  const together = await optimizeInputs(model, from("4|9|2:0.5,3:0.5", { steps: 40 }));
  const alone = await optimizeInputs(model, from("4", { steps: 40 }));
  const [first, only] = [together.snapshots.at(-1)!, alone.snapshots.at(-1)!];
  const difference = only.images.map((pixel, i) => Math.abs(pixel - first.images[i]!));
  expect(Math.max(...difference)).toBeLessThan(1e-3);
  expect(first.loss[0]).toBeCloseTo(only.loss[0]!, 4);
});

test("the same seed gives the same bits, also with jitter", async () => {
  const options = from("4", { steps: 20, transforms: [jitter(2)] });
  const [a, b] = [await optimizeInputs(model, options), await optimizeInputs(model, options)];
  expect(b.snapshots.at(-1)!.images).toEqual(a.snapshots.at(-1)!.images);
  const other = await optimizeInputs(model, { ...options, seed: 1 });
  expect(other.snapshots.at(-1)!.images).not.toEqual(a.snapshots.at(-1)!.images);
});

test("memory is as before, also after an abort", async () => {
  const before = device.memory().liveBytes;
  await optimizeInputs(
    model,
    from("4|5", {
      steps: 30,
      ...{ parametrization: blurred(pixels(), { sigma: 1 }), transforms: [jitter(1)] },
      regularizers: [l2(1e-4), totalVariation(1e-3)],
    }),
  );
  expect(device.memory().liveBytes).toBe(before);
  const abort = new AbortController();
  const aborted = optimizeInputs(model, {
    ...from("4", { steps: 1000, signal: abort.signal }),
    onProgress: () => abort.abort(new Error("enough")),
  });
  await expect(aborted).rejects.toThrow("enough");
  expect(device.memory().liveBytes).toBe(before);
});

test("the learning rate is full at first and almost 0 at the end", () => {
  const { at } = settlingRate(0.05, 500);
  expect([at(0), at(299)]).toEqual([0.05, 0.05]);
  expect(at(400)).toBeCloseTo(0.025, 3);
  expect(at(499)).toBeLessThan(0.0002);
  expect(settlingRate(0.05, 1).at(0)).toBe(0.05);
});

describe("parts", () => {
  const cpu = new CpuDevice();
  // One bright pixel in each of two images, the second half as bright.
  const values = new Float32Array(2 * 25);
  values[12] = 1;
  values[25 + 12] = 0.5;
  const x = tensor(cpu, values, { shape: [2, 5, 5, 1] });

  test("l2 is the sum of squares, total variation that of |differences|, per image", async () => {
    const valuesOf = async (regularizer: Regularizer) => {
      const rows = await Promise.all([regularizer(x, () => 0)].flat().map((penalty) => penalty.data()));
      return [0, 1].map((image) => rows.reduce((sum, row) => sum + row[image]!, 0));
    };
    expect(await valuesOf(l2(0.1))).toEqual([0.1, 0.1 * 0.25]);
    // A lone pixel differs from four neighbours.
    expect(await valuesOf(totalVariation(2))).toEqual([8, 4]);
  });

  test("blur keeps the sum within the image and spreads it evenly to all sides, each channel by itself", async () => {
    const { values: weights, shape } = gaussianKernel(0.6, 1);
    expect(shape).toEqual([5, 5, 1, 1]);
    expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    const constant = (given: Float32Array, of: readonly number[]) => tensor(cpu, given, { shape: of });
    const seen = async (starts: Float32Array, imagesShape: readonly number[]) => {
      const parts = { shape: imagesShape, starts, given: true, parameter: constant, constant };
      return Array.from(await blurred(pixels(), { sigma: 0.6 }).prepare(parts).images().data());
    };
    const image = (await seen(values, [2, 5, 5, 1])).slice(0, 25);
    expect(image.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    for (const place of [7, 11, 13, 17]) expect(image[place]).toBeCloseTo(image[7]!, 10);
    expect(image[12]! / image[7]!).toBeCloseTo(Math.exp(1 / (2 * 0.6 ** 2)), 4);
    // The second channel is black and stays so.
    const two = await seen(
      Float32Array.from({ length: 50 }, (_, i) => (i === 24 ? 1 : 0)),
      [1, 5, 5, 2],
    );
    expect(two.filter((_, i) => i % 2 === 0)).toEqual(image);
    expect(two.filter((value, i) => i % 2 === 1 && value !== 0)).toEqual([]);
  });

  test("jitter shifts by at most what is asked, every way, the same for all images", async () => {
    const seen = new Set<number>();
    for (let step = 0; step < 200; step++) {
      const drawn = jitter(1).draw({ shape: [2, 5, 5, 1], random: new RandomStream(0, `jitter/${step}`) });
      const shifted = await jitter(1)
        .apply(
          x,
          drawn.map((each) => tensor(cpu, each.values)),
        )
        .data();
      const place = shifted.indexOf(1);
      expect(shifted[25 + place]).toBe(0.5);
      seen.add(place);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([6, 7, 8, 11, 12, 13, 16, 17, 18]);
  });

  test("objectives are minus what grows, one value per image, and add up", async () => {
    const own = smallModel(cpu);
    const images = noiseImages({ count: 2, shape: [28, 28, 1] });
    const measured = async (objective: Objective) => {
      const { objective: rows } = await optimizeInputs(own, { objective, starts: images, steps: 1 });
      return rows[0]!;
    };
    const batch = tensor(cpu, images, { shape: [2, 28, 28, 1] });
    const logits = await own.logits(batch).data();
    expectClose(await measured(logit(4)), [-logits[4]!, -logits[14]!], { rtol: 1e-6 });
    expectClose(await measured(logit([7, 2])), [-logits[7]!, -logits[12]!], { rtol: 1e-6 });
    const { output } = own.layerOutputs(batch)[0]!;
    const layer = own.layers[0]!.name;
    const [height, width, channels] = output.shape.slice(1) as [number, number, number];
    const grid = Array.from(await output.data());
    const at = (image: number, row: number, column: number, of: number) =>
      grid[((image * height + row) * width + column) * channels + of]!;
    const middle = [0, 1].map((image) => -at(image, Math.floor(height / 2), Math.floor(width / 2), 3));
    expectClose(await measured(neuron(layer, 3)), middle, { rtol: 1e-6 });
    expectClose(await measured(neuron(layer, [1, 2, 5])), [-at(0, 1, 2, 5), -at(1, 1, 2, 5)], { rtol: 1e-6 });
    const means = [0, 1].map((image) => {
      const size = height * width;
      const ofImage = grid.slice(image * size * channels, (image + 1) * size * channels);
      return -ofImage.filter((_, i) => i % channels === 6).reduce((a, b) => a + b) / size;
    });
    expectClose(await measured(channel(layer, 6)), means, { rtol: 1e-5 });
    const both = await measured(sumOf(scaled(logit(4), -2), channel(layer, 6)));
    expectClose(both, [2 * logits[4]! + means[0]!, 2 * logits[14]! + means[1]!], { rtol: 1e-5 });
  });

  test("log-odds weigh the asked classes against the others, and several against each other", async () => {
    const own = smallModel(cpu);
    const images = noiseImages({ count: 3, shape: [28, 28, 1] });
    const logits = Array.from(await own.logits(tensor(cpu, images, { shape: [3, 28, 28, 1] })).data());
    const logSumExp = (values: readonly number[]) => Math.log(values.reduce((total, z) => total + Math.exp(z), 0));
    const expected = (row: number, shares: readonly number[], rivals: number, balance: number) => {
      const z = logits.slice(10 * row, 10 * row + 10);
      const own = shares.reduce((total, share, k) => total + share * z[k]!, 0);
      const others = z.filter((_, k) => shares[k] === 0);
      const asked = logSumExp(z.filter((_, k) => shares[k]! > 0));
      return (others.length === 0 ? 0 : rivals * logSumExp(others)) - own + balance * (asked - own);
    };
    const one = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const two = [0.25, 0, 0, 0, 0, 0, 0.75, 0, 0, 0];
    const all = new Array<number>(10).fill(0.1);
    const targets = Float32Array.from([...one, ...two, ...all]);
    for (const [options, rivals, balance] of [
      [{}, 1, 10],
      [{ rivals: 0.5, balance: 3 }, 0.5, 3],
      [{ rivals: 0 }, 0, 10],
    ] as const) {
      const objective = logOdds(targets, options);
      const { objective: rows } = await optimizeInputs(own, { objective, starts: images, steps: 1 });
      const wanted = [one, two, all].map((shares, row) => expected(row, shares, rivals, balance));
      expectClose(rows[0]!, wanted, { rtol: 1e-6 });
    }
    // Of one class it is minus its log-odds, log((1 - p) / p).
    const probabilities = await own.call(tensor(cpu, images, { shape: [3, 28, 28, 1] })).data();
    const { objective: rows } = await optimizeInputs(own, { objective: logOdds(one), starts: images, steps: 1 });
    const odds = [0, 1, 2].map((row) => Math.log((1 - probabilities[10 * row + 3]!) / probabilities[10 * row + 3]!));
    expectClose(rows[0]!, odds, { rtol: 1e-5 });
  });

  test("every objective is reached further with more steps", async () => {
    const layer = model.layers[0]!.name;
    for (const objective of [logit(3), logOdds([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), channel(layer, 2), neuron(layer, 2)]) {
      const { objective: rows, snapshots } = await optimizeInputs(model, { objective, count: 2, steps: 30 });
      for (const image of [0, 1]) expect(rows.at(-1)![image], objective.name).toBeLessThan(rows[0]![image]!);
      expect(snapshots).toHaveLength(2);
    }
  });

  test("parts of a user's own take the place of the library's", async () => {
    // Images of one grey value, seen mirrored or not, that are to be light.
    const one: Parametrization = {
      name: "one value",
      prepare({ shape, parameter }) {
        const grey = parameter(new Float32Array(shape[0]!), [shape[0]!, 1, 1, 1]);
        return {
          tensors: [grey],
          images: () => grey.add(tensor(grey.device, new Float32Array(SIZE), { shape: [1, 28, 28, 1] })),
        };
      },
    };
    const drawn: number[] = [];
    const brightness: Transform = {
      name: "brightness",
      draw({ random }) {
        drawn.push(random.uniform());
        return [{ values: Float32Array.of(drawn.at(-1)!), shape: [1] }];
      },
      apply: (images, [factor]) => images.mul(factor!),
    };
    const light: Objective = { name: "light", prepare: () => (seen) => seen.images.mean([1, 2, 3]).neg() };
    const { images, objective } = await optimizeInputs(model, {
      ...{ objective: light, parametrization: one, transforms: [brightness, brightness], count: 3, steps: 20 },
      optimizer: adam({ learningRate: 0.1 }),
    });
    // Adam's first steps are as long as its rate.
    for (const image of [0, 1, 2]) {
      const own = images.subarray(image * SIZE, (image + 1) * SIZE);
      expect(own.every((value) => value === own[0])).toBe(true);
      expect(own[0]).toBeGreaterThan(1.5);
    }
    // The two draw from streams of their own, anew at each step; the first call only counts what is drawn.
    expect(new Set(drawn).size).toBe(40);
    expect(drawn).toHaveLength(42);
    expect(objective.at(-1)![0]).toBeLessThan(0);
  });
});

test("two optimisations at once leave the model as trainable as it was", async () => {
  await Promise.all([optimizeInputs(model, from("4", { steps: 30 })), optimizeInputs(model, from("5", { steps: 3 }))]);
  expect(model.parameters()).toHaveLength(4);
});

test("a loss that is no number ends it, and leaves nothing behind", async () => {
  const before = device.memory().liveBytes;
  const starts = noiseImages({ count: 2, shape: [28, 28, 1] });
  starts[SIZE + 5] = Number.NaN;
  await expect(optimizeInputs(model, { objective: logit(1), starts })).rejects.toThrow(
    /the loss of image 1 must be finite, got NaN before step 0/,
  );
  expect(device.memory().liveBytes).toBe(before);
});

test("what does not fit is refused", async () => {
  const refused = (options: Partial<OptimizeInputsOptions>) =>
    expect(optimizeInputs(model, from("4", options))).rejects;
  await refused({ steps: 0 }).toThrow(UsageError);
  await refused({ starts: new Float32Array(10) }).toThrow("needs starts");
  await refused({ count: 3 }).toThrow("takes starts or count");
  await refused({ objective: logit(10) }).toThrow("a class must be from 0 to 9");
  await refused({ objective: channel("nowhere", 0) }).toThrow('has no layer "nowhere"');
  await refused({ objective: channel(model.layers[0]!.name, 8) }).toThrow("has channels 0 to 7");
  await refused({ objective: neuron(model.layers[0]!.name, [1, 2]) }).toThrow("has no position 1, 2");
  await refused({ objective: targetProbabilities([0.5, 0.5]) }).toThrow("got 2; the model gives [10]");
  await refused({ objective: targetProbabilities(new Array(10).fill(0.2)) }).toThrow("numbers from 0 with sum 1");
  await refused({ objective: logOdds([0.5, 0.5]) }).toThrow("logOdds: needs [10] values");
  expect(() => logOdds([1], { rivals: -1 })).toThrow(/rivals must be/);
  await refused({ objective: { name: "scalar", prepare: () => (seen) => seen.images.mean() } }).toThrow(
    'what objective "scalar" gives must be f32 [1], got f32 []',
  );
  await refused({ onProgress: async () => {} }).toThrow("onProgress must be synchronous");
  const used = adam();
  used.iterations = 3;
  await refused({ optimizer: used }).toThrow("the optimizer must be a new one");
  expect(() => l2(-1)).toThrow("factor must be");
  expect(() => jitter(0)).toThrow("distance must be");
  expect(() => blurred(pixels(), { sigma: 0 })).toThrow("sigma must be");
  expect(() => pixels({ limits: [1, 0] })).toThrow("the lowest and the highest");
  const flat = sequential({ device, inputShape: [4] }, [dense({ units: 3 })]);
  await expect(optimizeInputs(flat, { objective: logit(1), transforms: [jitter(1)] })).rejects.toThrow(
    "jitter: needs images [N, H, W, C], got [1, 4]",
  );
});
