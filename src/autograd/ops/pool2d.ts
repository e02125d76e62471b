// Differentiable pooling over windows of images.
import { type Padding, type Pair, positivePair, windowAxis } from "../../kernels/conv2d/geometry.js";
import { type Pool2dParams, pool2dGradientKernel, pool2dKernel } from "../../kernels/pool2d.js";
import { ShapeError } from "../../tensor/errors.js";
import { formatShape } from "../../tensor/shape.js";
import { run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { mean } from "./reduce.js";

export interface Pool2dOptions {
  /** Window, [height, width] or one number for both. */
  readonly poolSize: Pair;
  /** Distance between windows; by default the window's size. */
  readonly strides?: Pair;
  /** "valid" (default), "same", or [[top, bottom], [left, right]] smaller than the window. */
  readonly padding?: Padding;
}

/**
 * Maximum over windows: x [N, H, W, C] -> [N, OH, OW, C]. Padding never wins. Where several cells of a window are the
 * maximum, the first in row-major order gets the gradient.
 */
export function maxPool2d(x: Tensor, options: Pool2dOptions): Tensor {
  return pool("maxPool2d", "max", x, options);
}

/** Mean over windows: x [N, H, W, C] -> [N, OH, OW, C]. Padded cells are not counted, as in Keras. */
export function avgPool2d(x: Tensor, options: Pool2dOptions): Tensor {
  return pool("avgPool2d", "mean", x, options);
}

/** Mean over the whole image: x [N, H, W, C] -> [N, C]. */
export function globalAvgPool2d(x: Tensor): Tensor {
  requireImages("globalAvgPool2d", x);
  return mean(x, { axes: [1, 2] });
}

function requireImages(op: string, x: Tensor): void {
  if (x.rank !== 4 || x.dtype !== "f32") {
    throw new ShapeError(
      `${op}: needs f32 images [N, H, W, C], got ${x.dtype} ${formatShape(x.shape)}; reshape or cast`,
    );
  }
}

function pool(op: string, kind: Pool2dParams["kind"], input: Tensor, options: Pool2dOptions): Tensor {
  requireImages(op, input);
  const [batch, height, width, channels] = input.shape as [number, number, number, number];
  const window = positivePair(op, "poolSize", options.poolSize);
  const strides = positivePair(op, "strides", options.strides ?? window);
  const { padding = "valid" } = options;
  const [y, x] = [height, width].map((size, axis) => {
    const sizes = { input: size, kernel: window[axis]!, stride: strides[axis]!, dilation: 1 };
    const around = typeof padding === "string" ? padding : padding[axis]!;
    if (typeof around !== "string" && around.some((n) => n >= sizes.kernel)) {
      throw new ShapeError(
        `${op}: padding must be smaller than the window, got [${around.join(", ")}] for a window of ${sizes.kernel}`,
      );
    }
    return windowAxis(op, sizes, around);
  }) as [Pool2dParams["y"], Pool2dParams["x"]];
  const params: Pool2dParams = { kind, y, x };
  const output = run(pool2dKernel, [input], { shape: [batch, y.output, x.output, channels], dtype: "f32" }, params);
  return record(output, {
    op,
    inputs: [input],
    saved: kind === "max" ? [input] : [],
    backward: (dy, saved) => [
      () => run(pool2dGradientKernel, [dy, ...saved], { shape: input.shape, dtype: "f32" }, params),
    ],
  });
}
