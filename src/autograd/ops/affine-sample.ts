// Images rotated, enlarged or sheared.
import { affineSampleGradientKernel, affineSampleKernel } from "../../kernels/affine-sample.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import type { Kernel } from "../../tensor/kernel.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";

/**
 * Images [N, H, W, C] sampled bilinearly at (row, column) = (a r + b s + c, d r + e s + f) for each row r and column s,
 * counted from the middle; beyond the edges is 0. [1, 0, 0, 0, 1, 0] leaves them as they are.
 * @param matrix f32 [6]: a to f; it has no gradient
 * @throws ShapeError for other shapes, UsageError for a matrix that wants a gradient
 */
export function affineSample(x: Tensor, matrix: Tensor): Tensor {
  requireTensor("affineSample", "x", x);
  requireTensor("affineSample", "matrix", matrix);
  if (x.rank !== 4 || x.dtype !== "f32") {
    throw new ShapeError(`affineSample: needs f32 images [N, H, W, C], got ${x.dtype} ${formatShape(x.shape)}`);
  }
  if (matrix.size !== 6 || matrix.dtype !== "f32") {
    throw new ShapeError(`affineSample: matrix must be f32 [6], got ${matrix.dtype} ${formatShape(matrix.shape)}`);
  }
  if (matrix.tracked) throw new UsageError("affineSample: the matrix has no gradient here; detach() it");
  return sampled(x, matrix, false);
}

/** The map, or its transpose: the gradient of either is the other. */
function sampled(x: Tensor, matrix: Tensor, transposed: boolean): Tensor {
  const kernel: Kernel<Readonly<Record<never, never>>> = transposed ? affineSampleGradientKernel : affineSampleKernel;
  return record(run(kernel, [x, matrix], x, {}), {
    op: "affineSample",
    inputs: [x],
    saved: [matrix],
    derivable: true,
    backward: (dy, [matrix]) => [() => sampled(dy, matrix!, !transposed)],
  });
}
