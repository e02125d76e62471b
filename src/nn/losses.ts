// Losses: functions of a prediction and its target, each as the mean over the batch and per sample. Formulas, clipping
// and reductions are Keras's.
import { clip, div, log, maximum, minimum, mul, neg, softplus, square, sub } from "../autograd/ops/elementwise.js";
import { oneHot } from "../autograd/ops/gather.js";
import { mean, sum } from "../autograd/ops/reduce.js";
import { softmaxCrossEntropy } from "../autograd/ops/softmax.js";
import { ShapeError } from "../tensor/errors.js";
import type { Rule } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";

/** Mean loss of a batch, a scalar; `perSample` gives [N]. */
export interface Loss {
  (prediction: Tensor, target: Tensor): Tensor;
  readonly lossName: string;
  /** One loss per sample, [N]. */
  readonly perSample: (prediction: Tensor, target: Tensor) => Tensor;
  /** The activation that is part of the loss: a model that ends in it is trained without it, on its logits. */
  readonly includes: ActivationName | undefined;
  /** Whether accuracy means something for what is predicted: classes. */
  readonly classifies: boolean;
}

export const lossRule: Rule = {
  expected: "a loss, such as loss.crossEntropy",
  accepts: (value) => typeof value === "function" && "lossName" in value && "perSample" in value,
};

/** Probabilities are kept away from 0 and 1 by Keras's epsilon. */
const EPSILON = 1e-7;

interface LossOptions {
  readonly includes?: ActivationName;
  readonly classifies: boolean;
}

function defineLoss(
  lossName: string,
  perSample: Loss["perSample"],
  { includes, classifies, batchMean }: LossOptions & { readonly batchMean?: Loss["perSample"] },
): Loss {
  const whole = batchMean ?? ((prediction, target) => mean(perSample(prediction, target)));
  const inScope = (fn: Loss["perSample"]): Loss["perSample"] => {
    return (prediction, target) => {
      requireTensor(lossName, "the prediction", prediction);
      requireTensor(lossName, "the target", target);
      return scope(() => fn(prediction, target));
    };
  };
  return Object.assign(inScope(whole), { lossName, perSample: inScope(perSample), includes, classifies });
}

/** The mean of `elements`, which have the prediction's shape. */
function defineElementwiseLoss(
  lossName: string,
  elements: (prediction: Tensor, target: Tensor) => Tensor,
  options: LossOptions,
): Loss {
  const checked: Loss["perSample"] = (prediction, target) => {
    requireSameShape(lossName, prediction, target);
    return elements(prediction, target);
  };
  return defineLoss(lossName, (prediction, target) => sampleMeans(checked(prediction, target)), {
    ...options,
    // Samples have equally many elements.
    batchMean: (prediction, target) => mean(checked(prediction, target)),
  });
}

/** Mean over all axes but the first. */
function sampleMeans(x: Tensor): Tensor {
  return x.rank <= 1 ? x : mean(x, { axes: x.shape.map((_, axis) => axis).slice(1) });
}

function requireSameShape(op: string, prediction: Tensor, target: Tensor): void {
  if (sameShape(prediction.shape, target.shape) && target.dtype === "f32") return;
  throw new ShapeError(
    `${op}: needs an f32 target of the prediction's shape ${formatShape(prediction.shape)}, got ${target.dtype} ${formatShape(target.shape)}`,
  );
}

/**
 * Categorical cross-entropy of logits [N, C] with class ids (i32 [N]) or distributions (f32 [N, C]):
 * -sum(target * logSoftmax(logits)).
 */
export const crossEntropy = defineLoss("crossEntropy", softmaxCrossEntropy, {
  includes: "softmax",
  classifies: true,
  batchMean: (logits, target) => softmaxCrossEntropy(logits, target, { reduction: "mean" }),
});

/**
 * Categorical cross-entropy of probabilities [N, C], rescaled to sum 1 and kept within [1e-7, 1 - 1e-7], with class ids
 * (i32 [N]) or distributions (f32 [N, C]).
 */
export const crossEntropyFromProbabilities = defineLoss(
  "crossEntropyFromProbabilities",
  (probabilities, target) => {
    const soft = target.dtype === "f32" ? target : oneHot(target, probabilities.shape.at(-1)!);
    requireSameShape("crossEntropyFromProbabilities", probabilities, soft);
    const rescaled = div(probabilities, sum(probabilities, { axes: -1, keepDims: true }));
    return neg(sum(mul(soft, log(clip(rescaled, EPSILON, 1 - EPSILON))), { axes: -1 }));
  },
  { classifies: true },
);

/** Binary cross-entropy of probabilities with targets of the same shape, mean over a sample's elements. */
export const binaryCrossEntropy = defineElementwiseLoss(
  "binaryCrossEntropy",
  (probabilities, target) => {
    // Not clip, which lets no gradient through where a probability is NaN: that must not look like one of certainty.
    const p = maximum(minimum(probabilities, 1 - EPSILON), EPSILON);
    return sub(mul(sub(target, 1), log(sub(1, p))), mul(target, log(p)));
  },
  { classifies: false },
);

/** Binary cross-entropy of logits x with targets t: softplus(x) - x t, mean over a sample's elements. */
export const binaryCrossEntropyFromLogits = defineElementwiseLoss(
  "binaryCrossEntropyFromLogits",
  (logits, target) => sub(softplus(logits), mul(logits, target)),
  { includes: "sigmoid", classifies: false },
);

/** Mean of the squared differences of a sample's elements. */
export const meanSquaredError = defineElementwiseLoss(
  "meanSquaredError",
  (prediction, target) => square(sub(prediction, target)),
  { classifies: false },
);
