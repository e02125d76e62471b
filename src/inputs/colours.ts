// Between what is optimised without limits and colours: a matrix that correlates channels as natural images have them,
// and a sigmoid that keeps values in a range. As in Lucid (Olah, Mordvintsev, Schubert, 2017).
import { add, mul, sigmoid } from "../autograd/ops/elementwise.js";
import { matmul } from "../autograd/ops/matmul.js";
import { UsageError } from "../tensor/errors.js";
import { boolean, describe, listOf, number, type Rules } from "../tensor/options.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireImages } from "./images.js";
import type { ParametrizationContext } from "./parts.js";

/** What parametrisations without limits of their own take. */
export interface ColourOptions {
  /** Lowest and highest value of a pixel; default [0, 1]. */
  readonly limits?: readonly [number, number];
  /**
   * Whether the three channels are correlated as in natural images, so that a step changes brightness sooner than hue;
   * default: where there are three.
   */
  readonly decorrelate?: boolean;
}

export const colourRules: Rules<ColourOptions> = { limits: listOf(number(), { from: 2, to: 2 }), decorrelate: boolean };

/** Root of the covariance of colours in ImageNet, by Lucid; a row a channel. */
const COLOURS = [
  [0.26, 0.09, 0.02],
  [0.27, 0, -0.05],
  [0.27, -0.09, 0.03],
] as const;
/** Lengths of the columns: the largest becomes 1. */
const LARGEST = Math.max(...[0, 1, 2].map((k) => Math.hypot(...COLOURS.map((row) => row[k]!))));
const correlation = COLOURS.map((row) => row.map((value) => value / LARGEST));

/** How far from the limits values to begin with are kept, of the range: there the sigmoid has no slope. */
const MARGIN = 0.01;

/** Noise in [0, 1) around 0, of standard deviation 0.01. */
const SPREAD = 0.01 * Math.sqrt(12);

/** The two ways between colours and values without limits. */
export interface ColourSpace {
  /** Images [N, H, W, C] of values without limits. */
  toImages(raw: Tensor): Tensor;
  /**
   * Values without limits to begin with: those of the user's images, or small noise, which is a grey image.
   */
  readonly starts: Float32Array;
}

/** @throws ShapeError for what is no image, UsageError for limits in the wrong order and for colours of no image */
export function colourSpace(op: string, context: ParametrizationContext, options: ColourOptions): ColourSpace {
  const [, , , channels] = requireImages(op, context.shape);
  const { limits = [0, 1], decorrelate = channels === 3 } = options;
  if (!(limits[0] < limits[1])) {
    throw new UsageError(`${op}: limits must be the lowest and the highest value, got ${describe(limits)}`);
  }
  if (decorrelate && channels !== 3) {
    throw new UsageError(`${op}: decorrelate is for images of three channels, these have ${channels}`);
  }
  const [low, range] = [limits[0], limits[1] - limits[0]];
  // As rows: raw [.., 3] times the transposed matrix.
  const matrix = decorrelate
    ? context.constant(Float32Array.from(correlation.flatMap((_, k) => correlation.map((row) => row[k]!))), [3, 3])
    : undefined;
  return {
    toImages(raw) {
      const shares = sigmoid(matrix === undefined ? raw : matmul(raw, matrix));
      return low === 0 && range === 1 ? shares : add(mul(shares, range), low);
    },
    starts: context.given
      ? inverse(context.starts, low, range, decorrelate)
      : context.starts.map((value) => (value - 0.5) * SPREAD),
  };
}

/** What toImages gives values of. */
function inverse(images: Float32Array, low: number, range: number, decorrelate: boolean): Float32Array {
  const raw = images.map((value) => {
    const share = Math.max(MARGIN, Math.min(1 - MARGIN, (value - low) / range));
    return Math.log(share / (1 - share));
  });
  if (!decorrelate) return raw;
  for (let at = 0; at < raw.length; at += 3) raw.set(solve(correlation, raw.subarray(at, at + 3)), at);
  return raw;
}

/** x of A x = b, for a matrix [3, 3], by Cramer's rule. */
function solve(a: readonly (readonly number[])[], b: ArrayLike<number>): number[] {
  const determinant = (m: readonly (readonly number[])[]) =>
    [0, 1, 2].reduce((sum, k) => {
      const [p, q] = [(k + 1) % 3, (k + 2) % 3];
      return sum + m[0]![k]! * (m[1]![p]! * m[2]![q]! - m[1]![q]! * m[2]![p]!);
    }, 0);
  const whole = determinant(a);
  return [0, 1, 2].map((k) => determinant(a.map((row, i) => row.with(k, b[i]!))) / whole);
}
