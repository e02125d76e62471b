// Layers without weights that nearly every network has: activation and flatten.
import { maxPool2d } from "../../autograd/ops/pool2d.js";
import { reshape as reshapeOp } from "../../autograd/ops/transform.js";
import { check, object } from "../../tensor/options.js";
import { sizeOf } from "../../tensor/shape.js";
import { type ActivationName, activate, activationRule, splitActivation } from "../activations.js";
import { activationSetting } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { windowsOf } from "./window.js";

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
