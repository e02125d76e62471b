// Pictures as PNG: single images, and grids of images with labels and captions. Pixels come as numbers in [0, 1], rows
// from the top.
import { PNG } from "pngjs";
import { UsageError } from "../tensor/errors.js";
import { array, check, checkOptions, integer, listOf, numbers, oneOf, type Rules, string } from "../tensor/options.js";
import { Canvas, type Colour, type ImageSize, lineHeight, textWidth } from "./canvas.js";
import { glyphRows } from "./font.js";

/** Options of {@link encodeGrayPng} and {@link encodeRgbPng}. */
export interface PngOptions {
  /** Of the image, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Each pixel becomes a square of so many pixels; 1 by default. */
  readonly scale?: number;
}

const side = integer({ from: 1, to: 2 ** 15 });
const pngRules: Rules<PngOptions> = { width: side, height: side, scale: integer({ from: 1, to: 1024 }) };

/** Most bytes of a picture before it is compressed. */
const MOST_BYTES = 2 ** 28;

/**
 * A grey 8-bit PNG of `pixels` [height, width], 0 black and 1 white; values beyond [0, 1] are clipped.
 * @throws UsageError where the number of pixels differs from width x height, or one is not finite
 */
export function encodeGrayPng(pixels: ArrayLike<number>, options: PngOptions): Uint8Array {
  return encodePng("encodeGrayPng", pixels, options, 1);
}

/**
 * A 24-bit PNG of `pixels` [height, width, 3] in red, green, blue; values beyond [0, 1] are clipped.
 * @throws UsageError where the number of values differs from width x height x 3, or one is not finite
 */
export function encodeRgbPng(pixels: ArrayLike<number>, options: PngOptions): Uint8Array {
  return encodePng("encodeRgbPng", pixels, options, 3);
}

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
  /** A coloured border: green for right, red for wrong. */
  readonly highlight?: "good" | "bad";
}

const cellRules: Rules<GridCell> = {
  pixels: numbers,
  width: side,
  height: side,
  channels: oneOf(1, 3),
  caption: listOf(string, { to: 100 }),
  highlight: oneOf("good", "bad"),
};

/** Options of {@link pictureGrid}. */
export interface GridOptions {
  /** Each pixel of a picture becomes a square of so many pixels; 3 by default. */
  readonly scale?: number;
  /** Texts left of the rows. */
  readonly rowLabels?: readonly string[];
  /** Texts above the columns. */
  readonly columnLabels?: readonly string[];
}

const gridRules: Rules<GridOptions> = {
  scale: pngRules.scale,
  rowLabels: listOf(string),
  columnLabels: listOf(string),
};

const background: Colour = [255, 255, 255];
const ink: Colour = [31, 35, 40];
const paleInk: Colour = [80, 88, 97];
const frame: Colour = [208, 213, 219];
const highlights = { good: [22, 138, 85], bad: [214, 48, 49] } as const satisfies Record<string, Colour>;

const margin = 10;
const gap = 12;
const border = 3;
const captionGap = 4;

/**
 * A PNG with pictures in rows and columns on a white ground, labels beside and above, captions below each.
 * @param cells by row; `null` leaves a place empty. Columns are as wide as their widest picture or text.
 * @throws UsageError for pictures whose pixels do not fit their size
 */
export function pictureGrid(given: readonly (readonly (GridCell | null)[])[], options: GridOptions = {}): Uint8Array {
  check("pictureGrid", "cells", given, listOf(array));
  const cells = given.map((row) =>
    Array.from(row, (cell) =>
      cell === null ? null : checkOptions("pictureGrid", cell, cellRules, ["pixels", "width", "height"]),
    ),
  );
  const { scale = 3, rowLabels = [], columnLabels = [] } = checkOptions("pictureGrid", options, gridRules);
  const columns = Math.max(columnLabels.length, ...cells.map((row) => row.length));
  const labelWidth = Math.max(0, ...rowLabels.map((label) => textWidth(label, true) + gap));
  const labelHeight = columnLabels.length > 0 ? lineHeight + captionGap : 0;

  const columnWidths = Array.from({ length: columns }, (_, column) => {
    const inColumn = cells.flatMap((row) => row[column] ?? []);
    const widths = inColumn.flatMap(({ width, caption = [] }) => [
      width * scale + 2 * border,
      ...caption.map((line, index) => textWidth(line, index === 0)),
    ]);
    return Math.max(textWidth(columnLabels[column] ?? "", true), ...widths);
  });
  const present = cells.map((row) => row.filter((cell) => cell !== null));
  const pictureHeights = present.map((row) => Math.max(0, ...row.map(({ height }) => height * scale + 2 * border)));
  const rowHeights = present.map((row, r) => {
    const lines = Math.max(0, ...row.map(({ caption = [] }) => caption.length));
    return pictureHeights[r]! + (lines > 0 ? captionGap + lines * lineHeight : 0);
  });

  const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size + gap, -gap);
  const width = Math.max(1, 2 * margin + labelWidth + sum(columnWidths));
  const height = Math.max(1, 2 * margin + labelHeight + sum(rowHeights));
  checkBytes("pictureGrid", { width, height, channels: 3 });
  const canvas = new Canvas(width, height, background);

  let left = margin + labelWidth;
  for (const [column, columnWidth] of columnWidths.entries()) {
    const centred = (width: number) => left + Math.floor((columnWidth - width) / 2);
    const label = columnLabels[column] ?? "";
    canvas.text(label, centred(textWidth(label, true)), margin, ink, true);
    let top = margin + labelHeight;
    for (const [r, row] of cells.entries()) {
      const cell = row[column];
      if (cell) {
        const size = { width: cell.width, height: cell.height, channels: cell.channels ?? 1 };
        const [width, height] = [size.width * scale + 2 * border, size.height * scale + 2 * border];
        const x = centred(width);
        const inset = cell.highlight ? 0 : border - 1; // Without a highlight, a frame of one pixel.
        const colour = cell.highlight ? highlights[cell.highlight] : frame;
        canvas.fill(x + inset, top + inset, width - 2 * inset, height - 2 * inset, colour);
        canvas.image(toBytes(cell.pixels, size), size, x + border, top + border, scale);
        for (const [index, line] of (cell.caption ?? []).entries()) {
          const y = top + height + captionGap + index * lineHeight;
          const first = index === 0;
          canvas.text(line, centred(textWidth(line, first)), y, first ? ink : paleInk, first);
        }
      }
      top += rowHeights[r]! + gap;
    }
    left += columnWidth + gap;
  }
  let top = margin + labelHeight;
  for (const [r, height] of pictureHeights.entries()) {
    const label = rowLabels[r] ?? "";
    const x = margin + labelWidth - gap - textWidth(label, true);
    canvas.text(label, x, top + Math.floor((height - glyphRows) / 2), ink, true);
    top += rowHeights[r]! + gap;
  }
  return compress(canvas.data, { width: canvas.width, height: canvas.height, channels: 3 });
}

function encodePng(op: string, pixels: ArrayLike<number>, options: PngOptions, channels: 1 | 3): Uint8Array {
  check(op, "pixels", pixels, numbers);
  const { scale = 1, ...sides } = checkOptions(op, options, pngRules, ["width", "height"]);
  const size = { ...sides, channels };
  const { width, height } = size;
  checkBytes(op, { width: width * scale, height: height * scale, channels });
  const bytes = toBytes(pixels, size);
  const row = width * scale * channels;
  const enlarged = new Uint8Array(row * height * scale);
  for (let at = 0; at < enlarged.length; at++) {
    const [y, x] = [Math.floor(at / row / scale), Math.floor((at % row) / channels / scale)];
    enlarged[at] = bytes[(y * width + x) * channels + (at % channels)]!;
  }
  return compress(enlarged, { width: width * scale, height: height * scale, channels });
}

function compress(bytes: Uint8Array, { width, height, channels }: ImageSize): Uint8Array {
  const png = new PNG({ width, height });
  png.data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const colorType = channels === 1 ? 0 : 2;
  return PNG.sync.write(png, { colorType, inputColorType: colorType, inputHasAlpha: false });
}

function toBytes(pixels: ArrayLike<number>, { width, height, channels }: ImageSize): Uint8Array {
  if (pixels.length !== width * height * channels) {
    throw new UsageError(
      `png: ${width} x ${height} x ${channels} needs ${width * height * channels} values, given ${pixels.length}`,
    );
  }
  return Uint8Array.from(pixels, (value, index) => {
    if (!Number.isFinite(value)) throw new UsageError(`png: pixels must be finite, value ${index} is ${value}`);
    return Math.round(Math.min(1, Math.max(0, value)) * 255);
  });
}

function checkBytes(op: string, { width, height, channels }: ImageSize): void {
  const bytes = width * height * channels;
  if (bytes <= MOST_BYTES) return;
  throw new UsageError(`${op}: a picture may have at most ${MOST_BYTES} bytes, ${width} x ${height} has ${bytes}`);
}
