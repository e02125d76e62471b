// Profiles: what kernels are said to compute, in single calls and in steps that are replayed; ceilings; the table.
import { expect, test } from "vitest";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { zeros } from "../../src/autograd/ops/create.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { digits } from "../../src/data/digits.js";
import { measureCeilings, profileSteps, profileText } from "../../src/experiments/lib/training/profile.js";
import { architecture } from "../../src/nn/architecture.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import { scope } from "../../src/tensor/scope.js";
import { describeProfiles } from "../support.js";

describeProfiles((device) => {
  test("a call counts its formula's operations and its memory once, however many dispatches it takes", async () => {
    const x = zeros(device(), [2, 9, 9, 8]);
    const kernel = zeros(device(), [3, 3, 8, 16]);
    const [a, b] = [zeros(device(), [5, 33, 40]), zeros(device(), [40, 24])];
    const times = await device().timeDispatches(() =>
      scope(() => {
        for (let i = 0; i < 3; i++) matmul(a, b);
        conv2d(x, kernel);
      }),
    );
    const product = times.find((time) => time.kernel === "matmul")!;
    expect(product.calls).toBeCloseTo(3, 9);
    expect(product.flops).toBeCloseTo(3 * 2 * 5 * 33 * 40 * 24, 3);
    expect(product.bytes).toBeCloseTo(3 * 4 * (5 * 33 * 40 + 40 * 24 + 5 * 33 * 24), 3);
    expect(product.milliseconds).toBeGreaterThan(0);
    const convolution = times.find((time) => time.kernel === "conv2d")!;
    expect(convolution.calls).toBeCloseTo(1, 9);
    expect(convolution.flops).toBeCloseTo(2 * (2 * 7 * 7 * 16) * (3 * 3 * 8), 3);
    expect(convolution.outputs).toEqual([[2, 7, 7, 16]]);
    for (const t of [x, kernel, a, b]) t.dispose();
  });

  test("the steps of a training are told apart from what happens around them", async () => {
    // Units enough for a product to take longer than an empty dispatch, which is taken off.
    const model = architecture({ inputShape: [28, 28, 1] }, [flatten(), dense({ units: 400, activation: "softmax" })]);
    const built = model.build({ device: device(), seed: 1 });
    const { train } = digits({ trainCount: 64, testCount: 1 });
    const run = async (count: number) => {
      const optimizer = sgd({ learningRate: 0.1 });
      await built.fit(train, { optimizer, loss: crossEntropy, batchSize: 32, epochs: 99, maxSteps: count });
      optimizer.dispose();
    };
    const ceilings = { gflops: 100, gbs: 10 };
    const profile = await profileSteps(device(), { steps: 6, run, ceilings });
    // x W and x^T dz.
    expect(profile.flops).toBeCloseTo(2 * (2 * 32 * 784 * 400), -3);
    const products = profile.kernels.filter(({ kernel }) => kernel === "matmul");
    expect(products.map(({ calls }) => calls)).toEqual([expect.closeTo(1, 9), expect.closeTo(1, 9)]);
    expect(profile.kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
    expect(profile.emptyDispatchMs).toBeGreaterThan(0);
    // As if all were long enough to be shown: how long a product takes depends on what else the machine does.
    const kernels = profile.kernels.map((kernel) => ({ ...kernel, share: Math.max(kernel.share, 0.001) }));
    const lines = profileText({ ...profile, kernels }).split("\n");
    expect(lines[0]).toMatch(
      /^Kernels of a step: \d+\.\d\d ms in \d+ dispatches \(mean of 6 steps; ceilings 100 GFLOP\/s, 10\.0 GB\/s\)$/,
    );
    expect(lines.filter((line) => line.startsWith("matmul "))).toHaveLength(2);
    built.dispose();
  });

  test("ceilings are above what a product reaches", async () => {
    const ceilings = await measureCeilings(device());
    const [a, b] = [zeros(device(), [256, 256]), zeros(device(), [256, 256])];
    const [time] = await device().timeDispatches(() => scope(() => void matmul(a, b)));
    expect(ceilings.gflops).toBeGreaterThan(time!.flops! / time!.milliseconds / 1e6);
    expect(ceilings.gbs).toBeGreaterThan(0);
    for (const t of [a, b]) t.dispose();
  });
});
