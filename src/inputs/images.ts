// Shapes of images, noise, and the kernel of a blur.
import { ShapeError } from "../tensor/errors.js";
import { checkOptions, integer, listOf, type Rules } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import { formatShape, type Shape, sizeOf } from "../tensor/shape.js";

/** @throws ShapeError for what is no shape [N, H, W, C] */
export function requireImages(op: string, shape: Shape): readonly [number, number, number, number] {
  if (shape.length === 4) return shape as unknown as [number, number, number, number];
  throw new ShapeError(`${op}: needs images [N, H, W, C], got ${formatShape(shape)}`);
}

/** Options of {@link noiseImages}. */
export interface NoiseOptions {
  readonly count: number;
  /** Of one image, without the batch axis: a model's `inputShape`. */
  readonly shape: Shape;
  /** Default 0. */
  readonly seed?: number;
}

const noiseRules: Rules<NoiseOptions> = {
  count: integer({ from: 1 }),
  shape: listOf(integer({ from: 1 })),
  seed: integer(),
};

/** Uniform random values in [0, 1), [count, ...shape]. An image depends on the seed and its place alone. */
export function noiseImages(options: NoiseOptions): Float32Array {
  const { count, shape, seed = 0 } = checkOptions("noiseImages", options, noiseRules, ["count", "shape"]);
  const size = sizeOf(shape);
  const images = new Float32Array(count * size);
  for (let image = 0; image < count; image++) {
    const random = new RandomStream(seed, `start/noise/${image}`);
    for (let i = 0; i < size; i++) images[image * size + i] = random.uniform();
  }
  return images;
}

/**
 * Kernel [k, k, C, C] of a Gaussian with standard deviation `sigma` pixels, cut off at three of them, with sum 1 for
 * every channel by itself.
 */
export function gaussianKernel(sigma: number, channels: number): { values: Float32Array; shape: Shape } {
  const radius = Math.ceil(3 * sigma);
  const size = 2 * radius + 1;
  const line = Float64Array.from({ length: size }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)));
  const total = line.reduce((a, b) => a + b);
  const values = new Float32Array(size * size * channels * channels);
  for (let i = 0; i < size * size; i++) {
    const weight = (line[Math.floor(i / size)]! * line[i % size]!) / total ** 2;
    for (let channel = 0; channel < channels; channel++) values[(i * channels + channel) * channels + channel] = weight;
  }
  return { values, shape: [size, size, channels, channels] };
}
