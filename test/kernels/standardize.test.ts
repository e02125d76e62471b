// Standardised rows: the reference against the formula, both profiles against the reference, also far from 0.
import { expect, it } from "vitest";
import { standardize } from "../../src/autograd/ops/standardize.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose, expectParity, randomInput } from "../support.js";

const cases: [Shape, number[]][] = [
  [[1, 1], [1]],
  [[5, 3], [1]],
  [[3, 64], [1]],
  [[2, 70, 65], [2]],
  [
    [2, 9, 7, 5],
    [1, 2, 3],
  ],
  [[1, 4099], [1]],
  [[2, 3, 20_000], [2]],
  [[4, 5, 6], [1]],
  [[0, 4], [1]],
];

it("gives values of mean 0 and variance 1", async () => {
  const { values, shape } = randomInput(new RandomStream(1, "standardize"), [3, 8]);
  const x = tensor(
    cpu,
    Array.from(values, (value) => 3 * value + 7),
    { shape },
  );
  const y = Array.from(await standardize(x, [1], 0).data());
  for (let row = 0; row < 3; row++) {
    const cells = y.slice(row * 8, row * 8 + 8);
    expect(cells.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 12);
    expect(cells.reduce((a, b) => a + b * b, 0) / 8).toBeCloseTo(1, 12);
  }
  // One element is its own mean.
  expectClose(await standardize(tensor(cpu, [[5], [-2]]), [1], 1e-3).data(), [0, 0], { rtol: 0, label: "alone" });
});

describeProfiles((device) => {
  it.each(cases)("%j along %j is as on the reference, gradient included", async (shape, axes) => {
    const input = randomInput(new RandomStream(2, "standardize"), shape);
    await expectParity(device(), (x) => standardize(x!, axes, 1e-3), [input]);
  });

  it("keeps its digits far from 0", async () => {
    const values = Array.from({ length: 300 }, (_, i) => 1000 + Math.sin(i));
    const [exact, found] = [cpu, device()].map((each) => standardize(tensor(each, [values]), [1], 1e-3));
    expectClose(await found!.data(), Array.from(await exact!.data()), { rtol: 1e-3, label: "far" });
  });

  it("makes NaN of rows with NaN or infinities, and of no others", async () => {
    const row = (value: number, size: number) => Array.from({ length: size }, (_, j) => (j === 1 ? value : j));
    for (const size of [5, 80]) {
      const x = tensor(device(), [row(Number.NaN, size), row(0.5, size), row(Number.POSITIVE_INFINITY, size)]);
      const y = Array.from(await standardize(x, [1], 1e-3).data());
      expect(y.map((value, i) => Number.isNaN(value) === (Math.floor(i / size) !== 1)).every(Boolean)).toBe(true);
      expect(sizeOf(x.shape)).toBe(y.length);
    }
  });
});
