// What the tests of nn share: both devices, a task that small networks learn in seconds, and small networks. No tests
// here.
import { afterAll, beforeAll, describe } from "vitest";
import { type Architecture, architecture } from "../../src/nn/architecture.js";
import type { Layer } from "../../src/nn/layer.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import type { Model } from "../../src/nn/model.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { openDevice } from "../../src/webgpu/open-device.js";

/** Describes `body` on the reference and on the adapter. */
export function describeDevices(body: (device: () => Device, kind: "cpu" | "webgpu") => void): void {
  describe.each(["cpu", "webgpu"] as const)("%s", (kind) => {
    let device: Device;
    beforeAll(async () => {
      device = await openDevice(kind);
    });
    afterAll(() => device.destroy());
    body(() => device, kind);
  });
}

/** Images [6, 6, 1] of noise with one brighter row; the class says which of the first four. */
export function stripes(count: number, seed = 1) {
  const random = new RandomStream(seed, "stripes");
  const inputs = new Float32Array(count * 36);
  const targets = new Int32Array(count);
  for (let n = 0; n < count; n++) {
    const label = (targets[n] = random.integer(4));
    for (let i = 0; i < 36; i++) {
      inputs[n * 36 + i] = 0.5 * random.uniform() + (Math.floor(i / 6) === label ? 0.5 : 0);
    }
  }
  return { inputs, targets };
}

const relu = { activation: "relu" } as const;

/** A network with every kind of layer that training treats in its own way. */
export const smallLayers = (): Layer[] => [
  conv2d({ filters: 4, kernelSize: 3, ...relu }),
  batchNorm({ momentum: 0.9 }),
  maxPool2d(2),
  flatten(),
  dense({ units: 8, kernelL2: 1e-3, ...relu }),
  dropout(0.25),
  dense({ units: 4, activation: "softmax" }),
];

export const small = (): Architecture => architecture({ inputShape: [6, 6, 1], name: "small" }, smallLayers());

/** Quick on the reference: no convolution. */
export const plain = (): Architecture =>
  architecture({ inputShape: [6, 6, 1], name: "plain" }, [
    flatten(),
    dense({ units: 8, ...relu }),
    dropout(0.25),
    dense({ units: 4, activation: "softmax" }),
  ]);

/** All weights by name, as plain arrays. */
export async function weightsOf(model: Model): Promise<Record<string, number[]>> {
  const entries: [string, number[]][] = [];
  for (const { name, tensor } of model.weights()) entries.push([name, Array.from(await tensor.data())]);
  return Object.fromEntries(entries);
}
