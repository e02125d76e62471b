// IEEE 754 in WGSL, which does not promise it: an implementation may assume that there are no NaNs and infinities.
// `max`, `min` and `clamp` drop a NaN, `x != x` is folded to false, SwiftShader (Chromium's software driver) has
// exp(NaN) = Infinity, log(-1) = 0 and log(0) = -88. What decides here are therefore the bits of a number, as integers,
// which no compiler may take for anything else. A float's bits without the sign grow with its magnitude:
//   0 zero, 0x7f800000 infinite, above that NaN.
// As signed integers, negative numbers and -0 are all at most 0xff800000 (-Infinity), and NaNs with a sign are above
// it.

/** Types that a formula may be written for. */
export type FloatType = "f32" | "vec4f";

/** Integer and boolean types of the same width. */
const COMPANIONS = {
  f32: { T: "f32", I: "i32", U: "u32", B: "bool" },
  vec4f: { T: "vec4f", I: "vec4i", U: "vec4u", B: "vec4<bool>" },
} as const satisfies Record<FloatType, Record<"T" | "I" | "U" | "B", string>>;

/**
 * A formula's `T`, `I`, `U` and `B` (floats, signed and unsigned integers, booleans) as the types that go with `type`.
 */
export function typed(text: string, type: FloatType): string {
  return text.replace(/\b[TIUB]\b/g, (name) => COMPANIONS[type][name as "T" | "I" | "U" | "B"]);
}

/** `T`, `I`, `U` and `B` as names that a program's text can use. */
export function typeAliases(type: FloatType): string {
  return Object.entries(COMPANIONS[type])
    .map(([name, meant]) => `alias ${name} = ${meant};`)
    .join(" ");
}

// Expressions, for formulas that stand alone.

/** Bits of `x` without the sign. The largest of several is a NaN's where there is one. */
const magnitude = (x: string) => `(bitcast<U>(${x}) & U(0x7fffffffu))`;
/** Whether `x` is a NaN. */
export const isNan = (x: string) => `(${magnitude(x)} > U(0x7f800000u))`;

/** `y`, or the NaN that `x` is. */
export const unlessNan = (y: string, x: string) => `select(${y}, ${x}, ${isNan(x)})`;

/** max(x, 0): one integer comparison and one select. -0 gives 0. */
export const RELU = "select(x, T(0), bitcast<I>(x) <= I(-8388608))";

/**
 * Functions that compute as IEEE 754 and C say, for a `T` of one type.
 * - magnitude(x): U, the bits without the sign; isNan(x), isPositive(x) (x > 0; false for NaN): B
 * - ieeeMax(a, b), ieeeMin(a, b), ieeeClamp(x, low, high): NaN where an operand is
 * - infinity(x): +Infinity, whatever x is; WGSL has no constant for it
 * - orNan(y, seen): y, or NaN where `seen` is a NaN's magnitude. In loops that take a maximum this is the cheap way:
 *   `best = max(best, x); seen = max(seen, magnitude(x));`, and `orNan(best, seen)` once at the end
 * - ieeeExp(x), ieeeLog(x), ieeeTanh(x)
 */
const FUNCTIONS = /* wgsl */ `
fn magnitude(x: T) -> U { return ${magnitude("x")}; }
fn isNan(x: T) -> B { return ${isNan("x")}; }
fn isPositive(x: T) -> B { return bitcast<U>(x) - U(1u) < U(0x7f800000u); }
fn infinity(x: T) -> T { return bitcast<T>((bitcast<U>(x) & U(0u)) | U(0x7f800000u)); }
fn orNan(y: T, seen: U) -> T { return select(y, bitcast<T>(seen), seen > U(0x7f800000u)); }
fn ieeeMax(a: T, b: T) -> T { return orNan(max(a, b), max(magnitude(a), magnitude(b))); }
fn ieeeMin(a: T, b: T) -> T { return orNan(min(a, b), max(magnitude(a), magnitude(b))); }
fn ieeeClamp(x: T, low: T, high: T) -> T { return ${unlessNan("clamp(x, low, high)", "x")}; }
fn ieeeExp(x: T) -> T { return ${unlessNan("exp(x)", "x")}; }
fn ieeeLog(x: T) -> T {
  let bits = bitcast<U>(x);
  // Negative numbers and NaNs: the bits of a NaN are put over theirs. WGSL has no constant for it.
  let y = select(log(x), bitcast<T>(bits | U(0x7fc00000u)), bits > U(0x7f800000u));
  return select(y, -infinity(x), magnitude(x) == U(0u));
}
fn ieeeTanh(x: T) -> T { return ${unlessNan("tanh(clamp(x, T(-15), T(15)))", "x")}; }
`;

/** Declares the functions above for `type`; `suffix` is appended to their names, for programs that need both types. */
export function ieeeFunctions(type: FloatType, suffix = ""): string {
  const names = [...FUNCTIONS.matchAll(/fn (\w+)/g)].map(([, name]) => name);
  const named =
    suffix === "" ? FUNCTIONS : FUNCTIONS.replace(new RegExp(`\\b(${names.join("|")})\\(`, "g"), `$1${suffix}(`);
  return typed(named, type);
}
