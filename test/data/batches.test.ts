// The order of an epoch's samples and the gathering of their rows.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gatherRows, shuffledIndices } from "../../src/data/batches.js";

describe("shuffledIndices", () => {
  it("is a permutation that depends on seed and epoch", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 0 }), fc.nat(100), (count, seed, epoch) => {
        const order = shuffledIndices(count, seed, epoch);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
        expect(shuffledIndices(count, seed, epoch)).toEqual(order);
      }),
    );
    const orders = [shuffledIndices(100, 1, 0), shuffledIndices(100, 1, 1), shuffledIndices(100, 2, 0)];
    expect(new Set(orders.map(String)).size).toBe(3);
  });

  it("gives every order of four equally often", () => {
    const runs = 4_800;
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < runs; epoch++) {
      const key = shuffledIndices(4, 3, epoch).join("");
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    // Chi-squared with 23 degrees of freedom: above 49.7 with probability 0.001.
    const chiSquared = [...counts.values()].reduce((sum, n) => sum + (n - 200) ** 2 / 200, 0);
    expect(chiSquared).toBeLessThan(49.7);
  });
});

describe("gatherRows", () => {
  it("copies rows in the order asked for and leaves the rest of the target", () => {
    const source = Float32Array.from({ length: 12 }, (_, i) => i);
    const target = new Float32Array(8).fill(-1);
    expect(gatherRows(source, 3, Uint32Array.of(3, 0), target)).toBe(target);
    expect([...target]).toEqual([9, 10, 11, 0, 1, 2, -1, -1]);
    expect([...gatherRows(Int32Array.of(5, 6, 7), 1, [2, 2], new Int32Array(2))]).toEqual([7, 7]);
  });

  it("refuses rows outside of the source and a target too small", () => {
    const source = new Float32Array(12);
    expect(() => gatherRows(source, 3, [4], new Float32Array(3))).toThrow(
      "gatherRows: row 4 asked for, the source has 4 rows",
    );
    expect(() => gatherRows(source, 3, [0, 1], new Float32Array(5))).toThrow(
      "gatherRows: 2 rows of 3 need a target of 6, given 5",
    );
  });
});
