// Integrated gradients (Sundararajan, Taly, Yan, ICML 2017): the gradients on the straight way from a baseline b to x,
// (x - b) ∫ d answer / d x (b + a (x - b)) da over a in [0, 1]. They sum to the answer at x less that at b.
import { add, mul, sub } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { checkOptions, integer, type Rules } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import type { Model } from "../model.js";
import {
  type Attribution,
  type AttributionOptions,
  attributed,
  attributionRules,
  type Baseline,
  baselineBatch,
  baselineRule,
  baselinesOf,
  explain,
  inputsOf,
  type More,
} from "./attribution.js";

/** Options of {@link integratedGradients}. */
export interface IntegratedGradientsOptions extends AttributionOptions {
  /** Where the way begins: one value, one input [...inputShape], or one for each, [N, ...inputShape]; default 0. */
  readonly baseline?: Baseline;
  /** Points of the way at which the gradient is taken, by Gauss and Legendre's rule; default 50. */
  readonly steps?: number;
}

const integratedGradientsRules: Rules<IntegratedGradientsOptions> = {
  ...attributionRules,
  baseline: baselineRule,
  steps: integer({ from: 1, to: 1000 }),
};

/** Integrated gradients with what is wrong with them. */
export interface IntegratedGradients extends Attribution {
  /**
   * Sum of an input's attributions, less the difference of the answers at the input and at the baseline, [N]: 0 but for
   * the error of the integral. More `steps` lower it.
   */
  readonly delta: Float32Array;
  /** The inputs whose delta is more than 1 % of that difference: their attributions are not complete. */
  readonly incomplete: readonly number[];
}

/** Share of the difference of the answers that attributions may miss. */
const COMPLETE_WITHIN = 0.01;

/**
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs or baselines that do not fit the model
 * @example const { values, delta } = await attributions.integratedGradients(model, image, { target: 3 });
 */
export async function integratedGradients(
  model: Model,
  inputs: InputData,
  options: IntegratedGradientsOptions = {},
): Promise<IntegratedGradients> {
  const op = "integratedGradients";
  const { baseline = 0, steps = 50, ...rest } = checkOptions(op, options, integratedGradientsRules);
  const baselines = baselinesOf(op, model, inputsOf(op, model, inputs).count, baseline);
  const size = sizeOf(model.inputShape);
  const rule = gaussLegendre(steps);
  const more: More = (start, end) => [baselineBatch(model, baselines, start, end)];
  const sums = new Float64Array(baselines.length);
  const one = (value: number) => ({ values: Float32Array.of(value), shape: [1] });
  // A recorded step for each point on the way: all of them as one would be as much longer.
  await explain(op, model, inputs, rest, {
    rounds: steps,
    attribute({ gradient }, x, [from, at, weight]) {
      const way = sub(x, from!);
      return [mul(mul(gradient(add(from!, mul(way, at!))), weight!), way)];
    },
    more: (start, end, round) => [...more(start, end, round), one(rule.nodes[round]!), one(rule.weights[round]!)],
    take([part], { start }) {
      for (const [i, value] of part!.entries()) sums[start * size + i]! += value;
    },
  });
  const values = Float32Array.from(sums);
  const ends = await attributed(
    op,
    model,
    inputs,
    rest,
    ({ answers }, x, [from]) => [answers(x), answers(from!)],
    more,
  );
  const { shape, parts } = ends;
  const [outputs, atBaseline] = parts as [Float32Array, Float32Array];
  const delta = outputs.map((output, input) => {
    let sum = 0;
    for (let i = input * size; i < (input + 1) * size; i++) sum += values[i]!;
    return sum - (output - atBaseline[input]!);
  });
  const incomplete = Array.from(delta.keys()).filter(
    (input) => !(Math.abs(delta[input]!) <= COMPLETE_WITHIN * Math.abs(outputs[input]! - atBaseline[input]!)),
  );
  return { values, shape, outputs, delta, incomplete };
}

/**
 * Nodes and weights of Gauss and Legendre's rule with n points on [0, 1]: exact for polynomials up to degree 2n - 1.
 * The nodes are the roots of the Legendre polynomial P_n, found by Newton's method from cos(pi (i + 3/4) / (n + 1/2)).
 */
export function gaussLegendre(n: number): { readonly nodes: readonly number[]; readonly weights: readonly number[] } {
  const [nodes, weights]: [number[], number[]] = [[], []];
  for (let i = n - 1; i >= 0; i--) {
    let root = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 0;
    // Quadratic convergence from a start that is off by O(n^-4): five rounds are more than float64 needs.
    for (let round = 0; round < 5; round++) {
      // k P_k = (2k - 1) x P_(k-1) - (k - 1) P_(k-2), and (x^2 - 1) P_n' = n (x P_n - P_(n-1)).
      let [before, value] = [1, root];
      for (let k = 2; k <= n; k++) [before, value] = [value, ((2 * k - 1) * root * value - (k - 1) * before) / k];
      slope = (n * (root * value - before)) / (root * root - 1);
      root -= value / slope;
    }
    nodes.push((1 + root) / 2);
    weights.push(1 / ((1 - root * root) * slope * slope));
  }
  return { nodes, weights };
}
