// Layers of several inputs: sums, products, means and maxima element by element, and inputs side by side. Keras's
// names, defaults and shapes.
import { add as addOp, div, maximum as maximumOp, mul } from "../../autograd/ops/elementwise.js";
import { concat, reshape } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, integer, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sameShape } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import { type CallableLayer, commonConfig, defineLayerClass, type LayerOptions, layerRules } from "../layer.js";

/**
 * The shape of what is computed element by element: axes are matched from the last on, and a size of 1 fits any, as in
 * Keras. Shapes are of one sample; the batch axis stands before all of them.
 */
function elementwiseShape(shapes: readonly Shape[]): Shape {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.flatMap((shape) => shape[axis - rank + shape.length] ?? []);
    const size = sizes.find((each) => each !== 1) ?? 1;
    if (sizes.every((each) => each === size || each === 1)) return size;
    throw new ShapeError(`needs inputs of one shape, or with sizes of 1, got ${shapes.map(formatShape).join(", ")}`);
  });
}

/** x with axes of size 1 behind the batch axis, so that all inputs have as many. */
function withRank(x: Tensor, rank: number): Tensor {
  const missing = rank - x.rank;
  return missing === 0 ? x : reshape(x, [x.shape[0]!, ...new Array<number>(missing).fill(1), ...x.shape.slice(1)]);
}

const merging = (className: string, merge: (inputs: readonly Tensor[]) => Tensor) =>
  defineLayerClass({
    className,
    make: (options: LayerOptions) => ({
      config: commonConfig(checkOptions(className, options, layerRules)),
      takesSeveral: true,
      gives: "summaries",
      outputShape: (...shapes) => elementwiseShape(shapes),
      call(_, __, { inputs }) {
        const rank = Math.max(...inputs.map((x) => x.rank));
        return merge(inputs.map((x) => withRank(x, rank)));
      },
    }),
    keras: {},
  });

export const Add = merging("Add", (inputs) => inputs.reduce(addOp));
export const Multiply = merging("Multiply", (inputs) => inputs.reduce(mul));
export const Average = merging("Average", (inputs) => div(inputs.reduce(addOp), inputs.length));
export const Maximum = merging("Maximum", (inputs) => inputs.reduce(maximumOp));

/**
 * Sum of its inputs, element by element.
 * @example
 * const sum = nn.add()([left, right]);
 */
export const add = (options: LayerOptions = {}): CallableLayer => Add.make(options);

/** Product of its inputs, element by element. */
export const multiply = (options: LayerOptions = {}): CallableLayer => Multiply.make(options);

/** Mean of its inputs, element by element. */
export const average = (options: LayerOptions = {}): CallableLayer => Average.make(options);

/** Maximum of its inputs, element by element; NaN where any of them is. */
export const maximum = (options: LayerOptions = {}): CallableLayer => Maximum.make(options);

export interface ConcatenateOptions extends LayerOptions {
  /** Axis of [N, ...shape] along which inputs are put side by side, not that of the batch; default -1, the last. */
  readonly axis?: number;
}

const concatenateRules: Rules<ConcatenateOptions> = { ...layerRules, axis: integer() };

export const Concatenate = defineLayerClass({
  className: "Concatenate",
  make(given: ConcatenateOptions) {
    const options = checkOptions("Concatenate", given, concatenateRules);
    const { axis = -1 } = options;
    return {
      config: { axis, ...commonConfig(options) },
      takesSeveral: true,
      gives: "summaries",
      outputShape: (...shapes) => sideBySide(shapes, axis),
      call: (_, __, { inputs }) => concat(inputs, axis),
    };
  },
  keras: { settings: { axis: "axis" } },
});

/** Its inputs side by side along an axis. */
export const concatenate = (options: ConcatenateOptions = {}): CallableLayer => Concatenate.make(options);

/** The shape of inputs side by side; the axis counts that of the batch, which shapes of a sample do not have. */
function sideBySide(shapes: readonly Shape[], axis: number): Shape {
  const first = shapes[0]!;
  const along = axis < 0 ? axis + first.length : axis - 1;
  if (!(along >= 0 && along < first.length)) {
    throw new ShapeError(
      `needs an axis that inputs ${formatShape(first)} have besides the batch axis 0, from 1 to ${first.length} or -${first.length} to -1, got ${axis}`,
    );
  }
  const others = (shape: Shape) => shape.filter((_, i) => i !== along);
  if (shapes.some((shape) => shape.length !== first.length || !sameShape(others(shape), others(first)))) {
    throw new ShapeError(
      `needs inputs that agree in every axis but ${axis}, got ${shapes.map(formatShape).join(", ")}`,
    );
  }
  return first.map((size, i) => (i === along ? shapes.reduce((sum, shape) => sum + shape[i]!, 0) : size));
}
