// What metrics of classes count: which classes a batch's targets and predictions name.
import { add, cast, notEqual } from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { sum } from "../../autograd/ops/reduce.js";
import { reshape } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { formatShape, sameShape } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";

/** Targets beside predictions of any shape. */
export interface Targets {
  /** u32 of the prediction's shape: 1 for what is true. */
  readonly truth: Tensor;
  /** f32 [1]: elements of prediction and target that are NaN, ids that are no classes among them. */
  readonly unknown: Tensor;
}

/**
 * Class ids [N], or targets of the prediction's shape, of which all but 0 are true, as in Keras.
 * @throws ShapeError for other shapes
 */
export function targetsOf(op: string, prediction: Tensor, target: Tensor): Targets {
  const classes = prediction.shape.at(-1);
  const ids = target.dtype !== "f32";
  const expected = ids ? prediction.shape.slice(0, -1) : prediction.shape;
  if (classes === undefined || classes === 0 || !sameShape(target.shape, expected)) {
    throw new ShapeError(
      `${op}: needs predictions [N, ..., C] with class ids [N, ...], or with f32 targets of their shape, got ${formatShape(prediction.shape)} and ${target.dtype} ${formatShape(target.shape)}`,
    );
  }
  const values = ids ? oneHot(target, classes) : target;
  return {
    truth: notEqual(values, 0),
    unknown: add(countOf(notEqual(prediction, prediction)), countOf(notEqual(values, values))),
  };
}

/** Elements of a u32 tensor that are 1, as f32 [1]. */
export const countOf = (ones: Tensor): Tensor => reshape(cast(sum(ones), "f32"), [1]);

/** The figure, or NaN where elements were: what they would have been is not known. */
export const unlessUnknown = (unknown: number, figure: () => number): number => (unknown > 0 ? Number.NaN : figure());

/** a / b, 0 where b is 0, as in Keras. */
export const ratio = (a: number, b: number): number => (b === 0 ? 0 : a / b);
