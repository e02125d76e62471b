// The classifiers of the experiments on adversarial examples: one for digits, one for CIFAR-10's photographs. The same
// architecture is trained with and without a defence.
import { type Architecture, architecture } from "../../../nn/architecture.js";
import type { Layer } from "../../../nn/layer.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { activation, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { dropout } from "../../../nn/layers/dropout.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";
import { UsageError } from "../../../tensor/errors.js";

const output = () => dense({ units: 10, activation: "softmax" });

/** Filters of its two convolutions and units of the dense layer behind them. */
export interface DigitClassifierOptions {
  readonly filters?: readonly number[];
  readonly units?: number;
}

/**
 * Two convolutions that take every second pixel: as in Wong, Rice, Kolter (ICLR 2020), quick enough to attack at every
 * step.
 */
export function digitClassifier({ filters = [16, 32], units = 100 }: DigitClassifierOptions = {}): Architecture {
  const conv = (count: number) =>
    conv2d({ filters: count, kernelSize: 4, strides: 2, padding: "same", activation: "relu" });
  return architecture({ name: "digit-classifier", inputShape: [28, 28, 1] }, [
    ...filters.map(conv),
    flatten(),
    dense({ units, activation: "relu" }),
    output(),
  ]);
}

export interface PhotographClassifierOptions {
  /** Of the convolutions of each stage. */
  readonly filters: readonly number[];
  /** How many convolutions each stage has. */
  readonly convolutions: readonly number[];
  /** Default 0.3. */
  readonly dropoutRate?: number;
}

/**
 * Stages of normalised convolutions. The last of each is followed by pooling, before it is normalised: of what is left
 * that is a quarter, and the maximum is the same where gamma is positive.
 * @throws UsageError where the stages' numbers do not go together
 */
export function photographClassifier(options: PhotographClassifierOptions): Architecture {
  const { filters, convolutions, dropoutRate = 0.3 } = options;
  if (filters.length !== convolutions.length) {
    throw new UsageError(
      `photographClassifier: convolutions must be one number for each of the ${filters.length} stages that filters names, given ${convolutions.length}`,
    );
  }
  const conv = (count: number, pooled: boolean): Layer[] => [
    conv2d({ filters: count, kernelSize: 3, padding: "same", useBias: false, kernelInitializer: "heNormal" }),
    ...(pooled ? [maxPool2d(2)] : []),
    batchNorm({ momentum: 0.9 }),
    activation("relu"),
  ];
  const stage = (count: number, repeats: number) =>
    Array.from({ length: repeats }, (_, i) => conv(count, i === repeats - 1)).flat();
  return architecture({ name: "photograph-classifier", inputShape: [32, 32, 3] }, [
    ...filters.flatMap((count, i) => stage(count, convolutions[i]!)),
    flatten(),
    dropout(dropoutRate),
    output(),
  ]);
}
