// HTML and SVG as text: a template that escapes whatever is put into it.

/** Text that is markup already. Made by `html` only, so that nothing gets into a page unescaped by accident. */
export class Markup {
  constructor(readonly text: string) {}
}

export type Insert = string | number | Markup | readonly Markup[] | undefined;

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Joins a template, escaping whatever is no {@link Markup}; `undefined` becomes nothing. */
export function html(parts: TemplateStringsArray, ...inserts: Insert[]): Markup {
  const written = (insert: Insert): string => {
    if (insert === undefined) return "";
    if (insert instanceof Markup) return insert.text;
    if (typeof insert === "object") return insert.map(({ text }) => text).join("\n");
    return String(insert).replace(/[&<>"']/g, (character) => entities[character]!);
  };
  return new Markup(parts.map((part, index) => part + written(inserts[index])).join(""));
}

/** A class attribute, or nothing where all names are absent. */
export function classes(...names: (string | undefined | false)[]): Markup | undefined {
  const present = names.filter((name) => name);
  return present.length > 0 ? html` class="${present.join(" ")}"` : undefined;
}

/** Whole numbers with separators of thousands, others with four significant digits; texts as they are. */
export function shown(value: string | number): string {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size < 1e-4) return value.toExponential(2);
  return value.toLocaleString("en-US", size < 1000 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 });
}
