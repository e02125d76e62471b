// Sums of very many float32 numbers. A chain of n additions may be off by n 2^-24 of the sum of magnitudes. One of
// equal numbers, whose rounding errors are equal too, may be off by a quarter of that: 1e-4 after ten thousand. So
// chains are short, and their sums are added with what rounding loses kept apart (Knuth's two-sum). The error of the
// whole is then that of one chain.
//
// A compiler that takes floats for real numbers would find that nothing is ever lost. Where it matters, the formula
// therefore multiplies by the parameter `u.one`, of which only the caller knows that it is 1.

/** Numbers of a chain: equal ones are off by at most 5e-7. */
export const CHAIN = 32;

/** The parameter that the formula needs, for `numbers` of a dispatch. */
export const ONE = { one: 1 } as const;

/** WGSL of a sum in parts: each part's terms are added to the variable `name`, of `type`, and that to a total. */
export function longSum(name: string, type: "f32" | "vec4f") {
  const [total, lost] = [`${name}_total`, `${name}_lost`];
  const bits = type === "f32" ? "u32" : "vec4u";
  return {
    /** Before all parts. */
    begin: `var ${total} = ${type}(); var ${lost} = ${type}();`,
    /** Before each part. */
    part: `var ${name} = ${type}();`,
    /** After each part. */
    add: `{ let next = ${total} + ${name}; let added = next - u.one * ${total};
      ${lost} += (${total} - (next - u.one * added)) + (${name} - added); ${total} = next; }`,
    /** The sum, after all parts. What was lost of one that is not finite is NaN. */
    value: `select(${total} + ${lost}, ${total}, (bitcast<${bits}>(${total}) & ${bits}(0x7f800000u)) == ${bits}(0x7f800000u))`,
  };
}

/**
 * WGSL of `for (var index = first; index < end; index += step) { statement }`, whose statement adds terms to the sums
 * `names`, in parts; and of their values after it. Constants in `numbers`: ONE.
 */
export function longLoop(
  names: readonly string[],
  type: "f32" | "vec4f",
  loop: { readonly index: string; readonly first: string; readonly end: string; readonly step: number },
  statement: string,
): { readonly loop: string; readonly values: readonly string[] } {
  const { index, first, end, step } = loop;
  const sums = names.map((name) => longSum(name, type));
  const each = (key: "begin" | "part" | "add") => sums.map((sum) => sum[key]).join(" ");
  return {
    loop: /* wgsl */ `
    ${each("begin")}
    for (var chain = ${first}; chain < ${end}; chain += ${CHAIN * step}u) {
      ${each("part")}
      let chain_end = min(chain + ${CHAIN * step}u, ${end});
      for (var ${index} = chain; ${index} < chain_end; ${index} += ${step}u) { ${statement} }
      ${each("add")}
    }`,
    values: sums.map(({ value }) => value),
  };
}
