// What an input optimisation's figures say: sentences of figures that were made up, among them those of runs that went
// otherwise.
import { expect, test } from "vitest";
import { oneHot, parseTargets } from "../../src/experiments/lib/inputs/target.js";
import {
  correlation,
  firstStepsRemark,
  largestMiss,
  median,
  mixedRemark,
  noiseFigures,
  noiseRemark,
  recognisableRemark,
  structureRemark,
  transferRemark,
} from "../../src/experiments/lib/report/input-findings.js";

test("first steps: how many reach 99 %, and when", () => {
  const common = { steps: 10, learningRate: 0.1 };
  expect(firstStepsRemark({ ...common, stepsTo99: [2, 3, 3, 6, null] })).toContain(
    "99 % is reached by 4 of 5 images within 10 steps, in the median after 3, by 3 of them within 4.",
  );
  expect(firstStepsRemark({ ...common, stepsTo99: [null, null] })).toContain(
    "None of 2 images reaches 99 % within 10 steps.",
  );
});

test("transfer: every judge's share", () => {
  expect(transferRemark({ "mlp-64": 0.255, "sgd-cnn": 1 })).toBe(
    "Networks of other architectures see what was asked for: mlp-64 in 26 % and sgd-cnn in 100 % of the images.",
  );
});

test("structure: nearer, further, and as near as it began", () => {
  const probability = { before: 0.5, after: 0.999 };
  const said = (before: number, after: number) => structureRemark({ probability, likeness: { before, after } });
  expect(said(0.6, 0.7)).toContain("the images end nearer to the real digit (up to 0.01 counts as the same) than they");
  expect(said(0.7, 0.6)).toContain("further from the real digit");
  expect(said(0.6, 0.605)).toContain("as near to the real digit (up to 0.01 counts as the same) as they began");
  expect(correlation(Float32Array.of(1, 2, 3), Float32Array.of(2, 4, 6))).toBeCloseTo(1, 12);
  expect(correlation(Float32Array.of(1, 2, 3), Float32Array.of(3, 2, 1))).toBeCloseTo(-1, 12);
});

test("recognisable: digits that every judge sees in more than half of the images", () => {
  const rows = [
    { digit: 0, noise: [0.4, 1], before: [0.6, 0.6], real: [1, 1] },
    { digit: 1, noise: [0.5, 0.5], before: [0.5, 0.9], real: [0.9, 0.6] },
  ];
  expect(recognisableRemark(rows)).toContain(
    "From noise: none. From noisy real digits: 0 and 1; before a single step: 0.",
  );
});

test("mixed digits: the largest miss of each way, and how many are met", () => {
  const [target] = parseTargets("2:0.5,3:0.5");
  const probabilities = [0, 0, 0.29, 0.65, 0.06, 0, 0, 0, 0, 0];
  expect(largestMiss({ target: target!, probabilities })).toBeCloseTo(0.21, 12);
  expect(largestMiss({ target: oneHot(2), probabilities: oneHot(2).probabilities })).toBe(0);
  const said = mixedRemark({
    few: { steps: 10, learningRate: 0.1, miss: 0.321 },
    many: { steps: 500, learningRate: 0.05, miss: 0.081 },
    settled: { miss: 0.0016, met: 19, count: 20 },
  });
  expect(said).toMatch(
    /^The largest miss of a share is 0\.32 after 10 steps at rate 0\.1, 0\.081 after 500 at 0\.05, and 0\.0016 after/,
  );
  expect(said).toContain("19 of 20 images are within 0.01 of both shares then.");
});

test("noise: the commonest answer, how sure, and whether networks agree", () => {
  const answers = { predicted: Int32Array.of(8, 8, 8, 1), confidence: Float64Array.of(0.5, 0.4, 0.6, 0.9) };
  const of = noiseFigures(answers);
  expect(of).toMatchObject({ favourite: 8, favouriteShare: 0.75 });
  expect(of.shares).toEqual([0, 0.25, 0, 0, 0, 0, 0, 0, 0.75, 0]);
  expect(of.favouriteConfidence).toBeCloseTo(0.5, 12);
  const network = (name: string, favourite: number, favouriteShare: number) => ({ name, favourite, favouriteShare });
  const said = (...networks: ReturnType<typeof network>[]) => noiseRemark(networks, { count: 1000 });
  const both = said(network("a", 8, 0.98), network("b", 2, 0.95));
  expect(both).toContain(
    "Of the 2 networks here a does (at least 90 % of the images): a says 8 to 98.0 % and b says 2",
  );
  expect(both).toContain("Which digit it is depends on the network, not on the noise.");
  expect(said(network("a", 8, 0.98), network("b", 8, 0.91))).toContain("Of the 2 networks here all do");
  const none = said(network("a", 8, 0.5), network("b", 8, 0.6));
  expect(none).toContain("none does");
  expect(none).toContain("They agree on the digit.");
});

test("median: the lower of two", () => {
  expect([median([3, 1, 2]), median([4, 1]), median([])]).toEqual([2, 1, undefined]);
});
