// Input times gradient (Shrikumar et al., 2016): for a linear model, what each value adds to the answer.
import { mul } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { checkOptions } from "../../tensor/options.js";
import type { Model } from "../model.js";
import { type Attribution, type AttributionOptions, attributed, attributionRules } from "./attribution.js";

/**
 * x · d answer / d x.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs that do not fit the model
 */
export async function inputTimesGradient(
  model: Model,
  inputs: InputData,
  options: AttributionOptions = {},
): Promise<Attribution> {
  const given = checkOptions("inputTimesGradient", options, attributionRules);
  const { shape, parts } = await attributed("inputTimesGradient", model, inputs, given, ({ answers, gradient }, x) => [
    mul(x, gradient(x)),
    answers(x),
  ]);
  return { values: parts[0]!, shape, outputs: parts[1]! };
}
