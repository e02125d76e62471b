// Squares and rectangles cut out of grey frames, brought to a size. A new pixel is the mean over the area that it
// covers; where a cut-out is enlarged, it is interpolated bilinearly.

import { UsageError } from "../../../tensor/errors.js";

/** A part of a frame in pixels, from the top left. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A grey picture of bytes or of numbers. */
export interface GreyPicture {
  readonly width: number;
  readonly height: number;
  /** [height, width] */
  readonly pixels: ArrayLike<number>;
}

/** "x,y,w,h" in whole pixels. @throws UsageError */
export function parseBox(text: string): Box {
  const parts = text.split(",");
  const [x, y, width, height] = parts.map(Number);
  if (parts.length !== 4 || !parts.every((part) => /^\d+$/.test(part.trim())) || !width || !height) {
    throw new UsageError(`crop: must be x,y,width,height in whole pixels, width and height from 1, given "${text}"`);
  }
  return { x: x!, y: y!, width, height };
}

/** @throws UsageError where a box is not within a frame */
export function checkBox(box: Box, frame: GreyPicture): void {
  if (box.x + box.width <= frame.width && box.y + box.height <= frame.height) return;
  throw new UsageError(
    `crop: must lie within the frames of ${frame.width} x ${frame.height} pixels, given ${box.x},${box.y},${box.width},${box.height}`,
  );
}

/** The largest square in the middle. */
export function middleSquare({ width, height }: GreyPicture): Box {
  const side = Math.min(width, height);
  return { x: Math.floor((width - side) / 2), y: Math.floor((height - side) / 2), width: side, height: side };
}

/** Share of two boxes that both cover. */
export function overlap(a: Box, b: Box): number {
  const along = (p: number, sizeP: number, q: number, sizeQ: number) =>
    Math.max(0, Math.min(p + sizeP, q + sizeQ) - Math.max(p, q));
  const both = along(a.x, a.width, b.x, b.width) * along(a.y, a.height, b.y, b.height);
  return both / (a.width * a.height + b.width * b.height - both);
}

/** For each new pixel along an axis: the old ones it covers and their shares, which sum to 1. */
function coverage(from: number, length: number, count: number, limit: number): { first: number; shares: number[] }[] {
  const step = length / count;
  return Array.from({ length: count }, (_, i) => {
    // Where it is enlarged, a new pixel covers one old pixel's width around its centre.
    const middle = from + (i + 0.5) * step;
    const half = Math.max(step, 1) / 2;
    const begin = Math.min(Math.max(middle - half, 0), limit - 1);
    const end = Math.min(Math.max(middle + half, begin + 1e-6), limit);
    const first = Math.floor(begin);
    const last = Math.min(Math.ceil(end), limit) - 1;
    const shares = Array.from({ length: last - first + 1 }, (_, k) => {
      return Math.min(end, first + k + 1) - Math.max(begin, first + k);
    });
    const sum = shares.reduce((a, b) => a + b, 0);
    return { first, shares: shares.map((share) => share / sum) };
  });
}

/**
 * A box of a picture as [height, width] numbers, those of the picture times `factor`. Parts of the box beyond the
 * picture show its edge.
 */
export function cropped(
  picture: GreyPicture,
  box: Box,
  { width, height, factor = 1 }: { readonly width: number; readonly height: number; readonly factor?: number },
): Float32Array {
  const columns = coverage(box.x, box.width, width, picture.width);
  const rows = coverage(box.y, box.height, height, picture.height);
  const result = new Float32Array(width * height);
  // One row of the picture at a time, its columns gathered first.
  const line = new Float32Array(width);
  for (const [row, { first, shares }] of rows.entries()) {
    const target = result.subarray(row * width, (row + 1) * width);
    for (const [k, share] of shares.entries()) {
      const start = (first + k) * picture.width;
      for (let column = 0; column < width; column++) {
        const cover = columns[column]!;
        let value = 0;
        for (let c = 0; c < cover.shares.length; c++)
          value += cover.shares[c]! * picture.pixels[start + cover.first + c]!;
        line[column] = value;
      }
      for (let column = 0; column < width; column++) target[column]! += share * factor * line[column]!;
    }
  }
  return result;
}
