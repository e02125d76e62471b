// Pictures of numbers: grey or coloured pixels on a canvas, which is enlarged by style.
import { html } from "./dom.js";

export interface PictureOptions {
  readonly width: number;
  readonly height: number;
  /** What the picture shows, for who cannot see it. */
  readonly label: string;
  /** 1 (default): grey, 3: red, green and blue, one after the other for each pixel. */
  readonly channels?: 1 | 3;
  /** What is black and what is white; default [0, 1]. "signed": blue below 0, red above, by the largest magnitude. */
  readonly range?: readonly [number, number] | "signed";
}

/** Draws values [height, width, channels] on a canvas, a new one by default. */
export function picture(
  values: ArrayLike<number>,
  { width, height, label, channels = 1, range = [0, 1] }: PictureOptions,
  canvas: HTMLCanvasElement = html("canvas"),
): HTMLCanvasElement {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const pixels = new ImageData(width, height);
  const most =
    range === "signed" ? Array.from(values).reduce((top, value) => Math.max(top, Math.abs(value)), 1e-12) : 0;
  for (let i = 0; i < width * height; i++) {
    let colour: number[];
    if (range === "signed") {
      const share = values[i]! / most;
      const pale = 255 * (1 - Math.abs(share));
      colour = share > 0 ? [255, pale, pale] : [pale, pale, 255];
    } else {
      const [low, high] = range;
      colour = [0, 1, 2].map((c) => (255 * (values[channels === 1 ? i : 3 * i + c]! - low)) / (high - low));
    }
    pixels.data.set([...colour, 255], 4 * i);
  }
  canvas.getContext("2d")!.putImageData(pixels, 0, 0);
  return canvas;
}
