// What input optimisation is pulled towards besides the target: priors on images. Two are penalties added to the loss (l2,
// total variation), two change what the classifier sees (blur, jitter). All are off at 0.

import { conv2d } from "../../../autograd/ops/conv2d.js";
import { abs, add, mul, sub } from "../../../autograd/ops/elementwise.js";
import { gather } from "../../../autograd/ops/gather.js";
import { sum, sumSquares } from "../../../autograd/ops/reduce.js";
import { pad, slice } from "../../../autograd/ops/transform.js";
import type { Device } from "../../../tensor/device.js";
import { RandomStream } from "../../../tensor/random.js";
import type { HostTensor } from "../../../tensor/step-plan.js";
import { type Tensor, tensor } from "../../../tensor/tensor.js";

/** Strengths of the priors. */
export interface Regularizers {
  /** Factor of the sum of squared pixels. */
  readonly l2: number;
  /** Factor of the total variation: the sum of |differences| between neighbouring pixels. */
  readonly totalVariation: number;
  /** Standard deviation in pixels of the Gaussian through which the image is seen: it becomes smooth. */
  readonly blur: number;
  /** Largest shift in pixels, another one at every step: features must bear being moved. */
  readonly jitter: number;
}

const overPixels = { axes: [1, 2, 3] };

/** Penalties of images x [N, H, W, C], one per image [N]; undefined where there are none. */
export function penalties(x: Tensor, { l2, totalVariation }: Regularizers): Tensor | undefined {
  const terms: Tensor[] = [];
  if (l2 !== 0) terms.push(mul(sumSquares(x, overPixels), l2));
  if (totalVariation !== 0) {
    for (const axis of [1, 2]) terms.push(mul(sum(abs(differences(x, axis)), overPixels), totalVariation));
  }
  return terms.length === 0 ? undefined : terms.reduce(add);
}

/** x[i + 1] - x[i] along an axis. */
function differences(x: Tensor, axis: number): Tensor {
  const size = x.shape.map((n, a) => (a === axis ? n - 1 : n));
  const origin = x.shape.map(() => 0);
  const next = x.shape.map((_, a) => (a === axis ? 1 : 0));
  return sub(slice(x, next, size), slice(x, origin, size));
}

/**
 * Kernel [k, k, 1, 1] of a Gaussian with standard deviation `sigma` pixels, cut off at three of them, with sum 1; for
 * `blurred`. The caller owns it.
 */
export function gaussianKernel(device: Device, sigma: number): Tensor {
  const radius = Math.ceil(3 * sigma);
  const size = 2 * radius + 1;
  const line = Float64Array.from({ length: size }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)));
  const total = line.reduce((a, b) => a + b);
  const values = Float32Array.from({ length: size * size }, (_, i) => {
    return (line[Math.floor(i / size)]! * line[i % size]!) / total ** 2;
  });
  return tensor(device, values, { shape: [size, size, 1, 1] });
}

/** Grey images x [N, H, W, 1] under a kernel of `gaussianKernel`; 0 beyond the edges. */
export function blurred(x: Tensor, kernel: Tensor): Tensor {
  return conv2d(x, kernel, { padding: "same" });
}

/**
 * The rows and columns that `jittered` takes of images [H, W] with a border of `jitter` pixels: all images of a step are
 * shifted alike, by what depends on seed and step only, so that an image's way does not depend on the others of its batch.
 */
export function jitterIndices(
  [height, width]: readonly [number, number],
  jitter: number,
  { seed, step }: { readonly seed: number; readonly step: number },
): [rows: HostTensor, columns: HostTensor] {
  const random = new RandomStream(seed, `jitter/${step}`);
  const from = (size: number): HostTensor => {
    const first = random.integer(2 * jitter + 1);
    return { values: Int32Array.from({ length: size }, (_, i) => first + i), shape: [size] };
  };
  return [from(height), from(width)];
}

/** Images x [N, H, W, C] shifted by up to `jitter` pixels each way, filled with 0, as `jitterIndices` has it. */
export function jittered(x: Tensor, jitter: number, rows: Tensor, columns: Tensor): Tensor {
  const border = [jitter, jitter];
  return gather(gather(pad(x, [[0, 0], border, border, [0, 0]]), rows, 1), columns, 2);
}
