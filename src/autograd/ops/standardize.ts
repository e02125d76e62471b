// Differentiable standardisation: values of mean 0 and variance 1, which layer and group normalisation scale.
import { standardizeGradientKernel, standardizeKernel } from "../../kernels/standardize.js";
import { scope } from "../../tensor/scope.js";
import { type Shape, sizeOf } from "../../tensor/shape.js";
import { run, runMany, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { add, div, mul, reciprocal, sqrt, sub } from "./elementwise.js";
import { mean, sumSquares } from "./reduce.js";
import { reshape } from "./transform.js";

/**
 * Elements up to which a row is standardised in one pass. Longer ones take the sums of reduce.ts, which are split over
 * the adapter and add pairwise.
 */
const LONGEST_ROW = 16_384;

/**
 * (x - mean) / sqrt(variance + epsilon) over axes, which are sorted and not negative, with the biased variance.
 * @param x f32; nothing may be empty along the axes
 */
export function standardize(x: Tensor, axes: readonly number[], epsilon: number): Tensor {
  const size = sizeOf(axes.map((axis) => x.shape[axis]!));
  const trailing = axes.every((axis, i) => axis === x.rank - axes.length + i);
  if (!trailing || size > LONGEST_ROW || x.size === 0) return composed(x, axes, epsilon);
  return scope(() => reshape(rows(reshape(x, [x.size / size, size]), epsilon), x.shape));
}

/** Of any axes. */
function composed(x: Tensor, axes: readonly number[], epsilon: number): Tensor {
  return scope(() => {
    const centred = sub(x, mean(x, { axes, keepDims: true }));
    const count = sizeOf(axes.map((axis) => x.shape[axis]!));
    const variance = mul(sumSquares(centred, { axes, keepDims: true }), 1 / count);
    return div(centred, sqrt(add(variance, epsilon)));
  });
}

/** Along the last axis of [rows, n]. */
function rows(x: Tensor, epsilon: number): Tensor {
  const column: Shape = x.shape.slice(0, 1);
  const specs = [x, { shape: column, dtype: "f32" as const }, { shape: column, dtype: "f32" as const }];
  const [y, means, scales] = runMany(standardizeKernel, [x], specs, { epsilon }) as [Tensor, Tensor, Tensor];
  record(y, {
    op: "standardize",
    inputs: [x],
    saved: [x, means, scales],
    backward: (dy, [input, m, s]) => [() => run(standardizeGradientKernel, [dy, input!, m!, s!], dy, undefined)],
    derivable: (dy, [input]) => {
      const along = (t: Tensor) => mean(t, { axis: 1, keepDims: true });
      const centred = sub(input!, along(input!));
      const scale = reciprocal(sqrt(add(along(mul(centred, centred)), epsilon)));
      const normalized = mul(centred, scale);
      return [() => mul(scale, sub(sub(dy, along(dy)), mul(normalized, along(mul(dy, normalized)))))];
    },
  });
  means.dispose();
  scales.dispose();
  return y;
}
