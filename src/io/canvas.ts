// A small RGB raster to compose pictures on: filled rectangles, images enlarged by nearest neighbour, text in the font
// of font.ts. Not a general drawing library: no lines, no curves, no transparency.
import { glyphOf, glyphRows } from "./font.js";

/** Red, green, blue, each 0 to 255. */
export type Colour = readonly [number, number, number];

/** Pixels between two glyphs. */
const letterSpacing = 1;

/** The width of `text` in pixels. Bold is one pixel wider per glyph. */
export function textWidth(text: string, bold = false): number {
  let width = 0;
  for (const character of text) width += glyphOf(character).width + letterSpacing + (bold ? 1 : 0);
  return Math.max(0, width - letterSpacing);
}

/** A picture of `width` x `height` pixels; `data` is [height, width, 3]. Everything drawn must lie inside. */
export class Canvas {
  readonly data: Uint8Array;

  constructor(
    readonly width: number,
    readonly height: number,
    background: Colour,
  ) {
    this.data = new Uint8Array(width * height * 3);
    this.fill(0, 0, width, height, background);
  }

  /** Fills a rectangle. */
  fill(left: number, top: number, width: number, height: number, colour: Colour): void {
    for (let y = top; y < top + height; y++) {
      for (let x = left; x < left + width; x++) this.data.set(colour, (y * this.width + x) * 3);
    }
  }

  /** Draws one line of text whose glyphs reach from `top` to `top + glyphRows`. */
  text(text: string, left: number, top: number, colour: Colour, bold = false): void {
    let x = left;
    for (const character of text) {
      const { width, rows } = glyphOf(character);
      for (const [y, row] of rows.entries()) {
        for (const [column, inked] of row.entries()) {
          if (inked) this.fill(x + column, top + y, bold ? 2 : 1, 1, colour);
        }
      }
      x += width + letterSpacing + (bold ? 1 : 0);
    }
  }

  /**
   * Draws an image of bytes [height, width, channels], each pixel as a square of `scale` pixels. One channel is grey,
   * three are RGB.
   */
  image(bytes: Uint8Array, size: ImageSize, left: number, top: number, scale: number): void {
    const { width, height, channels } = size;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = (y * width + x) * channels;
        const red = bytes[at]!;
        const colour: Colour = channels === 1 ? [red, red, red] : [red, bytes[at + 1]!, bytes[at + 2]!];
        this.fill(left + x * scale, top + y * scale, scale, scale, colour);
      }
    }
  }
}

/** An image's pixels and whether they are grey or RGB. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
}

/** Pixels from the top of one line of text to that of the next. */
export const lineHeight = glyphRows + 3;
