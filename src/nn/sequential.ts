// Chains as models: layers one after the other, and models one after the other.
import { type Device, deviceRule } from "../tensor/device.js";
import { array, check, checkOptions, integer, type Rules, text } from "../tensor/options.js";
import type { Shape } from "../tensor/shape.js";
import { GraphModel } from "./graph-model.js";
import { BoundLayer } from "./model.js";

export interface SequentialOptions {
  readonly name: string;
  readonly inputShape: Shape;
  readonly device: Device;
  readonly seed: number;
}

const sequentialRules: Rules<SequentialOptions> = {
  name: text,
  inputShape: array,
  device: deviceRule,
  seed: integer(),
};

const areBound = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((layer) => layer instanceof BoundLayer);

/**
 * A model of layers one after the other. Made by `sequential`; its constructor takes layers that have their weights.
 */
export class Sequential extends GraphModel {
  constructor(options: SequentialOptions, layers: readonly BoundLayer[]) {
    checkOptions("Sequential", options, sequentialRules, ["name", "inputShape", "device", "seed"]);
    check("Sequential", "layers", layers, { expected: "an array of BoundLayer", accepts: areBound });
    const { inputShape, ...rest } = options;
    const calls = layers.map(({ placed }, i) => ({
      ...{ layer: i, inputs: [i], repeat: 0 },
      ...{ inputShapes: [placed.inputShape], shape: placed.outputShape },
    }));
    super(rest, { inputs: [{ name: "input", shape: inputShape }], calls, outputs: [layers.length] }, layers);
  }
}
