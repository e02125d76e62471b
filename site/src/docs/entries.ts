// What can be searched for, and how: the same for whoever makes the index (site/docs) and for the page that asks it.
import type { Options } from "minisearch";

/** A section of a guide or page, or a public name. */
export interface Entry {
  /** The address, from the folder of the docs on. */
  readonly id: string;
  /** A heading, or a name with what it is part of: "nn.conv2d". */
  readonly title: string;
  /** Guide, page, or kind of name. */
  readonly kind: string;
  readonly text: string;
}

/** Of names like `nn.maxPool2d` the last part and its words are found, too. */
function words(text: string): string[] {
  const plain = text.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== "");
  const parts = plain.flatMap((word) => word.split(/(?<=[a-z\d])(?=[A-Z])/));
  return [...new Set([...plain, ...parts])];
}

/** Guides come first, options last; a name before those that it is a part of. */
const weights: Readonly<Record<string, number>> = { Guide: 2, Function: 2, Class: 2, Variable: 2, Property: 0.5 };

export const indexOptions: Options<Entry> = {
  fields: ["title", "text"],
  storeFields: ["title", "kind"],
  tokenize: words,
  searchOptions: {
    boost: { title: 6 },
    prefix: true,
    fuzzy: (word) => (word.length > 4 ? 0.2 : false),
    combineWith: "AND",
    boostDocument: (_id, term, { title, kind } = {}) => {
      const isName = String(title).split(".").at(-1)!.toLowerCase() === term;
      return (weights[String(kind)] ?? 1) * (isName ? 3 : 1);
    },
  },
};
