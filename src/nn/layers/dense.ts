// Fully connected layer: y = activation(x kernel + bias), x [N, in], kernel [in, units], bias [units].
import { matmul } from "../../autograd/ops/matmul.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { formatShape } from "../../tensor/shape.js";
import { type ActivationName, activate, activationRule, splitActivation } from "../activations.js";
import { kernelSettings, kernelWritten } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, commonConfig, defineLayerClass, type LayerOptions, layerRules, weight } from "../layer.js";

/** Options of layers with a kernel; Keras's defaults. */
export interface KernelOptions extends LayerOptions {
  /** Default "linear". */
  readonly activation?: ActivationName;
  /** Default true. */
  readonly useBias?: boolean;
  /** Default "glorotUniform". */
  readonly kernelInitializer?: InitializerOption;
  /** Default "zeros". */
  readonly biasInitializer?: InitializerOption;
  /** Adds kernelL2 * sum(kernel^2) to the training loss; default 0. */
  readonly kernelL2?: number;
}

/** Rules of the options of layers with a kernel. */
export const kernelRules: Rules<KernelOptions> = {
  ...layerRules,
  activation: activationRule,
  useBias: boolean,
  kernelInitializer: initializerRule,
  biasInitializer: initializerRule,
  kernelL2: number({ from: 0 }),
};

/** Completes the options of a layer with a kernel. */
export function kernelConfig(options: KernelOptions) {
  const { activation = "linear", useBias = true, kernelL2 = 0 } = options;
  return {
    activation,
    useBias,
    kernelInitializer: initializerOf(options.kernelInitializer ?? "glorotUniform"),
    biasInitializer: initializerOf(options.biasInitializer ?? "zeros"),
    kernelL2,
    ...commonConfig(options),
  };
}

export interface DenseOptions extends KernelOptions {
  /** Size of the output. */
  readonly units: number;
}

const rules: Rules<DenseOptions> = { ...kernelRules, units: integer({ from: 1 }) };

export const Dense = defineLayerClass({
  className: "Dense",
  make(given: DenseOptions) {
    const options = checkOptions("Dense", given, rules, ["units"]);
    const { units } = options;
    const config = kernelConfig(options);
    const { fused, after } = splitActivation(config.activation);
    return {
      config: { units, ...config },
      activation: config.activation,
      outputShape(shape) {
        if (shape.length !== 1) {
          throw new ShapeError(`needs inputs of one axis, got ${formatShape(shape)}; put nn.flatten() before it`);
        }
        return [units];
      },
      weights: ([size]) => [
        weight({ name: "kernel", shape: [size!, units], initializer: config.kernelInitializer, l2: config.kernelL2 }),
        ...(config.useBias ? [weight({ name: "bias", shape: [units], initializer: config.biasInitializer })] : []),
      ],
      multiplyAdds: (_, [size]) => size! * units,
      call(x, { kernel, bias }, { omitActivation }) {
        const y = matmul(x, kernel!, { ...(bias && { bias }), activation: omitActivation ? "linear" : fused });
        return omitActivation ? y : activate(y, after);
      },
    };
  },
  keras: { settings: { units: "units", ...kernelSettings }, written: kernelWritten },
});

/** Fully connected layer on [N, in]. */
export const dense = (options: DenseOptions): CallableLayer => Dense.make(options);
