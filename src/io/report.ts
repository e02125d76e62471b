/**
 * Builds a report as one HTML file that needs nothing else: no network, pictures and charts inside. It follows the
 * reader's light or dark scheme and prints well. Its one script sorts and enlarges pictures; without scripts everything
 * can be read. All text is escaped. What the report says is the caller's matter.
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
import { type GridCells, type GridOptions, gridMarkup, gridRules } from "./grid.js";
import { classes, html, Markup, shown } from "./markup.js";
import { digestOf, reloadScript, reportScript } from "./report-script.js";
import { reportStyle } from "./report-style.js";

/** What stands at the head and the foot of a report. */
export interface ReportOptions {
  readonly title: string;
  /** One line that says what was done. */
  readonly subtitle?: string;
  /** Last line, e.g. version, date and command. */
  readonly footer?: string;
  /** Path of server-sent events of the page's own server, on each of which the page loads itself anew. */
  readonly reloadOn?: string;
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
  /** Lets the reader sort the rows by any column. */
  readonly sortable?: boolean;
}

/** Head of a column; a text alone is its label. */
export interface TableColumn {
  readonly label: string;
  /** Set apart, as what the others are compared with. */
  readonly reference?: boolean;
}

/**
 * Columns of numbers are right-aligned; give texts such as "98.8 %" as `{ text, numeric: true }` to have them so too.
 * `href` links to another page beside this one. `chart` is a small SVG before the text.
 */
export type TableCell =
  | string
  | number
  | null
  | {
      readonly text: string | number;
      readonly tone?: Tone;
      readonly numeric?: boolean;
      readonly href?: string;
      readonly chart?: string;
    };

/** How a PNG is shown. */
export interface PictureOptions {
  /** What is to be seen, for those who do not see it. */
  readonly alt: string;
  readonly caption?: string;
  /** Enlarges every pixel; 1 by default. */
  readonly zoom?: number;
}

/** How a grid of pictures is shown. */
export interface ReportGridOptions extends GridOptions {
  /** What is to be seen, for those who do not see it. */
  readonly alt: string;
  readonly caption?: string;
}

const shownRule: Rule = {
  expected: "a string or a number",
  accepts: (value) => typeof value === "string" || typeof value === "number",
};
const toneRule = oneOf("good", "bad");
const reportRules: Rules<ReportOptions> = { title: string, subtitle: string, footer: string, reloadOn: string };
const figureRules: Rules<KeyFigure> = { label: string, value: shownRule, note: string, tone: toneRule };
const tableRules: Rules<Table> = { columns: array, rows: listOf(array), caption: string, sortable: boolean };
const columnRules: Rules<TableColumn> = { label: string, reference: boolean };
const cellRules: Rules<CellObject> = { text: shownRule, tone: toneRule, numeric: boolean, href: string, chart: string };
const reportGridRules: Rules<ReportGridOptions> = { ...gridRules, alt: string, caption: string };
const pictureRules: Rules<PictureOptions> = { alt: string, caption: string, zoom: number({ above: 0, to: 1000 }) };

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

  /** A heading within the section. */
  heading(text: string): this {
    check("report", "heading", text, string);
    return this.append(html`<h3>${text}</h3>`);
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
    const given = checkOptions("report: table", table, tableRules, ["columns", "rows"]);
    const { columns, rows, caption: title, sortable = false } = given;
    for (const column of columns) {
      if (typeof column !== "string") checkOptions("report: column", column, columnRules, ["label"]);
    }
    for (const cell of rows.flat()) {
      if (typeof cell !== "string" && typeof cell !== "number" && cell !== null) {
        const { chart } = checkOptions("report: cell", cell, cellRules, ["text"]);
        if (chart !== undefined) checkChart(chart);
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
      const { text, tone, href, chart } = asObject(content);
      const words = href === undefined ? shown(text) : html`<a href="${href}">${shown(text)}</a>`;
      const inside = chart === undefined ? words : html`${new Markup(chart)} ${words}`;
      return html`<td${classes(...columnClasses[index]!, tone)}>${inside}</td>`;
    };
    return this.append(html`<figure class="table">${caption(title)}<table${sortable ? html` class="sortable"` : undefined}>
<thead><tr>${heads.map(({ label }, index) => html`<th${classes(...columnClasses[index]!)}>${label}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody>
</table></figure>`);
  }

  /** A chart from charts.ts. @throws UsageError for anything that is not SVG or holds scripts */
  chart(svg: string, text?: string): this {
    check("report", "a chart", svg, string);
    if (text !== undefined) check("report", "a chart's caption", text, string);
    checkChart(svg);
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

  /**
   * Pictures in rows and columns. The reader sorts them by their figures and opens each.
   * @throws UsageError for pictures whose pixels do not fit their size
   */
  grid(cells: GridCells, options: ReportGridOptions): this {
    const { alt, caption: text, ...rest } = checkOptions("report: grid", options, reportGridRules, ["alt"]);
    const pictures = gridMarkup("report: grid", cells, rest);
    return this.append(html`<figure class="grid" aria-label="${alt}">${pictures}${caption(text)}</figure>`);
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
 * const chart = lineChart({ series: [{ name: "loss", y: [0.31, 0.12, 0.08] }] });
 * report.section("Training", (section) => section.text("The loss falls.").chart(chart, "Loss per epoch"));
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
    const { title, subtitle, footer, reloadOn } = this.options;
    const scripts = reloadOn === undefined ? [reportScript] : [reportScript, reloadScript];
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
<html lang="en"${reloadOn === undefined ? undefined : html` data-reload="${reloadOn}"`}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src ${scripts.map(digestOf).join(" ")}${reloadOn === undefined ? "" : "; connect-src 'self'"}">
<title>${title}</title>
<style>${new Markup(reportStyle)}</style>
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
${scripts.map((script) => html`<script>${new Markup(script)}</script>`)}
</body>
</html>
`.text;
  }
}

function checkChart(svg: string): void {
  if (!svg.startsWith("<svg") || /<script/i.test(svg)) {
    throw new UsageError(`report: a chart must be SVG text without scripts, given "${svg.slice(0, 20)}"`);
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
