// The classifier of digits that tests of this folder optimise inputs for, attack and explain. No tests in here.
import { digits } from "../../src/data/digits.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import { crossEntropy } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";

/** Values of one image. */
export const SIZE = 28 * 28;

export const { train, test: held } = digits({ seed: 1, trainCount: 1500, testCount: 60 });

/** With dropout, which is to do nothing here. */
export function smallModel(device: Device, seed = 3): Model {
  return sequential({ device, seed, inputShape: [28, 28, 1] }, [
    conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
    maxPool2d(2),
    flatten(),
    dropout(0.2),
    dense({ units: 10, activation: "softmax" }),
  ]);
}

export async function trainedModel(device: Device): Promise<Model> {
  const model = smallModel(device);
  await model.fit(train, { optimizer: adam({ learningRate: 3e-3 }), loss: crossEntropy, epochs: 2 });
  return model;
}

/** The same weights on another device, or with the last layer's times a factor. */
export async function copyOf(model: Model, device: Device, factor = 1): Promise<Model> {
  const copy = smallModel(device);
  const weights = model.weights();
  for (const [i, { name, tensor }] of copy.weights().entries()) {
    const values = Float32Array.from(await weights[i]!.tensor.data());
    tensor.assign(name.startsWith("dense") ? values.map((value) => value * factor) : values);
  }
  return copy;
}
