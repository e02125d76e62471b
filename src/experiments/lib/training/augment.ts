// Random distortions of training images, drawn on the host while the adapter works on the step before. They are
// rotation, scaling, shear, shift, and a smooth elastic displacement from a coarse grid (Simard, Steinkraus, Platt,
// ICDAR 2003).
import type { AugmentContext } from "../../../nn/training/options.js";
import type { RandomStream } from "../../../tensor/random.js";

/** How strong distortions are; all are drawn evenly from +- the value, elastic ones as normal numbers. */
export interface Distortion {
  /** Radians. */
  readonly rotation: number;
  /** Share of the size. */
  readonly scale: number;
  readonly shear: number;
  /** Pixels. */
  readonly shift: number;
  /** Standard deviation in pixels, at the points of a grid. */
  readonly elastic: number;
  /** Whether half of the images are mirrored, left for right; default false. */
  readonly mirrored?: boolean;
}

/** For handwritten digits; a rotation of 10 degrees. */
const ofDigits: Distortion = { rotation: 0.175, scale: 0.1, shear: 0.1, shift: 1.5, elastic: 0.6 };

/** Intervals of the elastic grid along each side. */
const CELLS = 4;
const POINTS = CELLS + 1;

/** Distorts a batch of digits [count, height, width, 1] in place, see {@link distortion}. */
export const distort = distortion(ofDigits);

/**
 * A function that distorts a batch [count, height, width, 1] in place, each image in its own way, with bilinear
 * interpolation; what comes from outside of an image is 0. Depends on `random` alone.
 */
export function distortion(strength: Distortion): (images: Float32Array, context: AugmentContext) => void {
  return (images, { count, shape, random }) => {
    const [height, width] = shape as [number, number, number];
    const source = new Float32Array(height * width);
    for (let image = 0; image < count; image++) {
      const target = images.subarray(image * height * width, (image + 1) * height * width);
      source.set(target);
      distortOne(source, target, [height, width], strength, random);
    }
  };
}

function distortOne(
  source: Float32Array,
  target: Float32Array,
  [height, width]: readonly [number, number],
  strength: Distortion,
  random: RandomStream,
): void {
  const between = (limit: number) => limit * (2 * random.uniform() - 1);
  const angle = between(strength.rotation);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const [scaleX, scaleY] = [1 + between(strength.scale), 1 + between(strength.scale)];
  const shear = between(strength.shear);
  const [shiftX, shiftY] = [between(strength.shift), between(strength.shift)];
  const displacement =
    strength.elastic === 0
      ? undefined
      : Float64Array.from({ length: 2 * POINTS * POINTS }, () => strength.elastic * random.normal());
  const mirror = strength.mirrored && random.uniform() < 0.5 ? -1 : 1;

  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  for (let row = 0; row < height; row++) {
    const gridY = (row / height) * CELLS;
    const top = Math.floor(gridY);
    const b = gridY - top;
    for (let column = 0; column < width; column++) {
      const gridX = (column / width) * CELLS;
      const left = Math.floor(gridX);
      const a = gridX - left;
      const at = 2 * (top * POINTS + left);
      const below = at + 2 * POINTS;
      const elastic = (axis: 0 | 1) =>
        displacement === undefined
          ? 0
          : (1 - b) * ((1 - a) * displacement[at + axis]! + a * displacement[at + 2 + axis]!) +
            b * ((1 - a) * displacement[below + axis]! + a * displacement[below + 2 + axis]!);
      const x = mirror * (column - middleX) * scaleX;
      const y = (row - middleY) * scaleY;
      const sheared = x + shear * y;
      const fromX = middleX + cos * sheared - sin * y + shiftX + elastic(0);
      const fromY = middleY + sin * sheared + cos * y + shiftY + elastic(1);
      target[row * width + column] = bilinear(source, height, width, fromY, fromX);
    }
  }
}

/** The image between its pixels' centres; 0 outside. */
function bilinear(source: Float32Array, height: number, width: number, y: number, x: number): number {
  const row = Math.floor(y);
  const column = Math.floor(x);
  if (row < -1 || row >= height || column < -1 || column >= width) return 0;
  const pixel = (r: number, c: number) => (r >= 0 && r < height && c >= 0 && c < width ? source[r * width + c]! : 0);
  const [b, a] = [y - row, x - column];
  return (
    (1 - b) * ((1 - a) * pixel(row, column) + a * pixel(row, column + 1)) +
    b * ((1 - a) * pixel(row + 1, column) + a * pixel(row + 1, column + 1))
  );
}

/** How photographs are changed, see {@link shiftedAndMirrored}. */
export interface PhotographChange {
  /** Largest shift each way, in whole pixels. */
  readonly shift: number;
  /** Side of the square that is wiped out, in pixels; default 0, none. */
  readonly cutout?: number;
}

/** What a wiped out square shows: about the mean of a photograph's pixels. */
const CUT_VALUE = 0.5;

/**
 * A function that shifts each image of a batch [count, height, width, channels], and mirrors half of them. It shifts by
 * up to `shift` whole pixels each way; 0 comes in where nothing else does. That is for photographs, which stay as sharp
 * as they were. With `cutout`, a square anywhere, part of it beyond the edges, becomes grey (DeVries, Taylor 2017).
 */
export function shiftedAndMirrored(change: PhotographChange): (images: Float32Array, context: AugmentContext) => void {
  const { shift, cutout = 0 } = change;
  return (images, { count, shape, random }) => {
    const [height, width, channels] = shape as [number, number, number];
    const size = height * width * channels;
    for (let image = 0; image < count; image++) {
      const target = images.subarray(image * size, (image + 1) * size);
      const source = target.slice();
      const [down, right] = [random.integer(2 * shift + 1) - shift, random.integer(2 * shift + 1) - shift];
      const mirrored = random.uniform() < 0.5;
      target.fill(0);
      for (let row = Math.max(0, down); row < Math.min(height, height + down); row++) {
        for (let column = Math.max(0, right); column < Math.min(width, width + right); column++) {
          const from = mirrored ? width - 1 - (column - right) : column - right;
          const at = ((row - down) * width + from) * channels;
          for (let channel = 0; channel < channels; channel++) {
            target[(row * width + column) * channels + channel] = source[at + channel]!;
          }
        }
      }
      if (cutout === 0) continue;
      const [top, left] = [random.integer(height + cutout) - cutout, random.integer(width + cutout) - cutout];
      const [first, last] = [Math.max(0, left), Math.min(width, left + cutout)];
      for (let row = Math.max(0, top); row < Math.min(height, top + cutout); row++) {
        target.fill(CUT_VALUE, (row * width + first) * channels, (row * width + last) * channels);
      }
    }
  };
}
