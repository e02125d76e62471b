// What a loss is. loss.* lists those that there are; a user's own is any function of a prediction and its target.
import { mean } from "../autograd/ops/reduce.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { callable, checkOptions, type Rule, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireResult, requireTensor, type Tensor } from "../tensor/tensor.js";
import type { ActivationName } from "./activations.js";

/**
 * A loss of a batch, made of differentiable operations: a scalar, or one loss per sample, [N], of which the mean is
 * taken. What it is given is what the model gives, [N, ...outputShape], and the targets: class ids i32 [N], or f32. It
 * is part of a step that is recorded and replayed, see `StepPlan`.
 */
export type LossFunction = (prediction: Tensor, target: Tensor) => Tensor;

/** Mean loss of a batch, a scalar; `perSample` gives [N]. */
export interface Loss {
  (prediction: Tensor, target: Tensor): Tensor;
  readonly lossName: string;
  /** One loss per sample, [N]. */
  readonly perSample: LossFunction;
  /** The activation that is part of the loss: a model that ends in it is trained without it, on its logits. */
  readonly includes: ActivationName | undefined;
  /** Whether accuracy means something for what is predicted: classes. */
  readonly classifies: boolean;
}

/** A loss with options; itself it has their defaults. */
export interface LossWithOptions<Options> extends Loss {
  /**
   * The loss with these options.
   * @example await model.fit(train, { loss: loss.crossEntropy.with({ labelSmoothing: 0.1 }), optimizer })
   */
  readonly with: (options: Options) => Loss;
}

export const lossRule: Rule = {
  expected: "a loss, such as loss.crossEntropy, or a function of prediction and target",
  accepts: callable.accepts,
};

const isLoss = (given: LossFunction): given is Loss => "lossName" in given && "perSample" in given;

/** A loss, or a user's function as one, by the function's name. */
export function asLoss(given: LossFunction): Loss {
  if (isLoss(given)) return given;
  const lossName = given.name || "loss";
  /** Of rank 0 or 1. */
  const resultOf: LossFunction = (prediction, target) => {
    const value = scope(() => {
      const result: unknown = given(prediction, target);
      requireResult(lossName, result, "the loss");
      return result;
    });
    const { shape, dtype } = value;
    if (dtype === "f32" && (shape.length === 0 || sameShape(shape, prediction.shape.slice(0, 1)))) return value;
    throw new ShapeError(
      `${lossName}: a loss must be f32, a scalar or one for each of ${prediction.shape[0]} samples, got ${dtype} ${formatShape(shape)}; take mean(loss, axes) over the other axes`,
    );
  };
  const whole: LossFunction = (prediction, target) => {
    return scope(() => {
      const value = resultOf(prediction, target);
      return value.rank === 0 ? value : mean(value);
    });
  };
  const perSample: LossFunction = (prediction, target) => {
    const value = resultOf(prediction, target);
    if (value.rank === 1) return value;
    throw new UsageError(
      `${lossName}: one loss per sample is needed here, [${prediction.shape[0]}], but it gives one for the batch; leave the mean over the samples out`,
    );
  };
  return Object.assign(whole, { lossName, perSample, includes: undefined, classifies: false });
}

/** What a loss is made of. */
interface Definition<Options> {
  readonly includes?: ActivationName;
  readonly classifies: boolean;
  readonly perSample: (prediction: Tensor, target: Tensor, options: Options) => Tensor;
  /** By default the mean of what `perSample` gives. */
  readonly batchMean?: (prediction: Tensor, target: Tensor, options: Options) => Tensor;
}

export function defineLoss(lossName: string, definition: Definition<object>): Loss {
  return lossOf(lossName, definition, {});
}

/** A loss with options, which have defaults. */
export function defineLossWithOptions<Options extends object>(
  lossName: string,
  rules: Rules<Options>,
  definition: Definition<Options>,
): LossWithOptions<Options> {
  return Object.assign(lossOf(lossName, definition, {} as Options), {
    with: (options: Options) => lossOf(lossName, definition, checkOptions(lossName, options, rules)),
  });
}

function lossOf<Options>(lossName: string, definition: Definition<Options>, options: Options): Loss {
  const { includes, classifies, perSample } = definition;
  const { batchMean = (prediction, target) => mean(perSample(prediction, target, options)) } = definition;
  const inScope = (fn: Definition<Options>["perSample"]): LossFunction => {
    return (prediction, target) => {
      requireTensor(lossName, "the prediction", prediction);
      requireTensor(lossName, "the target", target);
      return scope(() => fn(prediction, target, options));
    };
  };
  return Object.assign(inScope(batchMean), { lossName, perSample: inScope(perSample), includes, classifies });
}
