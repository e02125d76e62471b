// small-cnn with one thing changed: capacity, batch normalisation, dropout.
import { type Architecture, architecture } from "../../../nn/architecture.js";
import type { Layer } from "../../../nn/layer.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { activation, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { dropout } from "../../../nn/layers/dropout.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";

/** What is changed in a variant; the first is small-cnn as it is. */
export const variantChanges = ["", "twice the filters and units", "batch normalisation", "dropout 0.5"] as const;
export type VariantChange = (typeof variantChanges)[number];

/** `small-cnn` with a change. */
export function variant(change: VariantChange): Architecture {
  const times = change === "twice the filters and units" ? 2 : 1;
  const conv = (filters: number): Layer[] =>
    change === "batch normalisation"
      ? [conv2d({ filters, kernelSize: 3, useBias: false }), batchNorm({ momentum: 0.9 }), activation("relu")]
      : [conv2d({ filters: times * filters, kernelSize: 3, activation: "relu" })];
  return architecture({ name: "small-cnn", inputShape: [28, 28, 1] }, [
    ...[...conv(24), maxPool2d(2), ...conv(36), maxPool2d(2), ...conv(64), flatten()],
    dense({ units: times * 64, activation: "relu" }),
    ...(change === "dropout 0.5" ? [dropout(0.5)] : []),
    dense({ units: 10, activation: "softmax" }),
  ]);
}
