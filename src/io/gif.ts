// Animations as GIF, by gifenc, which is loaded when one is made.
import { UsageError } from "../tensor/errors.js";
import { check, checkOptions, integer, listOf, number, numbers, object, oneOf, type Rules } from "../tensor/options.js";

/** One picture of an animation. */
export interface GifFrame {
  /** [height, width] or [height, width, 3], in [0, 1]. */
  readonly pixels: ArrayLike<number>;
  readonly width: number;
  readonly height: number;
  /** 1 (grey) by default. */
  readonly channels?: 1 | 3;
}

/** Options of {@link encodeGif}. */
export interface GifOptions {
  /** How long a frame is shown, in seconds; default 0.25. */
  readonly seconds?: number;
  /** How long the last one is, default four times as long. */
  readonly lastSeconds?: number;
  /** Each pixel becomes a square of so many pixels; 1 by default. */
  readonly scale?: number;
}

const shown = number({ from: 0.01, to: 600 });
const gifRules: Rules<GifOptions> = { seconds: shown, lastSeconds: shown, scale: integer({ from: 1, to: 64 }) };
const side = integer({ from: 1, to: 2 ** 15 });

/** Most bytes of a frame before it is compressed. */
const MOST_BYTES = 2 ** 28;

/**
 * A GIF that repeats, of frames of one size; values beyond [0, 1] are clipped. A frame has at most 256 colours, its
 * own.
 * @throws UsageError for frames of different sizes, or of another number of pixels than they say, and for values that
 * are not finite
 * @example await io.encodeGif(filmStrip(found), { scale: 8 })
 */
export async function encodeGif(frames: readonly GifFrame[], options: GifOptions = {}): Promise<Uint8Array> {
  check("encodeGif", "frames", frames, listOf(object, { from: 1 }));
  const { seconds = 0.25, scale = 1, lastSeconds = 4 * seconds } = checkOptions("encodeGif", options, gifRules);
  const [first] = frames as readonly [GifFrame, ...GifFrame[]];
  const pictures = frames.map((frame, i) => rgba(frame, i, first, scale));
  const { encoder, quantize, applyPalette } = await loaded();
  for (const [i, data] of pictures.entries()) {
    const palette = quantize(data, 256);
    const delay = Math.round(1000 * (i === pictures.length - 1 ? lastSeconds : seconds));
    encoder.writeFrame(applyPalette(data, palette), first.width * scale, first.height * scale, { palette, delay });
  }
  encoder.finish();
  return encoder.bytes();
}

/** gifenc is CommonJS: Node has its functions in `default` alone, what reads it as a module has them as names. */
async function loaded() {
  const names = await import("gifenc");
  const { GIFEncoder, quantize, applyPalette } = names.GIFEncoder === undefined ? names.default : names;
  return { encoder: GIFEncoder!(), quantize, applyPalette };
}

/** Bytes [height, width, 4] of a frame, enlarged. */
function rgba(frame: GifFrame, index: number, first: GifFrame, scale: number): Uint8Array {
  const { pixels, width, height, channels = 1 } = frame;
  const name = `frames[${index}]`;
  check("encodeGif", `${name}.width`, width, side);
  check("encodeGif", `${name}.height`, height, side);
  check("encodeGif", `${name}.channels`, channels, oneOf(1, 3));
  check("encodeGif", `${name}.pixels`, pixels, numbers);
  if (width !== first.width || height !== first.height) {
    throw new UsageError(
      `encodeGif: frames must have one size, got ${first.width} x ${first.height} and ${width} x ${height}`,
    );
  }
  if (pixels.length !== width * height * channels) {
    throw new UsageError(
      `encodeGif: ${name} of ${width} x ${height} needs ${width * height * channels} values, got ${pixels.length}`,
    );
  }
  const across = width * scale;
  const size = 4 * across * height * scale;
  if (size > MOST_BYTES) throw new UsageError(`encodeGif: a frame must have at most ${MOST_BYTES} bytes, got ${size}`);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size / 4; at++) {
    const [row, column] = [Math.floor(at / across / scale), Math.floor((at % across) / scale)];
    for (let k = 0; k < 3; k++) {
      const value = pixels[(row * width + column) * channels + (channels === 3 ? k : 0)]!;
      if (!Number.isFinite(value)) throw new UsageError(`encodeGif: values must be finite, got ${value} in ${name}`);
      bytes[4 * at + k] = Math.round(255 * Math.max(0, Math.min(1, value)));
    }
    bytes[4 * at + 3] = 255;
  }
  return bytes;
}
