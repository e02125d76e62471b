// Fully connected layer: y = activation(x kernel + bias), x [N, ..., in], kernel [in, units], bias [units].
import { matmul } from "../../autograd/ops/matmul.js";
import { reshape } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, integer, number, type Rules } from "../../tensor/options.js";
import { type Shape, sizeOf } from "../../tensor/shape.js";
import { type ActivationName, activationRule } from "../activations.js";
import { kernelSettings, kernelWritten } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, defineLayer, type LayerOptions, type WeightOptions } from "../layer.js";
import { type Affine, affineParts } from "./affine.js";

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
export const kernelRules: Rules<Omit<KernelOptions, keyof LayerOptions>> = {
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
  };
}

/** A kernel of this shape, and a bias along its last axis where there is one. */
export function kernelWeights(config: ReturnType<typeof kernelConfig>, shape: Shape): WeightOptions[] {
  const { useBias, kernelInitializer, biasInitializer, kernelL2 } = config;
  return [
    { name: "kernel", shape, initializer: kernelInitializer, l2: kernelL2 },
    ...(useBias ? [{ name: "bias", shape: shape.slice(-1), initializer: biasInitializer }] : []),
  ];
}

export interface DenseOptions extends KernelOptions {
  /** Size of the output. */
  readonly units: number;
}

export const Dense = defineLayer<DenseOptions>({
  className: "Dense",
  options: { ...kernelRules, units: integer({ from: 1 }) },
  required: ["units"],
  make(options) {
    const { units } = options;
    const config = kernelConfig(options);
    const product: Affine["call"] = (x, { kernel, bias }, activation) => {
      // All axes but the last are one: a row of the product each.
      const rows = x.rank === 2 ? x : reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]);
      const y = matmul(rows, kernel!, { ...(bias && { bias }), activation });
      return x.rank === 2 ? y : reshape(y, x.shape.with(-1, units));
    };
    return {
      config: { units, ...config },
      outputShape(shape) {
        if (shape.length === 0) throw new ShapeError("needs inputs of one axis or more, got []");
        return [...shape.slice(0, -1), units];
      },
      weights: (shape) => kernelWeights(config, [shape.at(-1)!, units]),
      multiplyAdds: (output, input) => sizeOf(output) * input.at(-1)!,
      ...affineParts({ call: product }, config.activation),
    };
  },
  keras: { settings: { units: "units", ...kernelSettings }, written: kernelWritten },
});

/** Fully connected layer along the last axis: [N, ..., in] to [N, ..., units]. */
export const dense = (options: DenseOptions): CallableLayer => Dense(options);
