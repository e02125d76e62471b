// The L2 penalty of many tensors as one differentiable operation.
import { l2PenaltyGradientKernel, l2PenaltyKernel } from "../../kernels/penalty.js";
import { ShapeError } from "../../tensor/errors.js";
import { array, check, checkOptions, number, type Rules } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, runMany, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { mul } from "./elementwise.js";

/** A tensor and what the sum of its squares is multiplied by. */
export interface L2Term {
  readonly tensor: Tensor;
  readonly factor: number;
}

const termRules: Rules<L2Term> = { tensor: tensorRule, factor: number() };

/**
 * Sum over terms of factor * sum(tensor^2), a scalar: Keras's `regularizers.L2` of many weights, in one or two passes.
 * f32 of any shapes.
 *
 * @throws ShapeError without terms
 */
export function l2Penalty(terms: readonly L2Term[]): Tensor {
  check("l2Penalty", "terms", terms, array);
  for (const term of terms) {
    const { tensor } = checkOptions("l2Penalty", term, termRules, ["tensor", "factor"]);
    requireTensor("l2Penalty", "tensor", tensor);
    if (tensor.dtype !== "f32") {
      throw new ShapeError(
        `l2Penalty: needs f32 tensors, got ${tensor.dtype} ${formatShape(tensor.shape)}; use cast()`,
      );
    }
  }
  if (terms.length === 0) throw new ShapeError("l2Penalty: needs at least one term, got none");
  const inputs = terms.map(({ tensor }) => tensor);
  const factors = terms.map(({ factor }) => factor);
  const y = run(l2PenaltyKernel, inputs, { shape: [], dtype: "f32" }, { factors });
  return record(y, {
    op: "l2Penalty",
    inputs,
    saved: inputs,
    backward: (dy, saved, needed) => {
      const wanted = saved.flatMap((_, k) => (needed[k] ? [k] : []));
      let gradients: readonly Tensor[] | undefined;
      return saved.map((_, k) => () => {
        const tensors = wanted.map((index) => saved[index]!);
        const params = { factors: wanted.map((index) => factors[index]!) };
        gradients ??= runMany(l2PenaltyGradientKernel, [dy, ...tensors], tensors, params);
        return gradients[wanted.indexOf(k)]!;
      });
    },
    derivable: (dy, saved) => saved.map((w, k) => () => mul(w, mul(dy, 2 * factors[k]!))),
  });
}
