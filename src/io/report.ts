/**
 * Builds a report as one HTML file that needs nothing else: no network, no scripts, pictures and charts inside. It
 * follows the reader's light or dark scheme and prints well. All text is escaped. What the report says is the caller's
 * matter.
 */
import { UsageError } from "../tensor/errors.js";
import {
  array,
  boolean,
  callable,
  check,
  checkOptions,
  describe,
  instanceOf,
  listOf,
  number,
  object,
  oneOf,
  type Rule,
  type Rules,
  string,
} from "../tensor/options.js";
import { refusePromise } from "../tensor/scope.js";

/** What stands at the head and the foot of a report. */
export interface ReportOptions {
  readonly title: string;
  /** One line that says what was done. */
  readonly subtitle?: string;
  /** Last line, e.g. version, date and command. */
  readonly footer?: string;
}

/** A number worth a card at the top. */
export interface KeyFigure {
  readonly label: string;
  readonly value: string | number;
  /** A short remark below, e.g. the figure to compare with. */
  readonly note?: string;
  /** Whether it met what was expected. */
  readonly tone?: Tone;
}

/** Green or red. */
export type Tone = "good" | "bad";

/** A table of figures. */
export interface Table {
  readonly columns: readonly (string | TableColumn)[];
  /** As many cells in each as there are columns. `null` is shown as a dash. */
  readonly rows: readonly (readonly TableCell[])[];
  readonly caption?: string;
}

/** Head of a column; a text alone is its label. */
export interface TableColumn {
  readonly label: string;
  /** Set apart, as what the others are compared with. */
  readonly reference?: boolean;
}

/**
 * Columns of numbers are right-aligned; give texts such as "98.8 %" as `{ text, numeric: true }` to have them so too.
 * `href` links to another page beside this one.
 */
export type TableCell =
  | string
  | number
  | null
  | { readonly text: string | number; readonly tone?: Tone; readonly numeric?: boolean; readonly href?: string };

/** How a PNG is shown. */
export interface PictureOptions {
  /** What is to be seen, for those who do not see it. */
  readonly alt: string;
  readonly caption?: string;
  /** Enlarges every pixel; 1 by default. */
  readonly zoom?: number;
}

const shownRule: Rule = {
  expected: "a string or a number",
  accepts: (value) => typeof value === "string" || typeof value === "number",
};
const toneRule = oneOf("good", "bad");
const reportRules: Rules<ReportOptions> = { title: string, subtitle: string, footer: string };
const figureRules: Rules<KeyFigure> = { label: string, value: shownRule, note: string, tone: toneRule };
const tableRules: Rules<Table> = { columns: array, rows: listOf(array), caption: string };
const columnRules: Rules<TableColumn> = { label: string, reference: boolean };
const cellRules: Rules<CellObject> = { text: shownRule, tone: toneRule, numeric: boolean, href: string };
const pictureRules: Rules<PictureOptions> = { alt: string, caption: string, zoom: number({ above: 0, to: 1000 }) };

/** Text that is HTML already. Made by {@link html} only, so that nothing gets into a page unescaped by accident. */
class Markup {
  constructor(readonly text: string) {}
}
type Insert = string | number | Markup | readonly Markup[] | undefined;

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Joins a template, escaping whatever is no {@link Markup}; `undefined` becomes nothing. */
function html(parts: TemplateStringsArray, ...inserts: Insert[]): Markup {
  const written = (insert: Insert): string => {
    if (insert === undefined) return "";
    if (insert instanceof Markup) return insert.text;
    if (typeof insert === "object") return insert.map(({ text }) => text).join("\n");
    return String(insert).replace(/[&<>"']/g, (character) => entities[character]!);
  };
  return new Markup(parts.map((part, index) => part + written(inserts[index])).join(""));
}

/** A class attribute, or nothing where all names are absent. */
function classes(...names: (string | undefined | false)[]): Markup | undefined {
  const present = names.filter((name) => name);
  return present.length > 0 ? html` class="${present.join(" ")}"` : undefined;
}

const caption = (text: string | undefined) => (text ? html`<figcaption>${text}</figcaption>` : undefined);

/** The content of a section. Every method appends and returns the section. */
export class Section {
  constructor(private readonly parts: Markup[]) {
    check("report", "parts", parts, array);
  }

  private append(part: Markup): this {
    this.parts.push(part);
    return this;
  }

  /** A paragraph of plain text. */
  text(paragraph: string): this {
    check("report", "text", paragraph, string);
    return this.append(html`<p>${paragraph}</p>`);
  }

  /** A paragraph that must not be overlooked. */
  note(paragraph: string): this {
    check("report", "note", paragraph, string);
    return this.append(html`<p class="note">${paragraph}</p>`);
  }

  /** A list of short remarks. */
  list(items: readonly string[]): this {
    check("report", "items", items, listOf(string));
    return this.append(html`<ul>${items.map((item) => html`<li>${item}</li>`)}</ul>`);
  }

  /** Text in columns that must stay as they are, e.g. a model's summary or a command. */
  code(text: string): this {
    check("report", "code", text, string);
    return this.append(html`<pre>${text}</pre>`);
  }

  /** A table. @throws UsageError where a row has not as many cells as there are columns */
  table(table: Table): this {
    const { columns, rows, caption: title } = checkOptions("report: table", table, tableRules, ["columns", "rows"]);
    for (const column of columns) {
      if (typeof column !== "string") checkOptions("report: column", column, columnRules, ["label"]);
    }
    for (const cell of rows.flat()) {
      if (typeof cell !== "string" && typeof cell !== "number" && cell !== null) {
        checkOptions("report: cell", cell, cellRules, ["text"]);
      }
    }
    for (const [index, row] of rows.entries()) {
      if (row.length !== columns.length) {
        throw new UsageError(`report: row ${index} must have ${columns.length} cells, given ${row.length}`);
      }
    }
    const heads = columns.map((column) => (typeof column === "string" ? { label: column } : column));
    const columnClasses = heads.map(({ reference }, index) => [
      rows.some((row) => isNumeric(row[index]!)) && "number",
      reference && "reference",
    ]);
    const cell = (content: TableCell, index: number) => {
      const { text, tone, href } = asObject(content);
      const inside = href === undefined ? shown(text) : html`<a href="${href}">${shown(text)}</a>`;
      return html`<td${classes(...columnClasses[index]!, tone)}>${inside}</td>`;
    };
    return this.append(html`<figure class="table">${caption(title)}<table>
<thead><tr>${heads.map(({ label }, index) => html`<th${classes(...columnClasses[index]!)}>${label}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody>
</table></figure>`);
  }

  /** A chart from charts.ts. @throws UsageError for anything that is not SVG or holds scripts */
  chart(svg: string, text?: string): this {
    check("report", "a chart", svg, string);
    if (text !== undefined) check("report", "a chart's caption", text, string);
    if (!svg.startsWith("<svg") || /<script/i.test(svg)) {
      throw new UsageError(`report: a chart must be SVG text without scripts, given "${svg.slice(0, 20)}"`);
    }
    return this.append(html`<figure class="chart">${new Markup(svg)}${caption(text)}</figure>`);
  }

  /** A picture from png.ts. @throws UsageError for bytes that are not PNG */
  picture(png: Uint8Array, options: PictureOptions): this {
    check("report", "a picture", png, instanceOf(Uint8Array, "a Uint8Array"));
    const { alt, caption: text, zoom = 1 } = checkOptions("report: picture", options, pictureRules, ["alt"]);
    const bytes = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
    if (bytes.length < 24 || bytes.toString("latin1", 0, 8) !== "\x89PNG\r\n\x1a\n") {
      throw new UsageError(`report: the picture "${alt}" must be PNG, given ${bytes.length} bytes of something else`);
    }
    const [width, height] = [bytes.readUInt32BE(16) * zoom, bytes.readUInt32BE(20) * zoom];
    const source = `data:image/png;base64,${bytes.toString("base64")}`;
    const image = html`<img src="${source}" alt="${alt}" width="${width}" height="${height}">`;
    return this.append(html`<figure class="picture"><div class="scroll">${image}</div>${caption(text)}</figure>`);
  }

  /** Names and values, e.g. a configuration or a machine; nested ones as `outer.inner`. */
  properties(record: Readonly<Record<string, unknown>>): this {
    check("report", "properties", record, object);
    const pairs = flat(record).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`);
    return this.append(html`<dl>${pairs}</dl>`);
  }

  /** Puts what `build` appends side by side, as far as the page is wide enough. */
  row(build: (row: Section) => void): this {
    return this.append(html`<div class="row">${contentOf(build)}</div>`);
  }

  /** Hides what `build` appends until the reader opens it. */
  details(title: string, build: (section: Section) => void): this {
    check("report", "title", title, string);
    return this.append(html`<details><summary>${title}</summary>${contentOf(build)}</details>`);
  }
}

function contentOf(build: (section: Section) => void): readonly Markup[] {
  check("report", "build", build, callable);
  const parts: Markup[] = [];
  refusePromise("report", build(new Section(parts)));
  return parts;
}

/**
 * A report under construction.
 * @example
 * const report = new Report({ title: "small-cnn on MNIST", subtitle: "5 epochs, Adam" });
 * report.figures([{ label: "Test accuracy", value: "98.9 %", note: "reference 98.79 %", tone: "good" }]);
 * report.section("Training", (section) => section.text("...").chart(lineChart({ ... }), "Loss per epoch"));
 * await writeFileAtomic("report.html", report.html());
 */
export class Report {
  private readonly sections: { readonly title: string; readonly content: readonly Markup[] }[] = [];
  private cards: readonly KeyFigure[] = [];

  constructor(private readonly options: ReportOptions) {
    checkOptions("report", options, reportRules, ["title"]);
  }

  /** The cards at the top. */
  figures(figures: readonly KeyFigure[]): this {
    check("report", "figures", figures, array);
    this.cards = figures.map((figure) => checkOptions("report: figure", figure, figureRules, ["label", "value"]));
    return this;
  }

  /** Appends a section with what `build` puts into it. */
  section(title: string, build: (section: Section) => void): this {
    check("report", "title", title, string);
    this.sections.push({ title, content: contentOf(build) });
    return this;
  }

  /** The whole page. */
  html(): string {
    const { title, subtitle, footer } = this.options;
    const cards = this.cards.map(
      ({ label, value, note, tone }) => html`<div${classes("card", tone)}>
<div class="label">${label}</div><div class="value">${shown(value)}</div>${note ? html`<div class="remark">${note}</div>` : undefined}
</div>`,
    );
    const links = this.sections.map((section, index) => html`<a href="#section-${index + 1}">${section.title}</a>`);
    const sections = this.sections.map(
      (section, index) => html`<section id="section-${index + 1}">
<h2>${section.title}</h2>
${section.content}
</section>`,
    );
    return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${new Markup(styleSheet)}</style>
</head>
<body>
<header>
<h1>${title}</h1>
${subtitle ? html`<p class="subtitle">${subtitle}</p>` : undefined}
${links.length > 1 ? html`<nav>${links}</nav>` : undefined}
</header>
<main>
${cards.length > 0 ? html`<div class="cards">${cards}</div>` : undefined}
${sections}
</main>
${footer ? html`<footer>${footer}</footer>` : undefined}
</body>
</html>
`.text;
  }
}

type CellObject = Extract<TableCell, { readonly text: unknown }>;

function asObject(cell: TableCell): CellObject {
  if (cell === null) return { text: "–" };
  return typeof cell === "object" ? cell : { text: cell };
}

function isNumeric(cell: TableCell): boolean {
  const { text, numeric = typeof text === "number" } = asObject(cell);
  return numeric;
}

/** Whole numbers with separators of thousands, others with four significant digits; texts as they are. */
function shown(value: string | number): string {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size < 1e-4) return value.toExponential(2);
  return value.toLocaleString("en-US", size < 1000 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 });
}

/** Names may be nested this deep; an object that contains itself is deeper. */
const MOST_NESTED = 8;

function flat(record: Readonly<Record<string, unknown>>, path: readonly string[] = []): [string, string][] {
  if (path.length > MOST_NESTED) {
    throw new UsageError(`report: properties may be nested ${MOST_NESTED} deep, ${path.join(".")} goes deeper`);
  }
  return Object.entries(record).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (object.accepts(value)) return flat(value as Record<string, unknown>, [...path, name]);
    return [[[...path, name].join("."), Array.isArray(value) ? value.map(plain).join(", ") : plain(value)]];
  });
}

/** A property's value in words. */
const plain = (value: unknown): string => (typeof value === "object" ? describe(value) : String(value));

const styleSheet = `
:root {
  --page: #f6f7f9; --surface: #ffffff; --ink: #1f2328; --pale: #5b646e; --line: #dfe3e8;
  --accent: #2563c9; --good: #168a55; --bad: #d63031; --tint: #f0f4fa;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --surface: #171b21; --ink: #e4e8ed; --pale: #99a3ae; --line: #2b323a;
    --accent: #6ea8fe; --good: #4cc38a; --bad: #ff7b7b; --tint: #1d2530;
  }
  .picture .scroll { filter: brightness(0.88); }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 48px 24px 32px; max-width: 1120px; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 0 0 12px; font-size: 1.3rem; letter-spacing: -0.01em; }
p, ul { margin: 0 0 14px; max-width: 46em; }
.subtitle { margin: 8px 0 0; color: var(--pale); font-size: 1.08rem; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 18px; font-size: 0.94rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; margin-top: 28px; }
.card, section { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; }
.card { padding: 14px 18px 13px; }
.card .label, .card .remark { color: var(--pale); font-size: 0.86rem; line-height: 1.4; }
.card .value { margin: 2px 0; font-size: 1.6rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.02em; }
.good .value, td.good { color: var(--good); }
.bad .value, td.bad { color: var(--bad); }
section { margin-top: 22px; padding: 24px 28px 26px; scroll-margin-top: 12px; }
section > :last-child { margin-bottom: 0; }
figure { margin: 0 0 20px; min-width: 0; }
figcaption { color: var(--pale); font-size: 0.9rem; line-height: 1.45; }
.chart svg { display: block; max-width: 100%; height: auto; }
.chart figcaption, .picture figcaption { margin-top: 8px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 24px 32px; margin-bottom: 20px; }
.row > * { margin-bottom: 0; }
.scroll { overflow-x: auto; }
img { display: block; image-rendering: pixelated; border-radius: 8px; }
.table { overflow-x: auto; }
.table figcaption { margin-bottom: 6px; }
table { border-collapse: collapse; font-size: 0.94rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 16px 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--pale); font-weight: 600; font-size: 0.86rem; vertical-align: bottom; }
th + th, td + td { padding-left: 16px; }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.reference { color: var(--pale); background: var(--tint); }
td.good, td.bad { font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 0 32px; margin: 0 0 14px; font-size: 0.94rem; }
dl div { display: flex; justify-content: space-between; gap: 16px; padding: 5px 0; border-bottom: 1px solid var(--line); }
dt { color: var(--pale); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre {
  margin: 0 0 16px; padding: 14px 18px; overflow-x: auto; background: var(--tint); border-radius: 8px;
  font: 0.84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.note { max-width: none; padding: 10px 16px; background: var(--tint); border-left: 4px solid var(--accent); border-radius: 4px 8px 8px 4px; }
summary { cursor: pointer; color: var(--accent); margin-bottom: 10px; }
footer { margin-top: 28px; color: var(--pale); font-size: 0.88rem; }
@media (max-width: 600px) { body { padding: 28px 14px; } section { padding: 18px 16px; } h1 { font-size: 1.7rem; } }
@media print {
  :root { --page: #ffffff; }
  body { padding: 0; max-width: none; font-size: 13px; }
  nav { display: none; }
  section { border: 0; padding: 0; }
  .row { grid-template-columns: 1fr 1fr; gap: 16px; }
  .card, figure, dl div, h2 { break-inside: avoid; }
  h2 { break-after: avoid; }
  img { max-width: 100%; height: auto; }
  * { print-color-adjust: exact; }
}
@page { margin: 15mm; }
`;
