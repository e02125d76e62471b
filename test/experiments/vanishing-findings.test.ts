// What figures of networks of several depths say: sentences of figures that were made up.
import { expect, test } from "vitest";
import {
  type Activation,
  accuracyRemark,
  CURVE_STEPS,
  curveRemark,
  type DepthFigures,
  gradientRemark,
} from "../../src/experiments/lib/report/vanishing-findings.js";

const network = (depth: number, activation: Activation, given: Partial<DepthFigures>): DepthFigures => ({
  ...{ depth, activation, testAccuracy: 0.9, untrained: [1, 1], trained: [1, 1], curve: [] },
  ...given,
});

test("who learned, at every depth", () => {
  const networks = [
    network(5, "relu", {}),
    network(5, "tanh", {}),
    network(20, "relu", { testAccuracy: 0.3 }),
    network(20, "tanh", {}),
    network(40, "relu", { testAccuracy: 0.1 }),
    network(40, "tanh", { testAccuracy: 0.8 }),
  ];
  expect(accuracyRemark(networks, [5, 20, 40])).toBe(
    "With 5 hidden layers every network learned (more than 80 % on the test part). " +
      "With 20 hidden layers tanh learned (more than 80 % on the test part), ReLU did not. " +
      "With 40 hidden layers none learned (more than 80 % on the test part).",
  );
});

test("gradients: the deepest, whether they separate who learned, and exact zeros", () => {
  const learned = network(40, "tanh", { trained: [2, 1] });
  const failed = network(40, "sigmoid", { trained: [0, 1], testAccuracy: 0.1 });
  const said = gradientRemark([learned, failed], [5, 40], "trained", "after training");
  expect(said).toMatch(
    /^Of 40 layers after training, the first one's gradient is between 0.* \(sigmoid\) and 2.* \(tanh\)/,
  );
  expect(said).toContain("the two groups do not overlap.");
  expect(said).toContain(
    "the gradient is exactly 0: too small for float32 or stopped by units that are all off (sigmoid, 40 layers)",
  );
  const mixed = network(40, "relu", { trained: [3, 1], testAccuracy: 0.1 });
  expect(gradientRemark([learned, mixed], [40], "trained", "after training")).not.toMatch(/overlap|exactly 0/);
  expect(gradientRemark([learned], [40], "trained", "after training")).not.toContain("Networks that learned");
});

test("curves: when LeCun reaches tanh's last loss, or never", () => {
  const said = (tanh: number[], lecun: number[]) =>
    curveRemark(
      (depth, activation) => network(depth, activation, { curve: activation === "tanh" ? tanh : lecun }),
      [5],
    );
  expect(said([2, 1, 0.5], [1, 0.4, 0.3])).toBe(
    `With 5 layers LeCun reaches tanh's last loss (0.500) after ${2 * CURVE_STEPS} steps of ${3 * CURVE_STEPS} and ends at 0.300.`,
  );
  expect(said([2, 0.2], [1, 0.4])).toBe("With 5 layers LeCun ends at a loss of 0.400, above tanh's 0.200.");
  expect(said([], [])).toBe("With 5 layers the runs are too short for a curve.");
});
