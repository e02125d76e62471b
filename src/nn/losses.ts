// The losses of `loss`: functions of a prediction and its target, each as the mean over the batch and per sample.
// Formulas, clipping, defaults and reductions are Keras's. Options are given by `with`.

import { zeros } from "../autograd/ops/create.js";
import {
  abs,
  add,
  div,
  equal,
  exp,
  log,
  maximum,
  minimum,
  mul,
  neg,
  notEqual,
  pow,
  relu,
  sigmoid,
  softplus,
  sqrt,
  square,
  sub,
  where,
} from "../autograd/ops/elementwise.js";
import { oneHot } from "../autograd/ops/gather.js";
import { max, mean, sum } from "../autograd/ops/reduce.js";
import { logSoftmax, softmaxCrossEntropy } from "../autograd/ops/softmax.js";
import { detach } from "../autograd/tape.js";
import { ShapeError } from "../tensor/errors.js";
import { anyOf, boolean, listOf, number, type Rules } from "../tensor/options.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { type Tensor, tensor } from "../tensor/tensor.js";
import { defineLoss, defineLossWithOptions, type Loss, type LossFunction, type LossWithOptions } from "./loss.js";

export type { Loss, LossFunction, LossWithOptions };

/** Probabilities are kept away from 0 and 1 by Keras's epsilon. */
const EPSILON = 1e-7;

export interface LabelSmoothingOptions {
  /** Share of the target that is spread evenly over all answers, from 0 to 1; default 0. */
  readonly labelSmoothing?: number;
}

const smoothingRules: Rules<LabelSmoothingOptions> = { labelSmoothing: number({ from: 0, to: 1 }) };

export interface FocalOptions extends LabelSmoothingOptions {
  /** Power of the probability that is lacking, by which easy samples count less, from 0; default 2. */
  readonly gamma?: number;
}

const gammaRule = number({ from: 0 });

export interface CategoricalFocalOptions extends FocalOptions {
  /** Weight of the classes, of all or of each; default 0.25. */
  readonly alpha?: number | readonly number[];
}

export interface BinaryFocalOptions extends FocalOptions {
  /**
   * Weight of targets of 1, from 0 to 1; of those of 0 it is 1 - alpha. Only with `applyClassBalancing`; default 0.25.
   */
  readonly alpha?: number;
  /** Default false. */
  readonly applyClassBalancing?: boolean;
}

const categoricalFocalRules: Rules<CategoricalFocalOptions> = {
  ...smoothingRules,
  gamma: gammaRule,
  alpha: anyOf(number({ from: 0 }), listOf(number({ from: 0 }), { from: 1 })),
};

const binaryFocalRules: Rules<BinaryFocalOptions> = {
  ...smoothingRules,
  gamma: gammaRule,
  alpha: number({ from: 0, to: 1 }),
  applyClassBalancing: boolean,
};

export interface HuberOptions {
  /** Where the loss goes on as a straight line; default 1. */
  readonly delta?: number;
}

function requireSameShape(op: string, prediction: Tensor, target: Tensor): void {
  if (sameShape(prediction.shape, target.shape) && target.dtype === "f32") return;
  throw new ShapeError(
    `${op}: needs an f32 target of the prediction's shape ${formatShape(prediction.shape)}, got ${target.dtype} ${formatShape(target.shape)}`,
  );
}

/** Mean over all axes but the first. */
function sampleMeans(x: Tensor): Tensor {
  return x.rank <= 1 ? x : mean(x, { axes: x.shape.map((_, axis) => axis).slice(1) });
}

/** The mean of elements, which have the prediction's shape, of each sample and of the batch. */
function meanOfElements<Options>(
  lossName: string,
  elements: (prediction: Tensor, target: Tensor, options: Options) => Tensor,
) {
  const checked: typeof elements = (prediction, target, options) => {
    requireSameShape(lossName, prediction, target);
    return elements(prediction, target, options);
  };
  return {
    classifies: false,
    perSample: (...given: Parameters<typeof elements>) => sampleMeans(checked(...given)),
    // Samples have equally many elements.
    batchMean: (...given: Parameters<typeof elements>) => mean(checked(...given)),
  };
}

/**
 * x within [EPSILON, most]. Not clip, which lets no gradient through where x is NaN: that must not look like certainty.
 */
const within = (x: Tensor, most = 1 - EPSILON) => maximum(minimum(x, most), EPSILON);

/** Probabilities, rescaled to sum 1 and kept away from 0 and 1. */
const rescaled = (probabilities: Tensor) =>
  within(div(probabilities, sum(probabilities, { axes: -1, keepDims: true })));

/** Class ids, or distributions, as smoothed distributions of the prediction's shape. */
function distributions(op: string, prediction: Tensor, target: Tensor, labelSmoothing = 0): Tensor {
  const classes = prediction.shape.at(-1);
  if (classes === undefined || classes === 0) {
    throw new ShapeError(`${op}: needs predictions [N, C] of C > 0 classes, got ${formatShape(prediction.shape)}`);
  }
  const soft = target.dtype === "f32" ? target : oneHot(target, classes);
  requireSameShape(op, prediction, soft);
  return labelSmoothing === 0 ? soft : add(mul(soft, 1 - labelSmoothing), labelSmoothing / classes);
}

/** Targets in [0, 1], moved towards 1/2. */
const smoothed = (target: Tensor, labelSmoothing = 0) =>
  labelSmoothing === 0 ? target : add(mul(target, 1 - labelSmoothing), labelSmoothing / 2);

const crossEntropyOf =
  (reduction: "none" | "mean") =>
  (logits: Tensor, target: Tensor, { labelSmoothing = 0 }: LabelSmoothingOptions): Tensor =>
    softmaxCrossEntropy(
      logits,
      labelSmoothing === 0 ? target : distributions("crossEntropy", logits, target, labelSmoothing),
      { reduction },
    );

/**
 * Categorical cross-entropy of logits [N, C] with class ids (i32 [N]) or distributions t (f32 [N, C]):
 * -sum(t * logSoftmax(logits)). Label smoothing s: t (1 - s) + s / C.
 */
export const crossEntropy = defineLossWithOptions("crossEntropy", smoothingRules, {
  includes: "softmax",
  classifies: true,
  perSample: crossEntropyOf("none"),
  batchMean: crossEntropyOf("mean"),
});

/**
 * Categorical cross-entropy of probabilities [N, C], rescaled to sum 1 and kept within [1e-7, 1 - 1e-7], with class ids
 * (i32 [N]) or distributions (f32 [N, C]), smoothed as in `crossEntropy`.
 */
export const crossEntropyFromProbabilities = defineLossWithOptions("crossEntropyFromProbabilities", smoothingRules, {
  classifies: true,
  perSample: (probabilities, target, { labelSmoothing }) => {
    const soft = distributions("crossEntropyFromProbabilities", probabilities, target, labelSmoothing);
    return sampleMeans(neg(sum(mul(soft, log(rescaled(probabilities))), { axes: -1 })));
  },
});

/** -sum(alpha (1 - p)^gamma t log(p)) over the classes; `terms` is t log(p). */
function focal(terms: Tensor, p: Tensor, { gamma = 2, alpha = 0.25 }: CategoricalFocalOptions): Tensor {
  const classes = p.shape.at(-1)!;
  if (typeof alpha !== "number" && alpha.length !== classes) {
    throw new ShapeError(`focal: alpha must be a number or one for each of ${classes} classes, got ${alpha.length}`);
  }
  const weights = mul(pow(sub(1, p), gamma), typeof alpha === "number" ? alpha : tensor(p.device, [...alpha]));
  return sampleMeans(neg(sum(mul(weights, terms), { axes: -1 })));
}

/**
 * Focal loss (Lin et al. 2017) of logits [N, C], with p = softmax(logits): the sum over the classes of
 * -alpha (1 - p)^gamma t log(p), where t is as in `crossEntropy`. Keras's `CategoricalFocalCrossentropy`.
 */
export const focalCrossEntropy = defineLossWithOptions("focalCrossEntropy", categoricalFocalRules, {
  includes: "softmax",
  classifies: true,
  perSample: (logits, target, options) => {
    const t = distributions("focalCrossEntropy", logits, target, options.labelSmoothing);
    const logP = logSoftmax(logits);
    // A class that is not wanted has no part in it, whatever its logit: 0 times -Infinity would be NaN.
    return focal(where(equal(t, 0), zeros(t.device, []), mul(t, logP)), within(exp(logP)), options);
  },
});

/**
 * Focal loss of probabilities [N, C], which are rescaled and kept within limits as in `crossEntropyFromProbabilities`.
 */
export const focalCrossEntropyFromProbabilities = defineLossWithOptions(
  "focalCrossEntropyFromProbabilities",
  categoricalFocalRules,
  {
    classifies: true,
    perSample: (probabilities, target, options) => {
      const t = distributions("focalCrossEntropyFromProbabilities", probabilities, target, options.labelSmoothing);
      const p = rescaled(probabilities);
      return focal(mul(t, log(p)), p, options);
    },
  },
);

/** -t log(p) - (1 - t) log(1 - p), for p within limits. */
const binaryEntropy = (p: Tensor, t: Tensor) => sub(mul(sub(t, 1), log(sub(1, p))), mul(t, log(p)));

/** softplus(x) - x t. */
const binaryEntropyOfLogits = (x: Tensor, t: Tensor) => sub(softplus(x), mul(x, t));

/**
 * Binary cross-entropy of probabilities p with targets t of the same shape: -t log(p) - (1 - t) log(1 - p), mean over a
 * sample's elements. p is kept within [1e-7, 1 - 1e-7]. Label smoothing s: t (1 - s) + s / 2.
 */
export const binaryCrossEntropy = defineLossWithOptions(
  "binaryCrossEntropy",
  smoothingRules,
  meanOfElements<LabelSmoothingOptions>("binaryCrossEntropy", (probabilities, target, { labelSmoothing }) =>
    binaryEntropy(within(probabilities), smoothed(target, labelSmoothing)),
  ),
);

/**
 * Binary cross-entropy of logits x with targets t: softplus(x) - x t, mean over a sample's elements; smoothed as
 * `binaryCrossEntropy`.
 */
export const binaryCrossEntropyFromLogits = defineLossWithOptions("binaryCrossEntropyFromLogits", smoothingRules, {
  ...meanOfElements<LabelSmoothingOptions>("binaryCrossEntropyFromLogits", (logits, target, { labelSmoothing }) =>
    binaryEntropyOfLogits(logits, smoothed(target, labelSmoothing)),
  ),
  includes: "sigmoid",
});

/** (1 - q)^gamma `entropy`, with the probability q = t p + (1 - t)(1 - p) of what is wanted. */
function binaryFocal(entropy: Tensor, p: Tensor, t: Tensor, options: BinaryFocalOptions): Tensor {
  const { gamma = 2, alpha = 0.25, applyClassBalancing = false } = options;
  const lacking = add(mul(t, sub(1, p)), mul(sub(1, t), p));
  const value = mul(pow(lacking, gamma), entropy);
  // t alpha + (1 - t)(1 - alpha)
  return applyClassBalancing ? mul(add(mul(t, 2 * alpha - 1), 1 - alpha), value) : value;
}

/**
 * Binary focal loss of probabilities p with targets t of the same shape: (1 - q)^gamma times the binary cross-entropy,
 * with q = t p + (1 - t)(1 - p); mean over a sample's elements. Keras's `BinaryFocalCrossentropy`.
 */
export const binaryFocalCrossEntropy = defineLossWithOptions(
  "binaryFocalCrossEntropy",
  binaryFocalRules,
  meanOfElements<BinaryFocalOptions>("binaryFocalCrossEntropy", (probabilities, target, options) => {
    const [p, t] = [within(probabilities), smoothed(target, options.labelSmoothing)];
    return binaryFocal(binaryEntropy(p, t), p, t, options);
  }),
);

/** Binary focal loss of logits x: `binaryFocalCrossEntropy` of sigmoid(x). */
export const binaryFocalCrossEntropyFromLogits = defineLossWithOptions(
  "binaryFocalCrossEntropyFromLogits",
  binaryFocalRules,
  {
    ...meanOfElements<BinaryFocalOptions>("binaryFocalCrossEntropyFromLogits", (logits, target, options) => {
      const t = smoothed(target, options.labelSmoothing);
      return binaryFocal(binaryEntropyOfLogits(logits, t), within(sigmoid(logits)), t, options);
    }),
    includes: "sigmoid",
  },
);

/** Mean of the squared differences of a sample's elements. */
export const meanSquaredError = defineLoss(
  "meanSquaredError",
  meanOfElements("meanSquaredError", (prediction, target) => square(sub(prediction, target))),
);

/** Mean of the absolute differences of a sample's elements. */
export const meanAbsoluteError = defineLoss(
  "meanAbsoluteError",
  meanOfElements("meanAbsoluteError", (prediction, target) => abs(sub(prediction, target))),
);

/**
 * Of differences e: e^2 / 2 up to |e| = delta, then delta |e| - delta^2 / 2 (Huber 1964); mean over a sample's
 * elements.
 */
export const huber = defineLossWithOptions<HuberOptions>(
  "huber",
  { delta: number({ above: 0 }) },
  meanOfElements<HuberOptions>("huber", (prediction, target, { delta = 1 }) => {
    const error = abs(sub(prediction, target));
    const inner = minimum(error, delta);
    return add(mul(square(inner), 0.5), mul(sub(error, inner), delta));
  }),
);

/** log(cosh(e)) of differences e, mean over a sample's elements. */
export const logCosh = defineLoss(
  "logCosh",
  meanOfElements("logCosh", (prediction, target) => {
    const error = abs(sub(prediction, target));
    return sub(add(error, softplus(mul(error, -2))), Math.LN2);
  }),
);

/** A loss of distributions along the last axis: `values` gives one of each, whose mean is a sample's. */
const ofDistributions = (lossName: string, values: LossFunction) => ({
  classifies: false,
  perSample: (prediction: Tensor, target: Tensor) => {
    requireSameShape(lossName, prediction, target);
    if (prediction.rank < 2) {
      throw new ShapeError(`${lossName}: needs predictions [N, ..., C], got ${formatShape(prediction.shape)}`);
    }
    return sampleMeans(values(prediction, target));
  },
});

/**
 * Kullback-Leibler divergence of predicted distributions p [N, ..., C] from target distributions t, over the last axis:
 * sum(t log(t / p)), both kept within [1e-7, 1].
 */
export const klDivergence = defineLoss(
  "klDivergence",
  ofDistributions("klDivergence", (prediction, target) => {
    const t = within(target, 1);
    return sum(mul(t, log(div(t, within(prediction, 1)))), { axes: -1 });
  }),
);

/**
 * x / max(|x|, 1e-7) along the last axis. A common factor does not change that, and is taken out: squares overflow.
 */
function normalized(x: Tensor): Tensor {
  const along = { axes: -1, keepDims: true } as const;
  const largest = detach(maximum(max(abs(x), along), EPSILON));
  const scaled = div(x, largest);
  return div(scaled, sqrt(maximum(sum(square(scaled), along), square(div(EPSILON, largest)))));
}

/**
 * Minus the cosine of the angle between prediction and target [N, ..., C], along the last axis: -1 where they point the
 * same way, 0 where one of them is 0.
 */
export const cosineSimilarity = defineLoss(
  "cosineSimilarity",
  ofDistributions("cosineSimilarity", (prediction, target) =>
    neg(sum(mul(normalized(target), normalized(prediction)), { axes: -1 })),
  ),
);

/** Targets of -1 and 1: where a batch has none but 0 and 1, 2 t - 1. */
function signs(target: Tensor): Tensor {
  const binary = mul(target, sub(target, 1));
  // A product of 0 is a 0 or a 1; one that is not, or NaN, makes the batch another.
  const others = sum(notEqual(binary, 0));
  return where(others, target, sub(mul(target, 2), 1));
}

const hingeOf = (prediction: Tensor, target: Tensor) => relu(sub(1, mul(signs(target), prediction)));

/**
 * max(1 - t p, 0) for targets t of -1 and 1, mean over a sample's elements. A batch whose targets are all 0 or 1 is
 * taken as 2 t - 1.
 */
export const hinge = defineLoss("hinge", meanOfElements("hinge", hingeOf));

/** max(1 - t p, 0)^2, as `hinge`. */
export const squaredHinge = defineLoss(
  "squaredHinge",
  meanOfElements("squaredHinge", (prediction, target) => square(hingeOf(prediction, target))),
);

/**
 * max(1 + max((1 - t) p) - sum(t p), 0) over the classes, of scores p [N, C] with class ids (i32 [N]) or targets t of 0
 * and 1 (f32 [N, C]).
 */
export const categoricalHinge = defineLoss("categoricalHinge", {
  classifies: true,
  perSample: (scores, target) => {
    const t = distributions("categoricalHinge", scores, target);
    const wanted = sum(mul(t, scores), { axes: -1 });
    const others = max(mul(sub(1, t), scores), { axes: -1 });
    return sampleMeans(relu(add(sub(others, wanted), 1)));
  },
});
