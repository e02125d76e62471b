// Operators on elements: arithmetic, functions, comparisons, conditions and conversions, with NumPy's broadcasting.
import { zeros } from "../../../../autograd/ops/create.js";
import {
  abs,
  add,
  atan,
  cast,
  clip,
  cos,
  div,
  elu,
  equal,
  erf,
  exp,
  floor,
  gelu,
  greater,
  greaterEqual,
  hardSwish,
  leakyRelu,
  less,
  lessEqual,
  log,
  log1p,
  maximum,
  minimum,
  mul,
  neg,
  notEqual,
  pow,
  prelu,
  reciprocal,
  relu,
  selu,
  sigmoid,
  sin,
  softplus,
  sqrt,
  square,
  sub,
  swish,
  tan,
  tanh,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { reshape } from "../../../../autograd/ops/transform.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import { isSmallFloat, narrowedFloat } from "../narrow.js";
import { ELEMENT_TYPES, type ElementType, isFloat, Value } from "../value.js";
import { bitwise, narrowed } from "./bits.js";
import type { Operator, OperatorCall, Operators } from "./call.js";
import {
  ceiled,
  cosh,
  limited,
  magnitude,
  negated,
  quotient,
  remainder,
  rounded,
  signOf,
  sinh,
  truncated,
  truth,
} from "./numbers.js";

/** A function of one tensor of floats. */
const unary =
  (apply: (x: Tensor, call: OperatorCall) => Tensor): Operator =>
  (call) =>
    call.like(0, apply(call.float(0), call));

/** A function of one tensor of any numbers. */
const ofNumbers =
  (apply: (x: Tensor) => Tensor): Operator =>
  (call) =>
    call.like(0, apply(call.tensor(0)));

/** What the operands broadcast to; below operator set 7 the second stands at an axis of the first. */
function operands(call: OperatorCall): [Tensor, Tensor] {
  const [a, b] = [call.tensor(0), call.tensor(1)];
  if (call.opset >= 7 || !call.flag("broadcast") || !call.given("axis")) return [a, b];
  const axis = call.axis(call.number("axis"), a.rank);
  return [a, reshape(b, [...b.shape, ...new Array<number>(Math.max(0, a.rank - axis - b.rank)).fill(1)])];
}

const binary =
  (apply: (a: Tensor, b: Tensor, call: OperatorCall) => Tensor): Operator =>
  (call) =>
    call.like(0, apply(...operands(call), call));

const comparison =
  (apply: (a: Tensor, b: Tensor) => Tensor): Operator =>
  (call) =>
    call.make("bool", apply(...operands(call)));

/** Of one tensor or more. */
const variadic =
  (merge: (a: Tensor, b: Tensor) => Tensor): Operator =>
  (call) => {
    const all = call.inputs.map((_, i) => call.tensor(i));
    return call.like(0, all.slice(1).reduce(merge, all[0] ?? call.refuse("must have an input, has none")));
  };

const isWhole = (call: OperatorCall, i = 0) => !isFloat(call.value(i).type);

const gelus = {
  none: gelu,
  /** Hendrycks, Gimpel 2016: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))). */
  tanh: (x: Tensor) =>
    mul(mul(x, 0.5), add(tanh(mul(add(x, mul(mul(square(x), x), 0.044715)), Math.sqrt(2 / Math.PI))), 1)),
};

/** x tanh(log(1 + e^x)), which is x n (n + 2) / (n (n + 2) + 2) for n = e^x; beyond 20 it is x. */
function mish(x: Tensor): Tensor {
  const n = exp(clip(x, Number.NEGATIVE_INFINITY, 20));
  const p = mul(n, add(n, 2));
  return mul(x, div(p, add(p, 2)));
}

/** asin by atan; where |x| is 1, the quotient is infinite, and atan of that pi / 2. */
const asin = (x: Tensor) => atan(div(x, sqrt(sub(1, square(x)))));
/** log(x + sqrt(x² + 1)) of the magnitude, which loses nothing near 0. */
const asinh = (x: Tensor) => {
  const [a, squared] = [abs(x), square(x)];
  return mul(signOf(x), log1p(add(a, div(squared, add(sqrt(add(squared, 1)), 1)))));
};

/** x to a power; integers by floats, whose results are rounded. */
function power(call: OperatorCall): Tensor {
  const [a, b] = operands(call);
  const floats = pow(cast(a, "f32"), cast(b, "f32"));
  return isWhole(call) ? cast(truncated(add(floats, mul(signOf(floats), 1e-3))), a.dtype) : floats;
}

/** Elements of another type. Integers keep the lower bits of what is out of range, as C does. */
export function converted(x: Value, type: ElementType, call: OperatorCall): Value {
  const t = x.on(call.place);
  if (type === "bool") return call.make("bool", notEqual(t, 0));
  if (isSmallFloat(type)) return call.make(type, narrowedFloat(cast(t, "f32"), type, call.flag("saturate", 1)));
  if (isFloat(type)) return call.make(type, t);
  const whole = isFloat(x.type) ? truncated(t) : t;
  return call.make(type, narrowed(call.place.exact ? whole : cast(whole, "i32"), type));
}

function typeOf(call: OperatorCall, number: number): ElementType {
  const type = ELEMENT_TYPES[number];
  return type ?? call.refuse(`converts to the element type ${number}, which is none of numbers up to 64 bits`);
}

const arrays = {
  ...{ float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array },
  ...{ uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, bool: Uint8Array },
} as const;

/** The same bits as numbers of another type: of integers by arithmetic, of floats where they are known. */
function reread(call: OperatorCall): Value {
  const { type, host, shape } = call.value(0);
  const wanted = typeOf(call, call.number("to"));
  const isLong = (each: ElementType) => each === "int64" || each === "uint64";
  if (host !== undefined) {
    const values = Array.from(host as ArrayLike<number>);
    const buffer = isLong(type)
      ? BigInt64Array.from(values, BigInt).buffer
      : (arrays[type as "int8"] ?? call.refuse(`must be of 8, 32 or 64 bits, is ${type}`)).from(values).buffer;
    const made = isLong(wanted)
      ? Array.from(new BigInt64Array(buffer), Number)
      : Array.from(
          new (arrays[wanted as "int8"] ?? call.refuse(`must give 8, 32 or 64 bits, gives ${wanted}`))(buffer),
        );
    if (made.length !== values.length) call.refuse(`must keep the number of bits, turns ${type} into ${wanted}`);
    return Value.of(wanted, shape, made);
  }
  if (isFloat(type) || isFloat(wanted)) call.refuse("must be of constants, or of integers on both sides");
  return converted(call.value(0), wanted, call);
}

/** Bounds are attributes below operator set 11, and inputs from then on. */
function clipped(call: OperatorCall): Value {
  const x = call.tensor(0);
  const bound = (i: 1 | 2, name: string): Tensor | number | undefined => {
    if (call.opset < 11) return call.given(name) ? call.number(name) : undefined;
    const value = call.inputs[i];
    if (value?.host !== undefined && value.host.length === 1) return value.host[0]!;
    return value?.on(call.place);
  };
  const [low, high] = [bound(1, "min"), bound(2, "max")];
  const known = (value: typeof low) => value === undefined || typeof value === "number";
  if (x.dtype === "f32" && known(low) && known(high)) {
    const [from, to] = [(low as number) ?? Number.NEGATIVE_INFINITY, (high as number) ?? Number.POSITIVE_INFINITY];
    // Where the bounds are the wrong way round the upper one holds.
    if (from <= to) return call.like(0, clip(x, from, to));
  }
  return call.like(0, limited(x, low, high));
}

export const elementwise: Operators = {
  Abs: ofNumbers(magnitude),
  Neg: ofNumbers(negated),
  Sign: ofNumbers(signOf),
  Relu: (call) => call.like(0, isWhole(call) ? maximum(call.tensor(0), 0) : relu(call.tensor(0))),
  Exp: unary(exp),
  Log: unary(log),
  Sqrt: unary(sqrt),
  Reciprocal: unary(reciprocal),
  Erf: unary(erf),
  Sin: unary(sin),
  Cos: unary(cos),
  Tan: unary(tan),
  Atan: unary(atan),
  Asin: unary(asin),
  Acos: unary((x) => sub(Math.PI / 2, asin(x))),
  Sinh: unary(sinh),
  Cosh: unary(cosh),
  Asinh: unary(asinh),
  Acosh: unary((x) => log(add(x, sqrt(sub(square(x), 1))))),
  Atanh: unary((x) => mul(sub(log1p(x), log1p(neg(x))), 0.5)),
  Tanh: unary(tanh),
  Sigmoid: unary(sigmoid),
  Softplus: unary(softplus),
  Softsign: unary((x) => div(x, add(abs(x), 1))),
  Floor: unary(floor),
  Ceil: unary(ceiled),
  Round: unary(rounded),
  Mish: unary(mish),
  Swish: unary((x, call) => {
    const alpha = call.number("alpha", 1);
    return alpha === 1 ? swish(x) : mul(x, sigmoid(mul(x, alpha)));
  }),
  Gelu: unary((x, call) => gelus[call.choice("approximate", ["none", "tanh"], "none")](x)),
  HardSwish: unary(hardSwish),
  HardSigmoid: unary((x, call) => clip(add(mul(x, call.number("alpha", 0.2)), call.number("beta", 0.5)), 0, 1)),
  LeakyRelu: unary((x, call) => leakyRelu(x, { negativeSlope: call.number("alpha", 0.01) })),
  Elu: unary((x, call) => elu(x, { alpha: call.number("alpha", 1) })),
  Selu: unary((x, call) => {
    const alpha = call.number("alpha", 1.6732631921768188);
    const gamma = call.number("gamma", 1.0507010221481323);
    return alpha === 1.6732631921768188 && gamma === 1.0507010221481323 ? selu(x) : mul(elu(x, { alpha }), gamma);
  }),
  Celu: unary((x, call) => {
    const alpha = call.number("alpha", 1);
    return mul(elu(mul(x, 1 / alpha)), alpha);
  }),
  ThresholdedRelu: unary((x, call) => where(greater(x, call.number("alpha", 1)), x, zeros(x.device, []))),
  Shrink: (call) => {
    const [x, bias, bound] = [call.tensor(0), call.number("bias", 0), call.number("lambd", 0.5)];
    const inside = where(less(x, -bound), add(x, bias), zeros(x.device, [], x.dtype));
    return call.like(0, where(greater(x, bound), sub(x, bias), inside));
  },
  PRelu: binary((x, given, call) => {
    // Below operator set 7 a list of slopes is one for each channel.
    const channels = call.opset < 7 && given.rank === 1 && given.size > 1;
    const slope = channels ? reshape(given, [given.size, ...new Array<number>(x.rank - 2).fill(1)]) : given;
    if (!isWhole(call)) return prelu(x, slope);
    return where(less(x, 0), mul(x, slope), x);
  }),
  Add: binary(add),
  Sub: binary(sub),
  Mul: binary(mul),
  Div: binary((a, b, call) => (isWhole(call) ? quotient(a, b) : div(a, b))),
  Pow: (call) => call.like(0, power(call)),
  Mod: (call) => {
    const [a, b] = operands(call);
    return call.like(0, remainder(a, b, { whole: isWhole(call), asC: call.flag("fmod") }));
  },
  ...bitwise,
  Sum: variadic(add),
  Max: variadic(maximum),
  Min: variadic(minimum),
  Mean: (call) => {
    const all = call.inputs.map((_, i) => call.float(i));
    return call.like(0, div(all.slice(1).reduce(add, all[0]!), all.length));
  },
  Equal: comparison(equal),
  Less: comparison(less),
  LessOrEqual: comparison(lessEqual),
  Greater: comparison(greater),
  GreaterOrEqual: comparison(greaterEqual),
  And: comparison((a, b) => mul(truth(a), truth(b))),
  Or: comparison((a, b) => maximum(truth(a), truth(b))),
  Xor: comparison((a, b) => notEqual(truth(a), truth(b))),
  Not: (call) => call.make("bool", equal(call.tensor(0), 0)),
  IsNaN: (call) => call.make("bool", notEqual(call.float(0), call.float(0))),
  IsInf: (call) => {
    const x = call.float(0);
    const [up, down] = [call.flag("detect_positive", 1), call.flag("detect_negative", 1)];
    const size = up && down ? abs(x) : down ? neg(x) : x;
    if (!up && !down) return call.make("bool", zeros(x.device, x.shape));
    return call.make("bool", equal(size, Number.POSITIVE_INFINITY));
  },
  Where: (call) => call.like(1, where(call.tensor(0), call.tensor(1), call.tensor(2))),
  Clip: clipped,
  Cast: (call) => {
    const { value } = { value: call.value(0) };
    return converted(value, typeOf(call, call.number("to")), call);
  },
  BitCast: reread,
  CastLike: (call) => converted(call.value(0), call.value(1).type, call),
};
