// Differentiable elementwise operations: a function for each row of the tables in kernels/elementwise-table.ts, and
// those that are no rows. All of this is public.
import { castKernel } from "../../kernels/elementwise.js";
import { type DType, dtypeRule } from "../../tensor/dtype.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyNumber, check } from "../../tensor/options.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { renamed } from "../tape.js";
import { binaryOf, unary, unaryOf } from "./elementwise-rows.js";

export { where } from "./elementwise-rows.js";

export const neg = unaryOf("neg");
export const exp = unaryOf("exp");
export const log = unaryOf("log");
export const sqrt = unaryOf("sqrt");
/** 1 / sqrt(x). */
export const rsqrt = unaryOf("rsqrt");
export const square = unaryOf("square");
export const reciprocal = unaryOf("reciprocal");
export const abs = unaryOf("abs");
export const sign = unaryOf("sign");
export const floor = unaryOf("floor");
export const sin = unaryOf("sin");
export const cos = unaryOf("cos");
export const tan = unaryOf("tan");
export const atan = unaryOf("atan");
/** e^x - 1, precise near 0. */
export const expm1 = unaryOf("expm1");
/** log(1 + x), precise near 0. */
export const log1p = unaryOf("log1p");
/** The error function, 2 / sqrt(pi) times the integral of e^(-t²) from 0 to x. */
export const erf = unaryOf("erf");
export const tanh = unaryOf("tanh");
export const sigmoid = unaryOf("sigmoid");
export const relu = unaryOf("relu");
/** min(max(x, 0), 6) (Krizhevsky 2010). */
export const relu6 = unaryOf("relu6");
export const softplus = unaryOf("softplus");
export const gelu = unaryOf("gelu");
export const lecunTanh = unaryOf("lecunTanh");

/** x for x > 0, else `negativeSlope` * x. */
export const leakyRelu = unaryOf("leakyRelu");

/**
 * x for x > 0, else alpha (e^x - 1) (Clevert et al. 2015); alpha is 1 by default.
 * @example elu(x, { alpha: 0.5 })
 */
export const elu = unaryOf("elu");
/** 1.0507 x for x > 0, else 1.7581 (e^x - 1) (Klambauer et al. 2017). */
export const selu = unaryOf("selu");
/** x sigmoid(x), which is also called SiLU. */
export const swish = unaryOf("swish");
/** x / 6 + 1/2, limited to [0, 1], as in Keras 3 and PyTorch. */
export const hardSigmoid = unaryOf("hardSigmoid");
/** x hardSigmoid(x). */
export const hardSwish = unaryOf("hardSwish");

/** x limited to [minimum, maximum], either of which may be infinite; the gradient passes inside and on the bounds. */
export function clip(x: Tensor, minimum: number, maximum: number): Tensor {
  check("clip", "minimum", minimum, anyNumber);
  check("clip", "maximum", maximum, anyNumber);
  if (!(minimum <= maximum)) {
    throw new ShapeError(`clip: minimum must not exceed maximum, got ${minimum} and ${maximum}`);
  }
  return unary("clip", x, minimum, maximum);
}

export const add = binaryOf("add");
export const sub = binaryOf("sub");
export const mul = binaryOf("mul");
export const div = binaryOf("div");
export const pow = binaryOf("pow");
export const maximum = binaryOf("maximum");
export const minimum = binaryOf("minimum");
/**
 * a for a > 0, else b a, with broadcasting: a rectifier whose slopes b are learned (He et al. 2015).
 * @example prelu(images, slopes) // f32 [N, H, W, C] and [C]: a slope per channel
 */
export const prelu = binaryOf("prelu");
/** Comparisons give u32 tensors of 0 and 1. */
export const equal = binaryOf("equal");
export const notEqual = binaryOf("notEqual");
export const less = binaryOf("less");
export const lessEqual = binaryOf("lessEqual");
export const greater = binaryOf("greater");
export const greaterEqual = binaryOf("greaterEqual");

/**
 * x in another dtype, or x itself, gradient and all. Floats are truncated towards zero; what lies outside the integers'
 * range becomes their nearest end (2147483647 for 3e9 as i32, 0 for -1 as u32), and NaN becomes 0. Integers keep their
 * 32 bits: -1 as u32 is 4294967295. No gradient flows through integers.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  requireTensor("cast", "x", x);
  check("cast", "dtype", dtype, dtypeRule);
  if (x.dtype !== dtype) return run(castKernel, [x], { shape: x.shape, dtype }, {});
  return renamed("cast", x);
}
