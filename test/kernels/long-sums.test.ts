// Sums of many equal numbers, whose rounding errors are equal, too, and add up: wherever an operation makes such sums.
import { expect, it } from "vitest";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { full, ones, zeros } from "../../src/autograd/ops/create.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { l2Penalty } from "../../src/autograd/ops/penalty.js";
import { backward } from "../../src/autograd/tape.js";
import { crossEntropy, meanSquaredError } from "../../src/nn/losses.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { describeProfiles } from "../support.js";

const TENTH = Math.fround(0.1);

describeProfiles((device) => {
  async function expectAll(x: Tensor, value: number, rtol = 1e-6): Promise<void> {
    for (const found of await x.data()) {
      expect(Math.abs(found / value - 1), `${found} for ${value}`).toBeLessThan(rtol);
    }
  }

  it.each<[Shape]>([[[300_000, 4]], [[20_000, 3]], [[64, 40, 40, 32]]])("batch normalisation of %j", async (shape) => {
    const channels = shape.at(-1)!;
    const rows = shape.slice(0, -1).reduce((a, b) => a * b);
    // The first row, from which differences are taken, is not like the others.
    const values = Float32Array.from({ length: rows * channels }, (_, i) =>
      i < channels ? 0 : Math.floor(i / channels) % 2 === 0 ? 0.3 : 0.1,
    );
    const at = (c: number) => {
      let [mean, variance] = [0, 0];
      for (let r = 0; r < rows; r++) mean += values[r * channels + c]! / rows;
      for (let r = 0; r < rows; r++) variance += (values[r * channels + c]! - mean) ** 2 / rows;
      return { mean, variance };
    };
    const { mean, variance } = at(0);
    const [gamma, beta] = [ones(device(), [channels]), zeros(device(), [channels])];
    const [runningMean, runningVariance] = [zeros(device(), [channels]), zeros(device(), [channels])];
    for (const t of [gamma, beta]) t.requiresGrad = true;
    const y = batchNorm(tensor(device(), values, { shape }), {
      ...{ gamma, beta, runningMean, runningVariance, training: true, momentum: 0 },
    });
    backward(y, { gradient: full(device(), shape, 0.1) });
    await expectAll(runningMean, mean);
    await expectAll(runningVariance, variance);
    await expectAll(beta.grad!, rows * TENTH);
  });

  it("bias gradients", async () => {
    for (const activation of ["linear", "relu"] as const) {
      const bias = ones(device(), [40]);
      bias.requiresGrad = true;
      const kernel = zeros(device(), [36, 40]);
      kernel.requiresGrad = true;
      const y = matmul(ones(device(), [20_000, 36]), kernel, { bias, activation });
      backward(y, { gradient: full(device(), y.shape, 0.1) });
      await expectAll(bias.grad!, 20_000 * TENTH);
    }
    for (const [x, kernelShape] of [
      [
        [64, 26, 26, 3],
        [3, 3, 3, 8],
      ],
      [
        [32, 28, 28, 32],
        [3, 3, 32, 32],
      ],
    ] as const) {
      const [kernel, bias] = [zeros(device(), kernelShape), zeros(device(), [kernelShape[3]])];
      kernel.requiresGrad = true;
      bias.requiresGrad = true;
      const y = conv2d(ones(device(), x), kernel, { bias });
      backward(y, { gradient: full(device(), y.shape, 0.1) });
      // Winograd's sums over tiles are of numbers that its transforms have rounded.
      await expectAll(bias.grad!, (y.size / kernelShape[3]) * TENTH, 2e-6);
    }
  });

  it("penalties and losses", async () => {
    const w = full(device(), [3_000_001], 0.1);
    await expectAll(l2Penalty([{ tensor: w, factor: 0.5 }]), 0.5 * 3_000_001 * TENTH * TENTH);
    const ids = tensor(device(), new Int32Array(50_000));
    await expectAll(crossEntropy(zeros(device(), [50_000, 3]), ids), Math.log(3));
    await expectAll(crossEntropy(zeros(device(), [2000, 2]), tensor(device(), new Int32Array(2000))), Math.log(2));
    const [p, t] = [full(device(), [50_000, 7], 0.1), zeros(device(), [50_000, 7])];
    await expectAll(meanSquaredError(p, t), TENTH * TENTH);
  });
});
