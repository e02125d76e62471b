// Differentiable softmax, logSoftmax and softmax cross-entropy.
import {
  type CrossEntropyParams,
  type SoftmaxParams,
  softmaxCrossEntropyKernel,
  softmaxGradientKernel,
  softmaxKernel,
} from "../../kernels/softmax.js";
import { type AxesOptions, axisOf } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, oneOf, type Rules } from "../../tensor/options.js";
import { formatShape, sameShape } from "../../tensor/shape.js";
import { requireTensor, run, runMany, type Tensor } from "../../tensor/tensor.js";
import { isRecording, isSeed, record, renamed } from "../tape.js";
import { exp, mul, sub } from "./elementwise.js";
import { oneHot } from "./gather.js";
import { sum } from "./reduce.js";

/** exp(x) / sum(exp(x)) along an axis, by default the last. */
export function softmax(x: Tensor, axis: number | AxesOptions<number> = -1): Tensor {
  return along("softmax", x, axis, false);
}

/** log(softmax(x)) along an axis, by default the last; right where softmax underflows. */
export function logSoftmax(x: Tensor, axis: number | AxesOptions<number> = -1): Tensor {
  return along("logSoftmax", x, axis, true);
}

function along(op: string, x: Tensor, given: number | AxesOptions<number>, log: boolean): Tensor {
  requireTensor(op, "x", x);
  if (x.dtype !== "f32" || x.rank === 0) {
    throw new ShapeError(`${op}: needs an f32 tensor of rank 1 or more, got ${x.dtype} ${formatShape(x.shape)}`);
  }
  const params: SoftmaxParams = { axis: axisOf(op, given, x.rank, -1), log };
  const output = run(softmaxKernel, [x], x, params);
  return record(output, {
    op,
    inputs: [x],
    saved: [output],
    backward: (dy, [y]) => [() => run(softmaxGradientKernel, [dy, y!], y!, params)],
    derivable: (dy, [y]) => {
      const total = (terms: Tensor) => sum(terms, { axis: params.axis, keepDims: true });
      return [() => (log ? sub(dy, mul(exp(y!), total(dy))) : mul(y!, sub(dy, total(mul(dy, y!)))))];
    },
  });
}

export interface CrossEntropyOptions {
  /** "none" (default): a loss per sample, [N]; "mean" or "sum": theirs, a scalar. */
  readonly reduction?: CrossEntropyParams["reduction"];
}

const crossEntropyRules: Rules<CrossEntropyOptions> = { reduction: oneOf("none", "mean", "sum") };

/**
 * Cross-entropy of softmax(logits) with the targets, per sample or as the batch's mean or sum. Where logits need a
 * gradient, it is computed along with the loss.
 * @param logits f32 [N, C]
 * @param targets class ids, i32 or u32 [N] (an id outside [0, C) gives NaN), or f32 [N, C]: a distribution per sample
 */
export function softmaxCrossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  requireTensor("softmaxCrossEntropy", "logits", logits);
  requireTensor("softmaxCrossEntropy", "targets", targets);
  const { reduction = "none" } = checkOptions("softmaxCrossEntropy", options, crossEntropyRules);
  const soft = targets.dtype === "f32";
  const expected = soft ? logits.shape : logits.shape.slice(0, 1);
  if (logits.rank !== 2 || logits.dtype !== "f32" || !sameShape(targets.shape, expected)) {
    throw new ShapeError(
      `softmaxCrossEntropy: needs f32 logits [N, C] and targets i32 or u32 [N] or f32 [N, C], got ${logits.dtype} ${formatShape(logits.shape)} and ${targets.dtype} ${formatShape(targets.shape)}; class ids must be integers, distributions floats`,
    );
  }
  const batch = logits.shape[0]!;
  if (reduction === "mean" && batch === 0) {
    throw new ShapeError(`softmaxCrossEntropy: the mean needs at least one sample, got ${formatShape(logits.shape)}`);
  }
  const whole = reduction !== "none";
  const scale = reduction === "mean" ? 1 / batch : 1;
  const column = whole ? [1, 1] : [batch, 1];
  const specs = [{ shape: whole ? [] : [batch], dtype: "f32" as const }];
  if (isRecording() && logits.tracked) specs.push({ shape: [...logits.shape], dtype: "f32" });
  const [loss, gradient] = runMany(softmaxCrossEntropyKernel, [logits, targets], specs, { reduction }) as [
    Tensor,
    Tensor | undefined,
  ];
  record(loss, {
    op: "softmaxCrossEntropy",
    inputs: [logits, targets],
    saved: [logits, targets, ...(gradient === undefined ? [] : [gradient])],
    backward: (dy, [x, , g]) => [
      () => (isSeed(dy) ? g!.alias() : mul(g!, dy.alias(column))),
      soft ? () => mul(logSoftmax(x!), mul(dy, -scale).alias(column)) : null,
    ],
    derivable: (dy, [x, t]) => {
      const each = (factor: number) => renamed("softmaxCrossEntropy", factor === 1 ? dy : mul(dy, factor), column);
      return [
        () => {
          const slope = soft
            ? sub(mul(softmax(x!), sum(t!, { axis: 1, keepDims: true })), t!)
            : sub(softmax(x!), oneHot(t!, x!.shape[1]!));
          return mul(slope, each(scale));
        },
        soft ? () => mul(logSoftmax(x!), each(-scale)) : null,
      ];
    },
  });
  gradient?.dispose();
  return loss;
}
