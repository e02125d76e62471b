// Images as spectra: each frequency is a parameter that counts the less the higher it is. Gradient descent then moves
// all scales of an image alike, where on pixels it begins with the finest (Olah, Mordvintsev, Schubert, 2017).
import { mul } from "../autograd/ops/elementwise.js";
import { checkOptions, number, type Rules } from "../tensor/options.js";
import { type ColourOptions, colourRules, colourSpace } from "./colours.js";
import { alongAxes, requireImages } from "./images.js";
import type { Parametrization } from "./parts.js";

/** Options of {@link fourier}. */
export interface FourierOptions extends ColourOptions {
  /** Frequencies f count by f^-decayPower, from the lowest of the longer side on; default 1. */
  readonly decayPower?: number;
}

const fourierRules: Rules<FourierOptions> = { ...colourRules, decayPower: number({ from: 0 }) };

/** What Lucid divides images by before the sigmoid. */
const CONTRAST = 1 / 4;

/**
 * sigmoid(colours (B S_f B^T) / 4) of a spectrum S [N, H, W, C] that is scaled by f^-decayPower. The basis B of each
 * axis is the real, orthonormal Fourier basis: what it spans at a frequency is what the complex one does. Without
 * starts of the user it begins grey.
 * @throws UsageError for options out of range; ShapeError, when it runs, where the model's inputs are not images
 */
export function fourier(options: FourierOptions = {}): Parametrization {
  const { decayPower = 1, ...colours } = checkOptions("fourier", options, fourierRules);
  return {
    name: "Fourier",
    prepare(context) {
      const space = colourSpace("fourier", context, colours);
      const [count, height, width, channels] = requireImages("fourier", context.shape);
      const [down, across] = [basisOf(height), basisOf(width)];
      const lowest = 1 / Math.max(height, width);
      const scales = new Float32Array(height * width);
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const frequency = Math.hypot(down.frequencies[row]!, across.frequencies[column]!);
          scales[row * width + column] = CONTRAST / Math.max(frequency, lowest) ** decayPower;
        }
      }
      // Noise is taken for the spectrum itself; images become the spectrum that gives them.
      const spectra = context.given
        ? spectraOf(space.starts, [count, height, width, channels], down.matrix, across.matrix, scales)
        : space.starts;
      const spectrum = context.parameter(spectra, context.shape);
      const scale = context.constant(scales, [height, width, 1]);
      const [rows, columns] = [
        context.constant(down.matrix, [height, height]),
        context.constant(across.matrix, [width, width]),
      ];
      return {
        tensors: [spectrum],
        images: () => space.toImages(alongAxes(mul(spectrum, scale), rows, columns)),
      };
    },
  };
}

/** The basis of signals of n values, a column a wave, row-major; and each one's frequency, in waves a pixel. */
export function basisOf(n: number): { readonly matrix: Float32Array; readonly frequencies: readonly number[] } {
  const frequencies = Array.from({ length: n }, (_, k) => Math.ceil(k / 2) / n);
  const matrix = new Float32Array(n * n);
  for (let at = 0; at < n; at++) {
    for (let k = 0; k < n; k++) {
      const angle = 2 * Math.PI * frequencies[k]! * at;
      // The constant, and of even n the fastest wave, have no sine.
      const alone = k === 0 || (k === n - 1 && n % 2 === 0);
      matrix[at * n + k] = Math.sqrt((alone ? 1 : 2) / n) * (k % 2 === 1 || alone ? Math.cos(angle) : Math.sin(angle));
    }
  }
  return { matrix, frequencies };
}

/** B^T x B / scale, for each channel of each image. */
function spectraOf(
  images: Float32Array,
  [count, height, width, channels]: readonly [number, number, number, number],
  down: Float32Array,
  across: Float32Array,
  scales: Float32Array,
): Float32Array {
  const found = new Float32Array(images.length);
  const half = new Float64Array(height * width);
  for (let image = 0; image < count; image++) {
    for (let channel = 0; channel < channels; channel++) {
      const at = (row: number, column: number) => ((image * height + row) * width + column) * channels + channel;
      for (let k = 0; k < height; k++) {
        for (let column = 0; column < width; column++) {
          let sum = 0;
          for (let row = 0; row < height; row++) sum += down[row * height + k]! * images[at(row, column)]!;
          half[k * width + column] = sum;
        }
      }
      for (let k = 0; k < height; k++) {
        for (let l = 0; l < width; l++) {
          let sum = 0;
          for (let column = 0; column < width; column++) sum += half[k * width + column]! * across[column * width + l]!;
          found[at(k, l)] = sum / scales[k * width + l]!;
        }
      }
    }
  }
  return found;
}
