// What inputs are optimised for. An objective gives one number per image that falls: a cross-entropy, or the negative
// of what is to grow. Those of layers, neurons and channels are of feature visualisation (Olah, Mordvintsev, Schubert,
// 2017).
import { add, div, maximum, mul, neg, pow, sqrt, square, sub } from "../autograd/ops/elementwise.js";
import { oneHot } from "../autograd/ops/gather.js";
import { matmul } from "../autograd/ops/matmul.js";
import { logSumExp, mean, sum, sumSquares } from "../autograd/ops/reduce.js";
import { concat, reshape, slice } from "../autograd/ops/transform.js";
import { noGrad } from "../autograd/tape.js";
import { crossEntropy } from "../nn/losses.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  check,
  checkOptions,
  instanceOf,
  integer,
  listOf,
  number,
  type Rules,
  text,
} from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sizeOf } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { OUT_OF_REACH } from "./model.js";
import { Activations, type Objective, type ObjectiveContext, objectiveRule } from "./parts.js";

/** How far from 1 the sum of a row of probabilities may lie. */
const SUM_TOLERANCE = 1e-3;

/** What the classes of each image are wanted for: numbers for all classes, or for those of each image. */
type Targets = Float32Array | readonly number[];

function checkTargets(op: string, targets: Targets): void {
  check(op, "targets", targets, anyOf(instanceOf(Float32Array, "a Float32Array"), listOf(number())));
}

/**
 * Target probabilities of `count` images, [count, classes].
 * @throws ShapeError where they do not fit the model and the images, UsageError for rows that are no probabilities
 */
function targetRows(op: string, targets: Targets, { model, count }: ObjectiveContext): Float32Array {
  const classes = sizeOf(model.outputShape);
  if (targets.length !== classes && targets.length !== count * classes) {
    throw new ShapeError(
      `${op}: needs [${classes}] values, or [${count}, ${classes}] for ${count} images, got ${targets.length}; the model gives ${formatShape(model.outputShape)}`,
    );
  }
  const rows = new Float32Array(count * classes);
  for (let at = 0; at < rows.length; at += targets.length) rows.set(targets, at);
  for (let row = 0; row < count; row++) {
    const values = rows.subarray(row * classes, (row + 1) * classes);
    const total = values.reduce((a, b) => a + b, 0);
    if (values.every((value) => value >= 0) && Math.abs(total - 1) <= SUM_TOLERANCE) continue;
    throw new UsageError(`${op}: row ${row} must be numbers from 0 with sum 1, got ${Array.from(values).join(", ")}`);
  }
  const { finalActivation } = model;
  if (finalActivation !== "softmax" && finalActivation !== "linear") {
    throw new UsageError(
      `${op}: needs a model that ends in softmax or in logits, "${model.name}" ends in ${finalActivation}`,
    );
  }
  return rows;
}

/**
 * Cross-entropy of the model's softmax to given probabilities.
 * @param targets [N, classes], or [classes] for all images; each row not negative with sum 1
 * @throws ShapeError where they do not fit the model and the images, UsageError for rows that are no probabilities
 */
export function targetProbabilities(targets: Float32Array | readonly number[]): Objective {
  checkTargets("targetProbabilities", targets);
  return {
    name: "target probabilities",
    prepare(context) {
      const rows = targetRows("targetProbabilities", targets, context);
      const target = context.constant(rows, [context.count, rows.length / context.count]);
      return (seen) => crossEntropy.perSample(seen.logits(), target);
    },
  };
}

/** Options of {@link logOdds}. */
export interface LogOddsOptions {
  /** What the soft maximum of the classes that are not asked for counts; default 1, of which it is the log-odds. */
  readonly rivals?: number;
  /** What a deviation from the shares of several classes counts; default 10. */
  readonly balance?: number;
}

const logOddsRules: Rules<LogOddsOptions> = { rivals: number({ from: 0 }), balance: number({ from: 0 }) };

/**
 * The log-odds of the asked classes grow. They are
 * - the sum of p z over the asked classes, with logits z and shares p,
 * - less `rivals` times logSumExp of the others' logits,
 * - less `balance` times the cross-entropy of the asked classes among each other to their shares p.
 *
 * Unlike a cross-entropy, the objective does not end where the model is sure: evidence for the class still grows.
 * @param targets [N, classes], or [classes] for all images; each row not negative with sum 1
 * @throws ShapeError where they do not fit the model and the images, UsageError for rows that are no probabilities
 */
export function logOdds(targets: Float32Array | readonly number[], options: LogOddsOptions = {}): Objective {
  checkTargets("logOdds", targets);
  const { rivals = 1, balance = 10 } = checkOptions("logOdds", options, logOddsRules);
  return {
    name: "log-odds",
    prepare(context) {
      const { count, constant } = context;
      const rows = targetRows("logOdds", targets, context);
      const classes = rows.length / count;
      const asked = rows.map((share) => (share > 0 ? 1 : 0));
      const shares = constant(rows, [count, classes]);
      const maskOf = (present: 0 | 1) =>
        constant(
          asked.map((is) => (is === present ? 0 : OUT_OF_REACH)),
          [count, classes],
        );
      // Nobody rivals an image that all classes are asked of.
      const factors = Float32Array.from({ length: count }, (_, row) =>
        asked.subarray(row * classes, (row + 1) * classes).includes(0) ? rivals : 0,
      );
      const others = factors.some((factor) => factor > 0) && {
        mask: maskOf(0),
        factor: constant(factors, [count]),
      };
      const several = asked.some((_, at) => rows[at]! > 0 && rows[at]! < 1) && { mask: maskOf(1) };
      const along = { axes: [1] };
      return (seen) => {
        const logits = reshape(seen.logits(), [count, classes]);
        const own = sum(mul(logits, shares), along);
        const parts = [neg(own)];
        if (others) parts.push(mul(logSumExp(sub(logits, others.mask), along), others.factor));
        if (several) parts.push(mul(sub(logSumExp(sub(logits, several.mask), along), own), balance));
        return parts.reduce((a, b) => add(a, b));
      };
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

const values = anyOf(instanceOf(Float32Array, "a Float32Array"), listOf(number()));
const ofEachImage = (x: Tensor) => ({ axes: x.shape.map((_, axis) => axis).slice(1) });

/**
 * The outputs come near to given ones: the sum of squared differences falls. For outputs that are no probabilities.
 * @param targets [N, ...outputShape], or [...outputShape] for all images
 * @throws ShapeError where they do not fit the model and the images
 */
export function outputs(targets: Float32Array | readonly number[]): Objective {
  check("outputs", "targets", targets, values);
  return {
    name: "outputs",
    prepare({ model, count, constant }) {
      const size = sizeOf(model.outputShape);
      if (targets.length !== size && targets.length !== count * size) {
        throw new ShapeError(
          `outputs: needs ${size} values, or ${count * size} for ${count} images, got ${targets.length}; the model gives ${formatShape(model.outputShape)}`,
        );
      }
      const rows = new Float32Array(count * size);
      for (let at = 0; at < rows.length; at += targets.length) rows.set(targets, at);
      const target = constant(rows, [count, ...model.outputShape]);
      return (seen) => {
        const differences = sub(seen.outputs(), target);
        return sumSquares(differences, ofEachImage(differences));
      };
    },
  };
}

/** The mean of a layer's output grows. @throws UsageError for a layer that there is not */
export function layer(name: string): Objective {
  check("layer", "name", name, text);
  return {
    name: `layer ${name}`,
    prepare: () => (seen) => {
      const output = seen.layer(name);
      return neg(mean(output, ofEachImage(output)));
    },
  };
}

/**
 * The mean of the squares of a layer's output grows: whatever is there is amplified (DeepDream: Mordvintsev, Olah,
 * Tyka, 2015).
 * @throws UsageError for a layer that there is not
 */
export function deepDream(name: string): Objective {
  check("deepDream", "name", name, text);
  return {
    name: `DeepDream of ${name}`,
    prepare: () => (seen) => {
      const output = seen.layer(name);
      return neg(mean(square(output), ofEachImage(output)));
    },
  };
}

/** Options of {@link direction}. */
export interface DirectionOptions {
  /**
   * To which power the cosine between the output and the direction counts, too, so that a long output in another
   * direction does not; default 0.
   */
  readonly cosinePower?: number;
}

const directionRules: Rules<DirectionOptions> = { cosinePower: number({ from: 0 }) };

/** What a cosine counts for at least; Lucid's. */
const LEAST_COSINE = 0.1;

/**
 * A layer's output grows in a direction: the mean over places of output . vector cos^power, as in Lucid.
 * @param vector one value for each channel of the layer, the last axis of its output
 * @throws UsageError for a layer that there is not, ShapeError for a vector of another length
 */
export function direction(
  name: string,
  vector: Float32Array | readonly number[],
  options: DirectionOptions = {},
): Objective {
  check("direction", "name", name, text);
  check("direction", "vector", vector, values);
  const { cosinePower = 0 } = checkOptions("direction", options, directionRules);
  return {
    name: `direction of ${name}`,
    prepare({ constant }) {
      const axis = constant(Float32Array.from(vector), [vector.length]);
      const length = Math.hypot(...vector);
      return (seen) => {
        const output = seen.layer(name);
        if (output.shape.at(-1) !== vector.length) {
          throw new ShapeError(
            `direction: "${name}" has ${output.shape.at(-1)} channels, got a vector of ${vector.length}`,
          );
        }
        const last = { axes: [-1] };
        const along = sum(mul(output, axis), last);
        const places = ofEachImage(along);
        if (cosinePower === 0) return neg(meanOver(along, places.axes));
        // Not quite 0, whose root has no slope.
        const lengths = sqrt(add(sumSquares(output, last), 1e-12));
        const cosines = maximum(div(along, mul(lengths, length)), LEAST_COSINE);
        return neg(meanOver(mul(along, pow(cosines, cosinePower)), places.axes));
      };
    },
  };
}

/** The mean over axes, of which there may be none. */
const meanOver = (x: Tensor, axes: readonly number[]) => (axes.length === 0 ? x : mean(x, { axes }));

/**
 * A layer's output becomes that of an image: the mean of squared differences falls (Gatys, Ecker, Bethge, CVPR 2016).
 * @param image [...inputShape]
 * @throws UsageError for a layer that there is not, ShapeError for an image that does not fit the model
 */
export function content(name: string, image: Float32Array): Objective {
  check("content", "name", name, text);
  check("content", "image", image, instanceOf(Float32Array, "a Float32Array"));
  return {
    name: `content of ${name}`,
    prepare(context) {
      const [target] = ofImage("content", context, image, (seen) => [seen.layer(name)]);
      return (seen) => {
        const output = seen.layer(name);
        return mean(square(sub(output, target!)), ofEachImage(output));
      };
    },
  };
}

/**
 * The Gram matrices of layers' outputs become those of an image: F^T F / places for outputs F [places, C]. What falls
 * is the mean of squared differences, over channels and then layers (Gatys, Ecker, Bethge, CVPR 2016).
 * @param names of one or more layers that give [H, W, C]
 * @param image [...inputShape]
 * @throws UsageError for a layer that there is not, ShapeError for an image that does not fit the model
 */
export function style(names: string | readonly string[], image: Float32Array): Objective {
  check("style", "names", names, anyOf(text, listOf(text, { from: 1 })));
  check("style", "image", image, instanceOf(Float32Array, "a Float32Array"));
  const layers = [names].flat();
  return {
    name: `style of ${layers.join(", ")}`,
    prepare(context) {
      const targets = ofImage("style", context, image, (seen) => layers.map((name) => gram(seen.layer(name))));
      return (seen) =>
        mul(
          layers
            .map((name, i) => mean(square(sub(gram(seen.layer(name)), targets[i]!)), { axes: [1, 2] }))
            .reduce((a, b) => add(a, b)),
          1 / layers.length,
        );
    },
  };
}

/** F^T F / places, [N, C, C], for outputs [N, ..., C]. */
function gram(output: Tensor): Tensor {
  const channels = output.shape.at(-1)!;
  const places = sizeOf(output.shape.slice(1, -1));
  const rows = reshape(output, [output.shape[0]!, places, channels]);
  return mul(matmul(rows, rows, { transposeA: true }), 1 / places);
}

/** What the model makes of one image, for all steps. */
function ofImage(
  op: string,
  { model, constant, hold }: ObjectiveContext,
  image: Float32Array,
  look: (seen: Activations) => readonly Tensor[],
): readonly Tensor[] {
  if (image.length !== sizeOf(model.inputShape)) {
    throw new ShapeError(
      `${op}: needs an image ${formatShape(model.inputShape)} of ${sizeOf(model.inputShape)} values, got ${image.length}`,
    );
  }
  const given = constant(image, [1, ...model.inputShape]);
  return noGrad(() => scope(() => look(new Activations(model, given)))).map(hold);
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

/**
 * Several objectives in one run: image i has the i-th. Objectives that stand several times in a row are computed
 * together.
 * @throws ShapeError unless there are as many as images
 * @example
 * const objective = objectives.perImage(objectives.logit(3), objectives.deepDream("conv2d"));
 * const { images } = await optimizeInputs(model, { count: 2, objective });
 */
export function perImage(...objectives: readonly Objective[]): Objective {
  check("perImage", "objectives", objectives, listOf(objectiveRule, { from: 1 }));
  return {
    name: objectives.map(({ name }) => name).join(", "),
    prepare(context) {
      if (objectives.length !== context.count) {
        throw new ShapeError(
          `perImage: needs one objective for each of ${context.count} images, got ${objectives.length}`,
        );
      }
      const begins = objectives.flatMap((each, i) => (each === objectives[i - 1] ? [] : [i]));
      const parts = begins.map((first, k) => {
        const count = (begins[k + 1] ?? objectives.length) - first;
        return { first, count, lossOf: objectives[first]!.prepare({ ...context, count }) };
      });
      return (seen) =>
        concat(
          parts.map(({ first, count, lossOf }) => lossOf(seen.rows(first, count))),
          0,
        );
    },
  };
}
