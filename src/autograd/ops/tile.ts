// Repeating tensors, and taking them apart: tile, split, unstack.
import { stridedCopyKernel } from "../../kernels/transform.js";
import { type AxesOptions, axisOf } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyOf, check, integer, listOf } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape, stridesOf } from "../../tensor/shape.js";
import { checkNewTensor, requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { sum } from "./reduce.js";
import { reshape, slice, squeeze } from "./transform.js";

const counts = listOf(integer({ from: 0 }));

/**
 * x repeated along its axes: the result has repeats[axis] * x.shape[axis] elements along each. Of x and the repeats,
 * the shorter is filled up with ones in front, as in NumPy and PyTorch. Any dtype.
 *
 * @example tile(x, [2, 1]) // [3, 4] to [6, 4]
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  requireTensor("tile", "x", x);
  check("tile", "repeats", repeats, counts);
  const rank = Math.max(x.rank, repeats.length);
  const filled = (values: readonly number[]) => [...new Array<number>(rank - values.length).fill(1), ...values];
  const [sizes, times] = [filled(x.shape), filled(repeats)];
  const shape = sizes.map((n, axis) => n * times[axis]!);
  checkNewTensor("tile", x.device, shape, x.dtype);
  // One more axis before each: what repeats walks no elements of x.
  const apart = sizes.flatMap((n, axis) => [times[axis]!, n]);
  const inputStrides = stridesOf(sizes).flatMap((stride) => [0, stride]);
  const copy = { shape: apart, inputOffset: 0, inputStrides, outputOffset: 0, outputStrides: stridesOf(apart) };
  const before = x.shape;
  return record(run(stridedCopyKernel, [x], { shape, dtype: x.dtype }, { copies: [copy] }), {
    op: "tile",
    inputs: [x],
    backward: (dy) => [
      () =>
        reshape(
          sum(
            reshape(dy, apart),
            sizes.map((_, axis) => 2 * axis),
          ),
          before,
        ),
    ],
    derivable: true,
  });
}

const partsRule = anyOf(integer({ from: 1 }), counts);

/**
 * x in parts along an axis, by default the first. They are so many of equal size, as in NumPy and Keras, or parts of
 * the sizes given, as in PyTorch. Any dtype.
 *
 * @example split(x, 3, -1), split(x, [1, 2, 5])
 * @throws ShapeError where the parts are not equal, or the sizes do not add up
 */
export function split(x: Tensor, parts: number | readonly number[], axis: number | AxesOptions<number> = 0): Tensor[] {
  requireTensor("split", "x", x);
  check("split", "parts", parts, partsRule);
  const along = axisOf("split", axis, x.rank, 0);
  const n = x.shape[along]!;
  const sizes = typeof parts === "number" ? new Array<number>(parts).fill(n / parts) : parts;
  if (!sizes.every(Number.isInteger) || sizes.reduce((a, b) => a + b, 0) !== n) {
    throw new ShapeError(
      `split: the parts must make up axis ${along} of ${formatShape(x.shape)}, ${typeof parts === "number" ? `${parts} equal ones do not` : `sizes [${parts}] do not`}`,
    );
  }
  const origin = x.shape.map(() => 0);
  let begin = 0;
  return sizes.map((size) => {
    const part = slice(x, origin.with(along, begin), x.shape.with(along, size));
    begin += size;
    return part;
  });
}

/**
 * The slices of x along an axis, by default the first, without it: x [n, ...] -> n tensors [...]; the reverse of
 * stack. Any dtype.
 *
 * @example const [mean, deviation] = unstack(parameters, -1);
 */
export function unstack(x: Tensor, axis: number | AxesOptions<number> = 0): Tensor[] {
  requireTensor("unstack", "x", x);
  const along = axisOf("unstack", axis, x.rank, 0);
  const ones = new Array<number>(x.shape[along]!).fill(1);
  return scope(() => split(x, ones, along).map((part) => squeeze(part, along)));
}
