// Operators on the bits of integers, made of integer arithmetic. Tensors have 32 bits; narrower types keep their lower
// ones.
import { zeros } from "../../../../autograd/ops/create.js";
import {
  add,
  cast,
  floor,
  less,
  maximum,
  minimum,
  mul,
  notEqual,
  pow,
  sub,
  where,
} from "../../../../autograd/ops/elementwise.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import type { ElementType } from "../value.js";
import type { Operator, Operators } from "./call.js";
import { quotient, remainder } from "./numbers.js";

const WIDTHS: Partial<Record<ElementType, number>> = {
  ...{ uint8: 8, int8: 8, uint16: 16, int16: 16 },
  ...{ uint4: 4, int4: 4, uint2: 2, int2: 2 },
};
const signed = (type: ElementType) => type.startsWith("int");
const like = (x: Tensor, value: number) => add(zeros(x.device, [], x.dtype), value);

/** Integers by the lower bits that their type has. */
export function narrowed(x: Tensor, type: ElementType): Tensor {
  const width = WIDTHS[type] ?? (x.dtype === "f32" && type.endsWith("32") ? 32 : undefined);
  if (width === undefined) return x;
  const low = signed(type) ? -(2 ** (width - 1)) : 0;
  return add(remainder(sub(x, low), like(x, 2 ** width), { whole: true, asC: false }), low);
}

/** Towards minus infinity, by a power of two up to 2^16. */
function halved(x: Tensor, scale: Tensor): Tensor {
  if (x.dtype === "u32") return quotient(x, scale);
  const q = quotient(x, scale);
  return where(less(x, mul(q, scale)), sub(q, 1), q);
}

/** In two steps, whose factors 32 bits hold. */
const shift: Operator = (call) => {
  const { type } = call.value(0);
  const [x, given] = [call.tensor(0), call.tensor(1)];
  const left = call.choice("direction", ["LEFT", "RIGHT"], "LEFT") === "LEFT";
  // A negative distance is one beyond all bits, as if it had no sign.
  const distance = cast(minimum(where(less(given, 0), like(given, 32), given), 32), "f32");
  const first = floor(mul(distance, 0.5));
  let y = x;
  for (const part of [first, sub(distance, first)]) {
    const scale = cast(pow(2, part), x.dtype);
    y = left ? narrowed(mul(y, scale), type) : halved(y, scale);
  }
  return call.like(0, y);
};

/** Of both operands, bit by bit; `keeps` of two bits. */
const merge =
  (keeps: (a: Tensor, b: Tensor) => Tensor): Operator =>
  (call) => {
    const { type } = call.value(0);
    const width = WIDTHS[type] ?? 32;
    const bits = (x: Tensor) => (x.dtype === "f32" ? where(less(x, 0), add(x, 2 ** width), x) : cast(x, "u32"));
    let [a, b] = [bits(call.tensor(0)), bits(call.tensor(1))];
    let total: Tensor | undefined;
    for (let k = 0; k < width; k++) {
      const [half, other] = [quotient(a, like(a, 2)), quotient(b, like(b, 2))];
      const bit = keeps(sub(a, mul(half, 2)), sub(b, mul(other, 2)));
      const value = mul(cast(bit, a.dtype), 2 ** k);
      total = total === undefined ? value : add(total, value);
      [a, b] = [half, other];
    }
    return call.like(
      0,
      narrowed(cast(total!, call.place.exact ? "f32" : signed(type) || width < 32 ? "i32" : "u32"), type),
    );
  };

export const bitwise: Operators = {
  BitShift: shift,
  BitwiseAnd: merge((a, b) => minimum(a, b)),
  BitwiseOr: merge((a, b) => maximum(a, b)),
  BitwiseXor: merge((a, b) => notEqual(a, b)),
  BitwiseNot: (call) => {
    const { type } = call.value(0);
    const x = call.tensor(0);
    const width = WIDTHS[type] ?? 32;
    return call.like(0, sub(like(x, signed(type) ? -1 : 2 ** width - 1), x));
  },
};
