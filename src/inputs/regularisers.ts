// What images are to be besides fit for their objective: small, smooth. Each gives penalties that are added to it.
import { abs, mul, sub } from "../autograd/ops/elementwise.js";
import { sum, sumSquares } from "../autograd/ops/reduce.js";
import { slice } from "../autograd/ops/transform.js";
import { check, number } from "../tensor/options.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireImages } from "./images.js";
import type { Regularizer } from "./parts.js";

const ofEachImage = (x: Tensor) => ({ axes: x.shape.map((_, axis) => axis).slice(1) });

/** factor times the sum of an image's squared values. */
export function l2(factor: number): Regularizer {
  check("l2", "factor", factor, number({ from: 0 }));
  return (x) => mul(sumSquares(x, ofEachImage(x)), factor);
}

/**
 * factor times the total variation: the sum of |differences| between neighbours, down and across, of images [N, H, W,
 * C].
 * @throws ShapeError for what is no image
 */
export function totalVariation(factor: number): Regularizer {
  check("totalVariation", "factor", factor, number({ from: 0 }));
  return (x) => {
    requireImages("totalVariation", x.shape);
    return [1, 2].map((axis) => mul(sum(abs(differences(x, axis)), ofEachImage(x)), factor));
  };
}

/** x[i + 1] - x[i] along an axis. */
function differences(x: Tensor, axis: number): Tensor {
  const size = x.shape.map((n, a) => (a === axis ? n - 1 : n));
  const origin = x.shape.map(() => 0);
  const next = x.shape.map((_, a) => (a === axis ? 1 : 0));
  return sub(slice(x, next, size), slice(x, origin, size));
}
