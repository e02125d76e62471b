// Grids of pictures with captions, labels and figures: as SVG for a file of its own, as HTML for a report. Each picture
// is a PNG of its pixels alone; whatever is written beside it is text.
import { UsageError } from "../tensor/errors.js";
import {
  array,
  check,
  checkOptions,
  integer,
  listOf,
  numbers,
  object,
  oneOf,
  type Rules,
  string,
} from "../tensor/options.js";
import { classes, html, Markup, shown } from "./markup.js";
import { encodePicture, largestSide, MOST_BYTES } from "./png.js";

/** One picture of a grid. */
export interface GridCell {
  /** [height, width] or [height, width, 3], in [0, 1]. */
  readonly pixels: ArrayLike<number>;
  readonly width: number;
  readonly height: number;
  /** 1 (grey) by default. */
  readonly channels?: 1 | 3;
  /** Lines of text under the picture, the first one bold. */
  readonly caption?: readonly string[];
  /** A coloured border: green for right, red and dashed for wrong. */
  readonly highlight?: "good" | "bad";
  /**
   * What is known of the picture, by name, such as `{ answer: "7", confidence: 0.98 }`. It is told where the reader
   * points at the picture or opens it. A report sorts by those that are numbers.
   */
  readonly figures?: Readonly<Record<string, number | string>>;
}

/** Pictures by row; `null` leaves a place empty. */
export type GridCells = readonly (readonly (GridCell | null)[])[];

/** Options of {@link pictureGrid}. */
export interface GridOptions {
  /** Each pixel of a picture becomes a square of so many pixels; 3 by default. */
  readonly scale?: number;
  /** Texts left of the rows. */
  readonly rowLabels?: readonly string[];
  /** Texts above the columns. */
  readonly columnLabels?: readonly string[];
}

const side = integer({ from: 1, to: largestSide });
const cellRules: Rules<GridCell> = {
  pixels: numbers,
  width: side,
  height: side,
  channels: oneOf(1, 3),
  caption: listOf(string, { to: 100 }),
  highlight: oneOf("good", "bad"),
  figures: object,
};

export const gridRules: Rules<GridOptions> = {
  scale: integer({ from: 1, to: 1024 }),
  rowLabels: listOf(string),
  columnLabels: listOf(string),
};

/** A cell that is ready to be shown. */
interface DrawnCell {
  /** Of the picture on the page, in CSS pixels. */
  readonly width: number;
  readonly height: number;
  /** A data URL. */
  readonly source: string;
  readonly caption: readonly string[];
  readonly highlight: "good" | "bad" | undefined;
  readonly figures: Readonly<Record<string, number | string>>;
  /** Row and column by their labels: "noise 3, as 7". */
  readonly place: string;
}

interface DrawnGrid {
  readonly rows: readonly (readonly (DrawnCell | undefined)[])[];
  readonly columns: number;
  readonly rowLabels: readonly string[];
  readonly columnLabels: readonly string[];
}

/** @throws UsageError for pictures whose pixels do not fit their size, and figures that are neither number nor text */
function drawn(op: string, given: GridCells, options: GridOptions): DrawnGrid {
  check(op, "cells", given, listOf(array));
  const { scale = 3, rowLabels = [], columnLabels = [] } = checkOptions(op, options, gridRules);
  let bytes = 0;
  const rows = given.map((row, r) =>
    Array.from(row, (each, c): DrawnCell | undefined => {
      if (each === null) return undefined;
      const cell = checkOptions(op, each, cellRules, ["pixels", "width", "height"]);
      const { pixels, width, height, channels = 1, caption = [], highlight, figures = {} } = cell;
      for (const [name, value] of Object.entries(figures)) {
        if (typeof value === "number" || typeof value === "string") continue;
        throw new UsageError(`${op}: figures must be numbers or strings, "${name}" is a ${typeof value}`);
      }
      bytes += width * height * channels;
      if (bytes > MOST_BYTES) {
        throw new UsageError(`${op}: pictures may have at most ${MOST_BYTES} bytes in all; give fewer or smaller ones`);
      }
      const png = encodePicture(op, pixels, { width, height, channels });
      const place = [rowLabels[r], columnLabels[c]].filter(Boolean).join(", ");
      const source = `data:image/png;base64,${Buffer.from(png).toString("base64")}`;
      return { ...{ width: width * scale, height: height * scale, source, caption, figures, place }, highlight };
    }),
  );
  const columns = Math.max(0, columnLabels.length, ...rows.map((row) => row.length));
  return { rows, columns, rowLabels, columnLabels };
}

const figureLines = ({ figures }: DrawnCell) =>
  Object.entries(figures).map(([name, value]) => `${name}: ${shown(value)}`);

/** Labels of so many characters at most stay on one line. */
const UNBROKEN = 14;

/** What a picture is, in words, for those who do not see it. */
const inWords = ({ place, caption }: DrawnCell) => [place, ...caption].filter(Boolean).join(", ");

/** Names of the figures by which cells can be ordered: numbers, of two cells at least. */
function sortable({ rows }: DrawnGrid): string[] {
  const counts = new Map<string, number>();
  for (const cell of rows.flat()) {
    for (const [name, value] of Object.entries(cell?.figures ?? {})) {
      if (typeof value === "number") counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...counts].flatMap(([name, count]) => (count > 1 ? [name] : []));
}

/**
 * A grid for a report. With labels it is a table, without any its cells flow into as many columns as there is room for.
 * The script of the report adds sorting and enlarging; without it captions and tooltips tell the same.
 */
export function gridMarkup(op: string, given: GridCells, options: GridOptions): Markup {
  const grid = drawn(op, given, options);
  const { rows, columns, rowLabels, columnLabels } = grid;
  const cell = (one: DrawnCell) => {
    const lines = one.caption.map((line, index) => (index === 0 ? html`<b>${line}</b>` : html`<span>${line}</span>`));
    return html`<div${classes("cell", one.highlight)} data-figures="${JSON.stringify(one.figures)}">
<button type="button" title="${[inWords(one), ...figureLines(one)].filter(Boolean).join("\n")}"><img src="${one.source}" alt="${inWords(one)}" width="${one.width}" height="${one.height}"></button>
${one.place ? html`<div class="place">${one.place}</div>` : undefined}${lines.length > 0 ? html`<div class="lines">${lines}</div>` : undefined}</div>`;
  };
  const sorts = html` data-sorts="${JSON.stringify(sortable(grid))}"`;
  if (rowLabels.length === 0 && columnLabels.length === 0) {
    const widest = Math.max(0, ...rows.flat().map((one) => one?.width ?? 0));
    const style = `--columns: ${columns}; --picture: ${widest}px`;
    return html`<div class="pictures"${sorts}><div class="cells" style="${style}">${rows.flatMap((row) => row.flatMap((one) => (one ? [cell(one)] : [])))}</div></div>`;
  }
  const head = (scope: string, label = "") =>
    html`<th${classes(label.length <= UNBROKEN && "short")} scope="${scope}">${label}</th>`;
  const heads = Array.from({ length: columns }, (_, c) => head("col", columnLabels[c]));
  const corner = rowLabels.length > 0 ? html`<td></td>` : undefined;
  const headRow = columnLabels.length > 0 ? html`<thead><tr>${corner}${heads}</tr></thead>` : undefined;
  const body = rows.map((row, r) => {
    const label = rowLabels.length > 0 ? head("row", rowLabels[r]) : undefined;
    return html`<tr>${label}${row.map((one) => html`<td>${one && cell(one)}</td>`)}</tr>`;
  });
  return html`<div class="pictures"${sorts}><div class="scroll"><table>${headRow}<tbody>${body}</tbody></table></div></div>`;
}

const margin = 10;
const gap = 12;
const border = 3;
const captionGap = 4;
const lineHeight = 15;

/** About as wide as the text is in fonts of the system at 12 pixels. Only room depends on it. */
const textWidth = (text: string, bold = false) => Math.ceil([...text].length * (bold ? 7.2 : 6.6));

const svgStyle = `
.grid { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
.grid text { fill: #505861; text-anchor: middle; }
.grid .bold { fill: #1f2328; font-weight: 600; }
.grid .row { text-anchor: end; }
.grid .ground { fill: #ffffff; }
.grid .frame { fill: none; stroke: #d0d5db; stroke-width: 1; }
.grid .good { stroke: #0b7f5b; stroke-width: 3; }
.grid .bad { stroke: #d03a1f; stroke-width: 3; stroke-dasharray: 5 3; }
.grid image { image-rendering: pixelated; }
`;

/**
 * An SVG of pictures in rows and columns on a white ground, labels beside and above, captions below each, figures where
 * one points at a picture. Pixels are PNG, all else is text.
 * @param cells by row; `null` leaves a place empty. Columns are as wide as their widest picture or text.
 * @throws UsageError for pictures whose pixels do not fit their size
 */
export function pictureGrid(cells: GridCells, options: GridOptions = {}): string {
  const { rows, columns, rowLabels, columnLabels } = drawn("pictureGrid", cells, options);
  const labelWidth = Math.max(0, ...rowLabels.map((label) => textWidth(label, true) + gap));
  const labelHeight = columnLabels.length > 0 ? lineHeight + captionGap : 0;
  const widths = Array.from({ length: columns }, (_, c) => {
    const sizes = rows.flatMap((row) => {
      const cell = row[c];
      if (!cell) return [];
      return [cell.width + 2 * border, ...cell.caption.map((line, i) => textWidth(line, i === 0))];
    });
    return Math.max(textWidth(columnLabels[c] ?? "", true), ...sizes);
  });
  const pictureHeights = rows.map((row) => Math.max(0, ...row.map((cell) => (cell ? cell.height + 2 * border : 0))));
  const heights = rows.map((row, r) => {
    const lines = Math.max(0, ...row.map((cell) => cell?.caption.length ?? 0));
    return pictureHeights[r]! + (lines > 0 ? captionGap + lines * lineHeight : 0);
  });
  const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size + gap, -gap);
  const width = Math.max(1, 2 * margin + labelWidth + sum(widths));
  const height = Math.max(1, 2 * margin + labelHeight + sum(heights));
  /** Where each begins. */
  const starts = (sizes: readonly number[], first: number) => sizes.map((_, i) => first + sum(sizes.slice(0, i)) + gap);
  const lefts = starts(widths, margin + labelWidth);
  const tops = starts(heights, margin + labelHeight);
  const centre = (c: number) => lefts[c]! + widths[c]! / 2;

  const columnTexts = columnLabels.map(
    (label, c) => html`<text class="bold" x="${centre(c)}" y="${margin + 11}">${label}</text>`,
  );
  const rowTexts = rowLabels.slice(0, rows.length).map((label, r) => {
    return html`<text class="bold row" x="${margin + labelWidth - gap}" y="${tops[r]! + pictureHeights[r]! / 2 + 4}">${label}</text>`;
  });
  const pictures = rows.flatMap((row, r) =>
    row.flatMap((cell, c) => {
      if (!cell) return [];
      const left = centre(c) - cell.width / 2;
      const top = tops[r]! + border;
      const inset = cell.highlight ? border / 2 : 0.5;
      const title = [inWords(cell), ...figureLines(cell)].filter(Boolean).join("\n");
      const lines = cell.caption.map((line, i) => {
        const y = top + cell.height + border + captionGap + i * lineHeight + 11;
        return html`<text${classes(i === 0 && "bold")} x="${centre(c)}" y="${y}">${line}</text>`;
      });
      return [
        html`<g>${title ? html`<title>${title}</title>` : undefined}
<rect${classes("frame", cell.highlight)} x="${left - inset}" y="${top - inset}" width="${cell.width + 2 * inset}" height="${cell.height + 2 * inset}"/>
<image href="${cell.source}" x="${left}" y="${top}" width="${cell.width}" height="${cell.height}"/>
${lines}</g>`,
      ];
    }),
  );
  return html`<svg xmlns="http://www.w3.org/2000/svg" class="grid" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<style>${new Markup(svgStyle)}</style>
<rect class="ground" width="${width}" height="${height}"/>
${columnTexts}${rowTexts}
${pictures}
</svg>
`.text;
}
