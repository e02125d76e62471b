// Layers without weights: dropout, activation, flatten, reshape, permute, repeat.
import { ones } from "../../autograd/ops/create.js";
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { mul } from "../../autograd/ops/elementwise.js";
import { maxPool2d } from "../../autograd/ops/pool2d.js";
import { reshape as reshapeOp, transpose } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, integer, listOf, number, object } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type ActivationName, activate, activationRule, splitActivation } from "../activations.js";
import { activationSetting } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { shortFor, windowsOf } from "./window.js";

export interface DropoutOptions extends LayerOptions {
  /** Share of elements set to 0 while training, in [0, 1); the others grow by 1 / (1 - rate). */
  readonly rate: number;
  /**
   * Shape of the mask, that of the batch included: null is a size of the input, 1 drops along the axis together. [null,
   * 1, 1, 1] drops whole images. Default: every element by itself.
   */
  readonly noiseShape?: readonly (number | null)[];
}

/** The mask's shape for inputs x. @throws ShapeError unless x is it, or stretches it */
function maskShape(noiseShape: readonly (number | null)[], x: Shape): Shape {
  const shape = noiseShape.map((size, axis) => size ?? x[axis] ?? 1);
  const fits = shape.length === x.length && shape.every((size, axis) => size === 1 || size === x[axis]);
  if (fits) return shape;
  throw new ShapeError(
    `Dropout: noiseShape must have as many axes as the inputs, each null, 1 or their size, got [${noiseShape.map(String).join(", ")}] for ${formatShape(x)}`,
  );
}

export const Dropout = defineLayer<DropoutOptions>({
  className: "Dropout",
  options: {
    rate: number({ from: 0, below: 1 }),
    noiseShape: {
      expected: "a list of whole numbers from 1 and nulls",
      accepts: (value) =>
        Array.isArray(value) && value.every((size) => size === null || (Number.isSafeInteger(size) && size >= 1)),
    },
  },
  required: ["rate"],
  make: ({ rate, noiseShape }) => ({
    // Only where it is given: earlier versions read the rest.
    config: { rate, ...(noiseShape && { noiseShape }) },
    gives: rate === 0 ? "elements" : "survivors",
    call(x, _, { training, key }) {
      if (!training || rate === 0) return x;
      if (noiseShape === undefined) return dropoutOp(x, { rate, key });
      return mul(x, dropoutOp(ones(x.device, maskShape(noiseShape, x.shape)), { rate, key }));
    },
  }),
  keras: {
    settings: {
      rate: "rate",
      noiseShape: { name: "noise_shape", to: (value) => value ?? null, from: (value) => value ?? undefined },
    },
  },
});

/** Drops elements while training; `dropout(0.5)` is short for `dropout({ rate: 0.5 })`. */
export const dropout = (options: number | DropoutOptions): CallableLayer => Dropout(shortFor("rate", options));

interface ActivationOptions extends LayerOptions {
  readonly activation: ActivationName;
}

export const Activation = defineLayer<ActivationOptions>({
  className: "Activation",
  options: { activation: activationRule },
  required: ["activation"],
  make({ activation: name }) {
    return {
      config: { activation: name },
      activation: name,
      gives: "elements",
      call: (x, _, { omitActivation }) => (omitActivation ? x : activate(x, name)),
      fuse(next) {
        // The pooling commutes with the fused activations, which increase, and leaves them less to do.
        const { fused, after } = splitActivation(name);
        if (next.className !== "MaxPooling2D" || after !== "linear") return undefined;
        const pool = windowsOf(next.config);
        return { call: (x) => maxPool2d(x, { ...pool, activation: fused }) };
      },
    };
  },
  keras: { settings: { activation: activationSetting } },
});

/** An activation as a layer of its own. */
export function activation(name: ActivationName, options: LayerOptions = {}): CallableLayer {
  check("Activation", "options", options, object);
  return Activation({ ...options, activation: name });
}

export const Flatten = defineLayer({
  className: "Flatten",
  make: () => ({
    gives: "elements",
    outputShape: (shape) => [sizeOf(shape)],
    call: (x) => reshapeOp(x, [x.shape[0]!, sizeOf(x.shape.slice(1))]),
  }),
  keras: { fixed: { data_format: "channels_last" } },
});

/** [N, ...] to [N, product of the rest]. */
export const flatten = (options: LayerOptions = {}): CallableLayer => Flatten(options);

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
