// Every listed attack, and the one of CONTRIBUTING: within its ball, repeatable, and at no gradient of a weight.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ones } from "../../src/autograd/ops/create.js";
import { add, maximum, minimum, neg, sub } from "../../src/autograd/ops/elementwise.js";
import { type Attack, epsilonRule, radiusOf, type StepAttack, stepAttack } from "../../src/inputs/attacks/attack.js";
import { attackImages } from "../../src/inputs/attacks/attack-images.js";
import * as attacks from "../../src/inputs/attacks/index.js";
import * as attributions from "../../src/inputs/attribution/index.js";
import * as objectives from "../../src/inputs/objective.js";
import * as parametrizations from "../../src/inputs/parametrisation.js";
import * as regularizers from "../../src/inputs/regularisers.js";
import * as transforms from "../../src/inputs/transforms.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Device } from "../../src/tensor/device.js";
import { checkOptions, type Rules } from "../../src/tensor/options.js";
import { RandomStream } from "../../src/tensor/random.js";
import { cpu, describeProfiles } from "../support.js";

/** The example of CONTRIBUTING, to the letter. */
interface GreyingOptions {
  readonly epsilon: number;
}

const greyingRules: Rules<GreyingOptions> = { epsilon: epsilonRule };

function greying(options: GreyingOptions): StepAttack {
  const { epsilon } = checkOptions("greying", options, greyingRules, ["epsilon"]);
  return stepAttack({
    ...{ name: "greying", norm: "linf", epsilon, passes: 0 },
    perturb(_model, x, _y, given) {
      const radius = radiusOf(x.device, given.epsilon ?? epsilon);
      const change = maximum(minimum(sub(0.5, x), radius), neg(radius));
      return { images: add(x, change), strength: ones(x.device, [x.shape[0]!, 1, 1, 1]) };
    },
  });
}

/** How each is made, by its name in the list. */
const both = ["linf", "l2"] as const;
const radius = { linf: 0.1, l2: 0.5 };
const made: Readonly<Record<string, readonly Attack[]>> = {
  apgd: both.flatMap((norm) =>
    (["ce", "dlr-targeted"] as const).map((loss) => attacks.apgd({ norm, epsilon: radius[norm], steps: 8, loss })),
  ),
  autoAttack: both.map((norm) => attacks.autoAttack({ norm, epsilon: radius[norm] / 2, steps: 4, queries: 20 })),
  carliniWagner: [
    attacks.carliniWagner({ steps: 20, binarySearchSteps: 3, initialConstant: 1, stepSize: 0.05 }),
    attacks.carliniWagner({ steps: 20, binarySearchSteps: 2, initialConstant: 1, stepSize: 0.05, epsilon: 0.5 }),
  ],
  deepFool: both.flatMap((norm) => [
    attacks.deepFool({ norm, steps: 5 }),
    attacks.deepFool({ norm, epsilon: radius[norm] }),
  ]),
  fab: both.flatMap((norm) => [
    attacks.fab({ norm, steps: 5 }),
    attacks.fab({ norm, epsilon: radius[norm], steps: 5 }),
  ]),
  square: both.map((norm) => attacks.square({ norm, epsilon: radius[norm], queries: 30 })),
  fgsm: [attacks.fgsm({ norm: "linf", epsilon: 0.1 }), attacks.fgsm({ norm: "l2", epsilon: 0.5 })],
  pgd: [
    attacks.pgd({ norm: "linf", epsilon: 0.1, steps: 3 }),
    attacks.pgd({ norm: "l2", epsilon: 0.5, steps: 3, randomStart: false }),
  ],
};
const recipe: Readonly<Record<string, readonly Attack[]>> = { "CONTRIBUTING's": [greying({ epsilon: 0.1 })] };

test("every listed attack is made here", () => {
  expect(Object.keys(made).sort()).toEqual(Object.keys(attacks).sort());
});

test("the page on inputs has a word on everything that is listed", () => {
  const page = readFileSync("docs/inputs.md", "utf8");
  const parts = { attacks, attributions, objectives, parametrizations, regularizers, transforms };
  for (const [part, names] of Object.entries(parts)) {
    for (const name of Object.keys(names)) expect(page, `${part}.${name}`).toMatch(new RegExp(`\\b${name}\\b`));
  }
});

const random = new RandomStream(5, "images");
const data = {
  inputs: Float32Array.from({ length: 7 * 36 }, () => random.uniform()),
  targets: Int32Array.from({ length: 7 }, (_, i) => i % 3),
};

const equal = { inputs: new Float32Array(8 * 36).fill(0.5), targets: new Int32Array(8) };

function sameForAll(device: () => Device) {
  const all = Object.entries({ ...made, ...recipe }).flatMap(([name, list]) =>
    list.map((attack) => [`${name}, ${attack.norm}`, attack] as const),
  );
  test.each(all)("%s", async (_, attack) => {
    const on = device();
    const model = sequential({ device: on, seed: 2, inputShape: [6, 6, 1] }, [
      conv2d({ filters: 4, kernelSize: 3, activation: "relu" }),
      flatten(),
      dense({ units: 3, activation: "softmax" }),
    ]);
    on.resetCounters();
    const bytes = on.memory().liveBytes;
    const { images, distances } = await attackImages(model, data, attack, { seed: 1, batchSize: 4 });
    expect([...on.counters.byKernel.keys()].filter((name) => /KernelGradient/.test(name))).toEqual([]);
    expect(on.memory().liveBytes).toBe(bytes);
    expect(images.every((value) => value >= 0 && value <= 1)).toBe(true);
    expect(Math.max(...distances[attack.norm])).toBeGreaterThan(0);
    if (attack.epsilon !== undefined) {
      expect(Math.max(...distances[attack.norm])).toBeLessThan(attack.epsilon * (1 + 1e-5));
    }
    expect((await attackImages(model, data, attack, { seed: 1, batchSize: 4 })).images).toEqual(images);
    // Equal images in batches that take the same recorded step: random numbers are of an image, not of a batch.
    const ofTwo = (await attackImages(model, equal, attack, { seed: 1, batchSize: 2 })).images;
    expect((await attackImages(model, equal, attack, { seed: 1, batchSize: 8 })).images).toEqual(ofTwo);
    const each = Array.from({ length: 8 }, (_, i) => ofTwo.subarray(36 * i, 36 * (i + 1)).join());
    // All alike without random numbers; with signs of six columns, two may be.
    expect([1, 6, 7, 8]).toContain(new Set(each).size);
    model.dispose();
  });
}

describe("the reference", () => sameForAll(() => cpu));
describeProfiles(sameForAll);
