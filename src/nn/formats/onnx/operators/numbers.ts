// What several operators are made of: functions of tensors that the engine has no row for, right for integers too.

import { zeros } from "../../../../autograd/ops/create.js";
import {
  abs,
  add,
  cast,
  div,
  equal,
  exp,
  floor,
  greater,
  less,
  maximum,
  minimum,
  mul,
  neg,
  notEqual,
  sign,
  sub,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { transpose } from "../../../../autograd/ops/transform.js";
import type { Shape } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";

/** Towards zero. */
export const truncated = (x: Tensor): Tensor => (x.dtype === "f32" ? mul(sign(x), floor(abs(x))) : x);

export const ceiled = (x: Tensor): Tensor => neg(floor(neg(x)));

/** To the nearest integer, halves to the even one. */
export function rounded(x: Tensor): Tensor {
  const up = floor(add(x, 0.5));
  const half = equal(sub(up, x), 0.5);
  const odd = notEqual(sub(up, mul(floor(mul(up, 0.5)), 2)), 0);
  const even = where(mul(half, odd), sub(up, 1), up);
  // Beyond 2^23 every float32 is whole, and adding 1/2 rounds.
  return where(less(abs(x), 2 ** 23), even, x);
}

export const negated = (x: Tensor): Tensor =>
  x.dtype === "f32" ? neg(x) : mul(x, x.dtype === "u32" ? 2 ** 32 - 1 : -1);

export const magnitude = (x: Tensor): Tensor =>
  x.dtype === "f32" ? abs(x) : x.dtype === "u32" ? x : maximum(x, mul(x, -1));

export function signOf(x: Tensor): Tensor {
  if (x.dtype === "f32") return sign(x);
  return sub(cast(greater(x, 0), x.dtype), cast(less(x, 0), x.dtype));
}

/** Quotient of integers, towards zero. Floats have 24 bits of 32, so what remains is divided again. */
export function quotient(a: Tensor, b: Tensor): Tensor {
  const floats = (x: Tensor) => cast(x, "f32");
  const divided = (x: Tensor) => cast(truncated(div(floats(x), floats(b))), a.dtype);
  let q = divided(a);
  if (a.dtype === "f32") return q;
  q = add(q, divided(sub(a, mul(q, b))));
  q = add(q, divided(sub(a, mul(q, b))));
  if (a.dtype === "u32") return q;
  // A remainder has the sign of a, or is 0.
  const rest = sub(a, mul(q, b));
  const wrong = mul(signOf(rest), signOf(a));
  const step = mul(signOf(a), signOf(b));
  return where(less(wrong, 0), sub(q, step), q);
}

/** What remains: of the dividend's sign as in C, or of the divisor's as in Python. */
export function remainder(a: Tensor, b: Tensor, { whole, asC }: { whole: boolean; asC: boolean }): Tensor {
  const q = whole ? quotient(a, b) : truncated(div(a, b));
  const part = sub(a, mul(q, b));
  // What an infinite divisor leaves is all of it.
  const rest = whole ? part : where(equal(abs(b), Number.POSITIVE_INFINITY), a, part);
  if (asC) return rest;
  const differ = mul(notEqual(rest, 0), notEqual(signOf(rest), signOf(b)));
  return where(differ, add(rest, b), rest);
}

/** 1 where not 0, else 0, as numbers of the same dtype. */
export const truth = (x: Tensor): Tensor => cast(notEqual(x, 0), x.dtype);

/** x limited by tensors, or numbers; either may be left out. */
export function limited(x: Tensor, low: Tensor | number | undefined, high: Tensor | number | undefined): Tensor {
  const from = low === undefined ? x : maximum(x, low);
  return high === undefined ? from : minimum(from, high);
}

export const sinh = (x: Tensor): Tensor => mul(sub(exp(x), exp(neg(x))), 0.5);
export const cosh = (x: Tensor): Tensor => mul(add(exp(x), exp(neg(x))), 0.5);

/** A constant of a tensor's device and dtype. */
export const constantLike = (x: Tensor, values: ArrayLike<number>, shape: Shape): Tensor =>
  tensor(x.device, values, { shape, dtype: x.dtype });

export const zeroLike = (x: Tensor): Tensor => zeros(x.device, [], x.dtype);

/** Channels as the last axis: [N, C, ...] to [N, ..., C]. */
export const toLast = (x: Tensor): Tensor =>
  x.rank < 3 ? x : transpose(x, [0, ...x.shape.map((_, axis) => axis).slice(2), 1]);

/** [N, ..., C] to [N, C, ...]. */
export const fromLast = (x: Tensor): Tensor =>
  x.rank < 3 ? x : transpose(x, [0, x.rank - 1, ...x.shape.map((_, axis) => axis).slice(1, -1)]);
