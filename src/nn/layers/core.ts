// Layers without weights: dropout, activation, flatten, reshape.
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { maxPool2d } from "../../autograd/ops/pool2d.js";
import { reshape as reshapeOp } from "../../autograd/ops/transform.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, checkOptions, integer, listOf, number, object, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type ActivationName, activate, activationRule, splitActivation } from "../activations.js";
import { activationSetting } from "../formats/keras-words.js";
import { type CallableLayer, commonConfig, defineLayerClass, type LayerOptions, layerRules } from "../layer.js";
import { windowsOf } from "./window.js";

export interface DropoutOptions extends LayerOptions {
  /** Share of elements set to 0 while training, in [0, 1); the others grow by 1 / (1 - rate). */
  readonly rate: number;
}

const dropoutRules: Rules<DropoutOptions> = { ...layerRules, rate: number({ from: 0, below: 1 }) };

export const Dropout = defineLayerClass({
  className: "Dropout",
  make(given: DropoutOptions) {
    const options = checkOptions("Dropout", given, dropoutRules, ["rate"]);
    const { rate } = options;
    return {
      config: { rate, ...commonConfig(options) },
      gives: rate === 0 ? "elements" : "survivors",
      outputShape: (shape) => shape,
      call: (x, _, { training, key }) => (training && rate > 0 ? dropoutOp(x, { rate, key }) : x),
    };
  },
  keras: { settings: { rate: "rate" } },
});

/** Drops elements while training; `dropout(0.5)` is short for `dropout({ rate: 0.5 })`. */
export function dropout(options: number | DropoutOptions): CallableLayer {
  return Dropout.make((object.accepts(options) ? options : { rate: options }) as DropoutOptions);
}

interface ActivationOptions extends LayerOptions {
  readonly activation: ActivationName;
}

export const Activation = defineLayerClass({
  className: "Activation",
  make({ activation: name, ...options }: ActivationOptions) {
    check("Activation", "activation", name, activationRule);
    return {
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
    };
  },
  keras: { settings: { activation: activationSetting } },
});

/** An activation as a layer of its own. */
export function activation(name: ActivationName, options: LayerOptions = {}): CallableLayer {
  check("Activation", "options", options, object);
  return Activation.make({ ...options, activation: name });
}

export const Flatten = defineLayerClass({
  className: "Flatten",
  make: (options: LayerOptions) => ({
    config: commonConfig(checkOptions("Flatten", options, layerRules)),
    gives: "elements",
    outputShape: (shape) => [sizeOf(shape)],
    call: (x) => reshapeOp(x, [x.shape[0]!, sizeOf(x.shape.slice(1))]),
  }),
  keras: { fixed: { data_format: "channels_last" } },
});

/** [N, ...] to [N, product of the rest]. */
export const flatten = (options: LayerOptions = {}): CallableLayer => Flatten.make(options);

interface ReshapeOptions extends LayerOptions {
  readonly targetShape: Shape;
}

export const Reshape = defineLayerClass({
  className: "Reshape",
  make({ targetShape, ...options }: ReshapeOptions) {
    check("Reshape", "targetShape", targetShape, listOf(integer({ from: -1 })));
    const known = sizeOf(targetShape.filter((size) => size !== -1));
    const resolved = (shape: Shape): Shape =>
      targetShape.map((size) => (size === -1 && known > 0 ? sizeOf(shape) / known : size));
    if (targetShape.filter((size) => size === -1).length > 1) {
      throw new UsageError(`Reshape: at most one size of the target shape may be -1, got ${formatShape(targetShape)}`);
    }
    return {
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
    };
  },
  keras: { settings: { targetShape: "target_shape" } },
});

/** [N, ...] to [N, ...targetShape] of the same size. One of its sizes may be -1: it is what remains. */
export function reshape(targetShape: Shape, options: LayerOptions = {}): CallableLayer {
  check("Reshape", "options", options, object);
  return Reshape.make({ ...options, targetShape });
}
