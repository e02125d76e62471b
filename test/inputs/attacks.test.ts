// FGSM and PGD: they stay in their ball, fool the classifier, follow Foolbox's conventions, and cost no weight
// gradients.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { limitImages } from "../../src/data/dataset.js";
import { withoutGradientRemark } from "../../src/experiments/lib/report/example-report.js";
import { classify } from "../../src/experiments/lib/training/classify.js";
import type { Attack, Norm } from "../../src/inputs/attacks/attack.js";
import { attackImages } from "../../src/inputs/attacks/attack-images.js";
import { distancesBetween } from "../../src/inputs/attacks/distances.js";
import { fgsm } from "../../src/inputs/attacks/fgsm.js";
import { pgd } from "../../src/inputs/attacks/pgd.js";
import { sequential } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Model } from "../../src/nn/model.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";
import { copyOf, held, SIZE, smallModel, trainedModel } from "./small-model.js";

let device: WebGpuDevice;
let model: Model;

beforeAll(async () => {
  device = await openDevice("webgpu");
  model = await trainedModel(device);
});
afterAll(() => device.destroy());

const attacked = (attack: Attack, options: { seed?: number; batchSize?: number } = {}) =>
  attackImages(model, held, attack, { seed: 0, ...options });
const imagesOf = async (...given: Parameters<typeof attacked>) => (await attacked(...given)).images;

describe.each([
  ["linf", 0.1],
  ["l2", 1],
] as const)("%s", (norm: Norm, epsilon: number) => {
  test("examples stay in the ball and in [0, 1], and lower the accuracy, PGD further than FGSM", async () => {
    const { accuracy } = await classify(model, held);
    const found: number[] = [];
    for (const attack of [fgsm, pgd]) {
      const { accuracy: under, images, distances } = await attacked(attack({ norm, epsilon }));
      const largest = Math.max(...distances[norm]);
      expect(largest).toBeLessThan(epsilon * (1 + 1e-5));
      expect(largest).toBeGreaterThan(0.9 * epsilon);
      expect(images.every((value) => value >= 0 && value <= 1)).toBe(true);
      found.push(under);
    }
    expect(accuracy).toBeGreaterThan(0.8);
    expect(found[0]).toBeLessThan(accuracy - 0.1);
    expect(found[1]).toBeLessThanOrEqual(found[0]!);
  });

  test("FGSM is one step of PGD that begins at the image", async () => {
    const single = pgd({ norm, epsilon, steps: 1, relativeStep: 1, randomStart: false });
    expect(await imagesOf(single)).toEqual(await imagesOf(fgsm({ norm, epsilon })));
  });

  test("more room and more steps raise the success", async () => {
    const accuracies: number[] = [];
    for (const factor of [0, 0.5, 1, 2]) {
      const attack = pgd({ norm, epsilon: factor * epsilon, steps: 10, relativeStep: 0.2 });
      accuracies.push((await attacked(attack)).accuracy);
    }
    // Without room, nothing changes.
    expect(accuracies[0]).toBe((await classify(model, held)).accuracy);
    for (let i = 1; i < accuracies.length; i++) expect(accuracies[i]).toBeLessThanOrEqual(accuracies[i - 1]!);
    expect(accuracies[3]).toBeLessThan(0.2);
  });

  test("the same seed gives the same bits, another one others; the batch size hardly matters", async () => {
    const attack = pgd({ norm, epsilon, steps: 3, relativeStep: 0.1 });
    const first = await imagesOf(attack, { batchSize: 16 });
    expect(await imagesOf(attack, { batchSize: 16 })).toEqual(first);
    expect(await imagesOf(attack, { batchSize: 16, seed: 1 })).not.toEqual(first);
    // A sign may turn where a gradient is 0 up to rounding.
    const other = await imagesOf(attack, { batchSize: 50 });
    const far = other.filter((value, i) => Math.abs(value - first[i]!) > 1e-4).length;
    expect(far / other.length).toBeLessThan(1e-3);
  });

  test("a start without steps worth the name is spread over the ball", async () => {
    const start = pgd({ norm, epsilon, steps: 1, relativeStep: 0 });
    // Grey images: nothing is cut off at 0 and 1.
    const grey = { ...held, images: held.images.map(() => 0.5) };
    const { images, distances } = await attackImages(model, grey, start, { seed: 0 });
    const changes = images.map((value) => value - 0.5);
    expect(Math.abs(changes.reduce((a, b) => a + b) / changes.length)).toBeLessThan(0.005 * epsilon);
    // Of a ball in 784 dimensions half the volume lies beyond 0.5^(1/784) of the radius.
    const lengths = Array.from(distances.l2).sort((a, b) => a - b);
    if (norm === "l2") expect(lengths[30]! / epsilon).toBeCloseTo(0.5 ** (1 / SIZE), 2);
    // Uniform numbers have the variance 1/3.
    else expect(lengths[30]! / epsilon).toBeCloseTo(Math.sqrt(SIZE / 3), 0);
  });

  test("WebGPU goes the way of the reference", async () => {
    const cpu = new CpuDevice();
    const reference = await copyOf(model, cpu);
    const few = limitImages(held, 4);
    const attack = pgd({ norm, epsilon, steps: 2 });
    const [found, expected] = await Promise.all(
      [model, reference].map((each) => attackImages(each, few, attack, { seed: 2 })),
    );
    expectClose(found!.images, expected!.images, { rtol: 1e-4 });
  });
});

test("a step is one pass forward and one back to the images; no gradient of a weight is computed", async () => {
  const reference = smallModel(new CpuDevice());
  const few = limitImages(held, 2);
  const calls = async (steps: number) => {
    reference.device.resetCounters();
    await attackImages(reference, few, pgd({ norm: "linf", epsilon: 0.1, steps }), { seed: 0 });
    return new Map(reference.device.counters.byKernel);
  };
  const [one, four] = [await calls(1), await calls(4)];
  const perStep = (kernel: string) => ((four.get(kernel) ?? 0) - (one.get(kernel) ?? 0)) / 3;
  expect(perStep("matmul")).toBe(2);
  expect(perStep("convPool")).toBe(1);
  expect(perStep("convPoolInputGradient")).toBe(1);
  expect(perStep("sign")).toBe(1);
  expect([...four.keys()].filter((name) => /KernelGradient|Gradients|dropout|adam/.test(name))).toEqual([]);

  const before = await Promise.all(model.parameters().map((parameter) => parameter.data()));
  device.resetCounters();
  await attackImages(model, held, pgd({ norm: "l2", epsilon: 0.5, steps: 10 }), { seed: 0, batchSize: 20 });
  expect([...device.counters.byKernel.keys()].filter((name) => /KernelGradient|Gradients/.test(name))).toEqual([]);
  expect(model.parameters()).toHaveLength(4);
  expect(await Promise.all(model.parameters().map((parameter) => parameter.data()))).toEqual(before);
});

test("memory is as before, also after an abort", async () => {
  const before = device.memory().liveBytes;
  await attacked(pgd({ norm: "l2", epsilon: 1, steps: 10 }), { batchSize: 16 });
  expect(device.memory().liveBytes).toBe(before);
  const abort = new AbortController();
  const aborted = attackImages(model, held, pgd({ norm: "linf", epsilon: 0.1 }), {
    ...{ seed: 0, batchSize: 10, signal: abort.signal },
    onProgress: () => abort.abort(new Error("enough")),
  });
  await expect(aborted).rejects.toThrow("enough");
  expect(device.memory().liveBytes).toBe(before);
});

describe("of networks that are sure of what they say", () => {
  // One image of two values. The logits are s (x0 - x1) and its opposite: how large s is changes no answer.
  const set = { images: Float32Array.of(0.7, 0.2), labels: Int32Array.of(0), count: 1, imageShape: [2, 1, 1] as const };
  const sure = (on: Device, weights: readonly number[], units = 2) => {
    const made = sequential({ device: on, inputShape: [2, 1, 1] }, [
      flatten(),
      dense({ units, activation: "softmax" }),
    ]);
    made.weights()[0]!.tensor.assign(Float32Array.from(weights));
    return made;
  };
  const devices = [
    ["webgpu", () => device],
    ["cpu", () => new CpuDevice()],
  ] as const;

  for (const [name, on] of devices) {
    for (const norm of ["linf", "l2"] as const) {
      test.each([1e-12, 1, 40, 200, 1e6, 1e12])(`${norm} on ${name} does not depend on the scale %f`, async (s) => {
        const attack = fgsm({ norm, epsilon: 0.4 });
        const { distances, images, accuracy, withoutGradient } = await attackImages(
          sure(on(), [s, -s, -s, s]),
          set,
          attack,
          {
            seed: 0,
          },
        );
        const expected = norm === "l2" ? [0.7 - 0.4 / Math.SQRT2, 0.2 + 0.4 / Math.SQRT2] : [0.3, 0.6];
        expectClose(images, expected, { rtol: 1e-5 });
        expect(distances[norm][0]).toBeCloseTo(0.4, 5);
        expect([accuracy, withoutGradient]).toEqual([0, 0]);
      });

      test(`${norm} on ${name} counts images without a gradient and leaves them as they are`, async () => {
        const { distances, images, withoutGradient } = await attackImages(
          sure(on(), [0, 0, 0, 0]),
          set,
          pgd({ norm, epsilon: 0.4, randomStart: false }),
          { seed: 0 },
        );
        expect(Array.from(images)).toEqual(Array.from(set.images));
        expect([distances.l2[0], withoutGradient]).toEqual([0, 1]);
      });
    }

    test(`on ${name} the direction is that of the cross-entropy, also where 1 - p is nothing`, async () => {
      // Three classes whose other two are equally likely: the gradient is half each column's less the own one's.
      const weights = [90, 10, -30, -80, 20, 40];
      const image = { ...set, images: Float32Array.of(0.9, 0.1) };
      const { images } = await attackImages(sure(on(), weights, 3), image, fgsm({ norm: "l2", epsilon: 1e-3 }), {
        seed: 0,
      });
      const logits = [0, 1, 2].map((c) => 0.9 * weights[c]! + 0.1 * weights[3 + c]!);
      const others = [1, 2].map((c) => Math.exp(logits[c]! - logits[1]!));
      const total = others[0]! + others[1]!;
      const gradient = [0, 1].map(
        (row) => (others[0]! * weights[3 * row + 1]! + others[1]! * weights[3 * row + 2]!) / total - weights[3 * row]!,
      );
      const length = Math.hypot(...gradient);
      const moved = Array.from(images, (value, i) => value - image.images[i]!);
      expectClose(
        moved,
        gradient.map((value) => (1e-3 * value) / length),
        { rtol: 2e-3 },
      );
    });
  }
});

test("a report tells of images without a gradient", () => {
  const figure = { attack: "pgd", norm: "l2", epsilon: 1, accuracy: 0.5, meanL2: 0, meanLinf: 0 } as const;
  expect(withoutGradientRemark([{ ...figure, withoutGradient: 0 }], 20)).toMatch(/^Every attack had a gradient/);
  expect(withoutGradientRemark([{ ...figure, withoutGradient: 3 }], 20)).toMatch(
    /^Of 20 images there was no gradient at any step of PGD in L2 at 1 for 3: these were not tried/,
  );
});

test("answers that are no numbers are an error, not a class", async () => {
  const broken = { ...held, images: held.images.map((value, i) => (i === SIZE ? Number.NaN : value)) };
  const reference = smallModel(new CpuDevice());
  await expect(classify(reference, broken)).rejects.toThrow(/the logits of image 1 must be finite, got NaN/);
});

test("distances are those of each image", () => {
  const from = Float32Array.of(0, 0, 0.5, 0.5);
  const { l2, linf } = distancesBetween(from, Float32Array.of(0.3, -0.4, 0.5, 0.75), 2);
  expectClose(l2, [0.5, 0.25], { rtol: 1e-6 });
  expectClose(linf, [0.4, 0.25], { rtol: 1e-6 });
});

test("what does not fit is refused", async () => {
  const attack = pgd({ norm: "linf", epsilon: 0.1 });
  expect(() => pgd({ norm: "linf", epsilon: 0.1, steps: 0 })).toThrow(UsageError);
  expect(() => pgd({ norm: "linf", epsilon: -1 })).toThrow("epsilon must be");
  expect(() => pgd({ norm: "l1" as Norm, epsilon: 1 })).toThrow('one of "linf", "l2"');
  expect(() => fgsm({ norm: "l2" } as never)).toThrow("epsilon is required");
  await expect(attackImages(model, held, "pgd" as never)).rejects.toThrow("attack must be an attack");
  await expect(attacked(attack, { batchSize: 0 })).rejects.toThrow("batchSize must be");
  const dark = { ...held, images: held.images.map((value) => value - 0.5) };
  await expect(attackImages(model, dark, attack)).rejects.toThrow(/values must be from 0 to 1, got -0.\d+ in image 0/);
  const soft = { inputs: held.images, targets: new Float32Array(10 * held.count) };
  await expect(attackImages(model, soft, attack)).rejects.toThrow("needs class ids");
});

test("images whose answers are NaN are an error, not a class", async () => {
  const broken = { ...held, images: held.images.map((value, i) => (i === SIZE ? Number.NaN : value)) };
  const attack = fgsm({ norm: "linf", epsilon: 0.1 });
  await expect(attackImages(model, broken, attack)).rejects.toThrow(/the logits of image 1 must be finite, got NaN/);
});

test("an attack of a user's own runs over a set as the library's do", async () => {
  const black: Attack = {
    ...{ name: "black", norm: "linf", epsilon: 1, passes: 0 },
    prepare: () => ({
      attack: async (x) => ({ images: new Float32Array(x.values.length), withoutGradient: 0 }),
      dispose: () => {},
    }),
  };
  const { images, predicted, accuracy } = await attackImages(model, held, black, { batchSize: 7 });
  expect(images.every((value) => value === 0)).toBe(true);
  expect(new Set(predicted).size).toBe(1);
  expect(accuracy).toBeCloseTo(held.labels.filter((label) => label === predicted[0]).length / held.count, 12);
});
