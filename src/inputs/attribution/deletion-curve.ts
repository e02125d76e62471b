// Deletion curves (Petsiuk, Das, Saenko, BMVC 2018): whether an attribution names what counts. Values are taken away,
// the ones that it counts most first; the sooner the answer falls, the better it knows.
import { where } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, instanceOf, integer, type Rules } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import type { Model } from "../model.js";
import {
  type AttributionOptions,
  attributionRules,
  type Baseline,
  baselineBatch,
  baselineRule,
  baselinesOf,
  explain,
  inputsOf,
} from "./attribution.js";

/** Options of {@link deletionCurve}. */
export interface DeletionCurveOptions extends AttributionOptions {
  /** What an attribution gave: [N, ...inputShape], or [N, height, width, 1] for all channels of a pixel. */
  readonly attribution: Float32Array;
  /** Points of the curve besides its beginning; default 20. */
  readonly steps?: number;
  /** What takes a value's place: one value, one input [...inputShape], or one for each; default 0. */
  readonly baseline?: Baseline;
  /** Default "outputs", here: probabilities where the model ends in softmax. */
  readonly of?: "logits" | "outputs";
}

const deletionCurveRules: Rules<DeletionCurveOptions> = {
  ...attributionRules,
  attribution: instanceOf(Float32Array, "a Float32Array"),
  steps: integer({ from: 1, to: 10_000 }),
  baseline: baselineRule,
};

/** How answers fall. */
export interface DeletionCurve {
  /** Share of the values that are gone, [steps + 1], from 0 to 1. */
  readonly deleted: Float32Array;
  /** The answer then, [N, steps + 1]. */
  readonly answers: Float32Array;
  /** Under each curve, by trapezoids, [N]: small where the attribution knows what counts. */
  readonly areas: Float32Array;
}

/**
 * The answer while the values of highest attribution are replaced. Values of a pixel [..., C] go together, by the sum
 * of their attributions; of equal ones, the first goes first.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range, ShapeError for inputs, attributions or baselines that do not fit
 * @example
 * const { values } = await attributions.occlusion(model, image, { target: 3, slidingWindowShape: [4, 4, 1] });
 * const { areas } = await attributions.deletionCurve(model, image, { target: 3, attribution: values });
 */
export async function deletionCurve(
  model: Model,
  inputs: InputData,
  options: DeletionCurveOptions,
): Promise<DeletionCurve> {
  const op = "deletionCurve";
  const given = checkOptions(op, options, deletionCurveRules, ["attribution"]);
  const { attribution, steps = 20, baseline = 0, of = "outputs", ...rest } = given;
  const { count } = inputsOf(op, model, inputs);
  const baselines = baselinesOf(op, model, count, baseline);
  const { inputShape } = model;
  const size = sizeOf(inputShape);
  const channels = inputShape.length === 3 ? inputShape[2]! : 1;
  const places = size / channels;
  const depth = attribution.length / (count * places);
  if (depth !== channels && depth !== 1) {
    throw new ShapeError(
      `${op}: an attribution must have ${count * size} values [N, ${inputShape.join(", ")}], or ${count * places} for whole pixels, got ${attribution.length}`,
    );
  }
  // The place of each pixel in the order in which they go.
  const ranks = new Int32Array(count * places);
  for (let image = 0; image < count; image++) {
    const first = image * places;
    const counts = Float64Array.from({ length: places }, (_, at) => {
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += attribution[(first + at) * depth + k]!;
      return sum;
    });
    const order = Array.from(counts.keys()).sort((a, b) => counts[b]! - counts[a]! || a - b);
    for (const [rank, at] of order.entries()) ranks[first + at] = rank;
  }
  const deleted = Float32Array.from({ length: steps + 1 }, (_, step) => Math.round((step * places) / steps) / places);
  const answers = new Float32Array(count * (steps + 1));
  await explain(
    op,
    model,
    inputs,
    { ...rest, of },
    {
      rounds: steps + 1,
      attribute: ({ answers }, x, [over, gone]) => [answers(where(gone!, over!, x))],
      more(start, end, round) {
        const most = Math.round((round * places) / steps);
        const gone = new Uint32Array((end - start) * size);
        for (const at of gone.keys()) gone[at] = ranks[start * places + Math.floor(at / channels)]! < most ? 1 : 0;
        return [baselineBatch(model, baselines, start, end), { values: gone, shape: [end - start, ...inputShape] }];
      },
      take([found], { start, round }) {
        for (const [image, answer] of found!.entries()) answers[(start + image) * (steps + 1) + round] = answer;
      },
    },
  );
  const areas = Float32Array.from({ length: count }, (_, image) => {
    const curve = answers.subarray(image * (steps + 1), (image + 1) * (steps + 1));
    let area = 0;
    for (let i = 0; i < steps; i++) area += ((curve[i]! + curve[i + 1]!) / 2) * (deleted[i + 1]! - deleted[i]!);
    return area;
  });
  return { deleted, answers, areas };
}
