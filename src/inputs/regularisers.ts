// What images are to be besides fit for their objective: small, smooth. Each gives penalties that are added to it.
import { abs, mul, sub } from "../autograd/ops/elementwise.js";
import { sum, sumSquares } from "../autograd/ops/reduce.js";
import { slice } from "../autograd/ops/transform.js";
import { fillKernel } from "../kernels/fill.js";
import { type Schedule, scheduleRule } from "../nn/schedules.js";
import { callable, check, checkOptions, number, type Rules } from "../tensor/options.js";
import { empty, requireTensor, runInto, type Tensor } from "../tensor/tensor.js";
import { blurredImages, LARGEST_SIGMA, requireImages } from "./images.js";
import type { Regularizer } from "./parts.js";

/** Axes of the values of each image. */
function ofEachImage(x: Tensor) {
  requireTensor("a regulariser", "x", x);
  return { axes: x.shape.map((_, axis) => axis).slice(1) };
}

/** factor times the sum of an image's magnitudes: many values become 0. */
export function l1(factor: number): Regularizer {
  check("l1", "factor", factor, number({ from: 0 }));
  return (x) => mul(sum(abs(x), ofEachImage(x)), factor);
}

/** factor times the sum of an image's squared values. */
export function l2(factor: number): Regularizer {
  check("l2", "factor", factor, number({ from: 0 }));
  return (x) => mul(sumSquares(x, ofEachImage(x)), factor);
}

/**
 * factor times the total variation: the sum of |differences| between neighbours, down and across, of images [N, H, W,
 * C].
 * @throws ShapeError for what is no image
 */
export function totalVariation(factor: number): Regularizer {
  check("totalVariation", "factor", factor, number({ from: 0 }));
  return (x) => {
    requireTensor("totalVariation", "x", x);
    requireImages("totalVariation", x.shape);
    return [1, 2].map((axis) => mul(sum(abs(differences(x, axis)), ofEachImage(x)), factor));
  };
}

/** Options of {@link blur}. */
export interface BlurOptions {
  /** Standard deviation of the Gaussian, in pixels; default 1. */
  readonly sigma?: number;
}

const blurRules: Rules<BlurOptions> = { sigma: number({ above: 0, to: LARGEST_SIGMA }) };

/**
 * factor times the sum of squared differences of images [N, H, W, C] and their own blur: high frequencies fall.
 * @throws ShapeError for what is no image
 */
export function blur(factor: number, options: BlurOptions = {}): Regularizer {
  check("blur", "factor", factor, number({ from: 0 }));
  const { sigma = 1 } = checkOptions("blur", options, blurRules);
  return (x) => {
    const each = ofEachImage(x);
    return mul(sumSquares(sub(x, blurredImages("blur", x, sigma)), each), factor);
  };
}

/**
 * A regulariser whose factor changes: its penalties times `schedule.at(step)`.
 * @example regularizers.scheduled(regularizers.l2(1), optim.cosineDecay({ learningRate: 0.01, decaySteps: 200 }))
 */
export function scheduled(regularizer: Regularizer, schedule: Schedule): Regularizer {
  check("scheduled", "regularizer", regularizer, callable);
  check("scheduled", "schedule", schedule, scheduleRule);
  return (x, step = () => 0) => {
    requireTensor("scheduled", "x", x);
    check("scheduled", "step", step, callable);
    const factor = empty(x.device, [1]);
    runInto(fillKernel, [], [factor], () => ({ value: schedule.at(step()) }));
    return [regularizer(x, step)].flat().map((penalty) => mul(penalty, factor));
  };
}

/** x[i + 1] - x[i] along an axis. */
function differences(x: Tensor, axis: number): Tensor {
  const size = x.shape.map((n, a) => (a === axis ? n - 1 : n));
  const origin = x.shape.map(() => 0);
  const next = x.shape.map((_, a) => (a === axis ? 1 : 0));
  return sub(slice(x, next, size), slice(x, origin, size));
}
