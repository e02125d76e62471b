// The experiment on depth and activations, with tiny settings: every network, what it measures, and what it says.
import { expect, test } from "vitest";
import { experiment, observer } from "../../src/experiments/vanishing-gradients.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
const tiny = ["data=digits", "trainImages=640", "testImages=64", "epochs=2", "gradientEpoch=1", "depths=[2,12]"];

test("what a checkpoint has of the observer is checked", () => {
  const image = { images: new Float32Array(1), labels: Int32Array.of(0), count: 1, imageShape: [1, 1, 1] } as const;
  const { seen, callback } = observer(image, 1);
  const stored = { seen: { untrained: [1], trained: [], curve: [2, Number.NaN] }, running: { sum: 3, count: 1 } };
  callback.importState!(stored, new Map());
  expect(seen).toEqual(stored.seen);
  const wrong = { ...stored, running: { sum: 3, count: -1 } };
  expect(() => callback.importState!(wrong, new Map())).toThrow(
    "observer: running.count must be a whole number from 0",
  );
  expect(() => callback.importState!({ seen: {} }, new Map())).toThrow("observer: seen.untrained is missing");
});

test("figures of every network, and a report that speaks of them", { timeout: 120_000 }, async () => {
  const { metrics, report, said } = await runs.run(experiment, { set: tiny });
  expect(said).toMatch(/about .* on .*, by a measured step: 8 networks, 320 steps of .* at 2 and 12 hidden layers/);
  expect(metrics.outcomes).toHaveLength(8);
  for (const { depth, untrained, trained, testAccuracy } of metrics.outcomes) {
    expect(untrained).toHaveLength(depth + 1);
    expect(trained).toHaveLength(depth + 1);
    expect(trained).not.toEqual(untrained);
    expect(testAccuracy).toBeGreaterThan(0);
  }
  // What vanishes: with 12 sigmoid layers the first gets less than a millionth of the last one's gradient, with LeCun
  // not.
  const ratio = (activation: string) => {
    const { untrained } = metrics.outcomes.find(
      (o: Record<string, unknown>) => o["activation"] === activation && o["depth"] === 12,
    );
    return untrained[0] / untrained[12];
  };
  expect(ratio("sigmoid")).toBeLessThan(1e-6);
  expect(ratio("lecunTanh")).toBeGreaterThan(1e-2);
  // The stated ranges hold on this adapter, up to float32.
  for (const { holds } of metrics.derivatives) expect(holds).toBe(true);
  const largest = metrics.derivatives.map((row: { measured: { most: number } }) => row.measured.most);
  [1, 1, 0.25, 1.153933].forEach((value, i) => {
    expect(largest[i]).toBeCloseTo(value, 5);
  });
  for (const { largestError } of metrics.derivatives) expect(largestError).toBeLessThan(1e-5);
  expect(metrics.questions).toHaveLength(6);
  expect(report).toContain("dE/dW_l");
  expect(report.match(/<svg class="kilograd-chart"/g)).toHaveLength(8);
});
