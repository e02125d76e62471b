// Grids of pictures: pixels are read back from the PNGs inside, texts and places from the SVG or the HTML.
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { type GridCell, gridMarkup, pictureGrid } from "../../src/io/grid.js";
import { UsageError } from "../../src/tensor/errors.js";
import { nestingFaults, textsOf } from "./markup.js";

const cell = (value: number, more: Partial<GridCell> = {}): GridCell => ({
  pixels: new Float32Array(16).fill(value),
  width: 4,
  height: 4,
  ...more,
});
const evil = `<script>"&'`;
const escaped = "&lt;script&gt;&quot;&amp;&#39;";

/** Red of every pixel of each picture inside. */
const picturesIn = (text: string) =>
  [...text.matchAll(/(?:href|src)="data:image\/png;base64,([^"]*)"/g)].map(([, base64]) => {
    const { data, width, height } = PNG.sync.read(Buffer.from(base64!, "base64"));
    return { width, height, red: Array.from({ length: width * height }, (_, i) => data[4 * i]!) };
  });

const cells = [
  [cell(0.2), cell(0.4, { highlight: "good" as const, caption: [evil, "second"], figures: { loss: 0.25, is: evil } })],
  [null, cell(0.6, { highlight: "bad" as const, figures: { loss: 1234567 } })],
];
const labels = { rowLabels: ["first", evil], columnLabels: ["left", "right"], scale: 5 };

describe.each([
  ["SVG", () => pictureGrid(cells, labels)],
  ["HTML", () => gridMarkup("grid", cells, labels).text],
])("a grid as %s", (kind, draw) => {
  const text = draw();

  test("holds every picture with its own pixels, at its scale", () => {
    expect(picturesIn(text)).toEqual(
      [51, 102, 153].map((value) => ({ width: 4, height: 4, red: new Array(16).fill(value) })),
    );
    expect(text.split(`width="20" height="20"`).length).toBe(4);
    expect(kind === "SVG" ? text : "image-rendering: pixelated").toContain("image-rendering: pixelated");
  });

  test("is well-formed and escaped; captions and labels are text", () => {
    expect(nestingFaults(text)).toEqual([]);
    expect(text).not.toContain("<script");
    const shown = ["text", "b", "span", "th"].flatMap((tag) => textsOf(text, tag)).filter(Boolean);
    expect(shown.sort()).toEqual(["first", escaped, "left", "right", escaped, "second"].sort());
  });

  test("tells the figures of a picture, and where it is", () => {
    expect(text).toContain(`first, right, ${escaped}, second\nloss: 0.25\nis: ${escaped}`);
    expect(text).toContain(`${escaped}, right\nloss: 1,234,567`);
  });

  test("marks what is right and what is wrong by more than colour", () => {
    for (const name of ["good", "bad"])
      expect(text.match(new RegExp(`class="(frame|cell) ${name}"`, "g"))?.length).toBe(1);
  });
});

test("colour pictures keep their colours", () => {
  const svg = pictureGrid([[{ pixels: [1, 0, 0, 0, 1, 0], width: 2, height: 1, channels: 3 }]]);
  expect(picturesIn(svg)).toEqual([{ width: 2, height: 1, red: [255, 0] }]);
});

describe("the places of an SVG", () => {
  const numbers = (svg: string, pattern: RegExp) =>
    [...svg.matchAll(pattern)].map((match) => match.slice(1).map((value) => Number(value)));
  const size = (svg: string) => numbers(svg, /^<svg [^>]*width="([\d.]+)" height="([\d.]+)"/g)[0]!;

  test("pictures do not overlap, stay inside, and leave the margin free", () => {
    const svg = pictureGrid(cells, labels);
    const [width, height] = size(svg);
    const boxes = numbers(svg, /<image [^>]*x="([\d.]+)" y="([\d.]+)" width="(\d+)" height="(\d+)"/g);
    expect(boxes.length).toBe(3);
    for (const [i, [x, y, w, h]] of boxes.entries()) {
      expect(x! >= 10 && y! >= 10 && x! + w! <= width! - 10 && y! + h! <= height! - 10).toBe(true);
      for (const [x2, y2] of boxes.slice(0, i)) expect(Math.abs(x! - x2!) >= w! || Math.abs(y! - y2!) >= h!).toBe(true);
    }
    // The empty place is below the first picture.
    expect([boxes[2]![0], boxes[2]![1]! > boxes[1]![1]!]).toEqual([boxes[1]![0], true]);
  });

  test("long captions and labels have room", () => {
    const caption = ["a caption much wider than its picture"];
    const wide = pictureGrid([[cell(0, { caption })], [cell(0)]], { rowLabels: ["label of the first row", "second"] });
    expect(size(wide)[0]!).toBeGreaterThan(6.5 * (caption[0]!.length + "label of the first row".length));
    expect(size(wide)[1]!).toBeGreaterThan(size(pictureGrid([[cell(0)], [cell(0)]]))[1]!);
  });
});

describe("in a report", () => {
  test("can be sorted by the figures that are numbers, of two pictures at least", () => {
    expect(gridMarkup("grid", cells, labels).text).toContain(`data-sorts="[&quot;loss&quot;]"`);
    expect(gridMarkup("grid", [[cell(0, { figures: { loss: 1 } })]], {}).text).toContain(`data-sorts="[]"`);
  });

  test("without labels flows, with labels is a table", () => {
    expect(gridMarkup("grid", cells, {}).text).not.toContain("<table");
    expect(gridMarkup("grid", cells, { columnLabels: ["a"] }).text).toContain(`<th class="short" scope="col">a</th>`);
  });

  test("every picture is a button with a description", () => {
    const { text } = gridMarkup("grid", [[cell(0, { caption: ["7", "98 %"] })]], { rowLabels: ["noise"] });
    expect(text).toMatch(/<button type="button" title="noise, 7, 98 %"><img [^>]*alt="noise, 7, 98 %"/);
  });
});

test.each([
  [() => pictureGrid([[cell(0, { width: 5 })]]), /5 x 4 x 1 needs 20 values, given 16/],
  [() => pictureGrid([[cell(0)]], { scale: 0 }), /scale must be a whole number from 1 to 1024, got 0/],
  [
    () => pictureGrid([[cell(0, { figures: { a: {} as number } })]]),
    /figures must be numbers or strings, "a" is a object/,
  ],
  [() => pictureGrid([[cell(Number.NaN)]]), /must be finite, value 0 is NaN/],
])("refuses what does not fit %#", (draw, message) => {
  expect(draw).toThrow(UsageError);
  expect(draw).toThrow(message);
});

test("an empty grid is an empty picture", () => {
  expect(nestingFaults(pictureGrid([]))).toEqual([]);
  expect(gridMarkup("grid", [], {}).text).not.toContain('cell"');
});
