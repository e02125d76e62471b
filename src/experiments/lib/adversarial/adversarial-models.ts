// The classifiers of the experiments on adversarial examples: one for digits, one for CIFAR-10's photographs. The same
// architecture is trained with and without a defence.
import { type Architecture, architecture } from "../../../nn/architecture.js";
import type { Layer } from "../../../nn/layer.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { activation, dropout, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";

const output = () => dense({ units: 10, activation: "softmax" });

/**
 * Two convolutions that take every second pixel: as in Wong, Rice, Kolter (ICLR 2020), quick enough to attack at every
 * step.
 */
export function digitClassifier(): Architecture {
  const conv = (filters: number) => conv2d({ filters, kernelSize: 4, strides: 2, padding: "same", activation: "relu" });
  return architecture({ name: "digit-classifier", inputShape: [28, 28, 1] }, [
    conv(16),
    conv(32),
    flatten(),
    dense({ units: 100, activation: "relu" }),
    output(),
  ]);
}

/** Three normalised convolutions, each followed by pooling. */
export function photographClassifier(filters: readonly number[]): Architecture {
  const block = (count: number): Layer[] => [
    conv2d({ filters: count, kernelSize: 3, padding: "same", useBias: false }),
    batchNorm({ momentum: 0.9 }),
    activation("relu"),
    maxPool2d(2),
  ];
  return architecture({ name: "photograph-classifier", inputShape: [32, 32, 3] }, [
    ...filters.flatMap(block),
    flatten(),
    dropout(0.3),
    output(),
  ]);
}
