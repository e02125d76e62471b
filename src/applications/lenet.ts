// LeNet-5 (LeCun et al. 1998) as it is built today: tanh, means of windows, three dense layers; 61,706 parameters.
import type { Architecture } from "../nn/architecture.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { avgPool2d } from "../nn/layers/pooling.js";
import { type ApplicationOptions, applicationRules, between, completed } from "./parts.js";

/**
 * LeNet-5 for digits [28, 28, 1]; 61,706 parameters.
 * @throws UsageError for options that it does not have
 * @example
 * const model = lenet5().build({ device, seed: 1 });
 */
export function lenet5(options: ApplicationOptions = {}): Architecture {
  const published = { name: "lenet5", inputShape: [28, 28, 1], classes: 10 } as const;
  const given = completed("lenet5", options, applicationRules, published);
  return between(
    given,
    (picture) => {
      let x = conv2d({ filters: 6, kernelSize: 5, padding: "same", activation: "tanh", name: "conv1" })(picture);
      x = avgPool2d({ poolSize: 2, name: "pool1" })(x);
      x = conv2d({ filters: 16, kernelSize: 5, activation: "tanh", name: "conv2" })(x);
      return avgPool2d({ poolSize: 2, name: "pool2" })(x);
    },
    (features) => {
      let x = flatten({ name: "flatten" })(features);
      x = dense({ units: 120, activation: "tanh", name: "fc1" })(x);
      x = dense({ units: 84, activation: "tanh", name: "fc2" })(x);
      return dense({ units: given.classes, activation: given.classifierActivation, name: "predictions" })(x);
    },
  );
}
