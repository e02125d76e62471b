// Pictures as PNG, pixels alone. They come as numbers in [0, 1], rows from the top.
import { PNG } from "pngjs";
import { UsageError } from "../tensor/errors.js";
import { check, checkOptions, integer, numbers, type Rules } from "../tensor/options.js";

/** An image's pixels and whether they are grey or RGB. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
}

/** Options of {@link encodeGrayPng} and {@link encodeRgbPng}. */
export interface PngOptions {
  /** Of the image, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Each pixel becomes a square of so many pixels; 1 by default. */
  readonly scale?: number;
}

/** Of a picture, in pixels. */
export const largestSide = 2 ** 15;

const side = integer({ from: 1, to: largestSide });
const pngRules: Rules<PngOptions> = { width: side, height: side, scale: integer({ from: 1, to: 1024 }) };

/** Most bytes of a picture before it is compressed. */
export const MOST_BYTES = 2 ** 28;

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

/** A PNG of pixels alone, a grey one for one channel, RGB for three. @throws UsageError as {@link encodeGrayPng} */
export function encodePicture(op: string, pixels: ArrayLike<number>, size: ImageSize): Uint8Array {
  const { width, height, channels } = size;
  return encodePng(op, pixels, { width, height }, channels);
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
