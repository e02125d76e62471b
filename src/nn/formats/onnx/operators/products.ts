// Operators of matrix products.

import { full } from "../../../../autograd/ops/create.js";
import { einsum } from "../../../../autograd/ops/einsum.js";
import { abs, add, div, equal, less, mul, sub, where } from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { argmax, sum } from "../../../../autograd/ops/reduce.js";
import { expandDims, reshape, slice, transpose } from "../../../../autograd/ops/transform.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
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

/** Most rows of a matrix whose determinant is computed, one after the other. */
const MOST_ROWS = 64;

/**
 * Determinants of [..., n, n] by elimination. In each step the row with the largest element of a column is taken from
 * all others, itself included, which leaves zeros of it. The sign is that of the order of the rows.
 */
function determinant(call: OperatorCall): Value {
  const given = call.float(0);
  const n = given.shape.at(-1)!;
  if (given.rank < 2 || given.shape.at(-2) !== n || n > MOST_ROWS) {
    call.refuse(`must have square matrices of at most ${MOST_ROWS} rows, has [${given.shape}]`);
  }
  const outer = given.shape.slice(0, -2);
  let x = reshape(given, [-1, n, n]);
  const batch = x.shape[0]!;
  const starts = tensor(
    x.device,
    Int32Array.from({ length: batch }, (_, b) => b * n),
  );
  const rows: Tensor[] = [];
  let y = full(x.device, [batch], 1);
  for (let k = 0; k < n; k++) {
    const column = slice(x, [0, 0, k], [batch, n, 1]);
    const place = argmax(abs(reshape(column, [batch, n])), { axis: 1 });
    const row = gather(reshape(x, [batch * n, n]), add(place, starts));
    const pivot = slice(row, [0, k], [batch, 1]);
    y = mul(y, reshape(pivot, [batch]));
    for (const before of rows) y = mul(y, where(less(place, before), full(x.device, [], -1), full(x.device, [], 1)));
    rows.push(place);
    const divisor = where(equal(pivot, 0), full(x.device, [], 1), pivot);
    const share = div(column, expandDims(divisor, 1));
    const rest = sub(x, mul(share, expandDims(row, 1)));
    // Exact zeros, so that the row is not taken again.
    const own = tensor(
      x.device,
      Int32Array.from({ length: n }, (_, i) => i),
      { shape: [1, n, 1] },
    );
    x = where(equal(own, reshape(place, [batch, 1, 1])), full(x.device, [], 0), rest);
  }
  return call.like(0, reshape(y, outer));
}

export const products: Operators = {
  Det: determinant,
  MatMul: (call) => call.like(0, product(call.tensor(0), call.tensor(1))),
  Gemm: general,
  Einsum: (call) =>
    call.like(0, einsum(call.text("equation", "").replaceAll(" ", ""), ...call.inputs.map((_, i) => call.float(i)))),
};
