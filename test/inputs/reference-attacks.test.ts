// Attacks without chance against Foolbox's and AutoAttack's own images, on shared weights (reference-attacks.py).
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { attackImages } from "../../src/inputs/attacks/attack-images.js";
import { carliniWagner, deepFool, fab } from "../../src/inputs/attacks/index.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Device } from "../../src/tensor/device.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { cpu, describeProfiles, expectClose } from "../support.js";

type Golden = Readonly<Record<string, readonly number[]>>;
const golden: Golden = JSON.parse(readFileSync(new URL("reference-attacks.json", import.meta.url), "utf8"));

/** As reference-attacks.py makes them: sin(a i + b) / c. */
const sines = (shape: readonly number[], [a, b, c]: readonly [number, number, number]) =>
  Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(a * i + b) / c);

const set = {
  inputs: sines([6, 5, 5, 2], [0.37, 0.7, 1]).map((value) => (1 + value) / 2),
  targets: Int32Array.from(golden["labels"]!),
};

function network(device: Device) {
  const model = sequential({ device, inputShape: [5, 5, 2] }, [
    conv2d({ filters: 3, kernelSize: 3, activation: "tanh" }),
    flatten(),
    dense({ units: 4, activation: "softmax" }),
  ]);
  const formulas = [
    [1.3, 0.1, 1.5],
    [0.7, 0.2, 4],
    [1.7, 0.5, 1],
    [0.6, 0.6, 2],
  ] as const;
  for (const [i, { tensor }] of model.weights().entries()) tensor.assign(sines(tensor.shape, formulas[i]!));
  return model;
}

function sameAsReferences(device: () => Device) {
  test.each(["linf", "l2"] as const)("DeepFool and FAB, %s", async (norm) => {
    const model = network(device());
    const { images, accuracy } = await attackImages(model, set, deepFool({ norm }));
    expect(accuracy).toBe(0);
    expectClose(images, golden[`deepFool/${norm}`]!, { rtol: 2e-4, label: "DeepFool" });
    const nearest = await attackImages(model, set, fab({ norm, steps: 20, epsilon: 10, targetClasses: 3 }));
    expect(nearest.accuracy).toBe(0);
    expectClose(nearest.images, golden[`fab/${norm}`]!, { rtol: 1e-3, label: "FAB" });
    model.dispose();
  });

  test("Carlini and Wagner's distances", async () => {
    const model = network(device());
    const attack = carliniWagner({ steps: 200, binarySearchSteps: 6, initialConstant: 0.1 });
    const { distances } = await attackImages(model, set, attack);
    expectClose(distances.l2, golden["carliniWagner/distances"]!, { rtol: 0.01 });
    model.dispose();
  });
}

describe("the reference", () => sameAsReferences(() => cpu));
describeProfiles(sameAsReferences);
