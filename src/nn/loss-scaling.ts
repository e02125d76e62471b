// Dynamic loss scaling for training in mixed precision (Micikevicius et al., ICLR 2018). float16 has no numbers below
// 6e-8, where many gradients are. So the loss's gradient begins at a large scale, which the optimizer divides out
// again. A step whose gradients are not all finite is left out and the scale halved; after many good steps it is
// doubled. All of it happens on the device, so that steps need not be waited for. Defaults are those of PyTorch's
// GradScaler.
import { full, zeros } from "../autograd/ops/create.js";
import { adjustScaleKernel, findNonFiniteKernel } from "../kernels/loss-scaling.js";
import { type Device, deviceRule } from "../tensor/device.js";
import { check, checkOptions, integer, number, type Rules } from "../tensor/options.js";
import { keep } from "../tensor/scope.js";
import { runInto, type Tensor } from "../tensor/tensor.js";
import { type Optimizer, optimizerRule } from "./optimizers.js";

/** All but `interval` are powers of two by default, so that scaling changes no bit of a gradient. */
export interface LossScalingOptions {
  /** From 2^-14 to 2^24; default 65536. */
  readonly initialScale?: number;
  /** Factor after `interval` good steps in a row, above 1; default 2. */
  readonly growth?: number;
  /** Factor after a step that was left out, between 0 and 1; default 1/2. */
  readonly backoff?: number;
  /** Default 2000. */
  readonly interval?: number;
}

/** Limits of the scale: beyond them it is no longer what is wrong. */
const [LEAST, MOST] = [2 ** -14, 2 ** 24];

export const lossScalingRules: Rules<LossScalingOptions> = {
  initialScale: number({ from: LEAST, to: MOST }),
  growth: number({ above: 1 }),
  backoff: number({ above: 0, below: 1 }),
  interval: integer({ from: 1 }),
};

/**
 * Scales the gradients of a training:
 * `backward(loss, { gradient: scaler.scale }); scaler.step(optimizer, model.parameters())`. `fit` does it where the
 * device is of mixed precision.
 */
export class LossScaler {
  /** What backward() begins with, on the device. */
  readonly scale: Tensor;
  /** Finite steps since the scale changed, steps left out so far. */
  private readonly steps: Tensor;
  private readonly nonFinite: Tensor;
  private readonly options: Required<LossScalingOptions>;

  constructor(device: Device, options: LossScalingOptions = {}) {
    check("lossScaling", "device", device, deviceRule);
    const defaults = { initialScale: 2 ** 16, growth: 2, backoff: 0.5, interval: 2000 };
    this.options = { ...defaults, ...checkOptions("lossScaling", options, lossScalingRules) };
    const { initialScale } = this.options;
    this.scale = keep(full(device, [], initialScale));
    this.steps = keep(zeros(device, [2]));
    this.nonFinite = keep(zeros(device, [1]));
  }

  /**
   * A step of the optimizer by gradients that carry the scale, unless one of them is infinite or NaN; then adjusts the
   * scale. Adam's bias corrections count steps that were left out. Where the optimizer gathers gradients over several
   * steps, the scale stays until the last of them. That step is left out if one of the gradients is not finite.
   */
  step(optimizer: Optimizer, parameters: readonly Tensor[], gradients?: readonly Tensor[]): void {
    check("lossScaling", "optimizer", optimizer, optimizerRule);
    optimizer.step(parameters, gradients, {
      inputs: [this.scale, this.nonFinite],
      check: (found) => runInto(findNonFiniteKernel, found, [this.nonFinite], {}),
    });
    const { growth, backoff, interval } = this.options;
    const limits = { growth, backoff, interval, least: LEAST, most: MOST };
    const state = [this.scale, this.steps, this.nonFinite];
    // The optimizer has counted the step.
    const params =
      optimizer.gradientAccumulationSteps > 1 ? () => ({ ...limits, due: optimizer.gathered === 0 }) : limits;
    runInto(adjustScaleKernel, [], state, params);
  }

  /** What a checkpoint must hold for a training with this optimizer to go on to the same bits. */
  state(optimizer: Optimizer): (readonly [string, Tensor])[] {
    check("lossScaling", "optimizer", optimizer, optimizerRule);
    return [
      ["loss_scaling/scale", this.scale],
      ["loss_scaling/steps", this.steps],
      // Between two steps it is 0 but where gradients are gathered.
      ...(optimizer.gradientAccumulationSteps > 1 ? [["loss_scaling/non_finite", this.nonFinite] as const] : []),
    ];
  }

  /** The scale of the next step, and how many steps were left out; waits for the device. */
  async report(): Promise<{ readonly scale: number; readonly skippedSteps: number }> {
    const [scale, steps] = [await this.scale.data(), await this.steps.data()];
    return { scale: scale[0]!, skippedSteps: steps[1]! };
  }

  dispose(): void {
    for (const t of [this.scale, this.steps, this.nonFinite]) t.dispose();
  }
}
