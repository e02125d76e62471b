// Charts: the SVG is read for its texts and the geometry of what was drawn.
import { describe, expect, test, vi } from "vitest";
import { barChart, confusionMatrix, lineChart } from "../../src/io/charts.js";
import { UsageError } from "../../src/tensor/errors.js";
import { nestingFaults, textsOf } from "./markup.js";

/** The corner points of every path with this stroke or fill, in order. */
function pathsOf(svg: string, attribute: "stroke" | "fill", colour: string): [number, number][][] {
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
