// Loss scaling changes no bit of a training that needs none. It leaves out steps whose gradients are not finite, and
// adjusts its scale, all without reading anything. `fit` uses it on devices of mixed precision.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { add, mul, square, sub } from "../../src/autograd/ops/elementwise.js";
import { mean } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import { findNonFiniteKernel } from "../../src/kernels/loss-scaling.js";
import { sequential } from "../../src/nn/architecture.js";
import { dense } from "../../src/nn/layers/dense.js";
import { LossScaler, type LossScalingOptions } from "../../src/nn/loss-scaling.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { adam, type Optimizer, sgd } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { runInto, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

/** Two parameters, one of them fitted to targets that a step may poison; the values of all state after the steps. */
async function train(
  device: Device,
  { optimizer, factors, scaling }: { optimizer: Optimizer; factors: readonly number[]; scaling?: LossScalingOptions },
) {
  const random = new RandomStream(5, "loss scaling");
  const [a, b] = [3001, 70].map((size) => {
    const t = tensor(
      device,
      Float32Array.from({ length: size }, () => random.normal()),
    );
    t.requiresGrad = true;
    return t;
  }) as [ReturnType<typeof tensor>, ReturnType<typeof tensor>];
  const scaler = scaling && new LossScaler(device, scaling);
  for (const factor of factors) {
    scope(() => {
      // The gradient of b alone is multiplied by the factor.
      const loss = add(mean(square(sub(a, 1))), mean(mul(square(b), tensor(device, factor))));
      if (scaler === undefined) {
        backward(loss);
        optimizer.step([a, b]);
      } else {
        backward(loss, { gradient: scaler.scale });
        scaler.step(optimizer, [a, b]);
      }
    });
  }
  const values: number[][] = [];
  for (const t of [a, b, ...[a, b].flatMap((p) => optimizer.slotTensors(p).map((slot) => slot.tensor))]) {
    values.push([...(await t.data())]);
  }
  return { values, report: await scaler?.report() };
}

const makers: Record<string, () => Optimizer> = {
  sgd: () => sgd({ learningRate: 0.1 }),
  "sgd with momentum": () => sgd({ learningRate: 0.1, momentum: 0.9 }),
  adam: () => adam({ learningRate: 0.01 }),
};

/** What holds on every device. */
function onDevice(device: () => Device): void {
  it.each(Object.keys(makers))("%s: changes no bit where all gradients are finite", async (name) => {
    const factors = [1, 2, 3, 1, 0.5];
    const plain = await train(device(), { optimizer: makers[name]!(), factors });
    const scaled = await train(device(), { optimizer: makers[name]!(), factors, scaling: { interval: 3 } });
    expect(scaled.values).toEqual(plain.values);
    expect(scaled.report).toEqual({ scale: 2 ** 17, skippedSteps: 0 });
  });

  it.each(Object.keys(makers))("%s: a step with a gradient that is not finite changes nothing", async (name) => {
    for (const bad of [Number.POSITIVE_INFINITY, Number.NaN]) {
      const before = await train(device(), { optimizer: makers[name]!(), factors: [1, 2], scaling: {} });
      const after = await train(device(), { optimizer: makers[name]!(), factors: [1, 2, bad, bad], scaling: {} });
      expect(after.values).toEqual(before.values);
      expect(after.report).toEqual({ scale: 2 ** 14, skippedSteps: 2 });
    }
  });

  it("goes on after a step that was left out, with a scale that grows anew", async () => {
    const optimizer = () => sgd({ learningRate: 0.1 });
    const scaling = { initialScale: 8, interval: 2, growth: 4, backoff: 0.25 };
    const without = await train(device(), { optimizer: optimizer(), factors: [1, 2, 3] });
    const found = await train(device(), { optimizer: optimizer(), factors: [1, Number.NaN, 2, 3], scaling });
    expect(found.values).toEqual(without.values);
    expect(found.report).toEqual({ scale: 8, skippedSteps: 1 });
  });
}

/** What holds on every device of gradients that are gathered over two steps. */
function onDeviceGathering(device: () => Device): void {
  const makers: Record<string, () => Optimizer> = {
    sgd: () => sgd({ learningRate: 0.1, gradientAccumulationSteps: 2 }),
    "adam with a norm": () => adam({ learningRate: 0.01, gradientAccumulationSteps: 2, globalClipNorm: 0.5 }),
    "sgd with limits": () => sgd({ learningRate: 0.1, gradientAccumulationSteps: 2, clipValue: 1e-3 }),
  };

  it.each(Object.keys(makers))("%s: gathered gradients are as without a scale", async (name) => {
    const factors = [1, 2, 3, 1, 0.5, 2, 1];
    const plain = await train(device(), { optimizer: makers[name]!(), factors });
    const scaled = await train(device(), { optimizer: makers[name]!(), factors, scaling: { interval: 2 } });
    expect(scaled.values).toEqual(plain.values);
    // Three changes.
    expect(scaled.report).toEqual({ scale: 2 ** 17, skippedSteps: 0 });
  });

  it.each(Object.keys(makers))("%s: one that is not finite costs all that it is gathered with", async (name) => {
    for (const bad of [Number.POSITIVE_INFINITY, Number.NaN]) {
      const without = await train(device(), { optimizer: makers[name]!(), factors: [1, 2], scaling: {} });
      for (const lost of [
        [bad, 3],
        [3, bad],
        [bad, bad],
      ]) {
        const factors = [...lost, 1, 2];
        const optimizer = makers[name]!();
        // The bias corrections of Adam count a change that was left out.
        if (name.startsWith("adam")) continue;
        const found = await train(device(), { optimizer, factors, scaling: {} });
        expect(found.values, `${lost}`).toEqual(without.values);
        expect(found.report).toEqual({ scale: 2 ** 15, skippedSteps: 1 });
      }
    }
  });
}

describe("on the reference", () => {
  onDevice(() => cpu);
  onDeviceGathering(() => cpu);

  it("keeps the scale within its limits", async () => {
    const optimizer = () => sgd();
    const down = await train(cpu, {
      optimizer: optimizer(),
      factors: [Number.NaN, Number.NaN],
      scaling: { initialScale: 2 ** -13 },
    });
    expect(down.report!.scale).toBe(2 ** -14);
    const up = await train(cpu, {
      optimizer: optimizer(),
      factors: [1, 1],
      scaling: { initialScale: 2 ** 23, interval: 1 },
    });
    expect(up.report!.scale).toBe(2 ** 24);
  });

  it("names options that make no sense", () => {
    for (const [name, value] of Object.entries({ initialScale: 0, growth: 1, backoff: 1, interval: 0.5 })) {
      expect(() => new LossScaler(cpu, { [name]: value })).toThrow(UsageError);
      expect(() => new LossScaler(cpu, { [name]: value })).toThrow(new RegExp(`${name} must be .*, got ${value}$`));
    }
  });
});

describeProfiles((device) => {
  onDevice(device);
  onDeviceGathering(device);

  it("looks at every element of gradients, many of them and larger than a binding", async () => {
    for (const d of [device(), withSmallBindings(device(), 1024)]) {
      const found = tensor(d, [0]);
      const gradients = Array.from({ length: 40 }, (_, k) => tensor(d, new Float32Array(20 * k + 1)));
      runInto(findNonFiniteKernel, gradients, [found], {});
      expect([...(await found.data())]).toEqual([0]);
      for (const [k, at] of [
        [0, 0],
        [39, 780],
        [39, 300],
        [17, 64],
      ] as const) {
        const values = new Float32Array(20 * k + 1);
        values[at] = Number.NEGATIVE_INFINITY;
        gradients[k]!.assign(values);
        found.assign([0]);
        runInto(findNonFiniteKernel, gradients, [found], {});
        expect([...(await found.data())], `gradient ${k}, element ${at}`).toEqual([1]);
        gradients[k]!.assign(new Float32Array(20 * k + 1));
      }
      for (const t of [found, ...gradients]) t.dispose();
    }
  });

  it("fit scales on a device of mixed precision, in replayed steps too, to the same bits", async () => {
    const plain = await fitted(device(), {});
    // What it computes with is not asked here.
    Object.assign(device(), { precision: "mixed" });
    try {
      device().resetCounters();
      expect(await fitted(device(), {})).toEqual(plain);
      expect(device().counters.byKernel.get("adjustScale")).toBe(12);
      device().resetCounters();
      expect(await fitted(device(), { lossScaling: false })).toEqual(plain);
      expect(device().counters.byKernel.get("adjustScale")).toBeUndefined();
    } finally {
      Object.assign(device(), { precision: "float32" });
    }
  });
});

/** Weights after 12 steps of a small model. */
async function fitted(device: Device, options: Partial<FitOptions>): Promise<number[][]> {
  const model = sequential({ device, seed: 3, inputShape: [6] }, [
    dense({ units: 8, activation: "tanh" }),
    dense({ units: 3, activation: "softmax" }),
  ]);
  const random = new RandomStream(1, "fit");
  const optimizer = adam();
  try {
    await model.fit(
      {
        inputs: Float32Array.from({ length: 16 * 6 }, () => random.normal()),
        targets: Int32Array.from({ length: 16 }, () => random.integer(3)),
      },
      { optimizer, loss: crossEntropy, batchSize: 4, epochs: 3, ...options },
    );
    const values: number[][] = [];
    for (const { tensor: weight } of model.weights()) values.push([...(await weight.data())]);
    return values;
  } finally {
    model.dispose();
    optimizer.dispose();
  }
}

describe("checkpoints", () => {
  class MixedCpu extends CpuDevice {
    override readonly precision = "mixed";
  }

  it("hold gradients that are gathered, and whether one of them was not finite", async () => {
    const folder = await mkdtemp(join(tmpdir(), "kilograd-gathering-"));
    try {
      for (const poisoned of [undefined, 6, 7]) {
        const options = (): Partial<FitOptions> => ({
          optimizer: adam({ gradientAccumulationSteps: 3, clipNorm: 0.2 }),
          ...(poisoned !== undefined && {
            perturb: (x, _, { step }) => (step() === poisoned ? mul(x, Number.POSITIVE_INFINITY) : x),
          }),
        });
        const whole = await fitted(new MixedCpu(), options());
        for (const maxSteps of [6, 7, 8, 9]) {
          const path = join(folder, `${poisoned}-${maxSteps}.safetensors`);
          await fitted(new MixedCpu(), { ...options(), checkpoint: { path }, maxSteps });
          expect(await fitted(new MixedCpu(), { ...options(), resume: path }), `${poisoned}, ${maxSteps}`).toEqual(
            whole,
          );
        }
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("hold the scale and its counters", async () => {
    const folder = await mkdtemp(join(tmpdir(), "kilograd-scaling-"));
    const path = join(folder, "training.safetensors");
    const lossScaling = { interval: 5 };
    try {
      const whole = await fitted(new MixedCpu(), {
        lossScaling,
        checkpoint: { path: join(folder, "whole.safetensors") },
      });
      await fitted(new MixedCpu(), { lossScaling, checkpoint: { path }, maxSteps: 7 });
      expect(await fitted(new MixedCpu(), { lossScaling, resume: path, checkpoint: { path } })).toEqual(whole);
      const { readModelFile } = await import("../../src/nn/checkpoint.js");
      const slots = (await readModelFile(path)).slots;
      // 12 good steps of which every fifth doubles.
      expect([...slots.get("loss_scaling/scale")!.data]).toEqual([2 ** 18]);
      expect([...slots.get("loss_scaling/steps")!.data]).toEqual([2, 0]);
      await expect(fitted(new CpuDevice(), { resume: path })).rejects.toThrow(
        "the device's precision must be as before, mixed, got float32",
      );
      await fitted(new CpuDevice(), { checkpoint: { path }, maxSteps: 7 });
      await expect(fitted(new MixedCpu(), { resume: path })).rejects.toThrow(
        "the device's precision must be as before, float32, got mixed",
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
