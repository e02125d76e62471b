// Operators of matrix products.

import { einsum } from "../../../../autograd/ops/einsum.js";
import { add, mul } from "../../../../autograd/ops/elementwise.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { sum } from "../../../../autograd/ops/reduce.js";
import { expandDims, reshape, transpose } from "../../../../autograd/ops/transform.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";

/** NumPy's matmul: a vector is a row on the left, a column on the right, and leaves no axis. */
export function product(a: Tensor, b: Tensor): Tensor {
  const [left, right] = [a.rank === 1 ? expandDims(a, 0) : a, b.rank === 1 ? expandDims(b, 1) : b];
  const y =
    a.dtype === "f32" ? matmul(left, right) : sum(mul(expandDims(left, -1), expandDims(right, -3)), { axis: -2 });
  const shape = [...y.shape];
  if (b.rank === 1) shape.splice(-1, 1);
  if (a.rank === 1) shape.splice(b.rank === 1 ? -1 : -2, 1);
  return reshape(y, shape);
}

/** alpha a b + beta c, of matrices that may be stored transposed. */
function general(call: OperatorCall): Value {
  const [a, b] = [call.tensor(0), call.tensor(1)];
  const [alpha, beta] = [call.number("alpha", 1), call.number("beta", 1)];
  const [transposeA, transposeB] = [call.flag("transA"), call.flag("transB")];
  const turned = (x: Tensor, yes: boolean) => (yes ? transpose(x) : x);
  const whole =
    a.dtype === "f32"
      ? matmul(a, b, { transposeA, transposeB })
      : product(turned(a, transposeA), turned(b, transposeB));
  const y = alpha === 1 ? whole : mul(whole, alpha);
  const c = call.optional(2);
  if (c === undefined || beta === 0) return call.like(0, y);
  return call.like(0, add(y, beta === 1 ? c : mul(c, beta)));
}

export const products: Operators = {
  MatMul: (call) => call.like(0, product(call.tensor(0), call.tensor(1))),
  Gemm: general,
  Einsum: (call) =>
    call.like(0, einsum(call.text("equation", "").replaceAll(" ", ""), ...call.inputs.map((_, i) => call.float(i)))),
};
