// Training as a whole: the same seed gives the same bits, memory stays flat, gradients that nobody asked for cost
// nothing.
import { describe, expect, it } from "vitest";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { mean } from "../../src/autograd/ops/reduce.js";
import { softmaxCrossEntropy } from "../../src/autograd/ops/softmax.js";
import { sequential } from "../../src/nn/architecture.js";
import { batchNorm } from "../../src/nn/layers/batch-norm.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { dropout } from "../../src/nn/layers/dropout.js";
import { maxPool2d } from "../../src/nn/layers/pooling.js";
import { crossEntropy } from "../../src/nn/losses.js";
import type { Model } from "../../src/nn/model.js";
import { adam } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles } from "../support.js";

const BATCH = 9;

/** Every kind of layer with weights or random numbers. */
function build(device: Device): Model {
  return sequential({ name: "small", inputShape: [10, 10, 1], device, seed: 5 }, [
    conv2d({ filters: 6, kernelSize: 3, useBias: false }),
    batchNorm(),
    activation("relu"),
    maxPool2d(2),
    conv2d({ filters: 8, kernelSize: 2, activation: "relu" }),
    flatten(),
    dropout(0.3),
    dense({ units: 7, activation: "tanh" }),
    dense({ units: 4, activation: "softmax" }),
  ]);
}

function batchOf(device: Device, random: RandomStream): [Tensor, Tensor] {
  const images = Float32Array.from({ length: BATCH * 100 }, () => random.uniform());
  const labels = Int32Array.from({ length: BATCH }, () => random.integer(4));
  return [tensor(device, images, { shape: [BATCH, 10, 10, 1] }), tensor(device, labels)];
}

/** Trains a new model; `each` sees the device after every step. Returns its weights, after freeing everything. */
async function train(device: Device, steps: number, each: (step: number, loss: number) => void = () => {}) {
  const [model, optimizer, random] = [build(device), adam({ learningRate: 0.01 }), new RandomStream(3, "batches")];
  for (let i = 0; i < steps; i++) {
    const loss = scope(() => model.trainStep(...batchOf(device, random), { optimizer, loss: crossEntropy }));
    const value = await loss.item();
    loss.dispose();
    each(i, value);
  }
  const weights: Record<string, ArrayLike<number>> = {};
  for (const { name, tensor: weight } of model.weights()) weights[name] = await weight.data();
  optimizer.dispose();
  model.dispose();
  return weights;
}

describeProfiles((device) => {
  it("the same seed gives bit-equal weights", async () => {
    const [first, second] = [await train(device(), 20), await train(device(), 20)];
    expect(Object.keys(first).length).toBe(11);
    for (const [name, values] of Object.entries(first)) {
      expect([...new Uint32Array((values as Float32Array).buffer)], name).toEqual([
        ...new Uint32Array((second[name] as Float32Array).buffer),
      ]);
    }
  });

  it("losses follow the reference", async () => {
    const losses: [number[], number[]] = [[], []];
    await train(device(), 8, (_, loss) => losses[0].push(loss));
    await train(cpu, 8, (_, loss) => losses[1].push(loss));
    for (const [i, expected] of losses[1].entries()) expect(Math.abs(losses[0][i]! - expected)).toBeLessThan(1e-3);
  });

  it("live memory is flat after the second step, and peak memory soon", async () => {
    const live: number[] = [];
    const peak: number[] = [];
    await train(device(), 30, () => {
      live.push(device().memory().liveBytes);
      peak.push(device().memory().peakBytes);
    });
    expect(new Set(live.slice(1)).size).toBe(1);
    expect(new Set(peak.slice(4)).size).toBe(1);
  });

  it("optimising an input of a frozen model dispatches no weight gradient", async () => {
    const model = build(device());
    model.trainable = false;
    const [images, labels] = batchOf(device(), new RandomStream(1, "frozen"));
    const { liveCount } = device().memory();
    device().resetCounters();
    const { value, grad } = valueAndGrad((x: Tensor) => mean(softmaxCrossEntropy(model.logits(x), labels)))(images);
    const kernels = [...device().counters.byKernel.keys()];
    expect(kernels).toContain("conv2dInputGradient");
    expect(kernels).not.toContain("conv2dKernelGradient");
    expect(kernels).not.toContain("batchNormSums");
    // One product forward and one back for each of the two dense layers; a weight gradient would be a third.
    expect(device().counters.byKernel.get("matmul")).toBe(4);
    expect((await grad.data()).some((g) => g !== 0)).toBe(true);
    for (const t of [value, grad]) t.dispose();
    expect(device().memory().liveCount).toBe(liveCount);
    for (const t of [images, labels]) t.dispose();
    model.dispose();
  });
});

describe("the reference", () => {
  it("keeps nothing after training", async () => {
    const { liveCount } = cpu.memory();
    await train(cpu, 2);
    expect(cpu.memory().liveCount).toBe(liveCount);
  });
});
