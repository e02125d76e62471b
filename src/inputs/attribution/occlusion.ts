// Occlusion (Zeiler and Fergus, ECCV 2014): by how much the answer falls where a window of the input is covered.
import { add, mul, sub } from "../../autograd/ops/elementwise.js";
import type { InputData } from "../../nn/samples.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { anyOf, checkOptions, integer, listOf, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf, stridesOf } from "../../tensor/shape.js";
import type { Model } from "../model.js";
import {
  type Attribution,
  type AttributionOptions,
  attributionRules,
  type Baseline,
  baselineBatch,
  baselineRule,
  baselinesOf,
  explain,
  inputsOf,
} from "./attribution.js";

/** Options of {@link occlusion}. */
export interface OcclusionOptions extends AttributionOptions {
  /** Of the window, on every axis of an input: [height, width, channels]. */
  readonly slidingWindowShape: Shape;
  /** From one window to the next: for all axes, or for each; default 1. */
  readonly strides?: number | readonly number[];
  /** What stands under the window: one value, one input [...inputShape], or one for each; default 0. */
  readonly baseline?: Baseline;
}

const extent = integer({ from: 1 });
const occlusionRules: Rules<OcclusionOptions> = {
  ...attributionRules,
  slidingWindowShape: listOf(extent),
  strides: anyOf(extent, listOf(extent)),
  baseline: baselineRule,
};

/**
 * F(x) - F(x under the window), for each value the mean over the windows that cover it. There are as many passes
 * forward as windows.
 * @param inputs [N, ...inputShape] in a row, or a set of images
 * @throws UsageError for options out of range and for strides that leave values uncovered
 * @throws ShapeError for inputs, baselines or windows that do not fit the model
 * @example await attributions.occlusion(model, image, { target: 3, slidingWindowShape: [4, 4, 1], strides: 2 });
 */
export async function occlusion(model: Model, inputs: InputData, options: OcclusionOptions): Promise<Attribution> {
  const op = "occlusion";
  const given = checkOptions(op, options, occlusionRules, ["slidingWindowShape"]);
  const { slidingWindowShape, strides = 1, baseline = 0, ...rest } = given;
  const { count } = inputsOf(op, model, inputs);
  const baselines = baselinesOf(op, model, count, baseline);
  const shape = model.inputShape;
  const windows = windowsOf(shape, slidingWindowShape, strides);
  const size = sizeOf(shape);
  const covered = new Float64Array(size);
  for (const window of windows) for (const at of window) covered[at]!++;
  const sums = new Float64Array(count * size);
  const outputs = new Float32Array(count);
  const mask = new Float32Array(size);
  await explain(op, model, inputs, rest, {
    rounds: windows.length,
    attribute({ answers }, x, [over, under]) {
      const whole = answers(x);
      return [sub(whole, answers(add(mul(x, sub(1, under!)), mul(over!, under!)))), whole];
    },
    more(start, end, round) {
      mask.fill(0);
      for (const at of windows[round]!) mask[at] = 1;
      return [baselineBatch(model, baselines, start, end), { values: mask, shape: [1, ...shape] }];
    },
    take([falls, answers], { start, round }) {
      for (const [image, fall] of falls!.entries()) {
        for (const at of windows[round]!) sums[(start + image) * size + at]! += fall;
      }
      outputs.set(answers!, start);
    },
  });
  const values = Float32Array.from(sums, (sum, i) => sum / covered[i % size]!);
  return { values, shape: [count, ...shape], outputs };
}

/** Which values of an input each window covers. The last windows of an axis are cut off at its end. */
function windowsOf(shape: Shape, window: Shape, strides: number | readonly number[]): number[][] {
  const steps = typeof strides === "number" ? shape.map(() => strides) : strides;
  if (window.length !== shape.length || steps.length !== shape.length || window.some((n, k) => n > shape[k]!)) {
    throw new ShapeError(
      `occlusion: needs a window within ${formatShape(shape)} and a stride for each axis, got ${formatShape(window)} and ${formatShape(steps)}`,
    );
  }
  const wide = steps.findIndex((step, k) => step > window[k]! && window[k]! < shape[k]!);
  if (wide >= 0) {
    throw new UsageError(
      `occlusion: strides must not be longer than the window, or values stay uncovered; got ${steps[wide]} for ${window[wide]} on axis ${wide}`,
    );
  }
  const places = stridesOf(shape);
  let found: number[][] = [[0]];
  for (const [axis, length] of shape.entries()) {
    const begins = Array.from(
      { length: Math.ceil((length - window[axis]!) / steps[axis]!) + 1 },
      (_, k) => k * steps[axis]!,
    );
    found = found.flatMap((before) =>
      begins.map((begin) => {
        const end = Math.min(begin + window[axis]!, length);
        const along = Array.from({ length: end - begin }, (_, k) => (begin + k) * places[axis]!);
        return before.flatMap((at) => along.map((more) => at + more));
      }),
    );
  }
  return found;
}
