// What inputs are optimised for. An objective gives one number per image that falls: a cross-entropy, or the negative
// of what is to grow. Those of layers, neurons and channels are of feature visualisation (Olah, Mordvintsev, Schubert,
// 2017).
import { add, mul, neg } from "../autograd/ops/elementwise.js";
import { oneHot } from "../autograd/ops/gather.js";
import { mean, sum } from "../autograd/ops/reduce.js";
import { reshape, slice } from "../autograd/ops/transform.js";
import { crossEntropy } from "../nn/losses.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { anyOf, check, instanceOf, integer, listOf, number, text } from "../tensor/options.js";
import { formatShape, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type Objective, objectiveRule } from "./parts.js";

/** How far from 1 the sum of a row of probabilities may lie. */
const SUM_TOLERANCE = 1e-3;

/**
 * Cross-entropy of the model's softmax to given probabilities.
 * @param targets [N, classes], or [classes] for all images; each row not negative with sum 1
 * @throws ShapeError where they do not fit the model and the images, UsageError for rows that are no probabilities
 */
export function targetProbabilities(targets: Float32Array | readonly number[]): Objective {
  check("targetProbabilities", "targets", targets, anyOf(instanceOf(Float32Array, "a Float32Array"), listOf(number())));
  return {
    name: "target probabilities",
    prepare({ model, count, constant }) {
      const classes = sizeOf(model.outputShape);
      if (targets.length !== classes && targets.length !== count * classes) {
        throw new ShapeError(
          `targetProbabilities: needs [${classes}] values, or [${count}, ${classes}] for ${count} images, got ${targets.length}; the model gives ${formatShape(model.outputShape)}`,
        );
      }
      const rows = new Float32Array(count * classes);
      for (let at = 0; at < rows.length; at += targets.length) rows.set(targets, at);
      for (let row = 0; row < count; row++) {
        const values = rows.subarray(row * classes, (row + 1) * classes);
        const total = values.reduce((a, b) => a + b, 0);
        if (values.every((value) => value >= 0) && Math.abs(total - 1) <= SUM_TOLERANCE) continue;
        throw new UsageError(
          `targetProbabilities: row ${row} must be numbers from 0 with sum 1, got ${Array.from(values).join(", ")}`,
        );
      }
      const { finalActivation } = model;
      if (finalActivation !== "softmax" && finalActivation !== "linear") {
        throw new UsageError(
          `targetProbabilities: needs a model that ends in softmax or in logits, "${model.name}" ends in ${finalActivation}`,
        );
      }
      const target = constant(rows, [count, classes]);
      return (seen) => crossEntropy.perSample(seen.logits(), target);
    },
  };
}

/**
 * The logit of a class grows.
 * @param index of the class, or one for each image, [N]
 * @throws UsageError for a class that the model has not
 */
export function logit(index: number | Int32Array | readonly number[]): Objective {
  const rule = integer({ from: 0 });
  check("logit", "index", index, anyOf(rule, listOf(rule), instanceOf(Int32Array, "an Int32Array")));
  return {
    name: `logit ${typeof index === "number" ? index : Array.from(index).join(", ")}`,
    prepare({ model, count, constant }) {
      const classes = sizeOf(model.outputShape);
      const indices = typeof index === "number" ? new Int32Array(count).fill(index) : Int32Array.from(index);
      if (indices.length !== count) {
        throw new ShapeError(`logit: needs one class for each of ${count} images, got ${indices.length}`);
      }
      const wrong = indices.find((each) => each < 0 || each >= classes);
      if (wrong !== undefined) {
        throw new UsageError(`logit: a class must be from 0 to ${classes - 1}, got ${wrong}`);
      }
      const chosen = constant(indices, [count]);
      return (seen) => neg(sum(mul(reshape(seen.logits(), [count, classes]), oneHot(chosen, classes)), { axes: 1 }));
    },
  };
}

/**
 * The mean of a channel, the last axis of a layer's output, grows.
 * @throws UsageError for a layer or a channel that there is not
 */
export function channel(layer: string, index: number): Objective {
  check("channel", "layer", layer, text);
  check("channel", "index", index, integer({ from: 0 }));
  return {
    name: `channel ${index} of ${layer}`,
    prepare: () => (seen) => {
      const output = seen.layer(layer);
      const channels = output.shape.at(-1)!;
      if (index >= channels) {
        throw new UsageError(`channel: "${layer}" has channels 0 to ${channels - 1}, got ${index}`);
      }
      return neg(meanOfBox(output, [...output.shape.slice(1, -1).map(() => "all" as const), index]));
    },
  };
}

/**
 * One value of a layer's output grows.
 * @param position in the output of one image: [row, column, channel], or [unit]; by default the channel at the middle
 * row and column where one number is given for a layer of images
 * @throws UsageError for a layer or a position that there is not
 */
export function neuron(layer: string, position: number | readonly number[]): Objective {
  check("neuron", "layer", layer, text);
  check("neuron", "position", position, anyOf(integer({ from: 0 }), listOf(integer({ from: 0 }))));
  return {
    name: `neuron ${position} of ${layer}`,
    prepare: () => (seen) => {
      const output = seen.layer(layer);
      const shape = output.shape.slice(1);
      const middle = shape.slice(0, -1).map((size) => Math.floor(size / 2));
      const place = typeof position === "number" ? [...middle, position] : position;
      if (place.length !== shape.length || place.some((at, axis) => at >= shape[axis]!)) {
        throw new UsageError(
          `neuron: "${layer}" gives ${formatShape(shape)}, which has no position ${place.join(", ")}`,
        );
      }
      return neg(meanOfBox(output, place));
    },
  };
}

/** Mean over a part of each image of x [N, ...]: one index or all of them on each axis; [N]. */
function meanOfBox(x: Tensor, place: readonly (number | "all")[]): Tensor {
  const origin = [0, ...place.map((at) => (at === "all" ? 0 : at))];
  const size = [x.shape[0]!, ...place.map((at, axis) => (at === "all" ? x.shape[axis + 1]! : 1))];
  return mean(slice(x, origin, size), { axes: x.shape.map((_, axis) => axis).slice(1) });
}

/** The sum of objectives. */
export function sumOf(...objectives: readonly Objective[]): Objective {
  check("sumOf", "objectives", objectives, listOf(objectiveRule, { from: 1 }));
  return {
    name: objectives.map(({ name }) => name).join(" + "),
    prepare(context) {
      const parts = objectives.map((objective) => objective.prepare(context));
      return (seen) => parts.map((part) => part(seen)).reduce((a, b) => add(a, b));
    },
  };
}

/** An objective times a factor; a negative one turns it around. */
export function scaled(objective: Objective, factor: number): Objective {
  check("scaled", "objective", objective, objectiveRule);
  check("scaled", "factor", factor, number());
  return {
    name: `${factor} (${objective.name})`,
    prepare(context) {
      const part = objective.prepare(context);
      return (seen) => mul(part(seen), factor);
    },
  };
}
