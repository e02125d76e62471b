// What becomes of an image over the steps of an optimisation: as a row of pictures, and as frames of an animation. Most
// happens early, so steps are taken on a logarithmic scale.
import { ShapeError, UsageError } from "../tensor/errors.js";
import { check, checkOptions, integer, object, type Rules } from "../tensor/options.js";
import { formatShape } from "../tensor/shape.js";
import type { OptimizedInputs } from "./optimise.js";

/** Options of {@link filmStrip}. */
export interface FilmStripOptions {
  /** Which image of the batch; default 0. */
  readonly image?: number;
}

const filmStripRules: Rules<FilmStripOptions> = { image: integer({ from: 0 }) };

/** A picture of a strip: a cell of `io.pictureGrid`, and a frame of `io.encodeGif`. */
export interface FilmFrame {
  /** [height, width] or [height, width, 3]. */
  readonly pixels: Float32Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly caption: readonly string[];
}

/**
 * Steps from 0 to `steps` for snapshots: `count` of them, each about as many times the one before, 0 and the first step
 * among them.
 * @throws UsageError for numbers out of range
 * @example logarithmicSteps(1000, 8) // 0, 1, 3, 10, 32, 100, 316, 1000
 */
export function logarithmicSteps(steps: number, count = 8): number[] {
  check("logarithmicSteps", "steps", steps, integer({ from: 1 }));
  check("logarithmicSteps", "count", count, integer({ from: 3, to: 10_000 }));
  const found = Array.from({ length: count - 1 }, (_, k) => Math.round(steps ** (k / (count - 2))));
  return [0, ...new Set(found)];
}

/**
 * The snapshots of one image, in order: a row for `io.pictureGrid`, and frames for `io.encodeGif`.
 * @throws ShapeError where the inputs are no images of one or three channels, UsageError for an image that is not there
 * @example
 * const found = await optimizeInputs(model, { objective, steps, snapshotSteps: logarithmicSteps(steps) });
 * const svg = io.pictureGrid([filmStrip(found)]);
 * const gif = await io.encodeGif(filmStrip(found));
 */
export function filmStrip(
  found: Pick<OptimizedInputs, "snapshots" | "shape">,
  options: FilmStripOptions = {},
): FilmFrame[] {
  check("filmStrip", "found", found, object);
  check("filmStrip", "shape", found.shape, { expected: "the shape of images", accepts: Array.isArray });
  check("filmStrip", "snapshots", found.snapshots, { expected: "a list of snapshots", accepts: Array.isArray });
  const { image = 0 } = checkOptions("filmStrip", options, filmStripRules);
  const [count, height, width, channels] = found.shape as readonly [number, number, number, number];
  if (found.shape.length !== 4 || (channels !== 1 && channels !== 3)) {
    throw new ShapeError(`filmStrip: needs images [N, H, W, 1] or [N, H, W, 3], got ${formatShape(found.shape)}`);
  }
  if (image >= count) throw new UsageError(`filmStrip: image must be from 0 to ${count - 1}, got ${image}`);
  const size = height * width * channels;
  return found.snapshots.map(({ step, images }) => ({
    pixels: images.slice(image * size, (image + 1) * size),
    ...{ width, height, channels },
    caption: [`step ${step}`],
  }));
}
