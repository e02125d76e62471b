// Pictures: pixels are read back from the PNG and compared.
import fc from "fast-check";
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { Canvas, textWidth } from "../../src/io/canvas.js";
import { glyphOf, glyphRows } from "../../src/io/font.js";
import { encodeGrayPng, encodeRgbPng, type GridCell, pictureGrid } from "../../src/io/png.js";
import { UsageError } from "../../src/tensor/errors.js";

/** [height][width] of "r,g,b". */
function pixelsOf(png: Uint8Array): string[][] {
  const { width, height, data } = PNG.sync.read(Buffer.from(png));
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => data.subarray((y * width + x) * 4, (y * width + x) * 4 + 3).join()),
  );
}

describe("single images", () => {
  test("grey: the colour type is grey, values are rounded and clipped", () => {
    const png = encodeGrayPng([0, 0.5, 1, -3, 7, 0.2], { width: 3, height: 2 });
    expect(png[25]).toBe(0);
    expect(pixelsOf(png)).toEqual([
      ["0,0,0", "128,128,128", "255,255,255"],
      ["0,0,0", "255,255,255", "51,51,51"],
    ]);
  });

  test("RGB, enlarged by nearest neighbour", () => {
    const png = encodeRgbPng(new Float32Array([1, 0, 0, 0, 0, 1]), { width: 2, height: 1, scale: 2 });
    expect(png[25]).toBe(2);
    const row = ["255,0,0", "255,0,0", "0,0,255", "0,0,255"];
    expect(pixelsOf(png)).toEqual([row, row]);
  });

  test("any picture at any scale keeps every pixel", () => {
    const sizes = { width: fc.integer({ min: 1, max: 9 }), height: fc.integer({ min: 1, max: 9 }) };
    fc.assert(
      fc.property(fc.record({ ...sizes, scale: fc.integer({ min: 1, max: 4 }), seed: fc.nat() }), (drawn) => {
        const { seed, ...options } = drawn;
        const { width, height, scale } = options;
        const pixels = Float64Array.from({ length: width * height }, (_, i) => (((i + 1) * (seed + 7)) % 256) / 255);
        const rows = pixelsOf(encodeGrayPng(pixels, options));
        expect([rows.length, rows[0]!.length]).toEqual([height * scale, width * scale]);
        for (let y = 0; y < height * scale; y++) {
          for (let x = 0; x < width * scale; x++) {
            const value = Math.round(pixels[Math.floor(y / scale) * width + Math.floor(x / scale)]! * 255);
            expect(rows[y]![x]).toBe(`${value},${value},${value}`);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  test.each([
    [() => encodeGrayPng([1, 2], { width: 3, height: 1 }), /3 x 1 x 1 needs 3 values, given 2/],
    [() => encodeRgbPng([1, 2], { width: 1, height: 1 }), /1 x 1 x 3 needs 3 values, given 2/],
    [() => encodeGrayPng([1, Number.NaN], { width: 2, height: 1 }), /must be finite, value 1 is NaN/],
    [() => encodeGrayPng([], { width: 0, height: 1 }), /width must be a whole number from 1 to 32768, got 0/],
    [
      () => encodeGrayPng([1], { width: 1, height: 1, scale: 1.5 }),
      /scale must be a whole number from 1 to 1024, got 1.5/,
    ],
  ])("refuses what does not fit %#", (encode, message) => {
    expect(encode).toThrow(UsageError);
    expect(encode).toThrow(message);
  });
});

describe("font", () => {
  const characters = [...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)), ..."°±·×–…→−"];

  test("every character has a glyph of its own that fits its line", () => {
    const drawings = new Map<string, string>();
    for (const character of characters) {
      const { rows, width } = glyphOf(character);
      expect(rows.length).toBe(glyphRows);
      const drawing = rows.map((row) => row.map((inked) => (inked ? "#" : " ")).join("")).join("\n");
      expect(drawing.includes("#"), `"${character}" is drawn`).toBe(character !== " ");
      expect(width).toBeLessThanOrEqual(7);
      const same = drawings.get(drawing);
      // These look alike in many fonts.
      if (same) expect(["0O", "–−"]).toContain(same + character);
      drawings.set(drawing, character);
    }
  });

  test("digits are equally wide, and what is missing is a question mark", () => {
    expect(new Set([..."0123456789"].map((digit) => glyphOf(digit).width)).size).toBe(1);
    expect(glyphOf("文")).toBe(glyphOf("?"));
  });

  test.each([false, true])("text stays within its width, bold: %s", (bold) => {
    const text = characters.join("");
    const width = textWidth(text, bold);
    const canvas = new Canvas(width + 2, glyphRows, [255, 255, 255]);
    canvas.text(text, 1, 0, [0, 0, 0], bold);
    const inkOf = (x: number) =>
      Array.from({ length: glyphRows }, (_, y) => canvas.data[(y * canvas.width + x) * 3]!).filter((v) => v === 0)
        .length;
    expect([inkOf(0), inkOf(width + 1)]).toEqual([0, 0]);
    expect(inkOf(width)).toBeGreaterThan(0);
  });
});

describe("grids", () => {
  const cell = (value: number, more: Partial<GridCell> = {}): GridCell => ({
    pixels: new Float32Array(16).fill(value),
    width: 4,
    height: 4,
    ...more,
  });
  const [white, red, green] = ["255,255,255", "214,48,49", "22,138,85"];
  const count = (rows: string[][], colour: string) => rows.flat().filter((pixel) => pixel === colour).length;

  test("shows every picture at its scale, with its border", () => {
    const rows = pixelsOf(
      pictureGrid(
        [
          [cell(0.2), cell(0.4, { highlight: "good" })],
          [null, cell(0.6, { highlight: "bad" })],
        ],
        { scale: 5 },
      ),
    );
    expect(count(rows, "51,51,51")).toBe(400);
    expect(count(rows, "102,102,102")).toBe(400);
    expect(count(rows, "153,153,153")).toBe(400);
    for (const colour of [green, red]) expect(count(rows, colour)).toBe(26 * 26 - 400);
    // Two columns and rows of 26 pixels, a gap of 12 between, a margin of 10 around; the lower left place is empty.
    expect([rows.length, rows[0]!.length]).toEqual([84, 84]);
    expect(rows.slice(48).every((row) => row.slice(0, 48).every((pixel) => pixel === white))).toBe(true);
  });

  test("colour pictures keep their colours", () => {
    const pixels = [1, 0, 0, 0, 1, 0];
    const rows = pixelsOf(pictureGrid([[{ pixels, width: 2, height: 1, channels: 3 }]], { scale: 1 }));
    expect([count(rows, "255,0,0"), count(rows, "0,255,0")]).toEqual([1, 1]);
  });

  test("makes room for long captions and labels, and leaves the margin free", () => {
    const caption = ["a caption much wider than its picture", "second line"];
    const png = pictureGrid([[cell(0, { caption })], [cell(0)]], {
      rowLabels: ["label of the first row", "second"],
      columnLabels: ["label of the column"],
    });
    const rows = pixelsOf(png);
    expect(rows[0]!.length).toBeGreaterThan(textWidth(caption[0]!, true) + textWidth("label of the first row", true));
    const edge = [
      ...rows.slice(0, 10).flat(),
      ...rows.slice(-10).flat(),
      ...rows.flatMap((row) => [...row.slice(0, 10), ...row.slice(-10)]),
    ];
    expect(edge.every((pixel) => pixel === white)).toBe(true);
    expect(rows.length).toBeGreaterThan(pixelsOf(pictureGrid([[cell(0)], [cell(0)]])).length);
  });

  test("refuses pixels that do not fit", () => {
    expect(() => pictureGrid([[cell(0, { width: 5 })]])).toThrow(/5 x 4 x 1 needs 20 values, given 16/);
    expect(() => pictureGrid([[cell(0)]], { scale: 0 })).toThrow(UsageError);
  });
});
