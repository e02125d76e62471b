// Grad-CAM (Selvaraju et al., ICCV 2017): where in a layer's output the answer comes from. Each channel counts by the
// mean of the answer's gradient over it.

import { grad } from "../../autograd/differentiate.js";
import { mul, relu } from "../../autograd/ops/elementwise.js";
import { mean, sum } from "../../autograd/ops/reduce.js";
import { requireModel } from "../../nn/model.js";
import type { InputData } from "../../nn/samples.js";
import { boolean, checkOptions, type Rules, text } from "../../tensor/options.js";
import type { Tensor } from "../../tensor/tensor.js";
import { GraphValues, valueOfLayer } from "../graph.js";
import type { Model } from "../model.js";
import { type Attribution, type AttributionOptions, attributed, attributionRules } from "./attribution.js";

/** Options of {@link gradCam}. */
export interface GradCamOptions extends AttributionOptions {
  /** Name of the layer whose output [..., C] is looked at, such as the last convolution's. */
  readonly layer: string;
  /** Whether what speaks against the answer becomes 0; default false, as Captum's. */
  readonly relu?: boolean;
}

const gradCamRules: Rules<GradCamOptions> = { ...attributionRules, layer: text, relu: boolean };

/**
 * Sum over channels c of A_c mean(d answer / d A_c), for a layer's output A [N, ..., C]: values [N, ..., 1].
 * `attributions.interpolate` enlarges them to the inputs' size.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range and a layer that is not there
 * @throws ShapeError for inputs that do not fit the model
 * @throws KilogradError `NO_GRADIENT` for a layer that the answer does not go through
 * @example const { values } = await attributions.gradCam(model, image, { target: 3, layer: "conv2d_1" });
 */
export async function gradCam(model: Model, inputs: InputData, options: GradCamOptions): Promise<Attribution> {
  const op = "gradCam";
  const { layer, relu: positive = false, ...rest } = checkOptions(op, options, gradCamRules, ["layer"]);
  requireModel(op, model);
  const at = valueOfLayer(op, model, layer);
  const shape = model.calls[at - model.inputs.length]!.shape;
  const { parts } = await attributed(op, model, inputs, rest, ({ answers, chosen, value, bare }, x) => {
    const maps = new GraphValues(model, [[0, x]]).of(at);
    // From the layer on; what goes past it is computed again, and is a constant.
    const onwards = (from: Tensor) =>
      sum(
        chosen(
          new GraphValues(
            model,
            [
              [0, x],
              [at, from],
            ],
            { bare },
          ).of(value),
        ),
      );
    const gradient = grad(onwards)(maps);
    const places = maps.shape.map((_, axis) => axis).slice(1, -1);
    const weights = places.length === 0 ? gradient : mean(gradient, { axes: places, keepDims: true });
    const found = sum(mul(maps, weights), { axes: [-1], keepDims: true });
    return [positive ? relu(found) : found, answers(x)];
  });
  return { values: parts[0]!, shape: [parts[1]!.length, ...shape.slice(0, -1), 1], outputs: parts[1]! };
}
