// Ten small networks follow Keras's losses for 20 steps from the same weights: trainings.json, by Keras 3.15.1 in
// float64. The models are read from Keras's configurations, and trained by fit, whose steps are replayed.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fromKerasConfig } from "../../src/nn/formats/keras.js";
import { fromConfig } from "../../src/nn/from-config.js";
import { crossEntropy, meanSquaredError } from "../../src/nn/losses.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { cpu, describeProfiles } from "../support.js";
import { formula, formulaIds } from "./formula.js";

interface Training {
  readonly name: string;
  readonly model: unknown;
  /** How many ids there are, where inputs are ids. */
  readonly ids?: number;
  readonly loss: "crossEntropy" | "meanSquaredError";
  readonly optimizer: { readonly name: "SGD" | "Adam"; readonly learningRate: number };
  readonly weights: readonly (readonly [path: string, name: string, shape: number[]])[];
  readonly losses: readonly number[];
}

const { trainings } = JSON.parse(readFileSync(new URL("trainings.json", import.meta.url), "utf8")) as {
  trainings: Training[];
};
const SAMPLES = 8;
const CLASSES = 3;

async function lossesOf({ model, ids, loss, optimizer, weights, losses }: Training, device: Device) {
  const net = fromConfig(fromKerasConfig(model, "trainings.json"), { device });
  const trained = net.weights().filter(({ trainable }) => trainable);
  expect(trained.map(({ tensor: { shape } }) => [...shape])).toEqual(weights.map(([, , shape]) => shape));
  for (const [i, { tensor: weight }] of trained.entries()) {
    const offset = weights[i]![1] === "gamma" ? 1 : 0;
    weight.assign(formula(weight.shape, 10 + i, 0.5).map((value) => value + offset));
  }
  const shape = [SAMPLES, ...net.inputShape];
  const classes = loss === "crossEntropy";
  const targetShape = [SAMPLES, ...net.outputShape];
  const { history } = await net.fit(
    {
      inputs: Float32Array.from(ids === undefined ? formula(shape, 1) : formulaIds(shape, 1, ids)),
      targets: classes
        ? Int32Array.from(formulaIds([SAMPLES], 2, CLASSES))
        : Float32Array.from(formula(targetShape, 2), (value) => value / 2 + 0.5),
    },
    {
      optimizer: optimizer.name === "SGD" ? sgd({ ...rateOf(optimizer), momentum: 0.9 }) : adam(rateOf(optimizer)),
      loss: classes ? crossEntropy : meanSquaredError,
      epochs: losses.length,
      batchSize: SAMPLES,
      shuffle: false,
    },
  );
  net.dispose();
  return history["loss"]!;
}

const rateOf = ({ learningRate }: Training["optimizer"]) => ({ learningRate });

/** Largest difference relative to Keras's loss. */
const farthest = (found: readonly number[], expected: readonly number[]) =>
  Math.max(...expected.map((loss, step) => Math.abs(found[step]! - loss) / loss));

test("there are ten of them, which learn", () => {
  expect(trainings).toHaveLength(10);
  for (const { name, losses } of trainings) {
    expect(losses, name).toHaveLength(20);
    expect(losses.at(-1), name).toBeLessThan(losses[0]!);
  }
});

describe("on the reference", () => {
  test.each(trainings)("$name", async (training) => {
    expect(farthest(await lossesOf(training, cpu), training.losses)).toBeLessThan(1e-9);
  });
});

describeProfiles((device) => {
  test.each(trainings)("$name", { timeout: 120_000 }, async (training) => {
    expect(farthest(await lossesOf(training, device()), training.losses)).toBeLessThan(1e-5);
  });
});
