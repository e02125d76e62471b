// Adversarial training: the model becomes harder to fool, and goes on after an interruption as if there had been none.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { limitImages } from "../../src/data/dataset.js";
import { digits } from "../../src/data/digits.js";
import { adversarialPlan } from "../../src/experiments/lib/adversarial/adversarial-training.js";
import { type AdversaryOptions, adversary } from "../../src/inputs/attacks/adversary.js";
import { attackImages } from "../../src/inputs/attacks/attack-images.js";
import { type PgdOptions, pgd } from "../../src/inputs/attacks/pgd.js";
import { architecture } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import { crossEntropy } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { tensor } from "../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";

const { train, test: held } = digits({ seed: 1, trainCount: 1000, testCount: 100 });
const small = architecture({ inputShape: [28, 28, 1] }, [
  conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
  maxPool2d(2),
  flatten(),
  dense({ units: 10, activation: "softmax" }),
]);
const weak: PgdOptions = { norm: "linf", epsilon: 0.1, steps: 4, relativeStep: 0.4, randomStart: true };

let device: WebGpuDevice;
let folder: string;
beforeAll(async () => {
  device = await openDevice("webgpu");
  folder = mkdtempSync(join(tmpdir(), "kilograd-adversarial-"));
});
afterAll(() => {
  device.destroy();
  rmSync(folder, { recursive: true });
});

const fitOptions = (options?: AdversaryOptions, epochs = 3): FitOptions => ({
  ...{ optimizer: adam({ learningRate: 3e-3 }), loss: crossEntropy, epochs, batchSize: 64 },
  ...(options && { perturb: adversary(options) }),
});

/** Enough for bits: six steps an epoch, and one of a smaller batch. */
const few = limitImages(train, 400);

async function trained(options: FitOptions, on = train): Promise<Model> {
  const model = small.build({ device, seed: 3 });
  await model.fit(on, options);
  return model;
}

const weightsOf = (model: Model) => Promise.all(model.parameters().map((parameter) => parameter.data()));

test("an adversarially trained model withstands PGD better, with PGD and with FGSM in training", async () => {
  const under = async (model: Model) =>
    (await attackImages(model, held, pgd({ norm: "linf", epsilon: 0.06 }))).accuracy;
  const plain = await under(await trained(fitOptions(undefined, 6)));
  const attack = { ...weak, epsilon: 0.06 };
  for (const trainedOn of [attack, { ...attack, steps: 1, relativeStep: 1.25 }]) {
    const robust = await under(await trained(fitOptions({ attack: pgd(trainedOn), warmupSteps: 16 }, 6)));
    expect(robust).toBeGreaterThan(plain + 0.1);
  }
});

test("replayed steps give the bits of eager ones, and the same seed the same bits", async () => {
  const options = () => fitOptions({ attack: pgd(weak), cleanShare: 0.25, warmupSteps: 10 });
  const first = await weightsOf(await trained(options(), few));
  expect(await weightsOf(await trained(options(), few))).toEqual(first);
  expect(await weightsOf(await trained({ ...options(), runEagerly: true }, few))).toEqual(first);
  expect(await weightsOf(await trained({ ...options(), seed: 8 }, few))).not.toEqual(first);
});

test("an interrupted training goes on to the same bits", async () => {
  const path = join(folder, "checkpoint.safetensors");
  const options = () => fitOptions({ attack: pgd(weak), warmupSteps: 12 });
  await trained({ ...options(), maxSteps: 9, checkpoint: { path } }, few);
  const resumed = await trained({ ...options(), resume: path }, few);
  expect(await weightsOf(resumed)).toEqual(await weightsOf(await trained(options(), few)));
});

test("epsilon grows over the warm-up, and the clean share stays as it is", async () => {
  const model = small.build({ device, seed: 3 });
  const x = tensor(device, train.images.subarray(0, 8 * 784), { shape: [8, 28, 28, 1] });
  const y = tensor(device, train.labels.subarray(0, 8));
  const attack = pgd({ ...weak, steps: 3, relativeStep: 1, randomStart: false });
  const largest: number[] = [];
  for (const step of [0, 3, 7, 20]) {
    const perturb = adversary({ attack, cleanShare: 0.25, warmupSteps: 8 });
    const changed = await perturb(x, y, { model, seed: 0, step: () => step }).data();
    expect(changed.subarray(0, 2 * 784)).toEqual(train.images.subarray(0, 2 * 784));
    let most = 0;
    for (let i = 2 * 784; i < changed.length; i++) most = Math.max(most, Math.abs(changed[i]! - train.images[i]!));
    largest.push(most);
  }
  expectClose(largest, [0.1 / 8, 0.05, 0.1, 0.1], { rtol: 1e-5 });
});

test("a plan keeps its settings; a warm-up counts in epochs", () => {
  const plan = { architecture: small, data: train, optimizer: () => adam(), epochs: 4, batchSize: 100 };
  const { perturb, ...rest } = adversarialPlan(plan, { attack: pgd(weak), warmupEpochs: 1.5 });
  expect(rest).toEqual(plan);
  expect(perturb).toBeTypeOf("function");
});

test("what does not fit is refused", () => {
  expect(() => adversary({ attack: { ...pgd(weak), perturb: undefined } as never })).toThrow("part of a training step");
  expect(() => adversary({ attack: pgd(weak), cleanShare: 1 })).toThrow("cleanShare must be");
  expect(() => adversary({ attack: pgd(weak), warmupSteps: -1 })).toThrow("warmupSteps must be");
});
