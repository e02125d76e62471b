// Differentiable batch normalisation.
import {
  activationGradientKernel,
  type FusedActivation,
  fusedActivationRule,
  isLinear,
} from "../../kernels/activation.js";
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
import { throughActivation } from "./elementwise-rows.js";
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
  /** Applied to the result in the same pass; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<BatchNormOptions> = {
  gamma: tensorRule,
  beta: tensorRule,
  runningMean: tensorRule,
  runningVariance: tensorRule,
  training: boolean,
  momentum: number({ from: 0, to: 1 }),
  epsilon: number({ from: 0 }),
  activation: fusedActivationRule,
};

/**
 * activation((x - mean) / sqrt(variance + epsilon) * gamma + beta) per channel (last axis), over all other axes.
 * Defaults, and the biased variance in the running statistics, are Keras's.
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
    activation = "linear",
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
  const moments = training ? [empty(x.device, [2, ...channels])] : [runningMean.alias(), runningVariance.alias()];
  if (training) {
    // The running statistics move once, though a function be run again for its gradient.
    const running = runsAgain()
      ? [empty(x.device, channels), empty(x.device, channels)]
      : [runningMean, runningVariance];
    runInto(batchNormStatisticsKernel, [x], [moments[0]!, ...running], { momentum });
  }
  const linear = isLinear(activation);
  const params = { epsilon, gamma: gamma !== undefined, beta: beta !== undefined, activation };
  const given = [gamma, beta].filter((each) => each !== undefined);
  const y = run(batchNormKernel, [x, ...moments, ...given], x, { ...params, running: !training });
  /** Those of gamma and beta of the two that there are. */
  const ofGiven = <T>(ofGamma: T, ofBeta: T): T[] => [
    ...(gamma === undefined ? [] : [ofGamma]),
    ...(beta === undefined ? [] : [ofBeta]),
  ];
  /** What `saved` has behind x: mean and variance or both in one, gamma and beta where there are any, y. */
  const parts = (saved: readonly Tensor[]) => ({
    statistics: saved.slice(0, moments.length),
    scales: saved.slice(moments.length, moments.length + given.length),
    result: saved[moments.length + given.length],
  });
  record(y, {
    op: "batchNorm",
    inputs: [x, ...given],
    saved: [x, ...moments, ...given, ...(linear ? [] : [y])],
    backward: (dy, [input, ...rest]) => {
      const { statistics, scales, result } = parts(rest);
      // With running statistics, dz is a pass of its own, and beta plays no part.
      const dz = linear || training ? dy : run(activationGradientKernel, [dy, result!], dy, { activation });
      const own = training ? params : { ...params, activation: "linear" as const };
      let sums: Tensor[] | undefined;
      // Both of [dgamma, dbeta], once, when the first of the gradients asks.
      const sum = (index: 0 | 1): Tensor => {
        const spec = { shape: channels, dtype: "f32" } as const;
        sums ??= runMany(batchNormSumsKernel, [dz, input!, ...statistics, ...scales], [spec, spec], {
          ...own,
          running: !training,
        });
        return sums[index]!;
      };
      return [
        () =>
          training
            ? run(batchNormGradientKernel, [dz, input!, ...statistics, sum(0), sum(1), ...scales], dy, params)
            : run(batchNormFrozenGradientKernel, [dz, statistics[1]!, ...(gamma ? [scales[0]!] : [])], dy, params),
        ...ofGiven(
          () => sum(0),
          () => sum(1),
        ),
      ];
    },
    derivable: (dy, [input, ...rest]) => {
      // Statistics of the batch depend on x as well.
      const axes = input!.shape.map((_, axis) => axis).slice(0, -1);
      const rows = input!.size / channels[0]!;
      const { statistics, scales, result } = parts(rest);
      const [m, v] = statistics;
      const scale = gamma && scales[0];
      const dz = throughActivation(activation, dy, result);
      const centred = sub(input!, training ? meanOver(input!, axes) : m!);
      const power = add(training ? meanOver(square(centred), axes) : v!, epsilon);
      const s = reciprocal(sqrt(power));
      const normalized = mul(centred, s);
      const [dgamma, dbeta] = [sumOver(mul(dz, normalized), axes), sumOver(dz, axes)];
      return [
        () => {
          const factor = scale === undefined ? s : mul(scale, s);
          if (!training) return mul(dz, factor);
          return mul(factor, sub(sub(dz, mul(dbeta, 1 / rows)), mul(normalized, mul(dgamma, 1 / rows))));
        },
        ...ofGiven(
          () => dgamma,
          () => dbeta,
        ),
      ];
    },
  });
  for (const each of moments) each.dispose();
  return y;
}
