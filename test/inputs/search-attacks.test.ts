// Attacks that search
// - are as strong as the simple ones at least,
// - find the nearest point where it is known,
// - count images without a gradient,
// - do not depend on how large a classifier's logits are.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { limitImages } from "../../src/data/dataset.js";
import { attackImages } from "../../src/inputs/attacks/attack-images.js";
import { toPlane } from "../../src/inputs/attacks/fab.js";
import { apgd, autoAttack, carliniWagner, deepFool, fab, fgsm, square } from "../../src/inputs/attacks/index.js";
import { sequential } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Model } from "../../src/nn/model.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";
import { copyOf, held, train, trainedModel } from "./small-model.js";

let device: WebGpuDevice;
let model: Model;

beforeAll(async () => {
  device = await openDevice("webgpu");
  model = await trainedModel(device);
});
afterAll(() => device.destroy());

const balls = [
  ["linf", 0.05],
  ["l2", 0.7],
] as const;

/** Two classes: the logits are w x and -w x, less an offset. Where the border is, is known. */
function linear(on: Device, weights: readonly number[], offset: number): Model {
  const made = sequential({ device: on, inputShape: [weights.length, 1, 1] }, [
    flatten(),
    dense({ units: 2, activation: "softmax" }),
  ]);
  const [kernel, bias] = made.weights();
  kernel!.tensor.assign(weights.flatMap((w) => [w, -w]));
  bias!.tensor.assign([-offset, offset]);
  return made;
}

describe.each(balls)("%s", (norm, epsilon) => {
  test("AutoAttack's parts are stronger than one step, and together as strong as each", async () => {
    const accuracyUnder = async (attack: Parameters<typeof attackImages>[2]) =>
      (await attackImages(model, held, attack)).accuracy;
    const single = await accuracyUnder(fgsm({ norm, epsilon }));
    const parts = [
      apgd({ norm, epsilon, steps: 10 }),
      apgd({ norm, epsilon, steps: 10, loss: "dlr-targeted", targetClasses: 4 }),
      fab({ norm, epsilon, steps: 10, targetClasses: 4 }),
    ];
    const found: number[] = [];
    for (const part of parts) found.push(await accuracyUnder(part));
    for (const [i, accuracy] of found.entries()) expect(accuracy, parts[i]!.name).toBeLessThanOrEqual(single + 1 / 60);
    const together = await accuracyUnder(autoAttack({ norm, epsilon, steps: 10, queries: 20 }));
    expect(together).toBeLessThanOrEqual(Math.min(...found));
    const byQueries = await accuracyUnder(square({ norm, epsilon, queries: 100 }));
    const { accuracy } = await model.evaluate(held, { loss: (await import("../../src/nn/losses.js")).crossEntropy });
    expect(byQueries).toBeLessThan(accuracy!);
    expect(byQueries).toBeGreaterThanOrEqual(together);
  });

  test("a last layer times ten changes no accuracy by more than a point", async () => {
    const sure = await copyOf(model, device, 10);
    const many = limitImages(train, 100);
    for (const attack of [
      apgd({ norm, epsilon, steps: 8, loss: "dlr-targeted", targetClasses: 3 }),
      deepFool({ norm, epsilon, steps: 4 }),
      fab({ norm, epsilon, steps: 4, targetClasses: 3 }),
      square({ norm, epsilon, queries: 20 }),
      autoAttack({ norm, epsilon, steps: 5, queries: 10 }),
    ]) {
      const [plain, scaled] = [await attackImages(model, many, attack), await attackImages(sure, many, attack)];
      expect(plain.accuracy, attack.name).toBeGreaterThan(0.02);
      expect(Math.abs(scaled.accuracy - plain.accuracy), attack.name).toBeLessThanOrEqual(0.01);
      expect([plain.withoutGradient, scaled.withoutGradient]).toEqual([0, 0]);
    }
    sure.dispose();
  });

  test("minimal attacks find smaller changes than the ball in which half are right, all of them wrong", async () => {
    for (const attack of [deepFool({ norm, steps: 15 }), fab({ norm, steps: 8 })]) {
      const { accuracy, distances, predicted } = await attackImages(model, held, attack);
      expect(accuracy, attack.name).toBe(0);
      const sorted = Array.from(distances[norm]).sort((a, b) => a - b);
      const median = sorted[30]!;
      // PGD in a ball of the median radius leaves about half of them right, as it finds what these found, or less.
      const { accuracy: within } = await attackImages(model, held, apgd({ norm, epsilon: median, steps: 20 }));
      expect(within, attack.name).toBeLessThan(0.6);
      expect(predicted.every((found, i) => found !== held.labels[i])).toBe(true);
      const limited =
        attack.name === "DeepFool"
          ? deepFool({ norm, epsilon: median, steps: 15 })
          : fab({ norm, epsilon: median, steps: 8 });
      const { accuracy: left, distances: near } = await attackImages(model, held, limited);
      expect(left).toBeGreaterThan(0.1);
      expect(left).toBeLessThan(0.6);
      expect(Math.max(...near[norm])).toBeLessThanOrEqual(median * (1 + 1e-5));
    }
  });

  const devices = [
    ["webgpu", () => device],
    ["cpu", () => new CpuDevice()],
  ] as const;
  test.each(devices)("of a linear classifier the distance is known, on %s", async (_, on) => {
    const weights = [0.5, -1, 2, 0.25];
    const images = Float32Array.of(0.5, 0.4, 0.6, 0.5);
    // w x is 1.175; the border is at 0.9.
    const made = linear(on(), weights, 0.9);
    const set = { inputs: images, targets: Int32Array.of(0) };
    const length = norm === "l2" ? Math.hypot(...weights) : weights.reduce((sum, w) => sum + Math.abs(w), 0);
    const expected = (1.175 - 0.9) / length;
    expect((await attackImages(made, set, deepFool({ norm }))).distances[norm][0]! / expected).toBeCloseTo(1.02, 2);
    const { distances } = await attackImages(made, set, fab({ norm }));
    expect(distances[norm][0]! / expected).toBeGreaterThan(0.999);
    expect(distances[norm][0]! / expected).toBeLessThan(1.06);
    for (const share of [0.97, 1.03]) {
      const { accuracy } = await attackImages(made, set, apgd({ norm, epsilon: share * expected, steps: 50 }));
      expect(accuracy).toBe(share < 1 ? 1 : 0);
    }
    if (norm === "l2") {
      const found = await attackImages(
        made,
        set,
        carliniWagner({ steps: 300, binarySearchSteps: 9, initialConstant: 0.01 }),
      );
      expect(found.distances.l2[0]! / expected).toBeGreaterThan(0.999);
      expect(found.distances.l2[0]! / expected).toBeLessThan(1.03);
    }
  });

  test("images without a gradient are counted and stay as they are", async () => {
    const flat = linear(new CpuDevice(), [0, 0, 0, 0], -1);
    const set = { inputs: new Float32Array(8).fill(0.5), targets: Int32Array.of(0, 1) };
    const attacks = [
      apgd({ norm, epsilon, steps: 5 }),
      apgd({ norm, epsilon, steps: 5, loss: "dlr-targeted" }),
      deepFool({ norm, steps: 5 }),
      fab({ norm, steps: 5 }),
      autoAttack({ norm, epsilon, steps: 5, queries: 5 }),
      ...(norm === "l2" ? [carliniWagner({ steps: 5, binarySearchSteps: 2 })] : []),
    ];
    for (const attack of attacks) {
      const { accuracy, withoutGradient } = await attackImages(flat, set, attack);
      // The second is wrong before, and needs none.
      expect([accuracy, withoutGradient], attack.name).toEqual([0.5, 1]);
    }
    const { withoutGradient } = await attackImages(flat, set, square({ norm, epsilon, queries: 5 }));
    expect(withoutGradient).toBe(0);
  });

  test("the nearest point of a plane within the box is that of a fine search", () => {
    const random = new RandomStream(4, "planes");
    const size = 6;
    for (let trial = 0; trial < 200; trial++) {
      const t = Float32Array.from({ length: size }, () => random.uniform());
      const w = Float32Array.from({ length: size }, () => (random.uniform() < 0.2 ? 0 : random.normal()));
      const point = Float32Array.from({ length: size }, () => random.uniform());
      const b = w.reduce((sum, weight, k) => sum + weight * point[k]!, 0);
      const d = new Float64Array(size);
      toPlane(norm, t, w, b, d);
      const reached = w.reduce((sum, weight, k) => sum + weight * (t[k]! + d[k]!), 0);
      expect(reached).toBeCloseTo(b, 5);
      expect(d.every((by, k) => t[k]! + by >= -1e-6 && t[k]! + by <= 1 + 1e-6)).toBe(true);
      // No point of the plane in the box is nearer: neither the one it was made of, nor those between.
      const lengthOf = (v: ArrayLike<number>) =>
        norm === "l2" ? Math.hypot(...Array.from(v)) : Math.max(...Array.from(v, Math.abs));
      for (const share of [1, 0.5, 0.1, 0.01]) {
        const other = Array.from(t, (value, k) => d[k]! + share * (point[k]! - value - d[k]!));
        expect(lengthOf(d)).toBeLessThanOrEqual(lengthOf(other) + 1e-6);
      }
    }
    const far = new Float64Array(2);
    toPlane(norm, Float32Array.of(0.5, 0.5), Float32Array.of(1, -1), 9, far);
    // Out of reach: as far as there is room.
    expectClose(far, [0.5, -0.5], { rtol: 1e-6 });
  });
});

test("Carlini and Wagner's changes are smaller than DeepFool's, and exceed others by the confidence asked for", async () => {
  const few = limitImages(held, 4);
  const cw = await attackImages(model, few, carliniWagner({ steps: 300, binarySearchSteps: 6, initialConstant: 0.1 }));
  const fool = await attackImages(model, few, deepFool({ norm: "l2" }));
  expect(cw.accuracy).toBe(0);
  const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;
  expect(mean(cw.distances.l2)).toBeLessThan(mean(fool.distances.l2));
  const sure = await attackImages(
    model,
    few,
    carliniWagner({ steps: 300, binarySearchSteps: 6, initialConstant: 0.1, confidence: 1 }),
  );
  expect(mean(sure.distances.l2)).toBeGreaterThan(mean(cw.distances.l2));
  const none = await attackImages(model, few, carliniWagner({ steps: 30, epsilon: 1e-4 }));
  expect(none.accuracy).toBe((await attackImages(model, few, fgsm({ norm: "l2", epsilon: 0 }))).accuracy);
});

test("what does not fit is refused", async () => {
  expect(() => apgd({ norm: "linf", epsilon: 0.1, loss: "dlr" as never })).toThrow(UsageError);
  expect(() => square({ norm: "linf" } as never)).toThrow("epsilon is required");
  expect(() => deepFool({ norm: "l2", candidates: 1 })).toThrow("candidates must be");
  expect(() => carliniWagner({ stepSize: 0 })).toThrow("stepSize must be");
  expect(() => fab({ norm: "l2", steps: 0 })).toThrow("steps must be");
  expect(() => autoAttack({ norm: "l2", epsilon: 1, restarts: 2 } as never)).toThrow("restarts");
  const flat = sequential({ device: new CpuDevice(), inputShape: [4] }, [dense({ units: 2 })]);
  await expect(
    attackImages(flat, { inputs: new Float32Array(4), targets: Int32Array.of(0) }, square({ norm: "l2", epsilon: 1 })),
  ).rejects.toThrow("needs a model of images [H, W, C]");
});
