// Random tensors: the same bits on both devices, and the distributions they claim.
import { describe, expect, it } from "vitest";
import {
  normalTable,
  normalTail,
  type RandomParams,
  randomBernoulliKernel,
  randomNormalKernel,
  randomUniformKernel,
} from "../../src/kernels/random.js";
import type { Device } from "../../src/tensor/device.js";
import type { Kernel } from "../../src/tensor/kernel.js";
import { RandomStream, randomKey, threefry } from "../../src/tensor/random.js";
import { empty, runInto } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

const key = randomKey(7, "test");

async function draw<P extends RandomParams>(device: Device, kernel: Kernel<P>, size: number, params: P) {
  const y = empty(device, [size]);
  runInto(kernel, [], [y], params);
  const values = await y.data();
  y.dispose();
  return Float64Array.from(values);
}

/** Float32 bit patterns; every value of the reference must be a float32 already. */
function bits(values: Float64Array): Uint32Array {
  const rounded = Float32Array.from(values);
  expect(values.every((value, i) => Object.is(value, rounded[i]))).toBe(true);
  return new Uint32Array(rounded.buffer);
}

/** Fails at the first difference; a diff of whole arrays says nothing. */
function expectSameBits(found: Float64Array, expected: Float64Array): void {
  const [a, b] = [bits(found), bits(expected)];
  expect(a.length).toBe(b.length);
  const index = a.findIndex((value, i) => value !== b[i]);
  expect(index === -1 ? "equal" : `element ${index}: ${found[index]} instead of ${expected[index]}`).toBe("equal");
}

/** Kernels with parameters that round in every way: no range is a power of two. */
const cases: [string, Kernel<RandomParams & Record<string, unknown>>, Record<string, number>][] = [
  ["uniform [0, 1)", randomUniformKernel as never, { low: 0, high: 1 }],
  ["uniform [-0.3, 1.7)", randomUniformKernel as never, { low: -0.3, high: 1.7 }],
  ["uniform [1000, 1000.1)", randomUniformKernel as never, { low: 1000, high: 1000.1 }],
  ["normal(0, 1)", randomNormalKernel as never, { mean: 0, standardDeviation: 1 }],
  ["normal(0.1, 0.7)", randomNormalKernel as never, { mean: 0.1, standardDeviation: 0.7 }],
  ["bernoulli(0.3)", randomBernoulliKernel as never, { probability: 0.3 }],
];

describeProfiles((device) => {
  it.each(cases)("%s has the reference's bits", async (_, kernel, numbers) => {
    for (const [size, offset] of [
      [100_003, 0],
      [2_001, 2 ** 32 - 300],
      [1, 2 ** 52],
    ] as const) {
      const params = { key, offset, ...numbers };
      expectSameBits(await draw(device(), kernel, size, params), await draw(cpu, kernel, size, params));
    }
  });

  it("draws the same in windows of a large tensor", async () => {
    const small = withSmallBindings(device(), 32768);
    for (const [, kernel, numbers] of cases) {
      const params = { key, offset: 2 ** 32 - 5_000, ...numbers };
      expectSameBits(await draw(small, kernel, 20_011, params), await draw(cpu, kernel, 20_011, params));
    }
  });
});

describe("sequences", () => {
  it("have the published words of Threefry-2x32", () => {
    // Known answers of the authors' Random123 library: key, counter, words.
    for (const [key0, key1, counter0, counter1, word0, word1] of [
      [0, 0, 0, 0, 0x6b200159, 0x99ba4efe],
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7],
      [0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0],
    ] as const) {
      const words = new Uint32Array(2);
      threefry(key0, key1, counter0, counter1, words);
      expect(Array.from(words)).toEqual([word0, word1]);
    }
  });

  it("are those of RandomStream with the same key", async () => {
    const stream = new RandomStream(7, "test");
    const values = await draw(cpu, randomUniformKernel, 99, { key, offset: 0, low: 0, high: 1 });
    for (const value of values) expect(value).toBe(stream.uniform());
  });

  it("continue at an offset, and differ between keys", async () => {
    const from = (offset: number, seed = 7) =>
      draw(cpu, randomNormalKernel, 100, { key: randomKey(seed, "test"), offset, mean: 0, standardDeviation: 1 });
    const first = await from(0);
    expect((await from(10)).subarray(0, 80)).toEqual(first.subarray(20));
    expect((await from(0, 8)).some((value, i) => value === first[i])).toBe(false);
  });

  it("stay below `high`, also where the sum rounds up", async () => {
    const values = await draw(cpu, randomUniformKernel, 20_000, { key, offset: 0, low: 1000, high: 1000.0002 });
    expect(values.every((value) => value >= 1000 && value < Math.fround(1000.0002))).toBe(true);
    expect(new Set(values).size).toBe(3); // float32 has three values there
  });
});

describe("the normal distribution", () => {
  const count = 2_000_000;
  let sorted: Float64Array;
  const sample = async () =>
    (sorted ??= (await draw(cpu, randomNormalKernel, count, { key, offset: 0, mean: 0, standardDeviation: 1 })).sort());

  it("has tables that hold its quantiles", () => {
    // P(Z > z) from tables of the normal distribution.
    for (const [z, p] of [
      [0, 0.5],
      [0.6744897501960817, 0.25],
      [1.959963984540054, 0.025],
      [2.5, 0.006209665325776132],
      [3, 0.0013498980316300933],
      [3.090232306167813, 0.001],
      [4.753424308822899, 1e-6],
      [5.997807015007774, 1e-9],
    ] as const) {
      expect(normalTail(z) / p).toBeCloseTo(1, 10);
    }
    const table = normalTable();
    const points = table.length / 2;
    for (let i = 0; i < points; i++) {
      const octave = Math.floor((i * 32) / points);
      const segment = i % (points / 32);
      const p = 2 ** (-2 - octave) * (1 + (segment * 32) / points);
      const z = table[2 * i]! / 2 ** 21;
      const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
      expect(Math.abs((normalTail(z) - p) / density)).toBeLessThan(2.5e-7); // half of 2^-21
      expect(table[2 * i + 1]).toBeLessThan(2 ** 15);
      // The middle of a segment is where a straight line is farthest from the quantile.
      const middle = p + 2 ** (-2 - octave) * (16 / points);
      const line = (table[2 * i]! - table[2 * i + 1]! / 2) / 2 ** 21;
      expect(Math.abs((normalTail(line) - middle) / density)).toBeLessThan(8e-6);
    }
    expect(table[2 * (points - points / 32)]! / 2 ** 21).toBeCloseTo(6.3379, 3); // the farthest number drawn
  });

  it("has the moments", async () => {
    const values = await sample();
    const moment = (k: number) => values.reduce((sum, z) => sum + z ** k, 0) / count;
    // Five standard errors: the variance of Z^k is (2k-1)!! - (k even: (k-1)!!^2).
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / count));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / count));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / count));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / count));
  });

  it("has the tails", async () => {
    const values = await sample();
    for (const z of [2, 3, 4, 4.5]) {
      const beyond = values.reduce((n, value) => n + (Math.abs(value) > z ? 1 : 0), 0);
      const expected = 2 * normalTail(z) * count;
      expect(Math.abs(beyond - expected)).toBeLessThan(5 * Math.sqrt(expected));
    }
  });

  it("is close in Kolmogorov and Smirnov's distance", async () => {
    const values = await sample();
    const below = (z: number) => (z < 0 ? normalTail(-z) : 1 - normalTail(z));
    const distance = values.reduce((most, z, i) => Math.max(most, Math.abs(below(z) - (i + 0.5) / count)), 0);
    expect(distance).toBeLessThan(1.95 / Math.sqrt(count)); // exceeded by chance once in a thousand keys
  });
});

it("uniform and bernoulli have their moments", async () => {
  const count = 1_000_000;
  const uniform = await draw(cpu, randomUniformKernel, count, { key, offset: 0, low: -1, high: 3 });
  const mean = uniform.reduce((sum, x) => sum + x, 0) / count;
  const variance = uniform.reduce((sum, x) => sum + (x - mean) ** 2, 0) / count;
  expect(Math.abs(mean - 1)).toBeLessThan((5 * Math.sqrt(16 / 12)) / 1000);
  expect(Math.abs(variance - 16 / 12)).toBeLessThan((5 * 16 * Math.sqrt(1 / 180)) / 1000);
  for (const probability of [0, 0.001, 0.5, 0.9, 1]) {
    const values = await draw(cpu, randomBernoulliKernel, count, { key, offset: 0, probability });
    const ones = values.reduce((sum, x) => sum + x, 0);
    expect(Math.abs(ones - probability * count)).toBeLessThanOrEqual(
      5 * Math.sqrt(probability * (1 - probability) * count),
    );
  }
});
