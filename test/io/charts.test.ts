// Charts: the SVG is read for its texts and the geometry of what was drawn.
import { describe, expect, test, vi } from "vitest";
import { barChart, confusionMatrix, lineChart } from "../../src/io/charts.js";
import { UsageError } from "../../src/tensor/errors.js";
import { nestingFaults, textsOf } from "./markup.js";

/** Of a chart's two drawings the one for wide or for narrow windows. */
const wideOf = (chart: string) => chart.slice(chart.indexOf('<svg class="wide"'), chart.indexOf('<svg class="narrow"'));
const narrowOf = (chart: string) => chart.slice(chart.indexOf('<svg class="narrow"'));

/** The corner points of every path with this stroke or fill, in order. */
function pathsOf(chart: string, attribute: "stroke" | "fill", colour: string): [number, number][][] {
  const svg = wideOf(chart);
  return [...svg.matchAll(/<path d="([^"]*)"([^>]*)>/g)]
    .filter(([, , rest]) => rest!.includes(`${attribute}="var(--${colour})"`) && !rest!.includes("transform"))
    .map(([, d]) => [...d!.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]));
}

const loss = { name: "train", y: [3, 2, 1] };
const charts = {
  line: () => lineChart({ title: "Loss & more", series: [loss, { ...loss, name: "<script>", y: [1, Number.NaN, 2] }] }),
  bar: () => barChart({ title: "Loss & more", categories: ["a", "<script>"], series: [{ name: "n", values: [1, 2] }] }),
  matrix: () =>
    confusionMatrix({
      title: "Loss & more",
      labels: ["a", "<script>"],
      counts: [
        [5, 1],
        [0, 7],
      ],
    }),
};

describe.each(Object.entries(charts))("every chart: %s", (_kind, draw) => {
  const svg = draw();

  test("is well-formed, escaped, transparent, without hovering, and follows the reader's scheme", () => {
    expect(svg).toMatch(/^<svg class="kilograd-chart" role="img" aria-label="Loss &amp; more" /);
    expect(nestingFaults(svg)).toEqual([]);
    expect(textsOf(svg, "text")).toContain("Loss &amp; more");
    expect(textsOf(svg, "text")).toContain("&lt;script&gt;");
    expect(svg).not.toContain("<script");
    expect(svg).toContain("prefers-color-scheme:dark");
    expect(svg).not.toMatch(/NaN|undefined|:hover|ecmeta/);
    // Every colour that is seen comes from the palette or the page.
    const painted = svg
      .replace(/<clipPath.*?<\/clipPath>/gs, "")
      .replace(/(d="M[^MLAZ]*L[^MLAZ]*") fill="#000"/g, "$1") // A straight line has no inside.
      .matchAll(/<[^>]*>/g);
    const colours = [...painted]
      .filter(([tag]) => !tag.includes('fill-opacity="0"'))
      .flatMap(([tag]) => [...tag.matchAll(/ (?:fill|stroke)="([^"]*)"/g)].map(([, colour]) => colour!));
    expect(colours.length).toBeGreaterThan(5);
    expect(colours.filter((colour) => !/^(none|currentColor|var\(--[\w-]+\))$/.test(colour))).toEqual([]);
  });

  test("leaves nothing running", () => {
    vi.useFakeTimers();
    try {
      draw();
      vi.advanceTimersByTime(1000);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("line charts", () => {
  test("points lie where their values say", () => {
    const [line] = pathsOf(lineChart({ series: [loss] }), "stroke", "series-0");
    const [[x0, y0], [x1, y1], [x2, y2]] = line as [[number, number], [number, number], [number, number]];
    expect(x1 - x0).toBeCloseTo(x2 - x1, 0);
    expect(x1).toBeGreaterThan(x0);
    expect(y1 - y0).toBeCloseTo(y2 - y1, 0);
    expect(y1).toBeGreaterThan(y0);
  });

  test("a logarithmic axis makes a geometric series a straight line, and leaves a gap at 0", () => {
    const svg = lineChart({ y: { scale: "log" }, series: [{ name: "a", y: [1, 0.1, 0.01, 0, 0.001, 0.0001] }] });
    const lines = pathsOf(svg, "stroke", "series-0").flat();
    expect(lines.length).toBe(5);
    const steps = lines.slice(1).map(([x, y], i) => (y - lines[i]![1]) / (x - lines[i]![0]));
    expect(steps[1]).toBeCloseTo(steps[0]!, 1);
    expect(steps[3]).toBeCloseTo(steps[0]!, 1);
    expect(textsOf(svg, "text")).toContain("1e-4");
  });

  test("legend, axis labels, percent and reference lines are written, and the axis reaches the reference", () => {
    const svg = lineChart({
      x: { label: "epoch" },
      y: { label: "accuracy", percent: true },
      series: [
        { name: "train", y: [0.91, 0.93] },
        { name: "validation", y: [0.9, 0.92], dashed: true, colour: 0 },
      ],
      referenceLines: [
        { value: 0.98, label: "reference {a}" },
        { value: 2, label: "lr / 10", axis: "x" },
      ],
    });
    for (const text of ["train", "validation", "epoch", "accuracy", "98 %", "reference a", "lr / 10"]) {
      expect(textsOf(svg, "text")).toContain(text);
    }
    expect(pathsOf(svg, "stroke", "series-1")).toEqual([]);
    expect(svg).toMatch(/stroke="var\(--series-0\)"[^>]*stroke-dasharray/);
  });

  test("up to ten lines have their names at their ends where there is room, others a legend", () => {
    const lines = (names: readonly string[]) =>
      lineChart({ series: names.map((name, i) => ({ name, y: [1, 2, 3 + i / 10] })) });
    /** Whether a text has the colour of its line; those of a legend have that of text. */
    const direct = (svg: string, name: string) =>
      /fill="var\(--series-/.test(svg.split(`>${name}</text>`)[0]!.split("<text").at(-1)!);
    const ten = lines([..."abcdefghij"]);
    for (const name of "abcdefghij")
      expect([direct(wideOf(ten), name), direct(narrowOf(ten), name)]).toEqual([true, true]);
    expect(direct(wideOf(lines([..."abcdefghijk"])), "a")).toBe(false);
    const long = lines(["validation images", "b"]);
    expect([direct(wideOf(long), "validation images"), direct(narrowOf(long), "validation images")]).toEqual([
      true,
      false,
    ]);
    expect(textsOf(wideOf(lines(["alone"])), "text")).not.toContain("alone");
  });

  test("names at ends do not lie on each other, and stay inside", () => {
    const svg = wideOf(lineChart({ series: [..."abcdefghij"].map((name) => ({ name, y: [5, 1] })) }));
    const places = [..."abcdefghij"].map((name) => {
      const text = svg.split(`>${name}</text>`)[0]!.split("<text").at(-1)!;
      return Number(/translate\([\d.]+ ([\d.]+)\)/.exec(text)![1]);
    });
    const sorted = places.toSorted((a, b) => a - b);
    for (const [i, y] of sorted.slice(1).entries()) expect(y - sorted[i]!).toBeGreaterThan(9);
    expect(sorted[0]! > 5 && sorted.at(-1)! <= 340 - 44).toBe(true);
  });

  test("the sixth line and those after it are dashed, but not where its colour is given", () => {
    const names = [..."abcdef"];
    const dashed = (svg: string) => svg.match(/stroke="var\(--series-5\)"[^>]*stroke-dasharray/g)?.length ?? 0;
    expect(dashed(wideOf(lineChart({ series: names.map((name) => ({ name, y: [1, 2] })) })))).toBe(1);
    expect(dashed(wideOf(lineChart({ series: [{ name: "a", y: [1, 2], colour: 5 }] })))).toBe(0);
  });

  test("places counted from 1 begin and end the axis, but given ends and places go first", () => {
    const y = Array.from({ length: 16 }, (_, i) => 100 + i);
    const texts = (options: Omit<Parameters<typeof lineChart>[0], "series">) =>
      textsOf(lineChart({ series: [{ name: "loss", y }], ...options }), "text");
    expect(texts({})).toEqual(expect.arrayContaining(["1", "16"]));
    expect(texts({})).not.toContain("0");
    expect(texts({})).not.toContain("18");
    expect(texts({ x: { min: 0 } })).toContain("0");
    expect(texts({ x: { max: 20 } })).toContain("20");
  });

  test("a reference line lies exactly at its value", () => {
    const svg = lineChart({
      series: [{ name: "a", y: [0.9879, 0.97] }],
      referenceLines: [{ value: 0.9879, label: "r" }],
    });
    const [curve] = pathsOf(svg, "stroke", "series-0");
    const line = pathsOf(svg, "stroke", "axis").at(-1)!;
    expect(Math.abs(line[0]![1] - curve![0]![1])).toBeLessThan(1);
  });

  test("error bars reach from value - error to value + error", () => {
    const svg = lineChart({
      x: { min: 0, max: 3 },
      y: { min: 0, max: 10 },
      series: [{ name: "a", y: [5, 5], errors: [5, 2.5] }],
    });
    const paths = pathsOf(svg, "stroke", "series-0");
    const [bars, curve] = [paths.slice(0, 6), paths[6]!];
    const heights = bars.map(([from, to]) => Math.abs(from![1] - to![1]));
    expect(heights[0]! / heights[3]!).toBeCloseTo(2, 1);
    const [from, to] = bars[0]!;
    expect((from![1] + to![1]) / 2).toBeCloseTo(curve[0]![1], 0);
  });

  test("refuses lists of different lengths", () => {
    expect(() => lineChart({ series: [{ ...loss, x: [1, 2] }] })).toThrow(UsageError);
    expect(() => lineChart({ series: [{ ...loss, x: [1, 2] }] })).toThrow(/x of "train" must have 3 entries, given 2/);
    expect(() => lineChart({ series: [{ ...loss, errors: [] }] })).toThrow(/errors of "train"/);
  });
});

describe("bar charts", () => {
  test("bars start at 0 and are as high as their values", () => {
    const svg = barChart({
      categories: ["a", "b"],
      series: [{ name: "n", values: [20, 5], errors: [1, 1] }],
      showValues: true,
    });
    const bars = pathsOf(svg, "fill", "series-0");
    const heights = bars.map((points) => {
      const ys = points.map(([, y]) => y);
      return Math.max(...ys) - Math.min(...ys);
    });
    // The rounded corners are not among the points.
    expect((heights[0]! + 2) / (heights[1]! + 2)).toBeCloseTo(4, 0);
    expect(textsOf(svg, "text")).toEqual(expect.arrayContaining(["a", "b", "20", "5"]));
    expect(pathsOf(svg, "stroke", "text").length).toBe(6);
  });

  test("refuses a series with too few values", () => {
    expect(() => barChart({ categories: ["a", "b"], series: [{ name: "n", values: [1] }] })).toThrow(
      /values of "n" must have 2 entries, given 1/,
    );
  });
});

describe("confusion matrices", () => {
  test("counts stand in their cells, classes and recall beside", () => {
    const svg = confusionMatrix({
      labels: ["cat", "dog", "fox"],
      counts: [
        [90, 10, 0],
        [3, 97, 0],
        [0, 0, 0],
      ],
    });
    const texts = textsOf(svg, "text");
    expect(texts).toEqual(
      expect.arrayContaining(["90", "10", "3", "97", "90.0 %", "97.0 %", "cat", "dog", "fox", "recall"]),
    );
    expect(texts).not.toContain("0");
    const at = (text: string) =>
      /translate\(([\d.]+) ([\d.]+)\)/.exec(svg.split(`>${text}</text>`)[0]!.split("<text").at(-1)!);
    const place = (text: string) => [Number(at(text)![1]), Number(at(text)![2])] as const;
    expect(place("10")[0]).toBeGreaterThan(place("90")[0]);
    expect(place("10")[1]).toBe(place("90")[1]);
    expect(place("3")[1]).toBeGreaterThan(place("90")[1]);
  });

  test("refuses a table that is not square", () => {
    expect(() => confusionMatrix({ labels: ["a", "b"], counts: [[1, 2]] })).toThrow(/must have 2 entries, given 1/);
    expect(() => confusionMatrix({ labels: ["a", "b"], counts: [[1, 2], [3]] })).toThrow(
      /must have 2 entries, given 1/,
    );
  });
});

describe("for wide and narrow windows", () => {
  const svg = lineChart({ title: "A title that takes more than one line of a phone", width: 900, series: [loss] });

  test("holds both drawings, of which one is shown", () => {
    expect(svg.match(/<svg class="(wide|narrow)"/g)?.length).toBe(2);
    expect(svg).toContain("--wide-width:900px;--wide-ratio:900/340;--narrow-width:330px;--narrow-ratio:330/300");
    expect(svg).toMatch(/@media screen and \(max-width:520px\)\{[^@]*\.narrow\{display:inline\}/);
  });

  test("text has the same size in both, and long titles are broken", () => {
    for (const drawing of [wideOf(svg), narrowOf(svg)]) expect(drawing).toMatch(/font-size: ?12px/);
    expect(textsOf(wideOf(svg), "text")).toContain("A title that takes more than one line of a phone");
    expect(textsOf(narrowOf(svg), "text")).toEqual(
      expect.arrayContaining(["A title that takes more than one line of", "a phone"]),
    );
  });

  test("a small chart does not grow", () => {
    expect(lineChart({ width: 200, height: 100, series: [loss] })).toContain(
      "--narrow-width:200px;--narrow-ratio:200/100",
    );
  });
});

/** How colours are seen with all three kinds of cones, and without one: Machado and others, 2009, in linear RGB. */
const eyes = {
  all: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

describe.each(["light", "dark"] as const)("colours on %s pages", (scheme) => {
  const svg = lineChart({ series: [loss] });
  const variables = [...svg.matchAll(/--series-(\d):(#[0-9a-f]{6})/g)].map(([, , colour]) => colour!);
  const colours = scheme === "light" ? variables.slice(0, 10) : variables.slice(10, 20);
  const linear = (colour: string) =>
    [1, 3, 5].map((at) => {
      const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
  const luminance = ([r, g, b]: readonly number[]) => 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
  /** CIELAB, of linear RGB. */
  const lab = ([r, g, b]: readonly number[]) => {
    const xyz = [
      (0.4124 * r! + 0.3576 * g! + 0.1805 * b!) / 0.9505,
      luminance([r!, g!, b!]),
      (0.0193 * r! + 0.1192 * g! + 0.9505 * b!) / 1.089,
    ].map((value) => (value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116));
    return [116 * xyz[1]! - 16, 500 * (xyz[0]! - xyz[1]!), 200 * (xyz[1]! - xyz[2]!)];
  };

  test.each(Object.entries(eyes))("lines of one kind of stroke differ: %s", (_name, matrix) => {
    expect(colours.length).toBe(10);
    const seen = colours.map((colour) => {
      const given = linear(colour);
      return lab(
        [0, 3, 6].map((row) =>
          Math.min(
            1,
            Math.max(
              0,
              given.reduce((sum, v, i) => sum + v * matrix[row + i]!, 0),
            ),
          ),
        ),
      );
    });
    for (const group of [seen.slice(0, 5), seen.slice(5)]) {
      for (const [i, a] of group.entries()) {
        for (const b of group.slice(0, i)) expect(Math.hypot(...a.map((v, k) => v - b[k]!))).toBeGreaterThan(15);
      }
    }
  });

  test("stand out from the page", () => {
    const page = luminance(linear(scheme === "light" ? "#ffffff" : "#171b21"));
    for (const colour of colours) {
      const [high, low] = [page, luminance(linear(colour))].sort((a, b) => b - a);
      expect((high! + 0.05) / (low! + 0.05), colour).toBeGreaterThan(3);
    }
  });
});
