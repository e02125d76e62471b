// What goes into layers of a kernel and a bias, y = activation(A(x; kernel) + bias): batch normalisation with running
// statistics becomes part of kernel and bias, and an activation of its own and a pooling part of the same operation.
import type { Pool2dOptions } from "../../autograd/ops/pool2d.js";
import type { FusedActivation } from "../../kernels/activation.js";
import type { Padding } from "../../kernels/conv2d/geometry.js";
import { foldBatchNormKernel } from "../../kernels/fold-batch-norm.js";
import { runMany, type Tensor } from "../../tensor/tensor.js";
import { type ActivationName, activate, splitActivation } from "../activations.js";
import type { Fusion, Layer, LayerParts } from "../layer.js";
import { windowsOf } from "./window.js";

type Weights = Readonly<Record<string, Tensor>>;

/** How such a layer computes, with its weights by their names and "kernel" and "bias" as they have come to be. */
export interface Affine {
  call(x: Tensor, weights: Weights, activation: FusedActivation): Tensor;
  /** The same, and the maxima of windows of that. */
  pooled?(x: Tensor, weights: Weights, activation: FusedActivation, pool: Pool2dOptions): Tensor;
  /** Its weight that has the output channels last; default "kernel". */
  readonly kernel?: string;
}

/** What a chain of layers has come to. */
interface Stage {
  readonly layers: number;
  readonly activation: FusedActivation;
  /** Kernel and bias that it computes with. */
  readonly weights: (given: readonly Weights[]) => Weights;
  readonly frozen?: boolean;
}

/** What `layer` does, if it is an activation and nothing else. */
export function activationOf({ className, activation }: Layer): FusedActivation | undefined {
  if (className !== "Activation" && className !== "ReLU") return undefined;
  const { fused, after } = splitActivation(activation);
  return after === "linear" && fused !== "linear" ? fused : undefined;
}

/** Kernel and bias of a layer together with the batch normalisation after it. */
function folded({ kernel, bias, ...others }: Weights, norm: Weights, epsilon: number): Weights {
  const { movingMean, movingVariance } = norm;
  const optional = { gamma: norm["gamma"], beta: norm["beta"], bias };
  const given = (["gamma", "beta", "bias"] as const).filter((name) => optional[name] !== undefined);
  const inputs = [kernel!, movingMean!, movingVariance!, ...given.map((name) => optional[name]!)];
  const [scaled, shift] = runMany(foldBatchNormKernel, inputs, [kernel!, movingMean!], { epsilon, given });
  return { ...others, kernel: scaled!, bias: shift! };
}

function fusionOf(affine: Affine, stage: Stage): Fusion {
  return {
    call: (x, weights) => affine.call(x, stage.weights(weights), stage.activation),
    ...(stage.frozen && { frozen: true }),
    fuse: (next) => fuseNext(affine, stage, next),
  };
}

function fuseNext(affine: Affine, stage: Stage, next: Layer): Fusion | undefined {
  const { layers, activation, weights, frozen } = stage;
  if (activation === "linear") {
    if (next.className === "BatchNormalization") {
      const { epsilon } = next.config as { epsilon?: number };
      return fusionOf(affine, {
        ...{ layers: layers + 1, activation, frozen: true },
        weights: (given) => folded(weights(given), given[layers]!, epsilon!),
      });
    }
    const only = activationOf(next);
    if (only !== undefined) return fusionOf(affine, { ...stage, layers: layers + 1, activation: only });
  }
  if (next.className === "MaxPooling2D" && affine.pooled !== undefined) {
    // The pooling commutes with the fused activations, which increase.
    const pool = windowsOf(next.config);
    return {
      call: (x, given) => affine.pooled!(x, weights(given), activation, pool),
      ...(frozen && { frozen }),
    };
  }
  return undefined;
}

/** Kernel and bias of the layer itself. */
const own = (affine: Affine, weights: Weights): Weights =>
  affine.kernel === undefined ? weights : { ...weights, kernel: weights[affine.kernel]! };

const alone = (affine: Affine, activation: FusedActivation): Fusion =>
  fusionOf(affine, { layers: 1, activation, weights: ([weights]) => own(affine, weights!) });

/**
 * What a layer is that computes so, with its activation behind it. `padded` is how it computes with zeros around its
 * images, where those cost nothing.
 */
export function affineParts(
  affine: Affine,
  activation: ActivationName,
  padded?: (zeros: Padding) => Affine,
): Pick<LayerParts, "activation" | "call" | "fuse" | "padded"> {
  const { fused, after } = splitActivation(activation);
  return {
    activation,
    call(x, weights, { omitActivation }) {
      const y = affine.call(x, own(affine, weights), omitActivation ? "linear" : fused);
      return omitActivation ? y : activate(y, after);
    },
    ...(after === "linear" && {
      fuse: alone(affine, fused).fuse!,
      ...(padded && { padded: (zeros) => alone(padded(zeros), fused) }),
    }),
  };
}
