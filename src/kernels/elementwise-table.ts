// Every elementwise operation is one row: WGSL, float64 reference, and derivatives. Kernels, tensor methods, gradient
// checks and parity tests all iterate over these tables. WGSL expressions are written for a type `T`
// (vec4f, or f32 in scalar loops), its companions (ieee.ts) and its boolean `select`; `p` and `q` are the row's
// parameters.
//
// Special values come out as in IEEE 754 and C, which is as in PyTorch, on both devices: NaN goes through, infinities
// too. Where PyTorch itself hides a NaN it does not here: sign(NaN) and the derivative of abs there are NaN, not 0.
// WebGPU adapters may take subnormal numbers (below 1.2e-38) for 0, and may lose the sign of a 0.
import { RELU, unlessNan } from "./ieee.js";

/** A tensor that a tape records, or a number. */
export type Value<V> = V | number;

/**
 * What derivatives of slopes are written with: operations of these tables, on tensors that a tape records, and on
 * numbers. So they have derivatives themselves.
 */
export interface Arithmetic<V> extends Readonly<Record<"add" | "sub" | "mul" | "div" | "pow", Of2<V>>> {
  readonly equal: Of2<V>;
  readonly greater: Of2<V>;
  readonly minimum: Of2<V>;
  readonly neg: Of1<V>;
  readonly exp: Of1<V>;
  readonly log: Of1<V>;
  readonly square: Of1<V>;
  readonly reciprocal: Of1<V>;
  readonly sin: Of1<V>;
  readonly cos: Of1<V>;
  readonly tanh: Of1<V>;
  readonly sigmoid: Of1<V>;
  /** condition ? a : b. */
  readonly where: (condition: Value<V>, a: Value<V>, b: Value<V>) => Value<V>;
}
type Of1<V> = (x: Value<V>) => Value<V>;
type Of2<V> = (a: Value<V>, b: Value<V>) => Value<V>;

/** Derivative of a slope for what it is a function of; null where that is zero almost everywhere. */
export type Curvature = (<V>(o: Arithmetic<V>, v: Value<V>, p: number, q: number) => Value<V>) | null;

/** A function of one f32 tensor. */
export interface UnaryRow {
  /** y from x. */
  readonly wgsl: string;
  readonly cpu: (x: number, p: number, q: number) => number;
  /** dx from dy and x or y (`from`); null where the derivative is zero almost everywhere. */
  readonly gradient: {
    readonly from: "x" | "y";
    readonly wgsl: string;
    readonly cpu: (dy: number, v: number, p: number, q: number) => number;
    /** Derivative of dx / dy for x or y (`from`): gradients of gradients are dy times that. */
    readonly curvature: Curvature;
  } | null;
  /** Interval on which tests draw x; default [-3, 3]. */
  readonly domain?: readonly [number, number];
  /** Points where the derivative jumps; tests keep away from them. */
  readonly kinks?: readonly number[];
  /** Names and defaults of up to two parameters. */
  readonly parameters?: readonly { readonly name: string; readonly value: number }[];
}

/** erf in float64: Maclaurin series below 3, Lentz's continued fraction for erfc above (DLMF 7.6.1, 7.9.1). */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * (z + fraction)));
}

const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const sigmoid = (x: number) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
/** C's pow, with which JavaScript's disagrees for bases of 1 and -1: 1 to the NaN and -1 to an infinity are 1. */
const power = (a: number, b: number) =>
  a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b;
const normalDensity = (x: number) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);

/** WGSL of the polynomial c0 + c1 x + c2 x² + ..., by Horner's rule. */
const polynomial = (x: string, [constant, ...rest]: readonly number[]): string =>
  rest.length === 0 ? `${constant}` : `(${constant} + ${x} * ${polynomial(x, rest)})`;

/**
 * Minimax polynomials, fitted by iterated least squares: erf(x) / x in x² on [0, 1], log(erfc(x)) on [0.95, 4],
 * atan(x) / x in x² on [0, 1], (e^x - 1) / x on [-0.5, 0.5] and artanh(x) / x in x² on [0, 0.18]. Their relative
 * errors, of the second that of 1 - erfc, are at most 1.4e-8.
 */
const ERF_NEAR = [
  1.1283791659138434, -0.37612627136262133, 0.11283600178784817, -0.026854444680659752, 0.0051895354868905065,
  -0.0008020842434470235, 7.88912295282261e-5,
];
const LOG_ERFC = [
  -0.00025644349686003534, -1.127426094926713, -0.6376000243688495, -0.10356690440549353, 0.02205200328502371,
  -0.002999542142387471, 0.000191504281375443,
];
const ATAN = [
  0.9999999863679174, -0.3333309396255364, 0.19993054175883623, -0.14207134050987663, 0.10654678573654418,
  -0.07533678008316876, 0.04303938561732186, -0.01628301622197619, 0.0029035539893443978,
];
const EXPM1 = [
  0.9999999998308389, 0.5000000426112305, 0.1666666835762602, 0.04166530388445279, 0.008333052128106172,
  0.0013997783335485854, 0.00019996829320445496,
];
const ARTANH = [0.999999998977014, 0.3333343369716236, 0.19984635540682458, 0.15034132008191614];

/** WGSL that other rows are made of. Clamped: some drivers compute tanh from exponentials that overflow. */
const TANH = unlessNan("tanh(clamp(x, T(-15), T(15)))", "x");
/** min(max(x, 0), 6): above 6 are the bits 0x40c00001 up to those of the infinity. */
const RELU6 = `select(${RELU}, T(6), bitcast<U>(x) - U(0x40c00001u) < U(0x3ec00000u))`;
const SIGN = unlessNan("sign(x)", "x");
const SIGMOID = unlessNan("T(1) / (T(1) + exp(-x))", "x");

/**
 * WGSL functions that rows may call, beside those of ieee.ts.
 * - ordered: neither operand is NaN.
 * - erf, atan, expm1 and log1p: as precise near 0, relative to their value, as elsewhere. WGSL promises log(1 + x) an
 *   absolute error of 2^-21 there, and atan 4096 units in the last place.
 * - quotientSlope: -dy a / b², also where b² overflows.
 * - power: C's pow, of |a| first, then the sign.
 */
export const ELEMENTWISE_FUNCTIONS = /* wgsl */ `
fn ordered(a: T, b: T) -> B { return max(magnitude(a), magnitude(b)) <= U(0x7f800000u); }
fn sigmoid(x: T) -> T { return ${SIGMOID}; }
fn log1p(x: T) -> T {
  let s = x / (T(2) + x);
  let near = 2.0 * s * ${polynomial("(s * s)", ARTANH)};
  return select(ieeeLog(T(1) + x), near, abs(x - 0.067) < T(0.37));
}
fn expm1(x: T) -> T { return select(ieeeExp(x) - T(1), x * ${polynomial("x", EXPM1)}, abs(x) < T(0.5)); }
fn erf(x: T) -> T {
  let t = min(abs(x), T(4));
  let far = sign(x) * (T(1) - exp(${polynomial("t", LOG_ERFC)}));
  return select(far, x * ${polynomial("(x * x)", ERF_NEAR)}, t < T(1));
}
fn atan1(x: T) -> T {
  let z = abs(x);
  let far = z > T(1);
  let t = select(z, T(1) / z, far);
  let y = t * ${polynomial("(t * t)", ATAN)};
  return bitcast<T>(bitcast<U>(select(y, 1.5707963267948966 - y, far)) | (bitcast<U>(x) & U(0x80000000u)));
}
fn quotientSlope(dy: T, a: T, b: T) -> T {
  let s = b * b;
  return select(-dy * a / s, -dy * (a / b) / b, (magnitude(s) == U(0u)) | (magnitude(s) == U(0x7f800000u)));
}
fn power(a: T, b: T) -> T {
  let m = abs(a);
  var y = pow(m, b);
  // Drivers compute exp2(b log2(m)), which is nothing where one of them is 0 or infinite.
  let infinite = U(0x7f800000u);
  let edge = (magnitude(a) == U(0u)) | (magnitude(a) == infinite) | (magnitude(b) == infinite);
  y = select(y, select(T(0), infinity(a), (m > T(1)) == (b > T(0))), edge);
  y = select(y, T(1), m == T(1));
  let odd = abs(b - 2.0 * floor(b * 0.5)) == T(1);
  y = select(y, -y, (bitcast<I>(a) < I(0)) & odd);
  let real = (bitcast<I>(a) >= I(0)) | edge | (floor(b) == b);
  y = orNan(y, select(magnitude(b) | U(0x7fc00000u), max(magnitude(a), magnitude(b)), real));
  return select(y, T(1), (b == T(0)) | (a == T(1)));
}
`;

/** (e^x - 1) scale for x <= 0, x scale above, with which activations keep mean 0 and variance 1. */
const SELU = { scale: 1.0507009873554805, alpha: 1.6732632423543772 };

export const unaryTable = {
  neg: { wgsl: "-x", cpu: (x) => -x, gradient: { from: "y", wgsl: "-dy", cpu: (dy) => -dy, curvature: null } },
  exp: {
    wgsl: "ieeeExp(x)",
    cpu: Math.exp,
    gradient: { from: "y", wgsl: "dy * y", cpu: (dy, y) => dy * y, curvature: () => 1 },
  },
  log: {
    wgsl: "ieeeLog(x)",
    cpu: Math.log,
    gradient: {
      from: "x",
      wgsl: "dy / x",
      cpu: (dy, x) => dy / x,
      curvature: (o, x) => o.neg(o.square(o.reciprocal(x))),
    },
    domain: [0.1, 4],
  },
  sqrt: {
    wgsl: "sqrt(x)",
    cpu: Math.sqrt,
    gradient: {
      from: "y",
      wgsl: "0.5 * dy / y",
      cpu: (dy, y) => (0.5 * dy) / y,
      curvature: (o, y) => o.div(-0.5, o.square(y)),
    },
    domain: [0.1, 4],
  },
  /** 1 / sqrt(x). */
  rsqrt: {
    wgsl: "T(1) / sqrt(x)",
    cpu: (x) => 1 / Math.sqrt(x),
    gradient: {
      from: "y",
      wgsl: "-0.5 * dy * (y * y * y)",
      cpu: (dy, y) => -0.5 * dy * (y * y * y),
      curvature: (o, y) => o.mul(-1.5, o.square(y)),
    },
    domain: [0.1, 4],
  },
  square: {
    wgsl: "x * x",
    cpu: (x) => x * x,
    gradient: { from: "x", wgsl: "2.0 * x * dy", cpu: (dy, x) => 2 * x * dy, curvature: () => 2 },
  },
  reciprocal: {
    wgsl: "T(1) / x",
    cpu: (x) => 1 / x,
    gradient: { from: "y", wgsl: "-dy * y * y", cpu: (dy, y) => -dy * y * y, curvature: (o, y) => o.mul(-2, y) },
    domain: [0.3, 4],
  },
  abs: {
    wgsl: "abs(x)",
    cpu: Math.abs,
    gradient: { from: "x", wgsl: `dy * ${SIGN}`, cpu: (dy, x) => dy * Math.sign(x), curvature: null },
    kinks: [0],
  },
  sign: { wgsl: SIGN, cpu: Math.sign, gradient: null, kinks: [0] },
  floor: { wgsl: "floor(x)", cpu: Math.floor, gradient: null, kinks: [-3, -2, -1, 0, 1, 2, 3] },
  sin: {
    wgsl: "sin(x)",
    cpu: Math.sin,
    gradient: {
      from: "x",
      wgsl: "dy * cos(x)",
      cpu: (dy, x) => dy * Math.cos(x),
      curvature: (o, x) => o.neg(o.sin(x)),
    },
  },
  cos: {
    wgsl: "cos(x)",
    cpu: Math.cos,
    gradient: {
      from: "x",
      wgsl: "-dy * sin(x)",
      cpu: (dy, x) => -dy * Math.sin(x),
      curvature: (o, x) => o.neg(o.cos(x)),
    },
  },
  tan: {
    wgsl: "sin(x) / cos(x)",
    cpu: Math.tan,
    gradient: {
      from: "y",
      wgsl: "dy * (T(1) + y * y)",
      cpu: (dy, y) => dy * (1 + y * y),
      curvature: (o, y) => o.mul(2, y),
    },
    domain: [-1.3, 1.3],
  },
  atan: {
    wgsl: "atan1(x)",
    cpu: Math.atan,
    gradient: {
      from: "x",
      wgsl: "dy / (T(1) + x * x)",
      cpu: (dy, x) => dy / (1 + x * x),
      curvature: (o, x) => o.mul(o.mul(-2, x), o.square(o.reciprocal(o.add(1, o.square(x))))),
    },
  },
  /** e^x - 1, precise near 0. */
  expm1: {
    wgsl: "expm1(x)",
    cpu: Math.expm1,
    gradient: { from: "x", wgsl: "dy * ieeeExp(x)", cpu: (dy, x) => dy * Math.exp(x), curvature: (o, x) => o.exp(x) },
  },
  /** log(1 + x), precise near 0. */
  log1p: {
    wgsl: "log1p(x)",
    cpu: Math.log1p,
    gradient: {
      from: "x",
      wgsl: "dy / (T(1) + x)",
      cpu: (dy, x) => dy / (1 + x),
      curvature: (o, x) => o.neg(o.square(o.reciprocal(o.add(1, x)))),
    },
    domain: [-0.8, 4],
  },
  /** 2 / sqrt(pi) times the integral of e^(-t²) from 0 to x. */
  erf: {
    wgsl: unlessNan("erf(x)", "x"),
    cpu: erf,
    gradient: {
      from: "x",
      wgsl: "1.1283791670955126 * dy * ieeeExp(-x * x)",
      cpu: (dy, x) => (2 / Math.sqrt(Math.PI)) * dy * Math.exp(-x * x),
      curvature: (o, x) => o.mul(o.mul(-4 / Math.sqrt(Math.PI), x), o.exp(o.neg(o.square(x)))),
    },
  },
  tanh: {
    wgsl: TANH,
    cpu: Math.tanh,
    gradient: {
      from: "y",
      wgsl: "dy * (T(1) - y * y)",
      cpu: (dy, y) => dy * (1 - y * y),
      curvature: (o, y) => o.mul(-2, y),
    },
  },
  sigmoid: {
    wgsl: SIGMOID,
    cpu: sigmoid,
    gradient: {
      from: "y",
      wgsl: "dy * y * (T(1) - y)",
      cpu: (dy, y) => dy * y * (1 - y),
      curvature: (o, y) => o.sub(1, o.mul(2, y)),
    },
  },
  /** max(x, 0); the derivative at 0 is 0, at NaN 1. y is positive, +0 or NaN. */
  relu: {
    wgsl: RELU,
    cpu: (x) => Math.max(x, 0),
    gradient: {
      from: "y",
      wgsl: "select(dy, T(0), bitcast<U>(y) == U(0u))",
      cpu: (dy, y) => (y === 0 ? 0 : dy),
      curvature: null,
    },
    kinks: [0],
  },
  relu6: {
    wgsl: RELU6,
    cpu: (x) => Math.min(Math.max(x, 0), 6),
    gradient: {
      from: "y",
      wgsl: "select(T(0), dy, bitcast<U>(y) - U(1u) < U(0x40bfffffu))",
      cpu: (dy, y) => (y > 0 && y < 6 ? dy : 0),
      curvature: null,
    },
    kinks: [0, 6],
  },
  /** x for x > 0, slope * x else; Keras's default slope. */
  leakyRelu: {
    wgsl: "select(T(p) * x, x, isPositive(x))",
    cpu: (x, slope) => (x > 0 ? x : slope * x),
    gradient: {
      from: "x",
      wgsl: "select(T(p) * dy, dy, isPositive(x))",
      cpu: (dy, x, slope) => (x > 0 ? dy : slope * dy),
      curvature: null,
    },
    kinks: [0],
    parameters: [{ name: "negativeSlope", value: 0.3 }],
  },
  /** x for x > 0, else alpha (e^x - 1) (Clevert et al. 2015); the derivative at NaN is 1. */
  elu: {
    wgsl: "select(T(p) * expm1(x), x, isPositive(x))",
    cpu: (x, alpha) => (x > 0 ? x : alpha * Math.expm1(x)),
    gradient: {
      from: "x",
      wgsl: "select(T(p) * ieeeExp(x) * dy, dy, isPositive(x) | isNan(x))",
      cpu: (dy, x, alpha) => (x <= 0 ? alpha * Math.exp(x) * dy : dy),
      curvature: (o, x, alpha) => o.where(o.greater(0, x), o.mul(alpha, o.exp(o.minimum(x, 0))), 0),
    },
    kinks: [0],
    parameters: [{ name: "alpha", value: 1 }],
  },
  /** scale x for x > 0, else scale alpha (e^x - 1), with constants of Klambauer et al. 2017. */
  selu: {
    wgsl: `${SELU.scale} * select(${SELU.alpha} * expm1(x), x, isPositive(x))`,
    cpu: (x) => SELU.scale * (x > 0 ? x : SELU.alpha * Math.expm1(x)),
    gradient: {
      from: "x",
      wgsl: `${SELU.scale} * select(${SELU.alpha} * ieeeExp(x) * dy, dy, isPositive(x) | isNan(x))`,
      cpu: (dy, x) => SELU.scale * (x <= 0 ? SELU.alpha * Math.exp(x) * dy : dy),
      curvature: (o, x) => o.where(o.greater(0, x), o.mul(SELU.scale * SELU.alpha, o.exp(o.minimum(x, 0))), 0),
    },
    kinks: [0],
  },
  /** x sigmoid(x), which is also called SiLU. */
  swish: {
    wgsl: "x * sigmoid(x)",
    cpu: (x) => x * sigmoid(x),
    gradient: {
      from: "x",
      wgsl: "dy * sigmoid(x) * (T(1) + x * (T(1) - sigmoid(x)))",
      cpu: (dy, x) => dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))),
      curvature: (o, x) => {
        const y = o.sigmoid(x);
        return o.mul(o.mul(y, o.sub(1, y)), o.add(2, o.mul(x, o.sub(1, o.mul(2, y)))));
      },
    },
  },
  /** x / 6 + 1/2, limited to [0, 1]; the derivative at NaN is 0, as that of clip. */
  hardSigmoid: {
    wgsl: "ieeeClamp(x * 0.16666666666666667 + 0.5, T(0), T(1))",
    cpu: (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1),
    gradient: {
      from: "x",
      wgsl: "select(T(0), dy * 0.16666666666666667, (abs(x) < T(3)) & ordered(x, x))",
      cpu: (dy, x) => (Math.abs(x) < 3 ? dy / 6 : 0),
      curvature: null,
    },
    kinks: [-3, 3],
    domain: [-5, 5],
  },
  /** x hardSigmoid(x); the derivative at NaN is 1. */
  hardSwish: {
    wgsl: "x * ieeeClamp(x * 0.16666666666666667 + 0.5, T(0), T(1))",
    cpu: (x) => x * Math.min(Math.max(x / 6 + 0.5, 0), 1),
    gradient: {
      from: "x",
      wgsl: "select(select(T(0), dy, isPositive(x) | isNan(x)), dy * (x * 0.3333333333333333 + 0.5), (abs(x) < T(3)) & ordered(x, x))",
      cpu: (dy, x) => (Math.abs(x) < 3 ? dy * (x / 3 + 0.5) : x < 0 ? 0 : dy),
      curvature: (o, x) => o.where(o.mul(o.greater(3, x), o.greater(x, -3)), 1 / 3, 0),
    },
    kinks: [-3, 3],
    domain: [-5, 5],
  },
  /** log(1 + e^x). */
  softplus: {
    wgsl: unlessNan("max(x, T(0)) + log1p(exp(-abs(x)))", "x"),
    cpu: softplus,
    gradient: {
      from: "x",
      wgsl: "dy * sigmoid(x)",
      cpu: (dy, x) => dy * sigmoid(x),
      curvature: (o, x) => {
        const y = o.sigmoid(x);
        return o.mul(y, o.sub(1, y));
      },
    },
  },
  /** x Phi(x) with the normal distribution function Phi (Hendrycks and Gimpel 2016), the exact form. */
  gelu: {
    wgsl: "0.5 * x * (T(1) + erf(x * 0.7071067811865476))",
    cpu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    gradient: {
      from: "x",
      wgsl: "dy * (0.5 * (T(1) + erf(x * 0.7071067811865476)) + x * exp(-0.5 * x * x) * 0.3989422804014327)",
      cpu: (dy, x) => dy * (0.5 * (1 + erf(x * Math.SQRT1_2)) + x * normalDensity(x)),
      curvature: (o, x) => o.mul(o.sub(2, o.square(x)), o.mul(0.3989422804014327, o.exp(o.mul(-0.5, o.square(x))))),
    },
  },
  /** 1.7159 tanh(2x/3) + 0.01x (LeCun, Bottou, Orr, Mueller: "Efficient BackProp", 1998, with a linear twist). */
  lecunTanh: {
    wgsl: "1.7159 * ieeeTanh(x * 0.6666666666666667) + 0.01 * x",
    cpu: (x) => 1.7159 * Math.tanh((2 * x) / 3) + 0.01 * x,
    gradient: {
      from: "x",
      wgsl: "dy * (1.1439333333333333 * (T(1) - ieeeTanh(x * 0.6666666666666667) * ieeeTanh(x * 0.6666666666666667)) + 0.01)",
      cpu: (dy, x) => dy * (((1.7159 * 2) / 3) * (1 - Math.tanh((2 * x) / 3) ** 2) + 0.01),
      curvature: (o, x) => {
        const t = o.tanh(o.mul(2 / 3, x));
        return o.mul((-8 / 9) * 1.7159, o.mul(t, o.sub(1, o.square(t))));
      },
    },
  },
  /** x limited to [minimum, maximum]; the gradient passes inside and on the bounds, and is 0 at NaN. */
  clip: {
    wgsl: "ieeeClamp(x, T(p), T(q))",
    cpu: (x, low, high) => Math.min(Math.max(x, low), high),
    gradient: {
      from: "x",
      wgsl: "select(T(0), dy, (x >= T(p)) & (x <= T(q)) & ordered(x, x))",
      cpu: (dy, x, low, high) => (x >= low && x <= high ? dy : 0),
      curvature: null,
    },
    kinks: [0, 1],
    parameters: [
      { name: "minimum", value: 0 },
      { name: "maximum", value: 1 },
    ],
  },
} as const satisfies Record<string, UnaryRow>;

export type UnaryName = keyof typeof unaryTable;

/** A function of two tensors with broadcasting; either may be a number. */
export interface BinaryRow {
  /** y from a and b, f32. Comparisons give a boolean and have `result: "u32"`. */
  readonly wgsl: string;
  readonly cpu: (a: number, b: number) => number;
  readonly result?: "u32";
  /** Gradients of a and b; null for comparisons. */
  readonly gradient: {
    readonly a: { readonly wgsl: string; readonly cpu: (dy: number, a: number, b: number) => number };
    readonly b: { readonly wgsl: string; readonly cpu: (dy: number, a: number, b: number) => number };
    /** For gradients of gradients. */
    readonly curvature: { readonly aa: BinaryCurvature; readonly ab: BinaryCurvature; readonly bb: BinaryCurvature };
  } | null;
  /** y from a and b, i32 or u32, which wraps; by default as for f32. Null where such tensors are not accepted. */
  readonly integer: { readonly wgsl?: string; readonly cpu?: (a: number, b: number) => number } | null;
  /** Intervals on which tests draw a and b; default [-3, 3]. */
  readonly domain?: { readonly a?: readonly [number, number]; readonly b?: readonly [number, number] };
  /** Points where derivatives jump; tests keep away from them. */
  readonly kinks?: { readonly a?: readonly number[] };
}

/**
 * A second derivative of y; null where that is zero almost everywhere. It may read what the first derivative reads that
 * it is one of. For aa that is what the one of a reads, for ab what those of a and b have in common.
 */
export type BinaryCurvature = (<V>(o: Arithmetic<V>, a: Value<V>, b: Value<V>) => Value<V>) | null;

/** Of what is linear, piece by piece. */
const STRAIGHT = { aa: null, ab: null, bb: null } as const;

/** Comparisons are false where an operand is NaN, and `!=` is true, which WGSL's operators do not promise. */
const comparison = (operator: string, cpu: (a: number, b: number) => boolean): BinaryRow => ({
  wgsl: operator === "!=" ? "!((a == b) & ordered(a, b))" : `(a ${operator} b) & ordered(a, b)`,
  cpu: (a, b) => (cpu(a, b) ? 1 : 0),
  result: "u32",
  gradient: null,
  integer: { wgsl: `a ${operator} b` },
});

/** 0 where `smaller`, half of dy at ties, else dy: at NaN both operands get it, as in PyTorch. */
const chosen = (smaller: string) =>
  `select(select(dy, T(0), (${smaller}) & ordered(a, b)), 0.5 * dy, (a == b) & ordered(a, b))`;
const chosenCpu = (dy: number, mine: number, other: number) => (mine === other ? dy / 2 : mine < other ? 0 : dy);

export const binaryTable = {
  add: {
    wgsl: "a + b",
    cpu: (a, b) => a + b,
    gradient: { a: { wgsl: "dy", cpu: (dy) => dy }, b: { wgsl: "dy", cpu: (dy) => dy }, curvature: STRAIGHT },
    integer: {},
  },
  sub: {
    wgsl: "a - b",
    cpu: (a, b) => a - b,
    gradient: { a: { wgsl: "dy", cpu: (dy) => dy }, b: { wgsl: "-dy", cpu: (dy) => -dy }, curvature: STRAIGHT },
    integer: {},
  },
  mul: {
    wgsl: "a * b",
    cpu: (a, b) => a * b,
    gradient: {
      a: { wgsl: "dy * b", cpu: (dy, _a, b) => dy * b },
      b: { wgsl: "dy * a", cpu: (dy, a) => dy * a },
      curvature: { aa: null, ab: () => 1, bb: null },
    },
    integer: { cpu: Math.imul },
  },
  div: {
    wgsl: "a / b",
    cpu: (a, b) => a / b,
    gradient: {
      a: { wgsl: "dy / b", cpu: (dy, _a, b) => dy / b },
      b: { wgsl: "quotientSlope(dy, a, b)", cpu: (dy, a, b) => (-dy * a) / (b * b) },
      curvature: {
        aa: null,
        ab: (o, _a, b) => o.neg(o.square(o.reciprocal(b))),
        bb: (o, a, b) => o.mul(2, o.mul(o.div(a, b), o.square(o.reciprocal(b)))),
      },
    },
    integer: null,
    domain: { b: [0.3, 3] },
  },
  /** a to the power b, as C's pow: NaN for negative a and fractions b. */
  pow: {
    wgsl: "power(a, b)",
    cpu: power,
    gradient: {
      a: {
        wgsl: "select(dy * b * power(a, b - T(1)), T(0), b == T(0))",
        cpu: (dy, a, b) => (b === 0 ? 0 : dy * b * power(a, b - 1)),
      },
      // NaN for negative a. 0 to the power b is constant for b > 0.
      b: {
        wgsl: "select(dy * power(a, b) * ieeeLog(a), T(0), (a == T(0)) & (b >= T(0)))",
        cpu: (dy, a, b) => (a === 0 && b >= 0 ? 0 : dy * power(a, b) * Math.log(a)),
      },
      curvature: {
        // Of a straight line, or of a constant, at any a.
        aa: (o, a, b) => {
          const factor = o.mul(b, o.sub(b, 1));
          return o.where(o.equal(factor, 0), 0, o.mul(factor, o.pow(a, o.sub(b, 2))));
        },
        // As a approaches 0 for b > 1: 0 log(0) is 0.
        ab: (o, a, b) => {
          const y = o.pow(a, o.sub(b, 1));
          return o.add(y, o.where(o.equal(y, 0), 0, o.mul(b, o.mul(y, o.log(a)))));
        },
        bb: (o, a, b) => {
          const y = o.pow(a, b);
          return o.where(o.equal(y, 0), 0, o.mul(y, o.square(o.log(a))));
        },
      },
    },
    integer: null,
    domain: { a: [0.2, 3] },
  },
  /** Larger of both, NaN where one is; ties share the gradient, as in PyTorch. */
  maximum: {
    wgsl: "ieeeMax(a, b)",
    cpu: Math.max,
    gradient: {
      a: { wgsl: chosen("a < b"), cpu: chosenCpu },
      b: { wgsl: chosen("b < a"), cpu: (dy, a, b) => chosenCpu(dy, b, a) },
      curvature: STRAIGHT,
    },
    integer: { wgsl: "max(a, b)" },
  },
  /** Smaller of both, NaN where one is; ties share the gradient, as in PyTorch. */
  minimum: {
    wgsl: "ieeeMin(a, b)",
    cpu: Math.min,
    gradient: {
      a: { wgsl: chosen("a > b"), cpu: (dy, a, b) => chosenCpu(dy, -a, -b) },
      b: { wgsl: chosen("b > a"), cpu: (dy, a, b) => chosenCpu(dy, -b, -a) },
      curvature: STRAIGHT,
    },
    integer: { wgsl: "min(a, b)" },
  },
  /** a for a > 0, else b a: a leaky rectifier whose slopes are learned (He et al. 2015). */
  prelu: {
    wgsl: "select(b * a, a, isPositive(a))",
    cpu: (a, b) => (a > 0 ? a : b * a),
    gradient: {
      a: { wgsl: "select(b * dy, dy, isPositive(a))", cpu: (dy, a, b) => (a > 0 ? dy : b * dy) },
      b: { wgsl: "select(a * dy, T(0), isPositive(a))", cpu: (dy, a) => (a > 0 ? 0 : a * dy) },
      curvature: { aa: null, ab: (o, a) => o.where(o.greater(a, 0), 0, 1), bb: null },
    },
    integer: null,
    kinks: { a: [0] },
  },
  equal: comparison("==", (a, b) => a === b),
  notEqual: comparison("!=", (a, b) => a !== b),
  less: comparison("<", (a, b) => a < b),
  lessEqual: comparison("<=", (a, b) => a <= b),
  greater: comparison(">", (a, b) => a > b),
  greaterEqual: comparison(">=", (a, b) => a >= b),
} as const satisfies Record<string, BinaryRow>;

export type BinaryName = keyof typeof binaryTable;
