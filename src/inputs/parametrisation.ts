// What is optimised instead of an image, and how an image is made of it:
// - the pixels themselves,
// - pixels that are seen through a blur,
// - a spectrum (fourier.ts),
// - a pyramid (pyramid.ts).
//
// Gradient descent finds other images where it moves other parameters.
import { conv2d } from "../autograd/ops/conv2d.js";
import { clip } from "../autograd/ops/elementwise.js";
import { copyKernel } from "../kernels/copy.js";
import { UsageError } from "../tensor/errors.js";
import { anyOf, check, checkOptions, describe, listOf, number, oneOf, type Rules } from "../tensor/options.js";
import { runInto } from "../tensor/tensor.js";
import { gaussianKernel, LARGEST_SIGMA, requireImages } from "./images.js";
import { type Parametrization, parametrizationRule } from "./parts.js";

export { type FourierOptions, fourier } from "./fourier.js";
export { type PyramidOptions, pyramid } from "./pyramid.js";

/** Options of {@link pixels}. */
export interface PixelsOptions {
  /** Lowest and highest value that a pixel is clipped to after each step; false: none. Default [0, 1]. */
  readonly limits?: readonly [number, number] | false;
}

const pixelsRules: Rules<PixelsOptions> = {
  limits: anyOf(oneOf(false), listOf(number(), { from: 2, to: 2 })),
};

/** The values of the images themselves. @throws UsageError for limits in the wrong order */
export function pixels(options: PixelsOptions = {}): Parametrization {
  const { limits = [0, 1] } = checkOptions("pixels", options, pixelsRules);
  if (limits !== false && !(limits[0] < limits[1])) {
    throw new UsageError(`pixels: limits must be the lowest and the highest value, got ${describe(limits)}`);
  }
  return {
    name: "pixels",
    prepare({ shape, starts, parameter }) {
      const x = parameter(starts, shape);
      return {
        tensors: [x],
        images: () => x,
        ...(limits !== false && { limit: () => runInto(copyKernel, [clip(x, limits[0], limits[1])], [x], {}) }),
      };
    },
  };
}

/** Options of {@link blurred}. */
export interface BlurredOptions {
  /** Standard deviation of the Gaussian, in pixels; above 0. */
  readonly sigma: number;
}

const blurredRules: Rules<BlurredOptions> = { sigma: number({ above: 0, to: LARGEST_SIGMA }) };

/**
 * The images of another parametrisation, seen through a Gaussian blur: what is found is smooth. Beyond the edges is 0.
 * @throws ShapeError where the model's inputs are not images [H, W, C]
 */
export function blurred(inner: Parametrization, options: BlurredOptions): Parametrization {
  check("blurred", "inner", inner, parametrizationRule);
  const { sigma } = checkOptions("blurred", options, blurredRules, ["sigma"]);
  return {
    name: `${inner.name}, blurred`,
    prepare(context) {
      const [, , , channels] = requireImages("blurred", context.shape);
      const parameters = inner.prepare(context);
      const { values, shape } = gaussianKernel(sigma, channels);
      const kernel = context.constant(values, shape);
      return { ...parameters, images: () => conv2d(parameters.images(), kernel, { padding: "same" }) };
    },
  };
}
