// L2 penalties of many tensors: their formula, gradients, and how they are cut into dispatches.
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { mul } from "../../src/autograd/ops/elementwise.js";
import { l2Penalty } from "../../src/autograd/ops/penalty.js";
import { backward } from "../../src/autograd/tape.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectParity, randomInput, withSmallBindings } from "../support.js";

const FACTORS = [0.5, 1e-3, 2, 0.01, 3];
const penalty = (...tensors: Parameters<typeof l2Penalty>[0][number]["tensor"][]) =>
  l2Penalty(tensors.map((t, k) => ({ tensor: t, factor: FACTORS[k % FACTORS.length]! })));

describe("l2Penalty on the CPU", () => {
  it("adds factors times sums of squares, and passes gradcheck", async () => {
    const [a, b] = [tensor(cpu, [1, -2]), tensor(cpu, [3], { shape: [1, 1] })];
    expect(await penalty(a, b).item()).toBeCloseTo(0.5 * 5 + 1e-3 * 9, 14);
    const stream = new RandomStream(1, "penalty");
    const inputs = [[3, 4], [7], [2, 1, 3]].map((shape) => randomInput(stream, shape));
    await gradcheck((...tensors) => mul(penalty(...tensors), 1.5), inputs);
  });

  it("leaves out tensors that are not trained", async () => {
    const [a, b, c] = [tensor(cpu, [1, -2]), tensor(cpu, [5]), tensor(cpu, [3])];
    a.requiresGrad = true;
    c.requiresGrad = true;
    backward(penalty(a, b, c));
    expect([...(await a.grad!.data())]).toEqual([1, -2]);
    expect(b.grad).toBeNull();
    expect([...(await c.grad!.data())]).toEqual([12]);
  });

  it("refuses to add nothing", () => {
    expect(() => l2Penalty([])).toThrow("l2Penalty: needs at least one term");
  });
});

describeProfiles((device) => {
  it("agrees on random shapes, whole and in windows", async () => {
    const stream = new RandomStream(2, "shapes");
    for (let round = 0; round < 6; round++) {
      const count = 1 + stream.integer(12);
      const inputs = Array.from({ length: count }, () =>
        randomInput(stream, [1 + stream.integer(40), 1 + stream.integer(stream.integer(3) ? 9 : 300)]),
      );
      await expectParity(device(), penalty, inputs);
      const large = randomInput(stream, [131, 151]);
      await expectParity(withSmallBindings(device(), 65_536), penalty, [...inputs, large]);
    }
  });

  it("never adds what lies beyond a tensor's end", async () => {
    // Memory that held large numbers is used again.
    tensor(device(), new Float32Array(64).fill(1e20)).dispose();
    const inputs = [1, 2, 3, 5].map((size) => randomInput(new RandomStream(size, "ends"), [size]));
    await expectParity(device(), penalty, inputs);
  });

  it("takes two dispatches forward and one back, whatever the number of tensors that fit", async () => {
    const leaves = [700, 31, 5].map((size) => tensor(device(), new Float32Array(size).fill(0.5)));
    for (const leaf of leaves) leaf.requiresGrad = true;
    const before = device().counters.dispatches;
    const loss = penalty(...leaves);
    const forward = device().counters.dispatches - before;
    backward(loss);
    expect([forward, device().counters.dispatches - before]).toEqual([2, 3]);
  });
});
