// Curves that grow: a line chart as SVG, with axes, a label at each line's end, and its last values as text.
import { html, svg } from "./dom.js";
import { thinned } from "./thinning.js";

export interface ChartOptions {
  readonly title: string;
  /** Of the horizontal axis. */
  readonly x: string;
  readonly logarithmic?: boolean;
  /** Fixed ends of the vertical axis. */
  readonly range?: readonly [number, number];
  readonly format?: (value: number) => string;
}

type Point = readonly [x: number, y: number];

const [WIDTH, HEIGHT] = [480, 240];
const margin = { left: 52, right: 72, top: 10, bottom: 26 };
/** Least distance of two names, in the units of the drawing. */
const NAME_HEIGHT = 12;
/** Told apart by colour-blind readers, too (Okabe, Ito 2008); style.css has those of dark pages. */
export const LINES = 6;

export class Chart {
  readonly figure: HTMLElement;
  private readonly drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  private readonly caption = html("figcaption");
  private readonly lines = new Map<string, Point[]>();

  constructor(private readonly options: ChartOptions) {
    this.figure = html("figure", { class: "chart" }, this.caption, this.drawing);
    this.draw();
  }

  /** Adds a point to a line; `draw` shows it. */
  add(line: string, x: number, y: number): void {
    const points = this.lines.get(line) ?? [];
    points.push([x, y]);
    this.lines.set(line, thinned(points));
  }

  /** Replaces a line. */
  set(line: string, points: readonly Point[]): void {
    this.lines.set(line, [...points]);
  }

  clear(): void {
    this.lines.clear();
    this.draw();
  }

  draw(): void {
    const { title, x: axis, logarithmic = false, format = short } = this.options;
    const latest = [...this.lines].map(([name, points]) => `${name} ${format(points.at(-1)![1])}`);
    this.caption.textContent = [title, ...latest].join(" · ");
    this.drawing.setAttribute("aria-label", `${title}. ${latest.join(", ") || "no values yet"}`);
    const visible = ([, y]: Point) => Number.isFinite(y) && (!logarithmic || y > 0);
    const all = [...this.lines.values()].flat().filter(visible);
    const scaled = (y: number) => (logarithmic ? Math.log10(y) : y);
    const ys = this.options.range ?? ends(all.map(([, y]) => scaled(y)));
    const xs = ends(all.map(([x]) => x));
    const across = (x: number) => margin.left + ((x - xs[0]) / (xs[1] - xs[0])) * (WIDTH - margin.left - margin.right);
    const down = (y: number) =>
      HEIGHT - margin.bottom - ((scaled(y) - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - margin.top - margin.bottom);
    const ticks = [0, 0.5, 1].map((share) => ys[0] + share * (ys[1] - ys[0]));
    const parts: SVGElement[] = ticks.flatMap((tick) => {
      const value = logarithmic ? 10 ** tick : tick;
      const y = down(value);
      return [
        svg("line", { class: "grid", x1: margin.left, x2: WIDTH - margin.right, y1: y, y2: y }),
        svg("text", { x: margin.left - 6, y: y + 4, "text-anchor": "end" }, format(value)),
      ];
    });
    parts.push(svg("text", { x: margin.left, y: HEIGHT - 6 }, `${axis} ${Math.round(xs[0])}`));
    parts.push(
      svg("text", { x: WIDTH - margin.right, y: HEIGHT - 6, "text-anchor": "end" }, String(Math.round(xs[1]))),
    );
    const names: { readonly className: string; readonly x: number; y: number; readonly name: string }[] = [];
    for (const [i, [name, points]] of [...this.lines].entries()) {
      const shown = points.filter(visible);
      if (shown.length === 0) continue;
      const path = shown.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`).join(" ");
      const [x, y] = shown.at(-1)!;
      parts.push(svg("polyline", { class: `line line-${i % LINES}`, points: path }));
      names.push({ className: `name-${i % LINES}`, x: across(x) + 4, y: down(y) + 4, name });
    }
    // From above, each below the last one.
    names.sort((a, b) => a.y - b.y);
    for (const [i, label] of names.entries()) {
      if (i > 0) label.y = Math.max(label.y, names[i - 1]!.y + NAME_HEIGHT);
      const { className, x, y, name } = label;
      parts.push(svg("text", { class: className, x, y }, name));
    }
    this.drawing.replaceChildren(...parts);
  }
}

/** Three digits, or all of a whole number. */
const short = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** Least and most, apart from each other. */
function ends(values: readonly number[]): readonly [number, number] {
  if (values.length === 0) return [0, 1];
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}
