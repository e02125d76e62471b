// Pictures: pixels are read back from the PNG and compared.
import fc from "fast-check";
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { encodeGrayPng, encodeRgbPng } from "../../src/io/png.js";
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
