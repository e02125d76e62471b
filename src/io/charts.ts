/**
 * Charts as SVG text, drawn by echarts without a browser: line charts, bar charts, confusion matrices. The background
 * is transparent and the colours follow the reader's light or dark scheme, within a page and as a file. What is to be
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
  wrong: ["#d63031", "#ff6b6b"],
  "series-0": ["#2563c9", "#6ea8fe"],
  "series-1": ["#d9640b", "#ff9d5c"],
  "series-2": ["#1a8f5c", "#4cc38a"],
  "series-3": ["#8250df", "#b794f6"],
  "series-4": ["#bf3989", "#f283bd"],
  "series-5": ["#0e8a9a", "#4fc7d6"],
  "series-6": ["#8a7500", "#d4b83a"],
  "series-7": ["#64707d", "#b3bcc6"],
  "series-8": ["#9a5b3c", "#d19a7d"],
  "series-9": ["#5c8a0e", "#9bd34a"],
} as const;
const seriesColours = 10;
const colour = (name: keyof typeof palette) => `var(--${name})`;
const seriesColour = (index: number) => colour(`series-${index % seriesColours}` as keyof typeof palette);

const variables = (scheme: 0 | 1) =>
  Object.entries(palette)
    .map(([name, pair]) => `--${name}:${pair[scheme]}`)
    .join(";");
const styleSheet =
  `<style>.kilograd-chart{${variables(0)};font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}` +
  `@media screen and (prefers-color-scheme:dark){.kilograd-chart{${variables(1)}}}</style>`;

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
    const ink = seriesColour(which ?? index);
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
        symbol: "circle",
        symbolSize: 5,
        color: ink,
        lineStyle: { width: 2, type: dashed ? "dashed" : "solid" },
        silent: true,
      },
      ...(bars.length > 0 ? [errorBars(bars, ink)] : []),
    ];
  });
  const counted = series.every(({ x }) => Array.from(x ?? []).every(Number.isInteger));
  // Where places are counted from 1, the axis begins and ends with them, not at round numbers.
  const last = series.every(({ x }) => x === undefined) ? Math.max(...series.map(({ y }) => y.length)) : 1;
  const ends = last > 1 ? { min: 1, max: last } : {};
  return render(
    {
      ...frame(
        options,
        series.map(({ name }) => name),
        "line",
      ),
      // Epochs and steps are counted: no marks between them.
      xAxis: { ...numberAxis({ ...ends, ...xAxis }, "x"), ...(counted && { minInterval: 1 }) },
      yAxis: numberAxis(yAxis, "y"),
      series: [...drawn, ...referenceLines.map(({ axis = "y", ...line }) => referenceLine(line, axis))],
    },
    options,
  );
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
        silent: true,
      },
      ...(bars.length > 0 ? [errorBars(bars, colour("text"), { index, count: series.length })] : []),
    ];
  });
  return render(
    {
      ...frame(
        options,
        series.map(({ name }) => name),
        "bar",
      ),
      xAxis: { ...categoryAxis(categories), ...axisName(categoryLabel, "x") },
      yAxis: { ...numberAxis(axis, "y"), scale: false },
      series: [...drawn, ...referenceLines.map((line) => referenceLine(line, "y", categories[0]))],
    },
    options,
  );
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
            font: `${right ? 600 : 400} 12px inherit`,
            align: "center",
            verticalAlign: "middle",
          },
        },
      ],
    };
  };
  const shares = counts.map((row, t) => (total(row) > 0 ? `${((100 * row[t]!) / total(row)).toFixed(1)} %` : ""));
  const { width = 560, height = 460 } = options;
  return render(
    {
      ...frame(options, [], "bar"),
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
    },
    { ...options, width, height },
  );
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

/** Title, legend and the room that they need above the plot. */
function frame({ title, width = 560 }: ChartOptions, names: readonly string[], kind: "line" | "bar") {
  const legendTop = title ? 26 : 0;
  let [rows, used] = [0, Number.POSITIVE_INFINITY];
  if (names.length > 1) {
    for (const name of names) {
      const wide = 45 + 7 * name.length;
      if (used + wide > width) [rows, used] = [rows + 1, 0];
      used += wide;
    }
  }
  return {
    animation: false,
    textStyle: { fontFamily: "inherit" },
    ...(title && {
      title: { text: title, left: 0, top: 0, padding: 0, textStyle: { color: "currentColor", fontSize: 14 } },
    }),
    ...(rows > 0 && {
      legend: {
        data: names.map((name) => ({ name })),
        left: 0,
        top: legendTop,
        padding: 0,
        itemGap: 16,
        itemWidth: 22,
        itemHeight: 9,
        itemStyle: { opacity: kind === "line" ? 0 : 1 }, // Marks would hide whether a line is dashed.
        textStyle: { color: colour("text") },
        silent: true,
      },
    }),
    grid: { left: 8, right: 14, top: legendTop + 22 * rows + 10, bottom: 6, outerBoundsMode: "same" },
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

function render(option: ECharts.EChartsCoreOption, { title, width = 560, height = 340 }: ChartOptions): string {
  const { init, format } = echarts();
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption(option);
    // Its own style sheet and classes only serve hovering; ours bring the colours.
    const svg = chart
      .renderToSVGString()
      .replace(/<style >.*?<\/style>/s, "")
      .replace(/ (class="zr[^"]*"|ecmeta_\w+="[^"]*")/g, "");
    const label = title ? ` aria-label="${format.encodeHTML(title)}"` : "";
    return svg.replace("<svg ", `<svg class="kilograd-chart" role="img"${label} `).replace(">", `>${styleSheet}`);
  } finally {
    chart.dispose(); // Otherwise a timer keeps the process alive.
  }
}
