// Conditions: isNan, isFinite, any, all. They give u32 tensors of 0 and 1, through which no gradient flows.
import { axesRules, takeAxes } from "../../tensor/axes.js";
import { boolean } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { type Axes, normalizeAxes, sizeOf } from "../../tensor/shape.js";
import { requireTensor, type Tensor } from "../../tensor/tensor.js";
import { noGrad } from "../tape.js";
import { full } from "./create.js";
import { abs, equal, less, notEqual } from "./elementwise.js";
import { max, min, type ReduceOptions } from "./reduce.js";

/**
 * 1 where x is NaN, else 0: u32 of x's shape. Integers are none.
 * @example any(isNan(x))
 */
export function isNan(x: Tensor): Tensor {
  requireTensor("isNan", "x", x);
  return notEqual(x, x);
}

/**
 * 1 where x is neither NaN nor infinite, else 0: u32 of x's shape. Integers are finite.
 * @example where(isFinite(x), x, zerosLike(x))
 */
function finite(x: Tensor): Tensor {
  requireTensor("isFinite", "x", x);
  return x.dtype === "f32" ? noGrad(() => scope(() => less(abs(x), Number.POSITIVE_INFINITY))) : equal(x, x);
}

// By this name there is a function of JavaScript, too.
export { finite as isFinite };

/**
 * Whether an element is not 0, over axes: u32, 1 or 0. A NaN is not 0, as in PyTorch; of no elements none is.
 *
 * @example any(isNan(x)), any(x, { axis: 1, keepDims: true })
 */
export function any(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  return overAxes("any", x, axes, options);
}

/**
 * Whether no element is 0, over axes: u32, 1 or 0. A NaN is not 0, as in PyTorch; of no elements none is 0.
 *
 * @example all(isFinite(x)), all(x, { axis: 1, keepDims: true })
 */
export function all(x: Tensor, axes?: Axes | ReduceOptions, options?: ReduceOptions): Tensor {
  return overAxes("all", x, axes, options);
}

function overAxes(op: "any" | "all", x: Tensor, given?: Axes | ReduceOptions, further?: ReduceOptions): Tensor {
  requireTensor(op, "x", x);
  const { axes: named, options } = takeAxes<ReduceOptions>(op, given, further, { ...axesRules, keepDims: boolean });
  const axes = normalizeAxes(op, named, x.rank);
  const along = { axes, keepDims: options.keepDims ?? false };
  if (sizeOf(axes.map((axis) => x.shape[axis]!)) > 0) {
    return scope(() => (op === "any" ? max : min)(notEqual(x, 0), along));
  }
  const shape = x.shape.flatMap((n, axis) => (!axes.includes(axis) ? [n] : along.keepDims ? [1] : []));
  return full(x.device, shape, op === "any" ? 0 : 1, "u32");
}
