// Backpropagation through fully connected layers, written out for four activations, and their derivatives: in exact
// arithmetic, beside what an adapter computes.
import { type Activation, activations } from "./vanishing-findings.js";

/** Backpropagation written out, for the report. */
export const equations = `Layer l of L:      z_l = a_(l-1) W_l + b_l        a_l = f(z_l)        a_0 = image
Output:            p = softmax(z_L)               loss E = -sum_k t_k log p_k
Its error:         d_L = dE/dz_L = p - t
Going back:        d_l = (d_(l+1) W_(l+1)^T) * f'(z_l)                 (* element by element)
Gradients:         dE/dW_l = a_(l-1)^T d_l        dE/db_l = d_l        (summed over the batch)

With the derivative inserted:
ReLU:              d_l = (d_(l+1) W_(l+1)^T) * [z_l > 0]
tanh:              d_l = (d_(l+1) W_(l+1)^T) * (1 - a_l^2)
sigmoid:           d_l = (d_(l+1) W_(l+1)^T) * a_l (1 - a_l)
LeCun:             d_l = (d_(l+1) W_(l+1)^T) * (1.7159 (2/3) (1 - tanh^2(2 z_l / 3)) + 0.01)

So the first layer's error holds one factor W^T and one factor f'(z) for each layer above it:
d_1 = d_L W_L^T f'(z_(L-1)) W_(L-1)^T f'(z_(L-2)) ... W_2^T f'(z_1)`;

/** Derivatives in exact arithmetic: formula, range and bounds, and the formula as a function of z. */
export const derivatives = {
  relu: { formula: "1 for z > 0, else 0", range: "{0, 1}", least: 0, most: 1, at: (z: number) => (z > 0 ? 1 : 0) },
  tanh: { formula: "1 - tanh²(z)", range: "(0, 1]", least: 0, most: 1, at: (z: number) => 1 - Math.tanh(z) ** 2 },
  sigmoid: {
    ...{ formula: "s(z) (1 - s(z))", range: "(0, 1/4]", least: 0, most: 1 / 4 },
    at: (z: number) => 1 / (1 + Math.exp(-z)) / (1 + Math.exp(z)),
  },
  lecunTanh: {
    ...{ formula: "1.7159 · 2/3 · (1 - tanh²(2z/3)) + 0.01", range: "(0.01, 1.15393]" },
    ...{ least: 0.01, most: (1.7159 * 2) / 3 + 0.01 },
    at: (z: number) => 1.7159 * (2 / 3) * (1 - Math.tanh((2 * z) / 3) ** 2) + 0.01,
  },
} as const satisfies Record<
  Activation,
  { formula: string; range: string; least: number; most: number; at(z: number): number }
>;

/** A derivative: its formula as text, its exact range, and the range that the adapter computed. */
export interface DerivativeCheck {
  readonly activation: Activation;
  readonly formula: string;
  readonly range: string;
  readonly measured: { readonly least: number; readonly most: number };
  readonly holds: boolean;
  /** Largest difference between what the adapter computes and the formula in float64. */
  readonly largestError: number;
}

/**
 * What was measured of each derivative, beside what it should be.
 * @param measured a list of slopes at the points for each of `activations`
 */
export function checkedDerivatives(
  points: ArrayLike<number>,
  measured: readonly ArrayLike<number>[],
): DerivativeCheck[] {
  return activations.map((activation, place) => {
    const { formula, range, least, most, at } = derivatives[activation];
    const slopes = Array.from(measured[place]!);
    const [low, high] = [Math.min(...slopes), Math.max(...slopes)];
    const largestError = Math.max(...slopes.map((slope, i) => Math.abs(slope - at(points[i]!))));
    // One float32 rounding beyond the bounds is allowed.
    const holds = low >= least - 1e-6 && high <= most + 1e-6 && Math.abs(high - most) < 1e-4;
    return { activation, formula, range, measured: { least: low, most: high }, holds, largestError };
  });
}
