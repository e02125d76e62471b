// Differentiable resizing of images.
import type { Pair } from "../../kernels/conv2d/geometry.js";
import { pairRule } from "../../kernels/conv2d/geometry.js";
import {
  INTERPOLATIONS,
  type Interpolation,
  type ResizeAxis,
  type ResizeParams,
  resizeGradientKernel,
  resizeKernel,
} from "../../kernels/resize.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, oneOf, type Rules } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";

export interface ResizeOptions {
  /** Of the result in pixels, [height, width] or one number for both. */
  readonly size: Pair;
  /** Default "bilinear". */
  readonly interpolation?: Interpolation;
}

const rules: Rules<ResizeOptions> = { size: pairRule, interpolation: oneOf(...INTERPOLATIONS) };

/**
 * Images of another size: x f32 [N, H, W, C] -> [N, height, width, C]. Pixels are squares with their centres at halves:
 * output pixel o lies at (o + 1/2) H / height - 1/2. "nearest" takes the input pixel there, "bilinear" weights the four
 * around by their distance, without antialiasing. These are the numbers of Keras's UpSampling2D and Resizing, and of
 * PyTorch's interpolate with "nearest-exact" and "bilinear".
 *
 * @example resize(images, { size: [64, 64], interpolation: "nearest" })
 * @throws ShapeError unless x is f32 with four axes and has pixels
 */
export function resize(x: Tensor, options: ResizeOptions): Tensor {
  requireTensor("resize", "x", x);
  const { size, interpolation = "bilinear" } = checkOptions("resize", options, rules, ["size"]);
  if (x.rank !== 4 || x.dtype !== "f32") {
    throw new ShapeError(
      `resize: needs f32 images [N, H, W, C], got ${x.dtype} ${formatShape(x.shape)}; reshape or cast`,
    );
  }
  const [, inputHeight, inputWidth] = x.shape as [number, number, number, number];
  if (inputHeight === 0 || inputWidth === 0) {
    throw new ShapeError(`resize: needs images with pixels, got ${formatShape(x.shape)}`);
  }
  const [height, width] = typeof size === "number" ? [size, size] : size;
  const axes = { y: { input: inputHeight, output: height }, x: { input: inputWidth, output: width } };
  if (![axes.y, axes.x].every(fits)) {
    throw new ShapeError(
      `resize: sizes of an axis must have a product below 2^31, got ${formatShape(x.shape)} and size [${height}, ${width}]; resize in two steps`,
    );
  }
  return resized(x, { ...axes, interpolation });
}

/** What the kernels compute in u32. */
const fits = ({ input, output }: ResizeAxis) => 2 * (input + 1) * (output + 1) < 2 ** 32;

/** [N, H, W, C] with another height and width. */
const withSize = (x: Tensor, height: number, width: number) => ({
  shape: [x.shape[0]!, height, width, x.shape[3]!],
  dtype: "f32" as const,
});

function resized(x: Tensor, params: ResizeParams): Tensor {
  const y = run(resizeKernel, [x], withSize(x, params.y.output, params.x.output), params);
  return record(y, { op: "resize", inputs: [x], backward: (dy) => [() => adjoint(dy, params)], derivable: true });
}

function adjoint(dy: Tensor, params: ResizeParams): Tensor {
  const dx = run(resizeGradientKernel, [dy], withSize(dy, params.y.input, params.x.input), params);
  return record(dx, {
    op: "resizeGradient",
    inputs: [dy],
    backward: (g) => [() => resized(g, params)],
    derivable: true,
  });
}
