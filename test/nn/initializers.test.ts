// Initial values: fans and scales as Keras has them, distributions, and where the numbers come from.
import { expect, test } from "vitest";
import { fansOf, type InitializerName, initialize, initializerOf, normal, uniform } from "../../src/nn/initializers.js";
import { randomKey } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { describeDevices, small, weightsOf } from "./small.js";

test("fans as Keras counts them", () => {
  expect(fansOf([784, 64])).toEqual({ fanIn: 784, fanOut: 64 });
  expect(fansOf([3, 5, 8, 16])).toEqual({ fanIn: 120, fanOut: 240 });
  expect(fansOf([7])).toEqual({ fanIn: 7, fanOut: 7 });
});

/**
 * First values of the small network's dense_1/kernel [8, 4] with seed 1, from a Threefry-2x32 written in Python: key
 * (1, FNV-1a of the name), counter 0 and 1; (bits >> 8) 2^-24 on +-sqrt(6 / 12) in float32.
 */
const FIRST_OF_SEED_1 = [-0.09821397066116333, -0.40960532426834106, -0.5149323344230652];

const shape: Shape = [3, 3, 20, 40]; // fanIn 180, fanOut 360, 7200 values.

describeDevices((device) => {
  const values = async (name: InitializerName | ReturnType<typeof uniform>) => {
    const tensor = initialize(device(), shape, initializerOf(name), randomKey(3, "layer/kernel"));
    const data = Array.from(await tensor.data());
    tensor.dispose();
    return data;
  };

  test.each<[InitializerName, limit: number]>([
    ["glorotUniform", Math.sqrt(6 / 540)],
    ["heUniform", Math.sqrt(6 / 180)],
    ["lecunUniform", Math.sqrt(3 / 180)],
    ["uniform", 0.05],
  ])("%s fills its interval evenly", async (name, limit) => {
    const data = await values(name);
    expect(Math.max(...data)).toBeGreaterThan(0.995 * limit);
    expect(Math.max(...data.map(Math.abs))).toBeLessThanOrEqual(limit * (1 + 1e-6));
    for (const quarter of [-0.5, 0, 0.5]) {
      const below = data.filter((x) => x < quarter * limit).length / data.length;
      expect(below).toBeCloseTo((1 + quarter) / 2, 1.5);
    }
  });

  test.each<[InitializerName, deviation: number, cut: number]>([
    ["glorotNormal", Math.sqrt(2 / 540), 2],
    ["heNormal", Math.sqrt(2 / 180), 2],
    ["lecunNormal", Math.sqrt(1 / 180), 2],
    ["normal", 0.05, Number.POSITIVE_INFINITY],
  ])("%s has its standard deviation", async (name, deviation, cut) => {
    const data = await values(name);
    const mean = data.reduce((a, b) => a + b) / data.length;
    const variance = data.reduce((sum, x) => sum + (x - mean) ** 2, 0) / data.length;
    expect(Math.abs(mean)).toBeLessThan((4 * deviation) / Math.sqrt(data.length));
    expect(Math.sqrt(variance) / deviation).toBeCloseTo(1, 1.5);
    // Keras widens the normal that it cuts off at two of its deviations by 1 / 0.8796.
    const largest = Math.max(...data.map(Math.abs)) / deviation;
    if (Number.isFinite(cut)) expect(largest).toBeLessThanOrEqual(cut / 0.8796);
    else expect(largest).toBeGreaterThan(3);
  });

  test("constants", async () => {
    expect(new Set(await values("zeros"))).toEqual(new Set([0]));
    expect(new Set(await values("ones"))).toEqual(new Set([1]));
  });

  test("parameters", async () => {
    const wide = await values(uniform({ minimum: 2, maximum: 3 }));
    expect([Math.min(...wide) >= 2, Math.max(...wide) < 3]).toEqual([true, true]);
    const shifted = await values(normal({ mean: 10, standardDeviation: 0.1 }));
    expect(shifted.reduce((a, b) => a + b) / shifted.length).toBeCloseTo(10, 1.5);
  });

  test("one seed gives every weight a stream of its own", async () => {
    const [first, again, other] = [1, 1, 2].map((seed) => small().build({ device: device(), seed }));
    const [a, b, c] = [await weightsOf(first!), await weightsOf(again!), await weightsOf(other!)];
    expect(b).toEqual(a);
    expect(c["dense/kernel"]).not.toEqual(a["dense/kernel"]);
    expect(a["dense/kernel"]!.slice(0, 4)).not.toEqual(a["dense_1/kernel"]!.slice(0, 4));
    expect(a["dense/bias"]).toEqual(new Array(8).fill(0));
    expect(a["batch_normalization/movingVariance"]).toEqual([1, 1, 1, 1]);
    expect(a["dense_1/kernel"]!.slice(0, 3)).toEqual(FIRST_OF_SEED_1);
    for (const model of [first, again, other]) model!.dispose();
  });
});
