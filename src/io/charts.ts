/**
 * Charts as SVG text, drawn by echarts without a browser: line charts, bar charts, confusion matrices. The background
 * is transparent and the colours follow the reader's light or dark scheme, within a page and as a file. Each chart is
 * drawn twice, for wide and for narrow screens, with text of the same size; the reader's window decides. What is to be
 * shown is decided by the caller: nothing is smoothed or averaged here.
 */
import { createRequire } from "node:module";
import type * as ECharts from "echarts";
import { UsageError } from "../tensor/errors.js";
import {
  boolean,
  checkOptions,
  integer,
  listOf,
  number,
  numbers,
  object,
  oneOf,
  type Rules,
  string,
} from "../tensor/options.js";

let loaded: typeof ECharts | undefined;

/** Loaded with the first chart, at once: it takes a third of a second, which most programs never need. */
function echarts(): typeof ECharts {
  loaded ??= createRequire(import.meta.url)("echarts") as typeof ECharts;
  return loaded;
}

/** An axis of numbers. */
export interface AxisOptions {
  /** What it counts, with the unit. */
  readonly label?: string;
  /** `"linear"` by default. A logarithmic axis leaves gaps where values are not positive. */
  readonly scale?: "linear" | "log";
  /** Shows 0.98 as 98 %. */
  readonly percent?: boolean;
  /** Ends of the axis; by default where the values end. */
  readonly min?: number;
  readonly max?: number;
}

/** A dashed line across the whole chart with a text, e.g. the figure to compare with. */
export interface ReferenceLine {
  readonly value: number;
  readonly label: string;
  /** The axis on which `value` lies: `"y"` by default, a horizontal line. */
  readonly axis?: "x" | "y";
}

/** What all charts have. */
export interface ChartOptions {
  readonly title?: string;
  /** In CSS pixels; 560 x 340 by default. */
  readonly width?: number;
  readonly height?: number;
}

/** One curve. */
export interface LineSeries {
  readonly name: string;
  /** Values that are not finite leave gaps. */
  readonly y: ArrayLike<number>;
  /** As many as `y`; 1, 2, 3... by default. */
  readonly x?: ArrayLike<number>;
  /** Half lengths of vertical error bars, e.g. standard deviations; as many as `y`. */
  readonly errors?: ArrayLike<number>;
  readonly dashed?: boolean;
  /**
   * Which colour, from 0; by default the series' place. Give two series the same one to show that they belong together.
   */
  readonly colour?: number;
}

/** Options of {@link lineChart}. */
export interface LineChartOptions extends ChartOptions {
  readonly series: readonly LineSeries[];
  readonly x?: AxisOptions;
  readonly y?: AxisOptions;
  readonly referenceLines?: readonly ReferenceLine[];
}

/** One set of bars. */
export interface BarSeries {
  readonly name: string;
  /** One per category; values that are not finite leave gaps. */
  readonly values: ArrayLike<number>;
  /** Half lengths of error bars, one per category. */
  readonly errors?: ArrayLike<number>;
}

/** Options of {@link barChart}. */
export interface BarChartOptions extends ChartOptions {
  readonly categories: readonly string[];
  readonly series: readonly BarSeries[];
  /** What the categories are. */
  readonly categoryLabel?: string;
  /** The axis of the values; begins at 0 unless `min` says otherwise. */
  readonly values?: Omit<AxisOptions, "scale">;
  /** Writes each value above its bar. */
  readonly showValues?: boolean;
  readonly referenceLines?: readonly Omit<ReferenceLine, "axis">[];
}

/** Options of {@link confusionMatrix}. */
export interface ConfusionMatrixOptions extends ChartOptions {
  readonly labels: readonly string[];
  /** `counts[t][p]`: how many of class `t` were taken for class `p`. */
  readonly counts: readonly ArrayLike<number>[];
}

const pixels = number({ from: 16, to: 16_384 });
const chartRules: Rules<ChartOptions> = { title: string, width: pixels, height: pixels };
const axisRules: Rules<AxisOptions> = {
  label: string,
  scale: oneOf("linear", "log"),
  percent: boolean,
  min: number(),
  max: number(),
};
const lineRules: Rules<ReferenceLine> = { value: number(), label: string, axis: oneOf("x", "y") };
const seriesRules: Rules<LineSeries> = {
  name: string,
  y: numbers,
  x: numbers,
  errors: numbers,
  dashed: boolean,
  colour: integer({ from: 0 }),
};
const barSeriesRules: Rules<BarSeries> = { name: string, values: numbers, errors: numbers };
const objects = listOf(object);
const lineChartRules: Rules<LineChartOptions> = {
  ...chartRules,
  series: objects,
  x: object,
  y: object,
  referenceLines: objects,
};
const barChartRules: Rules<BarChartOptions> = {
  ...chartRules,
  categories: listOf(string),
  series: objects,
  categoryLabel: string,
  values: object,
  showValues: boolean,
  referenceLines: objects,
};
const confusionRules: Rules<ConfusionMatrixOptions> = {
  ...chartRules,
  labels: listOf(string),
  counts: listOf(numbers),
};

/** Each of `parts` with its options checked. */
const checkAll = <Options extends object>(
  owner: string,
  parts: readonly Options[],
  rules: Rules<Options>,
  required: readonly (keyof Options & string)[],
) => parts.map((part) => checkOptions(owner, part, rules, required));

/**
 * Colours for light and for dark pages. They are all used through CSS variables, so that the reader's scheme decides.
 */
const palette = {
  text: ["#57606a", "#a3adb8"],
  grid: ["#e1e5ea", "#30363e"],
  axis: ["#8c959f", "#6a737d"],
  wrong: ["#d55e00", "#ff7f4d"],
  // Okabe and Ito's, darkened to a contrast of 3 with the page.
  "series-0": ["#0072b2", "#5b9bff"],
  "series-1": ["#d55e00", "#ff7f4d"],
  "series-2": ["#009e73", "#3fd6a0"],
  "series-3": ["#b0508a", "#f0a0cc"],
  "series-4": ["#3c434b", "#f0f3f6"],
  // From here on lines are dashed, so that these need to differ from each other only.
  "series-5": ["#b87a00", "#f0c040"],
  "series-6": ["#00707a", "#2aa5b5"],
  "series-7": ["#a61c2c", "#e8566a"],
  "series-8": ["#4a2a7a", "#7a6aff"],
  "series-9": ["#9a6fd0", "#dcc6ff"],
} as const;
const seriesColours = 10;
const solidColours = 5;
/** Marks of points, by colour. */
const symbols = ["circle", "rect", "triangle", "diamond", "path://M4,0H6V4H10V6H6V10H4V6H0V4H4Z"];
const colour = (name: keyof typeof palette) => `var(--${name})`;
const seriesColour = (index: number) => colour(`series-${index % seriesColours}` as keyof typeof palette);

const variables = (scheme: 0 | 1) =>
  Object.entries(palette)
    .map(([name, pair]) => `--${name}:${pair[scheme]}`)
    .join(";");
/** In CSS pixels: what a phone has room for. */
const NARROW_WIDTH = 330;
const NARROW_HEIGHT = 300;
/** Charts side by side on paper are narrow, too. */
const narrow =
  ".kilograd-chart{width:var(--narrow-width);aspect-ratio:var(--narrow-ratio)}" +
  ".kilograd-chart>.wide{display:none}.kilograd-chart>.narrow{display:inline}";
const styleSheet =
  `<style>.kilograd-chart{${variables(0)};font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;` +
  "width:var(--wide-width);aspect-ratio:var(--wide-ratio);max-width:100%;height:auto}.kilograd-chart>.narrow{display:none}" +
  `@media screen and (prefers-color-scheme:dark){.kilograd-chart{${variables(1)}}}` +
  `@media screen and (max-width:520px){${narrow}}` +
  `@media print{${narrow.replaceAll(".kilograd-chart", ".row .kilograd-chart")}}</style>`;

/** Curves over a common axis of numbers, as SVG. @throws UsageError where a series' lists differ in length */
export function lineChart(options: LineChartOptions): string {
  const given = checkOptions("lineChart", options, lineChartRules, ["series"]);
  const series = checkAll("lineChart: series", given.series, seriesRules, ["name", "y"]);
  const xAxis = checkOptions("lineChart: x", given.x ?? {}, axisRules);
  const yAxis = checkOptions("lineChart: y", given.y ?? {}, axisRules);
  const referenceLines = checkAll("lineChart: referenceLines", given.referenceLines ?? [], lineRules, [
    "value",
    "label",
  ]);
  const drawn = series.flatMap(({ name, y, x, errors, dashed = false, colour: which }, index) => {
    sameLength(name, y, { x, errors });
    const place = (i: number) => axisValue(x ? x[i]! : i + 1, xAxis);
    const points = Array.from(y, (value, i) => [place(i), axisValue(value, yAxis)]);
    const kind = (which ?? index) % seriesColours;
    const ink = seriesColour(kind);
    const stroke = dashed ? "dashed" : kind < solidColours || which !== undefined ? "solid" : [7, 3];
    const bars = Array.from(errors ?? [], (half, i) => [
      place(i),
      axisValue(y[i]! - half, yAxis) ?? y[i]!,
      y[i]! + half,
    ]);
    return [
      {
        type: "line",
        name,
        data: points,
        showSymbol: points.length <= 30,
        symbol: symbols[kind % symbols.length],
        symbolSize: 6,
        color: ink,
        lineStyle: { width: 2, type: stroke },
        endLabel: { show: false, formatter: name.replace(/[{}]/g, ""), color: ink, distance: 6, textBorderWidth: 0 },
        silent: true,
      },
      ...(bars.length > 0 ? [errorBars(bars, ink)] : []),
    ];
  });
  const counted = series.every(({ x }) => Array.from(x ?? []).every(Number.isInteger));
  // Where places are counted from 1, the axis begins and ends with them, not at round numbers.
  const last = series.every(({ x }) => x === undefined) ? Math.max(...series.map(({ y }) => y.length)) : 1;
  const ends = last > 1 ? { min: 1, max: last } : {};
  const names = series.map(({ name }) => name);
  return render(options, (size) => {
    const direct = labelledDirectly(names, size);
    return {
      ...frame(size, direct ? [] : names, "line", direct ? widestOf(names) : 0),
      // Epochs and steps are counted: no marks between them.
      xAxis: { ...numberAxis({ ...ends, ...xAxis }, "x"), ...(counted && { minInterval: 1 }) },
      yAxis: numberAxis(yAxis, "y"),
      series: [
        ...drawn.map((line) => ("endLabel" in line ? { ...line, endLabel: { ...line.endLabel, show: direct } } : line)),
        ...referenceLines.map(({ axis = "y", ...line }) => referenceLine(line, axis)),
      ],
    };
  });
}

/** Groups of vertical bars, as SVG. @throws UsageError where a series has not one value per category */
export function barChart(options: BarChartOptions): string {
  const given = checkOptions("barChart", options, barChartRules, ["categories", "series"]);
  const { categories, categoryLabel, showValues = false } = given;
  const series = checkAll("barChart: series", given.series, barSeriesRules, ["name", "values"]);
  const axis = checkOptions("barChart: values", given.values ?? {}, axisRules);
  const referenceLines = checkAll("barChart: referenceLines", given.referenceLines ?? [], lineRules, [
    "value",
    "label",
  ]);
  const drawn = series.flatMap(({ name, values, errors }, index) => {
    sameLength(name, categories, { values, errors });
    const bars = Array.from(errors ?? [], (half, i) => [i, values[i]! - half, values[i]! + half]);
    return [
      {
        type: "bar",
        name,
        data: Array.from(values, (value) => axisValue(value, axis)),
        color: seriesColour(index),
        ...barGaps,
        itemStyle: { borderRadius: [2, 2, 0, 0] },
        label: {
          show: showValues,
          position: "top",
          color: colour("text"),
          textBorderWidth: 0,
          formatter: ({ value }: { value: number }) => numberText(value, axis),
        },
        labelLayout: { hideOverlap: true },
        silent: true,
      },
      ...(bars.length > 0 ? [errorBars(bars, colour("text"), { index, count: series.length })] : []),
    ];
  });
  return render(options, (size) => ({
    ...frame(
      size,
      series.map(({ name }) => name),
      "bar",
    ),
    xAxis: { ...categoryAxis(categories), ...axisName(categoryLabel, "x") },
    yAxis: { ...numberAxis(axis, "y"), scale: false },
    series: [...drawn, ...referenceLines.map((line) => referenceLine(line, "y", categories[0]))],
  }));
}

/**
 * A table of counts, true classes downwards and predicted ones across, with the share of right answers of each class;
 * as SVG.
 */
export function confusionMatrix(options: ConfusionMatrixOptions): string {
  const { labels, counts } = checkOptions("confusionMatrix", options, confusionRules, ["labels", "counts"]);
  for (const row of [counts, ...counts]) sameLength("confusion matrix", labels, { counts: row });
  const total = (row: ArrayLike<number>) => Array.from(row).reduce((sum, count) => sum + count, 0);
  const mostWrong = Math.max(1, ...counts.flatMap((row, t) => Array.from(row).filter((_, p) => p !== t)));
  const cells = counts.flatMap((row, t) => Array.from(row, (count, p) => [p, t, count] as const));
  const renderItem: ECharts.CustomSeriesRenderItem = ({ dataIndex }, api) => {
    const [p, t, count] = cells[dataIndex]!;
    const [width, height] = api.size!([1, 1]) as [number, number];
    const [x, y] = api.coord([p, t]) as [number, number];
    const right = p === t;
    // Mistakes are few beside right answers, so they are shaded among themselves; the root makes single ones visible.
    const shade = right ? count / Math.max(1, total(counts[t]!)) : Math.sqrt(count / mostWrong);
    return {
      type: "group",
      children: [
        {
          type: "rect",
          shape: { x: x - width / 2 + 1, y: y - height / 2 + 1, width: width - 2, height: height - 2, r: 3 },
          style: { fill: right ? colour("series-0") : colour("wrong"), opacity: count > 0 ? 0.08 + 0.4 * shade : 0 },
        },
        {
          type: "text",
          x,
          y,
          style: {
            text: count > 0 ? String(count) : "",
            fill: "currentColor",
            ...{ fontFamily: "inherit", fontWeight: right ? 600 : 400 },
            fontSize: Math.min(13, Math.floor(width / 2.3)),
            align: "center",
            verticalAlign: "middle",
          },
        },
      ],
    };
  };
  const shares = counts.map((row, t) => (total(row) > 0 ? `${((100 * row[t]!) / total(row)).toFixed(1)} %` : ""));
  return render(
    options,
    (size) => ({
      ...frame(size, [], "bar"),
      xAxis: { ...categoryAxis(labels), ...axisName("predicted", "x"), axisLine: { show: false } },
      yAxis: [
        { ...categoryAxis(labels), ...axisName("true", "y"), inverse: true, axisLine: { show: false } },
        {
          ...categoryAxis(shares),
          ...{ inverse: true, position: "right", axisLine: { show: false } },
          ...{
            name: "recall",
            nameLocation: "start",
            nameGap: 4,
            nameTextStyle: { color: colour("text"), align: "left" },
          },
        },
      ],
      series: [{ type: "custom", renderItem, data: cells, encode: { x: 0, y: 1 }, silent: true }],
    }),
    460,
  );
}

/** An axis of {@link parallelChart}. */
export interface ParallelAxis {
  readonly label: string;
  /** Texts at places of [0, 1] of the axis, from below. */
  readonly ticks: readonly ParallelTick[];
}

/** A text beside an axis. */
export interface ParallelTick {
  readonly at: number;
  readonly text: string;
}

/** Lines of {@link parallelChart} that look alike. */
export interface ParallelLines {
  readonly name: string;
  /** How much they stand out. */
  readonly look: "strong" | "plain" | "faint";
  /** Of each line a place of [0, 1] on every axis; NaN where it passes an axis by. */
  readonly lines: readonly ArrayLike<number>[];
}

/** Options of {@link parallelChart}. */
export interface ParallelChartOptions extends ChartOptions {
  readonly axes: readonly ParallelAxis[];
  /** The first one is drawn first, and the last one above all. */
  readonly groups: readonly ParallelLines[];
}

const parallelRules: Rules<ParallelChartOptions> = { ...chartRules, axes: objects, groups: objects };
const parallelTickRules: Rules<ParallelTick> = { at: number(), text: string };
const parallelAxisRules: Rules<ParallelAxis> = { label: string, ticks: objects };
const parallelLinesRules: Rules<ParallelLines> = {
  name: string,
  look: oneOf("strong", "plain", "faint"),
  lines: listOf(numbers),
};
const looks = {
  strong: ["series-1", 1.6, 0.95],
  plain: ["series-0", 1, 0.4],
  faint: ["axis", 0.8, 0.28],
} as const;

/**
 * Lines over several axes side by side, as SVG: one for each thing that has a place on every axis. A group of lines is
 * one path, so that thousands of lines are drawn as quickly as a few.
 * @example parallelChart({ axes: [{ label: "a", ticks: [] }, { label: "b", ticks: [] }],
 * groups: [{ name: "all", look: "plain", lines: [[0, 1], [0.5, 0.2]] }] })
 * @throws UsageError where a line has not one place per axis
 */
export function parallelChart(options: ParallelChartOptions): string {
  const given = checkOptions("parallelChart", options, parallelRules, ["axes", "groups"]);
  const axes = checkAll("parallelChart: axes", given.axes, parallelAxisRules, ["label", "ticks"]);
  const groups = checkAll("parallelChart: groups", given.groups, parallelLinesRules, ["name", "look", "lines"]);
  for (const { ticks } of axes) checkAll("parallelChart: ticks", ticks, parallelTickRules, ["at", "text"]);
  for (const { name, lines } of groups) for (const line of lines) sameLength(name, axes, { line });
  const draw = (size: "wide" | "narrow", { title, width, height }: Size): string => {
    const heading = title ? titleLines(title, width) : [];
    const [left, right, above, below] = [34, width - 34, 18 * heading.length + 52, height - 10];
    const x = (axis: number) => (axes.length > 1 ? left + ((right - left) * axis) / (axes.length - 1) : width / 2);
    const y = (place: number) => below - (below - above) * place;
    const room = Math.floor((right - left) / Math.max(1, axes.length - 1) / 6);
    const short = (text: string, most: number) =>
      text.length <= most ? text : `${text.slice(0, Math.max(1, most - 1))}…`;
    const path = (line: ArrayLike<number>) => {
      let text = "";
      for (let axis = 0; axis < axes.length; axis++) {
        const place = line[axis]!;
        if (Number.isFinite(place)) text += `${text === "" ? "M" : "L"}${x(axis).toFixed(0)} ${y(place).toFixed(1)}`;
      }
      return text;
    };
    let from = 0;
    const legend = groups.toReversed().map(({ name, look }) => {
      const at = from;
      from += 26 + 6.2 * name.length;
      const [ink] = looks[look];
      return (
        `<path d="M${at} ${18 * heading.length + 9}h14" stroke="${colour(ink)}" stroke-width="3"/>` +
        `<text x="${at + 18}" y="${18 * heading.length + 13}" fill="${colour("text")}" font-size="11">${escaped(name)}</text>`
      );
    });
    const drawn = groups.map(({ look, lines }) => {
      const [ink, wide, opacity] = looks[look];
      const all = lines.map(path).join("");
      return `<path d="${all}" fill="none" stroke="${colour(ink)}" stroke-width="${wide}" stroke-opacity="${opacity}"/>`;
    });
    const scales = axes.map(({ label, ticks }, axis) => {
      // The outermost names stay within the picture; neighbours stand at two heights where they are many.
      const anchor = axis === 0 ? "start" : axis === axes.length - 1 ? "end" : "middle";
      const at = axis === 0 ? 0 : axis === axes.length - 1 ? width : x(axis);
      const most = Math.max(6, 2 * room - 2);
      const marks = ticks.map(
        ({ at, text }) =>
          `<text x="${axis === axes.length - 1 ? x(axis) - 4 : x(axis) + 4}" y="${(y(at) + 4).toFixed(0)}" ` +
          `text-anchor="${axis === axes.length - 1 ? "end" : "start"}" fill="currentColor" font-size="10" ` +
          `stroke="var(--surface, none)" stroke-width="3" paint-order="stroke">${escaped(short(text, Math.max(5, room)))}</text>`,
      );
      return (
        `<path d="M${x(axis).toFixed(0)} ${above}V${below}" stroke="${colour("axis")}"/>` +
        `<text x="${at.toFixed(0)}" y="${above - (axis % 2 === 0 ? 20 : 7)}" text-anchor="${anchor}" fill="currentColor" ` +
        `font-size="11" font-weight="600">${escaped(short(label, most))}</text>${marks.join("")}`
      );
    });
    const words = heading.map(
      (line, i) =>
        `<text x="0" y="${14 + 18 * i}" fill="currentColor" font-size="14" font-weight="bold">${escaped(line)}</text>`,
    );
    return (
      `<svg class="${size}" width="100%" height="100%" viewBox="0 0 ${width} ${height}">` +
      `${[...words, ...legend, ...drawn, ...scales].join("")}</svg>`
    );
  };
  return inBothSizes(given, draw, 340);
}

/** Gaps between bars; error bars must know them to stand on their bars. */
const barGaps = { barGap: "10%", barCategoryGap: "30%", barMaxWidth: 56 };

/** `bars` are [place, from, to]; incomplete ones are left out. `group` says on which bar of a group they stand. */
function errorBars(bars: (number | null)[][], ink: string, group?: { index: number; count: number }) {
  const renderItem: ECharts.CustomSeriesRenderItem = (_params, api) => {
    const offset = group ? api.barLayout!({ ...barGaps, count: group.count })![group.index]!.offsetCenter : 0;
    const [x, from] = api.coord([api.value(0), api.value(1)]) as [number, number];
    const [, to] = api.coord([api.value(0), api.value(2)]) as [number, number];
    const [centre, half] = [x + offset, 4];
    const line = (x1: number, y1: number, x2: number, y2: number) => ({
      type: "line" as const,
      shape: { x1, y1, x2, y2 },
      style: { fill: "none", stroke: ink, lineWidth: 1.5 },
    });
    return {
      type: "group",
      children: [
        line(centre, from, centre, to),
        line(centre - half, from, centre + half, from),
        line(centre - half, to, centre + half, to),
      ],
    };
  };
  const data = bars.filter((bar) => bar.every(Number.isFinite));
  return { type: "custom", renderItem, data, encode: { x: 0, y: [1, 2] }, silent: true, z: 3 };
}

/** Its invisible point makes the axis reach the line. */
function referenceLine({ value, label }: ReferenceLine, axis: "x" | "y", category?: string) {
  const at = axis === "y" ? [category ?? null, value] : [value, null];
  return {
    type: "line",
    data: [at],
    symbol: "none",
    silent: true,
    markLine: {
      symbol: "none",
      precision: 20, // Otherwise the line is drawn at two decimals: 0.9879 at 0.99.
      silent: true,
      lineStyle: { color: colour("axis"), type: [5, 4], width: 1.5 },
      label: {
        formatter: label.replace(/[{}]/g, ""), // Braces are placeholders there.
        position: axis === "y" ? "insideStartTop" : "insideEndTop",
        color: colour("text"),
        textBorderWidth: 0,
        fontSize: 11,
      },
      data: [axis === "y" ? { yAxis: value } : { xAxis: value }],
    },
  };
}

/** A chart with its size decided. */
type Size = ChartOptions & Required<Pick<ChartOptions, "width" | "height">>;

/** About as wide as names are, at 12 pixels. */
const widestOf = (names: readonly string[]) => Math.max(...names.map((name) => 6.6 * [...name].length));

/** Most lines that have their names at their ends instead of a legend. */
const MOST_DIRECT = 10;

const labelledDirectly = (names: readonly string[], { width }: Size) =>
  names.length > 1 && names.length <= MOST_DIRECT && widestOf(names) < 0.3 * width;

/** A title in lines that fit, of 14 bold pixels. */
function titleLines(title: string, width: number): string[] {
  const most = Math.floor(width / 8);
  const lines = [""];
  for (const word of title.split(" ")) {
    const longer = [lines.at(-1), word].filter(Boolean).join(" ");
    if (longer.length <= most || lines.at(-1) === "") lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Title, legend and the room that they need above the plot, and `right` pixels for labels beside it. */
function frame({ title, width }: Size, names: readonly string[], kind: "line" | "bar", right = 0) {
  const heading = title ? titleLines(title, width) : [];
  const legendTop = heading.length > 0 ? 8 + 18 * heading.length : 0;
  let [rows, used] = [0, Number.POSITIVE_INFINITY];
  if (names.length > 1) {
    for (const name of names) {
      const wide = 53 + 7 * name.length;
      if (used + wide > width) [rows, used] = [rows + 1, 0];
      used += wide;
    }
  }
  return {
    animation: false,
    textStyle: { fontFamily: "inherit" },
    ...(title && {
      title: {
        ...{ text: heading.join("\n"), left: 0, top: 0, padding: 0 },
        textStyle: { color: "currentColor", fontSize: 14, lineHeight: 18 },
      },
    }),
    ...(rows > 0 && {
      legend: {
        data: names.map((name) => ({ name })),
        left: 0,
        top: legendTop,
        padding: 0,
        itemGap: 24,
        itemWidth: 22,
        itemHeight: 9,
        itemStyle: { opacity: kind === "line" ? 0 : 1 }, // Marks would hide whether a line is dashed.
        textStyle: { color: colour("text") },
        silent: true,
      },
    }),
    grid: { left: 8, right: 14 + right, top: legendTop + 22 * rows + 10, bottom: 6, outerBoundsMode: "same" },
  };
}

function axisName(label: string | undefined, side: "x" | "y") {
  if (!label) return {};
  const nameTextStyle = { color: colour("text") };
  return { name: label, nameLocation: "middle", nameGap: side === "x" ? 6 : 10, nameTextStyle };
}

const axisLook = { axisLabel: { color: colour("text") }, axisTick: { show: false } };

function numberAxis({ label, scale = "linear", percent = false, min, max }: AxisOptions, side: "x" | "y") {
  const formatter = (value: number) => numberText(value, { scale, percent });
  return {
    type: scale === "log" ? "log" : "value",
    scale: true,
    ...axisName(label, side),
    // A logarithmic axis would otherwise reach to the next powers of ten.
    ...(scale === "log" && side === "x" && { min: "dataMin", max: "dataMax" }),
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    axisLabel: { ...axisLook.axisLabel, formatter, hideOverlap: true },
    axisTick: axisLook.axisTick,
    axisLine: { show: side === "x", onZero: false, lineStyle: { color: colour("axis") } },
    splitLine: { show: side === "y", lineStyle: { color: colour("grid") } },
  };
}

function categoryAxis(categories: readonly string[]) {
  return {
    type: "category",
    data: [...categories],
    ...axisLook,
    axisLine: { onZero: false, lineStyle: { color: colour("axis") } },
    splitLine: { show: false },
  };
}

function numberText(value: number, { scale = "linear", percent = false }: AxisOptions): string {
  if (percent) return `${Number((value * 100).toPrecision(6))} %`;
  const [size, rounded] = [Math.abs(value), Number(value.toPrecision(6))];
  const [smallest, largest] = scale === "log" ? [1e-2, 1e5] : [1e-3, 1e7];
  if (size !== 0 && (size < smallest || size >= largest)) return rounded.toExponential().replace("e+", "e");
  return rounded.toLocaleString("en-US", { maximumFractionDigits: 6 });
}

/** echarts' word for a gap is null. */
function axisValue(value: number, { scale }: AxisOptions): number | null {
  return Number.isFinite(value) && (scale !== "log" || value > 0) ? value : null;
}

function sameLength(
  name: string,
  expected: ArrayLike<unknown>,
  lists: Record<string, ArrayLike<unknown> | undefined>,
): void {
  for (const [list, given] of Object.entries(lists)) {
    if (given && given.length !== expected.length) {
      throw new UsageError(`chart: ${list} of "${name}" must have ${expected.length} entries, given ${given.length}`);
    }
  }
}

/** Draws a chart in both sizes and puts them into one SVG, of which a style sheet shows one. */
function render(options: ChartOptions, draw: (size: Size) => ECharts.EChartsCoreOption, usualHeight = 340): string {
  return inBothSizes(options, (name, size) => drawing(name, draw(size), size), usualHeight);
}

function inBothSizes(
  options: ChartOptions,
  draw: (name: "wide" | "narrow", size: Size) => string,
  usualHeight: number,
): string {
  const { title, width = 560, height = usualHeight } = options;
  const wide = { ...options, width, height };
  const narrow = {
    ...options,
    width: Math.min(width, NARROW_WIDTH),
    height: Math.min(height, usualHeight, NARROW_HEIGHT + (usualHeight > 340 ? 60 : 0)),
  };
  const label = title ? ` aria-label="${escaped(title)}"` : "";
  const sizes = Object.entries({ wide, narrow }).map(
    ([name, size]) => `--${name}-width:${size.width}px;--${name}-ratio:${size.width}/${size.height}`,
  );
  return (
    `<svg class="kilograd-chart" role="img"${label} width="${width}" height="${height}" style="${sizes.join(";")}" ` +
    `xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">${styleSheet}` +
    `${draw("wide", wide)}${draw("narrow", narrow)}</svg>`
  );
}

const escaped = (text: string): string => echarts().format.encodeHTML(text);

function drawing(name: string, option: ECharts.EChartsCoreOption, { width, height }: Size): string {
  const chart = echarts().init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption(option);
    const apart = labelsApart(option, chart, height);
    if (apart !== undefined) chart.setOption(apart, true);
    // Its own style sheet and classes only serve hovering; ours bring the colours.
    return chart
      .renderToSVGString()
      .replace(/<style >.*?<\/style>/s, "")
      .replace(/ (class="zr[^"]*"|ecmeta_\w+="[^"]*")/g, "")
      .replace(/^<svg [^>]*>/, `<svg class="${name}" width="100%" height="100%" viewBox="0 0 ${width} ${height}">`);
  } finally {
    chart.dispose(); // Otherwise a timer keeps the process alive.
  }
}

/** Pixels from one name at the end of a line to the next, and what axis and its name take below the plot. */
const LABEL_HEIGHT = 13;
const BELOW_PLOT = 44;

/** The same chart with the names at the ends of its lines moved apart, within the plot; undefined where it has none. */
function labelsApart(
  option: ECharts.EChartsCoreOption,
  chart: ECharts.ECharts,
  height: number,
): ECharts.EChartsCoreOption | undefined {
  const series = option["series"] as readonly LabelledSeries[];
  const labels = series.flatMap(({ data, endLabel }, seriesIndex) => {
    const end = endLabel?.show ? data.findLast(([x, y]) => x !== null && y !== null) : undefined;
    if (end === undefined) return [];
    return [{ seriesIndex, y: (chart.convertToPixel({ seriesIndex }, end as number[]) as number[])[1]! }];
  });
  if (labels.length === 0) return undefined;
  labels.sort((a, b) => a.y - b.y);
  // Downwards each below the one before, then upwards from the bottom of the plot.
  for (const [i, label] of labels.entries()) {
    if (i > 0) label.y = Math.max(label.y, labels[i - 1]!.y + LABEL_HEIGHT);
  }
  let lowest = height - BELOW_PLOT;
  for (const label of labels.toReversed()) {
    label.y = Math.min(label.y, lowest);
    lowest = label.y - LABEL_HEIGHT;
  }
  const places = new Map(labels.map(({ seriesIndex, y }) => [seriesIndex, y]));
  return {
    ...option,
    series: series.map((one, i) => (places.has(i) ? { ...one, labelLayout: { y: places.get(i) } } : one)),
  };
}

interface LabelledSeries {
  readonly data: readonly (readonly (number | null)[])[];
  readonly endLabel?: { readonly show: boolean };
}
