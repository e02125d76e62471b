// Layers without weights: dropout, activation, flatten, reshape.
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { maxPool2d } from "../../autograd/ops/pool2d.js";
import { reshape as reshapeOp } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, checkOptions, integer, listOf, number, object, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type ActivationName, activate, activationRule, splitActivation } from "../activations.js";
import { type CallableLayer, defineLayer, type LayerOptions, layerRules } from "../layer.js";
import { commonConfig } from "./dense.js";
import { windowsOf } from "./window.js";

export interface DropoutOptions extends LayerOptions {
  /** Share of elements set to 0 while training, in [0, 1); the others grow by 1 / (1 - rate). */
  readonly rate: number;
}

const dropoutRules: Rules<DropoutOptions> = { ...layerRules, rate: number({ from: 0, below: 1 }) };

/** Drops elements while training; `dropout(0.5)` is short for `dropout({ rate: 0.5 })`. */
export function dropout(given: number | DropoutOptions): CallableLayer {
  const named = (object.accepts(given) ? given : { rate: given }) as DropoutOptions;
  const options = checkOptions("Dropout", named, dropoutRules, ["rate"]);
  const { rate } = options;
  return defineLayer({
    className: "Dropout",
    config: { rate, ...commonConfig(options) },
    gives: rate === 0 ? "elements" : "survivors",
    outputShape: (shape) => shape,
    call: (x, _, { training, key }) => (training && rate > 0 ? dropoutOp(x, { rate, key }) : x),
  });
}

/** An activation as a layer of its own. */
export function activation(name: ActivationName, options: LayerOptions = {}): CallableLayer {
  check("Activation", "activation", name, activationRule);
  return defineLayer({
    className: "Activation",
    config: { activation: name, ...commonConfig(checkOptions("Activation", options, layerRules)) },
    activation: name,
    gives: "elements",
    outputShape: (shape) => shape,
    call: (x, _, { omitActivation }) => (omitActivation ? x : activate(x, name)),
    fuse(next) {
      // The pooling commutes with the fused activations, which increase, and leaves them less to do.
      const { fused, after } = splitActivation(name);
      if (next.className !== "MaxPooling2D" || after !== "linear") return undefined;
      const pool = windowsOf(next.config);
      return (x) => maxPool2d(x, { ...pool, activation: fused });
    },
  });
}

/** [N, ...] to [N, product of the rest]. */
export function flatten(options: LayerOptions = {}): CallableLayer {
  return defineLayer({
    className: "Flatten",
    config: commonConfig(checkOptions("Flatten", options, layerRules)),
    gives: "elements",
    outputShape: (shape) => [sizeOf(shape)],
    call: (x) => reshapeOp(x, [x.shape[0]!, sizeOf(x.shape.slice(1))]),
  });
}

/** [N, ...] to [N, ...targetShape] of the same size. One of its sizes may be -1: it is what remains. */
export function reshape(targetShape: Shape, options: LayerOptions = {}): CallableLayer {
  check("Reshape", "targetShape", targetShape, listOf(integer({ from: -1 })));
  const known = sizeOf(targetShape.filter((size) => size !== -1));
  const resolved = (shape: Shape): Shape =>
    targetShape.map((size) => (size === -1 && known > 0 ? sizeOf(shape) / known : size));
  if (targetShape.filter((size) => size === -1).length > 1) {
    throw new UsageError(`Reshape: at most one size of the target shape may be -1, got ${formatShape(targetShape)}`);
  }
  return defineLayer({
    className: "Reshape",
    config: { targetShape, ...commonConfig(checkOptions("Reshape", options, layerRules)) },
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
  });
}
