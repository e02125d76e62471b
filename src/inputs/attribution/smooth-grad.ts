// SmoothGrad (Smilkov et al., 2017): the mean of saliencies of the input with noise. Captum has it as NoiseTunnel, with
// two kinds more: the mean of squares, and the variance (Adebayo et al., 2018).
import { abs, add } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { boolean, checkOptions, integer, number, oneOf, type Rules } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import type { Model } from "../model.js";
import { normal } from "../random.js";
import { type Attribution, type AttributionOptions, attributionRules, explain, inputsOf } from "./attribution.js";

/** Options of {@link smoothGrad}. */
export interface SmoothGradOptions extends AttributionOptions {
  /** Inputs with noise for each input; default 5, as Captum's. */
  readonly samples?: number;
  /** Of the noise; default 1, as Captum's. */
  readonly standardDeviation?: number;
  /** What of the saliencies: their mean, the mean of their squares, or their variance; default "smoothgrad". */
  readonly kind?: "smoothgrad" | "smoothgrad_sq" | "vargrad";
  /** Whether the gradients' magnitudes are taken, without their signs; default true. */
  readonly absolute?: boolean;
  /** Of the noise; default 0. */
  readonly seed?: number;
}

const smoothGradRules: Rules<SmoothGradOptions> = {
  ...attributionRules,
  samples: integer({ from: 1 }),
  standardDeviation: number({ from: 0 }),
  kind: oneOf("smoothgrad", "smoothgrad_sq", "vargrad"),
  absolute: boolean,
  seed: integer(),
};

/**
 * Mean over samples of |d answer / d x| at x + noise. An input's noise depends on the seed and its place alone.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs that do not fit the model
 * @example const { values } = await attributions.smoothGrad(model, image, { target: 3, standardDeviation: 0.2 });
 */
export async function smoothGrad(
  model: Model,
  inputs: InputData,
  options: SmoothGradOptions = {},
): Promise<Attribution> {
  const op = "smoothGrad";
  const given = checkOptions(op, options, smoothGradRules);
  const { samples = 5, standardDeviation = 1, kind = "smoothgrad", absolute = true, seed = 0, ...rest } = given;
  const { count } = inputsOf(op, model, inputs);
  const size = sizeOf(model.inputShape);
  const [sums, squares] = [new Float64Array(count * size), new Float64Array(count * size)];
  const outputs = new Float32Array(count);
  let [image, sample] = [0, 0];
  await explain(op, model, inputs, rest, {
    rounds: samples,
    attribute({ answers, gradient }, x) {
      const start = () => ({ seed, stream: `smoothGrad/${sample}`, image });
      const slope = gradient(add(x, normal(x, x.shape, start, standardDeviation)));
      return [absolute ? abs(slope) : slope, answers(x)];
    },
    more(start, _end, round) {
      [image, sample] = [start, round];
      return [];
    },
    take([slopes, answers], { start }) {
      for (const [i, slope] of slopes!.entries()) {
        sums[start * size + i]! += slope;
        squares[start * size + i]! += slope * slope;
      }
      outputs.set(answers!, start);
    },
  });
  const values = Float32Array.from(sums, (sum, i) => {
    if (kind === "smoothgrad") return sum / samples;
    return squares[i]! / samples - (kind === "vargrad" ? (sum / samples) ** 2 : 0);
  });
  return { values, shape: [count, ...model.inputShape], outputs };
}
