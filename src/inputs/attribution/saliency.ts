// Saliency (Simonyan, Vedaldi, Zisserman, 2013): the gradient of the answer.
import { abs } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { boolean, checkOptions, type Rules } from "../../tensor/options.js";
import type { Model } from "../model.js";
import { type Attribution, type AttributionOptions, attributed, attributionRules } from "./attribution.js";

/** Options of {@link saliency}. */
export interface SaliencyOptions extends AttributionOptions {
  /** Whether the gradient's magnitude is given, without its sign; default true. */
  readonly absolute?: boolean;
}

const saliencyRules: Rules<SaliencyOptions> = { ...attributionRules, absolute: boolean };

/**
 * |d answer / d x|: how much the answer changes with each value, to first order.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs that do not fit the model
 * @example const { values } = await attributions.saliency(model, image, { target: 3 });
 */
export async function saliency(model: Model, inputs: InputData, options: SaliencyOptions = {}): Promise<Attribution> {
  const { absolute = true, ...rest } = checkOptions("saliency", options, saliencyRules);
  const { shape, parts } = await attributed("saliency", model, inputs, rest, ({ answers, gradient }, x) => {
    const slope = gradient(x);
    return [absolute ? abs(slope) : slope, answers(x)];
  });
  return { values: parts[0]!, shape, outputs: parts[1]! };
}
