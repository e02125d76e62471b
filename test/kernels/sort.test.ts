// Order of long rows, by merging passes, and of special values; sums of long rows, by chunks.
import { describe, expect, it } from "vitest";
import { cumsum } from "../../src/autograd/ops/scan.js";
import { argsort, sort, topK } from "../../src/autograd/ops/sort.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles } from "../support.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

function holds(device: () => Device): void {
  it.each([33, 64, 1000, 5001])("rows of %d elements with many ties", async (n) => {
    const stream = new RandomStream(n, "sort");
    const rows = Array.from({ length: 2 }, () => Array.from({ length: n }, () => stream.integer(n) - n / 4));
    const x = tensor(device(), rows);
    const order = rows.map((row) => row.map((_, j) => j).sort((a, b) => row[a]! - row[b]! || a - b));
    const backwards = rows.map((row) => row.map((_, j) => j).sort((a, b) => row[b]! - row[a]! || a - b));
    expect([...(await argsort(x).data())]).toEqual(order.flat());
    expect([...(await argsort(x, { descending: true }).data())]).toEqual(backwards.flat());
    const { values, indices } = topK(x, 40 < n ? 40 : 5);
    const first = backwards.map((row) => row.slice(0, values.shape[1]));
    expect([...(await indices.data())]).toEqual(first.flat());
    expect([...(await values.data())]).toEqual(first.flatMap((row, k) => row.map((j) => Math.fround(rows[k]![j]!))));
  });

  it("NaN is the largest, -0 and 0 are equal", async () => {
    const x = tensor(device(), [0, nan, -infinity, -0, 2 ** -140, infinity, -(2 ** -140), -3, -nan]);
    expect([...(await argsort(x).data())]).toEqual([2, 7, 6, 0, 3, 4, 5, 1, 8]);
    expect([...(await argsort(x, { descending: true }).data())]).toEqual([1, 8, 5, 4, 0, 3, 6, 7, 2]);
  });

  it("integers to the ends of their range", async () => {
    const signed = tensor(device(), [5, -(2 ** 31), 2 ** 31 - 1, -1], { dtype: "i32" });
    expect([...(await sort(signed).data())]).toEqual([-(2 ** 31), -1, 5, 2 ** 31 - 1]);
    const unsigned = tensor(device(), [5, 2 ** 32 - 1, 0, 2 ** 31], { dtype: "u32" });
    expect([...(await sort(unsigned, { descending: true }).data())]).toEqual([2 ** 32 - 1, 2 ** 31, 5, 0]);
  });

  it("cumulative sums of a long row of ones are exact, of integers they wrap", async () => {
    const n = 30_011;
    const ones = tensor(device(), new Float32Array(n).fill(1));
    expect((await cumsum(ones, 0).data()).findIndex((sum, j) => sum !== j + 1)).toBe(-1);
    const large = tensor(device(), new Int32Array(n).fill(2 ** 30));
    const sums = await cumsum(large, { axis: 0, reverse: true, exclusive: true }).data();
    expect(sums.findIndex((sum, j) => sum !== Number(BigInt.asIntN(32, BigInt(n - 1 - j) * 2n ** 30n)))).toBe(-1);
  });
}

describe("reference", () => holds(() => cpu));
describeProfiles(holds);
