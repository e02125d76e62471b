// Checks on HTML and SVG text that the tests of charts and reports share.

const withoutEnd = new Set(["meta", "img", "!doctype"]);

/** What is wrong with the nesting of tags; empty where every tag is closed in order. */
export function nestingFaults(text: string): string[] {
  const open: string[] = [];
  const faults: string[] = [];
  for (const [, end, name, empty] of text.replace(/<style>[^<]*/g, "<style>").matchAll(/<(\/?)([!\w]+)[^>]*?(\/?)>/g)) {
    if (empty || withoutEnd.has(name!.toLowerCase())) continue;
    if (!end) open.push(name!);
    else if (open.pop() !== name) faults.push(`</${name}> closes nothing`);
  }
  return [...faults, ...open.map((name) => `<${name}> stays open`)];
}

/** The texts of all elements `tag`, entities as they stand. */
export function textsOf(text: string, tag: string): string[] {
  return [...text.matchAll(new RegExp(`<${tag}[^>]*>([^<]*)</${tag}>`, "g"))].map(([, content]) => content!);
}
