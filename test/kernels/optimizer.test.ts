// Optimizer steps: golden values, GPU against the float64 reference over many steps, windows, no recompilation.
import { describe, expect, it, vi } from "vitest";
import { zerosLike } from "../../src/autograd/ops/create.js";
import * as rules from "../../src/kernels/optimizer-rules.js";
import type { Device } from "../../src/tensor/device.js";
import type { Kernel } from "../../src/tensor/kernel.js";
import { RandomStream } from "../../src/tensor/random.js";
import { runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

const adamDefaults = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, weightDecay: 0 };
/** What a step hands to the kernel of this name. */
type Step = Readonly<Record<string, rules.RuleParams & Readonly<Record<string, unknown>>>>;
const optimizers: Record<string, { slots: number; step: (t: number) => Step }> = {
  sgd: { slots: 0, step: () => ({ sgd: { learningRate: 0.1 } }) },
  "sgd with weight decay": { slots: 0, step: () => ({ sgd: { learningRate: 0.1, weightDecay: 0.01 } }) },
  "sgd with momentum": { slots: 1, step: () => ({ sgd: { learningRate: 0.05, momentum: 0.9, weightDecay: 0.01 } }) },
  "sgd with Nesterov's momentum": {
    slots: 1,
    step: (t) => ({ sgd: { learningRate: 0.05 / t, momentum: 0.9, nesterov: true } }),
  },
  "sgd with an average": {
    slots: 1,
    step: (t) => ({ sgd: { learningRate: 0.1, newAverage: t === 1 ? 1 : 0.1 } }),
  },
  "momentum with an average": {
    slots: 2,
    step: (t) => ({ sgd: { learningRate: 0.1, momentum: 0.9, newAverage: t === 1 ? 1 : 0.1 } }),
  },
  "adam with an average": {
    slots: 3,
    step: (t) => ({ adam: { ...adamDefaults, step: t, newAverage: t === 1 ? 1 : 0.01 } }),
  },
  adam: { slots: 2, step: (t) => ({ adam: { ...adamDefaults, step: t } }) },
  "adamW with a schedule": {
    slots: 2,
    step: (t) => ({ adam: { ...adamDefaults, learningRate: 0.01 / t, weightDecay: 0.1, step: t } }),
  },
  nadam: { slots: 2, step: (t) => ({ nadam: { ...adamDefaults, step: t } }) },
  "adamax with limited elements": { slots: 2, step: (t) => ({ adamax: { ...adamDefaults, step: t, clipValue: 0.5 } }) },
  rmsprop: {
    slots: 1,
    step: () => ({ rmsprop: { learningRate: 0.01, rho: 0.9, momentum: 0, epsilon: 1e-7, centered: false } }),
  },
  "centered rmsprop with momentum": {
    slots: 3,
    step: () => ({ rmsprop: { learningRate: 1e-3, rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true } }),
  },
  adagrad: { slots: 1, step: () => ({ adagrad: { learningRate: 0.01, epsilon: 1e-7, weightDecay: 0.1 } }) },
  adadelta: { slots: 2, step: () => ({ adadelta: { learningRate: 1, rho: 0.95, epsilon: 1e-7 } }) },
  lion: { slots: 1, step: () => ({ lion: { learningRate: 1e-3, beta1: 0.9, beta2: 0.99 } }) },
  "lion in every other step": {
    slots: 1,
    step: (t) => ({ lion: { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, due: t % 2 === 0 } }),
  },
};

/** Runs the kernel that the params are for. */
function runRule(step: Step, gradients: readonly Tensor[], state: readonly Tensor[]): void {
  const [name, params] = Object.entries(step)[0]!;
  const kernels = rules as unknown as Readonly<Record<string, Kernel<rules.RuleParams>>>;
  runInto(kernels[`${name}Kernel`]!, gradients, state, params);
}

/** Parameter and slots after steps with the given gradients. */
async function train(device: Device, name: string, start: Float32Array, gradients: readonly Float32Array[]) {
  const { slots, step } = optimizers[name]!;
  const parameter = tensor(device, start);
  const state = [parameter, ...Array.from({ length: slots }, () => zerosLike(parameter))];
  for (const [i, gradient] of gradients.entries()) {
    const params = step(i + 1);
    const g = tensor(device, gradient);
    runRule(params, [g], state);
    g.dispose();
  }
  return Promise.all(state.map(async (t) => Float64Array.from(await t.data())));
}

const random = new RandomStream(9, "optimizer");
const normals = (size: number) => Float32Array.from({ length: size }, () => random.normal());

describeProfiles((device) => {
  it.each(Object.keys(optimizers))("%s follows the reference", async (name) => {
    for (const size of [1, 7, 1000, 3001]) {
      const start = normals(size);
      const gradients = Array.from({ length: 12 }, () => normals(size));
      const expected = await train(cpu, name, start, gradients);
      for (const d of [device(), withSmallBindings(device(), 1024)]) {
        const found = await train(d, name, start, gradients);
        for (const [k, values] of expected.entries()) {
          // Sums of squares grow.
          const off = (value: number, i: number) => Math.abs(value - found[k]![i]!) / Math.max(1, Math.abs(value));
          const worst = values.reduce((most, value, i) => Math.max(most, off(value, i)), 0);
          expect(worst, `${name}, output ${k}, ${size} elements`).toBeLessThan(3e-6);
        }
      }
    }
  });

  it("a changed learning rate or step compiles nothing", async () => {
    for (const name of Object.keys(optimizers)) {
      await train(device(), name, normals(50), [normals(50)]);
      const compile = vi.spyOn(device().gpu, "createShaderModule");
      await train(device(), name, normals(50), [normals(50), normals(50), normals(50)]);
      expect(compile, name).not.toHaveBeenCalled();
      compile.mockRestore();
    }
  });

  it.each(Object.keys(optimizers))("%s: many tensors in few dispatches, bit for bit as one by one", async (name) => {
    const sizes = [1, 3001, 7, 64, 2500, 10, 1, 129, 1000, 5, 300];
    const { slots, step } = optimizers[name]!;
    for (const d of [device(), withSmallBindings(device(), 4096), cpu]) {
      const starts = sizes.map(normals);
      const gradients = sizes.map((size) => Array.from({ length: 3 }, () => normals(size)));
      const expected: Float64Array[] = [];
      for (const [k, start] of starts.entries()) expected.push(...(await train(d, name, start, gradients[k]!)));
      const state = starts.flatMap((start) => {
        const parameter = tensor(d, start);
        return [parameter, ...Array.from({ length: slots }, () => zerosLike(parameter))];
      });
      const before = d.counters.dispatches;
      for (const t of [1, 2, 3]) {
        const params = step(t);
        const now = gradients.map((g) => tensor(d, g[t - 1]!));
        runRule(params, now, state);
      }
      const each = (d.counters.dispatches - before) / 3;
      const most = (length: number) => Math.ceil(length / Math.floor(device().profile.maxStorageBuffers / (2 + slots)));
      if (d === device()) expect(each).toBe(most(sizes.length));
      // Two tensors take three windows each, which four times part a dispatch.
      else if (d !== cpu) expect(each).toBeLessThanOrEqual(most(sizes.length + 4) + 4);
      for (const [k, t] of state.entries()) expect(Float64Array.from(await t.data()), `${k}`).toEqual(expected[k]);
    }
  });
});

it("every rule is among them", () => {
  const names = Object.values(optimizers).flatMap(({ step }) => Object.keys(step(1)));
  const all = Object.keys(rules).map((name) => name.replace(/Kernel$/, ""));
  expect([...new Set(names)].sort()).toEqual(all.sort());
});

describe("the reference", () => {
  const start = Float32Array.of(1, -2, 0.5);
  const gradients = [Float32Array.of(0.5, -1, 0), Float32Array.of(0.25, 3, -1)];

  it("sgd: w - learningRate g, and momentum by hand", async () => {
    expect(await train(cpu, "sgd", start, gradients)).toEqual([
      Float64Array.of(1 - 0.1 * 0.5 - 0.1 * 0.25, -2 + 0.1 - 0.1 * 3, 0.5 + 0.1),
    ]);
    const [w, m] = await train(cpu, "sgd with Nesterov's momentum", start, gradients);
    const m1 = -0.05 * 0.5;
    const m2 = 0.9 * m1 - 0.025 * 0.25;
    expect(m![0]).toBeCloseTo(m2, 14);
    expect(w![0]).toBeCloseTo(1 + (0.9 * m1 - 0.05 * 0.5) + (0.9 * m2 - 0.025 * 0.25), 14);
  });

  it("an average: of the parameters after each step, from the first step's on", async () => {
    const [w, average] = await train(cpu, "sgd with an average", start, gradients);
    const first = [1 - 0.1 * 0.5, -2 + 0.1, 0.5];
    for (const [i, value] of first.entries()) expect(average![i]).toBeCloseTo(0.9 * value + 0.1 * w![i]!, 14);
    expect(w).toEqual((await train(cpu, "sgd", start, gradients))[0]);
  });

  it("adam: with a constant gradient each step is learningRate, whatever the gradient's size", async () => {
    for (const size of [0.1, 1, 1e4]) {
      const [w] = await train(
        cpu,
        "adam",
        Float32Array.of(0),
        [1, 2, 3, 4].map(() => Float32Array.of(size)),
      );
      expect(w![0]).toBeCloseTo(-0.004, 5);
    }
  });

  it("adam: two steps by the textbook's bias-corrected form", async () => {
    let [m, v, w] = [0, 0, 1];
    for (const [k, g] of [0.5, 0.25].entries()) {
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const correction = Math.sqrt(1 - 0.999 ** (k + 1));
      w -= (1e-3 * (m / (1 - 0.9 ** (k + 1)))) / (Math.sqrt(v) / correction + 1e-7 / correction);
    }
    const found = await train(cpu, "adam", start, gradients);
    expect(found[0]![0]).toBeCloseTo(w, 14);
    expect(found[1]![0]).toBeCloseTo(m, 14);
    expect(found[2]![0]).toBeCloseTo(v, 14);
  });

  it("adamW: decays by learningRate weightDecay apart from the gradient", async () => {
    const [w] = await train(cpu, "adamW with a schedule", Float32Array.of(2), [Float32Array.of(0)]);
    expect(w![0]).toBeCloseTo(2 * (1 - 0.01 * 0.1), 14);
  });
});
