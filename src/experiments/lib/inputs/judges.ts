// Networks that say whether an image looks like a digit. They are of other architectures than those that images are
// found for, with batch normalisation, and trained on distorted digits. They have no part in finding an image.
import { type Architecture, architecture } from "../../../nn/architecture.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { activation, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { globalAvgPool2d } from "../../../nn/layers/pooling.js";

const normalized = () => [batchNorm({ momentum: 0.9 }), activation("relu")];
const conv = (filters: number, kernelSize = 3, strides = 1) => [
  conv2d({ filters, kernelSize, strides, padding: "same", useBias: false }),
  ...normalized(),
];
const output = () => dense({ units: 10, activation: "softmax" });

/** By name: convolutions that take every second pixel and a mean over the image; dense layers. */
export const judgeArchitectures: Readonly<Record<"judge CNN" | "judge MLP", () => Architecture>> = {
  "judge CNN": () =>
    architecture({ name: "judge-cnn", inputShape: [28, 28, 1] }, [
      ...[...conv(24, 5, 2), ...conv(48), ...conv(64, 3, 2), ...conv(64)],
      ...[globalAvgPool2d(), output()],
    ]),
  "judge MLP": () =>
    architecture({ name: "judge-mlp", inputShape: [28, 28, 1] }, [
      flatten(),
      ...[512, 256].flatMap((units) => [dense({ units, useBias: false }), ...normalized()]),
      output(),
    ]),
};
