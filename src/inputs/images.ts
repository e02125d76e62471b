// Shapes of images, noise, blur, and linear maps along rows and columns.
import { conv2d } from "../autograd/ops/conv2d.js";
import { matmul } from "../autograd/ops/matmul.js";
import { reshape } from "../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { checkOptions, integer, listOf, type Rules } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import { formatShape, type Shape, sizeOf } from "../tensor/shape.js";
import { type Tensor, tensor } from "../tensor/tensor.js";

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

/** Most values that are made on the host at once: 1 GiB. */
export const MOST_VALUES = 2 ** 28;

/** Largest standard deviation of a blur, in pixels. */
export const LARGEST_SIGMA = 100;

/** Uniform random values in [0, 1), [count, ...shape]. An image depends on the seed and its place alone. */
export function noiseImages(options: NoiseOptions): Float32Array {
  const { count, shape, seed = 0 } = checkOptions("noiseImages", options, noiseRules, ["count", "shape"]);
  const size = sizeOf(shape);
  if (count * size > MOST_VALUES) {
    throw new UsageError(
      `noiseImages: at most ${MOST_VALUES} values are made at once, got ${count} images ${formatShape(shape)}`,
    );
  }
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

/** Images [N, H, W, C] seen through a Gaussian blur; beyond the edges is 0. @throws ShapeError for what is no image */
export function blurredImages(op: string, x: Tensor, sigma: number): Tensor {
  const [, , , channels] = requireImages(op, x.shape);
  const { values, shape } = gaussianKernel(sigma, channels);
  return conv2d(x, tensor(x.device, values, { shape }), { padding: "same" });
}

/**
 * A matrix along each of two axes of images: x [N, h, w, C], rows [H, h] and columns [W, w] give [N, H, W, C], whose
 * channels are rows x columns^T each.
 */
export function alongAxes(x: Tensor, rows: Tensor, columns: Tensor): Tensor {
  const [count, , width, channels] = requireImages("alongAxes", x.shape);
  const down = matmul(rows, reshape(x, [count, x.shape[1]!, width * channels]));
  return matmul(columns, reshape(down, [count, rows.shape[0]!, width, channels]));
}
