// Guided backpropagation (Springenberg, Dosovitskiy, Brox, Riedmiller, 2014): the gradient of the answer, of which each
// ReLU passes back only what is positive.

import { grad } from "../../autograd/differentiate.js";
import { sum } from "../../autograd/ops/reduce.js";
import type { InputData } from "../../nn/samples.js";
import { checkOptions } from "../../tensor/options.js";
import type { Tensor } from "../../tensor/tensor.js";
import { GraphValues, guidedRelu } from "../graph.js";
import type { Model } from "../model.js";
import { type Attribution, type AttributionOptions, attributed, attributionRules } from "./attribution.js";

/**
 * d answer / d x, with max(gradient, 0) behind every ReLU of a layer. Other activations keep their derivatives.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs that do not fit the model
 * @example const { values } = await attributions.guidedBackprop(model, image, { target: 3 });
 */
export async function guidedBackprop(
  model: Model,
  inputs: InputData,
  options: AttributionOptions = {},
): Promise<Attribution> {
  const given = checkOptions("guidedBackprop", options, attributionRules);
  const { shape, parts } = await attributed(
    "guidedBackprop",
    model,
    inputs,
    given,
    ({ answers, chosen, value, bare }, x) => {
      const guided = (images: Tensor) =>
        sum(chosen(new GraphValues(model, [[0, images]], { bare, relu: guidedRelu }).of(value)));
      return [grad(guided)(x), answers(x)];
    },
  );
  return { values: parts[0]!, shape, outputs: parts[1]! };
}
