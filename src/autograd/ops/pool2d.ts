// Differentiable pooling over windows of images. Both gradients are linear. That of a mean has the mean for its own
// gradient. Where a maximum hands dy to the cell that won, the gradient of that takes it from there.
import { type FusedActivation, fusedActivationRule, isLinear } from "../../kernels/activation.js";
import {
  type Pool2dOptions,
  type Pool2dParams,
  pool2dGradientKernel,
  pool2dKernel,
  pool2dParams,
  pool2dPickKernel,
  pool2dRules,
  winnerSpec,
} from "../../kernels/pool2d.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import { requireTensor, run, runMany, type Tensor } from "../../tensor/tensor.js";
import { isRecording, record } from "../tape.js";
import { throughActivation } from "./elementwise-rows.js";
import { mean } from "./reduce.js";

export type { Pool2dOptions } from "../../kernels/pool2d.js";

export interface MaxPool2dOptions extends Pool2dOptions {
  /** Applied to the maxima, which equals pooling activated values; default "linear". */
  readonly activation?: FusedActivation;
}

const maxRules: Rules<MaxPool2dOptions> = { ...pool2dRules, activation: fusedActivationRule };

/**
 * Maximum over windows: x [N, H, W, C] -> [N, OH, OW, C]. Padding never wins. Where several cells of a window are the
 * maximum, the first in row-major order gets the gradient. A NaN wins its window.
 */
export function maxPool2d(x: Tensor, options: MaxPool2dOptions): Tensor {
  return pool("maxPool2d", "max", x, checkOptions("maxPool2d", options, maxRules, ["poolSize"]));
}

/** Mean over windows: x [N, H, W, C] -> [N, OH, OW, C]. Padded cells are not counted, as in Keras. */
export function avgPool2d(x: Tensor, options: Pool2dOptions): Tensor {
  return pool("avgPool2d", "mean", x, checkOptions("avgPool2d", options, pool2dRules, ["poolSize"]));
}

/** Mean over the whole image: x [N, H, W, C] -> [N, C]. */
export function globalAvgPool2d(x: Tensor): Tensor {
  requireImages("globalAvgPool2d", x);
  return mean(x, { axes: [1, 2] });
}

function requireImages(op: string, x: Tensor): void {
  requireTensor(op, "x", x);
  if (x.rank !== 4 || x.dtype !== "f32") {
    throw new ShapeError(
      `${op}: needs f32 images [N, H, W, C], got ${x.dtype} ${formatShape(x.shape)}; reshape or cast`,
    );
  }
}

function pool(op: string, kind: Pool2dParams["kind"], input: Tensor, options: MaxPool2dOptions): Tensor {
  requireImages(op, input);
  const { activation = "linear" } = options;
  const [batch, height, width, channels] = input.shape as [number, number, number, number];
  const params = pool2dParams(op, kind, [height, width], options, activation);
  const shape = [batch, params.y.output, params.x.output, channels];
  const pooled = { shape, dtype: "f32" as const };
  // Only the gradient of a maximum asks which cell it was.
  const wanted = kind === "max" && isRecording() && input.tracked;
  const outputs = wanted ? [pooled, winnerSpec(shape, params)] : [pooled];
  const [output, winner] = runMany(pool2dKernel, [input], outputs, params) as [Tensor, Tensor?];
  const saved = winner === undefined ? [] : isLinear(activation) ? [winner] : [winner, output];
  record(output, {
    op,
    inputs: [input],
    saved,
    backward: (dy, saved) => [
      () => run(pool2dGradientKernel, [dy, ...saved], { shape: input.shape, dtype: "f32" }, params),
    ],
    derivable: (dy, [winner, y]) => [
      () =>
        winner === undefined
          ? spreadOverWindows(dy, input.shape, params)
          : handToWinners(throughActivation(activation, dy, y), winner, input.shape, params),
    ],
  });
  winner?.dispose();
  return output;
}

/** Means of the windows of x [N, H, W, C]. */
function meansOfWindows(x: Tensor, shape: Shape, params: Pool2dParams): Tensor {
  const before = x.shape;
  return record(run(pool2dKernel, [x], { shape, dtype: "f32" }, params), {
    op: "avgPool2d",
    inputs: [x],
    backward: (dy) => [() => spreadOverWindows(dy, before, params)],
    derivable: true,
  });
}

/** dx [N, H, W, C] of the means of windows, whose gradient dy [N, OH, OW, C] is. */
function spreadOverWindows(dy: Tensor, shape: Shape, params: Pool2dParams): Tensor {
  const windows = dy.shape;
  return record(run(pool2dGradientKernel, [dy], { shape, dtype: "f32" }, params), {
    op: "the gradient of avgPool2d",
    inputs: [dy],
    backward: (g) => [() => meansOfWindows(g, windows, params)],
    derivable: true,
  });
}

/** dx [N, H, W, C]: dz [N, OH, OW, C] added to the cell that won each window, as `winner` has it. */
export function handToWinners(dz: Tensor, winner: Tensor, shape: Shape, given: Pool2dParams): Tensor {
  const params: Pool2dParams = { ...given, activation: "linear" };
  const windows = dz.shape;
  return record(run(pool2dGradientKernel, [dz, winner], { shape, dtype: "f32" }, params), {
    op: "the gradient of maxPool2d",
    inputs: [dz],
    saved: [winner],
    backward: (g, [winner]) => [() => takeFromWinners(g, winner!, windows, params)],
    derivable: true,
  });
}

/** Of each window of x [N, H, W, C] the cell that `winner` names: [N, OH, OW, C]. */
function takeFromWinners(x: Tensor, winner: Tensor, shape: Shape, params: Pool2dParams): Tensor {
  const before = x.shape;
  return record(run(pool2dPickKernel, [x, winner], { shape, dtype: "f32" }, params), {
    op: "maxPool2d",
    inputs: [x],
    saved: [winner],
    backward: (dy, [winner]) => [() => handToWinners(dy, winner!, before, params)],
    derivable: true,
  });
}
