// Picking rows by index, and one-hot encoding.
import { gatherGradientKernel, gatherKernel, oneHotKernel } from "../../kernels/gather.js";
import { type AxesOptions, axisOf } from "../../tensor/axes.js";
import { ShapeError } from "../../tensor/errors.js";
import { check, integer } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { zeros } from "./create.js";
import { greaterEqual, less, mul, where } from "./elementwise.js";
import { reshape } from "./transform.js";

/**
 * Slices of x along `axis` by index: x [..., n, ...] and indices [k...] give [..., k..., ...]. An index outside [0, n),
 * negative ones among them, gives a slice of NaN (of i32 -2^31, of u32 2^32 - 1) and passes no gradient on. The
 * gradient adds up in the order of the indices.
 * @param indices i32, any shape
 */
export function gather(x: Tensor, indices: Tensor, axis: number | AxesOptions<number> = 0): Tensor {
  requireTensor("gather", "x", x);
  requireTensor("gather", "indices", indices);
  const along = axisOf("gather", axis, x.rank, 0);
  if (indices.dtype !== "i32") {
    throw new ShapeError(`gather: indices must be i32, got ${indices.dtype}; use cast(indices, "i32")`);
  }
  if (x.shape[along] === 0 && indices.size > 0) {
    throw new ShapeError(
      `gather: axis ${along} of ${formatShape(x.shape)} has nothing to pick ${indices.size} slices from`,
    );
  }
  const before = x.shape;
  const spec = { shape: before.toSpliced(along, 1, ...indices.shape), dtype: x.dtype };
  return record(run(gatherKernel, [x, indices], spec, { axis: along }), {
    op: "gather",
    inputs: [x, indices],
    saved: [indices],
    backward: (dy, [picked]) => [() => addedRows(dy, picked!, before, along), null],
    derivable: true,
  });
}

/** Adds slices along `axis` where their indices say, to a tensor of `shape`: what gather does, backwards. */
export function addedRows(slices: Tensor, indices: Tensor, shape: Shape, axis: number): Tensor {
  return record(run(gatherGradientKernel, [slices, indices], { shape, dtype: "f32" }, { axis }), {
    op: "gather",
    inputs: [slices, indices],
    saved: [indices],
    backward: (dy, [picked]) => [() => pickedOrZero(dy, picked!, axis), null],
    derivable: true,
  });
}

/** Slices by index; zeros where there is none. */
function pickedOrZero(x: Tensor, indices: Tensor, axis: number): Tensor {
  const valid = mul(greaterEqual(indices, 0), less(indices, x.shape[axis]!));
  const column = [...indices.shape, ...x.shape.slice(axis + 1).map(() => 1)];
  return where(reshape(valid, column), gather(x, indices, axis), zeros(x.device, []));
}

/**
 * Rows with a 1 at the index and 0 elsewhere: indices [k...] give f32 [k..., depth]. An index outside [0, depth) gives
 * a row of NaN.
 * @param indices i32 or u32
 */
export function oneHot(indices: Tensor, depth: number): Tensor {
  requireTensor("oneHot", "indices", indices);
  check("oneHot", "depth", depth, integer({ from: 1 }));
  if (indices.dtype === "f32") {
    throw new ShapeError(`oneHot: needs i32 or u32 indices, got ${indices.dtype}; use cast(indices, "i32")`);
  }
  return run(oneHotKernel, [indices], { shape: [...indices.shape, depth], dtype: "f32" }, {});
}
