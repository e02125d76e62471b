// Images as sums of levels, as in a Laplacian pyramid (Burt and Adelson, 1983). Each level is half as large as the one
// before and enlarged to the image's size. What coarse levels hold is smooth, and a step moves many pixels at once.
import { add } from "../autograd/ops/elementwise.js";
import { checkOptions, integer, type Rules } from "../tensor/options.js";
import { sizeOf } from "../tensor/shape.js";
import { type ColourOptions, colourRules, colourSpace } from "./colours.js";
import { alongAxes, requireImages } from "./images.js";
import type { Parametrization } from "./parts.js";

/** Options of {@link pyramid}. */
export interface PyramidOptions extends ColourOptions {
  /** How many, the image's own size among them; default: as long as the shorter side has four values. */
  readonly levels?: number;
}

const pyramidRules: Rules<PyramidOptions> = { ...colourRules, levels: integer({ from: 1, to: 16 }) };

/** Shortest side of a level, by default. */
const SMALLEST = 4;

/**
 * sigmoid(colours (sum of U_k P_k V_k^T)) of levels P_k [N, ceil(H / 2^k), ceil(W / 2^k), C], enlarged bilinearly. What
 * it begins with is all in the finest level; without starts of the user that is grey.
 * @throws UsageError for options out of range; ShapeError, when it runs, where the model's inputs are not images
 */
export function pyramid(options: PyramidOptions = {}): Parametrization {
  const { levels, ...colours } = checkOptions("pyramid", options, pyramidRules);
  return {
    name: "pyramid",
    prepare(context) {
      const space = colourSpace("pyramid", context, colours);
      const [count, height, width, channels] = requireImages("pyramid", context.shape);
      const wanted = levels ?? Math.max(1, Math.floor(Math.log2(Math.min(height, width) / SMALLEST)) + 1);
      const finest = context.parameter(space.starts, context.shape);
      const coarser = Array.from({ length: wanted - 1 }, (_, k) => {
        const [h, w] = [height, width].map((size) => Math.ceil(size / 2 ** (k + 1))) as [number, number];
        const shape = [count, h, w, channels];
        return {
          tensor: context.parameter(new Float32Array(sizeOf(shape)), shape),
          rows: context.constant(enlarging(h, height), [height, h]),
          columns: context.constant(enlarging(w, width), [width, w]),
        };
      });
      return {
        tensors: [finest, ...coarser.map(({ tensor }) => tensor)],
        images: () =>
          space.toImages(
            coarser.reduce((sum, { tensor, rows, columns }) => add(sum, alongAxes(tensor, rows, columns)), finest),
          ),
      };
    },
  };
}

/** Matrix [to, from] of linear interpolation between the middles of `from` pixels over the same length. */
export function enlarging(from: number, to: number): Float32Array {
  const matrix = new Float32Array(to * from);
  for (let at = 0; at < to; at++) {
    const place = Math.max(0, Math.min(from - 1, ((at + 0.5) * from) / to - 0.5));
    const first = Math.floor(place);
    matrix[at * from + first]! += 1 - (place - first);
    matrix[at * from + Math.min(first + 1, from - 1)]! += place - first;
  }
  return matrix;
}
