// Input optimisation as experiments and the command line ask for it: target probabilities, and a few numbers.
import type { Model } from "../../../inputs/model.js";
import { logOdds, targetProbabilities } from "../../../inputs/objective.js";
import { type InputSnapshot, type OptimizedInputs, optimizeInputs, settlingRate } from "../../../inputs/optimise.js";
import { blurred, pixels } from "../../../inputs/parametrisation.js";
import { l1, l2, totalVariation } from "../../../inputs/regularisers.js";
import { jitter } from "../../../inputs/transforms.js";
import { adam } from "../../../nn/optimizers.js";
import { sizeOf } from "../../../tensor/shape.js";
import { softmaxRow } from "../training/classify.js";

/** Strengths of the priors on images; each is off at 0. */
export interface Regularizers {
  /** Factor of the sum of pixels. */
  readonly l1: number;
  /** Factor of the sum of squared pixels. */
  readonly l2: number;
  /** Factor of the total variation. */
  readonly totalVariation: number;
  /** Standard deviation in pixels of the Gaussian through which the image is seen. */
  readonly blur: number;
  /** Largest shift in pixels, another one at every step. */
  readonly jitter: number;
}

/** Images for target probabilities, by Adam. */
export interface TargetProblem {
  /** [N, H, W, C] */
  readonly starts: Float32Array;
  /** [N, classes] */
  readonly targets: Float32Array;
  readonly steps: number;
  readonly learningRate: number;
  readonly regularizers: Regularizers;
  /** What falls besides penalties: the cross-entropy to the target (default), or minus its log-odds. */
  readonly objective?: "cross-entropy" | "log-odds";
  readonly seed: number;
  /** Whether pixels are clipped to [0, 1] after every step; default true. */
  readonly clipped?: boolean;
  /** Whether the learning rate falls in the end, see `settlingRate`; default true. Otherwise it is constant. */
  readonly settling?: boolean;
  readonly snapshotSteps?: readonly number[];
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly step: number; readonly loss: number }) => void;
}

/** All images after so many steps. */
export interface TargetSnapshot extends Pick<InputSnapshot, "step" | "images" | "loss"> {
  /** [N, classes] */
  readonly probabilities: Float32Array;
}

/** How the images came about. */
export interface TargetCourse extends Pick<OptimizedInputs, "loss" | "timing"> {
  readonly snapshots: readonly TargetSnapshot[];
  /** Before each step, [steps][N]; absent where it is not the objective. */
  readonly crossEntropy?: readonly Float32Array[];
}

/** Below 1, what speaks for a digit is to grow more than what speaks for others is to go: strokes become whole. */
const RIVALS = 0.35;

/** Finds them. The model ends in softmax, or in logits. */
export async function optimizeForTargets(model: Model, problem: TargetProblem): Promise<TargetCourse> {
  const { targets, learningRate, regularizers, objective: asked, clipped = true, settling = true, ...rest } = problem;
  const odds = asked === "log-odds";
  const values = pixels({ limits: clipped && [0, 1] });
  const { snapshots, objective, loss, timing } = await optimizeInputs(model, {
    ...rest,
    objective: odds ? logOdds(targets, { rivals: RIVALS }) : targetProbabilities(targets),
    parametrization: regularizers.blur > 0 ? blurred(values, { sigma: regularizers.blur }) : values,
    transforms: regularizers.jitter > 0 ? [jitter(regularizers.jitter)] : [],
    regularizers: [
      ...(regularizers.l1 > 0 ? [l1(regularizers.l1)] : []),
      ...(regularizers.l2 > 0 ? [l2(regularizers.l2)] : []),
      ...(regularizers.totalVariation > 0 ? [totalVariation(regularizers.totalVariation)] : []),
    ],
    optimizer: adam({ learningRate: settling ? settlingRate(learningRate, problem.steps) : learningRate }),
  });
  const classes = sizeOf(model.outputShape);
  const isSoftmax = model.finalActivation === "softmax";
  return {
    snapshots: snapshots.map(({ outputs, ...snapshot }) => ({
      ...snapshot,
      probabilities: isSoftmax ? outputs : softmaxOfRows(outputs, classes),
    })),
    ...(!odds && { crossEntropy: objective }),
    ...{ loss, timing },
  };
}

function softmaxOfRows(logits: Float32Array, classes: number): Float32Array {
  const rows = new Float32Array(logits.length);
  for (let at = 0; at < logits.length; at += classes) {
    rows.set(softmaxRow(logits.subarray(at, at + classes)), at);
  }
  return rows;
}
