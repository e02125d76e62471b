// Every look at the text of WGSL, and every change of one. The looks find what a program declares and uses; the changes
// make the same program under other names or elsewhere in its memory. Texts are those that kernels write: names are
// words, members follow a dot, and no comment holds code.

/** Begins a word that is no member of something and no part of another word. */
const WORD = "(?<![.\\w])";

/** How often a pattern begins at a word of its own. */
const countOf = (text: string, pattern: string): number =>
  text.match(new RegExp(`${WORD}${pattern}`, "g"))?.length ?? 0;

/** Numbers of an element type: 4 of "vec4f", 1 of "f32". */
export const numbersOf = (type: string): number => Number(/^vec(\d)/.exec(type)?.[1] ?? 1);

/** Names of functions, constants, aliases and structures that a text declares. */
export function declaredNames(text: string): string[] {
  return [...text.matchAll(/\b(?:fn|const|alias|struct|override)\s+(\w+)/g)].map(([, name]) => name!);
}

/** Whether a text uses a binding as `name[index]` alone. */
export function isOnlyIndexed(text: string, name: string): boolean {
  return !new RegExp(`${WORD}${name}\\b(?!\\[)`).test(text);
}

/** Whether a text declares memory of a workgroup. */
export const hasWorkgroupMemory = (text: string): boolean => text.includes("var<workgroup>");

/** A text with `start`, an expression of u32, added to each index of a binding. */
export function withIndexOffset(text: string, name: string, start: string): string {
  const uses = [...text.matchAll(new RegExp(`${WORD}${name}\\[`, "g"))].reverse();
  return uses.reduce((wgsl, { index, 0: { length } }) => {
    const begin = index + length;
    let end = begin;
    for (let depth = 1; depth > 0; end++) depth += Number(wgsl[end] === "[") - Number(wgsl[end] === "]");
    return `${wgsl.slice(0, begin)}${start} + u32(${wgsl.slice(begin, end - 1)})${wgsl.slice(end - 1)}`;
  }, text);
}

/** A text whose words have other names. */
export function withNames(text: string, names: ReadonlyMap<string, string>): string {
  const words = new RegExp(`${WORD}(${[...names.keys()].join("|")})\\b`, "g");
  return text.replace(words, (name) => names.get(name)!);
}

/** A text whose parameters, `u.NAME`, are `u.PREFIXNAME`. */
export function withParameterPrefix(text: string, prefix: string): string {
  return text.replace(/(?<![.\w])u\.(?=\w)/g, `u.${prefix}`);
}

/** What a text asks of a compiler. */
export interface TextCounts {
  /** Variables that it declares. */
  readonly variables: number;
  readonly loops: number;
  readonly statements: number;
  /** Of each array in storage: numbers of an element, and where the text loads and stores one. */
  readonly arrays: readonly { readonly numbers: number; readonly loads: number; readonly stores: number }[];
}

/**
 * Counts what is in a text.
 * @param text declarations and body, as a kernel writes them
 * @param code the whole program, which declares the arrays
 */
export function countsOf(text: string, code: string): TextCounts {
  const arrays = [...code.matchAll(/var<storage, \w+> (\w+): array<(\w+)/g)].map(([, name, type]) => {
    const stores = countOf(text, `${name}\\[[^;=]*\\] = `);
    return { numbers: numbersOf(type!), loads: countOf(text, `${name}\\[`) - stores, stores };
  });
  return {
    variables: countOf(text, "var\\b"),
    loops: countOf(text, "for\\b"),
    statements: text.split(";").length - 1,
    arrays,
  };
}
