// Differentiable cumulative sums.
import { type CumsumParams, cumsumKernel } from "../../kernels/scan.js";
import { type AxesOptions, axesRules, oneAxis, takeAxes } from "../../tensor/axes.js";
import { boolean, type Rules } from "../../tensor/options.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";

export type CumsumOptions = AxesOptions<number> & {
  /** Leaves each element out of its own sum; default false. */
  readonly exclusive?: boolean;
  /** Sums from the end; default false. */
  readonly reverse?: boolean;
};

const rules: Rules<CumsumOptions> = { ...axesRules, exclusive: boolean, reverse: boolean };

/**
 * Sums of all elements up to each one along an axis, of x's shape: y[j] = x[0] + ... + x[j]. f32, i32 or u32 (integer
 * sums wrap). The gradient is the same sum from the other end.
 *
 * @example cumsum(x, -1), cumsum(x, { axis: 0, exclusive: true, reverse: true })
 * @throws UsageError without an axis, ShapeError for one that x does not have
 */
export function cumsum(x: Tensor, given: number | CumsumOptions, further?: CumsumOptions): Tensor {
  requireTensor("cumsum", "x", x);
  const { axes, options } = takeAxes<CumsumOptions>("cumsum", given, further, rules);
  const { exclusive = false, reverse = false } = options;
  return summed(x, { axis: oneAxis("cumsum", axes, x.rank), exclusive, reverse });
}

function summed(x: Tensor, params: CumsumParams): Tensor {
  return record(run(cumsumKernel, [x], x, params), {
    op: "cumsum",
    inputs: [x],
    backward: (dy) => [() => summed(dy, { ...params, reverse: !params.reverse })],
    derivable: true,
  });
}
