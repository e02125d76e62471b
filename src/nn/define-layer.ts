// Layers of a user's own.
import { UsageError } from "../tensor/errors.js";
import { defineLayer as define, type LayerClass, type LayerDefinition, type LayerOptions } from "./layer.js";

/** Names of the library's own classes, those of layers/registry.ts, which most programs need not load. */
export const reservedNames: ReadonlySet<string> = new Set(
  (
    "Dense Conv2D Conv1D DepthwiseConv2D SeparableConv2D Conv2DTranspose Embedding MaxPooling1D MaxPooling2D " +
    "AveragePooling1D AveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D GlobalAveragePooling1D " +
    "GlobalAveragePooling2D ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D Resizing " +
    "BatchNormalization LayerNormalization GroupNormalization Normalization Rescaling Add Subtract Multiply Average " +
    "Maximum Minimum Concatenate Dot MultiHeadAttention Dropout SpatialDropout1D SpatialDropout2D GaussianNoise " +
    "GaussianDropout Flatten Reshape Permute RepeatVector Activation ReLU LeakyReLU PReLU ELU Softmax"
  ).split(" "),
);

/**
 * Defines a kind of layer: what it computes, its shape rule, weights, and how it is stored. What comes back makes
 * layers of options; stored models find it by its name, once this has run. A later definition of a name replaces the
 * one before. The library's own layers are made by this, too.
 * @throws UsageError for the name of a layer of the library, and what is no definition
 * @example
 * const scaling = nn.defineLayer({
 *   className: "Scaling",
 *   options: { start: { expected: "a number", accepts: Number.isFinite } },
 *   make: ({ start = 1 }) => ({
 *     weights: (shape) => [{ name: "scale", shape: shape.slice(-1), initializer: nn.constant(start) }],
 *     call: (x, { scale }) => mul(x, scale),
 *   }),
 * });
 * const model = nn.sequential({ device, inputShape: [4] }, [scaling({ start: 2 }), nn.dense({ units: 2 })]);
 */
export function defineLayer<Options extends LayerOptions = LayerOptions>(
  definition: LayerDefinition<Options>,
): LayerClass<Options> {
  const className = (definition as Partial<LayerDefinition<Options>> | undefined)?.className;
  if (className !== undefined && reservedNames.has(className)) {
    throw new UsageError(`defineLayer: className must be one that Kilograd has no layer of, got "${className}"`);
  }
  return define(definition);
}
