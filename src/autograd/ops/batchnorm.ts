// Differentiable batch normalisation.
import {
  batchNormFrozenGradientKernel,
  batchNormGradientKernel,
  batchNormKernel,
  batchNormStatisticsKernel,
  batchNormSumsKernel,
} from "../../kernels/batchnorm.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, checkOptions, number, type Rules } from "../../tensor/options.js";
import { formatShape, sameShape } from "../../tensor/shape.js";
import { empty, requireTensor, run, runInto, runMany, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { runsAgain } from "../draws.js";
import { record } from "../tape.js";
import { add, mul, reciprocal, sqrt, square, sub } from "./elementwise.js";
import { mean as meanOver, sum as sumOver } from "./reduce.js";

export interface BatchNormOptions {
  /** Scale per channel, [C]; default none. */
  readonly gamma?: Tensor;
  /** Offset per channel, [C]; default none. */
  readonly beta?: Tensor;
  /** Mean per channel over many batches, [C]; read when not training, updated in place when training. */
  readonly runningMean: Tensor;
  /** Biased variance per channel over many batches, [C]; as runningMean. */
  readonly runningVariance: Tensor;
  /** Normalise by the batch's own statistics (true) or by the running ones (false). */
  readonly training: boolean;
  /** Weight of the old running statistics: running = momentum * running + (1 - momentum) * batch. Default 0.99. */
  readonly momentum?: number;
  /** Added to the variance under the root; default 1e-3. */
  readonly epsilon?: number;
}

const rules: Rules<BatchNormOptions> = {
  gamma: tensorRule,
  beta: tensorRule,
  runningMean: tensorRule,
  runningVariance: tensorRule,
  training: boolean,
  momentum: number({ from: 0, to: 1 }),
  epsilon: number({ from: 0 }),
};

/**
 * (x - mean) / sqrt(variance + epsilon) * gamma + beta per channel (last axis), over all other axes. Defaults, and the
 * biased variance in the running statistics, are Keras's.
 * @param x f32 [..., C], rank 2 or more
 */
export function batchNorm(x: Tensor, options: BatchNormOptions): Tensor {
  requireTensor("batchNorm", "x", x);
  const {
    gamma,
    beta,
    runningMean,
    runningVariance,
    training,
    momentum = 0.99,
    epsilon = 1e-3,
  } = checkOptions("batchNorm", options, rules, ["runningMean", "runningVariance", "training"]);
  if (x.dtype !== "f32" || x.rank < 2 || (training && x.size === 0)) {
    throw new ShapeError(
      `batchNorm: needs f32 [..., C] of rank 2 or more${training ? " and not empty" : ""}, got ${x.dtype} ${formatShape(x.shape)}`,
    );
  }
  const channels = x.shape.slice(-1);
  for (const [name, t] of Object.entries({ gamma, beta, runningMean, runningVariance })) {
    if (t === undefined) continue;
    requireTensor("batchNorm", name, t);
    if (t.dtype !== "f32" || !sameShape(t.shape, channels)) {
      throw new ShapeError(
        `batchNorm: ${name} must be f32 ${formatShape(channels)} for x ${formatShape(x.shape)}, got ${t.dtype} ${formatShape(t.shape)}`,
      );
    }
  }
  const [mean, variance] = training
    ? [empty(x.device, channels), empty(x.device, channels)]
    : [runningMean.alias(), runningVariance.alias()];
  if (training) {
    // The running statistics move once, though a function be run again for its gradient.
    const running = runsAgain()
      ? [empty(x.device, channels), empty(x.device, channels)]
      : [runningMean, runningVariance];
    runInto(batchNormStatisticsKernel, [x], [mean, variance, ...running], { momentum });
  }
  const params = { epsilon, gamma: gamma !== undefined };
  const given = [gamma, beta].filter((each) => each !== undefined);
  const y = run(batchNormKernel, [x, mean, variance, ...given], x, { ...params, beta: beta !== undefined });
  /** Those of gamma and beta of the two that there are. */
  const ofGiven = <T>(ofGamma: T, ofBeta: T): T[] => [
    ...(gamma === undefined ? [] : [ofGamma]),
    ...(beta === undefined ? [] : [ofBeta]),
  ];
  record(y, {
    op: "batchNorm",
    inputs: [x, ...given],
    saved: [x, mean, variance, ...(gamma === undefined ? [] : [gamma])],
    backward: (dy, [input, m, v, ...scale]) => {
      let sums: Tensor[] | undefined;
      // Both of [dgamma, dbeta], once, when the first of the gradients asks.
      const sum = (index: 0 | 1): Tensor => {
        sums ??= runMany(batchNormSumsKernel, [dy, input!, m!, v!], [m!, m!], { epsilon });
        return sums[index]!;
      };
      return [
        () =>
          training
            ? run(batchNormGradientKernel, [dy, input!, m!, v!, sum(0), sum(1), ...scale], dy, params)
            : run(batchNormFrozenGradientKernel, [dy, v!, ...scale], dy, params),
        ...ofGiven(
          () => sum(0),
          () => sum(1),
        ),
      ];
    },
    derivable: (dy, [input, m, v, scale]) => {
      // Statistics of the batch depend on x as well.
      const axes = input!.shape.map((_, axis) => axis).slice(0, -1);
      const rows = input!.size / channels[0]!;
      const centred = sub(input!, training ? meanOver(input!, axes) : m!);
      const power = add(training ? meanOver(square(centred), axes) : v!, epsilon);
      const s = reciprocal(sqrt(power));
      const normalized = mul(centred, s);
      const [dgamma, dbeta] = [sumOver(mul(dy, normalized), axes), sumOver(dy, axes)];
      return [
        () => {
          const factor = scale === undefined ? s : mul(scale, s);
          if (!training) return mul(dy, factor);
          return mul(factor, sub(sub(dy, mul(dbeta, 1 / rows)), mul(normalized, mul(dgamma, 1 / rows))));
        },
        ...ofGiven(
          () => dgamma,
          () => dbeta,
        ),
      ];
    },
  });
  mean.dispose();
  variance.dispose();
  return y;
}
