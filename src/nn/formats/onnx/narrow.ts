// Element types of less than 16 bits: floats of 8 and 4 bits, integers of 4 and 2. As tensors they are numbers of
// float32 or i32, which hold all their values.
import { full } from "../../../autograd/ops/create.js";
import {
  abs,
  add,
  cast,
  clip,
  equal,
  floor,
  greater,
  log,
  mul,
  notEqual,
  sign,
  sub,
  where,
} from "../../../autograd/ops/elementwise.js";
import { gather } from "../../../autograd/ops/gather.js";
import { detach } from "../../../autograd/tape.js";
import { type Tensor, tensor } from "../../../tensor/tensor.js";
import { rounded } from "./operators/numbers.js";

/** Floats of a sign, an exponent and a fraction. */
interface SmallFloat {
  readonly exponentBits: number;
  readonly fractionBits: number;
  /** 2^-bias times 2 is the smallest number with a whole fraction. */
  readonly bias: number;
  readonly largest: number;
  /** What is beyond the largest number, unless it is that number. Where it always is, NaN is 0. */
  readonly beyond: "infinity" | "NaN" | "largest";
}

export type SmallFloatName = "float8e4m3fn" | "float8e4m3fnuz" | "float8e5m2" | "float8e5m2fnuz" | "float4e2m1";

/** IEEE 754's rules, but for what their names say: fn has no infinities, uz no negative zero, which is NaN there. */
export const SMALL_FLOATS: Readonly<Record<SmallFloatName, SmallFloat>> = {
  float8e4m3fn: { exponentBits: 4, fractionBits: 3, bias: 7, largest: 448, beyond: "NaN" },
  float8e4m3fnuz: { exponentBits: 4, fractionBits: 3, bias: 8, largest: 240, beyond: "NaN" },
  float8e5m2: { exponentBits: 5, fractionBits: 2, bias: 15, largest: 57344, beyond: "infinity" },
  float8e5m2fnuz: { exponentBits: 5, fractionBits: 2, bias: 16, largest: 57344, beyond: "NaN" },
  float4e2m1: { exponentBits: 2, fractionBits: 1, bias: 1, largest: 6, beyond: "largest" },
};

export const isSmallFloat = (type: string): type is SmallFloatName => Object.hasOwn(SMALL_FLOATS, type);

/** The number that bits stand for. */
export function smallFloat(type: SmallFloatName, bits: number): number {
  const { exponentBits, fractionBits, bias, largest } = SMALL_FLOATS[type];
  const negative = (bits >> (exponentBits + fractionBits)) & 1;
  const magnitude = bits & (2 ** (exponentBits + fractionBits) - 1);
  if (type.endsWith("uz") && negative === 1 && magnitude === 0) return Number.NaN;
  const exponent = magnitude >> fractionBits;
  const fraction = (magnitude & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const value = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
  if (value > largest)
    return fraction === 0 && type === "float8e5m2" ? (1 - 2 * negative) * Number.POSITIVE_INFINITY : Number.NaN;
  return negative === 1 ? -value : value;
}

/** Exponents from the smallest of any type to beyond the largest. */
const LOWEST = -20;
const POWERS = Float32Array.from({ length: 41 }, (_, k) => 2 ** (k + LOWEST));

/**
 * Numbers rounded to those of a type, halves to the even one. The gradient passes as if they were not rounded, but for
 * those that are cut to the largest. `saturate` says whether infinity and what is beyond is the largest number.
 */
export function narrowedFloat(x: Tensor, type: SmallFloatName, saturate: boolean): Tensor {
  const { fractionBits, bias, largest, beyond } = SMALL_FLOATS[type];
  const low = clip(x, -2 * largest, 2 * largest);
  const size = abs(detach(low));
  // Where the logarithm's last digit is wrong, the number is next to a power of 2, which both steps lead to.
  const exponent = clip(floor(mul(log(size), Math.LOG2E)), 1 - bias, 20);
  const index = cast(sub(exponent, fractionBits + LOWEST), "i32");
  const step = gather(tensor(x.device, POWERS), index);
  const inverse = gather(
    tensor(
      x.device,
      POWERS.map((power) => 1 / power),
    ),
    index,
  );
  const found = mul(mul(rounded(mul(size, inverse)), step), sign(detach(low)));
  const isNan = notEqual(x, x);
  if (saturate || beyond === "largest") {
    const cut = clip(x, -largest, largest);
    const near = clip(found, -largest, largest);
    return where(isNan, beyond === "largest" ? full(x.device, [], 0) : x, add(cut, sub(near, detach(cut))));
  }
  const over = greater(abs(found), largest);
  const own = type === "float8e5m2" ? mul(sign(detach(low)), Number.POSITIVE_INFINITY) : full(x.device, [], Number.NaN);
  const kept = where(equal(abs(x), Number.POSITIVE_INFINITY), full(x.device, [], 0), low);
  return where(isNan, x, where(over, own, add(kept, sub(found, detach(kept)))));
}

export type SmallInteger = "uint4" | "int4" | "uint2" | "int2";

/** Integers of some bits, the first in the lowest bits of each byte. */
export function unpacked(bytes: ArrayLike<number>, count: number, bits: number): number[] {
  const each = 8 / bits;
  return Array.from(
    { length: count },
    (_, i) => (bytes[Math.floor(i / each)]! >> (bits * (i % each))) & (2 ** bits - 1),
  );
}
