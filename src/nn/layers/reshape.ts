// Layers that order elements anew: reshape, permute, repeat.
import { ones } from "../../autograd/ops/create.js";
import { mul } from "../../autograd/ops/elementwise.js";
import { reshape as reshapeOp, transpose } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, integer, listOf, object } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

interface ReshapeOptions extends LayerOptions {
  readonly targetShape: Shape;
}

export const Reshape = defineLayer<ReshapeOptions>({
  className: "Reshape",
  options: { targetShape: listOf(integer({ from: -1 })) },
  required: ["targetShape"],
  make({ targetShape }) {
    const known = sizeOf(targetShape.filter((size) => size !== -1));
    const resolved = (shape: Shape): Shape =>
      targetShape.map((size) => (size === -1 && known > 0 ? sizeOf(shape) / known : size));
    if (targetShape.filter((size) => size === -1).length > 1) {
      throw new UsageError(`Reshape: at most one size of the target shape may be -1, got ${formatShape(targetShape)}`);
    }
    return {
      config: { targetShape },
      gives: "elements",
      outputShape(shape) {
        const target = resolved(shape);
        if (sizeOf(shape) !== sizeOf(target) || !target.every(Number.isSafeInteger)) {
          throw new ShapeError(
            `a target shape must keep the size, got ${formatShape(targetShape)} (${known}) for ${formatShape(shape)} (${sizeOf(shape)})`,
          );
        }
        return target;
      },
      call: (x) => reshapeOp(x, [x.shape[0]!, ...resolved(x.shape.slice(1))]),
    };
  },
  keras: { settings: { targetShape: "target_shape" } },
});

/** [N, ...] to [N, ...targetShape] of the same size. One of its sizes may be -1: it is what remains. */
export function reshape(targetShape: Shape, options: LayerOptions = {}): CallableLayer {
  check("Reshape", "options", options, object);
  return Reshape({ ...options, targetShape });
}

interface PermuteOptions extends LayerOptions {
  readonly dims: readonly number[];
}

export const Permute = defineLayer<PermuteOptions>({
  className: "Permute",
  options: { dims: listOf(integer({ from: 1 }), { from: 1 }) },
  required: ["dims"],
  make({ dims }) {
    if ([...dims].sort((a, b) => a - b).some((axis, i) => axis !== i + 1)) {
      throw new UsageError(`Permute: dims must be the numbers 1 to ${dims.length} in any order, got [${dims}]`);
    }
    return {
      config: { dims },
      gives: "summaries",
      outputShape(shape) {
        if (shape.length === dims.length) return dims.map((axis) => shape[axis - 1]!);
        throw new ShapeError(`needs inputs of ${dims.length} axes, got ${formatShape(shape)}`);
      },
      call: (x) => transpose(x, [0, ...dims]),
    };
  },
  keras: { settings: { dims: "dims" } },
});

/** Axis k of the result is axis dims[k - 1] of [N, ...], counted from 1 behind the batch: `permute([2, 1])`. */
export function permute(dims: readonly number[], options: LayerOptions = {}): CallableLayer {
  check("Permute", "options", options, object);
  return Permute({ ...options, dims });
}

interface RepeatVectorOptions extends LayerOptions {
  readonly n: number;
}

export const RepeatVector = defineLayer<RepeatVectorOptions>({
  className: "RepeatVector",
  options: { n: integer({ from: 1 }) },
  required: ["n"],
  make: ({ n }) => ({
    config: { n },
    gives: "summaries",
    outputShape(shape) {
      if (shape.length === 1) return [n, shape[0]!];
      throw new ShapeError(`needs inputs of one axis, got ${formatShape(shape)}`);
    },
    call: (x) => mul(reshapeOp(x, [x.shape[0]!, 1, x.shape[1]!]), ones(x.device, [n, 1])),
  }),
  keras: { settings: { n: "n" } },
});

/** [N, C] to [N, n, C], n times the same. */
export function repeatVector(n: number, options: LayerOptions = {}): CallableLayer {
  check("RepeatVector", "options", options, object);
  return RepeatVector({ ...options, n });
}
