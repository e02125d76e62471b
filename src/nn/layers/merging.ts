// Layers of several inputs: sums, products, means and maxima element by element, and inputs side by side. Keras's
// names, defaults and shapes.
import {
  add as addOp,
  div,
  maximum as maximumOp,
  minimum as minimumOp,
  mul,
  sqrt,
  sub,
} from "../../autograd/ops/elementwise.js";
import { matmul } from "../../autograd/ops/matmul.js";
import { sumSquares } from "../../autograd/ops/reduce.js";
import { concat, reshape, transpose } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, integer, oneOrPair } from "../../tensor/options.js";
import { formatShape, type Shape, sameShape, sizeOf } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

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

/** `count`: how many inputs it takes, where that is fixed. */
const merging = (className: string, merge: (inputs: readonly Tensor[]) => Tensor, count?: number) =>
  defineLayer({
    className,
    make: () => ({
      takesSeveral: true,
      gives: "summaries",
      outputShape(...shapes) {
        if (count === undefined || shapes.length === count) return elementwiseShape(shapes);
        throw new ShapeError(`needs ${count} inputs, got ${shapes.length}: ${shapes.map(formatShape).join(", ")}`);
      },
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
export const Minimum = merging("Minimum", (inputs) => inputs.reduce(minimumOp));
export const Subtract = merging("Subtract", (inputs) => inputs.reduce(sub), 2);

/**
 * Sum of its inputs, element by element.
 * @example
 * const sum = nn.add()([left, right]);
 */
export const add = (options: LayerOptions = {}): CallableLayer => Add(options);

/** Product of its inputs, element by element. */
export const multiply = (options: LayerOptions = {}): CallableLayer => Multiply(options);

/** Mean of its inputs, element by element. */
export const average = (options: LayerOptions = {}): CallableLayer => Average(options);

/** Maximum of its inputs, element by element; NaN where any of them is. */
export const maximum = (options: LayerOptions = {}): CallableLayer => Maximum(options);

/** Minimum of its inputs, element by element; NaN where any of them is. */
export const minimum = (options: LayerOptions = {}): CallableLayer => Minimum(options);

/** The first of its two inputs less the second, element by element. */
export const subtract = (options: LayerOptions = {}): CallableLayer => Subtract(options);

export interface ConcatenateOptions extends LayerOptions {
  /** Axis of [N, ...shape] along which inputs are put side by side, not that of the batch; default -1, the last. */
  readonly axis?: number;
}

export const Concatenate = defineLayer<ConcatenateOptions>({
  className: "Concatenate",
  options: { axis: integer() },
  make({ axis = -1 }) {
    return {
      config: { axis },
      takesSeveral: true,
      gives: "summaries",
      outputShape: (...shapes) => sideBySide(shapes, axis),
      call: (_, __, { inputs }) => concat(inputs, axis),
    };
  },
  keras: { settings: { axis: "axis" } },
});

/** Its inputs side by side along an axis. */
export const concatenate = (options: ConcatenateOptions = {}): CallableLayer => Concatenate(options);

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

export interface DotOptions extends LayerOptions {
  /** Axis of both [N, ...shape], or of each, along which products are summed; not that of the batch. */
  readonly axes: number | readonly [number, number];
  /** Whether vectors along the axes have length 1 first, so that the products are cosines; default false. */
  readonly normalize?: boolean;
}

/** Below it the square of a length counts as this, as in Keras. */
const LEAST_SQUARE = 1e-12;

export const Dot = defineLayer<DotOptions>({
  className: "Dot",
  options: { axes: oneOrPair(integer()), normalize: boolean },
  required: ["axes"],
  make({ axes, normalize = false }) {
    const pair = typeof axes === "number" ? ([axes, axes] as const) : axes;
    /** Positions of both axes in shapes of a sample. */
    const placesOf = (shapes: readonly Shape[]) => {
      const places = shapes.map((shape, i) => (pair[i]! < 0 ? pair[i]! + shape.length : pair[i]! - 1));
      const fit = places.every((at, i) => at >= 0 && at < shapes[i]!.length);
      if (shapes.length === 2 && fit && shapes[0]![places[0]!] === shapes[1]![places[1]!]) return places;
      throw new ShapeError(
        `needs two inputs whose axes ${pair.join(" and ")} have one size, got ${shapes.map(formatShape).join(", ")}`,
      );
    };
    const without = (shape: Shape, at: number) => shape.filter((_, i) => i !== at);
    return {
      config: { axes, normalize },
      takesSeveral: true,
      gives: "summaries",
      outputShape(...shapes) {
        const places = placesOf(shapes);
        const left = shapes.flatMap((shape, i) => without(shape, places[i]!));
        return left.length === 0 ? [1] : left;
      },
      call(_, __, { inputs }) {
        const shapes = inputs.map((x) => x.shape.slice(1));
        const places = placesOf(shapes);
        const [a, b] = inputs.map((x, i) => {
          // [N, all other axes, size].
          const at = places[i]! + 1;
          const order = [...x.shape.keys()].filter((axis) => axis !== at);
          const rows = reshape(transpose(x, [...order, at]), [
            x.shape[0]!,
            sizeOf(order.slice(1).map((axis) => x.shape[axis]!)),
            x.shape[at]!,
          ]);
          if (!normalize) return rows;
          return div(rows, sqrt(maximumOp(sumSquares(rows, { axes: [2], keepDims: true }), LEAST_SQUARE)));
        });
        const left = shapes.flatMap((shape, i) => without(shape, places[i]!));
        return reshape(matmul(a!, b!, { transposeB: true }), [a!.shape[0]!, ...(left.length === 0 ? [1] : left)]);
      },
    };
  },
  keras: { settings: { axes: "axes", normalize: "normalize" } },
});

/** Sums of products of its two inputs along an axis of each, sample by sample. */
export const dot = (options: DotOptions): CallableLayer => Dot(options);
