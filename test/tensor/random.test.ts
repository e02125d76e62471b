// The counter-based generator against the vectors published with Random123, and what is built on it on the host.
import fc from "fast-check";
import { expect, it } from "vitest";
import { RandomStream, randomKey, threefry, unitFromBits } from "../../src/tensor/random.js";

function words(key: readonly [number, number], counter: readonly [number, number]): number[] {
  const out = new Uint32Array(2);
  threefry(...key, ...counter, out);
  return [...out];
}

it("threefry2x32-20 gives Random123's known answers", () => {
  expect(words([0, 0], [0, 0])).toEqual([0x6b200159, 0x99ba4efe]);
  expect(words([0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff])).toEqual([0x1cb996fc, 0xbb002be7]);
  expect(words([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3])).toEqual([0xc4923a9c, 0x483df7a0]);
});

it("changes about half of the bits with any bit of key and counter", () => {
  const inputs = fc.tuple(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff));
  const bitsOf = (n: number) => n.toString(2).replaceAll("0", "").length;
  let flipped = 0;
  let cases = 0;
  fc.assert(
    fc.property(inputs, fc.nat(127), ([k0, k1, c0, c1], bit) => {
      const input = [k0, k1, c0, c1];
      const before = words([k0, k1], [c0, c1]);
      input[bit >> 5]! ^= 1 << (bit & 31);
      const after = words([input[0]!, input[1]!], [input[2]!, input[3]!]);
      const changed = bitsOf((before[0]! ^ after[0]!) >>> 0) + bitsOf((before[1]! ^ after[1]!) >>> 0);
      flipped += changed;
      cases++;
      return changed >= 8; // fewer of 64 coins: once in 10^10
    }),
    { numRuns: 1000, seed: 1 },
  );
  expect(Math.abs(flipped / cases - 32)).toBeLessThan(5 * (4 / Math.sqrt(cases)));
});

it("units lie in [0, 1) and are exact in float32", () => {
  expect(unitFromBits(0)).toBe(0);
  expect(unitFromBits(0xffffffff)).toBe(1 - 2 ** -24);
  fc.assert(fc.property(fc.nat(0xffffffff), (bits) => Math.fround(unitFromBits(bits)) === unitFromBits(bits)));
});

it("streams depend on seed and name only", () => {
  const draw = (seed: number, stream: string | number) => {
    const random = new RandomStream(seed, stream);
    return Array.from({ length: 5 }, () => random.bits());
  };
  expect(draw(7, "shuffle")).toEqual(draw(7, "shuffle"));
  expect(draw(7, "shuffle")).not.toEqual(draw(8, "shuffle"));
  expect(draw(7, "shuffle")).not.toEqual(draw(7, "dropout"));
  expect(draw(-1, 0)).toEqual(draw(0xffffffff, 0));
  // FNV-1a, 32 bits: the published hash of "a".
  expect(randomKey(3, "a")).toEqual({ seed: 3, stream: 0xe40c292c });
});

it("integers are even over their range, normals have mean 0 and variance 1", () => {
  const random = new RandomStream(1);
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < 70_000; i++) counts[random.integer(7)]!++;
  // Chi-squared with 6 degrees of freedom: above 27.9 once in 10^4.
  expect(counts.reduce((sum, n) => sum + (n - 10_000) ** 2 / 10_000, 0)).toBeLessThan(27.9);
  expect(random.integer(1)).toBe(0);
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < 100_000; i++) {
    const z = random.normal();
    sum += z;
    squares += z * z;
  }
  expect(Math.abs(sum / 1e5)).toBeLessThan(5 / Math.sqrt(1e5));
  expect(Math.abs(squares / 1e5 - 1)).toBeLessThan(5 * Math.sqrt(2 / 1e5));
});
